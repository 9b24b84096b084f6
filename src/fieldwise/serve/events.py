"""Answers that arrive piece by piece (server-sent events), and work that stops when its reader has gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fieldwise.serve.desk import Job
from fieldwise.serve.trace import trace_of

T = TypeVar("T")
CLIENT_GONE = 499
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class ClientGoneError(Exception):
    """The client closed the connection before it was answered."""


def event(name: str | None, value: object) -> bytes:
    """Return one event; None leaves the name out, as OpenAI's streams do."""
    line = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return (f"event: {name}\n" if name else "").encode() + f"data: {line}\n\n".encode("utf-8", "replace")


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of the work; when the client goes first, cancel it and raise ClientGoneError."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        await _drop(task, watch)


class EventStream(Response):
    """Sends events as they come and cancels the job behind them when the client has gone or the server stops."""

    def __init__(self, events: AsyncIterator[bytes], job: Job[Any]) -> None:
        super().__init__()
        self._events, self._job = events, job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the events end or the client goes."""
        sending, watch = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sending, watch}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            else:
                trace_of(scope).outcome = "cancelled"
        finally:
            self._job.cancel()
            await _drop(sending, watch)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        async for part in self._events:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drop(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
