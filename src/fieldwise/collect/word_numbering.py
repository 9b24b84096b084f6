"""Automatic numbers of Word: the marks of lists and numbered headings, which stand nowhere in the text."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from fieldwise.collect.archive import attribute

_ROMAN = (
    (1000, "m"),
    (900, "cm"),
    (500, "d"),
    (400, "cd"),
    (100, "c"),
    (90, "xc"),
    (50, "l"),
    (40, "xl"),
    (10, "x"),
    (9, "ix"),
    (5, "v"),
    (4, "iv"),
    (1, "i"),
)


class _Level(NamedTuple):
    form: str
    pattern: str
    start: int


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.lstrip("-").isdigit() else otherwise


class Numbering:
    """Counts as Word does when it shows a document; `root` is numbering.xml or None."""

    def __init__(self, root: Any) -> None:
        abstract: dict[str, dict[int, _Level]] = {}
        self._lists: dict[str, str] = {}
        self._starts: dict[tuple[str, int], int] = {}
        for element in root.iter("{*}abstractNum") if root is not None else ():
            abstract[attribute(element, "abstractNumId") or ""] = {
                _whole(attribute(level, "ilvl"), 0): _read_level(level) for level in element.iter("{*}lvl")
            }
        for element in root.iter("{*}num") if root is not None else ():
            number = attribute(element, "numId") or ""
            self._lists[number] = attribute(element.find("{*}abstractNumId")) or ""
            for override in element.iter("{*}lvlOverride"):
                start = attribute(override.find("{*}startOverride"))
                if start is not None:
                    self._starts[number, _whole(attribute(override, "ilvl"), 0)] = _whole(start, 1)
        self._abstract = abstract
        self._counts: dict[str, dict[int, int]] = {}
        self._restarted: set[tuple[str, int]] = set()

    def mark(self, number: str, depth: int) -> str | None:
        """Return the mark of the next paragraph of a list: "-" for bullets, "2.1" or "a." for numbers, None for no list."""
        levels = self._abstract.get(self._lists.get(number, ""), {})
        level = levels.get(depth)
        if number == "0" or level is None or level.form == "none":
            return None
        if level.form == "bullet":
            return "-"
        counts = self._counts.setdefault(self._lists[number], {})
        start = self._starts.get((number, depth))
        if start is not None and (number, depth) not in self._restarted:
            self._restarted.add((number, depth))
            counts[depth] = start
        else:
            counts[depth] = counts.get(depth, level.start - 1) + 1
        for deeper in [n for n in counts if n > depth]:
            del counts[deeper]
        return self._render(level, levels, counts)

    def _render(self, level: _Level, levels: dict[int, _Level], counts: dict[int, int]) -> str:
        def figure(match: re.Match[str]) -> str:
            n = int(match[1]) - 1
            other = levels.get(n, level)
            return number_in_form(counts.get(n, other.start), other.form)

        mark = re.sub(r"%(\d)", figure, level.pattern).strip()
        return mark.replace(")", ".") if re.fullmatch(r"\d+\)", mark) else mark or "-"


def _read_level(element: Any) -> _Level:
    return _Level(
        attribute(element.find("{*}numFmt")) or "decimal",
        attribute(element.find("{*}lvlText")) or "",
        _whole(attribute(element.find("{*}start")), 1),
    )


def number_in_form(n: int, form: str) -> str:
    """A number in one of Word's forms.

    >>> number_in_form(4, "lowerRoman"), number_in_form(28, "upperLetter"), number_in_form(3, "decimalZero")
    ('iv', 'BB', '03')
    """
    if form in ("lowerLetter", "upperLetter") and n > 0:
        letters = chr(ord("a") + (n - 1) % 26) * ((n - 1) // 26 + 1)
        return letters.upper() if form == "upperLetter" else letters
    if form in ("lowerRoman", "upperRoman") and 0 < n < 4000:
        roman = ""
        for size, letters in _ROMAN:
            while n >= size:
                roman, n = roman + letters, n - size
        return roman.upper() if form == "upperRoman" else roman
    return f"{n:02d}" if form == "decimalZero" else str(n)
