"""One request to an OpenAI-compatible endpoint, and what its answer means: a reply, later again, never, or an end.

https://platform.openai.com/docs/api-reference/chat/create; Gemini, vLLM, Ollama and `fieldwise serve` answer in the
same shape and differ in what they refuse: a schema, `max_tokens` under its old name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import BaseModel

from fieldwise.errors import ServiceError
from fieldwise.llm.answers import error_message, first_choice, key_from, message_text, read_object, retry_after, shown
from fieldwise.llm.settings import EndpointSettings
from fieldwise.llm.structured import strict_schema
from fieldwise.records import Conversation

if TYPE_CHECKING:
    import ssl

    import httpx

_MOST_BYTES = 16 << 20
_TOO_LONG = re.compile(r"context.{0,20}(?:length|size|window)|too many tokens|maximum.{0,20}tokens|too long", re.I)
_NO_MODEL = re.compile(r"model.{0,80}(?:not found|not exist|unknown|not available|not supported)|invalid model|unknown model|no such model", re.I)  # fmt: skip
_PARAMETER = re.compile(r"\b(temperature|seed)\b", re.I)
_NO_SCHEMA = re.compile(r"response_?format|json_?schema|structured|schema|grammar|guided", re.I)
_NO_CREDIT = re.compile(r"insufficient_quota|exceeded your current quota|billing|credit balance", re.I)
_CERTIFICATE = re.compile(r"certificate|CERTIFICATE_VERIFY_FAILED|SSL", re.I)


class Completion(NamedTuple):
    """A reply as the endpoint gave it; tokens are None where it does not count them."""

    text: str
    finish_reason: Literal["stop", "length", "refused"]
    prompt_tokens: int | None
    completion_tokens: int | None


class Again(Exception):
    """The request may be sent again, after `wait` seconds if the endpoint says so.

    `reason` is the short code if that comes to nothing. With `is_lost` the endpoint may have worked, and ask to be paid.
    """

    def __init__(self, reason: str, detail: str, *, wait: float | None = None, is_lost: bool = False) -> None:
        self.reason, self.detail, self.wait, self.is_lost = reason, detail, wait, is_lost
        super().__init__(detail)


class Refused(Exception):
    """The request will not be answered; others may."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)


def require_key(settings: EndpointSettings, where: str) -> str | None:
    """Return the key from the environment; raises ServiceError, naming the variable, when it is not there."""
    return key_from(settings.key_variable, f"{where}.key_variable")


