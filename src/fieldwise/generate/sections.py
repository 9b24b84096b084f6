"""What a chunk is built of: heading, whole sentences, lists with the line that leads them in, tables, and lines "label: value"."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from fieldwise.generate.english import sentences
from fieldwise.records import Chunk

_ITEM = re.compile(r"^(?:[-*•]|(\d+)[.)]|\(([a-z0-9])\))\s+(.+)$")
_LABELLED = re.compile(r"^(?:[-*•] +)?\**([A-Z][\w'/() -]{1,38}?)\**:\**\s+(\S.{0,100})$")
_RULED = re.compile(r"[|:\s-]+")
_FIELDS = frozenset(["field", "item", "detail", "property", "label", "information"])
_EMPTY = frozenset(["", "-", "--", "—", "–", "n/a", "N/A", "none"])
_MARKUP = re.compile(r"\[!\w+\]|\{[%{]|<[/a-z]|https?://|\]\(|`|&#|\*\*|__|\s--\s|/s/|\s-\s\S.*\s-\s")
_RUN_IN = re.compile(r"^(.{8,}?)[ :.]+\1\b", re.I)  # a heading that was joined to the sentence below it
_JOINED = re.compile(
    r"[a-z\d’'] (?:You|We|They|If|To|This|These|Your|Our|For|When|After|Before)(?:['’]\w+)? |\b(?:below|above) [A-Z]"
)  # likewise
_SHOUTED = re.compile(r"(?:[A-Z&.,]{2,}[ &]*){3,}")
_CUT = re.compile(r"\b(?:[A-Z]\.)+$|\b(?:Inc|Ltd|Corp|Co|No|Nos|vs|Dr|Mr|Mrs|Ms|St|Sec|Art|Fig|approx|incl)\.$")
_WORDS = re.compile(r"[A-Za-z]{2,}")


class Listing(NamedTuple):
    """The items of a list with the line that leads them in."""

    lead: str
    items: tuple[str, ...]
    is_numbered: bool


class Table(NamedTuple):
    """A table with a header: the cells of each row and the line they stand on."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]

    @property
    def is_form(self) -> bool:
        """Whether it names fields and what is entered in them, so that no two rows are alike."""
        return len(self.header) == 2 and self.header[0].casefold() in _FIELDS


class Fact(NamedTuple):
    """A label with its value, and the line that says so."""

    label: str
    value: str
    line: str


class Section(NamedTuple):
    """A chunk taken apart."""

    heading: str
    sentences: tuple[str, ...]
    listings: tuple[Listing, ...]
    tables: tuple[Table, ...]
    facts: tuple[Fact, ...]
    is_prose: bool
    """Nothing but the heading and whole sentences."""
    opens_whole: bool
    """It begins with a whole sentence."""


@lru_cache(maxsize=4096)
def read_section(chunk: Chunk) -> Section:
    """Take a chunk apart; what is cut, broken or marked up is in none of the parts."""
    lines = [line.strip() for line in chunk.text.splitlines()]
    names = {h.strip("# ").casefold() for h in (chunk.title, *chunk.heading_path)}
    body = [line for line in lines if line and line.strip("# ").casefold() not in names]
    prose = [line for line in body if not line.startswith(("|", "#")) and not _ITEM.match(line)]
    whole = [s.text for line in prose for s in sentences(line)]
    cut = {s for before, s in pairwise(whole) if _CUT.search(before)}  # its beginning stands before the full stop
    kept = tuple(dict.fromkeys(s for s in whole if is_whole(s) and s not in cut))
    is_prose = len(prose) == len(body) and len(kept) == len(whole)
    facts = _pairs_of_cells(body) if any(line.startswith("|") for line in body) else _facts(body)
    opens_whole = bool(whole) and bool(body) and prose[:1] == body[:1] and is_whole(whole[0])
    return Section(_heading(chunk), kept, _listings(lines, names), _tables(body), facts, is_prose, opens_whole)


def is_whole(sentence: str) -> bool:
    """Tell whether a piece of text is a sentence that can be shown alone.

    >>> is_whole("The log is kept for 14 days."), is_whole("or the clerk, who"), is_whole("12,000")
    (True, False, False)
    """
    return bool(
        re.match(r"[\"“']?[A-Z0-9]", sentence)
        and re.search(r"[.!][\"”')]*$", sentence)
        and 4 <= len(sentence.split()) <= 60
        and not _MARKUP.search(sentence)
        and not _RUN_IN.match(sentence)
        and not _CUT.search(sentence)
        and sentence.count("(") == sentence.count(")")
        and sentence.count('"') % 2 == 0
        and len(_WORDS.findall(sentence)) >= 0.6 * len(sentence.split())
        and not re.search(r"\b(?:following|as follows|below|above|e\.g|i\.e|see (?:figure|table|note|section)s?)\b|\.\.\.|…", sentence, re.I)
    )  # fmt: skip


