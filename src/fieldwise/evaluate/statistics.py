"""Intervals, paired differences and tests. Questions about one document are not independent: documents are drawn whole.

Shares: Wilson score interval (Wilson 1927) over the number of independent items the questions are worth (Korn and
Graubard 1998; Dean and Pagano 2015 compare such intervals), Clopper-Pearson (1934) where all or none are right.
Means and paired differences: percentile bootstrap over documents, widened to what Student's t says for their number
(Hesterberg 2015, What Teachers Should Know About the Bootstrap, 5.3). What is added for few documents and for few
items that differ is told at each function; `benchmarks/bench_statistics.py` measures how often they cover the truth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.extras import require

Z95 = 1.959963984540054
FEW_CLUSTERS = 10  # with fewer, draws of whole documents say too little about how far the mean may lie off
FEW_ITEMS = 5  # with fewer that differ from the others, neither draws nor a normal curve see the one that did not come
LEAST_AGREEMENT = 0.1  # correlation within a document where too few items differ to measure it
_TINY = 1e-12


class Estimate(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


def _distributions() -> Any:
    """SciPy's distributions: half a second to import, so not before the first interval."""
    return require("scipy.stats", extra="eval", to="compute intervals")


# ---------------------------------------------------------------- shares


def wilson(successes: int, n: int) -> Estimate:
    """Wilson score interval of a share of independent items.

    >>> [round(x, 3) for x in wilson(8, 10)]
    [0.8, 0.49, 0.943]
    """
    if n <= 0:
        raise ValueError("an interval needs at least one item")
    return _wilson(successes / n, n)


def _wilson(p: float, n: float) -> Estimate:
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half))


def exact_share(successes: float, n: float) -> Estimate:
    """Clopper-Pearson interval of a share: covers at least 95 %, also at none and all; `n` may be an effective number.

    No failure among 100 items still allows 3.6 %, two-sided; 3.0 % one-sided, the "rule of three".

    >>> [round(x, 3) for x in exact_share(0, 100)]
    [0.0, 0.0, 0.036]
    """
    if n <= 0:
        raise ValueError("an interval needs at least one item")
    beta = _distributions().beta
    low = float(beta.ppf(0.025, successes, n - successes + 1)) if successes > 0 else 0.0
    high = float(beta.ppf(0.975, successes + 1, n - successes)) if successes < n else 1.0
    return Estimate(successes / n, low, high)


def effective_n(scores: Sequence[float], clusters: Sequence[str]) -> float:
    """Return the number of independent items that clustered 0/1 scores are worth, at most their number.

    n over the design effect, times what few documents cost: the square of normal over t quantile (Korn and Graubard).
    With fewer than five of a kind the agreement within documents cannot be measured; at least 0.1 is assumed then.
    """
    values = np.asarray(scores, dtype=float)
    n, p = len(values), float(values.mean())
    grouped = _Grouped.of(values, clusters)
    if len(grouped.sums) == n:
        return float(n)
    worth = float(n)
    variance = grouped.error() ** 2
    if variance > 0:
        worth = min(worth, p * (1 - p) / variance * (Z95 / grouped.t()) ** 2)
    if min(p, 1 - p) * n < FEW_ITEMS - 0.5:
        worth = min(worth, grouped.worth_if_alike(LEAST_AGREEMENT))
    return max(1.0, worth)


