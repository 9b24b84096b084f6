"""/api/v1: generate, in batches too, and stop the service."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse

from fieldwise import __version__
from fieldwise.records import Message
from fieldwise.serve import replies
from fieldwise.serve.bodies import BatchBody, GenerateBody, SamplingFields
from fieldwise.serve.desk import Produce
from fieldwise.serve.events import event, unless_gone
from fieldwise.serve.problems import own_error
from fieldwise.serve.replies import Ended, Event, IsCancelled, Text
from fieldwise.serve.service import Service
from fieldwise.serve.trace import trace_of


class Generated(BaseModel):
    """A reply."""

    generated_text: str
    prompt: str
    tokens_generated: int
    finish_reason: Literal["stop", "length"]


class GeneratedBatch(BaseModel):
    """Replies in the order of their prompts."""

    results: list[Generated]
    total_prompts: int


class Health(BaseModel):
    """Whether the service lives and its model is loaded."""

    status: str
    model_loaded: bool
    model_name: str
    version: str


class ModelInfo(BaseModel):
    """The model that answers as "tuned"."""

    model_name: str
    model_type: str
    quantization: str
    max_context_length: int | None
    domain: str


def router(service: Service) -> APIRouter:
    """Return the routes below /api/v1."""
    routes = APIRouter(prefix="/api/v1", tags=["generate"])

    @routes.get("/health", response_model=Health)
    async def health() -> Any:
        """Tell whether the service lives and its model is loaded."""
        tuned = service.backend.models()[0]
        return Health(
            status="healthy", model_loaded=tuned.is_loaded, model_name=service.backend.release.name, version=__version__
        )

    @routes.get("/model/info", response_model=ModelInfo)
    async def model_info() -> Any:
        """Describe the model that answers as "tuned"."""
        tuned, release = service.backend.models()[0], service.backend.release
        return ModelInfo(
            model_name=release.name,
            model_type="causal-lm",
            quantization=tuned.build.quantisation,
            max_context_length=tuned.context_tokens,
            domain=release.domain,
        )

    @routes.post("/generate", response_model=Generated)
    async def generate(body: GenerateBody, request: Request) -> Any:
        """Answer one prompt from the weights alone. With `stream` events `text` follow each other, then `done`."""
        produce = _work(service, service.name_of(body.model, request), body.prompt, body, "prompt")
        if not body.stream:
            return _generated(body.prompt, await service.whole(request, produce))

        def write(item: Event) -> Iterator[bytes]:
            if isinstance(item, Text):
                yield event("text", {"text": item.text})
            elif isinstance(item, Ended):
                yield event("done", {"tokens_generated": item.completion_tokens, "finish_reason": item.finish_reason})

        request_id = trace_of(request.scope).request_id
        return await service.streamed(
            request, produce, write, lambda problem: event("error", own_error(problem, request_id))
        )

    @routes.post("/generate/batch", response_model=GeneratedBatch)
    async def generate_batch(body: BatchBody, request: Request) -> Any:
        """Answer several prompts, as many at a time as there are places. The batch is one request in the queue and has one time limit."""
        name = service.name_of(body.model, request)
        deadline = service.desk.deadline()
        work = [
            service.read(
                request, _work(service, name, prompt, body, f"prompts.{n}"), deadline=deadline, is_bounded=n == 0
            )
            for n, prompt in enumerate(body.prompts)
        ]
        ended = await unless_gone(request, _all(work))
        return GeneratedBatch(
            results=[_generated(p, e) for p, e in zip(body.prompts, ended, strict=True)],
            total_prompts=len(body.prompts),
        )

    @routes.post("/shutdown")
    async def shutdown() -> Any:
        """Answer, then stop the service. From this machine, or with the key."""
        return JSONResponse({"message": "Shutdown initiated"}, background=BackgroundTask(service.stop))

    return routes


def _work(service: Service, name: str, prompt: str, body: SamplingFields, where: str) -> Produce[Event]:
    def produce(is_cancelled: IsCancelled) -> Iterator[Event]:
        engine = replies.engine_of(service.backend, name)

        def make() -> list[int]:
            return engine.tokenize(prompt) if body.raw else engine.render((Message(role="user", content=prompt),))

        return replies.plain(engine, make, body.sampling(), is_cancelled, where=where, strips=not body.raw)

    return produce


async def _all(work: list[Coroutine[Any, Any, Ended]]) -> list[Ended]:
    """Wait for all replies; the first problem cancels the others and is the answer."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _generated(prompt: str, ended: Ended) -> Generated:
    return Generated(
        generated_text=ended.text,
        prompt=prompt,
        tokens_generated=ended.completion_tokens,
        finish_reason="length" if ended.finish_reason == "length" else "stop",
    )
