"""How far voters agree: Krippendorff's alpha for names, which takes any number of voters and missing votes.

Krippendorff (2011), Computing Krippendorff's Alpha-Reliability: 1 is perfect, 0 what chance would give. The
coincidences of an item with m votes count 1 / (m - 1) each, and items voted on once say nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from fieldwise.evaluate.statistics import Estimate

LEAST_ITEMS = 5


class Agreement(NamedTuple):
    """Alpha over the items that several voters judged; None while there are fewer than five, or all said one thing."""

    items: int
    votes: int
    same: float | None
    alpha: Estimate | None


def alpha(units: Sequence[Sequence[str]]) -> float | None:
    """Krippendorff's alpha of values by item; None when nothing can be said.

    Two voters, four items, one dispute: 1 - (8 - 1) * 2 / (2 * 3 * 5) = 8/15.

    >>> round(alpha([["a", "a"], ["b", "b"], ["a", "b"], ["b", "b"]]), 4)
    0.5333
    """
    together = _coincidences(units)
    return _alpha(together) if together is not None else None


def _coincidences(units: Sequence[Sequence[str]]) -> Counter[tuple[str, str]] | None:
    found: Counter[tuple[str, str]] = Counter()
    for unit in units:
        for pair in permutations(unit, 2):
            found[pair] += 1 / (len(unit) - 1)  # type: ignore[assignment]
    return found or None


def _alpha(together: Counter[tuple[str, str]]) -> float | None:
    n = sum(together.values())
    totals: Counter[str] = Counter()
    for (value, _), count in together.items():
        totals[value] += count
    apart = sum(count for (a, b), count in together.items() if a != b)
    by_chance = n * n - sum(t * t for t in totals.values())
    return 1 - (n - 1) * apart / by_chance if by_chance > 1e-12 else None


def agreement(units: Sequence[Sequence[str]], samples: int, seed: int) -> Agreement:
    """Alpha with a percentile bootstrap over items, and the share of pairs of voters who said the same."""
    several = [tuple(u) for u in units if len(u) > 1]
    together = _coincidences(several)
    if together is None:
        return Agreement(0, 0, None, None)
    same = sum(c for (a, b), c in together.items() if a == b) / sum(together.values())
    found = _alpha(together)
    estimate = None
    if found is not None and len(several) >= LEAST_ITEMS:
        rng = np.random.default_rng(seed)
        drawn = [
            a
            for picks in rng.integers(0, len(several), (samples, len(several)))
            if (a := alpha([several[p] for p in picks])) is not None
        ]
        low, high = np.percentile(drawn, [2.5, 97.5])
        estimate = Estimate(found, min(float(low), found), max(float(high), found))
    return Agreement(len(several), sum(map(len, several)), same, estimate)
