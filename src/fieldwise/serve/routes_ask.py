"""/ask: a question in, an answer with checked citations out; and the documents the citations point into."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse, JSONResponse
from pydantic import JsonValue

from fieldwise.interfaces import Sampling
from fieldwise.records import Answer, Citation, Conversation, Document, Message
from fieldwise.serve import replies
from fieldwise.serve.bodies import AskBody
from fieldwise.serve.desk import Produce
from fieldwise.serve.events import event
from fieldwise.serve.frame import caller_of
from fieldwise.serve.keys import Caller
from fieldwise.serve.library import NotFoundError, Shelf
from fieldwise.serve.problems import RequestError, own_error
from fieldwise.serve.replies import Begun, Ended, Event, IsCancelled, Text
from fieldwise.serve.service import Service
from fieldwise.serve.trace import trace_of
from fieldwise.store.protocol import GoneError

_UNSAFE_NAME = re.compile(r"[^A-Za-z0-9._ -]+")
DocumentId = Annotated[str, InPath(max_length=80, description="as in a citation")]


def router(service: Service) -> APIRouter:
    """Return /ask and /documents."""
    routes = APIRouter(tags=["ask"])

    @routes.post(
        "/ask",
        response_model=Answer,
        responses={
            200: {
                "description": "The answer; each citation also has a `document` with uri, title, page, quote, start, end and links."
            }
        },
    )
    async def ask(body: AskBody, request: Request) -> Any:
        """Answer a question from the documents. With `stream` the events are `passages`, `text` (many) and `answer`."""
        produce = _work(service, service.name_of(body.model, request), body, caller_of(request.scope))
        if not body.stream:
            return JSONResponse(shown_answer((await service.whole(request, produce)).answer))

        def write(item: Event) -> Iterator[bytes]:
            if isinstance(item, Begun):
                yield event("passages", {"passages": [p.model_dump(mode="json") for p in item.passages]})
            elif isinstance(item, Text):
                yield event("text", {"text": item.text})
            elif isinstance(item, Ended):
                yield event("answer", shown_answer(item.answer))

        request_id = trace_of(request.scope).request_id
        return await service.streamed(
            request, produce, write, lambda problem: event("error", own_error(problem, request_id))
        )

    @routes.get("/documents/{document_id}")
    def document(document_id: DocumentId, request: Request) -> dict[str, JsonValue]:
        """Return the text of a document with its pages and headings; offsets count characters."""
        shelf = service.backend.reader(caller_of(request.scope).identity)
        found = _document(shelf, document_id)
        shown = found.model_dump(
            mode="json", include={"id", "title", "text", "pages", "headings", "tables", "language", "notes"}
        )
        has_original = shelf.original(found) is not None
        return {
            **shown,
            "uri": found.source.uri,
            "media_type": found.source.media_type,
            "original": f"/documents/{found.id}/original" if has_original else None,
        }

    @routes.get("/documents/{document_id}/original", response_class=FileResponse)
    def original(document_id: DocumentId, request: Request) -> Any:
        """Return the file a document was read from, to be saved, never to be shown by a browser."""
        shelf = service.backend.reader(caller_of(request.scope).identity)
        found = _document(shelf, document_id)
        path = shelf.original(found)
        if path is None:
            raise RequestError(
                404,
                "original_not_found",
                "the original is no longer in the run folder",
                where=document_id,
                fix="Collect the documents again: fieldwise collect PATH",
            )
        return FileResponse(path, media_type="application/octet-stream", headers=attachment_headers(found.source.uri))

    return routes


def _work(service: Service, name: str, body: AskBody, caller: Caller) -> Produce[Event]:
    conversation: Conversation = (
        *(Message(role=turn.role, content=turn.content) for turn in body.history),
        Message(role="user", content=body.question),
    )

    def produce(is_cancelled: IsCancelled) -> Iterator[Event]:
        replies.engine_of(service.backend, name)
        schema = None if body.json_schema is None else replies.schema_of(body.json_schema, "schema")
        answerer = service.backend.answerer(name, top_k=body.top_k, identity=caller.identity)
        return replies.grounded(
            answerer,
            conversation,
            Sampling(max_tokens=body.max_tokens),
            is_cancelled,
            where="question",
            standing=service.backend.reader(caller.identity).standing,
            schema=schema,
        )

    return produce


def shown_answer(answer: Answer | None) -> dict[str, Any]:
    """Return an answer as it is sent: each citation with what a reader needs to find the place."""
    assert answer is not None
    shown = answer.model_dump(mode="json")
    shown["citations"] = shown_citations(answer.citations)
    return shown


def shown_citations(citations: tuple[Citation, ...]) -> list[dict[str, Any]]:
    """Return citations with their `document`."""
    return [
        {
            **c.model_dump(mode="json"),
            "document": {
                "id": c.document_id,
                "uri": c.uri,
                "title": c.title,
                "page": c.page,
                **({} if c.version is None else {"version": c.version}),
                "quote": c.quote,
                "start": c.start,
                "end": c.end,
                "url": f"/documents/{c.document_id}",
                "original": f"/documents/{c.document_id}/original",
            },
        }
        for c in citations
    ]


def attachment_headers(uri: str) -> dict[str, str]:
    """Return headers that make every browser save a file and none run it."""
    name = uri.replace("\\", "/").rpartition("/")[2] or "document"
    plain = _UNSAFE_NAME.sub("_", name).strip(". ") or "document"
    return {
        "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "content-security-policy": "default-src 'none'; sandbox",
    }


def _document(shelf: Shelf, identifier: str) -> Document:
    try:
        return shelf.document(identifier)
    except GoneError as error:
        raise RequestError(410, "document_gone", error.what, found=identifier, fix=error.fix) from error
    except NotFoundError as error:
        raise RequestError(404, "document_not_found", error.what, found=error.found, fix=error.fix) from error
