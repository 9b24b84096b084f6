from __future__ import annotations

from typing import Any

import pytest
from test_grounded import chunk

from fieldwise.records import NOT_STATED, RetrievedPassage
from fieldwise.retrieve.answer_schema import AnswerSchema
from fieldwise.retrieve.by_field import can_fill, filled, questions

PASSAGES = [RetrievedPassage(chunk=chunk("The fee is 1,250.50 euros, due in 14 days, for tenants. Yes."), score=1.0)]


def schema(required: bool = True, **properties: Any) -> AnswerSchema:
    given = {"type": "object", "properties": properties, "required": list(properties) if required else []}
    return AnswerSchema.read(given)


@pytest.mark.parametrize(
    ("part", "words", "value"),
    [
        ({"type": "string"}, "in 14 days [1].", "in 14 days"),
        ({"type": "string"}, "in 15 days", None),
        ({"type": "string", "maxLength": 3}, "in 14 days", None),
        ({"type": "integer"}, "14 days [1]", 14),
        ({"type": "integer"}, "15 days", None),
        ({"type": "integer"}, "1,250.50", None),
        ({"type": "integer"}, "14 or 1,250.50", None),
        ({"type": "number"}, "the fee is 1,250.50 [1]", 1250.5),
        ({"type": "integer", "maximum": 9}, "14", None),
        ({"type": "boolean"}, "Yes [1]", True),
        ({"type": "boolean"}, "no", False),
        ({"type": "boolean"}, "perhaps", None),
        ({"enum": ["tenants", "owners"]}, "for tenants [1]", "tenants"),
        ({"enum": ["tenants", "owners"]}, "tenants and owners", None),
        ({"type": "string"}, NOT_STATED, None),
        ({"type": "string"}, "", None),
    ],
)
def test_a_key_takes_what_an_answer_in_words_gives_it(part: dict[str, Any], words: str, value: Any) -> None:
    found = filled(schema(a=part), "?", PASSAGES, lambda asked: words)
    assert found == (None if value is None else {"a": value})


@pytest.mark.parametrize(
    ("part", "required", "value"),
    [
        ({"type": ["string", "null"]}, True, {"a": None, "b": "tenants"}),
        ({"type": "string"}, False, {"b": "tenants"}),
        ({"type": "string"}, True, None),
    ],
)
def test_a_key_that_nothing_is_known_of_is_null_or_left_out_or_declines_all(
    part: dict[str, Any], required: bool, value: Any
) -> None:
    wanted = schema(required, a=part, b={"type": "string"})
    assert filled(wanted, "q", PASSAGES, lambda asked: "tenants" if "(b)" in asked else NOT_STATED) == value


def test_nothing_but_nulls_is_no_value() -> None:
    assert filled(schema(a={"type": ["string", "null"]}), "q", PASSAGES, lambda asked: NOT_STATED) is None


def test_a_key_is_asked_by_its_description_if_that_asks() -> None:
    wanted = schema(
        fee={"type": "string", "description": "How much is the fee?"},
        due_date={"type": "string"},
        who={"type": "string", "description": "who pays"},
    )
    assert list(questions(wanted, "The lease?").values()) == [
        "How much is the fee?",
        "The lease? (due date)",
        "The lease? (who pays)",
    ]
    assert questions(schema(fee={"type": "string"}), "What is the fee?") == {"fee": "What is the fee?"}


@pytest.mark.parametrize(
    "part", [{"type": "array", "items": {"type": "string"}}, {"anyOf": [{"type": "string"}]}, {"const": 1}, {}]
)
def test_only_flat_schemas_are_asked_key_by_key(part: dict[str, Any]) -> None:
    assert can_fill(schema(a={"type": "string"})) and not can_fill(schema(a=part))
    assert not can_fill(schema(**{f"k{n}": {"type": "string"} for n in range(9)}))
