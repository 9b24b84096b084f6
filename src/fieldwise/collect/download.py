"""Fetching one address: redirects by hand, a host's rules and pace, limits while it streams, and another try.

What fails is a DocumentError whose reason stands in rejected.jsonl. No message holds the address itself, since that
of a search holds the key.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import PurePosixPath
from typing import IO, NamedTuple, TypeVar

import httpx

from fieldwise.collect import robots
from fieldwise.collect.addresses import Lookup, system_lookup
from fieldwise.collect.connection import Clock, Connector, CutOffError, Head, too_slow
from fieldwise.collect.media import PDF
from fieldwise.collect.settings import WebSettings, is_url
from fieldwise.errors import DocumentError

T = TypeVar("T")
MAX_REDIRECTS = 5
_TRIES = 4
_BACKOFF_SECONDS = 1.0
_BLOCK_BYTES = 1 << 16
_MAGIC_BYTES = 1024
_REDIRECTS = {301, 302, 303, 307, 308}
_ASK_AGAIN = {429, 500, 502, 503, 504}
_FAILURES = {str(status) for status in _ASK_AGAIN}
_NEVER_READ = ("image/", "video/", "audio/", "font/", "text/css", "text/javascript", "application/javascript")
_LICENCE_LINK = re.compile(r"<([^<>]{1,500})>\s*;[^,<]*\brel\s*=\s*\"?[^\",;]*\blicense\b", re.IGNORECASE)


@dataclass(frozen=True)
class Wish:
    """What to fetch, and when to leave it."""

    url: str
    max_bytes: int
    pdf_only: bool = False
    is_page: bool = True
    """A page for reading: robots.txt decides, redirects are followed, pictures and the like are left."""
    known_url: str = ""
    etag: str | None = None
    last_modified: str | None = None


class Fetched(NamedTuple):
    """What came; `is_unchanged` when the server says that what is known still stands."""

    final_url: str
    content_type: str
    sha256: str
    bytes: int
    etag: str | None
    last_modified: str | None
    licence: str | None
    is_unchanged: bool = False


class _TryAgainError(Exception):
    """A failure that may pass; `wait_seconds` is what the server asks for."""

    def __init__(self, error: DocumentError, wait_seconds: float | None = None) -> None:
        self.error, self.wait_seconds = error, wait_seconds


def normal_url(url: str) -> str:
    """Return the one spelling of an address, without fragment; raises DocumentError `bad_url`.

    >>> normal_url("HTTP://Example.org:80/a b#top")
    'http://example.org/a%20b'
    """
    parsed = _parsed(url)
    return str(parsed.copy_with(fragment=None, path=parsed.path or "/"))


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url.strip())
        host = parsed.host
    except (httpx.InvalidURL, ValueError) as error:
        raise _bad_url("not a valid address") from error
    if not is_url(str(parsed)) or not host or not re.fullmatch(r"[^\s%/@\\]+", host) or (parsed.port or 1) > 65535:
        raise _bad_url("not an address that can be fetched")
    if parsed.userinfo:
        raise _bad_url("the address holds a user name or password")
    return parsed


def _bad_url(what: str) -> DocumentError:
    return DocumentError(what, reason="bad_url", fix="Write it as https://host/path, without a password.")


class Downloader:
    """Fetches addresses one after the other; remembers what each host has said of robots and pace."""

    def __init__(self, settings: WebSettings, *, lookup: Lookup = system_lookup, clock: Clock | None = None) -> None:
        self._settings, self._clock = settings, clock or Clock()
        self._connector = Connector(settings, lookup, self._clock)
        self._rules: dict[str, robots.Robots | DocumentError] = {}
        self._next_at: dict[str, float] = {}

    def fetch(self, wish: Wish, sink: IO[bytes]) -> Fetched:
        """Write what an address holds into `sink`, decompressed; returns what is known of it.

        Raises DocumentError; what may pass, such as 503 or a cut-off transfer, is tried again before.
        """
        return self._patiently(lambda: self._follow(wish, sink))

    def _patiently(self, exchange: Callable[[], T]) -> T:
        for attempt in range(1, _TRIES + 1):
            try:
                return exchange()
            except _TryAgainError as failed:
                wait = failed.wait_seconds if failed.wait_seconds is not None else _BACKOFF_SECONDS * 2 ** (attempt - 1)
                if attempt == _TRIES or wait > self._settings.max_wait_seconds:
                    raise failed.error from failed
                self._clock.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def fetch_bytes(self, wish: Wish) -> bytes:
        """Return what an address holds."""
        sink = BytesIO()
        self.fetch(wish, sink)
        return sink.getvalue()

    # ------------------------------------------------------------ hops

    def _follow(self, wish: Wish, sink: IO[bytes]) -> Fetched:
        sink.seek(0)
        sink.truncate()
        url, seen = _parsed(wish.url), set[str]()
        deadline = self._clock.now() + self._settings.timeout_seconds
        for _ in range(MAX_REDIRECTS + 1):
            if str(url) in seen:
                raise _redirected("the redirects go round in a circle", url)
            seen.add(str(url))
            began = self._clock.now()
            self._ask_host(url, wish)
            deadline += self._clock.now() - began  # waiting for politeness is not the server's time
            fetched = self._hop(url, wish, sink, deadline)
            if isinstance(fetched, Fetched):
                return fetched
            url = fetched
        raise _redirected(f"more than {MAX_REDIRECTS} redirects", url)

    def _hop(self, url: httpx.URL, wish: Wish, sink: IO[bytes], deadline: float) -> Fetched | httpx.URL:
        conditions: dict[str, str] = {}
        if wish.known_url == str(url):
            conditions |= {"If-None-Match": wish.etag} if wish.etag else {}
            conditions |= {"If-Modified-Since": wish.last_modified} if wish.last_modified else {}
        try:
            with self._connector.get(url, conditions, deadline) as head:
                if head.status in _REDIRECTS and wish.is_page and "location" in head.headers:
                    return _target(url, head.headers["location"])
                if head.status == 304 and conditions:
                    return _described(url, head, "", 0)._replace(is_unchanged=True)
                self._require_success(head)
                _require_wanted(wish, head, url)
                digest, count = self._save(wish, head, url, sink, deadline)
                return _described(url, head, digest, count)
        except CutOffError as error:
            raise _TryAgainError(_cut_off(str(error))) from error

    def _require_success(self, head: Head) -> None:
        if 200 <= head.status < 300 and head.status != 206:
            return
        wait = _retry_after(head.headers.get("retry-after"), self._clock.wall())
        fix = {
            401: "The page needs a login: save it as a file and name that.",
            403: "The server refuses: save the page as a file and name that.",
            404: "Check the address, or take it out.",
            410: "Take the address out: the page is gone.",
            429: "The server asks for fewer requests: raise collect.web.delay_seconds and run again later.",
        }.get(head.status, "Open the address in a browser; run again later.")
        error = DocumentError(
            "the server does not hand it out",
            reason=f"http_{head.status}",
            found=f"status {head.status}" + (f", to be asked again in {wait:.0f} s" if wait else ""),
            fix=fix,
        )
        if head.status in _ASK_AGAIN:
            raise _TryAgainError(error, wait)
        raise error

    def _save(self, wish: Wish, head: Head, url: httpx.URL, sink: IO[bytes], deadline: float) -> tuple[str, int]:
        """Stream the body into the sink; what is counted are the bytes after decompression."""
        claims_pdf = wish.pdf_only or _claims_pdf(head, url)
        digest, count, start = hashlib.sha256(), 0, b""
        for block in _decoded(head):
            if self._clock.now() > deadline:
                raise too_slow(url.host)
            count += len(block)
            if count > wish.max_bytes:
                raise _too_large(f"more than {wish.max_bytes / 1e6:.1f} MB")
            digest.update(block)
            sink.write(block)
            if len(start) < _MAGIC_BYTES:
                start = (start + block)[:_MAGIC_BYTES]
                if claims_pdf and len(start) == _MAGIC_BYTES:
                    _require_pdf(start, wish)
        if claims_pdf:
            _require_pdf(start, wish)
        return digest.hexdigest(), count

    # ------------------------------------------------------------ manners

    def _ask_host(self, url: httpx.URL, wish: Wish) -> None:
        """Raise for what the host's robots.txt forbids; else wait until the host may be asked."""
        delay = self._settings.delay_seconds
        if wish.is_page:
            rules = self._robots(url)
            if not rules.allows(url.raw_path.decode("ascii")):
                raise DocumentError(
                    "robots.txt of the host forbids to fetch it",
                    reason="robots",
                    found=url.host,
                    fix="Ask its owner for the files, and name these.",
                )
            delay = max(delay, rules.crawl_delay or 0)
            if delay > max(self._settings.max_wait_seconds, self._settings.delay_seconds):
                raise DocumentError(
                    "robots.txt of the host asks for long pauses",
                    reason="robots",
                    found=f"{delay:g} s at {url.host}",
                    fix="Raise collect.web.max_wait_seconds to wait as long.",
                )
        self._wait_for(url, delay)

    def _wait_for(self, url: httpx.URL, delay: float) -> None:
        host = url.netloc.decode("ascii")
        left = self._next_at.get(host, 0.0) - self._clock.now()
        if left > 0:
            self._clock.sleep(left)
        self._next_at[host] = self._clock.now() + delay

    def _robots(self, url: httpx.URL) -> robots.Robots:
        host = f"{url.scheme}://{url.netloc.decode('ascii')}"
        if host not in self._rules:
            try:
                self._rules[host] = self._fetch_robots(host)
            except DocumentError as error:
                self._rules[host] = error
        rules = self._rules[host]
        if isinstance(rules, DocumentError):
            raise rules
        return rules

    def _fetch_robots(self, host: str) -> robots.Robots:
        """RFC 9309: a file that is not there allows all, a server that fails allows nothing."""
        wish = Wish(f"{host}/robots.txt", robots.MAX_BYTES, is_page=False)
        sink = BytesIO()
        try:
            self._patiently(lambda: self._robots_hops(wish, sink))
        except DocumentError as error:
            if error.reason == "cut_off" or error.reason.removeprefix("http_") in _FAILURES:
                raise DocumentError(
                    "robots.txt of the host cannot be read, so nothing of it is fetched",
                    reason="robots",
                    found=f"{host}: {error.what}",
                    fix="Run again later.",
                ) from error
            if error.reason in ("unreachable", "private_address", "certificate", "timeout", "bad_url"):
                raise
            if error.reason != "too_large":  # of a file that is too long the beginning counts
                return robots.ALLOW_ALL
        return robots.parse(sink.getvalue().decode("utf-8", "replace"))

    def _robots_hops(self, wish: Wish, sink: IO[bytes]) -> None:
        sink.seek(0)
        sink.truncate()
        url = _parsed(wish.url)
        deadline = self._clock.now() + self._settings.timeout_seconds
        try:
            for _ in range(MAX_REDIRECTS + 1):
                self._wait_for(url, self._settings.delay_seconds)
                with self._connector.get(url, {}, deadline) as head:
                    if head.status not in _REDIRECTS or "location" not in head.headers:
                        self._require_success(head)
                        self._save(wish, head, url, sink, deadline)
                        return
                    url = _target(url, head.headers["location"])
        except CutOffError as error:
            raise _TryAgainError(_cut_off(str(error))) from error
        raise _redirected(f"more than {MAX_REDIRECTS} redirects", url)


