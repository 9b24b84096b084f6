"""Strengths of systems from votes between two answers: Bradley-Terry with ties, shares of pairs, how many votes are missing.

Ties follow Davidson (1970, On Extending the Bradley-Terry Model to Accommodate Ties in Paired Comparison
Experiments): with strengths s on the log-odds scale, winning, losing and tying have the weights exp(d/2), exp(-d/2)
and v, where d is the difference of the two strengths and v says how readily ties are given. That is a multinomial
logit, concave, so Newton's method finds its one maximum. The side an answer stood on and its length enter d as
covariates (Davidson and Beaver 1977 for the order; the "style control" of Chatbot Arena, arXiv 2403.04132, for length).

Jeffreys' prior keeps a system that never lost at a finite strength; for one pair it adds half a vote to each outcome
(Firth 1993), for more pairs the same mass is spread over them. Intervals are percentile bootstraps that draw whole
questions, since votes on one question are not independent, and never narrower than the Wald interval: votes that all
agree leave a bootstrap without width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.evaluate.statistics import Z95, Estimate

Array = NDArray[np.float64]
_WIN, _TIE, _LOSS = 0, 1, 2
_COVARIATE_SD = 5.0  # of a normal prior in log-odds: e^5 is odds of 148, more than any length or side is worth
_MOST_STEPS, _LARGEST_STEP, _CONVERGED = 60, 2.0, 1e-9


class Judged(NamedTuple):
    """One vote; `winner` None is a tie. `longer` is the left answer's words less the right one's, over their sum."""

    left: str
    right: str
    winner: str | None
    question: str
    longer: float = 0.0


class Strengths(NamedTuple):
    """Log-odds strengths that sum to 0, how readily ties are given (v), and the effects of side and length.

    `left` is the log-odds the left place is worth, `length` those of an answer twice as long as the other. Both are
    None without `adjusted`. A strength is None for every system when the votes do not link all of them.
    """

    strengths: dict[str, Estimate] | None
    ties: Estimate
    left: Estimate | None = None
    length: Estimate | None = None


def linked(systems: Sequence[str], votes: Sequence[Judged]) -> bool:
    """Tell whether a chain of votes leads from each system to every other.

    >>> linked(["a", "b", "c"], [Judged("a", "b", None, "q")])
    False
    """
    reached, waiting = set[str](), list(systems[:1])
    while waiting:
        system = waiting.pop()
        reached.add(system)
        waiting += [o for v in votes for o in (v.left, v.right) if system in (v.left, v.right) and o not in reached]
    return reached == set(systems)


def strengths(
    systems: Sequence[str], votes: Sequence[Judged], samples: int, seed: int, *, adjusted: bool = False
) -> Strengths:
    """Fit the strengths with their 95 % intervals; `adjusted` takes out what side and length are worth.

    Three wins, one loss and no tie between two systems: with half a vote added to each, d = log(3.5 / 1.5).

    >>> found = strengths(["a", "b"], [Judged("a", "b", w, str(n)) for n, w in enumerate("aaab")], 100, 0)
    >>> round(found.strengths["a"].value * 2, 3), round(math.log(3.5 / 1.5), 3)
    (0.847, 0.847)
    """
    if not votes:
        raise ValueError("strengths need at least one vote")
    cells, counts, drawn = _cells(votes, samples, seed, adjusted)
    free = len(systems) - 1
    place = {name: n for n, name in enumerate(systems)}
    design = np.array([_row(place, free, cell, adjusted) for cell in cells])
    prior = _prior_cells(systems, votes, place, free, adjusted)
    prior_counts = np.full((len(prior), 3), 1 / (2 * len(prior)) * free if len(prior) else 0.0)
    ridge = np.zeros(free + 1 + 2 * adjusted)
    ridge[free + 1 :] = 1 / _COVARIATE_SD**2
    design = np.concatenate([design, prior])
    weights = np.concatenate(
        [np.stack([counts, *drawn]), np.broadcast_to(prior_counts, (samples + 1, *prior_counts.shape))], 1
    )
    fitted, variance = _fit(design, weights, ridge)

    def estimate(direction: Array, transform: float = 1.0) -> Estimate:
        values = fitted @ direction * transform
        half = Z95 * math.sqrt(max(0.0, float(direction @ variance @ direction))) * abs(transform)
        return wider(float(values[0]), values[1:], half)

    basis = np.eye(free + 1 + 2 * adjusted)
    contrast = np.vstack([np.eye(free), -np.ones(free)]) if free else np.zeros((1, 0))
    by_system = {name: estimate(np.concatenate([contrast[n], np.zeros(1 + 2 * adjusted)])) for name, n in place.items()}
    log_ties = estimate(basis[free])
    return Strengths(
        by_system if linked(systems, votes) else None,
        Estimate(*(math.exp(x) for x in log_ties)),
        estimate(basis[free + 1]) if adjusted else None,
        estimate(basis[free + 2], TWICE_AS_LONG) if adjusted else None,
    )


TWICE_AS_LONG = 1 / 3
"""(2 - 1) / (2 + 1): what `longer` is for an answer of twice the words."""


def wider(value: float, drawn: Array, half: float) -> Estimate:
    """The wider of a percentile bootstrap and an interval of a half width, at each end."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, min(float(low), value - half), max(float(high), value + half))


