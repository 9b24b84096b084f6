"""A store on a Qdrant server: the same documents, groups, filters and versions, for those who outgrow one machine.

Qdrant changes points, not documents. So every point says from which change it counts (`added`) and until which
(`removed`), and the number of the last change stands in a single point that is written last: a search reads that number
and sees, in both legs, exactly what was whole by then. What a killed writer left beyond it is cleared away when the
store is next opened for writing. There is one writer at a time; Qdrant itself does not hold a second one off.

BM25 is kept as sparse vectors: frequencies and lengths are weighed here, rarity by Qdrant (its IDF modifier). A range
over texts is refused, since Qdrant orders numbers and days only.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, ModelError, RunError
from fieldwise.extras import require
from fieldwise.records import Chunk, Document
from fieldwise.retrieve.lexical import HEADER_WEIGHT
from fieldwise.store.entries import as_unit, checked_row, field_type, other_model
from fieldwise.store.filters import BUILT_IN, FieldType, compile_filter
from fieldwise.store.protocol import (
    DEFAULT_TENANT,
    Candidates,
    Entry,
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
from fieldwise.store.qdrant_filters import STILL, Conditions
from fieldwise.store.words import field_of, terms_of, weights_of

FORMAT = 1
_MAX_QUERY_CHARS = 4000
_STATE_POINT = 0
_BATCH = 256
_BLANK = {"text": "", "structure": "", "title": "", "fields": "{}"}
_DENSE, _WORDS = "dense", "words"


class QdrantStore:
    """A store below a name on a Qdrant server; implements `protocol.ChunkStore`.

    `client` is a `qdrant_client.QdrantClient`. `dimensions` are those of the embedding model; they are fixed when the
    store is made, as is the `language` of documents that do not say theirs.
    """

    def __init__(
        self, client: Any, name: str, *, dimensions: int = 384, language: str = "english", writes: bool = True
    ) -> None:
        self._models = require("qdrant_client.models", extra="qdrant", to="keep a store on Qdrant")
        self.client, self.writes = client, writes
        self._chunks, self._documents, self._state = (f"{name}-{part}" for part in ("chunks", "documents", "state"))
        self._conditions = Conditions(self._models)
        if not client.collection_exists(self._state):
            if not writes:
                raise DatasetError("there is no document store", where=name, fix="Name one that is there.")
            self._create(dimensions, language)
        state = self._read_state()
        if state["format"] > FORMAT:
            raise RunError(
                "the store was made by a newer version of Fieldwise",
                where=name,
                found=f"format {state['format']}, this version knows {FORMAT}",
                fix="Upgrade Fieldwise, or put the documents into a new store.",
            )
        if writes:
            self._clear_after(state["generation"])

    def _create(self, dimensions: int, language: str) -> None:
        m = self._models
        self.client.create_collection(
            self._chunks,
            vectors_config={_DENSE: m.VectorParams(size=dimensions, distance=m.Distance.COSINE)},
            sparse_vectors_config={_WORDS: m.SparseVectorParams(modifier=m.Modifier.IDF)},
        )
        self.client.create_collection(self._documents, vectors_config={})
        self.client.create_collection(self._state, vectors_config={})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without a server there are no indexes of payloads, and it says so
            for collection in (self._chunks, self._documents):
                for field in ("tenant", "groups", "uri", "id"):
                    self.client.create_payload_index(collection, field, m.PayloadSchemaType.KEYWORD)
                for field in ("added", "removed", "document"):
                    self.client.create_payload_index(collection, field, m.PayloadSchemaType.INTEGER)
        self._write_state(
            {
                "format": FORMAT,
                "generation": 0,
                "last_chunk": 0,
                "last_document": 0,
                "model": "",
                "dimensions": dimensions,
                "language": language,
                "languages": [],
                "types": {},
            }
        )

    def _read_state(self) -> dict[str, Any]:
        found = self.client.retrieve(self._state, [_STATE_POINT], with_payload=True)
        if not found:
            raise DatasetError("this is no document store", where=self._state, fix="Name another, or make it anew.")
        return json.loads(found[0].payload["state"])  # type: ignore[no-any-return]

    def _write_state(self, state: dict[str, Any]) -> None:
        point = self._models.PointStruct(id=_STATE_POINT, vector={}, payload={"state": json.dumps(state)})
        self.client.upsert(self._state, [point], wait=True)

    def _clear_after(self, generation: int) -> None:
        """Take away what a writer that was killed had begun, give back what it had begun to take, end what it had ended."""
        m, c = self._models, self._conditions
        for collection in (self._chunks, self._documents):
            self.client.delete(collection, m.FilterSelector(filter=c.all(c.number("added", gt=generation))), wait=True)
            begun = c.all(c.number("removed", gt=generation, lt=STILL))
            self.client.set_payload(collection, {"removed": STILL, "kind": ""}, points=begun, wait=True)
        ended = c.all(c.number("removed", lte=generation))
        self.client.delete(self._chunks, m.FilterSelector(filter=ended), wait=True)
        self.client.set_payload(self._documents, _BLANK, points=ended, wait=True)

    def close(self) -> None:
        """Release the client."""
        self.client.close()

    # ------------------------------------------------------------ changing

    @property
    def generation(self) -> int:
        """The number of the last change; searches see it at once."""
        return int(self._read_state()["generation"])

    def put(self, entry: Entry, *, keeps_earlier: bool = False) -> int:
        """Add a document or a new version of it; see `ChunkStore.put`."""
        self._require_writer()
        row, state = checked_row(entry), self._read_state()
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
        self._put_points(self._chunks, self._chunk_points(entry, payload, keys, vectors, state["language"]))
        self._put_points(self._documents, [self._point(number, {}, payload)])
        gone = [p for p in live if not keeps_earlier or p["id"] == row["id"]]
        self._end(gone, generation, "replace")
        if keeps_earlier and entry.valid_from is not None:
            self._end_validity([p for p in live if p not in gone], entry.valid_from)
        state |= {
            "generation": generation,
            "last_document": number,
            "last_chunk": keys[-1] if keys else state["last_chunk"],
            "languages": sorted({*state["languages"], row["language"] or ""}),
            "types": {**state["types"], entry.tenant: types},
            "model": entry.model if vectors is not None else state["model"],
        }
        self._write_state(state)  # from here on it counts
        self._forget(gone)
        return int(generation)

    def delete(self, uri: str, tenant: str = DEFAULT_TENANT) -> bool:
        """Remove every version of a document from every search at once, and its words from the server."""
        self._require_writer()
        state = self._read_state()
        live = [p for p in self._versions(tenant, uri) if p["removed"] == STILL]
        if not live:
            return False
        state["generation"] += 1
        self._end(live, state["generation"], "delete")
        self._write_state(state)
        self._forget(live)
        return True

    def _require_writer(self) -> None:
        if not self.writes:
            raise RunError("the store is open for reading only", where=self._state, fix="Open it with writes=True.")

    def _versions(self, tenant: str, uri: str) -> list[dict[str, Any]]:
        c = self._conditions
        wanted = c.all(c.text("tenant", [tenant]), c.text("uri", [uri]))
        return [p.payload for p in self._scroll(self._documents, wanted)]

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

    def _chunk_points(
        self,
        entry: Entry,
        document: dict[str, Any],
        keys: Sequence[int],
        vectors: NDArray[np.float32] | None,
        language: str,
    ) -> list[Any]:
        shared = {
            name: document[name] for name in ("tenant", "uri", "title", "language", "licence", "version", "groups", "added", "removed")
        }  # fmt: skip
        shared |= self._conditions.payload_of(entry.fields)
        shared |= {"document": document["number"], "document_id": document["id"], "fields": document["fields"]}
        shared |= _days(entry.valid_from, entry.valid_until)
        points = []
        name = field_of(document["language"], language)
        for n, (key, chunk) in enumerate(zip(keys, entry.chunks, strict=True)):
            words = weights_of(name, chunk.text, chunk.label, HEADER_WEIGHT)
            indices, values = _sparse(name, words)
            vector: dict[str, Any] = {_WORDS: self._models.SparseVector(indices=indices, values=values)}
            if vectors is not None:
                vector[_DENSE] = vectors[n].tolist()
            own = {
                "chunk": chunk.model_dump_json(),
                "id": chunk.id,
                "page": chunk.page,
                "kind": chunk.kind,
                "tokens": chunk.tokens,
                "heading": list(chunk.heading_path),
            }
            points.append(self._point(key, vector, {**shared, **own}))
        return points

    def _point(self, number: int, vector: dict[str, Any], payload: dict[str, Any]) -> Any:
        return self._models.PointStruct(id=number, vector=vector, payload=payload)

    def _put_points(self, collection: str, points: list[Any]) -> None:
        for begin in range(0, len(points), _BATCH):
            self.client.upsert(collection, points[begin : begin + _BATCH], wait=True)

    def _end(self, documents: list[dict[str, Any]], generation: int, kind: str) -> None:
        c = self._conditions
        for document in documents:
            of_chunks = c.all(c.number("document", gte=document["number"], lte=document["number"]))
            self.client.set_payload(self._chunks, {"removed": generation}, points=of_chunks, wait=True)
            change = {"removed": generation, "kind": kind}
            self.client.set_payload(self._documents, change, points=[document["number"]], wait=True)

    def _end_validity(self, documents: list[dict[str, Any]], begins: date) -> None:
        c, before = self._conditions, begins - timedelta(days=1)
        for document in documents:
            first, last = (document[n] and date.fromisoformat(document[n]) for n in ("valid_from", "valid_until"))
            if (last and last <= before) or (first and first > before):
                continue
            change = {"valid_until": before.isoformat(), "valid_until_day": before.toordinal()}
            of_chunks = c.all(c.number("document", gte=document["number"], lte=document["number"]))
            self.client.set_payload(self._chunks, change, points=of_chunks, wait=True)
            self.client.set_payload(self._documents, change, points=[document["number"]], wait=True)

    def _forget(self, documents: list[dict[str, Any]]) -> None:
        """Delete the words of documents that went; who could see them can still be told that they did."""
        m, c = self._models, self._conditions
        for document in documents:
            of_chunks = c.all(c.number("document", gte=document["number"], lte=document["number"]))
            self.client.delete(self._chunks, m.FilterSelector(filter=of_chunks), wait=True)
            self.client.set_payload(self._documents, _BLANK, points=[document["number"]], wait=True)

    # ------------------------------------------------------------ searching

    def candidates(self, query: str, vector: QueryVector | None, scope: Scope, count: int) -> Candidates:
        """Return the best chunks of each leg; see `ChunkStore.candidates`."""
        if not isinstance(query, str) or count < 1:
            raise DatasetError("a search needs a text and how many hits are wanted", found=f"{query!r:.40}, {count}")
        query = query[:_MAX_QUERY_CHARS].encode("utf-8", "replace").decode("utf-8").strip()
        state = self._read_state()
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
            raise other_model(state["model"], vector.model, self._chunks)
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
        indices: list[int] = []
        for name in sorted({field_of(language or None, state["language"]) for language in state["languages"]}):
            indices += _sparse(name, dict.fromkeys(terms_of(name, query), 1.0))[0]
        if not indices:
            return {}
        asked = self._models.SparseVector(indices=sorted(set(indices)), values=[1.0] * len(set(indices)))
        found = self.client.query_points(
            self._chunks, query=asked, using=_WORDS, query_filter=allowed, limit=count, with_payload=False
        ).points
        return {int(p.id): float(p.score) for p in found if p.score > 0}

    def _by_vector(
        self, unit: NDArray[np.float32], allowed: Any, count: int, also: dict[int, float]
    ) -> dict[int, float]:
        found = self.client.query_points(
            self._chunks, query=unit.tolist(), using=_DENSE, query_filter=allowed, limit=count, with_payload=False
        ).points
        scores = {int(p.id): float(p.score) for p in found}
        missing = self.vectors_of(sorted(also.keys() - scores.keys()))
        return scores | {key: float(values @ unit) for key, values in missing.items()}

    def vectors_of(self, keys: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return the vectors of chunks."""
        if not keys:
            return {}
        found = self.client.retrieve(self._chunks, list(keys), with_payload=False, with_vectors=[_DENSE])
        vectors = {int(p.id): (p.vector or {}).get(_DENSE) for p in found}
        return {key: as_unit(np.array(v, np.float32)) for key, v in vectors.items() if v is not None}

    def fetch(self, keys: Sequence[int], identity: Identity) -> list[StoredChunk]:
        """Return chunks by key, as far as they are there for this identity now."""
        if not keys or not identity.groups:
            return []
        wanted = self._conditions.all(
            self._models.HasIdCondition(has_id=[int(k) for k in keys]), *self._seen_by(identity, self.generation)
        )
        found = {int(p.id): _stored_chunk(p) for p in self._scroll(self._chunks, wanted)}
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
        found = [_stored_document(p.payload, identity) for p in self._scroll(self._documents, wanted, count)]
        return found[:count]

    def _document(self, document_id: str, identity: Identity) -> dict[str, Any]:
        c, generation = self._conditions, self.generation
        if identity.groups:
            seen = c.all(c.text("id", [document_id]), *self._seen_by(identity, generation))
            for point in self._scroll(self._documents, seen, 1):
                return dict(point.payload)
            tenant, groups = c.text("tenant", [identity.tenant]), c.text("groups", sorted(identity.groups))
            went = c.all(c.text("id", [document_id]), tenant, groups, c.number("removed", lte=generation))
            last = max(
                (p.payload for p in self._scroll(self._documents, went)), key=lambda p: p["removed"], default=None
            )
            if last is not None:
                raise GoneError(
                    "the document was deleted" if last["kind"] == "delete" else "the document was replaced by a newer version",
                    found=f"{document_id} until generation {last['removed']}",
                    fix="Search again: passages change with the documents.",
                )  # fmt: skip
        raise DatasetError("there is no such document", found=document_id, fix="Take the id from a search.")

    def stats(self) -> Stats:
        """Return how much there is."""
        state, c = self._read_state(), self._conditions
        generation = int(state["generation"])
        here = (c.number("added", lte=generation), c.number("removed", gt=generation))
        chunks = self.client.count(self._chunks, count_filter=c.all(*here), exact=True).count
        embedded = c.all(*here, self._models.HasVectorCondition(has_vector=_DENSE))
        vectors = self.client.count(self._chunks, count_filter=embedded, exact=True).count if chunks else 0
        documents = self.client.count(self._documents, count_filter=c.all(*here), exact=True).count
        return Stats(generation, generation, documents, chunks, vectors, state["model"], 0, 0)

    def _scroll(self, collection: str, wanted: Any, most: int | None = None) -> Iterable[Any]:
        """Yield points in the order of their numbers."""
        offset, seen = None, 0
        while True:
            points, offset = self.client.scroll(collection, wanted, limit=_BATCH, offset=offset, with_payload=True)
            for point in points:
                yield point
                seen += 1
                if most is not None and seen >= most:
                    return
            if offset is None:
                return


