"""Verdicts read off an engine's log-probabilities: the likeliest of a few given words, with nothing to parse.

Such a judge explains nothing, so its verdicts are no evidence by themselves: the judge card says how far it agrees
with people. The probability of a word is that of all its tokens behind the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fieldwise.interfaces import Engine, Sampling
from fieldwise.judge.asking import conversation
from fieldwise.judge.pairwise import PAIRWISE, Contest, Preference, preferred
from fieldwise.judge.pairwise import shown as contest_shown
from fieldwise.judge.rubric import RUBRIC, Case, Judgement, Verdict
from fieldwise.judge.rubric import shown as case_shown
from fieldwise.records import Conversation

_BATCH = 8
_WORDS: dict[str, Verdict] = {"right": "right", "wrong": "wrong", "unclear": "cannot tell"}
_PAIR_WORDS = {"A": "A", "B": "B", "tie": "tie", "unclear": "cannot tell"}
_TASK = "Reply with one word: {words}; unclear stands for cannot tell."


class Likeliest(NamedTuple):
    """The likeliest word with its probability among the given ones; None and a short code where none was rated."""

    word: str | None
    likelihood: float = 0.0
    problem: str = ""


def likeliest(engine: Engine, conversations: Sequence[Conversation], words: Sequence[str]) -> Iterator[Likeliest]:
    """Yield the likeliest of the words behind each conversation; one that does not fit the context is not rated."""
    replies = [engine.reply_tokens(word) for word in words]
    room = engine.context_tokens - max(map(len, replies)) - 1
    for begin in range(0, len(conversations), _BATCH):
        prompts = [engine.render(c) for c in conversations[begin : begin + _BATCH]]
        fitting = [p for p in prompts if len(p) <= room]
        rated = engine.generate(fitting, Sampling(max_tokens=1), rated=[replies] * len(fitting)) if fitting else []
        found = iter(rated)
        for prompt in prompts:
            if len(prompt) > room:
                yield Likeliest(None, problem="prompt_too_long")
                continue
            yield _best(words, next(found).ratings)


def _best(words: Sequence[str], ratings: Sequence[float]) -> Likeliest:
    if len(ratings) != len(words) or not any(map(math.isfinite, ratings)):
        return Likeliest(None, problem="not_rated")
    top = max(ratings)
    weights = [math.exp(r - top) for r in ratings]
    best = ratings.index(top)
    return Likeliest(words[best], weights[best] / sum(weights))


def judge_cases(engine: Engine, cases: Sequence[Case], rule: str = "") -> Iterator[Judgement]:
    """Yield a verdict on each answer, the likeliest of right, wrong and unclear."""
    asked = [_asked(RUBRIC, rule, case_shown(case), tuple(_WORDS)) for case in cases]
    for case, found in zip(cases, likeliest(engine, asked, tuple(_WORDS)), strict=True):
        verdict = _WORDS[found.word] if found.word is not None else None
        likelihood = round(found.likelihood, 4) if found.word is not None else None
        yield Judgement(id=case.id, verdict=verdict, likelihood=likelihood, problem=found.problem)


def judge_contests(engine: Engine, contests: Sequence[Contest], rule: str = "") -> Iterator[Preference]:
    """Yield what is preferred of each two answers, in both orders."""
    words = tuple(_PAIR_WORDS)
    asked = [
        _asked(PAIRWISE, rule, contest_shown(c, *order), words)
        for c in contests
        for order in ((c.first, c.second), (c.second, c.first))
    ]
    found = list(likeliest(engine, asked, words))
    for contest, one, other in zip(contests, found[::2], found[1::2], strict=True):
        verdicts = [_PAIR_WORDS[f.word] if f.word is not None else None for f in (one, other)]
        yield Preference(
            id=contest.id,
            first_shown=preferred(verdicts[0], is_turned=False),
            second_shown=preferred(verdicts[1], is_turned=True),
            problem=one.problem or other.problem,
        )


def _asked(system: str, rule: str, material: str, words: Sequence[str]) -> Conversation:
    further = f"\nOne more rule that a right answer meets: {rule.strip()}" if rule.strip() else ""
    task = _TASK.format(words=", ".join(words[:-1]) + f" or {words[-1]}")
    return conversation(f"{system}{further}", f"{material}\n{task}")
