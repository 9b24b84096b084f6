"""A store of points: what databases of vectors have in common, made into documents that come and go whole.

Such databases change rows, not documents. So every row says from which change it counts (`added`) and until which
(`removed`), and the number of the last change stands in a single row that is written last: a search reads that number
and sees, in both legs, exactly what was whole by then. What a killed writer left beyond it is cleared away when the
store is next opened for writing. There is one writer at a time; the database itself does not hold a second one off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, ModelError, RunError
from fieldwise.records import Document
from fieldwise.store.asked import checked_query, sees_nothing
from fieldwise.store.database import Kind, Points, Row
from fieldwise.store.entries import as_unit, checked_row, other_model, with_types_of
from fieldwise.store.filters import BUILT_IN, FieldType, compile_filter
from fieldwise.store.originals import gone, quote_of, unknown
from fieldwise.store.payloads import (
    BLANK,
    STILL,
    checked_vectors,
    chunk_rows,
    document_payload,
    ending,
    original_of,
    stored_chunk,
    stored_document,
)
from fieldwise.store.protocol import (
    DEFAULT_TENANT,
    Candidates,
    Entry,
    Identity,
    QueryVector,
    Quote,
    Scope,
    Stats,
    StoredChunk,
    StoredDocument,
)
from fieldwise.store.words import field_of, terms_of

FORMAT = 1
_MAX_TERMS = 256


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
        self.points.change("documents", BLANK, ended)
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
            vectors = checked_vectors(entry, state["model"], state["dimensions"])
            types = with_types_of(entry, state["types"].get(entry.tenant, {}))
            versions = self._versions(entry.tenant, row["uri"])
            live = [p for p in versions if p["removed"] == STILL]
            if any(p["content"] == row["content"] for p in live):
                return int(state["generation"])
            generation, number = state["generation"] + 1, state["last_document"] + 1
            keys = range(state["last_chunk"] + 1, state["last_chunk"] + 1 + len(entry.chunks))
            version = 1 + max((p["version"] for p in versions), default=0)
            payload = document_payload(entry, row, number, version, generation)
            fields = self._conditions.payload_of(entry.fields)
            self.points.add("chunks", chunk_rows(entry, payload, fields, keys, vectors, state["language"]))
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
                "ending": ending(kept, entry.valid_from) if keeps_earlier else [],
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
            self.points.change("documents", BLANK, self._of_document(document))

    # ------------------------------------------------------------ searching

    def candidates(self, query: str, vector: QueryVector | None, scope: Scope, count: int) -> Candidates:
        """Return the best chunks of each leg; see `ChunkStore.candidates`."""
        query = checked_query(query, count)
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
        if sees_nothing(identity):
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
        found = {number: stored_chunk(number, p) for number, p in self.points.scroll("chunks", wanted)}
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
        return quote_of(original_of(payload), payload["version"], start, end)

    def original(self, document_id: str, identity: Identity) -> Document:
        """Return a document with its text and structure."""
        return original_of(self._document(document_id, identity))

    def describe(self, document_id: str, identity: Identity) -> StoredDocument:
        """Return what is known of a document."""
        return stored_document(self._document(document_id, identity), identity)

    def documents(self, identity: Identity, after: int = 0, count: int = 100) -> list[StoredDocument]:
        """Return documents by key; see `ChunkStore.documents`."""
        if not identity.groups:
            return []
        wanted = self._conditions.all(
            *self._seen_by(identity, self.generation), self._conditions.number("number", gt=after)
        )
        found = [stored_document(p, identity) for _, p in self.points.scroll("documents", wanted, count)]
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
                raise gone(document_id, last["kind"], last["removed"])
        raise unknown(document_id)

    def stats(self) -> Stats:
        """Return how much there is."""
        state, c = self._state(), self._conditions
        generation = int(state["generation"])
        here = (c.number("added", lte=generation), c.number("removed", gt=generation))
        chunks = self.points.count("chunks", c.all(*here))
        vectors = self.points.count("chunks", c.all(*here), embedded=True)
        documents = self.points.count("documents", c.all(*here))
        return Stats(generation, generation, documents, chunks, vectors, state["model"], 0, 0)
