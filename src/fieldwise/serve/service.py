"""What the routes share: the backend, the desk, readiness, and the two ways to answer: whole or piece by piece."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.requests import Request

from fieldwise.errors import FieldwiseError
from fieldwise.serve.access import Access
from fieldwise.serve.backend import Backend, UnknownModelError
from fieldwise.serve.desk import Desk, Produce
from fieldwise.serve.events import EventStream, unless_gone
from fieldwise.serve.metrics import Metrics
from fieldwise.serve.problems import RequestError
from fieldwise.serve.replies import Ended, Event, Text
from fieldwise.serve.settings import ServeSettings
from fieldwise.serve.trace import Trace, outcome_of, trace_of

log = logging.getLogger(__name__)
Write = Callable[[Event], Iterator[bytes]]
WriteProblem = Callable[[RequestError], bytes]


class Readiness(NamedTuple):
    """Whether the service can answer, and if not, why."""

    is_ready: bool
    reason: str


LOADING = Readiness(False, "the models are being loaded")


@dataclass
class Service:
    """One running service."""

    backend: Backend
    settings: ServeSettings
    access: Access
    desk: Desk
    metrics: Metrics
    readiness: Readiness = LOADING
    stop: Callable[[], None] = field(default=lambda: None)

    async def warm_up(self) -> None:
        """Load the models and generate a token with each; the outcome stands in `readiness`."""
        try:
            await asyncio.to_thread(self.backend.warm_up)
        except Exception as error:  # border: the service stays up and says why it is not ready
            log.error("not ready", exc_info=error)
            self.readiness = Readiness(
                False, error.what if isinstance(error, FieldwiseError) else f"loading failed: {type(error).__name__}"
            )
        else:
            self.readiness = Readiness(True, "ready")

    def name_of(self, wanted: str, request: Request) -> str:
        """Return the name of a model and note it; one that is not served is a 404 problem that lists those that are."""
        try:
            name = self.backend.name_of(wanted)
        except UnknownModelError as error:
            raise RequestError(
                404, "model_not_found", error.what, where=error.where, found=error.found, fix=error.fix
            ) from error
        trace_of(request.scope).model = name
        return name

    async def whole(self, request: Request, produce: Produce[Event]) -> Ended:
        """Return a complete reply; the work stops when the client goes first."""
        return await unless_gone(request, self.read(request, produce))

    async def read(
        self, request: Request, produce: Produce[Event], *, deadline: float | None = None, is_bounded: bool = True
    ) -> Ended:
        """Return a complete reply; being cancelled stops the work."""
        job = await self.desk.start(produce, deadline=deadline, is_bounded=is_bounded)
        try:
            async for item in job:
                _note(trace_of(request.scope), item)
                if isinstance(item, Ended):
                    return _complete(item)
        finally:
            job.cancel()
        raise RuntimeError("the work ended without a reply")

    async def streamed(
        self, request: Request, produce: Produce[Event], write: Write, write_problem: WriteProblem
    ) -> EventStream:
        """Return an answer that is sent as it is written. What is wrong with the request is raised before it begins."""
        trace = trace_of(request.scope)
        opened = await unless_gone(request, self.desk.opened(produce))

        async def events() -> AsyncIterator[bytes]:
            for part in write(opened.first):
                yield part
            try:
                async for item in opened.job:
                    _note(trace, item)
                    for part in write(item):
                        yield part
            except RequestError as problem:
                trace.outcome = outcome_of(problem.status)
                yield write_problem(problem)
            except Exception as error:  # border: the answer has begun, so the fault becomes its last event
                log.error("request failed", exc_info=error, extra={"fields": {"request_id": trace.request_id}})
                trace.outcome = "error"
                yield write_problem(
                    RequestError(
                        500,
                        "internal_error",
                        "something went wrong in the service",
                        found=f"request {trace.request_id}",
                        fix="Give this id to whoever runs the service.",
                    )
                )

        return EventStream(events(), opened.job)


def _note(trace: Trace, item: Event) -> None:
    if isinstance(item, Text):
        trace.saw_text()
    elif isinstance(item, Ended):
        trace.add_tokens(item.prompt_tokens, item.completion_tokens)
        if item.answer is not None:
            trace.answers.append(item.answer)


def _complete(ended: Ended) -> Ended:
    if ended.finish_reason in ("cancelled", "error"):
        raise RequestError(503, "interrupted", "the reply was interrupted", found=ended.finish_reason, fix="Ask again.")
    return ended
