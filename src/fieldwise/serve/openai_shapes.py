"""Replies in the shapes of OpenAI's API, whole and in chunks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from fieldwise.records import Answer, ToolCall
from fieldwise.serve.events import event
from fieldwise.serve.problems import RequestError, openai_error
from fieldwise.serve.replies import Begun, Ended, Event, Text
from fieldwise.serve.routes_ask import shown_citations
from fieldwise.serve.tool_calls import find_tool_calls, may_become_call

Shape = Literal["chat", "text"]
_OBJECTS = {
    ("chat", False): "chat.completion",
    ("chat", True): "chat.completion.chunk",
    ("text", False): "text_completion",
    ("text", True): "text_completion",
}
_DONE = "[DONE]"


@dataclass
class Completion:
    """Writes one reply; holds what every part of it repeats."""

    shape: Shape
    request_id: str
    model: str
    fingerprint: str
    offers_tools: bool = False
    includes_usage: bool = False
    refuses: bool = False
    """Whether a declined answer stands in `refusal`: what stands in `content` must fit a schema."""
    created: int = field(default_factory=lambda: int(time.time()))
    _held: str | None = field(default="", init=False)

    # ------------------------------------------------------------ whole

    def whole(self, ended: Ended) -> dict[str, Any]:
        """Return the reply as one object."""
        calls = find_tool_calls(ended.text) if self.offers_tools else ()
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": _finish(ended, calls)}
        if self.shape == "chat":
            is_refused = self._is_refused(ended)
            choice["message"] = {
                "role": "assistant",
                "content": None if calls or is_refused else ended.text,
                "refusal": ended.text if is_refused else None,
                **({"tool_calls": _shown_calls(calls)} if calls else {}),
            }
        else:
            choice["text"] = ended.text
        return {**self._head(is_chunk=False), "choices": [choice], "usage": _usage(ended), **_evidence(ended.answer)}

    # ------------------------------------------------------------ in chunks

    def write(self, item: Event) -> Iterator[bytes]:
        """Yield the chunks of one event; a reply that may be a call of a tool is held back until that is known."""
        if isinstance(item, Begun) and self.shape == "chat":
            yield self._chunk({"role": "assistant", "content": ""})
        elif isinstance(item, Text) and not self.refuses:
            text = self._released(item.text)
            if text:
                yield self._chunk({"content": text})
        elif isinstance(item, Ended):
            yield from self._last(item)

    def write_problem(self, problem: RequestError) -> bytes:
        """Return what stands in the place of the rest."""
        return event(None, openai_error(problem, self.request_id))

    def _last(self, ended: Ended) -> Iterator[bytes]:
        if ended.finish_reason in ("cancelled", "error"):
            yield self.write_problem(
                RequestError(
                    503, "interrupted", "the reply was interrupted", found=ended.finish_reason, fix="Ask again."
                )
            )
            return
        calls = find_tool_calls(ended.text) if self.offers_tools else ()
        if calls:
            yield self._chunk({"tool_calls": [{"index": n, **call} for n, call in enumerate(_shown_calls(calls))]})
        elif self.offers_tools and self._held:
            yield self._chunk({"content": self._held})
        elif self.refuses:  # it came in one piece, and only now is it known which of the two it is
            yield self._chunk({"refusal" if self._is_refused(ended) else "content": ended.text})
        yield self._chunk({}, finish_reason=_finish(ended, calls), **_evidence(ended.answer))
        if self.includes_usage:
            yield event(None, {**self._head(is_chunk=True), "choices": [], "usage": _usage(ended)})
        yield event(None, _DONE)

    def _is_refused(self, ended: Ended) -> bool:
        return self.refuses and ended.answer is not None and ended.answer.is_declined

    def _released(self, text: str) -> str:
        if not self.offers_tools or self._held is None:
            return text
        self._held += text
        if may_become_call(self._held):
            return ""
        released, self._held = self._held, None
        return released

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        choice |= {"delta": delta} if self.shape == "chat" else {"text": delta.get("content", "")}
        usage = {"usage": None} if self.includes_usage else {}
        return event(None, {**self._head(is_chunk=True), "choices": [choice], **usage, **more})

    def _head(self, *, is_chunk: bool) -> dict[str, Any]:
        prefix = "chatcmpl" if self.shape == "chat" else "cmpl"
        return {
            "id": f"{prefix}-{self.request_id}",
            "object": _OBJECTS[self.shape, is_chunk],
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def _finish(ended: Ended, calls: tuple[ToolCall, ...]) -> str:
    return "tool_calls" if calls else "length" if ended.finish_reason == "length" else "stop"


def _usage(ended: Ended) -> dict[str, int]:
    return {
        "prompt_tokens": ended.prompt_tokens,
        "completion_tokens": ended.completion_tokens,
        "total_tokens": ended.prompt_tokens + ended.completion_tokens,
    }


def _evidence(answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {}
    told = answer.model_dump(mode="json", include={"unsupported", "searched", "screened", "unruled"})
    return {"citations": shown_citations(answer.citations), "is_declined": answer.is_declined, **told}


def _shown_calls(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{n}",
            "type": "function",
            "function": {"name": c.name, "arguments": json.dumps(c.arguments, ensure_ascii=False)},
        }
        for n, c in enumerate(calls)
    ]
