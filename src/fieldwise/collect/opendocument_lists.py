"""Styles and automatic numbers of OpenDocument files: what is a title, and the marks of lists and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from fieldwise.collect.archive import attribute, local_name
from fieldwise.collect.word_numbering import number_in_form

_FORMS = {"a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman", "1": "decimal"}
_OUTLINE = ""  # the numbers of headings, which belong to no list
_MAX_PARENTS = 20


class _Level(NamedTuple):
    form: str
    prefix: str
    suffix: str
    start: int
    shown_levels: int
    is_bullet: bool


class Styles:
    """The styles of a file: those in common and those of its content, which go before."""

    def __init__(self, *roots: Any) -> None:
        self._parents: dict[str, str] = {}
        self._hidden: set[str] = set()
        self._levels: dict[str, dict[int, _Level]] = {}
        for element in (e for root in roots if root is not None for e in root.iter("{*}style")):
            name = attribute(element, "name") or ""
            self._parents[name] = attribute(element, "parent-style-name") or ""
            properties = [*element.iterfind("{*}table-properties"), *element.iterfind("{*}drawing-page-properties")]
            if any(attribute(p, "display") == "false" or attribute(p, "visibility") == "hidden" for p in properties):
                self._hidden.add(name)
        for element in (
            e for root in roots if root is not None for e in root.iter("{*}list-style", "{*}outline-style")
        ):
            name = _OUTLINE if local_name(element) == "outline-style" else attribute(element, "name") or ""
            self._levels[name] = dict(_read_level(level) for level in element if attribute(level, "level"))

    def is_title(self, name: str | None) -> bool:
        """Tell whether a style is that of titles, or made from it."""
        for _ in range(_MAX_PARENTS):
            if name == "Title" or not name:
                return name == "Title"
            name = self._parents.get(name)
        return False

    def is_hidden(self, name: str | None) -> bool:
        """Tell whether what has this style, a sheet or a slide, is not shown."""
        return name in self._hidden

    def level(self, name: str, depth: int) -> _Level | None:
        """Return how a level of a list is marked; that of headings where the name is empty."""
        return self._levels.get(name, {}).get(depth)


class Numbers:
    """Counts the items of lists and the headings as a program does when it shows the file."""

    def __init__(self, styles: Styles) -> None:
        self._styles = styles
        self._counts: dict[str, dict[int, int]] = {}

    def begin(self, name: str, depth: int) -> None:
        """Begin a list, or one within an item: it counts anew."""
        self._forget(self._counts.setdefault(name, {}), depth)

    def item(self, name: str, depth: int, start: str | None = None) -> str:
        """Return the mark of the next item: "2.1" or "a." for numbers, "-" for all others."""
        level = self._styles.level(name, depth)
        return "-" if level is None or level.is_bullet else self._next(name, depth, level, start) or "-"

    def heading(self, depth: int) -> str:
        """Return the number of the next heading, or nothing."""
        level = self._styles.level(_OUTLINE, depth)
        return "" if level is None or level.is_bullet else self._next(_OUTLINE, depth, level, None)

    def _next(self, name: str, depth: int, level: _Level, start: str | None) -> str:
        counts = self._counts.setdefault(name, {})
        counts[depth] = int(start) if start and start.isdigit() else counts.get(depth, level.start - 1) + 1
        self._forget(counts, depth + 1)
        if not level.form:
            return ""
        shown = range(max(1, depth - level.shown_levels + 1), depth + 1)
        numbers = [text for n in shown if (text := self._number(name, n, counts))]
        mark = f"{level.prefix}{'.'.join(numbers)}{level.suffix}".strip()
        return mark.replace(")", ".") if re.fullmatch(r"\d+\)", mark) else mark

    def _number(self, name: str, depth: int, counts: dict[int, int]) -> str:
        level = self._styles.level(name, depth)
        if level is None or not level.form:
            return ""
        return number_in_form(counts.get(depth, level.start), _FORMS.get(level.form[:1], "decimal"))

    @staticmethod
    def _forget(counts: dict[int, int], depth: int) -> None:
        for deeper in [n for n in counts if n >= depth]:
            del counts[deeper]


def _read_level(element: Any) -> tuple[int, _Level]:
    is_bullet = local_name(element) in ("list-level-style-bullet", "list-level-style-image")
    level = _Level(
        (attribute(element, "num-format") or "").strip(),
        attribute(element, "num-prefix") or "",
        attribute(element, "num-suffix") or "",
        next(_whole(element, "start-value"), 1),
        next(_whole(element, "display-levels"), 1),
        is_bullet,
    )
    return next(_whole(element, "level"), 0), level


def _whole(element: Any, name: str) -> Iterator[int]:
    value = attribute(element, name)
    if value is not None and value.isdigit():
        yield min(int(value), 1_000_000)
