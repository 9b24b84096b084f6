"""Cleaning: each pass looks at a document and returns edits; the spans move along.

The passes run in the order of PASSES. A new one is a function and a line there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fieldwise.extras import require
from fieldwise.prepare import removals
from fieldwise.prepare.edits import Edit, apply_edits
from fieldwise.prepare.line_ends import join_lines
from fieldwise.prepare.running_lines import page_number_lines, repeated_lines
from fieldwise.prepare.settings import CleanSettings
from fieldwise.records import Document

_BLANKS = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_INVISIBLE = re.compile("[\x80-\x9f\u200b\u2060\ufeff]+|\u00ad(?!\n)")
_LIGATURES = re.compile("[\ufb00-\ufb06]")
# the looks behind keep long runs of blanks from being tried from each of their blanks
_LEADERS = re.compile(r"(?:(?<![ \t])[ \t]+)?(?:[.·…]{5,}|(?:[ \t][.·…]){4,}|…{3,})[ \t]*")
_RULING = re.compile(r"_{5,}")
_INNER_BLANKS = re.compile(r"(?<=\S)(?:[ \t]{2,}|\t)(?=\S)")
_TRAILING_BLANKS = re.compile(r"(?<![ \t])[ \t]+(?=\n|\Z)")
_BLANK_LINES = re.compile(r"\n{3,}")
_OUTER = re.compile(r"\A\s+|(?<!\s)\s+\Z")


class Cleaned(NamedTuple):
    """A cleaned document and what each pass did to it."""

    document: Document
    passes: dict[str, PassCount]


class PassCount(NamedTuple):
    """Places a pass changed and by how many characters it shortened the text."""

    places: int
    characters: int


def clean_document(document: Document, settings: CleanSettings) -> Cleaned:
    """Return the document with everything taken out that a reader of the page would not read."""
    counts: dict[str, PassCount] = {}
    for name, find in PASSES.items():
        if not getattr(settings, name, True):
            continue
        before = len(document.text)
        edits = find(document) if name != "line_ends" else join_lines(document, joins_words=settings.hyphenation)
        if edits:
            document = apply_edits(document, edits)
            counts[name] = PassCount(len(edits), before - len(document.text))
    return Cleaned(document, counts)


def mojibake(document: Document) -> list[Edit]:
    """Text decoded with the wrong table, and joined letters that fonts use."""
    if document.text.isascii():
        return []
    ftfy: Any = require("ftfy", extra="documents", to="repair wrongly decoded text")
    edits = []
    at = 0
    for line in document.text.split("\n"):
        if not line.isascii():
            repaired = _LIGATURES.sub(lambda m: ftfy.fix_text(m[0]), ftfy.fix_encoding(line))
            if repaired != line and "\n" not in repaired:
                edits.append(_smallest(at, line, repaired))
        at += len(line) + 1
    return edits


def odd_blanks(document: Document) -> list[Edit]:
    """Blanks of other widths become spaces, invisible characters go: after the repair, which needs them as evidence."""
    if document.text.isascii():
        return []
    blanks = [Edit(m.start(), m.end(), " ") for m in _BLANKS.finditer(document.text)]
    return blanks + [Edit(m.start(), m.end(), "") for m in _INVISIBLE.finditer(document.text)]


def leaders(document: Document) -> list[Edit]:
    """Dots that lead from a title to its page number, and long ruled lines."""
    found = [Edit(m.start(), m.end(), " ") for m in _outside_tables(document, _LEADERS)]
    return found + [Edit(m.start(), m.end(), "____") for m in _outside_tables(document, _RULING)]


def blanks(document: Document) -> list[Edit]:
    """Runs of blanks and of empty lines."""
    found = [Edit(m.start(), m.end(), " ") for m in _outside_tables(document, _INNER_BLANKS)]
    return found + [Edit(m.start(), m.end(), "") for m in _outside_tables(document, _TRAILING_BLANKS)]


def blank_lines(document: Document) -> list[Edit]:
    """More than one empty line in a row, and blanks around the whole."""
    outer = [Edit(m.start(), m.end(), "") for m in _OUTER.finditer(document.text)]
    first = outer[0].end if outer and outer[0].start == 0 else 0
    last = outer[-1].start if outer and outer[-1].end == len(document.text) else len(document.text)
    return outer + [
        Edit(m.start(), m.end(), "\n\n")
        for m in _BLANK_LINES.finditer(document.text)
        if first <= m.start() and m.end() <= last
    ]


def _outside_tables(document: Document, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    at = 0
    for start, end in [*((t.start, t.end) for t in document.tables), (len(document.text), len(document.text))]:
        yield from pattern.finditer(document.text, at, start)
        at = max(at, end)


def _smallest(start: int, old: str, new: str) -> Edit:
    """The edit without what both texts have in common at their ends."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return Edit(start + head, start + len(old) - tail, new[head : len(new) - tail])


PASSES: dict[str, Callable[[Document], list[Edit]]] = {
    "mojibake": mojibake,
    "odd_blanks": odd_blanks,
    "html_entities": removals.html_entities,
    "image_tags": removals.image_tags,
    "template_tags": removals.template_tags,
    "urls": removals.urls,
    "emails": removals.emails,
    "special_characters": removals.special_characters,
    "boilerplate": removals.boilerplate,
    "repeated_lines": repeated_lines,
    "page_numbers": page_number_lines,
    "leaders": leaders,
    "blanks": blanks,
    "blank_lines": blank_lines,
    "line_ends": join_lines,
}
