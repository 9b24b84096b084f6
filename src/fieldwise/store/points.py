"""A store of points: what databases of vectors have in common, made into documents that come and go whole.

Such databases change rows, not documents. So every row says from which change it counts (`added`) and until which
(`removed`), and the number of the last change stands in a single row that is written last: a search reads that number
and sees, in both legs, exactly what was whole by then. What a killed writer left beyond it is cleared away when the
store is next opened for writing. There is one writer at a time; the database itself does not hold a second one off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, ModelError, RunError
from fieldwise.records import Chunk, Document
from fieldwise.store.entries import as_unit, checked_row, field_type, other_model
from fieldwise.store.filters import BUILT_IN, FieldType, Filter, compile_filter
from fieldwise.store.protocol import (
    DEFAULT_TENANT,
    Candidates,
    Entry,
    FieldValue,
    GoneError,
    Identity,
    QueryVector,
    Quote,
    Scope,
    Stats,
    StoredChunk,
    StoredDocument,
    as_groups,
)
from fieldwise.store.words import field_of, terms_of

FORMAT = 1
STILL = 2**53
"""`removed` of what is still there."""
_MAX_QUERY_CHARS = 4000
_MAX_TERMS = 256
_BLANK = {"text": "", "structure": "", "title": "", "fields": "{}"}

Kind = Literal["chunks", "documents"]


class Row(NamedTuple):
    """A row to write: of a chunk with its words and maybe a vector, or of a document with neither."""

    number: int
    payload: dict[str, Any]
    language: str = ""
    body: str = ""
    header: str = ""
    vector: NDArray[np.float32] | None = None


class Conditions(Protocol):
    """Makes conditions in the database's own language."""

    def all(self, *parts: Any) -> Any:
        """Every part holds; true without parts."""
        ...

    def any(self, *parts: Any) -> Any:
        """One of the parts holds; false without parts."""
        ...

    def text(self, key: str, values: Sequence[str]) -> Any:
        """The field has one of these texts, or is a list with one of them."""
        ...

    def number(self, key: str, **bounds: float) -> Any:
        """The field is a number within bounds: gte, gt, lte, lt."""
        ...

    def numbered(self, numbers: Sequence[int]) -> Any:
        """The row has one of these numbers."""
        ...

    def empty(self, key: str) -> Any:
        """The field has no value."""
        ...

    def payload_of(self, fields: Mapping[str, FieldValue]) -> dict[str, Any]:
        """Return the fields of a document as they stand in a row."""
        ...

    def of(self, node: Filter, types: Mapping[str, FieldType]) -> Any:
        """Return the condition of a filter that `compile_filter` has found to be sound."""
        ...


