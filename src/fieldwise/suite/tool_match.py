"""Compare the calls of tools in a reply with those expected, argument by argument.

After the Berkeley Function Calling Leaderboard (Patil et al. 2025): an argument has a list of allowed values, in which
"" says that it may be left out; texts are compared without case, blanks and some signs; parallel calls in any order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, JsonValue

from fieldwise.extras import require
from fieldwise.records import ToolCall

MOST_CALLS = 6  # every order is tried: 720
_IGNORED = re.compile(r"[\s,./\-_*^]")
_LEFT_OUT = ""


class ExpectedCall(BaseModel):
    """A call that should be made: argument -> allowed values; "" among them: the argument may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arguments: dict[str, list[JsonValue]] = {}


class ToolMatch(NamedTuple):
    """What of the calls is right; each part is judged for itself, `why` names what is not."""

    number: bool
    name: bool
    required: bool
    types: bool
    values: bool
    no_extra: bool
    why: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Everything is right."""
        return self.number and self.name and self.required and self.types and self.values and self.no_extra


def match_calls(
    calls: Sequence[ToolCall], expected: Sequence[ExpectedCall], tools: Sequence[dict[str, JsonValue]]
) -> ToolMatch:
    """Compare calls with those expected, in the order that fits best; without expected calls none may be made."""
    if not expected:
        made = f"{len(calls)} call{'s' if len(calls) != 1 else ''} instead of none"
        return ToolMatch(not calls, not calls, True, True, True, not calls, (made,) if calls else ())
    if len(calls) < len(expected):
        return ToolMatch(False, False, False, False, False, True, (f"{len(calls)} of {len(expected)} calls",))
    orders = permutations(calls[:MOST_CALLS], len(expected))
    best = max((_match(order, expected, tools) for order in orders), key=_goodness)
    if len(calls) == len(expected):
        return best
    return best._replace(number=False, why=(f"{len(calls)} calls instead of {len(expected)}", *best.why))


def _goodness(found: ToolMatch) -> tuple[int, int]:
    return sum(found[:6]), -len(found.why)


def _match(
    calls: Sequence[ToolCall], expected: Sequence[ExpectedCall], tools: Sequence[dict[str, JsonValue]]
) -> ToolMatch:
    whys: list[str] = []
    right = dict.fromkeys(("name", "required", "types", "values", "no_extra"), True)

    def wrong(part: str, why: str) -> None:
        right[part] = False
        whys.append(why)

    for call, wanted in zip(calls, expected, strict=True):
        if call.name != wanted.name:
            wrong("name", f"{call.name} instead of {wanted.name}")
            for part in ("required", "types", "values"):
                right[part] = False
            continue
        for argument, allowed in wanted.arguments.items():
            if argument not in call.arguments:
                if _LEFT_OUT not in allowed:
                    wrong("required", f"{call.name}.{argument} is missing")
            elif not any(same_value(call.arguments[argument], value) for value in allowed):
                wrong("values", f"{call.name}.{argument} is {call.arguments[argument]!r}, allowed {allowed}")
        if extra := sorted(call.arguments.keys() - wanted.arguments.keys()):
            wrong("no_extra", f"{call.name}.{extra[0]} was not asked for")
        if fault := _wrong_type(call, tools):
            wrong("types", fault)
    return ToolMatch(
        True, right["name"], right["required"], right["types"], right["values"], right["no_extra"], tuple(whys)
    )


def same_value(said: JsonValue, allowed: JsonValue) -> bool:
    """Tell whether two values are the same: texts evened out, 4 as good as 4.0, true never as good as 1.

    >>> same_value("Ward 4-B", "ward 4b"), same_value(4, 4.0), same_value(True, 1), same_value("4", 4)
    (True, True, False, False)
    """
    if isinstance(said, bool) or isinstance(allowed, bool):
        return said is allowed
    if isinstance(said, str) and isinstance(allowed, str):
        return _IGNORED.sub("", said).casefold() == _IGNORED.sub("", allowed).casefold()
    if isinstance(said, list) and isinstance(allowed, list):
        return len(said) == len(allowed) and all(map(same_value, said, allowed))
    if isinstance(said, dict) and isinstance(allowed, dict):
        return said.keys() == allowed.keys() and all(same_value(said[k], allowed[k]) for k in said)
    return said == allowed


def parameters_of(tool: dict[str, JsonValue]) -> tuple[str | None, dict[str, JsonValue]]:
    """Return name and parameter schema of a tool in OpenAI's shape, with or without its `function` around it."""
    inner = tool.get("function", tool)
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        return None, {}
    parameters = inner.get("parameters", {})
    return str(inner["name"]), parameters if isinstance(parameters, dict) else {}


def _wrong_type(call: ToolCall, tools: Sequence[dict[str, JsonValue]]) -> str | None:
    jsonschema = require("jsonschema", extra="eval", to="check JSON against a schema")
    schema = next((schema for name, schema in map(parameters_of, tools) if name == call.name), {})
    properties = schema.get("properties")
    for argument, value in call.arguments.items():
        wanted = properties.get(argument) if isinstance(properties, dict) else None
        kind = wanted.get("type") if isinstance(wanted, dict) else None
        # the type alone: whether a value is one of those allowed is judged apart
        if kind is not None and not jsonschema.Draft202012Validator({"type": kind}).is_valid(value):
            return f"{call.name}.{argument} is {type(value).__name__}, not {kind}"
    return None
