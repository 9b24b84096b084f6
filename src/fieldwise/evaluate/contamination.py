"""Which questions training has nearly seen: by shared runs of three words, as examples are kept apart by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from fieldwise.records import Question
from fieldwise.shingles import shingles

WORDS, SHARE = 3, 0.7
"""The share of the question's runs that one training question must hold; that of rows of the user's own is the same."""


def touched(questions: Sequence[Question], trained: Iterable[str]) -> list[bool]:
    """Return for each question whether one of the trained questions holds 0.7 of its runs of three words or more.

    What is asked in other words is not found: this tells copies, not knowledge.
    """
    holders: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(dict.fromkeys(trained)):
        for run in shingles(text, WORDS):
            holders[run].append(number)

    def is_touched(question: str) -> bool:
        runs = shingles(question, WORDS)
        shared: dict[int, int] = defaultdict(int)
        for run in runs:
            for number in holders.get(run, ()):
                shared[number] += 1
        return max(shared.values(), default=0) >= SHARE * len(runs)

    return [is_touched(q.question) for q in questions]
