"""What replies are rewarded for by rules."""

import json

import pytest

from fieldwise.prompts import closed_prompt, extraction_prompt, grounded_prompt, quoted_prompt
from fieldwise.records import NOT_STATED, Example, Message
from fieldwise.train.rewards import RULES, Case, by_rules, total, usable

PASSAGES = (
    "Deposits\nThe deposit is paid back within 14 days. It earns no interest.",
    "Notice\nA tenant may end the lease with three months of notice in writing.",
)
ASKED = Case("a", grounded_prompt("When is the deposit paid back?", PASSAGES), "within 14 days [1]")
UNSTATED = Case("b", grounded_prompt("Who paints the walls?", PASSAGES), NOT_STATED)
SCHEMA = {
    "type": "object",
    "properties": {"days": {"type": ["integer", "null"]}},
    "required": ["days"],
    "additionalProperties": False,
}
EXTRACT = Case("c", extraction_prompt("Fill it in.", PASSAGES, json.dumps(SCHEMA)), '{"days": 14}')
CLOSED = Case("d", closed_prompt("When is the deposit paid back?"), "within 14 days")


@pytest.mark.parametrize(
    ("reply", "answer", "citation", "grounded", "declines"),
    [
        ("within 14 days [1]", 1.0, 1.0, 1.0, 1.0),
        ("within 14 days [2]", 1.0, 0.0, 0.0, 1.0),
        ("within 14 days [1][2]", 1.0, 2 / 3, 1.0, 1.0),
        ("within 14 days", 1.0, 0.0, 0.0, 1.0),
        ("within 15 days [1]", 0.5, 1.0, 0.0, 1.0),
        ("The deposit is not paid back within 14 days [1]", 0.5, 1.0, 0.0, 1.0),
        (NOT_STATED, 0.0, 0.0, None, 0.0),
        ("", 0.0, 0.0, 0.0, 1.0),
    ],
)
def test_an_answerable_question_over_passages(reply, answer, citation, grounded, declines) -> None:
    found = by_rules(ASKED, reply, dict.fromkeys(RULES, 1.0))
    assert found["answer"] == pytest.approx(answer)
    assert found["citation"] == pytest.approx(citation)
    assert (found["grounded"], found["declines"], found["json"]) == (grounded, declines, None)


def test_where_the_passages_do_not_say_only_declining_counts() -> None:
    assert by_rules(UNSTATED, NOT_STATED, dict.fromkeys(RULES, 1.0)) == {
        "answer": None, "citation": None, "grounded": None, "declines": 1.0, "json": None,
    }  # fmt: skip
    claimed = by_rules(UNSTATED, "The deposit is paid back within 14 days [1]", dict.fromkeys(RULES, 1.0))
    assert claimed["declines"] == 0.0 and claimed["grounded"] is None
    assert RULES["declines"](UNSTATED, "  ") == 0.0  # silence is no declining


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"days": 14}', 1.0),
        ('{"days": null}', 1.0),
        ('{"days": "14"}', 0.0),
        ('{"days": 14, "weeks": 2}', 0.0),
        ('Here it is: {"days": 14}', 0.0),
        ('{"days": 14', 0.0),
        ("[" * 100_000, 0.0),
        ("", 0.0),
    ],
)
def test_json_is_held_against_the_schema_of_the_prompt(reply: str, expected: float) -> None:
    assert RULES["json"](EXTRACT, reply) == expected
    assert RULES["declines"](EXTRACT, reply) is None and RULES["grounded"](EXTRACT, reply) is None


def test_passages_are_read_off_every_kind_of_prompt() -> None:
    quoted = Case(
        "e", quoted_prompt("When?", PASSAGES), 'within 14 days [1] "The deposit is paid back within 14 days."'
    )
    for case in (ASKED, quoted, EXTRACT):
        assert [p.chunk.text for p in case.passages] == list(PASSAGES)
    assert CLOSED.passages == () and RULES["grounded"](CLOSED, "within 14 days") is None
    assert RULES["citation"](CLOSED, "within 14 days [1]") is None


def test_rewards_that_do_not_apply_are_left_out_of_the_sum() -> None:
    weights = {"answer": 1.0, "declines": 0.5, "json": 2.0}
    assert total(by_rules(ASKED, "within 14 days [1]", weights), weights) == pytest.approx(1.5)
    assert total(by_rules(UNSTATED, NOT_STATED, weights), weights) == pytest.approx(0.5)
    assert total({"json": None}, weights) is None


def test_prompts_to_which_no_reward_applies_are_not_asked() -> None:
    every = [ASKED, UNSTATED, EXTRACT, CLOSED]
    assert usable(every, {"json": 1.0}) == [EXTRACT]
    assert usable(every, {"citation": 1.0}) == [ASKED]
    assert usable(every, {"json": 1.0, "reward_model": 1.0}) == every


def test_a_case_is_an_example_without_its_last_message() -> None:
    example = Example.make(
        question="When?",
        answer="within 14 days",
        kind="gap",
        conversation=(*ASKED.prompt, Message(role="assistant", content="within 14 days [1]")),
    )
    case = Case.of(example)
    assert case.prompt == ASKED.prompt and case.marks == {1} and not case.should_decline
