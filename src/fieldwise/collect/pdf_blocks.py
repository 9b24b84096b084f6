"""Lines of a PDF to paragraphs, list items and headings, by spacing, size and weight."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fieldwise.collect.headings import heading_level
from fieldwise.collect.pdf_layout import Line

_BULLET = re.compile(r"[•◦▪●○■□‣\u2043◆◇➢➤❖✓✔\uf0b7\uf0a7\uf0d8]\s*(?=\S)")
_ITEM = re.compile(r"(?:-|\*|\u2013|\(?(?:\d{1,3}|[a-z]|[ivx]{1,4})[.)])\s+\S")
_SENTENCE_END = re.compile(r"[.!?:;…][\"'”\u2019)\]]*$")
_PARAGRAPH_GAP = 1.3  # times the usual distance of lines
_MAX_LEADING = 3.0  # double-spaced court papers have 2.3
_BIGGER = 1.1  # times the size of the body text
_MAX_HEADING_CHARS = 160
_MAX_HEADING_LINES = 3
_MAX_LEVEL = 6


@dataclass(frozen=True)
class Block:
    """Lines that belong together: a paragraph, a run of list items or a heading."""

    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """The lines as they stand, bullets evened out."""
        return "\n".join(
            _BULLET.sub("- ", line.text, count=1) if _BULLET.match(line.text) else line.text for line in self.lines
        )

    @property
    def one_line(self) -> str:
        """The lines joined by blanks."""
        return " ".join(line.text for line in self.lines)


def split_blocks(lines: Sequence[Line]) -> list[Block]:
    """Group the lines of a page, given in reading order, into blocks."""
    leading = _usual_leading(lines)
    right = max((line.x1 for line in lines), default=0.0)
    blocks: list[list[Line]] = []
    for line in lines:
        if blocks and not _begins_block(line, blocks[-1], leading, right):
            blocks[-1].append(line)
        else:
            blocks.append([line])
    return [Block(tuple(block)) for block in blocks]


def _usual_leading(lines: Sequence[Line]) -> float:
    """Distance of lines within paragraphs, in multiples of their size."""
    gaps = [
        (a.y - b.y) / b.size
        for a, b in pairwise(lines)
        if abs(a.size - b.size) < 0.5 and 0.8 < (a.y - b.y) / b.size < _MAX_LEADING
    ]
    # the lower half: on pages of short paragraphs the gaps between them would pass for the usual distance
    return statistics.median(sorted(gaps)[: len(gaps) // 2 + 1]) if gaps else 1.2


def _begins_block(line: Line, block: list[Line], leading: float, right: float) -> bool:
    before = block[-1]
    is_item = bool(_BULLET.match(line.text) or _ITEM.match(line.text))
    if abs(line.size - before.size) > 0.08 * before.size and not (is_item or line.size < before.size * 0.8):
        return True
    if line.is_bold != before.is_bold and len(block) == sum(b.is_bold == before.is_bold for b in block):
        return True
    gap = before.y - line.y
    if gap < 0:  # next column: the paragraph goes on unless it has ended
        return bool(_SENTENCE_END.search(before.text))
    if gap > _PARAGRAPH_GAP * leading * line.size:
        return not (
            is_item
            and gap < 2 * leading * line.size
            and (_BULLET.match(before.text) or _ITEM.match(before.text) or _in_item(block))
        )
    if is_item:
        return False
    return _ends_paragraph(line, before, right)


def _in_item(block: list[Line]) -> bool:
    return any(_BULLET.match(b.text) or _ITEM.match(b.text) for b in block)


def _ends_paragraph(line: Line, before: Line, right: float) -> bool:
    """An indented line, or one after a short line, opens a paragraph where the sentence before has ended."""
    if not _SENTENCE_END.search(before.text):
        return False
    indented = line.x0 > before.x0 + 0.8 * line.size and not _BULLET.match(before.text)
    outdented = line.x0 < before.x0 - 0.8 * line.size and bool(_BULLET.match(before.text) or _ITEM.match(before.text))
    return indented or outdented or (before.x1 < right - 0.25 * (right - before.x0) and line.text[0].isupper())


# ---------------------------------------------------------------- headings


@dataclass(frozen=True)
class HeadingRules:
    """What counts as a heading in one document."""

    body_size: float
    body_is_bold: bool
    sizes: tuple[float, ...]
    running: frozenset[str]

    def level(self, block: Block, follower: Block | None) -> int | None:
        """Return the level of a block that is a heading, or None."""
        if not self._may_be(block) or _is_running(block, self.running):
            return None
        size = _rounded(block.lines[0].size)
        if size in self.sizes:
            return min(self.sizes.index(size) + 1, _MAX_LEVEL)
        if (
            not self.body_is_bold
            and all(line.is_bold for line in block.lines)
            and len(block.lines) <= 2
            and not _SENTENCE_END.search(block.one_line)
        ):
            return min(len(self.sizes) + 1, _MAX_LEVEL)
        if (
            not self.sizes
            and len(block.lines) == 1
            and (follower is None or heading_level(follower.lines[0].text) is None)
        ):
            return heading_level(block.one_line)
        return None

    def _may_be(self, block: Block) -> bool:
        return _is_short(block) and not _BULLET.match(block.lines[0].text)


def find_heading_rules(pages: Sequence[Sequence[Block]]) -> HeadingRules:
    """Learn from all pages what the body text looks like and which larger sizes head it."""
    chars: Counter[tuple[float, bool]] = Counter()
    seen: Counter[str] = Counter()
    for blocks in pages:
        short = [block for block in blocks if _is_short(block)]
        seen.update({_shape(text) for b in short for text in (b.one_line, *(line.text for line in b.lines))})
        for block in blocks:
            for line in block.lines:
                chars[_rounded(line.size), line.is_bold] += len(line.text)
    (body_size, body_is_bold), _ = chars.most_common(1)[0] if chars else ((10.0, False), 0)
    running = frozenset(shape for shape, count in seen.items() if count >= 3 and count > len(pages) / 2)
    sizes: Counter[float] = Counter()
    for blocks in pages:
        for block in blocks:
            size = _rounded(block.lines[0].size)
            if size >= _BIGGER * body_size and _is_short(block) and not _is_running(block, running):
                sizes[size] += 1
    return HeadingRules(body_size, body_is_bold, tuple(sorted(sizes, reverse=True)), running)


def _is_short(block: Block) -> bool:
    text = block.one_line
    return (
        len(block.lines) <= _MAX_HEADING_LINES
        and len(text) <= _MAX_HEADING_CHARS
        and sum(c.isalpha() for c in text) >= 2
    )


def _is_running(block: Block, running: frozenset[str]) -> bool:
    """By the whole or line by line: the lines of a header fall into one block on this page, into two on the next."""
    return _shape(block.one_line) in running or all(_shape(line.text) in running for line in block.lines)


def _rounded(size: float) -> float:
    return round(size * 2) / 2


def _shape(text: str) -> str:
    return re.sub(r"\d+", "#", text.casefold())
