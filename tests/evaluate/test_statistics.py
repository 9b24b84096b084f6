import random

import pytest
from scipy import stats

from fieldwise.evaluate import statistics as s


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 10), (50, 50), (123, 400)])
def test_wilson_equals_scipy(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    found = s.wilson(right, n)
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))


def test_nothing_measured_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        s.wilson(0, 0)


@pytest.mark.parametrize(("wins", "losses"), [(9, 1), (5, 5), (0, 0), (12, 3)])
def test_mcnemar_equals_the_binomial_test(wins: int, losses: int) -> None:
    candidate, baseline = [1.0] * wins + [0.0] * losses + [1.0], [0.0] * wins + [1.0] * losses + [1.0]
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert s.mcnemar(candidate, baseline) == pytest.approx(expected)


def test_items_that_move_together_widen_the_interval() -> None:
    scores = [1.0] * 50 + [0.0] * 50
    together = [f"d{i // 10}" for i in range(100)]
    alone = [str(i) for i in range(100)]
    assert s.effective_n(scores, alone) == pytest.approx(100, rel=0.02)
    assert s.effective_n(scores, together) < 15
    wide, narrow = s.clustered_share(scores, together), s.clustered_share(scores, alone)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_difference_on_the_same_items_is_sharper_than_two_intervals() -> None:
    rng = random.Random(0)
    baseline = [rng.random() for _ in range(200)]
    candidate = [b + 0.05 for b in baseline]
    found = s.paired_difference(candidate, baseline, [str(i) for i in range(200)], 1000, 0)
    assert found.value == pytest.approx(0.05)
    assert found.high - found.low < 1e-6


def test_the_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(1)
    covered = 0
    for trial in range(300):
        scores = [float(rng.random() < 0.3) for _ in range(120)]
        found = s.bootstrap_mean(scores, [str(i) for i in range(120)], 400, trial)
        covered += found.low <= 0.3 <= found.high
    assert 0.90 <= covered / 300 <= 0.985


def test_the_same_seed_gives_the_same_interval() -> None:
    scores, names = [0.1, 0.9, 0.4, 0.4], ["a", "a", "b", "c"]
    assert s.bootstrap_mean(scores, names, 200, 5) == s.bootstrap_mean(scores, names, 200, 5)


def test_one_document_has_an_interval_as_wide_as_its_questions_say() -> None:
    steps = [1.0, 0.0, 0.0, -1.0, 1.0] * 6
    whole = s.bootstrap_mean(steps, ["handbook"] * 30, 1000, 0)
    alone = s.bootstrap_mean(steps, [str(i) for i in range(30)], 1000, 0)
    assert (whole.low, whole.high) == (alone.low, alone.high)
    assert whole.low < 0 < whole.high


def test_two_alike_documents_do_not_make_an_interval_narrower() -> None:
    steps, halves = [1.0, 0.0, 0.0, -1.0, 1.0] * 6, ["a"] * 15 + ["b"] * 15
    alone = s.bootstrap_mean(steps, [str(i) for i in range(30)], 1000, 0)
    found = s.bootstrap_mean(steps, halves, 1000, 0)
    assert found.low <= alone.low and found.high >= alone.high


def test_more_items_are_needed_for_a_smaller_difference_and_for_documents_that_move_together() -> None:
    assert s.needed_n(100, s.Estimate(0.1, -0.1, 0.3), 0.0) == 400
    assert s.needed_n(100, s.Estimate(0.05, -0.1, 0.2), 0.0) == 900
    assert s.needed_n(100, s.Estimate(0.0, -0.2, 0.2), 0.0) is None
    steps = [0.0, 1.0, -1.0, 1.0, 0.0] * 20
    scattered = s.bootstrap_mean(steps, [str(i) for i in range(100)], 1000, 0)
    together = s.bootstrap_mean(sorted(steps), [f"d{i // 8}" for i in range(100)], 1000, 0)
    assert s.needed_n(100, together, 0.4) > 2 * s.needed_n(100, scattered, 0.4)
