"""Changing a document's text without losing where its pages, headings and tables stand."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from fieldwise.records import Document, Heading, PageSpan, TableSpan


class Edit(NamedTuple):
    """Replace `text[start:end]` by `text`."""

    start: int
    end: int
    text: str


def apply_edits(document: Document, edits: Iterable[Edit]) -> Document:
    """Return the document with its text edited and all spans moved along; edits must not overlap.

    A heading or table of which nothing is left is dropped; a page stays, though it may be empty.
    """
    ordered = sorted(edits)
    if not ordered:
        return document
    moved = _Moved(document.text, ordered)
    return document.model_copy(
        update={
            "text": moved.text,
            "pages": tuple(_page(page, moved) for page in document.pages),
            "headings": tuple(h for heading in document.headings if (h := _heading(heading, moved)) is not None),
            "tables": tuple(t for table in document.tables if (t := _table(table, moved)) is not None),
        }
    )


class _Moved:
    """The new text, and where offsets of the old one went."""

    def __init__(self, text: str, edits: list[Edit]) -> None:
        parts: list[str] = []
        at = length = 0
        self._edits = edits
        self._new_starts: list[int] = []
        for edit in edits:
            assert edit.start >= at, f"edits overlap at {edit.start}"
            parts += [text[at : edit.start], edit.text]
            length += edit.start - at
            self._new_starts.append(length)
            length += len(edit.text)
            at = edit.end
        self.text = "".join([*parts, text[at:]])
        self._starts = [edit.start for edit in edits]
        self._ends = [edit.end for edit in edits]

    def start(self, offset: int) -> int:
        """Where a span that began at `offset` begins now: after a replacement it began within."""
        n = bisect_right(self._ends, offset)  # edits wholly before
        if n < len(self._edits) and self._starts[n] < offset:
            return self._new_starts[n] + len(self._edits[n].text)
        return self._shift(offset, n)

    def end(self, offset: int) -> int:
        """Where a span that ended at `offset` ends now: before a replacement it ended within."""
        n = bisect_left(self._ends, offset + 1)
        if n < len(self._edits) and self._starts[n] < offset:
            return self._new_starts[n]
        return self._shift(offset, n)

    def _shift(self, offset: int, before: int) -> int:
        if before == 0:
            return offset
        last = before - 1
        return self._new_starts[last] + len(self._edits[last].text) + offset - self._ends[last]

    def trimmed(self, start: int, end: int) -> tuple[int, int] | None:
        """The span without blanks at its ends; None if nothing is left of it."""
        first, last = self.start(start), self.end(end)
        kept = self.text[first:last]
        if not kept.strip():
            return None
        return first + len(kept) - len(kept.lstrip()), last - len(kept) + len(kept.rstrip())


def _page(page: PageSpan, moved: _Moved) -> PageSpan:
    place = moved.trimmed(page.start, page.end)
    start = moved.start(page.start)
    return PageSpan(number=page.number, start=place[0] if place else start, end=place[1] if place else start)


def _heading(heading: Heading, moved: _Moved) -> Heading | None:
    place = moved.trimmed(heading.start, heading.end)
    return (
        None
        if place is None
        else Heading(level=heading.level, text=moved.text[place[0] : place[1]], start=place[0], end=place[1])
    )


def _table(table: TableSpan, moved: _Moved) -> TableSpan | None:
    place = moved.trimmed(table.start, table.end)
    return None if place is None else TableSpan(start=place[0], end=place[1], rows=table.rows, columns=table.columns)
