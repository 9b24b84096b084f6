"""The figures of a reward model against numbers worked by hand."""

import math

import pytest

from fieldwise.train.reward_figures import (
    Judged,
    calibration,
    difference,
    log_loss,
    report,
    share,
    temperature,
    told,
)


def test_a_share_has_the_interval_of_wilson() -> None:
    # 8 of 10, z 1.96: middle (.8 + .19207) / 1.38415 = .71674, half .22658
    found = share([1.0] * 8 + [0.0] * 2, list("abcdefghij"))
    assert (found.value, found.n) == (0.8, 10)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_pairs_of_one_document_that_agree_count_as_fewer() -> None:
    scores = [1.0] * 10 + [0.0] * 10
    apart = share(scores, [str(n) for n in range(20)])
    # two documents: variance by document 10 * .5^2 * 10 * 2 = 50 against 5 by pair, so 20 pairs are worth 2
    together = share(scores, ["a"] * 10 + ["b"] * 10)
    assert together.high - together.low == pytest.approx(
        share([1.0, 0.0], ["a", "b"]).high - share([1.0, 0.0], ["a", "b"]).low
    )
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_all_right_in_one_document_is_no_certainty() -> None:
    assert share([1.0] * 50, ["a"] * 50).low < 0.3
    assert share([1.0] * 50, [str(n) for n in range(50)]).low > 0.9


def test_a_paired_difference_is_that_of_the_two_shares() -> None:
    found = difference([1, 1, 1, 0], [0, 1, 0, 0], list("abcd"))
    # 1, 0, 1, 0: mean .5; sum of squares 1; sqrt(1 * 4 / 3) / 4 = .2887
    assert found.value == 0.5
    assert (found.low, found.high) == (pytest.approx(0.5 - 1.96 * 0.28868, abs=1e-3), 1.0)


def test_calibration_compares_what_margins_promise_with_what_holds() -> None:
    # ln 3 promises 3/4: right in 3 of 4 is calibrated
    honest = calibration([math.log(3)] * 3 + [-math.log(3)])
    assert honest["error"] == pytest.approx(0.0)
    assert honest["temperature"] == pytest.approx(1.0, abs=1e-3)
    # brier: 3 * (1/4)^2 + (3/4)^2 over 4
    assert honest["brier"] == pytest.approx((3 / 16 + 9 / 16) / 4)
    # ln 9 promises 9/10: .15 too much, and divided by 2 it would be honest
    boasting = calibration([math.log(9)] * 3 + [-math.log(9)])
    assert boasting["error"] == pytest.approx(0.15)
    assert boasting["temperature"] == pytest.approx(2.0, abs=1e-3)


def test_the_log_loss_is_that_of_bradley_and_terry() -> None:
    assert log_loss([0.0, 0.0]) == pytest.approx(math.log(2))
    assert log_loss([math.log(3)]) == pytest.approx(-math.log(0.75))
    assert log_loss([1000.0]) == 0.0 and log_loss([-1000.0]) == 1000.0  # no overflow


def test_no_temperature_is_least_where_every_pair_is_right() -> None:
    assert temperature([0.1, 2.0]) is None and temperature([-1.0]) is None


def test_the_report_sets_the_model_beside_a_rule_that_likes_long_replies() -> None:
    pairs = [
        Judged("a", 1.0, 0.0, 10, 5),  # right; the chosen is longer
        Judged("b", 1.0, 0.5, 4, 9),  # right; the chosen is shorter
        Judged("c", 0.0, 0.2, 6, 7),  # wrong; the chosen is shorter
        Judged("d", 0.3, 0.3, 6, 6),  # undecided twice over
    ]
    found = report(pairs)
    assert (found["pairs"], found["documents"]) == (4, 4)
    assert found["accuracy"]["value"] == pytest.approx(2.5 / 4)
    assert found["longer_wins"]["value"] == pytest.approx(1.5 / 4)
    assert found["above_longer_wins"]["value"] == pytest.approx(0.25)
    assert found["length"]["accuracy_chosen_shorter"]["value"] == 0.5
    assert found["length"]["accuracy_chosen_longer"]["value"] == 1.0
    assert found["length"]["rank_correlation"] == pytest.approx(0.261)  # scipy.stats.spearmanr: 0.2609
    assert found["reward_mean"] == pytest.approx(3.3 / 8)
    assert "right in 0.62" in told(found) and "4 held-out pairs of 4 documents" in told(found)
