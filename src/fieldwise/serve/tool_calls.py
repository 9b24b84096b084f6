"""Find the calls of tools in what a model wrote: <tool_call>{"name": ..., "arguments": {...}}</tool_call>, as Qwen's and Hermes' templates teach it."""

from __future__ import annotations

import json
import re

from pydantic import JsonValue

from fieldwise.records import ToolCall

OPENING = "<tool_call>"
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


def find_tool_calls(text: str) -> tuple[ToolCall, ...]:
    """Return the calls of a reply that begins with one; none if any of it is not a whole call.

    >>> find_tool_calls('<tool_call>{"name": "book", "arguments": {"room": "4"}}</tool_call>')[0].arguments
    {'room': '4'}
    """
    if not text.lstrip().startswith(OPENING) or _CALL.sub("", text).strip():
        return ()
    calls = [_call(match.group(1)) for match in _CALL.finditer(text)]
    return tuple(c for c in calls if c is not None) if all(calls) else ()


def may_become_call(text: str) -> bool:
    """Tell whether a reply so far is a call or its beginning, and should be held back."""
    begun = text.lstrip()
    return begun.startswith(OPENING) or OPENING.startswith(begun)


def _call(text: str) -> ToolCall | None:
    try:
        value: JsonValue = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", {})
    return ToolCall(name=str(value["name"]), arguments=arguments) if isinstance(arguments, dict) else None
