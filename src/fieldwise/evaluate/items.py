"""What the figures are made of: slices of the questions, answers that changed, questions that were declined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fieldwise.evaluate.report import Scored, summarise
from fieldwise.records import Answer, Interval, Question

LEAST_IN_SLICE = 5
_SAME = 1e-9


class Slice(NamedTuple):
    """The figure of the questions that share a kind or a document; `merged` counts the small ones put together."""

    name: str
    figure: Interval
    reference: Interval | None
    merged: int = 0


def slices(
    names: Sequence[str],
    candidate: Scored,
    reference: Scored | None,
    clusters: Sequence[str],
    samples: int,
    seed: int,
) -> list[Slice]:
    """Return the figure of each name, worst first; names with fewer than five scored questions come last, as one."""
    members: dict[str, list[int]] = {}
    for position, (name, value) in enumerate(zip(names, candidate.values, strict=True)):
        if value is not None:
            members.setdefault(name, []).append(position)

    def made(name: str, positions: Sequence[int], merged: int = 0) -> Slice:
        chosen = [clusters[p] for p in positions]
        figures = [
            summarise(s._replace(values=tuple(s.values[p] for p in positions)), chosen, samples, seed)
            for s in (candidate, reference)
            if s is not None
        ]
        return Slice(name, figures[0], figures[1] if len(figures) > 1 else None, merged)

    large = [made(name, found) for name, found in members.items() if len(found) >= LEAST_IN_SLICE]
    large.sort(key=lambda s: (s.figure.value or 0.0, s.name))
    small = [found for found in members.values() if len(found) < LEAST_IN_SLICE]
    if not small:
        return large
    return [*large, made("other", sorted(p for found in small for p in found), merged=len(small))]


class Flip(NamedTuple):
    """A question whose score changed; `position` is its place among the questions."""

    position: int
    change: float


class Flips(NamedTuple):
    """Questions the candidate answers worse and better than the reference, largest change first."""

    lost: list[Flip]
    won: list[Flip]
    same: int


def flips(candidate: Scored, reference: Scored, questions: Sequence[Question]) -> Flips:
    """Compare two systems question by question; what either was not scored on is left out."""
    changes = [
        Flip(n, c - r)
        for n, (c, r) in enumerate(zip(candidate.values, reference.values, strict=True))
        if c is not None and r is not None
    ]
    changes.sort(key=lambda f: (-abs(f.change), questions[f.position].id))
    lost = [f for f in changes if f.change < -_SAME]
    won = [f for f in changes if f.change > _SAME]
    return Flips(lost, won, len(changes) - len(lost) - len(won))


class Declines(NamedTuple):
    """Places of questions: declined rightly, declined although answerable, answered although not answerable."""

    right: list[int]
    wrong: list[int]
    missed: list[int]


def declines(answers: Sequence[Answer], questions: Sequence[Question]) -> Declines:
    """Sort the questions by whether declining was right, in their own order."""
    found = Declines([], [], [])
    for position, (answer, question) in enumerate(zip(answers, questions, strict=True)):
        if question.answer is None:
            (found.right if answer.is_declined else found.missed).append(position)
        elif answer.is_declined:
            found.wrong.append(position)
    return found
