"""A 5-gram model over the same tokens and texts, to say what the network's bits per byte are worth.

Interpolated absolute discounting (Ney, Essen and Kneser 1994) with one discount for all orders, down to a uniform
distribution. Counts are found by sorting: twenty million tokens take about a minute.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DISCOUNT = 0.75
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing; a clash of two grams is as good as impossible


def loss(train: NDArray[np.uint16], held: NDArray[np.uint16], vocabulary: int, order: int = 5) -> float:
    """Nats per token of the held-out tokens, each predicted from the `order - 1` tokens before it.

    >>> text = np.array([1, 2, 3] * 50, dtype=np.uint16)
    >>> loss(text, text, 8) < 0.1 < loss(text, text[::-1].copy(), 8)
    True
    """
    chance = np.full(len(held) - order + 1, 1.0 / vocabulary)
    for n in range(1, order + 1):
        heads, grams = _hashes(train, n)
        held_heads, held_grams = _hashes(held[order - n :], n)
        grams, first, counts = np.unique(grams, return_index=True, return_counts=True)
        contexts, inverse = np.unique(heads[first], return_inverse=True)
        total = np.bincount(inverse, weights=counts)  # tokens seen after each context
        kinds = np.bincount(inverse)  # different tokens seen after it
        after, different = _at(contexts, total, held_heads), _at(contexts, kinds, held_heads)
        direct = np.maximum(_at(grams, counts, held_grams) - DISCOUNT, 0) / np.maximum(after, 1)
        back = DISCOUNT * different / np.maximum(after, 1)
        chance = np.where(after > 0, direct + back * chance, chance)
    return float(-np.log(chance).mean())


def _hashes(tokens: NDArray[np.uint16], n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """For each run of `n` tokens a number for its first `n - 1`, and one for all."""
    count = len(tokens) - n + 1
    heads = np.zeros(count, dtype=np.uint64)
    for place in range(n - 1):
        heads = (heads + tokens[place : place + count].astype(np.uint64) + np.uint64(1)) * _FACTOR
        heads ^= heads >> np.uint64(29)
    return heads, heads * np.uint64(65537) + tokens[n - 1 :].astype(np.uint64)


def _at(keys: NDArray[np.uint64], values: NDArray[np.float64], wanted: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The value of each wanted key, 0 where it is not there."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0).astype(float)
