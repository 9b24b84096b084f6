"""Replies as streams of the same three events, with or without retrieval, for every route."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import JsonValue

from fieldwise.errors import InputError, ModelError
from fieldwise.interfaces import Engine, FinishReason, Sampling
from fieldwise.prompts import grounded_prompt
from fieldwise.records import Answer, Conversation, RetrievedPassage
from fieldwise.retrieve.answer_schema import AnswerSchema
from fieldwise.retrieve.grounded import GroundedAnswerer, StreamedText
from fieldwise.retrieve.structured import SchemaNotMet, StructuredAnswerer
from fieldwise.serve.backend import Backend, UnknownModelError
from fieldwise.serve.problems import RequestError, too_long

T = TypeVar("T")


@dataclass(frozen=True)
class Begun:
    """The prompt is ready and fits; `passages` are what it shows."""

    passages: tuple[RetrievedPassage, ...] = ()


@dataclass(frozen=True)
class Text:
    """New words."""

    text: str


@dataclass(frozen=True)
class Ended:
    """The reply is complete; `answer` holds its citations if it was made from the documents."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    answer: Answer | None = None


Event = Begun | Text | Ended
IsCancelled = Callable[[], bool]


def engine_of(backend: Backend, name: str) -> Engine:
    """Return the engine of a model that is known; one that cannot be loaded is a 503 problem without a path in it."""
    try:
        return backend.engine(name)
    except UnknownModelError:
        raise
    except ModelError as error:
        raise RequestError(
            503,
            "model_not_available",
            f"the model cannot be used: {error.what}",
            where="model",
            found=name,
            fix="Ask whoever runs the service; its log says more.",
        ) from error


def plain(
    engine: Engine,
    make_prompt: Callable[[], list[int]],
    sampling: Sampling,
    is_cancelled: IsCancelled,
    *,
    where: str,
    strips: bool = True,
) -> Iterator[Event]:
    """Yield the events of a reply from the weights alone; `strips` drops the blanks before its first word.

    `where` is the field of the request that the prompt comes from.
    """
    began = time.monotonic()
    prompt = _prepared(make_prompt, where)
    if len(prompt) >= engine.context_tokens:
        raise too_long(len(prompt), engine.context_tokens, where)
    yield Begun()
    text, tokens, finish = "", 0, "stop"
    for piece in engine.stream(prompt, sampling, is_cancelled):
        new = piece.text.lstrip() if strips and not text else piece.text
        text, tokens, finish = text + new, tokens + piece.tokens, piece.finish_reason or finish
        if new:
            yield Text(new)
    yield Ended(text, finish, len(prompt), tokens, time.monotonic() - began)  # type: ignore[arg-type]


def grounded(
    answerer: GroundedAnswerer,
    conversation: Conversation,
    sampling: Sampling,
    is_cancelled: IsCancelled,
    *,
    where: str,
    standing: Callable[[Answer], Answer] = lambda answer: answer,
    schema: AnswerSchema | None = None,
) -> Iterator[Event]:
    """Yield the events of an answer from the documents; `where` is the field of the request that holds the question.

    `standing` looks once more whether what is cited is still there. With a `schema` the answer is JSON that fits it.
    """
    asked = answerer if schema is None else StructuredAnswerer(answerer, schema)
    stream = asked.stream(conversation, sampling, is_cancelled)
    try:
        passages = next(stream)
    except ModelError as error:
        raise _of_question(error, answerer.engine, conversation, where) from error
    assert isinstance(passages, tuple)
    yield Begun(passages)
    for part in _told(stream):
        if isinstance(part, StreamedText) and part.text:
            yield Text(part.text)
        elif isinstance(part, Answer):
            part = standing(part)
            yield Ended(
                part.text,
                part.finish_reason,
                part.prompt_tokens,
                part.completion_tokens,
                part.timings.total_seconds,
                part,
            )


def schema_of(given: JsonValue, where: str) -> AnswerSchema:
    """Return the schema of a request; one that is not understood is a 400 problem that names the keyword."""
    try:
        return AnswerSchema.read(given, where)
    except InputError as error:
        raise _unsupported(error) from error


def _unsupported(error: InputError) -> RequestError:
    return RequestError(400, "unsupported_schema", error.what, where=error.where, found=error.found, fix=error.fix)


def _told(stream: Iterator[T]) -> Iterator[T]:
    """Tell of a reply that does not fit its schema, and of a schema that cannot be followed, as problems of the request."""
    try:
        yield from stream
    except SchemaNotMet as error:
        raise RequestError(
            502, "schema_not_met", error.what, where=error.where, found=error.found, fix=error.fix
        ) from error
    except InputError as error:
        raise _unsupported(error) from error


def _prepared(make: Callable[[], list[int]], where: str) -> list[int]:
    """Make the prompt; what the template refuses is the request's fault, not ours."""
    try:
        return make()
    except (ModelError, InputError) as error:
        raise RequestError(
            400, "invalid_request", error.what, where=error.where or where, found=error.found, fix=error.fix
        ) from error


def _of_question(error: ModelError, engine: Engine, conversation: Conversation, where: str) -> RequestError:
    """Tell why a question could not be asked: it does not fit even without passages, or the template refuses it."""
    question = next((m.content for m in reversed(conversation) if m.role == "user"), "")
    prompt = _prepared(lambda: engine.render(grounded_prompt(question, ())), where)
    if len(prompt) >= engine.context_tokens:
        return too_long(len(prompt), engine.context_tokens, where)
    return RequestError(
        400, "invalid_request", error.what, where=error.where or where, found=error.found, fix=error.fix
    )


def without_limit_marks(sampling: Sampling) -> Sampling:
    """Return settings every engine accepts: a share of 0 means the likeliest token only."""
    return replace(sampling, temperature=0.0, top_p=1.0) if sampling.top_p <= 0 else sampling
