"""JSON from a model that was asked for it, whether its endpoint holds it to a schema or not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from fieldwise.hashing import canonical_json
from fieldwise.records import Conversation, Message

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_SHOWN_CHARS = 2000
_MOST_STARTS = 200  # places in a long text where an object may begin


@cache
def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model as endpoints take it: all keys needed, no others, no references."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return plain(definitions[node["$ref"].rpartition("/")[2]])
        made = {k: plain(v) for k, v in node.items() if k not in ("title", "default")}
        if "properties" in node:  # whose own keys may be called title or default
            made["properties"] = {k: plain(v) for k, v in node["properties"].items()}
            made |= {"required": list(node["properties"]), "additionalProperties": False}
        return made

    found: dict[str, Any] = plain(schema)
    return found


def with_schema(conversation: Conversation, schema: type[BaseModel]) -> Conversation:
    """Add to the prompt what JSON is wanted: the same words whether or not the endpoint is told apart from them."""
    wish = f"Reply with one JSON object and nothing else. It must fit this JSON schema: {canonical_json(strict_schema(schema))}"
    first, *rest = conversation
    if first.role != "system":
        return (Message(role="system", content=wish), *conversation)
    return (Message(role="system", content=f"{first.content}\n\n{wish}"), *rest)


def read_value(text: str, schema: type[BaseModel]) -> tuple[BaseModel | None, str]:
    """Return the first object of a reply that fits the schema, also out of a fence or prose; else None and what is wrong."""
    text = _THOUGHTS.sub("", text)
    if "{" not in text:
        return None, "the reply holds no JSON object" if text.strip() else "the reply is empty"
    fault = ""
    for place, value in _objects(text):
        try:
            return schema.model_validate(value), ""
        except ValidationError as error:
            first = error.errors()[0]
            if place == text.index("{"):
                where = ".".join(str(part) for part in first["loc"])
                fault = f"{where or 'the object'}: {first['msg']}"
    return None, fault or "the JSON is cut off or not valid"


def _objects(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder = json.JSONDecoder(strict=False)  # models put bare line ends into strings
    place, tries = text.find("{"), 0
    while place >= 0 and tries < _MOST_STARTS:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place = text.find("{", place + 1)
            continue
        if isinstance(value, dict):
            yield place, value
        place = text.find("{", end)


def repair_prompt(asked: Conversation, reply: str, fault: str, *, is_cut: bool) -> Conversation:
    """Ask once more, with the reply and what was wrong with it."""
    wish = f"That cannot be used: {fault}. Reply with the JSON object alone, without any other word."
    if is_cut:
        wish += " Your reply was too long and was cut off: give fewer entries."
    shown = reply.strip()[:_SHOWN_CHARS] or "(nothing)"
    return (*asked, Message(role="assistant", content=shown), Message(role="user", content=wish))
