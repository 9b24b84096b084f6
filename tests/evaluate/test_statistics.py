import random

import pytest
from scipy import stats

from fieldwise.evaluate import statistics as s
from fieldwise.evaluate.power import minimum_detectable_effect, needed_n, passes_from
from fieldwise.evaluate.repeats import variance_split


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
    apart = [s.bounded_mean(v, [str(i) for i in range(200)], 1000, 0) for v in (baseline, candidate)]
    assert found.low > 0 and found.half < min(a.half for a in apart) / 2


@pytest.mark.parametrize(("right", "n"), [(0, 7), (50, 50), (3, 10), (123, 400)])
def test_exact_shares_equal_scipy(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(method="exact")
    assert s.exact_share(right, n)[1:] == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_failure_still_bounds_the_share_of_failures() -> None:
    none = s.clustered_share([0.0] * 127, [str(n) for n in range(127)])
    assert (none.value, none.low) == (0.0, 0.0) and none.high == pytest.approx(1 - 0.025 ** (1 / 127))
    alike = s.clustered_share([0.0] * 127, [f"d{n // 10}" for n in range(127)])
    assert alike.high > 1.5 * none.high  # 13 documents of 10: their questions may fail together
    assert s.clustered_share([1.0] * 127, [str(n) for n in range(127)]).low == pytest.approx(1 - none.high)


def test_independent_questions_have_the_plain_wilson_interval() -> None:
    assert s.clustered_share([1.0] * 8 + [0.0] * 2, [str(n) for n in range(10)]) == s.wilson(8, 10)


def test_the_clustered_standard_error_by_hand() -> None:
    # Mean 0.5; document a holds 1 1 1, b 0 0 0: residual sums 1.5 and -1.5, sqrt(2 / 1 * 4.5) / 6 = 0.5.
    assert s.clustered_error([1, 1, 1, 0, 0, 0], list("aaabbb")) == pytest.approx(0.5)
    assert s.clustered_error([1, 0, 1, 0, 1, 0], list("abcdef")) == pytest.approx(stats.sem([1, 0, 1, 0, 1, 0]))
    assert s.clustered_error([1, 0], ["a", "a"]) == 0.0


def test_where_no_item_differs_a_difference_could_still_be_there() -> None:
    found = s.paired_difference([1.0] * 50, [1.0] * 50, [str(n) for n in range(50)], 500, 0)
    assert found.value == 0 and found.low == pytest.approx(-found.high) and 0.03 < found.high < 0.08
    gained = s.paired_difference([1.0] * 22, [0.0] * 22, [str(n) for n in range(22)], 500, 0)
    assert gained.value == gained.high == 1.0 and 0.6 < gained.low < 0.9


def test_a_mean_of_noughts_and_one_half_is_bounded_by_the_share_that_is_not_nought() -> None:
    scores, names = [0.0] * 99 + [0.5], [str(n) for n in range(100)]
    found = s.bounded_mean(scores, names, 500, 0)
    assert found.low == 0.0 and found.high == pytest.approx(s.wilson(1, 100).high)
    assert s.bounded_mean([1 - v for v in scores], names, 500, 0).low == pytest.approx(1 - found.high)


def test_many_documents_of_which_three_hold_the_questions_are_few() -> None:
    names = [f"d{n % 3}" for n in range(210)] + [f"alone{n}" for n in range(50)]
    assert s.are_few(names) and not s.are_few([f"d{n % 10}" for n in range(200)])
    scores = [float(n % 3 == 0) for n in range(210)] + [0.5] * 50
    assert s.bootstrap_mean(scores, names, 500, 0).half > 0.3


def test_holm_by_hand_and_never_below_the_unadjusted() -> None:
    assert s.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert s.holm([0.5, 0.9]) == [1.0, 1.0] and s.holm([]) == []


def test_a_p_value_falls_below_its_level_where_the_interval_leaves_the_limit_out() -> None:
    found = s.Estimate(0.10, 0.02, 0.20)
    assert s.p_beyond(found, 0.02) == pytest.approx(0.025) == s.p_beyond(found, 0.20)
    assert s.p_beyond(found, 0.0) < 0.025 < s.p_beyond(found, 0.05)
    assert s.p_beyond(found, 0.10) == 0.5


def test_the_detectable_difference_by_hand() -> None:
    found = s.Estimate(0.0, -1.96, 1.96)  # standard error 1: 1.960 + 0.842
    assert minimum_detectable_effect(found) == pytest.approx(2.802, abs=1e-3)
    assert passes_from(found, -3.0) == pytest.approx(-0.198, abs=1e-3)


def test_the_variance_of_samples_splits_by_hand() -> None:
    split = variance_split([[0, 2], [4, 6]])
    assert (split.mean, split.between, split.within, split.items, split.samples) == (3.0, 7.0, 2.0, 2, 4)
    assert split.sampling_share == pytest.approx(2 / 9)
    assert split.standard_error(2) == pytest.approx(2.0)  # sqrt((7 + 2 / 2) / 2)
    assert split.standard_error(1000, items=7) == pytest.approx(1.0, abs=1e-3)


def test_the_split_finds_what_the_samples_were_drawn_with_and_agrees_with_scipy() -> None:
    rng = random.Random(4)
    centres = [rng.gauss(0.5, 0.3) for _ in range(400)]
    samples = [[rng.gauss(c, 0.2) for _ in range(2 + n % 4)] for n, c in enumerate(centres)]
    split = variance_split(samples)
    assert split.between == pytest.approx(0.09, rel=0.2) and split.within == pytest.approx(0.04, rel=0.2)
    even = [row[:2] for row in samples]
    split = variance_split(even)
    assert (2 * split.between + split.within) / split.within == pytest.approx(stats.f_oneway(*even).statistic)


@pytest.mark.parametrize("samples", [[[1, 0]], [[1], [0]], [[1, 0], []]])
def test_a_split_needs_repeats_of_several_items(samples: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="two items or more"):
        variance_split(samples)


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
    assert needed_n(100, s.Estimate(0.1, -0.1, 0.3), 0.0) == 818
    assert needed_n(100, s.Estimate(0.05, -0.1, 0.2), 0.0) == 1839
    assert needed_n(100, s.Estimate(0.0, -0.2, 0.2), 0.0) is None
    steps = [0.0, 1.0, -1.0, 1.0, 0.0] * 20
    scattered = s.bootstrap_mean(steps, [str(i) for i in range(100)], 1000, 0)
    together = s.bootstrap_mean(sorted(steps), [f"d{i // 8}" for i in range(100)], 1000, 0)
    assert needed_n(100, together, 0.4) > 2 * needed_n(100, scattered, 0.4)
