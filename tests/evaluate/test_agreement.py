"""Agreement between voters."""

from __future__ import annotations

import numpy as np
import pytest

from fieldwise.evaluate.agreement import agreement, alpha

# Krippendorff (2011), the example with four observers, twelve units and missing values: nominal alpha 0.743
PUBLISHED = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]


def published_units() -> list[list[str]]:
    return [[row[n] for row in PUBLISHED if row[n] != "."] for n in range(12)]


def test_the_published_example_has_its_published_value() -> None:
    assert alpha(published_units()) == pytest.approx(0.743, abs=5e-4)


def test_two_voters_by_hand() -> None:
    # 8 values, 3 a and 5 b; one of four items disputed: 1 - 7 * 2 / (64 - 9 - 25)
    assert alpha([["a", "a"], ["b", "b"], ["a", "b"], ["b", "b"]]) == pytest.approx(1 - 14 / 30)


def test_items_voted_on_once_and_votes_that_are_all_alike_say_nothing() -> None:
    assert alpha([["a"], ["b"]]) is None and alpha([["a", "a"], ["a", "a"]]) is None
    assert agreement([["a"], []], 100, 0) == (0, 0, None, None)
    assert agreement([["a", "a"]] * 8, 100, 0) == (8, 16, 1.0, None)
    assert agreement([["a", "b"], ["a", "a"]], 100, 0).alpha is None


def test_chance_gives_about_0_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(2)
    found = agreement([list(rng.choice(["a", "b", "tie"], 3)) for _ in range(80)], 300, 0)
    assert found.items == 80 and found.votes == 240
    assert found.alpha.low < 0 < found.alpha.high and abs(found.alpha.value) < 0.15
