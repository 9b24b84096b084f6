import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldwise.ranking.figures import ndcg, recall, reciprocal_rank, span_score
from fieldwise.ranking.judged import Span


def test_ndcg_by_hand() -> None:
    # Found: nothing, grade 2, grade 1. Gain 2 / log2(3) + 1 / log2(4); ideal 2 + 1 / log2(3).
    expected = (2 / math.log2(3) + 0.5) / (2 + 1 / math.log2(3))
    assert ndcg(["x", "a", "b"], {"a": 2, "b": 1}) == pytest.approx(expected)
    assert ndcg(["x", "a", "b"], {"a": 2, "b": 1}, k=1) == 0.0


def test_ndcg_of_many_relevant_is_whole_when_the_first_ten_are() -> None:
    relevant = {f"d{n}": 1 for n in range(30)}
    assert ndcg([f"d{n}" for n in range(10)], relevant) == pytest.approx(1.0)


def test_ndcg_equals_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = random.Random(3)
    for _ in range(50):
        count = rng.randint(11, 40)
        grades = [rng.choice((0, 0, 0, 1, 2, 3)) for _ in range(count)]
        if not any(grades):
            continue
        scores = rng.sample(range(1000), count)
        order = sorted(range(count), key=lambda n: -scores[n])
        mine = ndcg([str(n) for n in order], {str(n): g for n, g in enumerate(grades) if g})
        assert mine == pytest.approx(metrics.ndcg_score([grades], [scores], k=10))


def test_an_id_found_twice_counts_once_and_takes_one_rank() -> None:
    assert recall(["a", "a", "b"], {"a": 1, "b": 1}, 2) == 1.0
    assert ndcg(["a", "a", "b"], {"b": 1}) == pytest.approx(1 / math.log2(3))


def test_grades_of_zero_and_below_are_not_relevant() -> None:
    assert ndcg(["a"], {"a": -1, "b": 1}) == 0.0
    assert recall(["a"], {"a": 0, "b": 1}, 1) == 0.0
    assert reciprocal_rank(["a", "b"], {"a": 0, "b": 1}) == 0.5
    assert ndcg(["a"], {}) == recall(["a"], {}, 1) == 0.0


def test_reciprocal_rank_ends_at_ten() -> None:
    ranking = [str(n) for n in range(20)]
    assert reciprocal_rank(ranking, {"9": 1}) == pytest.approx(0.1)
    assert reciprocal_rank(ranking, {"10": 1}) == 0.0


def test_characters_are_counted_once_and_by_document() -> None:
    # 60 characters shown (two spans overlap), 30 wanted, 20 of them shown; the other document's do not count.
    shown = [Span("a", 0, 40), Span("a", 20, 60)]
    found = span_score(shown, [Span("a", 40, 70), Span("a", 45, 50)])
    assert found.precision == pytest.approx(20 / 60)
    assert found.recall == pytest.approx(20 / 30)
    assert found.f1 == pytest.approx(2 * (1 / 3) * (2 / 3) / 1)
    assert span_score(shown, [Span("b", 0, 40)]) == (0.0, 0.0, 0.0)
    assert span_score([], [Span("b", 0, 40)]).f1 == 0.0


@given(
    st.lists(st.integers(0, 30).map(str), max_size=40),
    st.dictionaries(st.integers(0, 30).map(str), st.integers(-1, 3), max_size=12),
)
def test_figures_stay_between_nothing_and_all(ranking: list[str], relevant: dict[str, int]) -> None:
    for figure in (ndcg(ranking, relevant), recall(ranking, relevant, 5), reciprocal_rank(ranking, relevant)):
        assert 0.0 <= figure <= 1.0 + 1e-12
    best = sorted(relevant, key=lambda i: -relevant[i])
    assert ndcg(best, relevant) == pytest.approx(1.0 if any(g > 0 for g in relevant.values()) else 0.0)