def clustered_share(scores: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Interval of a share of 0/1 scores: Wilson over the effective number, Clopper-Pearson at none and all."""
    n, p = effective_n(scores, clusters), float(np.mean(scores))
    if p in (0.0, 1.0):
        return exact_share(p * n, n)
    return _wilson(p, n)


# ---------------------------------------------------------------- means


class _Grouped(NamedTuple):
    """Sums and counts by cluster."""

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(
        cls, values: NDArray[np.float64], clusters: Sequence[str], sizes: NDArray[np.float64] | None = None
    ) -> _Grouped:
        names, member = np.unique(np.asarray(clusters), return_inverse=True)
        counts = np.bincount(member, weights=sizes, minlength=len(names)).astype(float)
        sums = np.bincount(member, weights=values, minlength=len(names)).astype(float)
        return cls(sums, counts)

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum())

    @property
    def worth(self) -> float:
        """The number of clusters, less where few hold most of the items (Kish)."""
        return float(self.counts.sum() ** 2 / (self.counts**2).sum())

    @property
    def freedom(self) -> float:
        return max(self.worth - 1, 0.1)

    @property
    def are_few(self) -> bool:
        return self.worth < FEW_CLUSTERS - 1e-9

    def t(self) -> float:
        return float(_distributions().t.ppf(0.975, self.freedom))

    def error(self) -> float:
        """Standard error of the mean, clusters independent: leave-one-cluster-out jackknife.

        Where clusters are of one size it is Miller's clustered error times the root of k / (k - 1); few large ones
        among small ones need the jackknife (MacKinnon, Nielsen and Webb 2023).
        """
        many = len(self.sums)
        if many < 2:
            return 0.0
        moved = self._residuals() / (self.counts.sum() - self.counts)
        return float(math.sqrt((many - 1) / many * (moved**2).sum()))

    def _residuals(self) -> NDArray[np.float64]:
        return self.sums - self.mean * self.counts

    def worth_if_alike(self, correlation: float) -> float:
        """The number of independent items, were those of a cluster correlated like this."""
        n = self.counts.sum()
        return float(n / (1 + ((self.counts**2).sum() / n - 1) * correlation))

    def drawn(self, samples: int, seed: int) -> tuple[float, float]:
        """Ends of the percentile interval, widened by what the draws' own spread falls short of t and jackknife."""
        draws = np.random.default_rng(seed).integers(0, len(self.sums), (samples, len(self.sums)))
        means = self.sums[draws].sum(1) / self.counts[draws].sum(1)
        spread = math.sqrt(float((self._residuals() ** 2).sum())) / float(self.counts.sum())
        wider = self.error() / spread if spread > 0 else 1.0
        tail = 100 * float(_distributions().norm.cdf(-wider * self.t()))
        low, high = np.percentile(means, [tail, 100 - tail])
        return float(low), float(high)


def are_few(clusters: Sequence[str]) -> bool:
    """Whether the items spread over fewer than ten clusters, or over more of which a few hold most of them (Kish)."""
    return _Grouped.of(np.zeros(len(clusters)), clusters).are_few


def degrees_of_freedom(clusters: Sequence[str]) -> float:
    """Of a mean whose items are independent between clusters only: the number these are worth (Kish) less one."""
    return _Grouped.of(np.zeros(len(clusters)), clusters).freedom


def clustered_error(values: Sequence[float], clusters: Sequence[str]) -> float:
    """Standard error of a mean whose items are independent between clusters only; 0 for a single cluster."""
    return _Grouped.of(np.asarray(values, dtype=float), clusters).error()


def bootstrap_mean(scores: Sequence[float], clusters: Sequence[str], samples: int, seed: int) -> Estimate:
    """Interval of a mean: whole clusters are drawn.

    With few clusters (`are_few`) draws say too little: the interval is that of Student's t over the clusters, and not
    narrower than draws of single items, since two documents may be alike by chance.
    """
    return ratio_mean(scores, [1.0] * len(scores), clusters, samples, seed)


def ratio_mean(
    sums: Sequence[float], sizes: Sequence[float], clusters: Sequence[str], samples: int, seed: int
) -> Estimate:
    """Interval of a mean over the parts of items, of which each holds `sizes` parts that sum up to `sums`.

    Two answers of 3 nats in 1 token and 5 nats in 3: 2 nats a token.
    """
    values, parts = np.asarray(sums, dtype=float), np.asarray(sizes, dtype=float)
    grouped = _Grouped.of(values, clusters, parts)
    mean = grouped.mean
    if not grouped.are_few:
        return Estimate(mean, *grouped.drawn(samples, seed))
    low, high = _Grouped(values, parts).drawn(samples, seed)
    if len(grouped.sums) > 1:
        half = grouped.t() * grouped.error()
        low, high = min(low, mean - half), max(high, mean + half)
    return Estimate(mean, low, high)


def bounded_mean(scores: Sequence[float], clusters: Sequence[str], samples: int, seed: int) -> Estimate:
    """Interval of a mean of scores between 0 and 1.

    Where fewer than five items lie off 0 (or off 1), draws miss those that did not come: the far end is then the
    bound of the share of such items, each counted as if it lay at the other end.
    """
    made = bootstrap_mean(scores, clusters, samples, seed)
    low, high = max(0.0, made.low), min(1.0, made.high)
    off = [float(s > _TINY) for s in scores]
    if sum(off) < FEW_ITEMS:
        high = max(high, clustered_share(off, clusters).high)
    short = [float(s >= 1 - _TINY) for s in scores]
    if len(short) - sum(short) < FEW_ITEMS:
        low = min(low, clustered_share(short, clusters).low)
    return Estimate(made.value, low, high)


# ---------------------------------------------------------------- paired differences


def paired_difference(
    candidate: Sequence[float],
    baseline: Sequence[float],
    clusters: Sequence[str],
    samples: int,
    seed: int,
    *,
    is_bounded: bool = True,
) -> Estimate:
    """Mean of candidate minus baseline on the same items, with a cluster bootstrap interval.

    Scores between 0 and 1 of which fewer than five change otherwise than the rest would give an interval without
    width: one item won and one lost are added then (Agresti and Min 2005, for paired shares), with Student's t.
    """
    changes = np.asarray([c - b for c, b in zip(candidate, baseline, strict=True)], dtype=float)
    commonest = Counter(np.round(changes, 9).tolist()).most_common(1)[0][1]
    if not is_bounded or len(changes) - commonest >= FEW_ITEMS:
        made = bootstrap_mean(changes.tolist(), clusters, samples, seed)
        return Estimate(made.value, max(-1.0, made.low), min(1.0, made.high)) if is_bounded else made
    grouped = _Grouped.of(changes, clusters)
    n = grouped.worth_if_alike(LEAST_AGREEMENT)
    mean = float(changes.mean())
    centre = n * mean / (n + 2)
    variance = (n * float((changes**2).mean()) + 2) / (n + 2) - centre**2
    half = grouped.t() * math.sqrt(variance / (n + 2))
    return Estimate(mean, max(-1.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)))


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p-value that wins and losses are equally likely.

    >>> sign_test(8, 0), sign_test(0, 0)
    (0.0078125, 1.0)
    """
    n = wins + losses
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))  # whole numbers: no library is needed for votes
    share: float = tail / 2**n
    return min(1.0, 2 * share)


def mcnemar(candidate: Sequence[float], baseline: Sequence[float]) -> float:
    """Two-sided exact McNemar p-value of paired 0/1 scores of independent items.

    Nine items only the candidate gets right, one only the baseline: p = 22 / 1024.

    >>> round(mcnemar([1] * 9 + [0], [0] * 9 + [1]), 4)
    0.0215
    """
    wins = sum(c > b for c, b in zip(candidate, baseline, strict=True))
    losses = sum(c < b for c, b in zip(candidate, baseline, strict=True))
    return sign_test(wins, losses)


def p_beyond(found: Estimate, limit: float, freedom: float = math.inf) -> float:
    """One-sided p-value that the truth lies on the found value's side of a limit, read off the 95 % interval.

    It falls below 0.025 exactly where the interval leaves the limit out (Altman and Bland 2011, BMJ 343:d2304). With
    few documents the tails beyond are those of Student's t with these degrees of freedom.

    >>> round(p_beyond(Estimate(0.2, 0.0, 0.4), 0.0), 3)
    0.025
    """
    side = found.value - found.low if found.value >= limit else found.high - found.value
    distance = abs(found.value - limit)
    if distance <= _TINY:
        return 0.5
    if side <= 0:
        return 0.0
    t = _distributions().t
    return float(t.sf(t.ppf(0.975, freedom) * distance / side, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being one family (Holm 1979): all below 0.05 are wrong together in 5 % at most.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda n: p_values[n])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
