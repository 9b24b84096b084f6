"""Preference pairs by rule: the right answer against one with a single, named fault.

`preference_pairs` makes the six kinds of a recipe that names none, `pairs_of_kinds` those a recipe names.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from fieldwise.generate.preference_kinds import Answers, Maker
from fieldwise.generate.settings import PreferenceKind
from fieldwise.prompts import is_declined
from fieldwise.records import NOT_STATED, Example, PreferencePair

_NUMBER = re.compile(r"\d+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


def preference_pairs(examples: Sequence[Example], rng: random.Random, most: int) -> list[PreferencePair]:
    """Return up to `most` pairs over the grounded examples, spread evenly over the kinds of fault."""
    by_fault: dict[str, list[PreferencePair]] = {}
    for example in examples:
        if example.style == "grounded":
            for pair in _faults(example, rng):
                by_fault.setdefault(pair.reason, []).append(pair)
    chosen: list[PreferencePair] = []
    used: set[str] = set()
    while len(chosen) < most and any(by_fault.values()):
        for fault in sorted(by_fault):
            if by_fault[fault] and len(chosen) < most:
                pair = by_fault[fault].pop(rng.randrange(len(by_fault[fault])))
                if pair.id not in used:
                    chosen.append(pair)
                    used.add(pair.id)
    return chosen


class PairsMade(NamedTuple):
    """Pairs of the kinds that a recipe names, and what became of each kind."""

    pairs: list[PreferencePair]
    kinds: dict[PreferenceKind, dict[str, int]]
    """For each kind how many were made, how many wanted if it has a share, and examples whose pair failed its proof."""


def pairs_of_kinds(
    examples: Sequence[Example], wanted: Mapping[PreferenceKind, float] | Sequence[PreferenceKind], seed: str, most: int
) -> PairsMade:
    """Return up to `most` proved pairs of the kinds named.

    Shares are held: a kind with too few pairs falls short. Of a list every kind gives as many, as long as it can.
    """
    quota = _quotas(wanted, most) if isinstance(wanted, Mapping) else dict.fromkeys(wanted, most)
    answers = Answers(examples)
    makers = {kind: Maker(kind, examples, answers, seed) for kind in sorted(quota)}
    waiting = {kind: maker.pairs() for kind, maker in makers.items()}
    made: dict[str, PreferencePair] = {}
    count: Counter[PreferenceKind] = Counter()
    while waiting and len(made) < most:
        for kind in list(waiting):
            if len(made) == most:
                break
            pair = next((p for p in waiting[kind] if p.id not in made), None) if count[kind] < quota[kind] else None
            if pair is None:
                del waiting[kind]
            else:
                made[pair.id] = pair
                count[kind] += 1
    told = {
        kind: {
            "made": count[kind],
            **({"wanted": quota[kind]} if isinstance(wanted, Mapping) else {}),
            "left_out": maker.left_out,
        }
        for kind, maker in makers.items()
    }
    return PairsMade(list(made.values()), told)


def _quotas(shares: Mapping[PreferenceKind, float], most: int) -> dict[PreferenceKind, int]:
    """How many pairs each share is, the rounding given to those it took most from."""
    exact = {kind: share * most for kind, share in shares.items()}
    whole = {kind: int(n + 1e-9) for kind, n in exact.items()}
    left = round(sum(exact.values())) - sum(whole.values())
    for kind in sorted(exact, key=lambda kind: whole[kind] - exact[kind])[:left]:
        whole[kind] += 1
    return whole


def _faults(example: Example, rng: random.Random) -> Iterator[PreferencePair]:
    prompt, reply = example.conversation[:-1], example.conversation[-1].content
    user = prompt[-1].content
    passages = re.split(r"\n\n(?=\[\d\] )", user.removeprefix("Passages:\n").rsplit("\n\nQuestion:", 1)[0])

    def pair(rejected: str, reason: str) -> PreferencePair:
        return PreferencePair.make(
            prompt=prompt,
            chosen=reply,
            rejected=rejected,
            judge="rules",
            reason=reason,
            chunk_ids=example.chunk_ids,
            document_ids=example.document_ids,
            split=example.split,
        )

    if is_declined(reply):
        span = _foreign_span(passages, rng)
        if span:
            yield pair(span, "answers what the passages do not say")
        return
    mark = re.search(r" \[(\d)\]$", reply)
    if mark is None:
        return
    right = int(mark.group(1))
    yield pair(NOT_STATED, "declines although a passage answers")
    yield pair(example.answer, "gives no citation")
    others = [n for n in range(1, len(passages) + 1) if n != right]
    if others:
        yield pair(f"{example.answer} [{rng.choice(others)}]", "cites the wrong passage")
        span = _foreign_span([passages[n - 1] for n in others], rng)
        if span:
            yield pair(span, "takes the answer from the wrong passage")
    changed = _change_number(example.answer, rng)
    if changed != example.answer:
        yield pair(f"{changed} [{right}]", "changes a number")


def _foreign_span(passages: Sequence[str], rng: random.Random) -> str | None:
    """A plausible wrong answer: a few words of a passage that does not answer, with its mark."""
    passage = rng.choice(list(passages))
    mark = re.match(r"\[(\d)\] ", passage)
    found = [s for s in _SENTENCE.split(passage.split("] ", 1)[-1]) if len(s.split()) >= 5]
    if not found or mark is None:
        return None
    words = rng.choice(found).strip(" .|").split()
    start = rng.randrange(max(1, len(words) - 4))
    return f"{' '.join(words[start : start + rng.randint(2, 5)]).strip(',.;:|')} [{mark.group(1)}]"


def _change_number(answer: str, rng: random.Random) -> str:
    found = list(_NUMBER.finditer(answer))
    if not found:
        return answer
    match = rng.choice(found)
    other = str(max(0, int(match.group(0)) + rng.choice((-2, -1, 1, 2, 5, 10))))
    return answer[: match.start()] + other + answer[match.end() :]
