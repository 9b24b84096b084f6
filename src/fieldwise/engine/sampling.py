"""Choose the next token from logits: the same code for every engine that runs here.

The order is that of transformers: temperature, then top_k, then top_p. One uniform number is drawn per token, so
the same seed and the same logits give the same tokens, whatever else runs in the batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import InputError
from fieldwise.interfaces import Sampling


class Sampler:
    """Chooses the tokens of one reply; it holds the state of its random numbers."""

    def __init__(self, sampling: Sampling) -> None:
        check(sampling)
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Return the id of the next token; `logits` holds one number per token of the vocabulary."""
        if self._sampling.temperature == 0.0:
            return int(logits.argmax())
        tokens, chances = distribution(logits, self._sampling)
        cumulated = chances.cumsum()
        place = int(cumulated.searchsorted(self._random.random() * cumulated[-1], side="right"))
        return int(tokens[min(place, len(tokens) - 1)])


def check(sampling: Sampling) -> None:
    """Raise InputError for settings that mean nothing."""
    wrong = {
        "temperature": sampling.temperature < 0 or not np.isfinite(sampling.temperature),
        "top_p": not 0 < sampling.top_p <= 1,
        "top_k": sampling.top_k < 0,
        "max_tokens": sampling.max_tokens < 0,
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise InputError(
            "the value is out of range",
            where=name,
            found=getattr(sampling, name),
            fix="temperature, top_k and max_tokens are 0 or more, top_p lies above 0 and up to 1.",
        )


def distribution(logits: NDArray[np.float32], sampling: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the tokens that may come next, likeliest first when some were cut off, and their probabilities."""
    scaled = logits.astype(np.float64) - logits.max()
    with np.errstate(over="ignore"):  # at a temperature near 0 all but the likeliest fall to minus infinity
        scaled /= sampling.temperature
    tokens: NDArray[np.int64] = np.arange(len(scaled), dtype=np.int64)
    if 0 < sampling.top_k < len(scaled):
        tokens = np.argpartition(-scaled, sampling.top_k - 1)[: sampling.top_k]
    if len(tokens) < len(scaled) or sampling.top_p < 1:
        tokens = tokens[np.lexsort((tokens, -scaled[tokens]))]
    chances = np.exp(scaled[tokens])
    chances /= chances.sum()
    if sampling.top_p < 1:
        # the token that crosses the limit stays, so at least one does
        kept = int(chances.cumsum().searchsorted(sampling.top_p, side="left")) + 1
        tokens, chances = tokens[:kept], chances[:kept] / chances[:kept].sum()
    return tokens, chances
