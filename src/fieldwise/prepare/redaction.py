"""What is done about personal data: reported, masked, replaced by a stand-in, or the document dropped.

Replacements are edits, so pages, headings and tables move along. Nothing here returns the words that were found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.prepare.edits import Edit, apply_edits
from fieldwise.prepare.personal_data import KINDS, Detector, find_personal_data
from fieldwise.prepare.reading import Finding
from fieldwise.records import Document

_STAND_IN_NAMES = {
    "name": "Person", "email": "Email", "phone": "Phone", "address": "Address", "date_of_birth": "Birth date", "ssn": "SSN",
    "mrn": "Record", "npi": "Provider", "card": "Card", "iban": "Account", "ip_address": "IP", "url": "Link",
    "licence": "Licence", "identifier": "Identifier",
}  # fmt: skip
_MAX_ROUNDS = 4  # a replacement may lay bare a finding that another one hid; two rounds have always been enough


class KindCount(NamedTuple):
    """What a document holds of one kind: how often, on which pages, by which rules, and by whose."""

    findings: int
    pages: tuple[int, ...]
    rules: dict[str, int]
    found_by: dict[str, int]


class Redacted(NamedTuple):
    """A document after its personal data was treated, and what was found, by kind."""

    document: Document
    found: dict[str, KindCount]
    stand_ins: tuple[str, ...] = ()


class StandIns:
    """Gives the same value the same stand-in: numbers in order of first appearance, so that no secret is needed."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}

    def of(self, kind: str, value: str) -> str:
        """Return the stand-in of a value, such as "Person 1"; never a number that could be real."""
        numbers = self._numbers[kind]
        number = numbers.setdefault(_same(kind, value), len(numbers) + 1)
        return f"{_STAND_IN_NAMES[kind]} {number}"


def _same(kind: str, value: str) -> str:
    """The value without what may be written differently: blanks, signs between digits, capitals."""
    if kind in ("name", "address", "email", "url"):
        return " ".join(value.casefold().split())
    return "".join(c for c in value.casefold() if c.isalnum())


def mask_of(kind: str) -> str:
    """Return what stands in place of a masked finding.

    >>> mask_of("date_of_birth")
    '[DATE OF BIRTH]'
    """
    return f"[{kind.replace('_', ' ').upper()}]"


def redact(
    document: Document, actions: Mapping[str, str], stand_ins: StandIns, beside: Detector | None = None
) -> Redacted:
    """Return the document with its personal data treated as the actions of each kind say; title and headings too.

    `beside` finds personal data besides the detectors of this project. A kind that drops the document is masked here, so that nothing remembered about a dropped document holds it.
    """
    places: list[_Place] = []
    replaced: dict[str, str] = {}
    for round_number in range(_MAX_ROUNDS):
        found = find_personal_data(document.text, actions, beside)
        acting = [f for f in found if actions[f.kind] != "report"]
        noted = found if round_number == 0 else acting
        places += [_Place(f.kind, document.page_at(f.start), f.rule, f.found_by) for f in noted]
        if not acting:
            break
        edits = list(_edits(document.text, acting, actions, stand_ins))
        replaced |= {document.text[e.start : e.end]: e.text for e in edits}
        document = apply_edits(document, edits)
    title, of_title = _redact_title(document.title, actions, stand_ins, replaced, beside)
    places += [
        _Place(f.kind, None, "title", f.found_by)
        for f in of_title
        if document.title[f.start : f.end] not in document.text
    ]
    document = document.model_copy(update={"title": title})
    return Redacted(document, _counted(places), tuple(replaced.values()))


def _edits(text: str, acting: list[Finding], actions: Mapping[str, str], stand_ins: StandIns) -> Iterator[Edit]:
    whole = _whole_names(text, acting)
    for finding in acting:
        value = text[finding.start : finding.end]
        if actions[finding.kind] == "pseudonymise":
            person = whole.get(value, value) if finding.kind == "name" else value
            yield Edit(finding.start, finding.end, stand_ins.of(finding.kind, person))
        else:
            yield Edit(finding.start, finding.end, mask_of(finding.kind))


def _whole_names(text: str, found: list[Finding]) -> dict[str, str]:
    """The whole name for a surname alone, where the document gives one only: both are one person."""
    names = {text[f.start : f.end] for f in found if f.kind == "name"}
    by_surname: dict[str, set[str]] = {}
    for name in names:
        if " " in name:
            by_surname.setdefault(name.rpartition(" ")[2], set()).add(name)
    return {surname: next(iter(whole)) for surname, whole in by_surname.items() if len(whole) == 1}


