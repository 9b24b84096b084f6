"""What a judge is worth: agreement with people beyond chance, what sways it, and when it may decide."""

from __future__ import annotations

import random

import pytest

from fieldwise.compare.judge_card import (
    Agreement,
    JudgeCard,
    Labelled,
    OwnScore,
    agreement,
    effects,
    kappa,
    order_consistency,
    require_gating,
    self_preference,
    standing,
)
from fieldwise.errors import FieldwiseError
from fieldwise.evaluate.preference import Judged


def labelled(yes: int, no: int, wrong_yes: int = 0, wrong_no: int = 0) -> list[Labelled]:
    pairs = [("right", "right")] * yes + [("wrong", "wrong")] * no
    pairs += [("right", "wrong")] * wrong_yes + [("wrong", "right")] * wrong_no
    return [Labelled(a, b, f"d{n % 20}") for n, (a, b) in enumerate(pairs)]


def agreed(*counts: int) -> Agreement:
    items = labelled(*counts)
    found = agreement(items, len(items), "labels.csv")
    assert found is not None
    return found


def test_kappa_of_worked_numbers() -> None:
    """Cohen's own example of three categories (1960, table 1): 0.70 observed, 0.41 by chance: 0.492."""
    cells = {("a", "a"): 88, ("a", "b"): 14, ("a", "c"): 18, ("b", "a"): 10, ("b", "b"): 40, ("b", "c"): 10,
             ("c", "a"): 2, ("c", "b"): 6, ("c", "c"): 12}  # fmt: skip
    pairs = [pair for pair, count in cells.items() for _ in range(count)]
    assert kappa(pairs) == pytest.approx((0.70 - 0.41) / 0.59, abs=1e-9)
    assert kappa([("a", "b"), ("b", "a")]) == pytest.approx(-1.0)
    assert kappa([("a", "a")] * 9) is None and kappa([]) is None


def test_a_perfect_agreement_still_has_an_interval() -> None:
    found = agreed(30, 30).kappa
    assert found.value == 1.0 and found.high == 1.0
    assert found.low is not None and 0.7 < found.low < 0.95


def test_kappas_interval_covers_the_truth() -> None:
    """Two raters who agree on 85 % of evenly spread labels: kappa 0.7."""
    rng = random.Random(1)
    covered = 0
    for _ in range(150):
        items = []
        for n in range(80):
            human = rng.choice(["right", "wrong"])
            same = rng.random() < 0.85
            items.append(Labelled(human if same else {"right": "wrong", "wrong": "right"}[human], human, str(n)))
        found = agreement(items, 80, "x")
        assert found is not None and found.kappa.low is not None and found.kappa.high is not None
        covered += found.kappa.low <= 0.7 <= found.kappa.high
    assert covered >= 136


@pytest.mark.parametrize(
    ("counts", "may_gate"),
    [
        ((25, 25), True),
        ((25, 24), False),  # 49 labels
        ((40, 40, 10, 10), True),  # 0.8 the same, half by chance: exactly 0.6
        ((39, 39, 11, 11), False),
        ((60, 0), False),  # one label only shows nothing beyond chance
    ],
)
def test_a_judge_gates_from_kappa_six_tenths_and_fifty_labels_on(counts: tuple[int, ...], may_gate: bool) -> None:
    found = standing(agreed(*counts))
    assert found.may_gate is may_gate
    assert found.why.startswith("may gate" if may_gate else "advisory")


def test_without_labels_a_judge_is_advice_and_refuses_to_gate() -> None:
    allowed, why = standing(None)
    card = JudgeCard(
        judge="m", how="explained", mode="rubric", asked=1, scored=1, cannot_tell=0, may_gate=allowed, why=why
    )
    with pytest.raises(FieldwiseError, match="may not gate") as refused:
        require_gating(card)
    assert "no human labels" in str(refused.value) and "--labels" in str(refused.value)
    require_gating(card.model_copy(update={"may_gate": True}))


def test_order_consistency_counts_contests_with_one_verdict_in_both_orders() -> None:
    found = order_consistency([True] * 8 + [False] * 2, [str(n) for n in range(10)])
    assert found is not None and found.value == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((0.490, 0.943), abs=1e-3)  # Wilson, as in statistics
    assert order_consistency([], []) is None


def test_a_judge_that_takes_the_longer_answer_shows_a_slope_and_one_that_does_not_shows_none() -> None:
    rng = random.Random(0)

    def votes(prefers_length: bool) -> list[Judged]:
        made = []
        for n in range(120):
            longer = rng.uniform(-0.5, 0.5)
            wins = rng.random() < (0.5 + longer if prefers_length else 0.5)
            made.append(Judged("x", "y", "x" if wins else "y", str(n), longer))
        return made

    _, swayed = effects(votes(True))
    _, calm = effects(votes(False))
    assert swayed is not None and swayed.low is not None and swayed.low > 0
    assert calm is not None and calm.low is not None and calm.high is not None and calm.low < 0 < calm.high
    assert effects([]) == (None, None)


def test_a_judge_that_takes_the_first_place_shows_it() -> None:
    votes = [Judged(*sides, sides[0], str(n), 0.0) for n in range(60) for sides in (("x", "y"), ("y", "x"))]
    first_place, _ = effects(votes)
    assert first_place is not None and first_place.low is not None and first_place.low > 1


def test_self_preference_is_what_the_judge_gives_beyond_people() -> None:
    items = [OwnScore(1.0, float(n % 2), str(n)) for n in range(40)]
    found = self_preference(items)
    assert found is not None and found.value == pytest.approx(0.5)
    assert found.low is not None and found.low > 0.3
    assert self_preference([]) is None
