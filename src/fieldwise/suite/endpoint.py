"""Ask an OpenAI-compatible endpoint, a few items at a time. One that fails is told apart from one that answers wrongly.

https://platform.openai.com/docs/api-reference/chat/create; vLLM, Ollama, llama.cpp's server and `fieldwise serve` take
the same. Nothing but this module sends anything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from fieldwise.errors import ServiceError
from fieldwise.llm.answers import (
    error_message,
    first_choice,
    is_loopback,
    key_from,
    message_text,
    read_object,
    retry_after,
    shown,
)
from fieldwise.records import Message, ToolCall
from fieldwise.suite.items import Reply
from fieldwise.suite.respondents import Asked, drawn

_TOGETHER = 4
_TRIES = 3
_LONGEST_WAIT_SECONDS = 20.0
_MOST_BYTES = 8 << 20
_FAILURES_IN_A_ROW = 6


class EndpointSettings(NamedTuple):
    """Where and how to ask."""

    url: str
    model: str
    key_env: str | None = None
    max_tokens: int = 256
    timeout_seconds: float = 120.0
    first_wait_seconds: float = 1.0


class _Again(Exception):
    """Worth another try, after `wait` seconds if the endpoint says so; `problem` if all of them fail."""

    def __init__(self, problem: str, detail: str, wait: float | None = None) -> None:
        self.problem, self.detail, self.wait = problem, detail, wait


class EndpointRespondent:
    """A model behind an OpenAI-compatible endpoint; temperature 0."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings, self._key = settings, key_from(settings.key_env, "--key-env")
        self._url = _completions(settings.url)
        self.name = settings.model
        self.identity = f"{self._url} {settings.model}"
        self._sampling: dict[str, float] = {"temperature": 0}
        self._left_out: set[str] = set()
        self._limit_name = "max_tokens"
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=settings.timeout_seconds,
            trust_env=not is_loopback(self._url),  # a proxy has no business on this machine
        )

    def reply_all(self, asked: Sequence[Asked]) -> Iterator[Reply]:
        """Yield one reply for each, in order; raises ServiceError for what would meet every item."""
        pool = ThreadPoolExecutor(_TOGETHER)
        failed = 0
        try:
            for reply in pool.map(self._reply, asked):
                # a 4xx is about its item: a suite may hold many that are too long
                failed = failed + 1 if reply.problem and not reply.problem.startswith("http_4") else 0
                if failed == _FAILURES_IN_A_ROW and len(asked) > _FAILURES_IN_A_ROW:
                    raise ServiceError(
                        f"{failed} items in a row were not answered",
                        where=self._url,
                        found=f"{reply.problem}: {reply.detail}",
                        fix="What was answered is kept: run the same command again when the endpoint is well.",
                    )
                yield reply
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def draw(self, temperature: float, number: int) -> None:
        """Ask with the number as seed, for endpoints that know one."""
        self.identity = drawn(f"{self._url} {self._settings.model}", temperature, number)
        self._sampling = {"temperature": temperature, "seed": number}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _reply(self, asked: Asked) -> Reply:
        wait = self._settings.first_wait_seconds
        for tried in range(1, _TRIES + 1):
            try:
                return self._once(asked)
            except _Again as failure:
                if tried == _TRIES:
                    return Reply(problem=failure.problem, detail=failure.detail)
                time.sleep(min(failure.wait if failure.wait is not None else wait, _LONGEST_WAIT_SECONDS))
                wait *= 4
        raise AssertionError("every try returns or fails")

    def _once(self, asked: Asked) -> Reply:
        while True:
            body = self._body(asked)
            status, headers, content = self._post(body)
            value = read_object(content)
            if status == 200 and value is not None and not value.get("error"):
                return _read(value)
            message = self._shown(error_message(value, content) or "an empty answer")
            if status in (400, 422) and self._has_adapted(body, message):
                continue
            return self._failed(status, headers, message)

    def _failed(self, status: int, headers: httpx.Headers, message: str) -> Reply:
        if status in (401, 403, 404, 405) or 300 <= status < 400:
            raise ServiceError(
                "the endpoint refuses every request of this kind",
                where=self._url,
                found=f"status {status}: {message}",
                fix=_FIXES.get(status, "Check --endpoint: it ends in /v1."),
            )
        if status == 429 or status >= 500:
            raise _Again(f"http_{status}", message, retry_after(headers))
        if status == 200:
            raise _Again("no_completion", message)
        return Reply(problem=f"http_{status}", detail=message)

    def _post(self, body: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        ends = time.monotonic() + self._settings.timeout_seconds
        content = b""
        try:
            with self._client.stream("POST", self._url, json=body) as response:
                for part in response.iter_bytes():
                    content += part
                    if len(content) > _MOST_BYTES:
                        raise _Again("too_much", f"more than {_MOST_BYTES >> 20} MB")
                    if time.monotonic() > ends:  # a byte now and then never meets a limit between bytes
                        raise _Again("timeout", f"not whole after {self._settings.timeout_seconds:g} s")
                return response.status_code, response.headers, content
        except httpx.TimeoutException as error:
            raise _Again("timeout", f"{type(error).__name__} after {self._settings.timeout_seconds:g} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _Again("connection", self._shown(str(error)) or type(error).__name__) from error

    def _body(self, asked: Asked) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": [_message_body(m) for m in asked.conversation],
            self._limit_name: self._settings.max_tokens,
            **self._sampling,
        }
        if asked.tools:
            body["tools"] = list(asked.tools)
        return {k: v for k, v in body.items() if k not in self._left_out}

    def _has_adapted(self, body: dict[str, Any], message: str) -> bool:
        """Some endpoints refuse a temperature, or know the limit by its newer name."""
        if "max_tokens" in body and "max_completion_tokens" in message:
            self._limit_name = "max_completion_tokens"
            return True
        if "temperature" in body and "temperature" in message.lower():
            self._left_out.add("temperature")
            return True
        if "seed" in body and "seed" in message.lower():
            self._left_out.add("seed")
            return True
        return False

    def _shown(self, text: str) -> str:
        return shown(text, self._key)


_FIXES = {
    401: "Name the environment variable that holds the key with --key-env.",
    403: "Check that the key may use this model.",
    404: "Check --endpoint (it ends in /v1) and --model.",
}


def _completions(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ServiceError(
            "not the address of an endpoint",
            where="--endpoint",
            found=url.split("@")[-1][:100],
            fix="It looks like http://127.0.0.1:8000/v1; a key goes into --key-env.",
        )
    return url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"


def _message_body(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        body["tool_calls"] = [
            {"id": f"call_{n}", "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
            for n, c in enumerate(message.tool_calls)
        ]
    return body


def _read(value: dict[str, Any]) -> Reply:
    found = first_choice(value)
    if found is None:
        raise _Again("no_completion", "the answer holds no message")
    choice, message = found
    calls = tuple(_call(c) for c in message.get("tool_calls") or () if isinstance(c, dict))
    return Reply(
        text=message_text(message),
        tool_calls=calls,
        finish_reason=str(choice.get("finish_reason") or "stop"),
        prompt_tokens=_counted(value, "prompt_tokens"),
        completion_tokens=_counted(value, "completion_tokens"),
    )


def _counted(value: dict[str, Any], name: str) -> int:
    """What the endpoint says that it counted; 0 where it says nothing of sense."""
    usage = value.get("usage")
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def _call(raw: dict[str, Any]) -> ToolCall:
    function = raw.get("function")
    function = function if isinstance(function, dict) else {}
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (ValueError, TypeError, RecursionError):
        arguments = None
    # arguments that are no object are the model's mistake, not the endpoint's: a call with none it could mean
    return ToolCall(
        name=str(function.get("name") or ""),
        arguments=arguments if isinstance(arguments, dict) else {"": str(function.get("arguments"))[:300]},
    )