def open_local(folder: Path | None, name: str = "fieldwise", **more: Any) -> QdrantStore:
    """Open a store by Qdrant's client alone, in a folder or in memory: for tests, not for service."""
    module = require("qdrant_client", extra="qdrant", to="keep a store on Qdrant")
    client = module.QdrantClient(":memory:") if folder is None else module.QdrantClient(path=str(folder))
    return QdrantStore(client, name, **more)


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


def _days(first: date | None, last: date | None) -> dict[str, Any]:
    return {
        "valid_from": first.isoformat() if first else None,
        "valid_until": last.isoformat() if last else None,
        "valid_from_day": first.toordinal() if first else None,
        "valid_until_day": last.toordinal() if last else None,
    }


def _sparse(name: str, words: dict[str, float]) -> tuple[list[int], list[float]]:
    """Numbers of 32 bits for the terms of a language, ascending, with their weights; terms of one number add up."""
    found: Counter[int] = Counter()
    for term, weight in words.items():
        found[int.from_bytes(hashlib.sha256(f"{name}\0{term}".encode()).digest()[:4], "big")] += weight  # type: ignore[assignment]
    return sorted(found), [float(found[index]) for index in sorted(found)]


def _original(payload: dict[str, Any]) -> Document:
    return Document.model_validate({**json.loads(payload["structure"]), "text": payload["text"]})


def _fields(payload: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(payload["fields"]).items()}


def _date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _stored_chunk(point: Any) -> StoredChunk:
    payload = point.payload
    return StoredChunk(
        key=int(point.id),
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
