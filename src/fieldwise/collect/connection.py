"""One HTTP request over a connection whose address was judged before, with a limit on the whole exchange.

The host is resolved once and the connection is made to that very address, so that a name which changes its address
in between leads nowhere else; the certificate is still checked for the host's name. No cookies, no proxies, no
redirects, no connection kept.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import httpcore
import httpx

from fieldwise import __version__
from fieldwise.collect.addresses import Lookup, checked_addresses, system_lookup
from fieldwise.collect.settings import WebSettings
from fieldwise.errors import DocumentError

USER_AGENT = f"fieldwise/{__version__}"
_ACCEPT = "text/html,application/xhtml+xml,application/pdf,text/plain,*/*;q=0.8"


@dataclass(frozen=True)
class Clock:
    """What time it is, and waiting; tests bring their own."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class Head(NamedTuple):
    """The beginning of an answer: header names in lower case."""

    status: int
    headers: dict[str, str]
    blocks: Iterator[bytes]


class CutOffError(Exception):
    """The connection ended before the answer did."""


class Connector:
    """Sends requests."""

    def __init__(self, settings: WebSettings, lookup: Lookup = system_lookup, clock: Clock | None = None) -> None:
        self._settings, self._lookup, self._clock = settings, lookup, clock or Clock()
        self._tls: ssl.SSLContext | None = None

    @contextmanager
    def get(self, url: httpx.URL, headers: dict[str, str], deadline: float) -> Iterator[Head]:
        """Yield the answer to a GET request.

        Raises CutOffError, and DocumentError: `private_address`, `unreachable`, `certificate`, `timeout`, `broken`.
        Messages name the host and never the address as a whole, which may hold a key.
        """
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = checked_addresses(url.host, port, self._settings.allow_private, self._lookup)
        backend = _PinnedBackend(addresses, deadline, self._clock)
        seconds = self._settings.read_timeout_seconds
        sent = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": USER_AGENT,
            "Accept": _ACCEPT,
            "Accept-Encoding": "gzip",
            "Connection": "close",
        } | headers
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        limits = {"connect": seconds, "read": seconds, "write": seconds, "pool": seconds}
        try:
            with (
                httpcore.ConnectionPool(
                    ssl_context=self._context(), network_backend=backend, max_keepalive_connections=0
                ) as pool,
                pool.stream(
                    "GET",
                    target,
                    headers=[*sent.items()],
                    extensions={"timeout": limits},
                ) as response,
            ):
                named = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
                yield Head(response.status, named, response.iter_stream())
        except httpcore.TimeoutException as error:
            raise too_slow(url.host) from error
        except httpcore.ConnectError as error:
            raise _not_connected(url.host, error) from error
        except (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError) as error:
            raise CutOffError(_words(error)) from error
        except httpcore.LocalProtocolError as error:
            raise DocumentError(
                "the address cannot be asked for", reason="bad_url", found=url.host, fix="Check its spelling."
            ) from error

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context(trust_env=False)
            if self._settings.ca_file is not None:
                try:
                    self._tls.load_verify_locations(cafile=self._settings.ca_file)
                except OSError as error:
                    raise DocumentError(
                        "the certificates to trust cannot be read",
                        reason="certificate",
                        where="collect.web.ca_file",
                        found=self._settings.ca_file,
                        fix="Name a file with certificates in PEM.",
                    ) from error
        return self._tls


def too_slow(host: str) -> DocumentError:
    """Return the error for a server that is silent or drips."""
    return DocumentError(
        "the server is too slow",
        reason="timeout",
        found=host,
        fix="Run again, or raise collect.web.timeout_seconds and collect.web.read_timeout_seconds.",
    )


def _not_connected(host: str, error: Exception) -> DocumentError:
    if "certificate" in str(error).lower():
        return DocumentError(
            "the server's certificate is not valid for its name",
            reason="certificate",
            found=f"{host}: {_words(error)}",
            fix="Name the certificates of a server of your own with collect.web.ca_file.",
        )
    return DocumentError(
        "the server cannot be reached",
        reason="unreachable",
        found=f"{host}: {_words(error)}",
        fix="Check the address and the connection, and run again.",
    )


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


# ---------------------------------------------------------------- the connection


class _PinnedBackend(httpcore.NetworkBackend):
    """Connects to the judged addresses, whatever host is named; nothing takes longer than the deadline."""

    def __init__(self, addresses: tuple[str, ...], deadline: float, clock: Clock) -> None:
        self._addresses, self._deadline, self._clock = addresses, deadline, clock
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._addresses:
            try:
                left = _left(timeout, self._deadline, self._clock)
                stream = self._inner.connect_tcp(address, port, left, local_address, socket_options)
                return _TimedStream(stream, self._deadline, self._clock)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _TimedStream(httpcore.NetworkStream):
    """A connection on which each read may take what is left of the whole time: a drip of bytes is no way around it."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float, clock: Clock) -> None:
        self._inner, self._deadline, self._clock = inner, deadline, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, self._deadline, self._clock))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout, self._deadline, self._clock))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, self._deadline, self._clock)
        return _TimedStream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline, self._clock)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


def _left(timeout: float | None, deadline: float, clock: Clock) -> float:
    left = deadline - clock.now()
    if left <= 0:
        raise httpcore.ReadTimeout("the time for the whole exchange is over")
    return min(left, timeout) if timeout is not None else left
