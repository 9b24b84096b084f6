"""Wrong answers are wrong, and share their prompt with the right ones."""

from __future__ import annotations

import json
import random

import pytest

NOT_STATED = "Not stated in the documents."
OTHERS = ["14 days [1]", "Anna Weiss [2]", NOT_STATED, "Room 4 [1]"]


@pytest.mark.parametrize("right", ["14 days [1]", NOT_STATED, "Anna Weiss [2]"])
def test_a_wrong_answer_is_another_span_another_mark_no_mark_or_a_decline(right: str) -> None:
    from nano_recipe.preference import spoilt

    made = {spoilt(right, OTHERS, 2, random.Random(seed)) for seed in range(300)}
    assert right not in made and None not in made
    if right == NOT_STATED:
        assert made == {"14 days [1]", "Anna Weiss [2]", "Room 4 [1]"}
        return
    span, mark = right[:-4], int(right[-2])
    assert {NOT_STATED, span, f"{span} [{3 - mark}]"} <= made
    assert made - {NOT_STATED, span, f"{span} [{3 - mark}]"} == {o for o in OTHERS if o not in (right, NOT_STATED)}


def test_wrong_json_does_not_parse_or_differs_in_a_field() -> None:
    from nano_recipe.preference import spoilt

    right = json.dumps({"name": "Anna Weiss", "room": "4"})
    broken = missing = changed = 0
    for seed in range(300):
        wrong = spoilt(right, OTHERS, 1, random.Random(seed))
        assert wrong is not None and wrong != right
        try:
            fields = json.loads(wrong)
        except json.JSONDecodeError:
            broken += 1
            continue
        missing += len(fields) < 2
        changed += len(fields) == 2 and fields != json.loads(right)
    assert min(broken, missing, changed) > 20 and broken + missing + changed == 300


def test_without_another_span_nothing_is_made_up() -> None:
    from nano_recipe.preference import spoilt

    assert spoilt(NOT_STATED, [NOT_STATED], 1, random.Random(0)) is None


def test_rows_come_in_pairs_over_one_prompt(row_maker) -> None:
    from nano_recipe.rows import ANSWER

    ids, weights, _ = row_maker.batch(5, {"preference": 1.0}, 256, 8)
    assert ids.shape == (8, 256)
    for right, wrong, right_weights, wrong_weights in zip(
        ids[0::2], ids[1::2], weights[0::2], weights[1::2], strict=True
    ):
        start = int((right_weights == ANSWER).argmax())
        assert start == int((wrong_weights == ANSWER).argmax()) > 0
        assert (right[:start] == wrong[:start]).all() and (right != wrong).any()
        assert set(right_weights.tolist()) == {0.0, ANSWER}
    again, _, _ = row_maker.batch(5, {"preference": 1.0}, 256, 8)
    assert (ids == again).all()
