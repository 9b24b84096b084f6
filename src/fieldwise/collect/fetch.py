"""Web sources of a recipe into files of the run folder: which addresses, what is known of them, and what came.

What came stands in the store by its hash and is remembered by its address, with the time and what the server needs
to say "unchanged". So an interrupted or repeated collection asks only for what it lacks or what may have changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from fieldwise.collect import media
from fieldwise.collect.addresses import Lookup, system_lookup
from fieldwise.collect.connection import Clock
from fieldwise.collect.download import Downloader, Fetched, Wish, normal_url
from fieldwise.collect.search import question_of, search
from fieldwise.collect.settings import CollectSettings, WebSource, without_password
from fieldwise.collect.sitemap import MAX_BYTES as MAX_SITEMAP_BYTES
from fieldwise.collect.sitemap import read_sitemap
from fieldwise.collect.sources import Found, FoundFile, Origin, listed_urls, shown, web_sources
from fieldwise.errors import DocumentError
from fieldwise.files import link_or_copy, sync, write_json
from fieldwise.hashing import sha256_file
from fieldwise.progress import say, track
from fieldwise.records import Rejection
from fieldwise.run import StepRun

_DEFAULT_SITEMAP_LIMIT = 1000
_MAX_SEARCH_BYTES = 20_000_000
_ENDINGS = {
    media.PDF: ".pdf",
    media.HTML: ".html",
    "application/xhtml+xml": ".html",
    media.MARKDOWN: ".md",
    media.ASCIIDOC: ".adoc",
    media.DOCX: ".docx",
    media.PPTX: ".pptx",
    media.XLSX: ".xlsx",
    media.EPUB: ".epub",
    media.ODT: ".odt",
    media.ODP: ".odp",
    media.ODS: ".ods",
    media.CSV: ".csv",
    media.MAIL: ".eml",
    media.MSG: ".msg",
    media.PLAIN: ".txt",
    media.PNG: ".png",
    media.JPEG: ".jpg",
    media.TIFF: ".tif",
}
_VAGUE = {"", media.PLAIN, "application/octet-stream", "binary/octet-stream", "application/zip", "application/force-download"}  # fmt: skip


class Wanted(NamedTuple):
    """An address to fetch, and how it was found."""

    url: str
    pdf_only: bool = False
    query: str | None = None
    rank: int | None = None


def fetch_all(
    settings: CollectSettings, step: StepRun, *, lookup: Lookup = system_lookup, clock: Clock | None = None
) -> Found:
    """Fetch what the web sources name; what cannot be fetched is among the rejected, by its address.

    Raises ServiceError for a search without a key.
    """
    return _Fetcher(settings, step, lookup, clock or Clock()).run()


class _Fetcher:
    def __init__(self, settings: CollectSettings, step: StepRun, lookup: Lookup, clock: Clock) -> None:
        self._settings, self._step, self._clock = settings, step, clock
        self._downloader = Downloader(settings.web, lookup=lookup, clock=clock)
        self._memo = step.run.memo("web")
        self._found = Found()
        self._fetched_at: dict[str, JsonValue] = {}
        self._max_bytes = int(settings.max_file_mb * 1e6)

    def run(self) -> Found:
        wanted: dict[str, Wanted] = {}
        for source in web_sources(self._settings):
            label = without_password(source) if isinstance(source, str) else source.label
            try:
                for wish in self._wanted(source):
                    wanted.setdefault(wish.url, wish)
            except DocumentError as error:
                self._reject(label, error, None if isinstance(source, str) else source.search)
        for wish in track(list(wanted.values()), "fetching"):
            try:
                self._found.files.append(self._file(wish))
            except DocumentError as error:
                self._reject(wish.url, error, wish.query)
        # beside the outputs, since no rerun repeats a time
        write_json(self._step.run.path / "times" / "fetched.json", self._fetched_at)
        return self._found

    def _reject(self, item: str, error: DocumentError, query: str | None = None) -> None:
        self._found.rejected.append(
            Rejection(stage="collect", item=shown(item), reason=error.reason, detail=str(error), query=query)
        )

    # ------------------------------------------------------------ which addresses

    def _wanted(self, source: WebSource | str) -> Iterator[Wanted]:
        """Yield the addresses of a source in its order; a line that is no address is rejected."""
        if isinstance(source, str):
            yield Wanted(normal_url(source))
            return
        found = self._addresses(source)
        kept = 0
        for rank, url in enumerate(found, 1):
            try:
                normal = normal_url(url)
            except DocumentError as error:
                self._reject(without_password(url), error, source.search)
                continue
            if _passes(normal, source) and (source.limit is None or kept < source.limit):
                kept += 1
                yield Wanted(normal, source.pdf_only, source.search, rank if source.search is not None else None)

    def _addresses(self, source: WebSource) -> list[str]:
        if source.urls is not None:
            return listed_urls(source.urls)
        if source.sitemap is not None:
            return self._sitemap(source, source.sitemap)
        return self._search(source)

    def _sitemap(self, source: WebSource, url: str) -> list[str]:
        limit = source.limit or _DEFAULT_SITEMAP_LIMIT
        pages = read_sitemap(
            normal_url(url),
            limit,
            lambda address: self._downloader.fetch_bytes(Wish(normal_url(address), MAX_SITEMAP_BYTES)),
            lambda address: _passes(address, source),
        )
        say(
            f"   {shown(source.label)}: {len(pages.urls)} addresses"
            + (", the limit" if len(pages.urls) == limit else "")
        )
        for address, error in pages.failed.items():
            self._reject(without_password(address), error)
        return pages.urls

    def _search(self, source: WebSource) -> list[str]:
        """Ask the service, or remember what it said: searches cost money."""
        assert source.search is not None
        base_url = self._settings.web.search_url
        key: tuple[JsonValue, ...] = ("search", base_url, source.keyed())
        remembered = self._memo.get(*key)
        if isinstance(remembered, dict) and self._is_fresh(remembered):
            return _urls(remembered)
        question = question_of(source, base_url)
        hits = search(
            source.service,
            question,
            lambda url: self._downloader.fetch_bytes(Wish(url, _MAX_SEARCH_BYTES, is_page=False)),
        )
        say(f"   {shown(source.label)}: {len(hits)} addresses from {source.service}")
        found: list[JsonValue] = [{"url": hit.url, "title": hit.title} for hit in hits]
        answer: dict[str, JsonValue] = {"fetched_at": self._time(), "hits": found}
        self._memo.put(answer, *key)
        return _urls(answer)

    # ------------------------------------------------------------ one address

    def _file(self, wish: Wanted) -> FoundFile:
        known = self._known(wish)
        if known is None or not self._is_fresh(known):
            known = self._fetched(wish, known or {})
        path = self._step.run.blob(str(known["sha256"]))
        if path.stat().st_size == 0:
            raise DocumentError("the page is empty", reason="empty", fix="Take the address out.")
        if wish.pdf_only and b"%PDF-" not in _start(path):
            raise DocumentError(
                "not a PDF file",
                reason="not_pdf",
                found=str(known["content_type"]) or "another content",
                fix="Leave pdf_only out to take other files too.",
            )
        licence = known.get("licence")
        origin = Origin(
            name=file_name(str(known["final_url"]), str(known["content_type"])),
            final_url=str(known["final_url"]),
            query=wish.query,
            rank=wish.rank,
            licence=str(licence) if licence else None,
        )
        self._fetched_at[wish.url] = known["fetched_at"]
        return FoundFile(wish.url, path, path.stat().st_size, origin)

    def _known(self, wish: Wanted) -> dict[str, JsonValue] | None:
        """What the memo says of an address, if the store still holds it whole and it is within the limits."""
        known = self._memo.get("page", wish.url)
        if not isinstance(known, dict):
            return None
        path = self._step.run.blob(str(known.get("sha256")))
        is_whole = path.is_file() and path.stat().st_size <= self._max_bytes and sha256_file(path) == known["sha256"]
        return known if is_whole else None

    def _fetched(self, wish: Wanted, known: dict[str, Any]) -> dict[str, JsonValue]:
        asked = Wish(
            wish.url,
            self._max_bytes,
            pdf_only=wish.pdf_only,
            known_url=known.get("final_url", ""),
            etag=known.get("etag"),
            last_modified=known.get("last_modified"),
        )
        part = self._step.work / "download.part"
        try:
            with part.open("w+b") as sink:
                fetched = self._downloader.fetch(asked, sink)
            if not fetched.is_unchanged:
                self._keep(part, fetched)
        finally:
            part.unlink(missing_ok=True)
        entry: dict[str, JsonValue] = {"url": wish.url, **known, "fetched_at": self._time()}
        if not fetched.is_unchanged:
            entry |= {
                "final_url": fetched.final_url,
                "content_type": fetched.content_type,
                "sha256": fetched.sha256,
                "etag": fetched.etag,
                "last_modified": fetched.last_modified,
                "licence": fetched.licence,
            }
        self._memo.put(entry, "page", wish.url)
        return entry

    def _keep(self, part: Path, fetched: Fetched) -> None:
        blob = self._step.run.blob(fetched.sha256)
        if not blob.is_file() or blob.stat().st_size != fetched.bytes:
            sync(part)
            link_or_copy(part, blob)

    # ------------------------------------------------------------ time

    def _time(self) -> str:
        return datetime.fromtimestamp(self._clock.wall(), UTC).isoformat(timespec="seconds")

    def _is_fresh(self, known: dict[str, JsonValue]) -> bool:
        try:
            age = self._clock.wall() - datetime.fromisoformat(str(known.get("fetched_at"))).timestamp()
        except ValueError:
            return False
        return 0 <= age < self._settings.web.max_age_hours * 3600


def file_name(url: str, content_type: str) -> str:
    """Return a file name for what an address holds: its last part, with the ending that fits the announced type.

    >>> file_name("https://a.example/rules.php?id=3", "text/html"), file_name("https://a.example/x/guide.md", "text/plain")
    ('rules.html', 'guide.md')
    """
    parts = urlsplit(url)
    last = PurePosixPath(unquote(parts.path)).name or parts.hostname or "page"
    ending = PurePosixPath(last).suffix.lower()
    if ending in media.BY_EXTENSION and (
        content_type in _VAGUE or media.BY_EXTENSION[ending] == _plain_type(content_type)
    ):
        return last
    if content_type not in _ENDINGS:
        return last
    stem = (
        PurePosixPath(last).stem
        if ending and re.fullmatch(r"\.[a-z0-9]{1,5}", ending) and parts.path.strip("/")
        else last
    )
    return stem + _ENDINGS[content_type]


def _plain_type(content_type: str) -> str:
    return media.HTML if content_type == "application/xhtml+xml" else content_type


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(1024)


def _urls(answer: dict[str, Any]) -> list[str]:
    return [str(hit["url"]) for hit in answer["hits"]]


def _passes(url: str, source: WebSource) -> bool:
    return any(fnmatchcase(url, pattern) for pattern in source.include)
