"""What a judge is worth: whether it keeps to its verdict, what sways it, and how far it agrees with people.

Until its agreement with enough human labels is measured and high enough, a judge's figures are advice and no gate.
Kappa is Cohen's (1960, A Coefficient of Agreement for Nominal Scales); its interval draws whole documents and is never
narrower than what the interval of the plain agreement gives at the same chance agreement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fieldwise.errors import FieldwiseError
from fieldwise.evaluate.preference import Judged, strengths
from fieldwise.evaluate.statistics import Estimate, clustered_share, paired_difference
from fieldwise.records import Interval, Record

LEAST_KAPPA = 0.6
"""What Landis and Koch (1977) call substantial agreement begins above it."""
LEAST_LABELS = 50
SAMPLES = 1000


class Labelled(NamedTuple):
    """One item on which a judge's verdict counts and a person has a label; `cluster` is its document."""

    judge: str
    human: str
    cluster: str


class OwnScore(NamedTuple):
    """What the judge and people give an answer of the judge's own model, 0 to 1."""

    judge: float
    human: float
    cluster: str


class Agreement(Record):
    """How far a judge agrees with people."""

    source: str = Field(description="where the labels come from")
    labels: int = Field(description="items with a human label")
    compared: int = Field(description="those of them on which the judge's verdict counts")
    same: Interval = Field(description="share of the compared items with the same label")
    kappa: Interval = Field(description="the same beyond chance; no value while one of the two says one thing only")


class JudgeCard(Record):
    """Everything measured about a judge on one set of verdicts."""

    judge: str
    how: Literal["explained", "next token"] = Field(description="whether it explains itself before its verdict")
    mode: Literal["rubric", "pairwise"]
    asked: int
    scored: int
    cannot_tell: int
    not_scored: dict[str, int] = Field({}, description="replies that are no verdict, by reason")
    order_consistency: Interval | None = Field(
        None, description="pairwise: share with the same verdict in both orders, of those decided in both"
    )
    first_place: Interval | None = Field(None, description="pairwise: log-odds won by standing in the first place")
    verbosity: Interval | None = Field(
        None, description="pairwise: logistic slope of winning on length, log-odds of an answer of twice the words"
    )
    judges_itself: tuple[str, ...] = Field((), description="judged systems that are the judge's own model")
    self_preference: Interval | None = Field(
        None, description="what the judge gives its own model's answers beyond what people give the same answers"
    )
    agreement: Agreement | None = None
    may_gate: bool
    why: str


class Standing(NamedTuple):
    """Whether a judge's figures may decide anything, and why."""

    may_gate: bool
    why: str


def standing(agreement: Agreement | None) -> Standing:
    """Tell whether a judge may gate: Cohen's kappa of at least 0.6 against at least 50 human labels."""
    rule = f"kappa of at least {LEAST_KAPPA} against at least {LEAST_LABELS} human labels"
    if agreement is None or agreement.compared == 0:
        return Standing(False, f"advisory: no human labels to compare with; a gate needs {rule}")
    kappa, n = agreement.kappa, agreement.compared
    if kappa.value is None:
        return Standing(
            False, f"advisory: {n} labels that all say one thing show no agreement beyond chance; a gate needs {rule}"
        )
    told = f"kappa {kappa.value:.2f} [{kappa.low:.2f}, {kappa.high:.2f}] against {n} human labels"
    if n < LEAST_LABELS or kappa.value < LEAST_KAPPA:
        return Standing(False, f"advisory: {told}; a gate needs {rule}")
    return Standing(True, f"may gate: {told}")


def require_gating(card: JudgeCard) -> None:
    """Raise FieldwiseError for a judge whose figures are advice only: nothing is decided by them."""
    if not card.may_gate:
        raise FieldwiseError(
            "this judge may not gate",
            where=card.judge,
            found=card.why.removeprefix("advisory: "),
            fix="Label answers by hand (fieldwise judge --sheet FILE, then --labels FILE), or vote (fieldwise compare); until then its figures are advice.",
        )


