import math
import random

import numpy as np
import pytest
from decline_rules import decline_rule
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwise.errors import DatasetError
from fieldwise.records import Chunk, Document, RetrievedPassage, Source
from fieldwise.retrieve.decline import Asked, DeclineRule, fit, similarity


def known(count: int = 60, seed: int = 0, own_words: float = 0.0) -> list[Asked]:
    """Questions whose doubt is known: unanswerable ones lie 2 nats and 0.2 of cosine apart, with overlap."""
    rng = random.Random(seed)
    return [
        Asked(
            rng.gauss(-2 if unanswerable else -4, 1.2),
            rng.gauss(0.4 if unanswerable else 0.6, 0.12),
            rng.random() < own_words,
            unanswerable,
        )
        for unanswerable in (True, False)
        for _ in range(count)
    ]


def declines(rule: DeclineRule, items: list[Asked], unanswerable: bool) -> float:
    chosen = [a for a in items if a.is_unanswerable == unanswerable]
    return sum(a.is_declined or rule.doubt(a[0], a[1]) >= rule.threshold for a in chosen) / len(chosen)


def test_the_doubt_is_the_logistic_function_of_the_weighted_signals() -> None:
    rule = decline_rule(bias=1.0, decline_weight=0.5, similarity_weight=-2.0)
    assert rule.doubt(-2.0, 0.5) == pytest.approx(1 / (1 + math.exp(1.0)))  # 1 - 1 - 1 = -1
    assert rule.doubt(-1e9, 0.0) == pytest.approx(0.0) and rule.doubt(1e9, 0.0) == pytest.approx(1.0)


def test_a_fitted_rule_tells_the_two_apart_on_questions_it_was_not_fitted_on() -> None:
    rule, others = fit(known(), 0.2), known(400, seed=1)
    assert rule.decline_weight > 0 > rule.similarity_weight
    assert declines(rule, others, True) > 0.7
    assert declines(rule, others, False) < 0.3


def test_the_weights_are_those_of_maximum_likelihood_but_for_the_ridge() -> None:
    items = known(2000, seed=3)
    rule = fit(items, 0.2)
    # normal signals of equal spread: log odds have slope (difference of means) / variance
    assert rule.decline_weight == pytest.approx(2 / 1.2**2, rel=0.15)
    assert rule.similarity_weight == pytest.approx(-0.2 / 0.12**2, rel=0.15)
    doubts = [rule.doubt(a[0], a[1]) for a in items]
    assert np.mean(doubts) == pytest.approx(0.5, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 0.5))
def test_no_more_of_the_answerable_is_declined_than_was_allowed(seed: int, most: float, own_words: float) -> None:
    items = known(25, seed, own_words)
    rule = fit(items, most)
    own = sum(a.is_declined for a in items if not a.is_unanswerable) / 25
    assert declines(rule, items, False) <= max(most, own) + 1e-9
    assert rule.false_declines == pytest.approx(declines(rule, items, False), abs=1e-4)
    assert rule.right_declines == pytest.approx(declines(rule, items, True), abs=1e-4)


def test_a_model_that_declines_too_much_by_itself_gets_no_further_declines() -> None:
    rule = fit([a._replace(is_declined=True) for a in known()], 0.2)
    assert rule.threshold > 1


def test_a_signal_that_points_the_wrong_way_is_left_out() -> None:
    rule = fit([a._replace(similarity=-a.similarity) for a in known()], 0.2)
    assert rule.similarity_weight == 0 and rule.decline_weight > 0


def test_without_an_embedding_the_model_alone_is_asked() -> None:
    rule = fit([a._replace(similarity=0.0) for a in known()], 0.2)
    assert rule.similarity_weight == 0 and declines(rule, known(200, 5), True) > 0.5


def test_signals_that_separate_perfectly_still_give_finite_weights() -> None:
    items = [Asked(-1.0, 0.2, False, True)] * 20 + [Asked(-9.0, 0.9, False, False)] * 20
    rule = fit(items, 0.2)
    assert all(math.isfinite(v) for v in (rule.bias, rule.decline_weight, rule.similarity_weight))
    assert (rule.right_declines, rule.auc) == (1.0, 1.0)


def test_too_few_questions_of_either_sort_are_refused_with_both_counts() -> None:
    with pytest.raises(DatasetError, match="19 with an answer, 60 without"):
        fit([a for a in known() if a.is_unanswerable] + [a for a in known() if not a.is_unanswerable][:19], 0.2)


def test_similarity_is_that_of_the_nearest_passage() -> None:
    document = Document.make(title="t", text="one two", source=Source(uri="a.md"))
    chunk = Chunk.make(document, 0, 3)
    shown = [RetrievedPassage(chunk=chunk, score=1.0, dense=d) for d in (0.3, 0.7, None)]
    assert similarity(shown) == 0.7
    assert similarity(shown[2:]) == 0.0
