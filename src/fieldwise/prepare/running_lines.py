"""Headers, footers and page numbers: lines at the top or bottom of pages that come again and again."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from fieldwise.prepare.edits import Edit
from fieldwise.records import Document

_ZONE_LINES = 3
_MIN_PAGES = 2
_SHARE_OF_PAGES = 0.45  # headers often differ on even and odd pages
_DIGITS = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"[-\u2013—|\s]*(?:(?:page|seite|p(?:g|ág|age)?\.?|s\.|sheet)\s*:?\s*)?(?:\d{1,4}|(?-i:[ivxlc]{1,7}))(?:\s*(?:of|/|von|sur|de|out of)\s*\d{1,4})?[-\u2013—|.\s]*",
    re.IGNORECASE,
)


class _Line(NamedTuple):
    start: int
    end: int
    page: int
    is_top: bool


def repeated_lines(document: Document) -> list[Edit]:
    """Return the edits that drop lines which stand at the top or bottom of most pages, whatever numbers they hold."""
    lines = list(_edge_lines(document))
    pages_of: dict[str, set[int]] = {}
    for line in lines:
        pages_of.setdefault(_shape(document, line), set()).add(line.page)
    pages = sum(page.end > page.start for page in document.pages)
    needed = max(_MIN_PAGES, math.ceil(_SHARE_OF_PAGES * pages))
    return _removals(document, [line for line in lines if len(pages_of[_shape(document, line)]) >= needed])


def page_number_lines(document: Document) -> list[Edit]:
    """Return the edits that drop lines at the top or bottom of a page which hold nothing but its number."""
    return _removals(
        document,
        [line for line in _edge_lines(document) if _PAGE_NUMBER.fullmatch(document.text[line.start : line.end])],
    )


def _edge_lines(document: Document) -> Iterator[_Line]:
    """The first and last lines of every page, each once, but for headings and tables."""
    fixed = sorted([(h.start, h.end) for h in document.headings] + [(t.start, t.end) for t in document.tables])
    starts = [start for start, _ in fixed]
    for number, page in enumerate(document.pages):
        spans: list[tuple[int, int]] = []
        at = page.start
        for line in document.text[page.start : page.end].split("\n"):
            if line.strip():
                spans.append((at, at + len(line)))
            at += len(line) + 1
        zone = min(_ZONE_LINES, len(spans) // 3)  # on short pages the text itself would stand in the zone
        for n, (start, end) in enumerate(spans):
            before = bisect_left(starts, end)  # the fixed spans that begin before the line ends; they do not overlap
            is_fixed = before > 0 and fixed[before - 1][1] > start
            if (n < zone or n >= len(spans) - zone) and not is_fixed:
                yield _Line(start, end, number, n < len(spans) / 2)


def _shape(document: Document, line: _Line) -> str:
    return _DIGITS.sub("#", " ".join(document.text[line.start : line.end].split()).casefold())


def _removals(document: Document, lines: list[_Line]) -> list[Edit]:
    """Take each line with the blanks after it, at the bottom of a page with those before it."""
    edits: list[Edit] = []
    for line in lines:
        page = document.pages[line.page]
        floor = max(page.start, edits[-1].end if edits else 0)  # the blanks an indented line begins with may be gone
        start, end = max(line.start, floor), line.end
        if line.is_top:
            while end < page.end and document.text[end].isspace():
                end += 1
        else:
            while start > floor and document.text[start - 1].isspace():
                start -= 1
        edits.append(Edit(start, end, ""))
    return edits
