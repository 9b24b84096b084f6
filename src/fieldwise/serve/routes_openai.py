"""/v1: the parts of OpenAI's API that fit, for clients that know only that one.

Models: `tuned`, `base` and the other builds answer from their weights; `rag` and `rag:NAME` answer from the
documents and put their citations into the extra field `citations`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from fieldwise.serve import replies
from fieldwise.serve.desk import Produce
from fieldwise.serve.frame import caller_of
from fieldwise.serve.keys import Caller
from fieldwise.serve.openai_bodies import ChatBody, CompletionBody, OpenAiBody
from fieldwise.serve.openai_shapes import Completion
from fieldwise.serve.problems import RequestError
from fieldwise.serve.release_file import RELEASE, TUNED
from fieldwise.serve.replies import Event, IsCancelled
from fieldwise.serve.service import Service
from fieldwise.serve.trace import trace_of

RAG = "rag"


class _Wanted(NamedTuple):
    """A model name taken apart."""

    name: str
    is_grounded: bool


def router(service: Service) -> APIRouter:
    """Return the routes below /v1."""
    routes = APIRouter(prefix="/v1", tags=["openai"])

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        """List every name a completion can ask for."""
        return {"object": "list", "data": [_described(service, name) for name in _names(service)]}

    @routes.get("/models/{name}")
    async def model(name: str, request: Request) -> dict[str, Any]:
        """Describe one model."""
        wanted = _wanted(service, name, request)
        return _described(service, _public(wanted))

    @routes.post("/chat/completions")
    async def chat_completions(body: ChatBody, request: Request) -> Any:
        """Go on with a conversation."""
        wanted = _wanted(service, body.model, request)
        return await _complete(
            service, request, body, wanted, _chat_work(service, wanted, body, caller_of(request.scope))
        )

    @routes.post("/completions")
    async def completions(body: CompletionBody, request: Request) -> Any:
        """Continue a text as it stands, without the chat template."""
        wanted = _wanted(service, body.model, request)
        if wanted.is_grounded:
            raise RequestError(
                400,
                "unsupported_value",
                "this model answers conversations",
                where="model",
                found=repr(body.model),
                fix="Use /v1/chat/completions.",
            )

        def produce(is_cancelled: IsCancelled) -> Iterator[Event]:
            engine = replies.engine_of(service.backend, wanted.name)
            return replies.plain(
                engine,
                lambda: engine.tokenize(body.text()),
                body.sampling(),
                is_cancelled,
                where="prompt",
                strips=False,
            )

        return await _complete(service, request, body, wanted, produce)

    return routes


async def _complete(
    service: Service, request: Request, body: OpenAiBody, wanted: _Wanted, produce: Produce[Event]
) -> Any:
    build = next(m.build for m in service.backend.models() if m.name == wanted.name)
    completion = Completion(
        "chat" if isinstance(body, ChatBody) else "text",
        trace_of(request.scope).request_id,
        _public(wanted),
        build.id,
        offers_tools=isinstance(body, ChatBody) and bool(body.offered_tools()),
        includes_usage=body.stream_options.include_usage,
        refuses=isinstance(body, ChatBody) and body.wanted_schema() is not None,
    )
    if body.stream:
        return await service.streamed(request, produce, completion.write, completion.write_problem)
    return JSONResponse(completion.whole(await service.whole(request, produce)))


def _chat_work(service: Service, wanted: _Wanted, body: ChatBody, caller: Caller) -> Produce[Event]:
    conversation, tools = body.conversation(), body.offered_tools()
    if wanted.is_grounded and tools:
        raise RequestError(
            400,
            "unsupported_parameter",
            "answers from the documents use no tools",
            where="tools",
            found=f"{len(tools)}",
            fix="Leave the tools out, or ask the model without retrieval.",
        )
    given = body.wanted_schema()
    if given is not None and not wanted.is_grounded:
        raise RequestError(
            400,
            "unsupported_parameter",
            "replies from the weights alone have no form",
            where="response_format",
            found="json_schema",
            fix="Ask a model with retrieval: rag or rag:NAME.",
        )
    if given is not None and body.stop:
        raise RequestError(
            400,
            "unsupported_parameter",
            "JSON of a schema cannot end at a text",
            where="stop",
            found=repr(body.stop)[:80],
            fix="Leave it out.",
        )
    question = next((m.content for m in reversed(conversation) if m.role == "user"), "")
    if wanted.is_grounded and not question.strip():
        raise RequestError(
            400,
            "invalid_value",
            "there is no question",
            where="messages",
            found="no words of the user",
            fix="Send the question as a message with the role user.",
        )

    def produce(is_cancelled: IsCancelled) -> Iterator[Event]:
        engine = replies.engine_of(service.backend, wanted.name)
        if wanted.is_grounded:
            schema = None if given is None else replies.schema_of(given, "response_format.json_schema.schema")
            answerer = service.backend.answerer(wanted.name, identity=caller.identity)
            standing = service.backend.reader(caller.identity).standing
            return replies.grounded(
                answerer,
                conversation,
                body.sampling(),
                is_cancelled,
                where="messages",
                standing=standing,
                schema=schema,
            )

        def make() -> list[int]:
            return engine.render(conversation, tools=tools)

        return replies.plain(engine, make, body.sampling(), is_cancelled, where="messages")

    return produce


# ---------------------------------------------------------------- names


def _wanted(service: Service, name: str, request: Request) -> _Wanted:
    is_grounded = name == RAG or name.startswith(f"{RAG}:")
    plain = (name.removeprefix(RAG).removeprefix(":") or TUNED) if is_grounded else name
    try:
        return _Wanted(service.name_of(plain, request), is_grounded)
    except RequestError as problem:
        raise RequestError(
            problem.status,
            problem.code,
            problem.what,
            where="model",
            found=repr(name[:80]),
            fix=f"Choose one of: {', '.join(_names(service))}.",
        ) from problem


def _public(wanted: _Wanted) -> str:
    if not wanted.is_grounded:
        return wanted.name
    return RAG if wanted.name == TUNED else f"{RAG}:{wanted.name}"


def _names(service: Service) -> list[str]:
    plain = [m.name for m in service.backend.models()]
    return [*plain, *(_public(_Wanted(name, True)) for name in plain)]


def _described(service: Service, name: str) -> dict[str, Any]:
    released = service.backend.run.path / RELEASE
    return {
        "id": name,
        "object": "model",
        "created": int(released.stat().st_mtime),
        "owned_by": service.backend.release.name,
    }
