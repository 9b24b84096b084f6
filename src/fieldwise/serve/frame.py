"""Around every request: an id, the right to come in, limits, safe headers, one answer for faults, one log line."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fieldwise.serve.access import Access
from fieldwise.serve.events import ClientGoneError
from fieldwise.serve.keys import STRANGER, Caller
from fieldwise.serve.metrics import Metrics
from fieldwise.serve.problems import RequestError, problem_bytes
from fieldwise.serve.trace import SCOPE_KEY, Trace, new_request_id, outcome_of

MOST_BODY_BYTES = 1_000_000
CALLER_KEY = "fieldwise.caller"
_MOST_DRAINED_BYTES = 16_000_000
_CONTENT_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
_SAFE_HEADERS = {
    "content-security-policy": _CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
log = logging.getLogger(__name__)


class Frame:
    """ASGI middleware; it sees every byte, so it is written against the protocol and copies nothing but the body."""

    def __init__(
        self, app: ASGIApp, access: Access, metrics: Metrics, most_bytes: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """`most_bytes` are the largest bodies of paths that take more than the others."""
        self._app, self._access, self._metrics, self._most_bytes = app, access, metrics, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # whoever asks for the headers gets those of GET; the server leaves the body out
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        trace = scope[SCOPE_KEY] = Trace(new_request_id(headers.get("x-request-id")), scope["method"])
        reply = _Reply(scope, trace, send)
        self._metrics.begin()
        try:
            await self._answer(scope, headers, receive, reply)
        except ClientGoneError:
            trace.outcome = "cancelled"
        except Exception as error:  # border: one request must not end the service
            log.error("request failed", exc_info=error, extra={"fields": {"request_id": trace.request_id}})
            trace.outcome = "error"
            await reply.fail(
                RequestError(
                    500,
                    "internal_error",
                    "something went wrong in the service",
                    found=f"request {trace.request_id}",
                    fix="Give this id to whoever runs the service: the log has the rest.",
                )
            )
        finally:
            self._finish(scope, trace)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, reply: _Reply) -> None:
        try:
            client = scope.get("client")
            scope[CALLER_KEY] = self._access.check(
                scope["method"], scope["path"], headers, client[0] if client else None
            )
            body = await _whole_body(headers, receive, self._most_bytes.get(scope["path"], MOST_BODY_BYTES))
        except RequestError as problem:
            await reply.fail(problem)
            return
        await self._app(scope, _replayed(body, receive), reply.send)

    def _finish(self, scope: Scope, trace: Trace) -> None:
        # only names of our own routes: a label for every path a stranger tries would fill the memory
        trace.route = getattr(scope.get("route"), "path", "unmatched")
        trace.outcome = trace.outcome or outcome_of(trace.status)
        self._metrics.end(trace)
        log.info(
            "request",
            extra={
                "fields": {
                    "request_id": trace.request_id,
                    "method": trace.method,
                    "route": trace.route,
                    "status": trace.status,
                    "outcome": trace.outcome,
                    "model": trace.model,
                    "seconds": round(trace.seconds, 4),
                    "prompt_tokens": trace.prompt_tokens,
                    "completion_tokens": trace.completion_tokens,
                    **({"screened": trace.screened} if trace.screened else {}),
                }
            },
        )


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """Return who asks; a request that did not come through the frame asks as a stranger."""
    caller = scope.get(CALLER_KEY, STRANGER)
    assert isinstance(caller, Caller)
    return caller


class _Reply:
    """The way out: adds the safe headers and notes the status."""

    def __init__(self, scope: Scope, trace: Trace, send: Send) -> None:
        self._path, self._trace, self._send = scope["path"], trace, send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._trace.status = message["status"]
            message = {
                **message,
                "headers": [
                    *_with_safe_headers(message.get("headers", ())),
                    (b"x-request-id", self._trace.request_id.encode()),
                ],
            }
        await self._send(message)

    async def fail(self, problem: RequestError) -> None:
        """Answer with a problem, unless an answer has begun."""
        if self._trace.status:
            return
        body = problem_bytes(problem, self._path, self._trace.request_id)
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **{k.lower(): v for k, v in problem.headers.items()},
        }
        await self.send(
            {
                "type": "http.response.start",
                "status": problem.status,
                "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            }
        )
        await self.send({"type": "http.response.body", "body": body})


def _with_safe_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    given = list(headers)
    names = {name.lower() for name, _ in given}
    return given + [
        (name.encode(), value.encode()) for name, value in _SAFE_HEADERS.items() if name.encode() not in names
    ]


async def _whole_body(headers: Headers, receive: Receive, most: int) -> bytes:
    """Read the body up to its limit, so that no route can be given more."""
    length = headers.get("content-length", "0")
    announced = int(length) if length.isdecimal() else 0
    parts: list[bytes] = []
    size = 0
    drained = max(_MOST_DRAINED_BYTES, most)
    while announced <= drained:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        size += len(message.get("body", b""))
        if size > drained:
            break
        if size <= most:
            parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    # what is moderately too large is read to its end, so that the client is listening when it is told
    if max(size, announced) > most:
        raise RequestError(
            413,
            "body_too_large",
            "the request is too large",
            where="body",
            found=f"more than {most // 1000} kB",
            fix="Send less text." if most == MOST_BODY_BYTES else "Send a smaller file, or raise serve.max_upload_mb.",
            headers={"Connection": "close"},
        )
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Hand the body out once, then listen to the client again."""
    is_sent = False

    async def replay() -> Message:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