class Points(Protocol):
    """A database that keeps rows of two kinds, chunks and documents, and one state."""

    @property
    def conditions(self) -> Conditions:
        """What makes conditions for it."""
        ...

    def state(self) -> dict[str, Any] | None:
        """Return the state; None where there is no store."""
        ...

    def create(self, dimensions: int) -> None:
        """Make what rows are kept in."""
        ...

    def write_state(self, state: dict[str, Any]) -> None:
        """Write the state in one step that cannot be torn."""
        ...

    def add(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows; those of the same numbers are replaced."""
        ...

    def change(self, kind: Kind, payload: Mapping[str, Any], where: Any) -> None:
        """Set parts of the payload of rows."""
        ...

    def remove(self, kind: Kind, where: Any) -> None:
        """Delete rows."""
        ...

    def scroll(self, kind: Kind, where: Any, most: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield numbers and payloads in the order of numbers."""
        ...

    def count(self, kind: Kind, where: Any, *, embedded: bool = False) -> int:
        """Return how many rows there are, or how many with a vector."""
        ...

    def by_words(self, terms: Mapping[str, Sequence[str]], where: Any, count: int) -> dict[int, float]:
        """Return the best chunks by BM25 for the terms of each language; only those with a term."""
        ...

    def by_vector(self, unit: NDArray[np.float32], where: Any, count: int) -> dict[int, float]:
        """Return the nearest chunks with their cosine."""
        ...

    def vectors(self, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return vectors of chunks."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


class PointStore:
    """A store over a database of points; implements `protocol.ChunkStore`.

    `dimensions` are those of the embedding model; they are fixed when the store is made, as is the `language` of
    documents that do not say theirs.
    """

    def __init__(
        self, points: Points, *, dimensions: int = 384, language: str = "english", writes: bool = True
    ) -> None:
        self.points, self.writes, self._conditions = points, writes, points.conditions
        self._is_torn = False  # a change of ours failed halfway
        state = points.state()
        if state is None:
            if not writes:
                raise DatasetError("there is no document store", fix="Name one that is there.")
            points.create(dimensions)
            state = {
                "format": FORMAT,
                "generation": 0,
                "last_chunk": 0,
                "last_document": 0,
                "model": "",
                "dimensions": dimensions,
                "language": language,
                "languages": [],
                "types": {},
                "ending": [],
            }
            points.write_state(state)
        if state["format"] > FORMAT:
            raise RunError(
                "the store was made by a newer version of Fieldwise",
                found=f"format {state['format']}, this version knows {FORMAT}",
                fix="Upgrade Fieldwise, or put the documents into a new store.",
            )
        if writes:
            self._clear_after(state)

    def _state(self) -> dict[str, Any]:
        state = self.points.state()
        if state is None:
            raise DatasetError("the document store is gone", fix="Open it again.")
        return state

    def _clear_after(self, state: dict[str, Any]) -> None:
        """Take away what a writer that was killed had begun, give back what it had begun to take, end what it had ended."""
        c, generation = self._conditions, state["generation"]
        begun, ended = c.number("removed", gt=generation, lt=STILL), c.all(c.number("removed", lte=generation))
        kinds: tuple[Kind, ...] = ("chunks", "documents")
        for kind in kinds:
            self.points.remove(kind, c.all(c.number("added", gt=generation)))
            self.points.change(
                kind, {"removed": STILL, "kind": ""} if kind == "documents" else {"removed": STILL}, c.all(begun)
            )
        self.points.remove("chunks", ended)
        self.points.change("documents", _BLANK, ended)
        self._end_validity(state["ending"])

    def close(self) -> None:
        """Release the database."""
        self.points.close()

    # ------------------------------------------------------------ changing

    @property
    def generation(self) -> int:
        """The number of the last change; searches see it at once."""
        return int(self._state()["generation"])

    def put(self, entry: Entry, *, keeps_earlier: bool = False) -> int:
        """Add a document or a new version of it; see `ChunkStore.put`."""
        row = checked_row(entry)
        with self._changing() as state:
            vectors = self._checked_vectors(entry, state)
            types = _types(entry, state)
            versions = self._versions(entry.tenant, row["uri"])
            live = [p for p in versions if p["removed"] == STILL]
            if any(p["content"] == row["content"] for p in live):
                return int(state["generation"])
            generation, number = state["generation"] + 1, state["last_document"] + 1
            keys = range(state["last_chunk"] + 1, state["last_chunk"] + 1 + len(entry.chunks))
            payload = {
                **row,
                "version": 1 + max((p["version"] for p in versions), default=0),
                "groups": sorted(as_groups(entry.groups)),
                "number": number,
                "chunks": len(entry.chunks),
                "characters": len(row["text"]),
                "added": generation,
                "removed": STILL,
                "kind": "",
            }
            self.points.add("chunks", self._chunk_rows(entry, payload, keys, vectors, state["language"]))
            self.points.add("documents", [Row(number, payload)])
            gone = [p for p in live if not keeps_earlier or p["id"] == row["id"]]
            self._end(gone, generation, "replace")
            kept = [p for p in live if p not in gone]
            state |= {
                "generation": generation,
                "last_document": number,
                "last_chunk": keys[-1] if keys else state["last_chunk"],
                "languages": sorted({*state["languages"], row["language"] or ""}),
                "types": {**state["types"], entry.tenant: types},
                "model": entry.model if vectors is not None else state["model"],
                "ending": _ending(kept, entry.valid_from) if keeps_earlier else [],
            }
            self.points.write_state(state)  # from here on it counts
            self._end_validity(state["ending"])
            self._forget(gone)
        return int(generation)

    def delete(self, uri: str, tenant: str = DEFAULT_TENANT) -> bool:
        """Remove every version of a document from every search at once, and its words from the server."""
        with self._changing() as state:
            live = [p for p in self._versions(tenant, uri) if p["removed"] == STILL]
            if live:
                state["generation"] += 1
                self._end(live, state["generation"], "delete")
                self.points.write_state(state)
                self._forget(live)
        return bool(live)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """Yield the state to go on from; what an earlier change of ours left undone is cleared away first."""
        self._require_writer()
        state = self._state()
        if self._is_torn:
            self._clear_after(state)
        self._is_torn = True
        yield state
        self._is_torn = False

    def _require_writer(self) -> None:
        if not self.writes:
            raise RunError("the store is open for reading only", fix="Open it with writes=True.")

    def _versions(self, tenant: str, uri: str) -> list[dict[str, Any]]:
        c = self._conditions
        wanted = c.all(c.text("tenant", [tenant]), c.text("uri", [uri]))
        return [payload for _, payload in self.points.scroll("documents", wanted)]

    def _checked_vectors(self, entry: Entry, state: dict[str, Any]) -> NDArray[np.float32] | None:
        if entry.vectors is None:
            return None
        if not entry.model:
            raise ModelError("vectors need the fingerprint of the model that made them", fix="Give model=...")
        if state["model"] and state["model"] != entry.model:
            raise other_model(state["model"], entry.model, entry.document.source.uri)
        vectors = np.asarray(entry.vectors)
        if vectors.ndim != 2 or vectors.shape[1] != state["dimensions"]:
            raise ModelError(
                f"vectors of this store have {state['dimensions']} numbers", found=f"shape {vectors.shape}"
            )
        if len(vectors) != len(entry.chunks):
            raise DatasetError(
                "the vectors do not fit the chunks", found=f"{len(vectors)} for {len(entry.chunks)} chunks"
            )
        return as_unit(vectors)

    def _chunk_rows(
        self,
        entry: Entry,
        document: dict[str, Any],
        keys: Sequence[int],
        vectors: NDArray[np.float32] | None,
        language: str,
    ) -> list[Row]:
        names = ("tenant", "uri", "title", "language", "licence", "version", "groups", "added", "removed")
        shared = {name: document[name] for name in names} | self._conditions.payload_of(entry.fields)
        shared |= {"document": document["number"], "document_id": document["id"], "fields": document["fields"]}
        shared |= _days(entry.valid_from, entry.valid_until)
        rows = []
        for n, (key, chunk) in enumerate(zip(keys, entry.chunks, strict=True)):
            own = {
                "chunk": chunk.model_dump_json(),
                "id": chunk.id,
                "page": chunk.page,
                "kind": chunk.kind,
                "tokens": chunk.tokens,
                "heading": list(chunk.heading_path),
            }
            name = field_of(document["language"], language)
            vector = vectors[n] if vectors is not None else None
            rows.append(Row(key, {**shared, **own}, name, chunk.text, chunk.label, vector))
        return rows

    def _of_chunks(self, document: dict[str, Any]) -> Any:
        return self._conditions.all(self._conditions.number("document", gte=document["number"], lte=document["number"]))

    def _of_document(self, document: dict[str, Any]) -> Any:
        return self._conditions.all(self._conditions.numbered([document["number"]]))

    def _end(self, documents: list[dict[str, Any]], generation: int, kind: str) -> None:
        for document in documents:
            self.points.change("chunks", {"removed": generation}, self._of_chunks(document))
            self.points.change("documents", {"removed": generation, "kind": kind}, self._of_document(document))

    def _end_validity(self, ending: list[list[Any]]) -> None:
        for number, until in ending:
            document, day = {"number": number}, date.fromisoformat(until).toordinal()
            self.points.change("chunks", {"valid_until": until, "valid_until_day": day}, self._of_chunks(document))
            self.points.change("documents", {"valid_until": until}, self._of_document(document))

    def _forget(self, documents: list[dict[str, Any]]) -> None:
        """Delete the words of documents that went; who could see them can still be told that they did."""
        for document in documents:
            self.points.remove("chunks", self._of_chunks(document))
            self.points.change("documents", _BLANK, self._of_document(document))

    # ------------------------------------------------------------ searching

    def candidates(self, query: str, vector: QueryVector | None, scope: Scope, count: int) -> Candidates:
        """Return the best chunks of each leg; see `ChunkStore.candidates`."""
        if not isinstance(query, str) or count < 1:
            raise DatasetError("a search needs a text and how many hits are wanted", found=f"{query!r:.40}, {count}")
        query = query[:_MAX_QUERY_CHARS].encode("utf-8", "replace").decode("utf-8").strip()
        state = self._state()
        generation = int(state["generation"])
        unit = None if vector is None else self._checked_query(vector, state)
        allowed = self._allowed(scope, state)
        if allowed is None or not query:
            return Candidates({}, {}, generation)
        lexical = self._by_words(query, state, allowed, count)
        return Candidates(lexical, {} if unit is None else self._by_vector(unit, allowed, count, lexical), generation)

    def _checked_query(self, vector: QueryVector, state: dict[str, Any]) -> NDArray[np.float32] | None:
        if not state["model"]:
            return None
        if vector.model != state["model"]:
            raise other_model(state["model"], vector.model, "the document store")
        values = np.asarray(vector.values, dtype=np.float32)
        if values.shape != (state["dimensions"],):
            raise ModelError(f"vectors of this store have {state['dimensions']} numbers", found=f"shape {values.shape}")
        return as_unit(values)

    def _allowed(self, scope: Scope, state: dict[str, Any]) -> Any:
        """The filter of a scope, applied before anything is ranked; None for an identity that may see nothing at all."""
        identity = scope.identity
        if not isinstance(identity, Identity) or not identity.groups or not identity.tenant:
            return None
        c = self._conditions
        parts = [*self._seen_by(identity, int(state["generation"]))]
        if scope.filter is not None:
            own: dict[str, FieldType] = state["types"].get(identity.tenant, {})
            compile_filter(scope.filter, own)  # says what is wrong, in the same words for every store
            parts.append(c.of(scope.filter, {**{n: kind for n, (kind, _) in BUILT_IN.items()}, **own}))
        if scope.as_of is not None:
            day = scope.as_of.toordinal()
            parts.append(c.any(c.empty("valid_from_day"), c.number("valid_from_day", lte=day)))
            parts.append(c.any(c.empty("valid_until_day"), c.number("valid_until_day", gte=day)))
        return c.all(*parts)

    def _seen_by(self, identity: Identity, generation: int) -> tuple[Any, ...]:
        c = self._conditions
        return (
            c.text("tenant", [identity.tenant]),
            c.text("groups", sorted(identity.groups)),
            c.number("added", lte=generation),
            c.number("removed", gt=generation),
        )

    def _by_words(self, query: str, state: dict[str, Any], allowed: Any, count: int) -> dict[int, float]:
        names = sorted({field_of(language or None, state["language"]) for language in state["languages"]})
        terms = {name: found for name in names if (found := terms_of(name, query)[:_MAX_TERMS])}
        return self.points.by_words(terms, allowed, count) if terms else {}

    def _by_vector(
        self, unit: NDArray[np.float32], allowed: Any, count: int, also: dict[int, float]
    ) -> dict[int, float]:
        scores = self.points.by_vector(unit, allowed, count)
        missing = self.vectors_of(sorted(also.keys() - scores.keys()))
        return scores | {key: float(values @ unit) for key, values in missing.items()}

    def vectors_of(self, keys: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return the vectors of chunks."""
        found = self.points.vectors([int(key) for key in keys]) if keys else {}
        return {key: as_unit(values) for key, values in found.items()}

    def fetch(self, keys: Sequence[int], identity: Identity) -> list[StoredChunk]:
        """Return chunks by key, as far as they are there for this identity now."""
        if not keys or not identity.groups:
            return []
        wanted = self._conditions.all(
            self._conditions.numbered([int(k) for k in keys]), *self._seen_by(identity, self.generation)
        )
        found = {number: _stored_chunk(number, p) for number, p in self.points.scroll("chunks", wanted)}
        return [found[key] for key in keys if key in found]

    def around(self, key: int, reach: int, identity: Identity) -> list[StoredChunk]:
        """Return a chunk with its neighbours; see `ChunkStore.around`."""
        near = self.fetch(range(max(key - reach, 1), key + reach + 1), identity)
        own = next((c for c in near if c.key == key), None)
        return [
            c
            for c in near
            if own is not None and (c.chunk.document_id, c.version) == (own.chunk.document_id, own.version)
        ]

    # ------------------------------------------------------------ documents

    def quote(self, document_id: str, start: int, end: int, identity: Identity) -> Quote:
        """Return words of the stored original; see `ChunkStore.quote`."""
        payload = self._document(document_id, identity)
        document = _original(payload)
        if not 0 <= start < end <= len(document.text):
            raise DatasetError(
                "the span is not within the document",
                where=document.source.uri,
                found=f"{start} to {end} of {len(document.text)} characters",
            )
        text, page = document.text[start:end], document.page_at(start)
        return Quote(text, start, end, document.id, document.source.uri, document.title, payload["version"], page)

    def original(self, document_id: str, identity: Identity) -> Document:
        """Return a document with its text and structure."""
        return _original(self._document(document_id, identity))

    def describe(self, document_id: str, identity: Identity) -> StoredDocument:
        """Return what is known of a document."""
        return _stored_document(self._document(document_id, identity), identity)

    def documents(self, identity: Identity, after: int = 0, count: int = 100) -> list[StoredDocument]:
        """Return documents by key; see `ChunkStore.documents`."""
        if not identity.groups:
            return []
        wanted = self._conditions.all(
            *self._seen_by(identity, self.generation), self._conditions.number("number", gt=after)
        )
        found = [_stored_document(p, identity) for _, p in self.points.scroll("documents", wanted, count)]
        return found[:count]

    def _document(self, document_id: str, identity: Identity) -> dict[str, Any]:
        c, generation = self._conditions, self.generation
        if identity.groups:
            seen = c.all(c.text("id", [document_id]), *self._seen_by(identity, generation))
            for _, payload in self.points.scroll("documents", seen, 1):
                return payload
            tenant, groups = c.text("tenant", [identity.tenant]), c.text("groups", sorted(identity.groups))
            went = c.all(c.text("id", [document_id]), tenant, groups, c.number("removed", lte=generation))
            last = max((p for _, p in self.points.scroll("documents", went)), key=lambda p: p["removed"], default=None)
            if last is not None:
                raise GoneError(
                    "the document was deleted" if last["kind"] == "delete" else "the document was replaced by a newer version",
                    found=f"{document_id} until generation {last['removed']}",
                    fix="Search again: passages change with the documents.",
                )  # fmt: skip
        raise DatasetError("there is no such document", found=document_id, fix="Take the id from a search.")

    def stats(self) -> Stats:
        """Return how much there is."""
        state, c = self._state(), self._conditions
        generation = int(state["generation"])
        here = (c.number("added", lte=generation), c.number("removed", gt=generation))
        chunks = self.points.count("chunks", c.all(*here))
        vectors = self.points.count("chunks", c.all(*here), embedded=True)
        documents = self.points.count("documents", c.all(*here))
        return Stats(generation, generation, documents, chunks, vectors, state["model"], 0, 0)


def _types(entry: Entry, state: dict[str, Any]) -> dict[str, str]:
    """The types of the tenant's fields with those of an entry; raises DatasetError for one that has another elsewhere."""
    known: dict[str, str] = dict(state["types"].get(entry.tenant, {}))
    for name, value in entry.fields.items():
        kind = field_type(name, value)
        if known.setdefault(name, kind) != kind:
            raise DatasetError(
                f"the field {name!r} holds {known[name]} in other documents",
                where=entry.document.source.uri,
                found=repr(value)[:80],
                fix="Give it another name, or the same type everywhere.",
            )
    return known


def _ending(documents: list[dict[str, Any]], begins: date | None) -> list[list[Any]]:
    """Numbers of earlier versions with the last day they are valid, the one before a new version begins."""
    if begins is None:
        return []
    before = begins - timedelta(days=1)
    found = []
    for document in documents:
        first, last = _date(document["valid_from"]), _date(document["valid_until"])
        if not (last and last <= before) and not (first and first > before):
            found.append([document["number"], before.isoformat()])
    return found


def _days(first: date | None, last: date | None) -> dict[str, Any]:
    return {
        "valid_from": first.isoformat() if first else None,
        "valid_until": last.isoformat() if last else None,
        "valid_from_day": first.toordinal() if first else None,
        "valid_until_day": last.toordinal() if last else None,
    }


def _original(payload: dict[str, Any]) -> Document:
    return Document.model_validate({**json.loads(payload["structure"]), "text": payload["text"]})


def _fields(payload: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(payload["fields"]).items()}


def _date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _stored_chunk(number: int, payload: dict[str, Any]) -> StoredChunk:
    return StoredChunk(
        key=number,
        chunk=Chunk.model_validate_json(payload["chunk"]),
        tenant=payload["tenant"],
        version=payload["version"],
        licence=payload["licence"],
        valid_from=_date(payload["valid_from"]),
        valid_until=_date(payload["valid_until"]),
        fields=_fields(payload),
    )


def _stored_document(payload: dict[str, Any], identity: Identity) -> StoredDocument:
    return StoredDocument(
        key=payload["number"],
        id=payload["id"],
        uri=payload["uri"],
        title=payload["title"],
        tenant=payload["tenant"],
        version=payload["version"],
        language=payload["language"],
        licence=payload["licence"],
        valid_from=_date(payload["valid_from"]),
        valid_until=_date(payload["valid_until"]),
        fields=_fields(payload),
        groups=tuple(sorted(identity.groups & set(payload["groups"]))),
        chunks=payload["chunks"],
        characters=payload["characters"],
        generation=payload["added"],
    )
