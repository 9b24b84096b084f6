"""The addresses of a sitemap: XML as sitemaps.org says, an index of such files, or plain lines; gzipped or not."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple
from xml.etree import ElementTree

from fieldwise.errors import DocumentError

MAX_BYTES = 52_428_800  # what sitemaps.org allows one file to hold unpacked
_MAX_FILES = 100
_MAX_DEPTH = 3


class SitemapPages(NamedTuple):
    """The addresses of a sitemap, and the files of its index that could not be read."""

    urls: list[str]
    failed: dict[str, DocumentError]


def read_sitemap(url: str, limit: int, fetch: Callable[[str], bytes], wants: Callable[[str], bool]) -> SitemapPages:
    """Return the first `limit` addresses that are wanted, in the order of the sitemap; `fetch` gets what an address holds.

    Raises DocumentError: `bad_sitemap`, and what `fetch` raises for the sitemap itself.
    """
    found: dict[str, None] = {}
    failed: dict[str, DocumentError] = {}
    seen: set[str] = set()

    def read(address: str, depth: int) -> None:
        if address in seen or len(seen) >= _MAX_FILES or len(found) >= limit:
            return
        seen.add(address)
        try:
            pages, files = _parsed(fetch(address))
        except DocumentError as error:
            if depth == 0:
                raise
            failed[address] = error
            return
        found.update(dict.fromkeys(page for page in pages if wants(page)))
        if depth < _MAX_DEPTH:
            for file in files:
                read(file, depth + 1)

    read(url, 0)
    if not found and not failed:
        raise _bad("no address that matches", "Check the sitemap and the patterns of include.")
    return SitemapPages(list(found)[:limit], failed)


def _parsed(content: bytes) -> tuple[list[str], list[str]]:
    """The pages a file names, and the further sitemaps."""
    if content.startswith(b"\x1f\x8b"):
        content = _unpacked(content)
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        lines = (line.strip() for line in content.decode("utf-8", "replace").splitlines())
        return [line for line in lines if line.startswith(("http://", "https://"))], []
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise _bad("a document type, which may hold entities without end", "Do not trust it.")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise _bad(str(error)[:120], "Open the address in a browser.") from error
    places = [(e.text or "").strip() for e in root.findall("./{*}url/{*}loc") + root.findall("./{*}sitemap/{*}loc")]
    is_index = root.tag.rpartition("}")[2] == "sitemapindex"
    return ([], places) if is_index else (places, [])


def _unpacked(content: bytes) -> bytes:
    unpacker = zlib.decompressobj(31)
    try:
        unpacked = unpacker.decompress(content, MAX_BYTES + 1)
    except zlib.error as error:
        raise _bad(f"a damaged gzip file ({error})", "Run again later.") from error
    if len(unpacked) > MAX_BYTES:
        raise _bad(f"more than {MAX_BYTES} bytes unpacked", "Name its parts one by one.")
    return unpacked


def _bad(found: str, fix: str) -> DocumentError:
    return DocumentError("the sitemap cannot be used", reason="bad_sitemap", found=found, fix=fix)
