"""Tool calls: invented tools with JSON-schema parameters, requests that fit one of them, and requests that fit none."""

from __future__ import annotations

import json
import random
from typing import NamedTuple

from .pools import Pools

_VERBS = [
    "book",
    "create",
    "cancel",
    "update",
    "find",
    "look_up",
    "send",
    "schedule",
    "order",
    "register",
    "move",
    "assign",
    "close",
    "open",
    "check",
    "renew",
    "transfer",
    "request",
    "record",
    "print",
    "approve",
    "extend",
    "pay",
    "report",
    "reserve",
    "archive",
    "release",
    "start",
    "stop",
    "add",
    "remove",
    "get",
    "set",
    "submit",
    "track",
]
_PARAMETER_KINDS = (
    ("name", "person"),
    ("patient", "patient"),
    ("customer", "person"),
    ("employee", "person"),
    ("date", "date"),
    ("time", "time"),
    ("amount", "money"),
    ("quantity", "count"),
    ("room", "room"),
    ("department", "dept"),
    ("company", "company"),
    ("reference", "id"),
    ("account", "id"),
    ("drug", "drug"),
    ("dose", "dose"),
    ("reason", "np"),
    ("item", "np"),
    ("place", "place"),
    ("phone", "phone"),
    ("email", "email"),
    ("role", "role"),
    ("system", "system"),
    ("duration", "duration"),
    ("form", "form"),
    ("topic", "np"),
)
_WORDS = {"look_up": "look up"}
_OPENERS = (
    "Please {x}.",
    "{X}.",
    "Can you {x}?",
    "I need you to {x}.",
    "Could you {x}, please?",
    "{X} for me.",
    "I want to {x}.",
    "Would you {x}?",
    "We have to {x} today.",
    "Kindly {x}.",
    "It is time to {x}.",
    "{X}, thanks.",
)
_JOINS = (
    "{l} {v}",
    "{l}: {v}",
    "{l} = {v}",
    "{l} is {v}",
    "the {l} is {v}",
    "with {l} {v}",
    "{v} as {l}",
    "{l} should be {v}",
    "use {v} for the {l}",
)
NO_TOOL = "None of the tools can do this."


class Call(NamedTuple):
    """A request, the tools that are offered, and the right call (None: no tool fits)."""

    tools: list[dict[str, object]]
    request: str
    name: str | None
    arguments: dict[str, str | int] | None
    missing: str | None = None

    @property
    def answer(self) -> str:
        if self.missing is not None:
            return f"Please give the {self.missing.replace('_', ' ')}."
        if self.name is None:
            return NO_TOOL
        return (
            "<tool_call>\n"
            + json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)
            + "\n</tool_call>"
        )


def tool_line(tool: dict[str, object]) -> str:
    """One tool as it stands in the system message."""
    return json.dumps(tool, ensure_ascii=False)


def make_call(pools: Pools, rng: random.Random, *, most_tools: int = 3) -> Call:
    """Invent tools and a request; one request in seven fits no tool, one in twelve lacks a required value."""
    tools = [_tool(pools, rng) for _ in range(rng.randint(1, most_tools))]
    names = {t["function"]["name"] for t in tools}
    while True:
        extra = _tool(pools, rng)
        if extra["function"]["name"] not in names:
            break
    draw = rng.random()
    if draw < 0.14:
        request, _, _ = _request(extra, pools, rng, leave_out=False)
        return Call(tools, request, None, None)
    tool = rng.choice(tools)
    request, arguments, missing = _request(tool, pools, rng, leave_out=draw > 0.92)
    return Call(tools, request, tool["function"]["name"], arguments, missing)


def _tool(pools: Pools, rng: random.Random) -> dict:
    verb = rng.choice(_VERBS)
    noun = pools.np() if rng.random() < 0.5 else pools.word()
    kinds = rng.sample(_PARAMETER_KINDS, rng.randint(1, 4))
    properties = {}
    for name, kind in kinds:
        if rng.random() < 0.3:
            name = f"{pools.word()}_{name}"
        properties[name] = {"type": "integer" if kind == "count" and rng.random() < 0.7 else "string", "_kind": kind}
    required = [n for n in properties if rng.random() < 0.7] or [next(iter(properties))]
    name = f"{verb}_{noun.replace(' ', '_')}"
    description = f"{verb.replace('_', ' ').capitalize()} {rng.choice(('a', 'the'))} {noun}"
    if rng.random() < 0.2:
        description += f" in {pools.system()}"
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": properties, "required": required},
        },
    }


def _request(
    tool: dict, pools: Pools, rng: random.Random, *, leave_out: bool
) -> tuple[str, dict[str, str | int] | None, str | None]:
    function = tool["function"]
    verb, _, noun = (
        function["name"].partition("_")
        if not function["name"].startswith("look_up")
        else ("look_up", "", function["name"][8:])
    )
    action = f"{_WORDS.get(verb, verb)} {rng.choice(('the', 'a', 'this', 'my', 'our'))} {noun.replace('_', ' ')}"
    properties, required = function["parameters"]["properties"], function["parameters"]["required"]
    missing = rng.choice(required) if leave_out else None
    arguments: dict[str, str | int] = {}
    parts = []
    for name, schema in properties.items():
        if name == missing or (name not in required and rng.random() < 0.5):
            continue
        kind = schema["_kind"]
        if schema["type"] == "integer":
            value: str | int = rng.randint(1, 999)
        else:
            value = pools.draw(kind)
        arguments[name] = value
        parts.append(rng.choice(_JOINS).replace("{l}", name.replace("_", " ")).replace("{v}", str(value)))
    shown = list(parts)
    rng.shuffle(shown)
    opener = rng.choice(_OPENERS)
    details = rng.choice((", ", "; ", ", ")).join(shown)
    if not details:
        request = opener.replace("{x}", action).replace("{X}", action[0].upper() + action[1:])
    elif rng.random() < 0.6:
        phrase = f"{action}{rng.choice((', ', ' - ', ': ', ' (', ' with '))}"
        phrase += details + (")" if phrase.endswith("(") else "")
        request = opener.replace("{x}", phrase).replace("{X}", phrase[0].upper() + phrase[1:])
    else:
        shown.sort(
            key=lambda part: not part.startswith("the ")
        )  # a value must not be capitalised: it would be copied wrong
        details = ", ".join(shown) if shown[0].startswith("the ") else f"Use {', '.join(shown)}"
        request = (
            opener.replace("{x}", action).replace("{X}", action[0].upper() + action[1:])
            + " "
            + details[0].upper()
            + details[1:]
            + "."
        )
    return request, (None if missing else arguments), missing


def public(tool: dict) -> dict[str, object]:
    """The tool without the notes of the generator."""
    function = dict(tool["function"])
    parameters = dict(function["parameters"])
    parameters["properties"] = {
        n: {k: v for k, v in schema.items() if k != "_kind"} for n, schema in parameters["properties"].items()
    }
    function["parameters"] = parameters
    return {"type": "function", "function": function}
