"""The baseline that reads nothing: one and the same answer to every question.

Where the known answers are few (yes and no, the name of a class), weights that learnt nothing but the commonest of them
beat a base that does not know the form. Intervals and gates against the base do not tell that apart from reading; this does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fieldwise.evaluate.metrics import exact_match, normalise
from fieldwise.evaluate.report import LEAST_ITEMS, RELEASED, ConstantAnswer, Scored, cluster_names, compare, summarise
from fieldwise.records import Answer, Question

_SHARE = 0.1  # of the questions with an answer: below it one answer is no rival
METRIC = "exact_match"


def find_constant(
    scores: Mapping[str, Mapping[str, Scored]], questions: Sequence[Question], samples: int, seed: int
) -> ConstantAnswer | None:
    """Return what the commonest known answer reaches and how what is released stands to it; None where it is no rival.

    The answer is taken from the questions themselves, which no system has seen: no other single answer does better.
    """
    known = [q.answer for q in questions if q.answer is not None]
    if len(known) < LEAST_ITEMS or not scores:
        return None
    alike = Counter(normalise(answer) for answer in known)
    commonest, count = max(alike.items(), key=lambda pair: (pair[1], pair[0]))
    if count < _SHARE * len(known):
        return None
    said = next(answer for answer in known if normalise(answer) == commonest)
    system = RELEASED if RELEASED in scores else list(scores)[-1]
    return hold_against(said, scores[system][METRIC], questions, samples, seed)


def hold_against(said: str, scored: Scored, questions: Sequence[Question], samples: int, seed: int) -> ConstantAnswer:
    """Return what always giving an answer reaches on the questions, and how a system's exact match stands to that."""
    always = Answer(text=said, answer=said, model="")
    constant = Scored("constant", METRIC, tuple(exact_match(always, q) for q in questions))
    names = cluster_names(questions)
    return ConstantAnswer(
        answer=said,
        exact_match=summarise(constant, names, samples, seed),
        system=scored.system,
        difference=compare(scored, constant, names, samples, seed),
    )