# ---------------------------------------------------------------- heads and bodies


def _target(url: httpx.URL, location: str) -> httpx.URL:
    try:
        return _parsed(normal_url(str(url.join(location))))
    except (DocumentError, httpx.InvalidURL, ValueError) as error:
        raise _redirected("it leads to an address that is not fetched", url) from error


def _redirected(what: str, url: httpx.URL) -> DocumentError:
    return DocumentError(
        what, reason="redirects", found=url.host, fix="Open the address in a browser and name the page it ends at."
    )


def _cut_off(found: str) -> DocumentError:
    return DocumentError("the transfer was cut off", reason="cut_off", found=found or None, fix="Run again later.")


def _too_large(found: str) -> DocumentError:
    return DocumentError(
        "the file is too large",
        reason="too_large",
        found=found,
        fix="Raise collect.max_file_mb, or take the address out.",
    )


def content_type_of(headers: dict[str, str]) -> str:
    """Return the media type an answer announces, without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _claims_pdf(head: Head, url: httpx.URL) -> bool:
    announced = content_type_of(head.headers)
    is_named = PurePosixPath(url.path).suffix.lower() == ".pdf"
    return announced == PDF or (is_named and announced not in ("text/html", "application/xhtml+xml"))


def _require_wanted(wish: Wish, head: Head, url: httpx.URL) -> None:
    """Leave what will not be read before its body is fetched."""
    announced = content_type_of(head.headers)
    if wish.is_page and announced.startswith(_NEVER_READ):
        raise DocumentError(
            "files of this kind are not read", reason="unknown_type", found=announced, fix="Take the address out."
        )
    if wish.pdf_only and announced.startswith("text/"):
        raise _no_pdf(announced, wish)
    length = head.headers.get("content-length", "")
    if length.isdecimal() and int(length) > wish.max_bytes:
        raise _too_large(f"{int(length) / 1e6:.1f} MB")


def _require_pdf(start: bytes, wish: Wish) -> None:
    if b"%PDF-" not in start:
        raise _no_pdf("another content" if start else "nothing", wish)


def _no_pdf(found: str, wish: Wish) -> DocumentError:
    if wish.pdf_only:
        return DocumentError(
            "not a PDF file", reason="not_pdf", found=found, fix="Leave pdf_only out to take other files too."
        )
    return DocumentError(
        "the content is not what the server says",
        reason="mislabelled",
        found=f"{found} in place of a PDF file",
        fix="Open the address in a browser: it may need a login.",
    )


def _described(url: httpx.URL, head: Head, sha256: str, count: int) -> Fetched:
    link = _LICENCE_LINK.search(head.headers.get("link", "")[:4000])
    return Fetched(
        final_url=str(url),
        content_type=content_type_of(head.headers),
        sha256=sha256,
        bytes=count,
        etag=head.headers.get("etag"),
        last_modified=head.headers.get("last-modified"),
        licence=str(url.join(link[1])) if link else None,
    )


def _retry_after(value: str | None, now: float) -> float | None:
    """The seconds of a Retry-After header, which gives a number or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _decoded(head: Head) -> Iterator[bytes]:
    encoding = head.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return head.blocks
    if encoding in ("gzip", "x-gzip"):
        return _gunzipped(head.blocks)
    raise DocumentError(
        "the server sends a compression that was not asked for",
        reason="broken",
        found=encoding[:40],
        fix="Save the page as a file and name that.",
    )


@dataclass
class _Members:
    """A gzip stream: one member after the other, each given out in small parts however well it is compressed."""

    current: zlib._Decompress = field(default_factory=lambda: zlib.decompressobj(31))

    def parts(self, block: bytes) -> Iterator[bytes]:
        while True:
            if self.current.eof:
                if not block:
                    return
                self.current = zlib.decompressobj(31)
            part = self.current.decompress(block, _BLOCK_BYTES)
            if part:
                yield part
            block = self.current.unused_data if self.current.eof else self.current.unconsumed_tail
            if not block and len(part) < _BLOCK_BYTES:
                return


def _gunzipped(blocks: Iterator[bytes]) -> Iterator[bytes]:
    members = _Members()
    is_empty = True
    try:
        for block in blocks:
            is_empty = is_empty and not block
            yield from members.parts(block)
    except zlib.error as error:
        raise DocumentError(
            "the compressed transfer is damaged", reason="broken", found=str(error)[:80], fix="Run again later."
        ) from error
    if not is_empty and not members.current.eof:
        raise CutOffError("the compressed transfer has no end")