def depends(sentence: str) -> bool:
    """Tell whether a sentence leans on the one before it.

    >>> depends("It is kept there."), depends("The log is kept there.")
    (True, False)
    """
    return bool(
        re.match(
            r"(?:It|They|This|That|These|Those|He|She|His|Her|Its|Their|Such|Both|Neither|Either|Also|However|But|And|So|Or|Then|Thus|Therefore|Otherwise|Instead|Meanwhile|Additionally|Furthermore|Moreover|In addition|For example|For instance|As a result|On the other hand|Similarly|Likewise|Here|There|Yet|Still|Again|Another|Other|Others|The (?:same|latter|former|other)|In (?:this|that|these|those|such)|To do (?:so|this)|If (?:so|not)|One of (?:these|them)|Some of (?:these|them)|Most of (?:these|them)|All of (?:these|them)|Which|Who)\b",
            sentence,
        )
        or re.search(r"\b(?:this|that|these|those|such) (?:\w+ly )?(?:case|means|is|are|was|were|can|may|will|document|\w+ing)\b", sentence.split(",")[0])
    )  # fmt: skip


def _heading(chunk: Chunk) -> str:
    return (chunk.heading_path[-1] if chunk.heading_path else chunk.title).strip("#* ")


def _listings(lines: list[str], names: set[str]) -> tuple[Listing, ...]:
    found: list[Listing] = []
    n = 0
    while n < len(lines):
        matches = []
        m = n + 1
        while m < len(lines) and (not lines[m] or _ITEM.match(lines[m])):
            if lines[m]:
                matches.append(_ITEM.match(lines[m]))
            m += 1
        lead = lines[n]
        items = tuple(match.group(3).strip() for match in matches if match)
        is_last = m >= len(lines)  # a list at the end of a chunk may go on in the next one
        if len(items) >= 2 and lead and not _ITEM.match(lead) and not lead.startswith("|") and lead.casefold() not in names:  # fmt: skip
            numbers = [match.group(1) for match in matches if match]
            in_order = numbers == [str(k) for k in range(1, len(numbers) + 1)]
            plain = all(not _MARKUP.search(item) and len(item.split()) <= 40 for item in items)
            if lead.endswith(":") and plain and (in_order or not any(numbers)) and not (is_last and _is_cut(items[-1])):
                head = sentences(lead)[-1].text
                if not _JOINED.search(head):
                    found.append(Listing(head.rstrip(":").strip(), items, in_order))
        n = m
    return tuple(found)


def _is_cut(item: str) -> bool:
    return bool(re.search(r"(?:,|;|\b(?:and|or|the|a|an|of|to|for|with|in|if|they|that|which))$", item))


def _tables(lines: list[str]) -> tuple[Table, ...]:
    found: list[Table] = []
    block: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            block.append(line)
            continue
        if (table := _table(block)) is not None:
            found.append(table)
        block = []
    return tuple(found)


def _table(block: list[str]) -> Table | None:
    if len(block) < 4 or not _RULED.fullmatch(block[1]):
        return None
    header = _cells(block[0])
    if len(header) < 2 or not all(_WORDS.search(h) or re.fullmatch(r"\d{4}", h) for h in header[1:]):
        return None
    if len({h.casefold() for h in header}) < len(header) or any(
        h.endswith(",") or _SHOUTED.fullmatch(h) for h in header
    ):
        return None
    rows, kept = [], []
    for line in block[2:]:
        cells = _cells(line)
        if len(cells) == len(header) and _WORDS.search(cells[0]) and not any(_MARKUP.search(c) for c in cells):
            rows.append(cells)
            kept.append(line)
    names = [row[0].casefold() for row in rows]
    return Table(header, tuple(rows), tuple(kept)) if len(rows) >= 2 and len(set(names)) == len(names) else None


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|"))


def is_value(cell: str) -> bool:
    """Tell whether a cell says anything."""
    return cell not in _EMPTY and len(cell) <= 100


def _pairs_of_cells(lines: list[str]) -> tuple[Fact, ...]:
    """The rows of a form: two cells each, and no line that makes the first one a header."""
    if not all(line.startswith("|") for line in lines) or any(_RULED.fullmatch(line) for line in lines):
        return ()
    rows = [(_cells(line), line) for line in lines]
    if not all(len(cells) == 2 for cells, _ in rows):
        return ()
    found = [Fact(cells[0], cells[1], line) for cells, line in rows if _WORDS.search(cells[0]) and is_value(cells[1])]
    short = [f for f in found if len(f.label.split()) <= 6 and len(f.value.split()) <= 14]
    labels = [f.label.casefold() for f in short]
    return tuple(short) if len(short) >= 2 and len(set(labels)) == len(labels) else ()


def _facts(lines: list[str]) -> tuple[Fact, ...]:
    found = [Fact(m.group(1).strip(), m.group(2).strip(" ."), line) for line in lines if (m := _LABELLED.match(line)) and not _MARKUP.search(line)]  # fmt: skip
    short = [f for f in found if len(f.label.split()) <= 5 and len(f.value.split()) <= 14]
    labels = [f.label.casefold() for f in short]
    return tuple(short) if len(short) >= 2 and len(set(labels)) == len(labels) else ()
