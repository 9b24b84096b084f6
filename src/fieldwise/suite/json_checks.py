"""Whether a reply is JSON, fits a schema, and says the right thing; form and content are judged apart."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.extras import require
from fieldwise.suite.items import Fault, Finding, Item, Reply
from fieldwise.suite.tool_match import same_value

_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_MOST_STARTS = 50


def json_valid(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the reply is one JSON value and nothing else. Part: whether one can be taken out of a fence or prose."""
    del value, item
    whole, taken = _parsed(reply.spoken), _taken_out(reply.spoken)
    return Finding(
        float(whole is not None), "" if whole else "it is not JSON alone", {"repaired": float(taken is not None)}
    )


def contains_json(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if a JSON object or list stands somewhere in the reply."""
    del value, item
    taken = _taken_out(reply.spoken)
    return Finding(float(taken is not None), "" if taken else "no JSON stands in it")


def schema_valid(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the reply is JSON alone and fits the schema. Parts: whether it parses, and whether it fits once taken out of prose."""
    del item
    whole, taken = _parsed(reply.spoken), _taken_out(reply.spoken)
    parts = {"parses": float(whole is not None), "repaired": 0.0}
    if taken is not None:
        fault = _schema_fault(taken.value, value)
        if fault is None:
            return Finding(None, "the schema names a place in itself that is not there", parts)
        parts["repaired"] = float(not fault)
        if whole is not None:
            return Finding(float(not fault), fault, parts)
    return Finding(0.0, "it is not JSON alone", parts)


def json_equals(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the JSON of the reply, also out of a fence or prose, says this: texts evened out, no key more or less.

    Part: the share of the wanted keys with the right value.
    """
    del item
    taken = _taken_out(reply.spoken)
    if taken is None:
        return Finding(0.0, "no JSON stands in it", {"fields": 0.0})
    said = taken.value
    if not isinstance(value, dict):
        return Finding(float(same_value(said, value)), "", {})
    given = said if isinstance(said, dict) else {}
    wrong = [k for k in value if k not in given or not same_value(given[k], value[k])]
    extra = sorted(given.keys() - value.keys())
    share = 1 - len(wrong) / len(value) if value else 1.0
    why = f"wrong: {', '.join(wrong)}" if wrong else f"too much: {', '.join(extra)}" if extra else ""
    return Finding(float(not wrong and not extra and isinstance(said, dict)), why, {"fields": share})


class _Parsed(NamedTuple):
    value: Any


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _parsed(text: str) -> _Parsed | None:
    try:
        return _Parsed(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return None


def _taken_out(text: str) -> _Parsed | None:
    """The JSON of a reply: the whole of it, else that in a fence, else the first object or list in it."""
    if (whole := _parsed(text)) is not None:
        return whole
    for fence in _FENCE.findall(text):
        if (fenced := _parsed(fence)) is not None:
            return fenced
    decoder = json.JSONDecoder(parse_constant=_refuse)
    for match in [m for m in re.finditer(r"[{\[]", text) if not re.match(r"\[\d\]", text[m.start() :])][:_MOST_STARTS]:
        try:
            return _Parsed(decoder.raw_decode(text, match.start())[0])
        except (ValueError, RecursionError):
            continue
    return None


def _schema_fault(said: Any, schema: JsonValue) -> str | None:
    """What does not fit; empty if all does; None if the schema itself cannot be followed."""
    jsonschema = require("jsonschema", extra="eval", to="check JSON against a schema")
    referencing = require("referencing", extra="eval", to="check JSON against a schema")
    # an empty registry: a schema that points elsewhere must not make this fetch it
    validator = _validator(schema)(schema, registry=referencing.Registry())
    try:
        error = jsonschema.exceptions.best_match(validator.iter_errors(said))
    except (referencing.exceptions.Unresolvable, RecursionError):
        return None
    return "" if error is None else f"{error.json_path}: {error.message[:120]}"


def _validator(schema: JsonValue) -> Any:
    jsonschema = require("jsonschema", extra="eval", to="check JSON against a schema")
    return jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)


def schema_fault(value: JsonValue) -> Fault:
    """Say why a value is no schema to check by, and what to do; None if it is one."""
    jsonschema = require("jsonschema", extra="eval", to="check JSON against a schema")
    if not isinstance(value, dict):
        return "expected a JSON schema", "Give an object such as {type: object, required: [...]}."
    try:
        _validator(value).check_schema(value)
    except jsonschema.exceptions.SchemaError as error:
        return f"not a JSON schema: {error.message[:120]}", "See json-schema.org."
    if outside := _outside(value):
        return f"points to {outside}, and nothing is fetched", "Put what it points to under $defs."
    return None


def _outside(schema: JsonValue) -> str | None:
    if isinstance(schema, list):
        return next((found for part in schema if (found := _outside(part))), None)
    if not isinstance(schema, dict):
        return None
    pointer = schema.get("$ref")
    if isinstance(pointer, str) and not pointer.startswith("#"):
        return pointer
    return next((found for part in schema.values() if (found := _outside(part))), None)