# ---------------------------------------------------------------- agreement with people


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return Cohen's kappa of pairs of labels; None where chance alone would agree always.

    20 times both yes, 15 both no, 5 and 10 apart: 0.7 agree, 0.5 by chance, so 0.2 / 0.5.

    >>> two = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    >>> round(kappa(two), 4)
    0.4
    """
    if not pairs:
        return None
    n = len(pairs)
    same = sum(a == b for a, b in pairs) / n
    by_chance = _by_chance(pairs)
    return (same - by_chance) / (1 - by_chance) if by_chance < 1 - 1e-12 else None


def _by_chance(pairs: Sequence[tuple[str, str]]) -> float:
    ones, others = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    return sum(count * others[label] for label, count in ones.items()) / len(pairs) ** 2


def agreement(items: Sequence[Labelled], labels: int, source: str, seed: int = 0) -> Agreement | None:
    """Return how far verdicts agree with people's labels, of which there are `labels`; None without any to compare."""
    if not items:
        return None
    pairs = [(i.judge, i.human) for i in items]
    clusters = [i.cluster for i in items]
    same = clustered_share([float(a == b) for a, b in pairs], clusters)
    return Agreement(
        source=source,
        labels=labels,
        compared=len(items),
        same=made(same, len(items), "clustered share"),
        kappa=_kappa_interval(pairs, clusters, same, seed),
    )


def _kappa_interval(pairs: Sequence[tuple[str, str]], clusters: Sequence[str], same: Estimate, seed: int) -> Interval:
    value = kappa(pairs)
    if value is None:
        return Interval(value=None, n=len(pairs), method="no label differs")
    drawn = _drawn_kappas(pairs, clusters, seed)
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (value, value)
    chance = _by_chance(pairs)
    ends = [(end - chance) / (1 - chance) for end in (same.low, same.high)]
    return Interval(
        value=value,
        low=max(-1.0, min(float(low), ends[0])),
        high=min(1.0, max(float(high), ends[1])),
        n=len(pairs),
        method="cluster bootstrap, not narrower than by the share that agrees",
    )


def _drawn_kappas(pairs: Sequence[tuple[str, str]], clusters: Sequence[str], seed: int) -> NDArray[np.float64]:
    """Kappas of draws of whole clusters; draws in which one of the two says one thing only say nothing."""
    labels = {label: n for n, label in enumerate(sorted({label for pair in pairs for label in pair}))}
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    tables = np.zeros((len(names), len(labels), len(labels)))
    for (a, b), place in zip(pairs, member.tolist(), strict=True):
        tables[place, labels[a], labels[b]] += 1
    draws = np.random.default_rng(seed).integers(0, len(names), (SAMPLES, len(names)))
    drawn = tables[draws].sum(1)
    drawn /= drawn.sum((1, 2), keepdims=True)
    same = np.trace(drawn, axis1=1, axis2=2)
    chance = (drawn.sum(2) * drawn.sum(1)).sum(1)
    told = chance < 1 - 1e-12
    found: NDArray[np.float64] = (same[told] - chance[told]) / (1 - chance[told])
    return found


def self_preference(items: Sequence[OwnScore], seed: int = 0) -> Interval | None:
    """Return what the judge gives its own answers beyond what people give them; None without human labels on them."""
    if not items:
        return None
    found = paired_difference(
        [i.judge for i in items], [i.human for i in items], [i.cluster for i in items], SAMPLES, seed
    )
    return made(found, len(items), "paired, cluster bootstrap")


# ---------------------------------------------------------------- what sways it


def order_consistency(same: Sequence[bool], clusters: Sequence[str]) -> Interval | None:
    """Return the share of contests with the same verdict in both orders; None without any."""
    if not same:
        return None
    return made(clustered_share([float(s) for s in same], clusters), len(same), "clustered share")


def effects(votes: Sequence[Judged], seed: int = 0) -> tuple[Interval | None, Interval | None]:
    """Return what the first place and twice the words are worth, in log-odds of winning, by one logistic fit.

    `votes` are the verdicts of single orders, the first place on the left. Where longer answers are the better ones
    the slope is not the judge's fault; beside the slope of people's votes on the same answers it is.
    """
    if not votes:
        return None, None
    names = sorted({side for v in votes for side in (v.left, v.right)})
    fit = strengths(names, votes, SAMPLES, seed, adjusted=True)
    return (
        None if fit.left is None else made(fit.left, len(votes), "question bootstrap"),
        None if fit.length is None else made(fit.length, len(votes), "question bootstrap"),
    )


def made(estimate: Estimate, n: int, method: str, unscored: int = 0) -> Interval:
    """Return an estimate as a record."""
    return Interval(value=estimate.value, low=estimate.low, high=estimate.high, n=n, unscored=unscored, method=method)
