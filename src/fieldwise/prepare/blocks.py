"""The structure of a document's text: headings, paragraphs, lists and tables in order, gathered in sections."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from fieldwise.records import Document, Heading, TableSpan

Kind = Literal["text", "list", "table"]
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")
_ITEM = re.compile(r"[ \t]*(?:[-*•]|\(?(?:\d{1,3}(?:\.\d{1,3})*|[a-zA-Z]|[ivxIVX]{1,4})[.)])[ \t]+\S")
_NEXT_ITEM = re.compile(rf"\n{_ITEM.pattern}")  # the search leaps from line end to line end


class Block(NamedTuple):
    """A paragraph, list or table; the span has no blanks at its ends."""

    start: int
    end: int
    kind: Kind


class Section(NamedTuple):
    """What stands under one heading, up to the next: `start` is where its heading begins."""

    start: int
    head_end: int
    path: tuple[str, ...]
    blocks: tuple[Block, ...]

    @property
    def end(self) -> int:
        """Where the section's last block ends."""
        return self.blocks[-1].end if self.blocks else self.head_end


def split_sections(document: Document) -> list[Section]:
    """Return the sections in order; headings that follow each other directly open one section together."""
    sections: list[Section] = []
    above: list[Heading] = []
    tables = sorted(document.tables, key=lambda t: t.start)
    table_starts = [table.start for table in tables]
    start = head_end = 0
    for heading in [*sorted(document.headings, key=lambda h: h.start), None]:
        stop = heading.start if heading is not None else len(document.text)
        first, last = bisect_left(table_starts, head_end), bisect_left(table_starts, stop)
        blocks = tuple(_blocks(document.text, tables[first:last], head_end, stop))
        if blocks or (heading is None and head_end > start):
            sections.append(Section(start, head_end, tuple(h.text for h in above), blocks))
            start = stop
        elif head_end == start:
            start = stop
        if heading is not None:
            above = [h for h in above if h.level < heading.level] + [heading]
            head_end = heading.end
    return sections


def items_of(text: str, block: Block) -> list[Block]:
    """Return the items of a list, each with the lines that belong to it."""
    starts = list(_item_starts(text, block.start, block.end))
    if not starts or starts[0] > block.start:
        starts = [block.start, *starts]
    return [
        b
        for a, z in zip(starts, [*starts[1:], block.end], strict=True)
        if (b := _trimmed(text, a, z, "list")) is not None
    ]


def rows_of(text: str, block: Block) -> list[Block]:
    """Return the rows of a table; the header, the line under it and the first row are one."""
    lines: list[Block] = []
    at = block.start
    for line in text[block.start : block.end].split("\n"):
        lines.append(Block(at, at + len(line), "table"))
        at += len(line) + 1
    head = min(3, len(lines))
    return [Block(lines[0].start, lines[head - 1].end, "table"), *lines[head:]]


def header_and_row(text: str, block: Block) -> list[Block]:
    """Return the header of a table, with the line under it, apart from its first row; any other row comes back whole."""
    lines = text[block.start : block.end].split("\n")
    if len(lines) < 3:
        return [block]
    header_end = block.start + len(lines[0]) + 1 + len(lines[1])
    return [Block(block.start, header_end, "table"), Block(header_end + 1, block.end, "table")]


def _blocks(text: str, tables: Sequence[TableSpan], start: int, end: int) -> Iterator[Block]:
    at = start
    for table in tables:
        if table.end <= end:
            yield from _text_blocks(text, at, table.start)
            yield Block(table.start, table.end, "table")
            at = table.end
    yield from _text_blocks(text, at, end)


def _text_blocks(text: str, start: int, end: int) -> Iterator[Block]:
    """Paragraphs between blank lines; a list that follows its opening words directly is a block of its own."""
    at = start
    for stop, after in [*((m.start(), m.end()) for m in _BLANK_LINE.finditer(text, start, end)), (end, end)]:
        block = _trimmed(text, at, stop, "text")
        at = after
        if block is None:
            continue
        first = next(_item_starts(text, block.start, block.end), None)
        if first is None:
            yield block
        elif first == block.start:
            yield block._replace(kind="list")
        else:
            opening = _trimmed(text, block.start, first, "text")
            rest = _trimmed(text, first, block.end, "list")
            yield from (b for b in (opening, rest) if b is not None)


def _item_starts(text: str, start: int, end: int) -> Iterator[int]:
    """Where lines begin that open a list item."""
    if (start == 0 or text[start - 1] == "\n") and _ITEM.match(text, start, end):
        yield start
    for match in _NEXT_ITEM.finditer(text, start, end):
        yield match.start() + 1


def _trimmed(text: str, start: int, end: int, kind: Kind) -> Block | None:
    inner = text[start:end].rstrip()
    end = start + len(inner)
    start = end - len(inner.lstrip())
    return Block(start, end, kind) if end > start else None
