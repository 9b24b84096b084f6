"""Strengths, shares, stopping: worked by hand first, then by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from fieldwise.evaluate.preference import Judged, linked, more_votes, share, strengths, tally
from fieldwise.evaluate.statistics import Estimate


def votes(wins: int, ties: int, losses: int, first: str = "a", second: str = "b") -> list[Judged]:
    """Votes on one pair, a question each, the first system on the left every other time."""
    winners = [first] * wins + [None] * ties + [second] * losses
    return [
        Judged(*((first, second) if n % 2 else (second, first)), winner, f"{first}{second}{n}")
        for n, winner in enumerate(winners)
    ]


def test_two_systems_with_ties_have_the_closed_form_of_davidson() -> None:
    # weights pa : v sqrt(pa pb) : pb = 12.5 : 6.5 : 3.5 with half a vote added to each
    found = strengths(["a", "b"], votes(12, 6, 3), 200, 0)
    assert found.strengths["a"].value - found.strengths["b"].value == pytest.approx(math.log(12.5 / 3.5))
    assert found.strengths["a"].value == pytest.approx(-found.strengths["b"].value)
    assert found.ties.value == pytest.approx(6.5 / math.sqrt(12.5 * 3.5))


def test_three_systems_equal_a_general_optimiser() -> None:
    given = votes(9, 2, 4) + votes(7, 5, 3, "b", "c") + votes(11, 1, 2, "a", "c")
    names = ["a", "b", "c"]

    def loss(x: np.ndarray) -> float:
        s = dict(zip(names, [x[0], x[1], -x[0] - x[1]], strict=True))
        total = 0.0
        counts = {("a", "b"): (9, 2, 4), ("b", "c"): (7, 5, 3), ("a", "c"): (11, 1, 2)}
        for (i, j), seen in counts.items():
            d = (s[i] - s[j]) / 2
            norm = math.log(math.exp(d) + math.exp(x[2]) + math.exp(-d))
            # the prior's mass of three systems, 2 parameters of strength over 3 pairs
            total -= sum((c + 1 / 3) * (u - norm) for c, u in zip(seen, (d, x[2], -d), strict=True))
        return total

    expected = optimize.minimize(loss, np.zeros(3), tol=1e-12).x
    found = strengths(names, given, 50, 0)
    assert [found.strengths[n].value for n in "ab"] == pytest.approx(list(expected[:2]), abs=1e-4)
    assert math.log(found.ties.value) == pytest.approx(expected[2], abs=1e-4)


def test_a_system_that_never_lost_has_a_finite_strength_and_a_wide_interval() -> None:
    found = strengths(["a", "b"], votes(8, 0, 0), 200, 0).strengths["a"]
    assert found.value == pytest.approx(math.log(8.5 / 0.5) / 2)
    assert -0.1 < found.low < 0.4 and 2 < found.high < 4


def test_systems_without_a_chain_of_votes_between_them_are_not_ordered() -> None:
    names, given = ["a", "b", "c", "d"], votes(5, 0, 2) + votes(3, 1, 1, "c", "d")
    assert not linked(names, given) and strengths(names, given, 50, 0).strengths is None
    assert linked(names, [*given, Judged("b", "c", "b", "q")])


def test_a_share_counts_ties_half_and_agreement_of_all_does_not_make_it_certain() -> None:
    assert tally("a", votes(6, 2, 2)) == (6, 2, 2)
    assert share("a", votes(6, 2, 2), 300, 0).value == pytest.approx(0.7)
    assert share("b", votes(6, 2, 2), 300, 0).value == pytest.approx(0.3)
    unanimous = share("a", votes(6, 0, 0), 300, 0)
    assert unanimous.value == unanimous.high == 1 and 0.6 < unanimous.low < 0.9
    ties = share("a", votes(0, 20, 0), 300, 0)
    assert ties.value == 0.5 and 0.4 < ties.low < 0.49 and 0.51 < ties.high < 0.6


def test_votes_on_one_question_are_worth_little_more_than_one() -> None:
    alone = [Judged("a", "b", "ab"[n % 2], str(n)) for n in range(60)]
    together = [Judged("a", "b", "ab"[n // 6 % 2], str(n // 6)) for n in range(60)]
    wide, narrow = (share("a", v, 1000, 0) for v in (together, alone))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_more_votes_follow_the_root_of_n() -> None:
    assert more_votes(24, Estimate(0.5, 0.3, 0.7), 0.2) == 72
    assert more_votes(97, Estimate(0.5, 0.4, 0.6), 0.2) == 0
    assert more_votes(0, None, 0.2) == 97  # (1.96 / 0.2)^2 = 96.04
    assert more_votes(50, Estimate(0.5, 0.399, 0.6), 0.2) == 1


def test_the_side_and_the_length_of_an_answer_are_found_and_taken_out() -> None:
    rng = np.random.default_rng(4)
    given = []
    for n in range(900):
        longer = float(rng.uniform(-0.6, 0.6))
        names = ("a", "b") if rng.random() < 0.5 else ("b", "a")
        # the systems are alike; twice as long is worth 0.7 in log-odds (0.7 * 3 for each unit), the left place 0.5
        d = 2.1 * longer + 0.5
        weights = np.exp([d / 2, math.log(0.4), -d / 2])
        outcome = rng.choice(3, p=weights / weights.sum())
        given.append(Judged(*names, (names[0], None, names[1])[outcome], str(n), longer))
    found = strengths(["a", "b"], given, 200, 0, adjusted=True)
    assert found.length.low < 0.7 < found.length.high and found.length.low > 0.3
    assert found.left.low < 0.5 < found.left.high and found.left.low > 0.2
    assert found.strengths["a"].low < 0 < found.strengths["a"].high


def test_answers_that_are_always_longer_when_they_win_leave_the_question_open() -> None:
    given = [Judged("a", "b", "a", str(n), 0.3) for n in range(12)]
    found = strengths(["a", "b"], given, 100, 0, adjusted=True)
    assert all(math.isfinite(x) for e in (*found.strengths.values(), found.length, found.left) for x in e)


def simulated(rng: np.random.Generator, s: dict[str, float], questions: int, voters: int, ties: float) -> list[Judged]:
    """Votes on random pairs; each question leans to one system or the other, so that its votes hang together."""
    names, given = list(s), []
    for q in range(questions):
        for _ in range(voters):
            a, b = rng.choice(names, 2, replace=False)
            weights = np.exp([(s[a] - s[b]) / 2, math.log(ties), (s[b] - s[a]) / 2])
            given.append(Judged(a, b, (a, None, b)[rng.choice(3, p=weights / weights.sum())], str(q)))
    return given


@pytest.mark.parametrize(
    ("truth", "questions", "voters", "ties"),
    [
        ({"a": 0.4, "b": -0.4}, 60, 1, 0.6),
        ({"a": 0.0, "b": 0.0}, 40, 2, 0.3),
        ({"a": 0.6, "b": 0.1, "c": -0.7}, 90, 1, 0.5),
    ],
)
def test_intervals_of_strengths_cover_the_truth_as_often_as_they_say(
    truth: dict[str, float], questions: int, voters: int, ties: float
) -> None:
    rng, covered, trials = np.random.default_rng(7), 0, 400
    for trial in range(trials):
        found = strengths(list(truth), simulated(rng, truth, questions, voters, ties), 300, trial).strengths
        covered += found["a"].low <= truth["a"] <= found["a"].high
    assert 0.925 <= covered / trials <= 0.98, covered / trials


@pytest.mark.parametrize(("questions", "voters", "agree"), [(50, 1, 0.0), (50, 3, 0.5), (20, 1, 0.0)])
def test_intervals_of_shares_cover_the_truth_also_where_voters_agree_on_a_question(
    questions: int, voters: int, agree: float
) -> None:
    outcome = np.array([0.45, 0.25, 0.30])  # a, tie, b: the share of a is 0.575
    rng, covered, trials = np.random.default_rng(8), 0, 600
    for trial in range(trials):
        given = []
        for q in range(questions):
            common = rng.choice(3, p=outcome)
            for _ in range(voters):
                pick = common if rng.random() < agree else rng.choice(3, p=outcome)
                given.append(Judged("a", "b", ("a", None, "b")[pick], str(q)))
        found = share("a", given, 300, trial)
        covered += found.low <= 0.575 <= found.high
    assert 0.925 <= covered / trials <= 0.98, covered / trials
