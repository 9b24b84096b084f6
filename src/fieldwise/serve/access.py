"""Who may ask: a key when one is set; without a key only this machine, under its own name, from its own pages."""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Mapping
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from fieldwise.errors import FieldwiseError
from fieldwise.serve.problems import RequestError
from fieldwise.serve.settings import ServeSettings

# what a browser needs before it can ask for the key, and what a supervisor must see without one
OPEN_PATHS = frozenset({"/", "/compare", "/docs", "/health", "/ready", "/favicon.ico"})
OPEN_PREFIX = "/ui/"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Access(NamedTuple):
    """The rule of one service; `key` None means that only this machine may ask."""

    key: str | None
    key_env: str

    @classmethod
    def from_settings(cls, settings: ServeSettings) -> Self:
        """Read the key from its environment variable. Raises FieldwiseError when others could reach the service without one."""
        key = os.environ.get(settings.api_key_env, "").strip() or None
        if key is None and not is_loopback(settings.host):
            raise FieldwiseError(
                "listening beyond this machine needs a key",
                where="serve.host",
                found=f"{settings.host} and no {settings.api_key_env}",
                fix=f"Set {settings.api_key_env} to a long random text, or listen on 127.0.0.1.",
            )
        return cls(key, settings.api_key_env)

    def check(self, method: str, path: str, headers: Mapping[str, str], client_host: str | None) -> None:
        """Raise RequestError for a request that may not come in."""
        if self.key is None:
            _check_own_machine(method, headers)
        elif path not in OPEN_PATHS and not path.startswith(OPEN_PREFIX):
            _check_key(self.key, headers.get("authorization", ""))
        if path == "/api/v1/shutdown" and self.key is None and not is_loopback(client_host or ""):
            raise RequestError(
                403,
                "not_allowed",
                "only this machine may stop the service",
                found="another machine",
                fix=f"Set {self.key_env} and send the key.",
            )


def is_loopback(host: str) -> bool:
    """Tell whether an address or name stands for this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_key(key: str, header: str) -> None:
    scheme, _, sent = header.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        sent.strip().encode("utf-8", "replace"), key.encode("utf-8", "replace")
    ):
        raise RequestError(
            401,
            "invalid_api_key",
            "a valid key is needed",
            where="Authorization",
            found="no key" if not header else "another key",
            fix="Send the header Authorization: Bearer KEY.",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _check_own_machine(method: str, headers: Mapping[str, str]) -> None:
    """Keep out pages of other sites: by the name they rebind to this machine, and by the origin they post from."""
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name):
        raise RequestError(
            403,
            "host_not_allowed",
            "this name does not stand for this machine",
            where="Host",
            found=repr(host[:80]),
            fix="Use http://127.0.0.1 or http://localhost, or set a key.",
        )
    origin = headers.get("origin")
    if method not in _SAFE_METHODS and origin is not None and urlsplit(origin).netloc != host:
        raise RequestError(
            403,
            "origin_not_allowed",
            "requests from pages of other sites are refused",
            where="Origin",
            found=repr(origin[:80]),
            fix="Open the page of this service itself, or set a key.",
        )
