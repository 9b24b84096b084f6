"""Cutting a document into chunks along its structure.

A chunk stays within one section. Paragraphs, lists and tables are kept whole while they fit, then cut at
sentences, items and rows, and only then between words. Nothing is lost: between two chunks stand blanks alone.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from fieldwise.prepare.blocks import Block, Section, header_and_row, items_of, rows_of, split_sections
from fieldwise.prepare.sentences import split_sentences
from fieldwise.prepare.settings import ChunkSettings
from fieldwise.records import Chunk, Document

UnitKind = Literal["head", "text", "list", "item", "sentence", "word", "table", "row"]
_PART_KINDS: dict[UnitKind, UnitKind] = {"table": "row", "list": "item", "text": "sentence", "item": "sentence"}
_TABULAR = ("table", "row")
_WORD = re.compile(r"\S+")
_MAX_WHOLE_ROW = 2  # times the largest chunk; a cell that holds a whole letter is cut, or no model could be shown it

TokensOf = Callable[[str], Callable[[int, int], int]]
"""Returns for a text what counts the tokens of its spans; they are the sum of their parts where cut before a space."""


class _Unit(NamedTuple):
    """A span that is not cut unless it must be, with its tokens and those of the blanks before it.

    One that `leads` belongs with what follows it.
    """

    start: int
    end: int
    kind: UnitKind
    tokens: int
    leads: bool = False


class _Piece(NamedTuple):
    """A chunk in the making."""

    start: int
    end: int
    tokens: int
    path: tuple[str, ...]
    has_table: bool
    section: int


def chunk_document(document: Document, settings: ChunkSettings, tokens_of: TokensOf) -> list[Chunk]:
    """Return the chunks of a document in order; `tokens_of` returns what counts the tokens of spans of its text."""
    chunker = _Chunker(document.text, settings, tokens_of)
    pieces = chunker.join_small(chunker.pieces(split_sections(document)))
    return [
        Chunk.make(
            document,
            piece.start,
            piece.end,
            heading_path=piece.path,
            tokens=piece.tokens,
            kind="table" if piece.has_table else "text",
        )
        for piece in pieces
    ]


class _Chunker:
    def __init__(self, text: str, settings: ChunkSettings, tokens_of: TokensOf) -> None:
        self._text, self._settings, self._count = text, settings, tokens_of(text)

    # ------------------------------------------------------------ within a section

    def pieces(self, sections: Sequence[Section]) -> list[_Piece]:
        """Fill chunks with the units of each section."""
        return [
            piece
            for number, section in enumerate(sections)
            for piece in self._pack(self._units(section), section.path, number)
        ]

    def _pack(self, units: Iterable[_Unit], path: tuple[str, ...], number: int) -> list[_Piece]:
        """Fill chunks with the units of one section, up to about the target size."""
        queue = deque(units)
        max_tokens, min_tokens = self._settings.max_tokens, self._settings.min_tokens
        pieces: list[_Piece] = []
        current: list[_Unit] = []
        tokens = 0
        while queue:
            unit = queue.popleft()
            # also cut so that what leads to it, or is too small alone, is not left behind
            if tokens + unit.tokens > max_tokens and (not current or current[-1].leads or tokens < min_tokens):
                parts = self._parts(unit)
                if len(parts) > 1:
                    queue.extendleft(reversed(parts))
                    continue
            if current and not self._takes(current[-1], tokens, unit, queue[0] if queue else None):
                pieces.append(self._piece(current, path, number))
                current, tokens = [], 0
                queue.appendleft(unit)
                continue
            tokens += unit.tokens
            current.append(unit)
        if current:
            pieces.append(self._piece(current, path, number))
        return self._without_small_rest(pieces)

    def _units(self, section: Section) -> Iterator[_Unit]:
        if section.head_end > section.start:
            tokens = self._tokens(section.start, section.head_end)
            yield _Unit(section.start, section.head_end, "head", tokens, leads=True)
        for block, following in zip(section.blocks, [*section.blocks[1:], None], strict=False):
            leads = (
                block.kind == "text"
                and following is not None
                and following.kind != "text"
                and self._text[block.end - 1] == ":"
            )
            yield _Unit(block.start, block.end, block.kind, self._tokens(block.start, block.end), leads)

    def _counted(self, kind: UnitKind, spans: Iterable[tuple[int, int]]) -> list[_Unit]:
        """Units of one kind with their tokens."""
        return [_Unit(start, end, kind, self._tokens(start, end)) for start, end in spans]

    def _tokens(self, start: int, end: int) -> int:
        """The tokens of a span with the blanks before it."""
        return self._count(self._before(start), end)

    def _finer(self, start: int, end: int, kind: UnitKind) -> Iterable[tuple[int, int]]:
        """Where a block has its next finer joints."""
        block = Block(start, end, "text")
        if kind == "table":
            return _spans_of(rows_of(self._text, block))
        if kind == "list":
            return _spans_of(items_of(self._text, block))
        return split_sentences(self._text, start, end)

    def _before(self, start: int) -> int:
        """Where the blanks before a unit begin."""
        while start > 0 and self._text[start - 1].isspace():
            start -= 1
        return start

    def _takes(self, last: _Unit, tokens: int, unit: _Unit, following: _Unit | None) -> bool:
        """Whether a unit goes into the chunk at hand, which ends in `last`."""
        total = tokens + unit.tokens
        if total > self._settings.max_tokens:
            return False
        if last.leads or tokens < self._settings.min_tokens:
            return True
        if (unit.kind in _TABULAR) != (last.kind in _TABULAR):
            return False
        if unit.leads and following is not None:
            total += following.tokens  # better to begin a chunk with it than to part it from what it leads to
        return total <= self._settings.target_tokens and not (unit.kind == last.kind == "table")

    def _parts(self, unit: _Unit) -> list[_Unit]:
        """Cut a unit at the next finer joint; a single row, unless it is huge, and a single sign cannot be cut."""
        if unit.kind in _PART_KINDS:
            parts = self._counted(_PART_KINDS[unit.kind], self._finer(unit.start, unit.end, unit.kind))
        elif unit.kind == "row":
            row = Block(unit.start, unit.end, "table")
            parts = self._counted("row", _spans_of(header_and_row(self._text, row)))
            if len(parts) == 1 and unit.tokens > _MAX_WHOLE_ROW * self._settings.max_tokens:
                return self._parts(unit._replace(kind="text"))
        elif unit.kind in ("sentence", "head"):
            parts = self._words(unit)
        else:
            return [unit]
        if len(parts) == 1 and parts[0].kind != unit.kind:
            return self._parts(parts[0])
        return [*parts[:-1], parts[-1]._replace(leads=unit.leads)] if parts else [unit]

    def _words(self, unit: _Unit) -> list[_Unit]:
        """Runs of words of half the target size each; a word longer than a chunk is cut anywhere."""
        runs = self._counted("word", self._runs(unit))
        return [part for run in runs for part in self._halves(run)]

    def _runs(self, unit: _Unit) -> Iterator[tuple[int, int]]:
        """Spans of words, the tokens of each run added up from space to space."""
        text, limit = self._text, self._settings.target_tokens // 2
        words = [match.span() for match in _WORD.finditer(text, unit.start, unit.end)]
        spaces = [-1, *(text.rfind(" ", a[1], b[0]) for a, b in pairwise(words))]
        start = end = cut = unit.start
        before = last = 0  # tokens from the start of the run to its last space, and from there to the last word
        for space, (word_start, word_end) in zip(spaces, words, strict=False):
            if space >= 0:
                before += last if space == end else self._count(cut, space)
                cut, last = space, self._count(space, word_end)
            else:
                last = self._count(cut, word_end)
            if start < end and before + last > limit:
                yield start, end
                start = cut = word_start
                before, last = 0, self._count(word_start, word_end)
            end = word_end
        yield start, unit.end

    def _halves(self, unit: _Unit) -> list[_Unit]:
        middle = (unit.start + unit.end) // 2
        if unit.tokens <= self._settings.max_tokens or middle == unit.start:
            return [unit]
        halves = self._counted("word", ((unit.start, middle), (middle, unit.end)))
        return [part for half in halves for part in self._halves(half)]

    def _piece(self, units: list[_Unit], path: tuple[str, ...], number: int) -> _Piece:
        start, end = units[0].start, units[-1].end
        tokens, last_end, has_table, touching = 0, -1, False, False
        for unit in units:
            tokens += unit.tokens
            has_table = has_table or unit.kind in _TABULAR
            touching = touching or unit.start == last_end
            last_end = unit.end
        # where two touch within a word the tokens of the whole are not those of its parts
        tokens = self._count(start, end) if touching else tokens - self._blank_tokens(start, end)
        return _Piece(start, end, tokens, path, has_table, number)

    def _blank_tokens(self, start: int, end: int) -> int:
        """What the blanks before a unit add to its tokens."""
        before = self._before(start)
        if before == start:
            return 0
        word_end = self._text.find(" ", start, end)
        word_end = end if word_end < 0 else word_end
        return self._count(before, word_end) - self._count(start, word_end)

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
        tokens = self._tokens_together(first, second)
        if tokens > self._settings.max_tokens:
            return None
        return _Piece(first.start, second.end, tokens, path, first.has_table or second.has_table, second.section)

    def _tokens_together(self, first: _Piece, second: _Piece) -> int:
        """The tokens of two pieces and the blanks between them: only words at the joint differ from those of each."""
        text = self._text
        cut = max(text.rfind(" ", first.start, first.end), first.start)
        resumed = text.find(" ", second.start, second.end)
        resumed = second.end if resumed < 0 else resumed
        joint, tail, head = self._count(cut, resumed), self._count(cut, first.end), self._count(second.start, resumed)
        return first.tokens - tail + joint - head + second.tokens


def _spans_of(blocks: Iterable[Block]) -> Iterator[tuple[int, int]]:
    return ((block.start, block.end) for block in blocks)


def _common_path(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...] | None:
    """The path two neighbours share; None when they do not stand under the same heading.

    The words between a heading and its first part go with that part, and keep its path.
    """
    if second[: len(first)] == first:
        return second
    return first[:-1] if first[:-1] == second[:-1] else None