class Wire:
    """A pool of connections to one endpoint; remembers what the endpoint does not understand."""

    def __init__(self, settings: EndpointSettings, where: str) -> None:
        self._settings, self._where = settings, where
        self._key = require_key(settings, where)
        self._takes_schema = settings.json_mode == "auto"
        self._limit_name = "max_tokens"
        self._trust: ssl.SSLContext | None = None
        self._clients: list[httpx.AsyncClient] = []
        self._free: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            await client.aclose()

    @contextmanager
    def _connection(self) -> Iterator[httpx.AsyncClient]:
        """Lend a client of one connection: a pool of fifty costs four times the processor time in looking for a free one."""
        client = self._free.pop() if self._free else self._open()
        try:
            yield client
        finally:
            self._free.append(client)

    def _open(self) -> httpx.AsyncClient:
        import httpx

        is_outside = not self._settings.is_loopback
        if self._trust is None:
            self._trust = httpx.create_ssl_context()
        client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=self._settings.timeout_seconds,
            limits=httpx.Limits(max_connections=1),
            verify=self._trust,
            trust_env=is_outside,  # a proxy of the network has no business on this machine
        )
        self._clients.append(client)
        return client

    async def ask(self, conversation: Conversation, schema: type[BaseModel] | None, sample: int = 0) -> Completion:
        """Return the reply to one request; raises Again, Refused, or ServiceError for what would meet every request."""
        while True:
            body = self._body(conversation, schema, sample)
            status, headers, content = await self._post(body)
            raw = read_object(content)
            if status == 200 and not (raw and raw.get("error")):
                return _completion(raw, headers)
            message = self._shown(error_message(raw, content))
            if status in (400, 422, 500, 501) and self._has_adapted(body, message):
                continue
            raise self._failure(_status(status, raw), headers, message)

    # ------------------------------------------------------------ sending

    def _body(self, conversation: Conversation, schema: type[BaseModel] | None, sample: int) -> dict[str, Any]:
        chosen = self._settings
        # where a seed is heeded, each sample needs its own
        seed = None if chosen.seed is None else chosen.seed + sample
        body: dict[str, Any] = {
            "model": chosen.model,
            "messages": [{"role": m.role, "content": m.content} for m in conversation],
            self._limit_name: chosen.max_tokens,
        }
        body |= {k: v for k, v in (("temperature", chosen.temperature), ("seed", seed)) if v is not None}
        if schema is not None and self._takes_schema:
            told = {"name": schema.__name__.strip("_"), "strict": True, "schema": strict_schema(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": told}
        return body

    async def _post(self, body: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        import httpx

        content = bytearray()
        seconds = self._settings.timeout_seconds
        try:
            with self._connection() as client:
                async with asyncio.timeout(seconds), client.stream("POST", self._settings.url, json=body) as response:
                    async for piece in response.aiter_bytes():
                        content += piece
                        if len(content) > _MOST_BYTES:
                            raise Refused("reply_too_large", f"more than {_MOST_BYTES >> 20} MB")
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
            raise Again("timeout", f"no whole reply within {seconds:g} s", is_lost=True) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            if _CERTIFICATE.search(str(error)):
                raise self._end(
                    "the certificate of the endpoint is not trusted",
                    self._shown(str(error)),
                    "Name your own authority with the environment variable SSL_CERT_FILE.",
                ) from None
            raise Again("unreachable", self._shown(str(error) or type(error).__name__)) from None
        except httpx.InvalidURL as error:
            raise self._end("the address cannot be used", str(error), f"Check {self._where}.base_url.") from None
        except httpx.HTTPError as error:  # closed in mid reply, or no HTTP at all
            detail = self._shown(str(error) or type(error).__name__)
            raise Again("no_reply", f"the connection ended: {detail}", is_lost=True) from None
        return response.status_code, response.headers, bytes(content)

    # ------------------------------------------------------------ what an error means

    def _has_adapted(self, body: dict[str, Any], message: str) -> bool:
        """Leave out what the endpoint does not understand; False if that is not what it complains about."""
        if "max_completion_tokens" in message and "max_tokens" in body:
            self._limit_name = "max_completion_tokens"
            return True
        if "response_format" in body and _NO_SCHEMA.search(message):
            self._takes_schema = False
            return True
        return False

    def _failure(self, status: int, headers: httpx.Headers, message: str) -> Exception:
        shown = f"HTTP {status}{f': {message}' if message else ''}"
        variable = self._settings.key_variable
        model = f"{self._where}.model"
        if status in (401, 403):
            fix = f"Check the key in {variable}." if variable else f"Name its variable with {self._where}.key_variable."
            return self._end(
                "the endpoint does not take the key" if variable else "the endpoint wants a key", shown, fix
            )
        if status == 402 or (status == 429 and _NO_CREDIT.search(message)):
            return self._end("the account at the endpoint has no credit left", shown, "Top it up and run again.")
        if status == 404 or (status in (400, 422) and _NO_MODEL.search(message)):
            fix = f"Check {model} ({self._settings.model}) and {self._where}.base_url, which mostly ends in /v1."
            return self._end("the endpoint knows no such model or address", shown, fix)
        if 300 <= status < 400:
            fix = f"Put the address itself into {self._where}.base_url: the key is not sent on."
            return self._end("the endpoint sends requests elsewhere", shown, fix)
        if status in (400, 422) and (named := _PARAMETER.search(message)):
            fix = f"Set {self._where}.{named.group(1)} to null, or to what the model takes."
            return self._end("the endpoint does not take a parameter", shown, fix)
        if status == 413 or (status in (400, 422) and _TOO_LONG.search(message)):
            return Refused("prompt_too_long", shown)
        if status in (408, 409, 425, 429) or status >= 500:
            reason = "too_many_requests" if status == 429 else f"http_{status}"
            return Again(reason, shown, wait=retry_after(headers))
        return Refused(f"http_{status}", shown)

    def _end(self, what: str, found: str, fix: str) -> ServiceError:
        return ServiceError(what, where=f"{self._where}: {self._settings.base_url}", found=found, fix=fix)

    def _shown(self, text: str) -> str:
        return shown(text, self._key)


def _completion(raw: dict[str, Any] | None, headers: httpx.Headers) -> Completion:
    found = first_choice(raw)
    if raw is None or found is None:
        kind = headers.get("content-type", "nothing that is named").partition(";")[0]
        raise Again("no_completion", f"the answer is no chat completion ({kind})", is_lost=True)
    choice, message = found
    usage = raw.get("usage") if isinstance(raw.get("usage"), dict) else {}
    reason = choice.get("finish_reason")
    is_refused = bool(message.get("refusal")) or reason == "content_filter"
    return Completion(
        message_text(message),
        "refused" if is_refused else "length" if reason == "length" else "stop",
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _status(status: int, raw: dict[str, Any] | None) -> int:
    """The status of an error, which some gateways put into the body of a 200."""
    if status != 200:
        return status
    error = (raw or {}).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502
