"""Intervals and paired differences. Questions about one document are not independent: bootstraps draw documents.

Wilson score interval (Wilson 1927) for shares; percentile bootstrap over clusters for means and for paired
differences (Miller, Adding Error Bars to Evals, 2024); exact McNemar test for paired 0/1 scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054
FEW_CLUSTERS = 10  # with fewer, draws of whole documents say too little about how far the mean may lie off


class Estimate(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int) -> Estimate:
    """Wilson score interval of a share.

    >>> [round(x, 3) for x in wilson(8, 10)]
    [0.8, 0.49, 0.943]
    """
    if n <= 0:
        raise ValueError("an interval needs at least one item")
    p = successes / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half))


def effective_n(scores: Sequence[float], clusters: Sequence[str]) -> float:
    """Return the number of independent items the clustered scores are worth (n over the design effect, at most n)."""
    values = np.asarray(scores, dtype=float)
    n, p = len(values), float(values.mean())
    if n < 2 or p in (0.0, 1.0):
        return float(n)
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(member, weights=values - p, minlength=len(names))
    clustered = float((sums**2).sum()) / n**2 * len(names) / max(1, len(names) - 1)
    simple = p * (1 - p) / n
    return float(min(n, n * simple / clustered)) if clustered > 0 else float(n)


def clustered_share(scores: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Wilson interval of a share, widened for clusters by the design effect."""
    n = effective_n(scores, clusters)
    p = float(np.mean(scores))
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half))


def bootstrap_mean(scores: Sequence[float], clusters: Sequence[str], samples: int, seed: int) -> Estimate:
    """Percentile bootstrap of a mean that draws whole clusters.

    With few clusters single items are drawn as well and the wider interval is given: one cluster drawn whole would
    always be the same, an interval without width.
    """
    values = np.asarray(scores, dtype=float)
    low, high = np.percentile(_cluster_means(values, clusters, samples, seed), [2.5, 97.5])
    if len(set(clusters)) < FEW_CLUSTERS:
        alone = [str(n) for n in range(len(values))]
        wide = np.percentile(_cluster_means(values, alone, samples, seed), [2.5, 97.5])
        low, high = min(low, wide[0]), max(high, wide[1])
    return Estimate(float(values.mean()), float(low), float(high))


def paired_difference(
    candidate: Sequence[float], baseline: Sequence[float], clusters: Sequence[str], samples: int, seed: int
) -> Estimate:
    """Mean of candidate minus baseline on the same items, with a cluster bootstrap interval."""
    return bootstrap_mean([c - b for c, b in zip(candidate, baseline, strict=True)], clusters, samples, seed)


def _cluster_means(
    values: NDArray[np.float64], clusters: Sequence[str], samples: int, seed: int
) -> NDArray[np.float64]:
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(member, weights=values, minlength=len(names)), np.bincount(member, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(0, len(names), (samples, len(names)))
    means: NDArray[np.float64] = sums[drawn].sum(1) / counts[drawn].sum(1)
    return means


def mcnemar(candidate: Sequence[float], baseline: Sequence[float]) -> float:
    """Two-sided exact McNemar p-value of paired 0/1 scores.

    Nine items only the candidate gets right, one only the baseline: p = 22 / 1024.

    >>> round(mcnemar([1] * 9 + [0], [0] * 9 + [1]), 4)
    0.0215
    """
    wins = sum(c > b for c, b in zip(candidate, baseline, strict=True))
    losses = sum(c < b for c, b in zip(candidate, baseline, strict=True))
    return sign_test(wins, losses)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p-value that wins and losses are equally likely.

    >>> sign_test(8, 0), sign_test(0, 0)
    (0.0078125, 1.0)
    """
    n = wins + losses
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    share: float = tail / 2**n
    return min(1.0, 2 * share)


def needed_n(n: int, found: Estimate, limit: float) -> int | None:
    """Return about how many items would let an interval like this one, of n items, exclude a limit; None if never.

    Power one half: the half width, which shrinks with the root of n, equals the distance to the limit. The items
    must spread over documents as these do.

    >>> needed_n(100, Estimate(0.1, -0.1, 0.3), 0.0)
    400
    """
    distance = abs(found.value - limit)
    if distance == 0:
        return None
    return max(n + 1, math.ceil(n * ((found.high - found.low) / 2 / distance) ** 2 - 1e-9))
