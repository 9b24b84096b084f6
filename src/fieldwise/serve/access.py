"""Who may ask: a key when there are any; without one only this machine, under its own name, from its own pages.

What they may see and do stands with the key (see `keys`). The one key of an environment variable, and this machine
where there is no key, are the owner's.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from fieldwise.errors import FieldwiseError
from fieldwise.serve.keys import OWNER, STRANGER, Caller, KeyRing, owner_with
from fieldwise.serve.problems import RequestError
from fieldwise.serve.settings import ServeSettings

# what a browser needs before it can ask for the key, and what a supervisor must see without one
OPEN_PATHS = frozenset({"/", "/compare", "/docs", "/health", "/ready", "/favicon.ico"})
OPEN_PREFIX = "/ui/"
# what shows documents whoever they are for, or ends the service
_ADMIN_PREFIXES = ("/api/v1/compare/", "/api/v1/shutdown")
_WRITING_PREFIX = "/api/v1/documents"  # a key that may only write gets no further
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Access(NamedTuple):
    """The rule of one service; without `key` and `ring` only this machine may ask."""

    key: str | None
    key_env: str
    ring: KeyRing | None = None
    owner: Caller = OWNER

    @classmethod
    def from_settings(cls, settings: ServeSettings) -> Self:
        """Read the keys. Raises FieldwiseError when others could reach the service without one."""
        key = os.environ.get(settings.api_key_env, "").strip() or None
        if settings.keys is not None and settings.store is None:
            raise FieldwiseError(
                "keys with access groups need a document store: the index of a run has no groups",
                where="serve.keys",
                found=settings.keys,
                fix="Name a store with serve.store or --store.",
            )
        ring = KeyRing(Path(settings.keys)) if settings.keys is not None else None
        if key is None and ring is None and not is_loopback(settings.host):
            raise FieldwiseError(
                "listening beyond this machine needs a key",
                where="serve.host",
                found=f"{settings.host} and no {settings.api_key_env}",
                fix=f"Set {settings.api_key_env} to a long random text, or listen on 127.0.0.1.",
            )
        return cls(key, settings.api_key_env, ring, owner_with(settings.groups))

    def check(self, method: str, path: str, headers: Mapping[str, str], client_host: str | None) -> Caller:
        """Return who asks; raises RequestError for a request that may not come in."""
        if self.key is None and self.ring is None:
            _check_own_machine(method, headers)
            caller = self.owner
            if path == "/api/v1/shutdown" and not is_loopback(client_host or ""):
                raise RequestError(
                    403,
                    "not_allowed",
                    "only this machine may stop the service",
                    found="another machine",
                    fix=f"Set {self.key_env} and send the key.",
                )
        elif path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            caller = STRANGER
        else:
            caller = self._caller_of(headers.get("authorization", ""))
        if path.startswith(_ADMIN_PREFIXES) and "admin" not in caller.rights:
            raise not_allowed("admin", caller)
        if caller is not STRANGER and "read" not in caller.rights and not path.startswith(_WRITING_PREFIX):
            raise not_allowed("read", caller)
        return caller

    def _caller_of(self, header: str) -> Caller:
        scheme, _, sent = header.partition(" ")
        if scheme.lower() == "bearer":
            sent = sent.strip()
            if self.key is not None and hmac.compare_digest(
                sent.encode("utf-8", "replace"), self.key.encode("utf-8", "replace")
            ):
                return self.owner
            known = self.ring.find(sent) if self.ring is not None and sent else None
            if known is not None:
                return known
        raise RequestError(
            401,
            "invalid_api_key",
            "a valid key is needed",
            where="Authorization",
            found="no key" if not header else "another key",
            fix="Send the header Authorization: Bearer KEY.",
            headers={"WWW-Authenticate": "Bearer"},
        )


def not_allowed(right: str, caller: Caller) -> RequestError:
    """The caller lacks a right."""
    return RequestError(
        403,
        "not_allowed",
        f"this key does not have the right {right!r}",
        found=f"key {caller.name!r} with {', '.join(sorted(caller.rights)) or 'no rights'}",
        fix="Ask whoever keeps the keys of the service.",
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
