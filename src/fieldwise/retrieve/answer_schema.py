"""The JSON schema an answer must fit: which keywords are understood, and whether a reply fits.

A keyword that would be passed over is refused by name, so that nobody relies on it. Objects are closed: no other keys
than those of `properties`, whatever the schema says. Nothing a schema points to is fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import JsonValue

from fieldwise.errors import InputError
from fieldwise.extras import require
from fieldwise.hashing import canonical_json
from fieldwise.interfaces import Shape

MOST_CHARS = 16_000
MOST_DEPTH = 12
_NOTES = frozenset({"title", "description", "examples", "default", "$schema", "$comment"})
"""Keywords that change nothing in what fits."""
_OBJECT = frozenset({"properties", "required", "additionalProperties"})
_CHECKED = frozenset(
    "type enum const anyOf $ref $defs definitions items minItems maxItems minLength maxLength minimum maximum "
    "exclusiveMinimum exclusiveMaximum multipleOf format".split()
)
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_FORMATS = frozenset({"date", "email", "uuid"})
_POINTER = re.compile(r"#/(?:\$defs|definitions)/[^/]+")
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?```\s*\Z", re.DOTALL)
_SHOWN = 120


@dataclass(frozen=True)
class AnswerSchema:
    """A schema that is understood; `schema` is it with closed objects and without notes.

    `notes` are the descriptions of the keys of the root.
    """

    schema: dict[str, Any]
    notes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, given: JsonValue, where: str = "schema") -> AnswerSchema:
        """Return the schema of a request. Raises InputError that names the place and the keyword that is not supported."""
        if not isinstance(given, dict):
            raise _refused("expected a JSON schema", where, given, 'Give an object such as {"type": "object", ...}.')
        try:
            length = len(canonical_json(given))
        except RecursionError:
            length = MOST_CHARS + 1
        if length > MOST_CHARS:
            raise _refused("the schema is too large", where, f"{length} characters", f"At most {MOST_CHARS}.")
        schema = _closed(given, where, 0)
        if schema.get("type") != "object":
            raise _refused(
                "the schema must be of an object",
                f"{where}.type",
                given.get("type"),
                'Write {"type": "object", "properties": {...}}; put a list or a text into one of its keys.',
            )
        for place, pointer in _pointers(schema, where):
            name = pointer.rpartition("/")[2]
            if name not in schema.get(pointer.split("/")[1], {}):
                raise _refused("points to a place that is not there", place, pointer, "Put it under $defs of the root.")
        jsonschema = require("jsonschema", extra="serve", to="check JSON against a schema")
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.exceptions.SchemaError as error:
            path = ".".join([where, *(str(part) for part in error.absolute_path)])
            raise _refused("not a JSON schema", path, error.message, "See json-schema.org.") from error
        keys = given.get("properties")
        parts = keys.items() if isinstance(keys, dict) else ()
        notes = {
            key: str(part["description"]) for key, part in parts if isinstance(part, dict) and "description" in part
        }
        return cls(schema, notes)

    @property
    def text(self) -> str:
        """The schema as the model reads it."""
        return json.dumps(self.schema, ensure_ascii=False)

    def shape(self, instead: str = "") -> Shape:
        """Return what an engine holds its reply to."""
        return Shape(self.text, instead)

    @cached_property
    def choices(self) -> frozenset[str]:
        """Texts that a schema offers to choose from: they say nothing about what stands in a passage."""
        return frozenset(_offered(self.schema))

    def fitting(self, reply: str) -> tuple[JsonValue, str]:
        """Return the JSON of a reply, also out of a fence, and what is wrong with it; nothing is if that is empty."""
        fenced = _FENCE.match(reply)
        try:
            value = json.loads(fenced[1] if fenced else reply, parse_constant=_no_constant, object_pairs_hook=_once)
        except RecursionError:
            return None, "the JSON is nested too deeply"
        except ValueError as error:
            return None, f"not JSON alone: {error}" if reply.strip() else "the reply is empty"
        return value, self.fault(value)

    def fault(self, value: JsonValue) -> str:
        """Return why a value does not fit; empty if it does."""
        jsonschema = require("jsonschema", extra="serve", to="check JSON against a schema")
        referencing = require("referencing", extra="serve", to="check JSON against a schema")
        validator = jsonschema.Draft202012Validator(
            self.schema,
            registry=referencing.Registry(),  # empty: nothing is fetched
            format_checker=jsonschema.FormatChecker(sorted(_FORMATS)),
        )
        try:
            error = jsonschema.exceptions.best_match(validator.iter_errors(value))
        except RecursionError:
            return "the JSON is nested too deeply"
        return "" if error is None else f"{error.json_path}: {error.message[:_SHOWN]}"


def leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Yield every value that holds no other, with its JSON pointer (RFC 6901).

    >>> list(leaves({"a": [1, {"b/c": None}]}))
    [('/a/0', 1), ('/a/1/b~1c', None)]
    """
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{path}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for n, part in enumerate(value):
            yield from leaves(part, f"{path}/{n}")
    else:
        yield path, value


