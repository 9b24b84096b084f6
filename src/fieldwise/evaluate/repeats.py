"""Several samples of one question: what of the spread is between questions, and what is the same question's own.

One-way random-effects analysis of variance (Searle, Casella and McCulloch, Variance Components, 1992), also for unequal
numbers of samples. At temperature 0 there is one sample and nothing to split; gates are judged there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class VarianceSplit(NamedTuple):
    """Variance of a score between items and within an item, from `samples` scores of `items` items."""

    mean: float
    between: float
    within: float
    items: int
    samples: int

    @property
    def sampling_share(self) -> float:
        """Share of one sample's variance that is the item's own: 0 says that asking again changes nothing."""
        whole = self.between + self.within
        return self.within / whole if whole > 0 else 0.0

    def standard_error(self, repeats: int, items: int | None = None) -> float:
        """Standard error of the mean over independent items that are each asked `repeats` times.

        Asking again takes away the part within items only: the other part needs more items.
        """
        return math.sqrt((self.between + self.within / repeats) / (self.items if items is None else items))


def variance_split(samples: Sequence[Sequence[float]]) -> VarianceSplit:
    """Split the variance of repeated scores, one sequence an item; at least two items, one of them asked twice.

    Items (0, 2) and (4, 6): within 2, mean squares 16 between and 2 within, so between (16 - 2) / 2 = 7.

    >>> variance_split([[0, 2], [4, 6]])[:3]
    (3.0, 7.0, 2.0)
    """
    scores = [np.asarray(s, dtype=float) for s in samples]
    counts = np.array([len(s) for s in scores], dtype=float)
    n, items = float(counts.sum()), len(scores)
    if items < 2 or n <= items or (counts == 0).any():
        raise ValueError("the split needs two items or more, each with a score, and one of them with two")
    means = np.array([s.mean() for s in scores])
    grand = float((means * counts).sum() / n)
    within = float(sum(((s - m) ** 2).sum() for s, m in zip(scores, means, strict=True))) / (n - items)
    mean_square = float((counts * (means - grand) ** 2).sum()) / (items - 1)
    typical = (n - float((counts**2).sum()) / n) / (items - 1)
    between = max(0.0, (mean_square - within) / typical)
    return VarianceSplit(float(means.mean()), between, within, items, int(n))
