"""Perplexity of a token: exp of the mean nats that a token of the known answers costs, all tokens alike.

It hangs on the tokenizer: weights that cut words into more tokens have a lower one at the same probability. So it compares
systems over one base, as those of a report are; between bases only bits per byte do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fieldwise.evaluate.statistics import ratio_mean
from fieldwise.records import Answer, Interval, Question


def token_perplexity(
    answers: Sequence[Answer], questions: Sequence[Question], clusters: Sequence[str], samples: int, seed: int
) -> Interval | None:
    """Return the perplexity over all known answers, with its interval; None where none of them was rated.

    Known answers of 1 token with a probability of 1/2 and of 2 tokens with 1/16: 32 to the power of 1/3, 3.17.
    """
    rated = [
        (a.known_bits * math.log(2) * len(q.answer.encode()), a.known_tokens, name)
        for a, q, name in zip(answers, questions, clusters, strict=True)
        if q.answer is not None and a.known_bits is not None and a.known_tokens
    ]
    if not rated:
        return None
    nats, tokens, names = zip(*rated, strict=True)
    found = ratio_mean(nats, tokens, names, samples, seed)
    return Interval(
        value=math.exp(found.value),
        low=math.exp(max(0.0, found.low)),
        high=math.exp(found.high),
        n=len(rated),
        unscored=len(answers) - len(rated),
        method="cluster bootstrap",
    )