def _redact_title(
    title: str,
    actions: Mapping[str, str],
    stand_ins: StandIns,
    replaced: Mapping[str, str],
    beside: Detector | None,
) -> tuple[str, list[Finding]]:
    """The title without what was taken out of the text, and what else is found in it."""
    found = find_personal_data(title, actions, beside)
    for value in sorted((v for v in replaced if v in title), key=len, reverse=True):
        title = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", lambda _, value=value: replaced[value], title)  # type: ignore[misc]
    acting = [f for f in find_personal_data(title, actions, beside) if actions[f.kind] != "report"]
    for edit in sorted(_edits(title, acting, actions, stand_ins), reverse=True):
        title = title[: edit.start] + edit.text + title[edit.end :]
    return title, found


class _Place(NamedTuple):
    """A finding as it is counted."""

    kind: str
    page: int | None
    rule: str
    found_by: str


def _counted(places: list[_Place]) -> dict[str, KindCount]:
    counted: dict[str, KindCount] = {}
    for kind in KINDS:
        own = [place for place in places if place.kind == kind]
        if own:
            counted[kind] = KindCount(
                len(own),
                tuple(sorted({place.page for place in own if place.page is not None})),
                dict(sorted(Counter(place.rule for place in own).items())),
                dict(sorted(Counter(place.found_by for place in own).items())),
            )
    return counted


# ---------------------------------------------------------------- the leak report


class LeakReport:
    """Personal data by document and in total: kinds, counts, pages, actions; never the words themselves.

    `names_finders` adds by whom each was found, for runs in which another looks beside the detectors of this project.
    """

    def __init__(self, actions: Mapping[str, str], *, names_finders: bool = False) -> None:
        self._actions = dict(actions)
        self._names_finders = names_finders
        self._found_by: dict[str, Counter[str]] = {}
        self._documents: list[dict[str, JsonValue]] = []
        self._totals: dict[str, tuple[int, int]] = {}

    def add(self, document: Document, found: Mapping[str, KindCount]) -> None:
        """Count what was found in a document."""
        for kind, count in found.items():
            findings, documents = self._totals.get(kind, (0, 0))
            self._totals[kind] = (findings + count.findings, documents + 1)
            self._found_by.setdefault(kind, Counter()).update(count.found_by)
        if found:
            by_kind: dict[str, JsonValue] = {
                kind: {
                    "count": count.findings,
                    "pages": list(count.pages),
                    "rules": dict(count.rules),
                    "action": self._actions[kind],
                    **self._finders(count.found_by),
                }
                for kind, count in found.items()
            }
            self._documents.append(
                {
                    "document": document.id,
                    "uri": document.source.uri,
                    "dropped": any(self._actions[kind] == "drop" for kind in found),
                    "findings": by_kind,
                }
            )

    def to_json(self) -> dict[str, JsonValue]:
        """Return the report as it stands in `personal_data.json`."""
        totals: dict[str, JsonValue] = {
            kind: {
                "count": n,
                "documents": documents,
                "action": self._actions[kind],
                **self._finders(self._found_by[kind]),
            }
            for kind, (n, documents) in sorted(self._totals.items())
        }
        return {"total": totals, "documents": [*self._documents]}

    def _finders(self, found_by: Mapping[str, int]) -> dict[str, JsonValue]:
        return {"found_by": dict(sorted(found_by.items()))} if self._names_finders else {}

    def facts(self) -> dict[str, JsonValue]:
        """Return the counts by kind, and how many documents hold any."""
        return {"documents": len(self._documents), "findings": {k: n for k, (n, _) in sorted(self._totals.items())}}

    def summary(self, documents: int) -> str:
        """Return one line for the person who watches."""
        if not self._totals:
            return f"personal data: none found in {documents} documents"
        parts = [f"{n} {kind} ({_PAST[self._actions[kind]]})" for kind, (n, _) in sorted(self._totals.items())]
        line = f"personal data: {', '.join(parts)} in {len(self._documents)} of {documents} documents"
        if not self._names_finders:
            return line
        by = sum(self._found_by.values(), Counter())
        return f"{line}; {by['both']} of them found by presidio as well, {by['presidio']} by presidio alone"


_PAST = {"report": "reported", "mask": "masked", "pseudonymise": "pseudonymised", "drop": "documents dropped"}
