"""Values of a row: texts, messages, tools and truths as data sets write them, or the fault that keeps the row out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from fieldwise.records import Conversation, Message, ToolCall


class RowFault(Exception):
    """Why a row cannot be trained on; `code` groups equal faults, the text is for people and holds no value."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


def whole(text: str) -> str:
    """Return the text with half signs spelt out, so that it can be printed."""
    return text.encode("utf-8", "backslashreplace").decode()


def checked(text: str, field: str) -> str:
    """Return the text; raises RowFault for half a sign, as JSON may write it: it is in no tokenizer's alphabet."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RowFault("half_sign", f"{field} holds half a sign (a lone surrogate such as \\ud83d)") from None
    return text


def text_of(row: Mapping[str, Any], field: str, *, needed: bool = True) -> str:
    """Return the text of a field, "" where it need not be there; raises RowFault for what is no text."""
    value = row.get(field)
    if value is None:
        if needed:
            raise RowFault("null", f"{field} is null")
        return ""
    if isinstance(value, dict | list):
        raise RowFault("not_text", f"{field} is not a text")
    text = checked(str(value), field)
    if needed and not text.strip():
        raise RowFault("empty", f"{field} is empty")
    return text


_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "function": "tool", "observation": "tool", "tool_call": "function_call"}  # fmt: skip


def messages_of(value: Any, field: str) -> Conversation:
    """Return the messages of a list, or of a list written as JSON text; chat and ShareGPT keys alike."""
    if value is None:
        raise RowFault("null", f"{field} is null")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise RowFault("not_messages", f"{field} is a text and no list of messages") from None
    if not isinstance(value, list):
        raise RowFault("not_messages", f"{field} is no list of messages")
    if not value:
        raise RowFault("empty", f"{field} is empty")
    return tuple(_message(item, field) for item in value)


def _message(item: Any, field: str) -> Message:
    if not isinstance(item, dict):
        raise RowFault("not_messages", f"{field} holds something that is no message")
    role = str(item.get("role", item.get("from", ""))).casefold()
    role = _ROLES.get(role, role)
    content = item.get("content", item.get("value"))
    calls = _calls(item, role, content, field)
    if role == "function_call":
        return Message(role="assistant", content="", tool_calls=calls)
    if role not in ("system", "user", "assistant", "tool"):
        raise RowFault("unknown_role", f"{field} holds a role that is none of system, user, assistant, tool")
    if content is None and calls:
        content = ""
    if content is None:
        raise RowFault("null", f"a message of {field} says null")
    if not isinstance(content, str):
        raise RowFault("not_text", f"a message of {field} is not a text")
    if role == "assistant" and not content.strip() and not calls:
        raise RowFault("empty", f"a reply in {field} is empty")
    return Message(role=role, content=checked(content, field), tool_calls=calls)


def _calls(item: Mapping[str, Any], role: str, content: Any, field: str) -> tuple[ToolCall, ...]:
    """The calls of a message: OpenAI's `tool_calls` or `function_call`, or ShareGPT's role function_call with JSON."""
    found = content if role == "function_call" else item.get("tool_calls") or item.get("function_call")
    if not found:
        return ()
    if role not in ("assistant", "function_call"):
        raise RowFault("tool_calls", f"a message of {field} that is no reply calls a tool")
    found = _from_json(found)
    return tuple(_call(call, field) for call in (found if isinstance(found, list) else [found]))


def _call(value: Any, field: str) -> ToolCall:
    value = _from_json(value)
    inner = value.get("function", value) if isinstance(value, dict) else None
    arguments = _from_json(inner.get("arguments") or {}) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not isinstance(arguments, dict):
        raise RowFault("tool_calls", f"a call of a tool in {field} is not a name with arguments as JSON")
    checked(json.dumps(arguments, ensure_ascii=False), field)
    return ToolCall(name=checked(inner["name"], field), arguments=arguments)


def _from_json(value: Any) -> Any:
    """A value, or what a text of JSON stands for; None for a text that is none."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (json.JSONDecodeError, RecursionError):
        return None


def tools_of(row: Mapping[str, Any]) -> tuple[dict[str, JsonValue], ...]:
    """Return the tools of a row, each with `function` around its name, description and parameters."""
    value = _from_json(row.get("tools")) if row.get("tools") not in (None, "") else []
    found = [_from_json(tool) for tool in value] if isinstance(value, list) else [value]
    inner = [tool.get("function", tool) if isinstance(tool, dict) else None for tool in found]
    if not all(isinstance(tool, dict) and isinstance(tool.get("name"), str) for tool in inner):
        raise RowFault("tools", "tools is no list of declarations, each with a name")
    checked(json.dumps(inner, ensure_ascii=False), "tools")
    return tuple({"type": "function", "function": tool} for tool in inner)


def call_text(call: ToolCall) -> str:
    """Return a call as JSON."""
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)


def first_keys(value: Any) -> set[str]:
    """Return the keys of the first message of a list, also of one written as JSON text."""
    if isinstance(value, str):
        if not value.startswith("["):
            return set()
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return set()
    return set(value[0]) if isinstance(value, list) and value and isinstance(value[0], dict) else set()


_TRUTHS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}


def truth_of(value: Any) -> bool | None:
    """Return what a label says, None for one that is neither true nor false."""
    return _TRUTHS.get(str(value).strip().casefold())
