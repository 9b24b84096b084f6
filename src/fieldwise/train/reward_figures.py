"""How good a reward model is on pairs it has not seen: accuracy, whether its margins mean what they say, and length bias.

A reward model is a Bradley-Terry model (1952): it says that a reply with reward a is preferred to one with reward b with
probability 1 / (1 + exp(b - a)).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean, pstdev
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.train.preference_effect import rank_correlation

_BINS = 5  # of confidence between 0.5 and 1
_Z = NormalDist().inv_cdf(0.975)
_STEPS = 60  # of the search for the temperature; each narrows it to 0.618


class Judged(NamedTuple):
    """A held-out pair with the rewards and lengths of both replies; `group` is the document it comes from."""

    group: str
    chosen: float
    rejected: float
    chosen_tokens: int
    rejected_tokens: int

    @property
    def margin(self) -> float:
        """Reward of the chosen reply above that of the rejected one."""
        return self.chosen - self.rejected


class Share(NamedTuple):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, JsonValue]:
        """The share as it stands in the record."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def report(pairs: Sequence[Judged]) -> dict[str, JsonValue]:
    """Return every figure of the held-out pairs; at least one is needed."""
    groups = [p.group for p in pairs]
    right = [_half(p.margin) for p in pairs]
    longer = [_half(p.chosen_tokens - p.rejected_tokens) for p in pairs]
    rewards = [r for p in pairs for r in (p.chosen, p.rejected)]
    lengths = [float(n) for p in pairs for n in (p.chosen_tokens, p.rejected_tokens)]
    return {
        "pairs": len(pairs),
        "documents": len(set(groups)),
        "accuracy": share(right, groups).to_json(),
        "longer_wins": share(longer, groups).to_json(),
        "above_longer_wins": difference(right, longer, groups).to_json(),
        "calibration": calibration([p.margin for p in pairs]),
        "length": {
            "chosen_tokens": fmean(p.chosen_tokens for p in pairs),
            "rejected_tokens": fmean(p.rejected_tokens for p in pairs),
            "rank_correlation": rank_correlation(rewards, lengths),
            "accuracy_chosen_longer": _among(pairs, lambda n: n > 0),
            "accuracy_chosen_shorter": _among(pairs, lambda n: n < 0),
            "accuracy_same_length": _among(pairs, lambda n: n == 0),
        },
        "reward_mean": fmean(rewards),
        "reward_std": pstdev(rewards),
    }


def share(scores: Sequence[float], groups: Sequence[str]) -> Share:
    """Share with its Wilson interval (1927) over the effective number: pairs of one document are not independent.

    The number is divided by the design effect of the groups (Kish 1965): the variance of the mean over groups against
    that of single pairs, and never less than 1.

    >>> share([1.0] * 8 + [0.0] * 2, list("abcdefghij"))
    Share(value=0.8, low=0.4901624715366529, high=0.9433178485456248, n=10)
    """
    n, value = len(scores), fmean(scores)
    effective = n / _design_effect(scores, groups)
    middle = (value + _Z**2 / (2 * effective)) / (1 + _Z**2 / effective)
    half = _Z * math.sqrt(value * (1 - value) / effective + _Z**2 / (4 * effective**2)) / (1 + _Z**2 / effective)
    return Share(value, max(0.0, middle - half), min(1.0, middle + half), n)


def difference(left: Sequence[float], right: Sequence[float], groups: Sequence[str]) -> Share:
    """Paired difference of two shares with its 95 % interval, from the sums by document (sandwich estimator)."""
    values = [a - b for a, b in zip(left, right, strict=True)]
    mean, n = fmean(values), len(values)
    count = len(set(groups))
    spread = math.sqrt(_sum_of_squares(values, groups) * count / max(1, count - 1)) / n
    # without any spread, as where both are always right: one pair in n may still differ
    half = _Z * spread if spread else 1 / n
    return Share(mean, max(-1.0, mean - half), min(1.0, mean + half), n)


