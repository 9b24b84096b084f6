"""/api/v1/search and /api/v1/documents: search a store, and change what is in it.

Who asks stands with the key: nothing in a body or an address can name another tenant or lend a group to see with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from pydantic import ValidationError

from fieldwise.errors import DatasetError, DocumentError, FieldwiseError, MissingExtra, ModelError, RunError
from fieldwise.ingest import Particulars
from fieldwise.retrieve.index import passage_text
from fieldwise.retrieve.screen import screen
from fieldwise.serve.access import not_allowed
from fieldwise.serve.bodies import Body
from fieldwise.serve.frame import caller_of
from fieldwise.serve.keys import Caller, Right
from fieldwise.serve.problems import RequestError, not_readable, not_valid
from fieldwise.serve.service import Service
from fieldwise.serve.store_bodies import (
    AddedDocument,
    DeletedDocument,
    DocumentFields,
    FoundPassage,
    ListedDocuments,
    SearchBody,
    SearchResult,
    ShownDocument,
    TextBody,
    parameters_of,
)
from fieldwise.serve.stored import StoreLibrary, StoreReader
from fieldwise.store.asked import MAX_QUERY_CHARS
from fieldwise.store.filters import parse_filter
from fieldwise.store.options import SearchOptions
from fieldwise.store.protocol import GoneError, StoredDocument
from fieldwise.store.retriever import Hit

PATH = "/api/v1/documents"
Sent = TypeVar("Sent", bound=Body)
DocumentId = Annotated[str, InPath(max_length=80, description="as in a search or a citation")]
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": TextBody.model_json_schema()},
        },
    },
    "parameters": [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in DocumentFields.model_fields
    ],
}


def router(service: Service) -> APIRouter:
    """Return the routes of a store."""
    routes = APIRouter(prefix="/api/v1", tags=["store"])

    @routes.post("/search", response_model=SearchResult, response_model_exclude_unset=True)
    def search(body: SearchBody, request: Request) -> Any:
        """Find passages: BM25 and embeddings, filters and access groups before ranking."""
        _, reader = _store(service, request)
        with _told():
            options = SearchOptions.model_validate({**service.settings.search.model_dump(), **body.options()})
            wanted = None if body.filters is None else parse_filter(body.filters)
            day = body.as_of
            retriever = reader.retriever.acting_for(
                reader.identity, wanted, as_of=None if day is None else (lambda: day), options=options
            )
            looked = reader.look(retriever, body.query, body.top_k)
        more = {"explain": {**looked.explained, "filters": body.filters}} if body.explain else {}
        return SearchResult(
            results=[_passage(n, hit, body.explain) for n, hit in enumerate(looked.hits, 1)],
            query=looked.searched.text if body.explain else body.query[:MAX_QUERY_CHARS],
            is_cut=len(body.query.strip()) > MAX_QUERY_CHARS,
            generation=looked.generation,
            **more,
        )

    @routes.get("/documents", response_model=ListedDocuments)
    def documents(
        request: Request,
        after: Annotated[int, Query(ge=0, lt=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Any:
        """List the documents that are there for the key, page by page."""
        library, reader = _store(service, request)
        found = library.store.documents(reader.identity, after, limit)
        following = found[-1].key if len(found) == limit else None
        return ListedDocuments(documents=[_shown(d) for d in found], next=following)

    @routes.post("/documents", response_model=AddedDocument, status_code=201, openapi_extra=_UPLOAD)
    async def add(request: Request) -> Any:
        """Add a document, or its next version: the bytes of a file with its fields in the address, or JSON with `text`.

        It is read in a child process with limits, cleaned, cut and embedded as the recipe says, and stored in one
        transaction: searches see all of it or nothing.
        """
        library, reader = _store(service, request, "write")
        fields, content = _sent(request, await request.body())
        return await asyncio.to_thread(_add, library, reader, caller_of(request.scope), fields, content)

    @routes.get("/documents/{document_id}", response_model=ShownDocument)
    def document(document_id: DocumentId, request: Request) -> Any:
        """Describe a document; GET /documents/{document_id} has its text. One that was deleted or replaced is a 410."""
        library, reader = _store(service, request)
        with _told():
            return _shown(library.store.describe(document_id, reader.identity))

    @routes.delete("/documents/{document_id}", response_model=DeletedDocument)
    def delete(document_id: DocumentId, request: Request) -> Any:
        """Delete every version of a document: from the catalogue and from both indexes at once."""
        library, reader = _store(service, request, "write")
        with _told():
            found = library.store.describe(document_id, reader.identity)
            _require_all_of(library, caller_of(request.scope), found.uri, found.tenant)
            library.delete(found)
            return DeletedDocument(id=found.id, uri=found.uri, generation=library.store.generation)

    return routes


def _store(service: Service, request: Request, right: Right = "read") -> tuple[StoreLibrary, StoreReader]:
    """The store and what is there of it for the caller; a problem without a store or without the right."""
    library = service.backend.library
    if not isinstance(library, StoreLibrary):
        raise RequestError(
            404,
            "no_store",
            "this service has no document store",
            found="the index of a run, which does not change",
            fix="Start it with: fieldwise serve --store DIR",
        )
    caller = caller_of(request.scope)
    if right not in caller.rights:
        raise not_allowed(right, caller)
    if right == "write" and not library.store.writes:
        raise RequestError(
            409,
            "store_read_only",
            "this service has opened its store for reading only",
            fix="Ask the service that writes, or start this one without --read-only.",
        )
    return library, library.reader(caller.identity)


def _sent(request: Request, body: bytes) -> tuple[DocumentFields, bytes]:
    """The fields and the content of a document: JSON with its text, or bytes with the fields in the address."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        if request.query_params:
            raise _invalid("a document sent as JSON has its fields there", "address", "Leave the parameters out.")
        as_text = _validated(TextBody, body)
        return as_text, as_text.text.encode("utf-8")
    if kind.startswith("multipart/"):
        raise RequestError(
            415,
            "unsupported_media_type",
            "a document is sent as it is, not as a form",
            where="Content-Type",
            found=kind,
            fix="Send the bytes of the file (curl --data-binary @FILE) with its fields in the address: ?uri=NAME",
        )
    try:
        given = parameters_of(request.query_params.multi_items())
    except ValueError as error:
        raise _invalid(str(error), "address", "Write ?uri=NAME&groups=A&groups=B&fields={...}") from error
    return _validated(DocumentFields, given), body