# ---------------------------------------------------------------- reading a schema


def _closed(given: object, where: str, depth: int) -> dict[str, Any]:
    """A schema without notes and with closed objects; raises InputError for what is not understood."""
    if not isinstance(given, dict):
        raise _refused("expected a schema", where, given, "Write an object.")
    if depth > MOST_DEPTH:
        raise _refused("the schema is nested too deeply", where, f"more than {MOST_DEPTH} levels", "Make it flatter.")
    for keyword in given:
        if keyword not in _NOTES | _OBJECT | _CHECKED:
            known = ", ".join(sorted(_CHECKED | _OBJECT))
            raise _refused("the keyword is not supported", f"{where}.{keyword}", keyword, f"Supported are {known}.")
    schema: dict[str, Any] = {k: v for k, v in given.items() if k not in _NOTES}
    _check_words(schema, where)
    if "items" in schema:
        schema["items"] = _closed(schema["items"], f"{where}.items", depth + 1)
    if "anyOf" in schema:
        if not isinstance(schema["anyOf"], list) or not schema["anyOf"]:
            raise _refused("expected a list of schemas", f"{where}.anyOf", schema["anyOf"], "Write at least one.")
        schema["anyOf"] = [_closed(s, f"{where}.anyOf.{n}", depth + 1) for n, s in enumerate(schema["anyOf"])]
    for keyword in ("properties", "$defs", "definitions"):
        if keyword in schema:
            if not isinstance(schema[keyword], dict):
                raise _refused("expected names with schemas", f"{where}.{keyword}", schema[keyword], "Write an object.")
            schema[keyword] = {k: _closed(v, f"{where}.{keyword}.{k}", depth + 1) for k, v in schema[keyword].items()}
    if _says_object(schema):
        _close(schema, where)
    return schema


def _says_object(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type")
    return kinds == "object" or (isinstance(kinds, list) and "object" in kinds) or bool(_OBJECT & schema.keys())


def _close(schema: dict[str, Any], where: str) -> None:
    if not schema.get("properties"):
        raise _refused(
            "an object needs properties", f"{where}.properties", schema.get("properties"), "Name the keys it has."
        )
    if not isinstance(schema.get("additionalProperties", False), bool):
        raise _refused(
            "the keyword is not supported with a schema",
            f"{where}.additionalProperties",
            schema["additionalProperties"],
            "Write false, and name every key under properties.",
        )
    unknown = [name for name in schema.get("required") or [] if name not in schema["properties"]]
    if unknown:
        raise _refused("required names no property", f"{where}.required", unknown[0], "Name it under properties.")
    schema["additionalProperties"] = False


def _check_words(schema: dict[str, Any], where: str) -> None:
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in _TYPES:
            raise _refused("there is no such type", f"{where}.type", kind, f"Types are {', '.join(sorted(_TYPES))}.")
    pointer = schema.get("$ref")
    if pointer is not None and not (isinstance(pointer, str) and _POINTER.fullmatch(pointer)):
        raise _refused("only $defs can be pointed to", f"{where}.$ref", pointer, "Write #/$defs/NAME.")
    if "format" in schema and schema["format"] not in _FORMATS:
        raise _refused(
            "the format is not supported",
            f"{where}.format",
            schema["format"],
            f"Formats are {', '.join(sorted(_FORMATS))}.",
        )


def _pointers(node: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield f"{where}.$ref", node["$ref"]
        for key, part in node.items():
            yield from _pointers(part, f"{where}.{key}")
    elif isinstance(node, list):
        for n, part in enumerate(node):
            yield from _pointers(part, f"{where}.{n}")


def _offered(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        found = [*(node["enum"] if isinstance(node.get("enum"), list) else []), node.get("const")]
        yield from (text for text in found if isinstance(text, str))
        for part in node.values():
            yield from _offered(part)
    elif isinstance(node, list):
        for part in node:
            yield from _offered(part)


def _refused(what: str, where: str, found: object, fix: str) -> InputError:
    return InputError(what, where=where, found=str(found)[:_SHOWN], fix=fix)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands there twice")
    return made