class _Cell(NamedTuple):
    left: str
    right: str
    longer: float


def _cells(votes: Sequence[Judged], samples: int, seed: int, adjusted: bool) -> tuple[list[_Cell], Array, Array]:
    """Put votes that look alike to the model into one cell; count each outcome, as voted and in every draw."""
    keys = [_Cell(v.left, v.right, v.longer if adjusted else 0.0) for v in votes]
    cells = list(dict.fromkeys(keys))
    number = {cell: n for n, cell in enumerate(cells)}
    outcome = [_TIE if v.winner is None else _WIN if v.winner == v.left else _LOSS for v in votes]
    places = np.array([3 * number[k] + o for k, o in zip(keys, outcome, strict=True)])
    questions, member = np.unique([v.question for v in votes], return_inverse=True)
    by_question = np.zeros((len(questions), 3 * len(cells)))
    np.add.at(by_question, (member, places), 1.0)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(questions), np.full(len(questions), 1 / len(questions)), size=samples)
    shape = (len(cells), 3)
    return cells, by_question.sum(0).reshape(shape), (times @ by_question).reshape(samples, *shape)


def _row(place: dict[str, int], free: int, cell: _Cell, adjusted: bool) -> Array:
    """The model's three log-weights of a cell as linear forms: half the difference, the tie, minus half of it."""
    half = np.zeros(free + 1 + 2 * adjusted)
    for name, sign in ((cell.left, 0.5), (cell.right, -0.5)):
        if place[name] < free:
            half[place[name]] += sign
        else:
            half[:free] -= sign
    if adjusted:
        half[free + 1 :] = (0.5, 0.5 * cell.longer)
    tie = np.zeros_like(half)
    tie[free] = 1.0
    return np.stack([half, tie, -half])


def _prior_cells(
    systems: Sequence[str], votes: Sequence[Judged], place: dict[str, int], free: int, adjusted: bool
) -> Array:
    """One cell for each pair that was voted on, without side and length, to carry the prior."""
    seen = {frozenset((v.left, v.right)) for v in votes}
    pairs = [p for p in combinations(systems, 2) if frozenset(p) in seen]
    rows = np.array([_row(place, free, _Cell(a, b, 0.0), adjusted) for a, b in pairs])
    if adjusted:
        rows[:, :, free + 1 :] = 0.0
    return rows