def calibration(margins: Sequence[float]) -> dict[str, JsonValue]:
    """Say how far the probabilities that follow from the margins agree with what was preferred.

    `error` is the expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3) over five equal bins of
    confidence. `log_loss` is that of the right side, ln 2 = 0.693 for a coin. `temperature` divides the margins so that
    the log loss becomes least (section 4.2 there): above 1 the margins promise too much. It is found on these same pairs.
    """
    confident = [(1 / (1 + math.exp(-min(abs(m), 700.0))), _half(m)) for m in margins]
    rows: list[JsonValue] = []
    error = 0.0
    for n in range(_BINS):
        low = 0.5 + 0.5 * n / _BINS
        high = 0.5 + 0.5 * (n + 1) / _BINS
        inside = [(c, right) for c, right in confident if low <= c < high or (n == _BINS - 1 and c >= high)]
        if not inside:
            continue
        promised, kept = fmean(c for c, _ in inside), fmean(right for _, right in inside)
        error += abs(promised - kept) * len(inside) / len(confident)
        rows.append({"from": low, "to": high, "pairs": len(inside), "confidence": promised, "right": kept})
    return {
        "error": error,
        "log_loss": log_loss(margins),
        "brier": fmean(_other_side(m) ** 2 for m in margins),
        "temperature": temperature(margins),
        "bins": rows,
    }


def log_loss(margins: Sequence[float], temperature: float = 1.0) -> float:
    """Mean of -ln sigmoid(margin / temperature): the loss a reward model is trained on (Ouyang et al. 2022, eq. 1).

    >>> round(log_loss([0.0, 2.0]), 4)
    0.41
    """
    return fmean(_softplus(-m / temperature) for m in margins)


def temperature(margins: Sequence[float]) -> float | None:
    """Return the temperature of least log loss, between 0.05 and 20; None if every margin has the same sign.

    Then none is least: the loss falls, or rises, all the way.
    """
    if all(m >= 0 for m in margins) or all(m <= 0 for m in margins):
        return None
    low, high = math.log(0.05), math.log(20)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(_STEPS):  # golden section: the loss has one valley over the logarithm
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if log_loss(margins, math.exp(left)) < log_loss(margins, math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def told(figures: dict[str, JsonValue]) -> str:
    """Return the main figures in one line for people."""

    def shown(name: str) -> str:
        found = figures[name]
        assert isinstance(found, dict)
        return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"

    calibrated, length = figures["calibration"], figures["length"]
    assert isinstance(calibrated, dict) and isinstance(length, dict)
    correlation = length["rank_correlation"]
    return (
        f"right in {shown('accuracy')} of {figures['pairs']} held-out pairs of {figures['documents']} documents "
        f"(the longer reply wins: {shown('longer_wins')}); calibration error {calibrated['error']:.2f}; rewards and "
        f"lengths correlate by {'-' if correlation is None else format(correlation, '.2f')}"
    )


def _half(difference: float) -> float:
    return 0.5 if difference == 0 else float(difference > 0)


def _among(pairs: Sequence[Judged], kept: Callable[[int], bool]) -> JsonValue:
    inside = [p for p in pairs if kept(p.chosen_tokens - p.rejected_tokens)]
    return share([_half(p.margin) for p in inside], [p.group for p in inside]).to_json() if inside else None


def _sum_of_squares(values: Sequence[float], groups: Sequence[str]) -> float:
    mean = fmean(values)
    sums = dict.fromkeys(groups, 0.0)
    for value, group in zip(values, groups, strict=True):
        sums[group] += value - mean
    return sum(s**2 for s in sums.values())


def _design_effect(scores: Sequence[float], groups: Sequence[str]) -> float:
    single = pstdev(scores) ** 2 * len(scores)
    sizes = Counter(groups)
    if not single:  # all alike: as if the pairs of a document were one
        return len(scores) / len(sizes)
    return max(1.0, _sum_of_squares(scores, groups) / single)


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def _other_side(margin: float) -> float:
    """The probability that a margin gives to the rejected reply."""
    return math.exp(-_softplus(margin))
