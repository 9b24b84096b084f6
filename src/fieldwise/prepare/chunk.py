"""Cutting a document into chunks along its structure.

A chunk stays within one section. Paragraphs, lists and tables are kept whole while they fit, then cut at
sentences, items and rows, and only then between words. Nothing is lost: between two chunks stand blanks alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from fieldwise.prepare.blocks import Block, Section, header_and_row, items_of, rows_of, split_sections
from fieldwise.prepare.sentences import split_sentences
from fieldwise.prepare.settings import ChunkSettings
from fieldwise.records import Chunk, Document

UnitKind = Literal["head", "text", "list", "item", "sentence", "word", "table", "row"]
_TABULAR = ("table", "row")
_MAX_WHOLE_ROW = 2  # times the largest chunk; a cell that holds a whole letter is cut, or no model could be shown it


@dataclass(frozen=True)
class _Unit:
    """A span that is not cut unless it must be, with its tokens and those of the blanks before it.

    One that `leads` belongs with what follows it.
    """

    start: int
    end: int
    kind: UnitKind
    tokens: int
    leads: bool = False


@dataclass(frozen=True)
class _Piece:
    """A chunk in the making."""

    start: int
    end: int
    tokens: int
    path: tuple[str, ...]
    has_table: bool
    section: int


def chunk_document(document: Document, settings: ChunkSettings, count: Callable[[str], int]) -> list[Chunk]:
    """Return the chunks of a document in order; `count` returns the tokens of a text."""
    chunker = _Chunker(document.text, settings, count)
    pieces: list[_Piece] = []
    for number, section in enumerate(split_sections(document)):
        pieces += chunker.pack(section, number)
    return [
        Chunk.make(
            document,
            piece.start,
            piece.end,
            heading_path=piece.path,
            tokens=piece.tokens,
            kind="table" if piece.has_table else "text",
        )
        for piece in chunker.join_small(pieces)
    ]


class _Chunker:
    def __init__(self, text: str, settings: ChunkSettings, count: Callable[[str], int]) -> None:
        self._text, self._settings, self._count = text, settings, count

    # ------------------------------------------------------------ within a section

    def pack(self, section: Section, number: int) -> list[_Piece]:
        """Fill chunks with the units of one section, up to about the target size."""
        queue = deque(self._units(section))
        pieces: list[list[_Unit]] = []
        current: list[_Unit] = []
        tokens = 0
        while queue:
            unit = queue.popleft()
            if (not current and unit.tokens > self._settings.max_tokens) or (
                current and self._wants_part(current, tokens, unit)
            ):
                parts = self._parts(unit)
                if len(parts) > 1:
                    queue.extendleft(reversed(parts))
                    continue
            if current and not self._takes(current, tokens, unit, queue[0] if queue else None):
                pieces.append(current)
                current, tokens = [], 0
                queue.appendleft(unit)
                continue
            tokens += unit.tokens
            current.append(unit)
        if current:
            pieces.append(current)
        return self._without_small_rest([self._piece(units, section.path, number) for units in pieces])

    def _units(self, section: Section) -> Iterable[_Unit]:
        if section.head_end > section.start:
            yield self._unit(section.start, section.head_end, "head", leads=True)
        for block, following in zip(section.blocks, [*section.blocks[1:], None], strict=False):
            leads = (
                block.kind == "text"
                and following is not None
                and following.kind != "text"
                and self._text[block.end - 1] == ":"
            )
            yield self._unit(block.start, block.end, block.kind, leads=leads)

    def _unit(self, start: int, end: int, kind: UnitKind, *, leads: bool = False) -> _Unit:
        return _Unit(start, end, kind, self._count(self._text[self._before(start) : end]), leads)

    def _before(self, start: int) -> int:
        """Where the blanks before a unit begin."""
        while start > 0 and self._text[start - 1].isspace():
            start -= 1
        return start

    def _takes(self, current: list[_Unit], tokens: int, unit: _Unit, following: _Unit | None) -> bool:
        """Whether a unit goes into the chunk at hand."""
        last, total = current[-1], tokens + unit.tokens
        if total > self._settings.max_tokens:
            return False
        if last.leads or tokens < self._settings.min_tokens:
            return True
        if (unit.kind in _TABULAR) != (last.kind in _TABULAR):
            return False
        if (
            unit.leads and following is not None
        ):  # better to begin a chunk with it than to part it from what it leads to
            total += following.tokens
        return total <= self._settings.target_tokens and not (unit.kind == last.kind == "table")

    def _wants_part(self, current: list[_Unit], tokens: int, unit: _Unit) -> bool:
        """Whether a unit that does not fit is cut so that what leads to it, or is too small alone, is not left behind."""
        return tokens + unit.tokens > self._settings.max_tokens and (
            current[-1].leads or tokens < self._settings.min_tokens
        )

    def _parts(self, unit: _Unit) -> list[_Unit]:
        """Cut a unit at the next finer joint; a single row, unless it is huge, and a single sign cannot be cut."""
        block = Block(unit.start, unit.end, "text")
        if unit.kind == "table":
            parts = [self._unit(b.start, b.end, "row") for b in rows_of(self._text, block)]
        elif unit.kind == "row":
            parts = [self._unit(b.start, b.end, "row") for b in header_and_row(self._text, block)]
            if len(parts) == 1 and unit.tokens > _MAX_WHOLE_ROW * self._settings.max_tokens:
                return self._parts(replace(unit, kind="text"))
        elif unit.kind == "list":
            parts = [self._unit(b.start, b.end, "item") for b in items_of(self._text, block)]
        elif unit.kind in ("text", "item"):
            parts = [self._unit(p.start, p.end, "sentence") for p in split_sentences(self._text, unit.start, unit.end)]
        elif unit.kind in ("sentence", "head"):
            parts = self._words(unit)
        else:
            return [unit]
        if len(parts) == 1 and parts[0].kind != unit.kind:
            return self._parts(parts[0])
        return [*parts[:-1], replace(parts[-1], leads=unit.leads)] if parts else [unit]

    def _words(self, unit: _Unit) -> list[_Unit]:
        """Runs of words of half the target size each; a word longer than a chunk is cut anywhere."""
        runs: list[_Unit] = []
        start = end = unit.start
        while end < unit.end:
            stop = self._word_end(end, unit.end)
            if start < end and self._count(self._text[start:stop]) > self._settings.target_tokens // 2:
                runs.append(self._unit(start, end, "word"))
                start = self._skip_blanks(end, unit.end)
            end = stop
        runs.append(self._unit(start, unit.end, "word"))
        return [part for run in runs for part in self._halves(run)]

    def _word_end(self, at: int, limit: int) -> int:
        at = self._skip_blanks(at, limit)
        while at < limit and not self._text[at].isspace():
            at += 1
        return at

    def _skip_blanks(self, at: int, limit: int) -> int:
        while at < limit and self._text[at].isspace():
            at += 1
        return at

    def _halves(self, unit: _Unit) -> list[_Unit]:
        middle = (unit.start + unit.end) // 2
        if unit.tokens <= self._settings.max_tokens or middle == unit.start:
            return [unit]
        return [
            *self._halves(self._unit(unit.start, middle, "word")),
            *self._halves(self._unit(middle, unit.end, "word")),
        ]

    def _piece(self, units: list[_Unit], path: tuple[str, ...], number: int) -> _Piece:
        start, end = units[0].start, units[-1].end
        return _Piece(start, end, self._tokens(units), path, any(u.kind in _TABULAR for u in units), number)

    def _tokens(self, units: list[_Unit]) -> int:
        """The tokens of units together: their sum without the blanks before the first, unless two touch within a word."""
        start, end = units[0].start, units[-1].end
        if any(a.end == b.start for a, b in pairwise(units)):
            return self._count(self._text[start:end])
        word_end = self._text.find(" ", start, end)
        word_end = end if word_end < 0 else word_end
        blanks = self._count(self._text[self._before(start) : word_end]) - self._count(self._text[start:word_end])
        return sum(unit.tokens for unit in units) - blanks

    # ------------------------------------------------------------ small pieces

    def _without_small_rest(self, pieces: list[_Piece]) -> list[_Piece]:
        if len(pieces) > 1 and pieces[-1].tokens < self._settings.min_tokens:
            joined = self._joined(pieces[-2], pieces[-1], pieces[-1].path)
            if joined is not None:
                return [*pieces[:-2], joined]
        return pieces

    def join_small(self, pieces: list[_Piece]) -> list[_Piece]:
        """Join sections that are too small to stand alone to a neighbour under the same parent."""
        out: list[_Piece] = []
        queue = deque(pieces)
        while queue:
            piece = queue.popleft()
            if piece.tokens < self._settings.min_tokens:
                if queue and (joined := self._joined_sections(piece, queue[0])) is not None:
                    queue[0] = joined
                    continue
                if out and (joined := self._joined_sections(out[-1], piece)) is not None:
                    out[-1] = joined
                    continue
            out.append(piece)
        return out

    def _joined_sections(self, first: _Piece, second: _Piece) -> _Piece | None:
        path = _common_path(first.path, second.path) if first.section != second.section else None
        return self._joined(first, second, path) if path is not None else None

    def _joined(self, first: _Piece, second: _Piece, path: tuple[str, ...]) -> _Piece | None:
        """Both as one, or None if that would be too large."""
        tokens = self._count(self._text[first.start : second.end])
        if tokens > self._settings.max_tokens:
            return None
        return _Piece(first.start, second.end, tokens, path, first.has_table or second.has_table, second.section)


def _common_path(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...] | None:
    """The path two neighbours share; None when they do not stand under the same heading.

    The words between a heading and its first part go with that part, and keep its path.
    """
    if second[: len(first)] == first:
        return second
    return first[:-1] if first[:-1] == second[:-1] else None
