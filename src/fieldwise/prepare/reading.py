"""A text as the detectors of personal data read it: runs of digits, words found fast, tables with their labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Literal, NamedTuple

# a run starts at a digit, which the regex engine finds far faster than a choice of signs
_NUMBER = re.compile(r"\d[\d ().\-/\u2010-\u2013]*\d", re.ASCII)
_TABLE = re.compile(r"^\|[^\n]*\n\|[ :|\-]+\|[ ]*\n(?:\|[^\n]*(?:\n|\Z))+", re.MULTILINE)
_CELL = re.compile(r"\|((?:[^|\n\\]|\\.)*)(?=\|)")
_MIN_RUN_CHARS = 6
_AROUND_WORDS = ".,;:!?()[]{}\"'“”‘’*_|"


class Finding(NamedTuple):
    """Personal data in a text: what it is, where it stands (code points), the rule that found it, and whose rule."""

    kind: str
    start: int
    end: int
    rule: str
    found_by: Literal["fieldwise", "presidio", "both"] = "fieldwise"


class Run(NamedTuple):
    """Digits with blanks and signs between them, as they stand in one line."""

    start: int
    end: int
    text: str


class Cell(NamedTuple):
    """The content of a table's cell and what labels it: the head of its column or, with two columns, the cell before."""

    labels: tuple[str, ...]
    start: int
    end: int


class Reading:
    """One text, looked at by many detectors; what several need is found once."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def lower(self) -> str:
        """The text in lower case, character by character, so that offsets stay."""
        lowered = self.text.lower()
        if len(lowered) == len(self.text):
            return lowered
        return "".join(low if len(low := c.lower()) == 1 else c for c in self.text)

    @cached_property
    def runs(self) -> list[Run]:
        """Every run of digits that is long enough to be an identifier."""
        return [
            Run(m.start(), m.end(), m[0]) for m in _NUMBER.finditer(self.text) if m.end() - m.start() >= _MIN_RUN_CHARS
        ]

    def places(self, word: str, *, any_case: bool = True) -> Iterator[int]:
        """Yield where a word ends in the text; it begins as a word does, and it is not the inside of a mask."""
        text = self.lower if any_case else self.text
        at = text.find(word)
        while at >= 0:
            end = at + len(word)
            before = text[at - 1] if at else " "
            if not (before.isalnum() or before == "[") and not (word[-1].isalnum() and text[end : end + 1].isalnum()):
                yield end
            at = text.find(word, end)

    def before(self, start: int, chars: int = 32) -> str:
        """Return what stands before a place, in lower case: on its line, or on the line above if it begins one."""
        window = self.lower[max(0, start - chars) : start]
        line = window.rpartition("\n")[2]
        return line if line.strip() else window

    @cached_property
    def _words(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for word, count in Counter(self.text.split()).items():
            if word[-1:].islower() or not word[-1:].isalnum():
                counts[word.strip(_AROUND_WORDS)] += count
        return counts

    def is_common(self, word: str, *, times: int = 1) -> bool:
        """Whether the text also spells a word in lower case, which names are not; an e-mail address is no spelling."""
        return self._words[word.lower()] >= times

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells of all tables, those of the header row apart."""
        if "| --" not in self.text and "|--" not in self.text and "| :-" not in self.text:
            return []
        return [cell for table in _TABLE.finditer(self.text) for cell in _cells(self.lower, table.start(), table.end())]


def _cells(lower: str, start: int, end: int) -> Iterator[Cell]:
    rows: list[list[tuple[int, int]]] = []
    at = start
    for line in lower[start:end].split("\n"):
        rows.append([_trimmed(lower, m.start(1), m.end(1)) for m in _CELL.finditer(lower, at, at + len(line))])
        at += len(line) + 1
    heads = [lower[a:z] for a, z in rows[0]]
    if len(heads) == 2:  # a form laid out as a table: its first row is as good as the others
        yield Cell((heads[0],), *rows[0][1])
    for row in rows[2:]:
        for column, (a, z) in enumerate(row):
            beside = [lower[slice(*row[column - 1])]] if len(row) == 2 and column == 1 else []
            yield Cell((*heads[column : column + 1], *beside), a, z)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
