"""Replies whose form counts: JSON, and calls of tools as text, sound and broken.

A call is written as Qwen's and Hermes' templates teach it and as `fieldwise serve` reads it:
<tool_call>{"name": ..., "arguments": {...}}</tool_call>.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.records import Conversation, Message, ToolCall

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_OPENING, _CLOSING = "<tool_call>", "</tool_call>"
_TOOLS = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function "
    "signatures within <tools></tools> XML tags:\n<tools>\n{}\n</tools>\n\nFor each function call, return a json object "
    "with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call>'
)
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,), "object": (dict,),
}  # fmt: skip
_MOST_STARTS = 200


class Tool(NamedTuple):
    """A tool on offer: its name and the JSON schema of its arguments."""

    name: str
    parameters: dict[str, JsonValue]


# ---------------------------------------------------------------- JSON


def is_json(text: str) -> bool:
    """Tell whether a reply is one JSON object or list and nothing else, as `json_valid` of the suites has it."""
    return isinstance(_parsed(text), dict | list)


def broken_json(reply: str, rng: random.Random) -> Iterator[str]:
    """Yield the reply as models get JSON wrong: signs left out or too many, other quotes, words around it."""
    made = [
        reply.rstrip()[:-1].rstrip(),
        re.sub(r"(\s*[}\]]\s*)$", r",\1", reply),
        re.sub(r'"(\w+)"(\s*:)', r"\1\2", reply),
        re.sub(r'"\s*,(\s*")', r'"\1', reply, count=1),
        reply.replace('"', "'") if "'" not in reply else reply,
        f"Here is the JSON:\n{reply}",
        f"```json\n{reply}\n```",
    ]
    rng.shuffle(made)
    yield from (text for text in made if text != reply)


def is_broken_json(chosen: str, rejected: str) -> bool:
    """Tell whether a text that is no JSON holds the same values as one that is: only the form went wrong."""
    return is_json(chosen) and not is_json(rejected) and (chosen in rejected or _letters(chosen) == _letters(rejected))


def _letters(text: str) -> str:
    return re.sub(r"[\s{}\[\],:\"']", "", text)


# ---------------------------------------------------------------- calls of tools


def call_text(message: Message) -> str:
    """Return a reply as the model writes it: its words, then its calls."""
    calls = (f"{_OPENING}\n{_dumped(c)}\n{_CLOSING}" for c in message.tool_calls)
    return "\n".join(part for part in (message.content.strip(), *calls) if part)


def with_tools(conversation: Conversation, tools: Sequence[dict[str, JsonValue]]) -> Conversation:
    """Return a conversation whose system message declares tools that stood beside it, in the words of Qwen's template.

    A preference pair holds messages alone; without the tools nobody could tell its sound call from the broken one.
    """
    if not tools:
        return conversation
    declared = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = _TOOLS.format(declared)
    first, *rest = conversation
    if first.role != "system":
        return (Message(role="system", content=text.strip()), *conversation)
    return (Message(role="system", content=f"{first.content}{text}"), *rest)


def tools_of(prompt: Conversation) -> tuple[Tool, ...]:
    """Return the tools that a prompt declares: the JSON objects with a name and parameters in its system message."""
    text = "\n".join(m.content for m in prompt if m.role == "system")
    found: dict[str, Tool] = {}
    for value in _objects(text):
        for entry in value if isinstance(value, list) else [value]:
            inner = entry.get("function", entry) if isinstance(entry, dict) else None
            if isinstance(inner, dict) and isinstance(inner.get("name"), str):
                parameters = inner.get("parameters", {})
                found[inner["name"]] = Tool(inner["name"], parameters if isinstance(parameters, dict) else {})
    return tuple(found.values())


def call_fault(reply: str, tools: Sequence[Tool]) -> str | None:
    """Return what keeps a reply from being sound calls of the tools on offer and nothing else, or None."""
    if not reply.lstrip().startswith(_OPENING) or _CALL.sub("", reply).strip():
        return "not calls alone"
    for written in _CALL.findall(reply):
        value = _parsed(written)
        name, given = (value.get("name"), value.get("arguments")) if isinstance(value, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(given, dict):
            return "no JSON of a name and arguments"
        tool = next((t for t in tools if t.name == name), None)
        if tool is None:
            return "unknown tool"
        if fault := _arguments_fault(given, tool.parameters):
            return fault
    return None


def _arguments_fault(given: dict[str, Any], parameters: dict[str, JsonValue]) -> str | None:
    properties, required = parameters.get("properties"), parameters.get("required")
    known = properties if isinstance(properties, dict) else {}
    for name in required if isinstance(required, list) else ():
        if name not in given:
            return "missing argument"
    for name, value in given.items():
        schema = known.get(name)
        if not isinstance(schema, dict):
            return "unknown argument"
        kind, allowed = schema.get("type"), schema.get("enum")
        types = _TYPES.get(kind) if isinstance(kind, str) else None
        if types is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            return "wrong type"
        if isinstance(allowed, list) and value not in allowed:
            return "value not allowed"
    return None


def broken_calls(reply: str, tools: Sequence[Tool], rng: random.Random) -> Iterator[str]:
    """Yield the reply with one call gone wrong: its JSON, its end, its tool, an argument left out or of another type."""
    made: list[str] = []
    for match in _CALL.finditer(reply):
        written = match.group(1)
        value = json.loads(written)
        name, given = str(value["name"]), dict(value["arguments"])
        parameters = next(t.parameters for t in tools if t.name == name)
        required = parameters.get("required")
        properties = parameters.get("properties")
        others = [written.rstrip()[:-1], written.replace('"', "'") if "'" not in written else written]
        others.append(_dumped(ToolCall(name=_other_name(name, tools, rng), arguments=given)))
        for argument, said in given.items():
            rest = {k: v for k, v in given.items() if k != argument}
            if isinstance(required, list) and argument in required:
                others.append(_dumped(ToolCall(name=name, arguments=rest)))
            schema = properties.get(argument) if isinstance(properties, dict) else None
            kind = schema.get("type") if isinstance(schema, dict) else None
            if kind in ("integer", "number", "boolean"):
                others.append(_dumped(ToolCall(name=name, arguments={**given, argument: json.dumps(said)})))
            elif kind == "string":
                others.append(_dumped(ToolCall(name=name, arguments={**given, argument: [said]})))
        start, end = match.span(1)
        made += [reply[:start] + other + reply[end:] for other in others if other != written]
        made.append(reply[: match.end() - len(_CLOSING)].rstrip() + reply[match.end() :])
    rng.shuffle(made)
    yield from made


def is_broken_call(chosen: str, rejected: str, tools: Sequence[Tool]) -> bool:
    """Tell whether sound calls stand against the same with one of them broken."""
    if call_fault(chosen, tools) is not None or call_fault(rejected, tools) is None:
        return False
    ours, theirs = ([str(m.group(1)) for m in _CALL.finditer(text)] for text in (chosen, rejected))
    if len(ours) != len(theirs):
        ends = (m.span() for m in re.finditer(_CLOSING, chosen))
        return any(_letters(chosen[:start] + chosen[end:]) == _letters(rejected) for start, end in ends)
    return [a != b for a, b in zip(ours, theirs, strict=True)].count(True) == 1


def _other_name(name: str, tools: Sequence[Tool], rng: random.Random) -> str:
    """A name that is not on offer, such as a model makes up."""
    verb, _, rest = name.partition("_")
    made = [f"{name}_v2", f"{rest}_{verb}" if rest else f"run_{name}", name.replace("_", "") if rest else f"{name}s"]
    known = {t.name for t in tools}
    return rng.choice([m for m in made if m not in known] or [f"{name}_{name}"])


# ---------------------------------------------------------------- parts


def _parsed(text: str) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None


def _dumped(call: ToolCall) -> str:
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)


def _objects(text: str) -> Iterator[Any]:
    """Every JSON object or list in a text."""
    decoder = json.JSONDecoder()
    place, tries = 0, 0
    while (match := re.compile(r"[{\[]").search(text, place)) is not None and tries < _MOST_STARTS:
        tries += 1
        try:
            value, place = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            place = match.end()
            continue
        yield value