def _validated(kind: type[Sent], given: object) -> Sent:
    try:
        return kind.model_validate_json(given) if isinstance(given, bytes) else kind.model_validate(given)
    except ValidationError as error:
        problems: list[Any] = [{**p, "loc": ("body", *p["loc"])} for p in error.errors(include_url=False)]
        raise (not_readable() if problems[0]["type"] == "json_invalid" else not_valid(problems)) from error


def _invalid(what: str, where: str, fix: str) -> RequestError:
    return RequestError(422, "invalid_request", what, where=where, fix=fix)


def _add(
    library: StoreLibrary, reader: StoreReader, caller: Caller, fields: DocumentFields, content: bytes
) -> AddedDocument:
    groups = frozenset(fields.groups) if fields.groups is not None else caller.identity.groups
    foreign = groups - caller.identity.groups
    if not groups or (foreign and "admin" not in caller.rights):
        raise RequestError(
            403,
            "not_allowed",
            "a document is added to groups of the key",
            where="groups",
            found=", ".join(sorted(foreign)) or "no groups",
            fix=f"The key has {', '.join(sorted(caller.identity.groups)) or 'no groups'}.",
        )
    _require_all_of(library, caller, fields.uri, caller.identity.tenant)
    particulars = Particulars(
        groups=groups,
        tenant=caller.identity.tenant,
        title=fields.title,
        licence=fields.licence,
        valid_from=fields.valid_from,
        valid_until=fields.valid_until,
        fields=fields.field_values(),
    )
    with _told():
        entry = library.ingester.of_bytes(content, fields.uri, particulars)
        _require_all_of(library, caller, fields.uri, caller.identity.tenant)  # reading may have taken a while
        generation, is_changed = library.add(entry, content, keeps_earlier=fields.keeps_earlier)
        known = library.store.versions(fields.uri, caller.identity.tenant)[-1]
    return AddedDocument(
        document=_shown(known), generation=generation, is_changed=is_changed, notes=list(entry.document.notes)
    )


def _require_all_of(library: StoreLibrary, caller: Caller, uri: str, tenant: str) -> None:
    """Refuse to replace or delete what the caller cannot see; what others of the groups of a document share they share."""
    hidden = any(not groups & caller.identity.groups for groups in library.store.groups_of(uri, tenant))
    if hidden and "admin" not in caller.rights:
        raise RequestError(
            403, "not_allowed", "this name belongs to a document of other groups", where="uri", fix="Choose another."
        )


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the store and the readers say into problems of the request, or of the service."""
    try:
        yield
    except RequestError:
        raise
    except GoneError as error:
        raise RequestError(410, "document_gone", error.what, found=error.found, fix=error.fix) from error
    except DocumentError as error:
        raise RequestError(
            422, f"document_{error.reason}", error.what, where=error.where, found=error.found, fix=error.fix
        ) from error
    except DatasetError as error:
        is_missing = error.what == "there is no such document"
        status, code = (404, "document_not_found") if is_missing else (422, "invalid_request")
        raise RequestError(status, code, error.what, where=error.where, found=error.found, fix=error.fix) from error
    except MissingExtra as error:
        raise RequestError(501, "not_installed", error.what, fix=error.fix) from error
    except (ModelError, RunError) as error:
        raise _of_service(error) from error


def _of_service(error: FieldwiseError) -> RequestError:
    """What only whoever runs the service can mend; the place stays in the log."""
    return RequestError(503, "store_not_available", error.what, found=error.found, fix="Ask whoever runs the service.")


def _passage(rank: int, hit: Hit, explains: bool) -> FoundPassage:
    passage, chunk = hit.passage, hit.passage.chunk
    more = {"explain": {**hit.explained, "screen": list(screen(passage_text(chunk)).signs)}} if explains else {}
    return FoundPassage(
        rank=rank,
        score=passage.score,
        lexical=passage.lexical,
        dense=passage.dense,
        chunk_id=chunk.id,
        document_id=chunk.document_id,
        uri=chunk.uri,
        title=chunk.title,
        version=hit.version,
        heading_path=list(chunk.heading_path),
        page=chunk.page,
        start=chunk.start,
        end=chunk.end,
        text=chunk.text,
        **more,
    )


def _shown(document: StoredDocument) -> ShownDocument:
    return ShownDocument(
        id=document.id,
        uri=document.uri,
        title=document.title,
        version=document.version,
        language=document.language,
        licence=document.licence,
        valid_from=document.valid_from,
        valid_until=document.valid_until,
        fields=dict(document.fields),
        groups=list(document.groups),
        chunks=document.chunks,
        characters=document.characters,
    )
