"""When to say that the documents do not tell, beyond the model's own words: a score fitted on known questions.

A small model that was tuned to answer answers too readily. How probable it finds the reply "Not stated in the
documents." instead, and how near the best passage is to the question, tell unanswerable questions apart better
than its words alone. Both go into a logistic regression over development questions, which are neither trained on
nor measured on; the threshold is set by how many answerable questions may be declined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fieldwise.errors import DatasetError
from fieldwise.records import Record, RetrievedPassage

LEAST_ITEMS = 20
"""Answerable and unanswerable questions each that a rule needs."""
_RIDGE = 0.005  # of the number of questions
_STEPS = 50


class DeclineRule(Record):
    """A fitted rule, with what it did on the questions it was fitted on (in sample: the report has the real figures)."""

    bias: float
    decline_weight: float = Field(description="of the log-probability of the declining reply")
    similarity_weight: float = Field(description="of the cosine between the question and its nearest passage")
    threshold: float = Field(description="declined from this doubt on; above 1: never")
    answerable: int = Field(description="development questions with an answer")
    unanswerable: int = Field(description="development questions without one")
    right_declines: float = Field(description="share of the unanswerable that is declined, model's own words included")
    false_declines: float = Field(description="share of the answerable that is declined, model's own words included")
    auc: float = Field(description="area under the ROC curve of the doubt")

    def doubt(self, decline_logprob: float, similarity: float) -> float:
        """Return the probability, from 0 to 1, that the passages do not answer the question."""
        score = self.bias + self.decline_weight * decline_logprob + self.similarity_weight * similarity
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, score))))


class Asked(NamedTuple):
    """What is known of one development question once it has been asked."""

    decline_logprob: float
    similarity: float
    is_declined: bool
    is_unanswerable: bool


def similarity(passages: Sequence[RetrievedPassage]) -> float:
    """Return the highest cosine of the passages shown; 0 without passages or without an embedding."""
    return max((p.dense for p in passages if p.dense is not None), default=0.0)


def fit(asked: Sequence[Asked], most_false_declines: float) -> DeclineRule:
    """Fit the rule so that at most this share of the answerable questions is declined.

    A signal that points the wrong way (a nearer passage that makes an answer less likely) is chance and left out.
    Raises DatasetError with fewer than 20 questions of either sort.
    """
    wanted = np.array([a.is_unanswerable for a in asked], dtype=float)
    answerable, unanswerable = int((wanted == 0).sum()), int(wanted.sum())
    if min(answerable, unanswerable) < LEAST_ITEMS:
        raise too_few_questions(answerable, unanswerable)
    signals = np.array([[a.decline_logprob, a.similarity] for a in asked])
    weights = _logistic(signals, wanted, used=[0, 1])
    used = [n for n, sign in ((0, 1.0), (1, -1.0)) if weights[1 + n] * sign > 0]
    if len(used) < 2:
        weights = _logistic(signals, wanted, used=used)
    rule = DeclineRule(
        bias=_rounded(weights[0]),
        decline_weight=_rounded(weights[1]),
        similarity_weight=_rounded(weights[2]),
        threshold=2.0,
        answerable=answerable,
        unanswerable=unanswerable,
        right_declines=0.0,
        false_declines=0.0,
        auc=0.5,
    )
    doubts = np.array([rule.doubt(a.decline_logprob, a.similarity) for a in asked])
    threshold = _threshold(asked, doubts, most_false_declines)
    declined = np.array([a.is_declined for a in asked]) | (doubts >= threshold)
    return rule.model_copy(
        update={
            "threshold": threshold,
            "right_declines": round(float(declined[wanted == 1].mean()), 4),
            "false_declines": round(float(declined[wanted == 0].mean()), 4),
            "auc": round(_auc(doubts, wanted), 4),
        }
    )


def too_few_questions(answerable: int, unanswerable: int) -> DatasetError:
    """Return the error for development questions that are too few to fit a rule."""
    return DatasetError(
        "too few development questions to tell when to decline",
        where="evaluate.development",
        found=f"{answerable} with an answer, {unanswerable} without",
        fix=f"Give at least {LEAST_ITEMS} of each (answer null: the documents do not say), or leave the key out.",
    )


def _threshold(asked: Sequence[Asked], doubts: NDArray[np.float64], most: float) -> float:
    """The lowest threshold that keeps wrong declines, the model's own among them, within the share; 2 if none does.

    It lies half way to the next higher doubt, so that it does not hang on a single question.
    """
    answerable = [(d, a.is_declined) for a, d in zip(asked, doubts, strict=True) if not a.is_unanswerable]
    allowed = math.floor(most * len(answerable) + 1e-9) - sum(declined for _, declined in answerable)
    if allowed < 0:
        return 2.0
    left = sorted((d for d, declined in answerable if not declined), reverse=True)
    if allowed >= len(left):
        return 0.0
    highest_kept = left[allowed]
    above = [d for d in doubts if d > highest_kept]
    return _rounded((highest_kept + min(above)) / 2) if above else 2.0


def _logistic(signals: NDArray[np.float64], wanted: NDArray[np.float64], *, used: Sequence[int]) -> NDArray[np.float64]:
    """Weights (bias first) of a ridge logistic regression over standardised signals, by Newton's method."""
    means, spreads = signals.mean(0), signals.std(0)
    kept = [n for n in used if spreads[n] > 1e-9]
    design = np.column_stack([np.ones(len(signals)), *((signals[:, n] - means[n]) / spreads[n] for n in kept)])
    ridge = _RIDGE * len(signals) * np.diag([0.0] + [1.0] * len(kept))
    found = np.zeros(1 + len(kept))
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(design @ found, -30, 30)))
        slope = design.T @ (wanted - chance) - ridge @ found
        curve = design.T @ (design * (chance * (1 - chance))[:, None]) + ridge + 1e-9 * np.eye(len(found))
        step = np.linalg.solve(curve, slope)
        found = found + step
        if np.abs(step).max() < 1e-10:
            break
    weights = np.zeros(1 + signals.shape[1])
    weights[0] = found[0]
    for place, n in enumerate(kept, 1):
        weights[1 + n] = found[place] / spreads[n]
        weights[0] -= found[place] * means[n] / spreads[n]
    return weights


def _auc(doubts: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Share of pairs in which the unanswerable question has the greater doubt, ties counting half (Mann-Whitney)."""
    high, low = doubts[wanted == 1], doubts[wanted == 0]
    return float(((high[:, None] > low).sum() + 0.5 * (high[:, None] == low).sum()) / (len(high) * len(low)))


def _rounded(value: float) -> float:
    """Ten digits: what a rerun on another machine differs in does not reach the file."""
    return float(f"{value:.10g}")
