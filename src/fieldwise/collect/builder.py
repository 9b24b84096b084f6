"""A document's text as it grows: blocks of plain text, with the places of headings, tables and pages kept.

Every reader writes through it, so that all formats come out in one shape: blocks stand apart by a blank
line, list items by a line break, tables are Markdown, and offsets count characters of the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fieldwise.collect.grid import to_markdown
from fieldwise.records import Document, Heading, PageSpan, Source, TableSpan

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\ufeff\ufffe\uffff]")
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_BULLET = re.compile("[\u2022\u25e6\u25aa\u25cf\u25a0\u2023\uf0b7]\\s*(?=\\S)")
_MAX_HEADING_CHARS = 300
_MAX_HEADING_LEVEL = 9


def printable(text: str) -> str:
    r"""Return the text with `\\n` as the only line end and without control characters and lone surrogates."""
    return _CONTROL.sub("", _LINE_END.sub("\n", text))


def one_line(text: str) -> str:
    """Return the text on one line, runs of blanks as one space."""
    return " ".join(printable(text).split())


class TextBuilder:
    """Collects blocks; `document()` returns the whole."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._in_list = False
        self._page: int | None = None
        self._page_start: int | None = None
        self._confidence: float | None = None
        self._pages: list[PageSpan] = []
        self.headings: list[Heading] = []
        self._tables: list[TableSpan] = []
        self._notes: dict[str, None] = {}

    @property
    def chars(self) -> int:
        """Characters so far."""
        return self._length

    # ------------------------------------------------------------ blocks

    def heading(self, text: str, level: int) -> None:
        """Add a heading; one that is longer than a heading can be becomes a paragraph."""
        line = one_line(text)
        if len(line) > _MAX_HEADING_CHARS:
            self.paragraph(line)
        elif line:
            start = self._append(line, "\n\n")
            self.headings.append(
                Heading(level=max(1, min(level, _MAX_HEADING_LEVEL)), text=line, start=start, end=self._length)
            )

    def paragraph(self, text: str) -> None:
        """Add a block of text; its line breaks are kept. A line with a typed bullet is a list item."""
        block = "\n".join(line.rstrip() for line in printable(text).split("\n")).strip("\n")
        if _BULLET.match(block) and "\n" not in block:
            self.item(_BULLET.sub("", block))
        elif block.strip():
            self._append(block, "\n\n")

    def item(self, text: str, mark: str = "-", depth: int = 0) -> None:
        """Add a list item, on the line after the item before it."""
        line = one_line(text)
        if line:
            self._append(f"{'  ' * depth}{mark} {line}", "\n" if self._in_list else "\n\n")
            self._in_list = True

    def table(self, rows: Sequence[Sequence[object]]) -> None:
        """Add a table as Markdown, the first row as its header; empty rows and columns are left out."""
        grid = to_markdown(rows)
        if grid is not None:
            self.table_text(printable(grid.text), rows=grid.rows, columns=grid.columns)

    def table_text(self, text: str, *, rows: int, columns: int) -> None:
        """Add a table that is Markdown already."""
        start = self._append(text, "\n\n")
        self._tables.append(TableSpan(start=start, end=self._length, rows=rows, columns=columns))

    # ------------------------------------------------------------ pages and notes

    def page(self, number: int, confidence: float | None = None) -> None:
        """Begin a page; with the mean confidence of text recognition if that read it."""
        self._end_page()
        self._page, self._page_start, self._confidence = number, None, confidence
        self._in_list = False

    def note(self, text: str) -> None:
        """Keep something the reader of the document should know."""
        self._notes[text] = None

    def document(self, source: Source, title: str = "") -> Document:
        """Return the document; without a title of its own it is named after its first heading, else left unnamed."""
        self._end_page()
        name = one_line(title) or (self.headings[0].text if self.headings else "")
        return Document.make(
            title=name[:_MAX_HEADING_CHARS],
            text="".join(self._parts),
            source=source,
            pages=tuple(self._pages),
            headings=tuple(self.headings),
            tables=tuple(self._tables),
            notes=tuple(self._notes),
        )

    def _append(self, text: str, gap: str) -> int:
        self._in_list = False
        if self._length:
            self._parts.append(gap)
            self._length += len(gap)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        if self._page is not None and self._page_start is None:
            self._page_start = start
        return start

    def _end_page(self) -> None:
        if self._page is not None:
            start = self._length if self._page_start is None else self._page_start
            span = PageSpan(number=self._page, start=start, end=self._length, confidence=self._confidence)
            self._pages.append(span)
        self._page = None
