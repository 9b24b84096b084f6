"""Personal data in a text: what kinds there are, who finds them, and which of two findings counts where they overlap.

A detector takes a Reading and yields findings. A new one, a model included, is a function and its line in DETECTORS.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping

from fieldwise.prepare import identifiers, names
from fieldwise.prepare.reading import Finding, Reading

Detector = Callable[[Reading], Iterable[Finding]]
DETECTORS: dict[str, Detector] = {
    "cards": identifiers.cards,
    "ibans": identifiers.ibans,
    "ssns": identifiers.ssns,
    "npis": identifiers.npis,
    "mrns": identifiers.mrns,
    "licences": identifiers.licences,
    "birth_dates": identifiers.birth_dates,
    "emails": identifiers.emails,
    "ip_addresses": identifiers.ip_addresses,
    "phones": identifiers.phones,
    "urls": identifiers.urls,
    **{f"{kind}_columns": identifiers.in_column(kind) for kind in identifiers.COLUMN_KINDS},
    "addresses": names.addresses,
    "titled_names": names.titled_names,
    "labelled_names": names.labelled_names,
    "known_names": names.known_names,
    "signing_names": names.signing_names,
    "role_names": names.role_names,
}

KINDS = (
    "card", "iban", "ssn", "npi", "mrn", "licence", "identifier", "date_of_birth", "email", "ip_address", "phone", "url", "address", "name"
)  # fmt: skip
"""Most specific first: of two findings of the same length the earlier kind counts."""

_SEVERITY = {"drop": 0, "mask": 1, "pseudonymise": 2, "report": 3}


def find_personal_data(
    text: str, actions: Mapping[str, str] | None = None, beside: Detector | None = None
) -> list[Finding]:
    """Return the findings of a text in order; none overlaps another.

    Where findings overlap the longest counts, then the most specific. A kind that is only reported never hides one
    that is taken out, and of those taken out nothing is left over: their spans are joined. Findings of a detector
    `beside` those of this project are merged with theirs by kind: see `_merged`.

    >>> [(f.kind, f.rule) for f in find_personal_data("Mail jane@example.org, SSN 536-22-1234.")]
    [('email', 'email'), ('ssn', 'ssn_shape')]
    """
    reading = Reading(text)
    found = [finding for detect in DETECTORS.values() for finding in detect(reading)]
    found += names.repeated_names(reading, found)
    acts = actions or {}
    if beside is not None:
        found = _merged(found, list(beside(reading)), acts)
    acting = _joined([f for f in found if acts.get(f.kind, "report") != "report"], acts)
    reported = [f for f in found if acts.get(f.kind, "report") == "report"]
    return sorted(_apart(reported, acting), key=lambda f: f.start)


def _merged(own: list[Finding], others: list[Finding], actions: Mapping[str, str]) -> list[Finding]:
    """Findings of two sources as one list: what both found once, and where kinds differ the more specific one.

    What is only reported makes way; what is taken out stays in any case, so that nothing of it is left over.
    """
    own = sorted(own, key=lambda f: (f.start, f.end))
    longest = max((f.end - f.start for f in own), default=0)
    dropped: set[int] = set()
    added: list[Finding] = []
    for other in others:
        first = bisect_left(own, other.start - longest, key=lambda f: f.start)
        last = bisect_left(own, other.end, key=lambda f: f.start)
        overlapping = [n for n in range(first, last) if own[n].end > other.start]
        same = [n for n in overlapping if own[n].kind == other.kind]
        for n in same:
            own[n] = own[n]._replace(found_by="both")
        is_taken_out = actions.get(other.kind, "report") != "report"
        if same:
            covered = any(own[n].start <= other.start and other.end <= own[n].end for n in same)
            if not covered:
                added.append(other._replace(found_by="both"))
        elif all(KINDS.index(other.kind) < KINDS.index(own[n].kind) for n in overlapping):
            dropped.update(n for n in overlapping if actions.get(own[n].kind, "report") == "report")
            added.append(other)
        elif is_taken_out:
            added.append(other)
    return [finding for n, finding in enumerate(own) if n not in dropped] + added


def _rank(finding: Finding) -> tuple[int, int, int]:
    return finding.start - finding.end, KINDS.index(finding.kind), finding.start


def _joined(found: list[Finding], actions: Mapping[str, str]) -> list[Finding]:
    """Findings that overlap as one, of the kind that is treated hardest, then of the longest."""
    clusters: list[list[Finding]] = []
    end = -1
    for finding in sorted(found, key=lambda f: (f.start, f.end)):
        if finding.start < end:
            clusters[-1].append(finding)
        else:
            clusters.append([finding])
        end = max(end, finding.end)
    return [
        min(c, key=lambda f: (_SEVERITY[actions[f.kind]], *_rank(f)))._replace(
            start=c[0].start, end=max(f.end for f in c)
        )
        for c in clusters
    ]


def _apart(found: Iterable[Finding], taken: list[Finding]) -> Iterator[Finding]:
    """The findings already taken, and of the others the best that overlap none."""
    yield from taken
    kept = sorted(taken, key=lambda f: f.start)
    for finding in sorted(found, key=_rank):
        place = bisect_left(kept, finding.start, key=lambda f: f.start)
        if (place and kept[place - 1].end > finding.start) or (place < len(kept) and kept[place].start < finding.end):
            continue
        kept.insert(place, finding)
        yield finding
