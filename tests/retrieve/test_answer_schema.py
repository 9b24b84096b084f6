from __future__ import annotations

from typing import Any

import pytest

from fieldwise.errors import InputError
from fieldwise.retrieve.answer_schema import MOST_CHARS, AnswerSchema, leaves


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def test_objects_are_closed_and_notes_left_out() -> None:
    given = schema(title={"type": "string", "title": "Title", "description": "of the paper", "default": "x"})
    assert AnswerSchema.read(given).schema == {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("given", "where", "what"),
    [
        ({"type": "string"}, "schema.type", "must be of an object"),
        ([], "schema", "expected a JSON schema"),
        (schema(a={"type": "text"}), "schema.properties.a.type", "no such type"),
        (schema(a={"type": "string", "pattern": "a+"}), "schema.properties.a.pattern", "not supported"),
        (schema(a={"not": {}}), "schema.properties.a.not", "not supported"),
        (schema(a={"allOf": [{}]}), "schema.properties.a.allOf", "not supported"),
        (schema(a={"type": "string", "format": "ipv4"}), "schema.properties.a.format", "format is not supported"),
        (schema(a={"type": "object"}), "schema.properties.a.properties", "needs properties"),
        (
            {**schema(a={}), "additionalProperties": {"type": "string"}},
            "schema.additionalProperties",
            "not supported with a schema",
        ),
        ({**schema(a={}), "required": ["b"]}, "schema.required", "names no property"),
        (schema(a={"$ref": "https://example.org/s.json"}), "schema.properties.a.$ref", "only $defs"),
        (schema(a={"$ref": "#/$defs/b"}), "schema.properties.a.$ref", "not there"),
        (schema(a={"anyOf": []}), "schema.properties.a.anyOf", "list of schemas"),
        (schema(a={"minLength": -1}), "schema.properties.a.minLength", "not a JSON schema"),
        (schema(a={"enum": ["x" * MOST_CHARS]}), "schema", "too large"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(given: Any, where: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        AnswerSchema.read(given)
    assert (caught.value.where, what in str(caught.value)) == (where, True)


def test_a_schema_nested_without_end_is_refused() -> None:
    given: dict[str, Any] = {"type": "string"}
    for _ in range(30):
        given = schema(a=given)
    with pytest.raises(InputError, match="nested too deeply"):
        AnswerSchema.read(given)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ('{"a": 1}', ""),
        (' ```json\n{"a": 1}\n``` ', ""),
        ("", "the reply is empty"),
        ("Here you are: {}", "not JSON alone"),
        ('{"a": 1} and more', "not JSON alone"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": 1, "a": 2}', "a key stands there twice"),
        ('{"a": "1"}', "$.a: '1' is not of type 'integer'"),
        ('{"a": 1, "b": 2}', "Additional properties are not allowed"),
        ("{}", "'a' is a required property"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_reply_is_told_what_is_wrong_with_it(reply: str, fault: str) -> None:
    value, found = AnswerSchema.read(schema(a={"type": "integer"})).fitting(reply)
    assert (fault in found) if fault else (found == "" and value == {"a": 1})


def test_a_format_is_checked() -> None:
    day = AnswerSchema.read(schema(a={"type": "string", "format": "date"}))
    assert day.fault({"a": "2026-01-31"}) == "" and "date" in day.fault({"a": "2026-01-32"})


def test_leaves_are_named_by_pointers() -> None:
    assert list(leaves({"a~": [{"b": "x"}, []], "c": {}})) == [("/a~0/0/b", "x")]


def test_choices_of_a_schema_are_known() -> None:
    given = schema(a={"enum": ["x", 1]}, b={"anyOf": [{"const": "y"}, {"type": "array", "items": {"enum": ["z"]}}]})
    assert AnswerSchema.read(given).choices == {"x", "y", "z"}