def _fit(design: Array, counts: Array, ridge: Array) -> tuple[Array, Array]:
    """Maximise the penalised likelihood of every draw at once; returns the parameters and the first one's covariance.

    `design` is cells x 3 outcomes x parameters, `counts` draws x cells x 3.
    """
    draws, cells, _ = counts.shape
    parameters = design.shape[2]
    outer = np.einsum("mkp,mkq->mkpq", design, design).reshape(cells * 3, parameters**2)
    flat = design.reshape(cells * 3, parameters)
    totals = counts.sum(2)
    theta = np.zeros((draws, parameters))
    for _ in range(_MOST_STEPS):
        logits = (theta @ flat.T).reshape(draws, cells, 3)
        probabilities = np.exp(logits - logits.max(2, keepdims=True))
        probabilities /= probabilities.sum(2, keepdims=True)
        expected = totals[:, :, None] * probabilities
        gradient = (counts - expected).reshape(draws, -1) @ flat - ridge * theta
        mean = np.einsum("bmk,mkp->bmp", probabilities, design)
        information = (expected.reshape(draws, -1) @ outer).reshape(draws, parameters, parameters)
        information -= np.einsum("bm,bmp,bmq->bpq", totals, mean, mean, optimize=True)
        information += np.diag(ridge + 1e-10)
        step = np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
        theta += np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        if np.abs(step).max() < _CONVERGED:
            break
    covariance: Array = np.linalg.inv(information[0])
    return theta, covariance


# ---------------------------------------------------------------- one pair


class Tally(NamedTuple):
    """The votes on one pair: for the first system, ties, for the second."""

    first: int
    ties: int
    second: int

    @property
    def n(self) -> int:
        """All votes."""
        return self.first + self.ties + self.second


def tally(first: str, votes: Sequence[Judged]) -> Tally:
    """Count the votes on one pair from the first system's side."""
    ties = sum(v.winner is None for v in votes)
    wins = sum(v.winner == first for v in votes)
    return Tally(wins, ties, len(votes) - wins - ties)


def share(first: str, votes: Sequence[Judged], samples: int, seed: int) -> Estimate:
    """The first system's share of the votes on one pair, a tie counting half, with its 95 % interval.

    The interval is drawn over questions around the share with half a vote added to each outcome; never narrower than
    the multinomial one. Six for, two ties, two against: (6 + 1) / 10.

    >>> votes = [Judged("a", "b", w, str(n)) for n, w in enumerate(["a"] * 6 + [None] * 2 + ["b"] * 2)]
    >>> round(share("a", votes, 200, 0).value, 3)
    0.7
    """
    counted = tally(first, votes)
    n = counted.n + 1.5
    win, loss = (counted.first + 0.5) / n, (counted.second + 0.5) / n
    half = Z95 * math.sqrt((win + loss - (win - loss) ** 2) / n) / 2
    scores = np.array([0.5 if v.winner is None else float(v.winner == first) for v in votes])
    questions, member = np.unique([v.question for v in votes], return_inverse=True)
    sums, counts = np.bincount(member, weights=scores), np.bincount(member)
    chosen = np.random.default_rng(seed).integers(0, len(questions), (samples, len(questions)))
    drawn = (sums[chosen].sum(1) + 0.75) / (counts[chosen].sum(1) + 1.5)
    value = float(scores.mean())
    around = wider(0.5 + (win - loss) / 2, drawn, half)
    return Estimate(value, max(0.0, min(around.low, value)), min(1.0, max(around.high, value)))


def more_votes(n: int, found: Estimate | None, width: float) -> int:
    """About how many more votes bring an interval to a width; 0 says that there are enough.

    The width shrinks with the root of n. Stopping by width leaves the interval's coverage as it is however often one
    looks (Chow and Robbins 1965); stopping as soon as a difference shows would not. Without votes the number is that
    for an even split without ties.

    >>> more_votes(24, Estimate(0.5, 0.3, 0.7), 0.2), more_votes(100, Estimate(0.5, 0.41, 0.59), 0.2)
    (72, 0)
    """
    if found is None or n == 0:
        return math.ceil((Z95 / width) ** 2)
    wide = found.high - found.low
    return 0 if wide <= width else max(1, math.ceil(n * (wide / width) ** 2 - 1e-9) - n)
