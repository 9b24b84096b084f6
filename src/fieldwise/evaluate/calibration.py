"""Is the fitted doubt worth its number: how often it is right, and what declining by it buys.

Reliability and expected calibration error over ten equal bins (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017);
risk-coverage and the area under it (El-Yaniv and Wiener 2010; Geifman, Uziel and El-Yaniv 2019). What the model said
before it was held back counts here as if it had been shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fieldwise.evaluate.metrics import overall_f1
from fieldwise.evaluate.statistics import clustered_share
from fieldwise.prompts import without_marks
from fieldwise.records import Answer, Interval, Question, Record

BINS = 10
_POINTS, _DRAWS, _LEAST_ITEMS = 100, 500, 20

Floats = NDArray[np.float64]


class Bin(Record):
    """Questions of a similar doubt: the mean doubt, and how many of them the documents do not answer."""

    doubt: float
    unanswerable: Interval


class Point(Record):
    """Of all questions this share is answered, those of least doubt; of the answers this share is wrong (1 - F1)."""

    coverage: float
    risk: float


class Calibration(Record):
    """Figures of the doubt of one system."""

    n: int = Field(description="questions with a doubt")
    unanswerable: int
    ece: float = Field(description="expected calibration error: distance between doubt and what is so, by bins")
    ece_by_chance: float = Field(description="what a doubt that is exactly right stays below in 95 % of such test sets")
    bins: tuple[Bin, ...]
    aurc: Interval | None = Field(description="area under the risk-coverage curve; None if nothing was answered")
    aurc_random: float | None = Field(description="the same, were the questions answered in any order")
    aurc_best: float | None = Field(description="the same, were the worst answers left out first")
    curve: tuple[Point, ...]
    served: Point | None = Field(description="where the rule in use stands")


def calibrate(
    answers: Sequence[Answer], questions: Sequence[Question], clusters: Sequence[str], seed: int
) -> Calibration | None:
    """Return the figures of a system's doubt; None if it has none, or fewer than 20 questions have one."""
    rated = [(a, q, c) for a, q, c in zip(answers, questions, clusters, strict=True) if a.doubt is not None]
    if len(rated) < _LEAST_ITEMS:
        return None
    doubt = np.array([a.doubt for a, _, _ in rated], dtype=float)
    unanswerable = np.array([q.answer is None for _, q, _ in rated], dtype=float)
    names = [c for _, _, c in rated]
    said = [before_declining(a) for a, _, _ in rated]
    loss = np.array([1 - (overall_f1(a, q) or 0.0) for a, (_, q, _) in zip(said, rated, strict=True)])
    would_answer = np.array([not a.is_declined for a in said])

    def area(chosen: NDArray[np.int64]) -> float:
        picked = chosen[would_answer[chosen]]
        return float(_risks(doubt[picked], loss[picked]).mean()) if len(picked) else 0.0

    draws = _draws(names, seed)
    everything = np.arange(len(rated))
    is_answered = bool(would_answer.any())
    losses = loss[would_answer]
    return Calibration(
        n=len(rated),
        unanswerable=int(unanswerable.sum()),
        ece=expected_error(doubt, unanswerable),
        ece_by_chance=_by_chance(doubt, seed),
        bins=_bins(doubt, unanswerable, names),
        aurc=_drawn(area, everything, draws) if is_answered else None,
        aurc_random=float(losses.mean()) if is_answered else None,
        aurc_best=float(_risks(losses, losses).mean()) if is_answered else None,
        curve=_curve(doubt[would_answer], losses, len(rated)),
        served=_served(rated, len(rated)),
    )


def before_declining(answer: Answer) -> Answer:
    """Return the answer as the model gave it, before a doubt held it back."""
    if not answer.withheld:
        return answer
    return answer.model_copy(
        update={"text": answer.withheld, "answer": without_marks(answer.withheld), "is_declined": False}
    )


def expected_error(doubt: Floats, unanswerable: Floats) -> float:
    """Expected calibration error: distance of mean doubt and share in each bin, weighted by its size.

    Doubts 0.2, 0.2 and 0.9 of a question with an answer and two without: (2 * |0.2 - 0.5| + |0.9 - 1|) / 3 = 0.233.

    >>> round(expected_error(np.array([0.2, 0.2, 0.9]), np.array([0.0, 1.0, 1.0])), 3)
    0.233
    """
    place = _place(doubt)
    gaps = np.bincount(place, weights=doubt - unanswerable, minlength=BINS)
    return float(np.abs(gaps).sum() / len(doubt))


def _by_chance(doubt: Floats, seed: int) -> float:
    """An error of 0 is never found: drawn from the doubts themselves, it is (Bröcker and Smith 2007)."""
    rng = np.random.default_rng(seed)
    found = [expected_error(doubt, (rng.random(len(doubt)) < doubt).astype(float)) for _ in range(_DRAWS)]
    return float(np.percentile(found, 95))


def _place(doubt: Floats) -> NDArray[np.int64]:
    return np.minimum((doubt * BINS).astype(np.int64), BINS - 1)


def _bins(doubt: Floats, unanswerable: Floats, clusters: Sequence[str]) -> tuple[Bin, ...]:
    place, made = _place(doubt), []
    for n in range(BINS):
        chosen = np.flatnonzero(place == n)
        if len(chosen):
            found = clustered_share(unanswerable[chosen].tolist(), [clusters[k] for k in chosen.tolist()])
            share = Interval(value=found.value, low=found.low, high=found.high, n=len(chosen), method="clustered share")
            made.append(Bin(doubt=float(doubt[chosen].mean()), unanswerable=share))
    return tuple(made)


def _risks(order: Floats, loss: Floats) -> Floats:
    """Mean loss of the first 1, 2, 3, ... items by an order; items that stand equal count by their mean."""
    ranks = np.argsort(order, kind="stable")
    _, group = np.unique(order[ranks], return_inverse=True)
    sums, counts = np.bincount(group, weights=loss[ranks]), np.bincount(group)
    even: Floats = (sums / counts)[group]
    risks: Floats = np.cumsum(even) / np.arange(1, len(loss) + 1)
    return risks


def _curve(doubt: Floats, loss: Floats, count: int) -> tuple[Point, ...]:
    if not len(loss):
        return ()
    risks = _risks(doubt, loss)
    places = np.unique(np.linspace(0, len(loss) - 1, _POINTS).round().astype(int))
    return tuple(Point(coverage=float((n + 1) / count), risk=float(risks[n])) for n in places)


def _served(rated: Sequence[tuple[Answer, Question, str]], count: int) -> Point | None:
    losses = [1 - (overall_f1(a, q) or 0.0) for a, q, _ in rated if not a.is_declined]
    return Point(coverage=len(losses) / count, risk=sum(losses) / len(losses)) if losses else None


def _draws(clusters: Sequence[str], seed: int) -> list[NDArray[np.int64]]:
    """Items of draws of whole documents."""
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    items = [np.flatnonzero(member == n) for n in range(len(names))]
    rng = np.random.default_rng(seed)
    return [np.concatenate([items[k] for k in rng.integers(0, len(names), len(names))]) for _ in range(_DRAWS)]


def _drawn(
    figure: Callable[[NDArray[np.int64]], float], everything: NDArray[np.int64], draws: Sequence[NDArray[np.int64]]
) -> Interval:
    low, high = np.percentile([figure(d) for d in draws], [2.5, 97.5])
    value, n = figure(everything), len(everything)
    return Interval(value=value, low=float(low), high=float(high), n=n, method="cluster bootstrap, percentiles")
