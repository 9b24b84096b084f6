"""A flat schema filled by one question for each of its keys, for models that answer in words but write no JSON.

Each key is asked over the same passages with the prompt that the model was trained on. A text or number is taken only
if it stands in a passage; a key that must be there and is not declines the whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import JsonValue

from fieldwise.prompts import is_declined, without_marks
from fieldwise.records import RetrievedPassage
from fieldwise.retrieve.answer_schema import AnswerSchema
from fieldwise.retrieve.citing import find_words

MOST_KEYS = 8
MOST_TOKENS = 64
_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})
_FIGURE = re.compile(r"(?<![\w.,])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w]|[.,]\d)")


def can_fill(schema: AnswerSchema) -> bool:
    """Tell whether a schema has few keys, each of which holds a text, a number, a choice, or true and false."""
    properties = schema.schema["properties"]
    return 0 < len(properties) <= MOST_KEYS and all(_is_scalar(part) for part in properties.values())


def questions(schema: AnswerSchema, question: str) -> dict[str, str]:
    """Return what is asked for each key: its description if that asks, else the question with what is wanted of it."""
    properties, notes = schema.schema["properties"], schema.notes
    if len(properties) == 1:
        return dict.fromkeys(properties, question)
    asked = {}
    for key in properties:
        note = notes.get(key, "").strip()
        asked[key] = note if note.endswith("?") else f"{question} ({note or key.replace('_', ' ')})"
    return asked


def filled(
    schema: AnswerSchema,
    question: str,
    passages: Sequence[RetrievedPassage],
    ask: Callable[[str], str],
) -> JsonValue:
    """Return an object of the schema, made of the answers to its keys; None where one that must be there is missing."""
    value: dict[str, JsonValue] = {}
    required = schema.schema.get("required") or []
    for key, asked in questions(schema, question).items():
        part = schema.schema["properties"][key]
        words = without_marks(ask(asked)).strip()
        found = None if is_declined(words) else _value(words, part, passages)
        if found is None and not (key in required and _takes(part, "null")):
            if key in required:
                return None
            continue
        value[key] = found
    has_any = any(found is not None for found in value.values())
    return value if has_any and not schema.fault(value) else None


def _is_scalar(part: dict[str, Any]) -> bool:
    kinds = _kinds(part)
    return ("enum" in part and all(isinstance(v, str) or v is None for v in part["enum"])) or (
        bool(kinds) and kinds <= _SCALARS and not {"anyOf", "$ref", "const"} & part.keys()
    )


def _kinds(part: dict[str, Any]) -> set[str]:
    kinds = part.get("type", [])
    return set(kinds if isinstance(kinds, list) else [kinds])


def _takes(part: dict[str, Any], kind: str) -> bool:
    return kind in _kinds(part) or (kind == "null" and None in part.get("enum", ()))


def _value(words: str, part: dict[str, Any], passages: Sequence[RetrievedPassage]) -> JsonValue:
    """The value that an answer in words gives to a key; None if it gives none that stands in a passage."""
    if "enum" in part:
        chosen = [v for v in part["enum"] if isinstance(v, str) and find_words(v, words) is not None]
        return chosen[0] if len(chosen) == 1 else None
    if _takes(part, "boolean"):
        first = re.match(r"(yes|no)\b", words, re.IGNORECASE)
        return None if first is None else first[1].casefold() == "yes"
    if _takes(part, "string"):
        return words.rstrip(".") if _stands(words, passages) else None
    figures = _FIGURE.findall(words)
    if len(figures) != 1 or not _stands(figures[0], passages):
        return None
    number = float(figures[0].replace(",", ""))
    return int(number) if number.is_integer() else number if _takes(part, "number") else None


def _stands(words: str, passages: Sequence[RetrievedPassage]) -> bool:
    return any(find_words(words, passage.chunk.text) is not None for passage in passages)
