"""Reads of one state of the catalogue: what may be found, chunks and documents, and what the indexes are made of."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.records import Chunk, Document
from fieldwise.store.filters import Condition, FieldType, as_day
from fieldwise.store.protocol import Identity, StoredChunk, StoredDocument

VISIBLE = "d.added <= ? AND (d.removed IS NULL OR d.removed > ?)"
# for one identity: the tenant, then the groups as a JSON list
ALLOWED = "d.tenant = ? AND d.number IN (SELECT document FROM access WHERE name IN (SELECT value FROM json_each(?)))"
# The same for documents that are already chosen, one by one: nobody's whole list is made, and `+` keeps the index of
# tenants from leading the search.
_MAY_SEE = (
    "+d.tenant = ? AND EXISTS (SELECT 1 FROM access a WHERE a.document = d.number "
    "AND a.name IN (SELECT value FROM json_each(?)))"
)
# A row that is being replaced may still be shown if the identity may see what takes its place; a deleted one may not.
_STILL_THERE = (
    "EXISTS (SELECT 1 FROM documents n JOIN access a ON a.document = n.number WHERE n.tenant = d.tenant "
    "AND n.uri = d.uri AND n.removed IS NULL AND a.name IN (SELECT value FROM json_each(?)))"
)
_CHUNK_COLUMNS = (
    'c.number, c.id, d.id, d.uri, c.title, c.start, c."end", c.text, c.heading_path, c.page, c.tokens, c.kind, '
    "d.tenant, d.version, d.licence, d.valid_from, d.valid_until, d.fields"
)


# the first parameter is the groups of who asks, as a JSON list
_DOCUMENT_COLUMNS = (
    "d.number, d.id, d.uri, d.title, d.tenant, d.version, d.language, d.licence, d.valid_from, d.valid_until, d.fields, "
    "(SELECT json_group_array(name) FROM access WHERE document = d.number AND name IN (SELECT value FROM json_each(?))), "
    "(SELECT count(*) FROM chunks c WHERE c.document = d.number), length(d.text), d.added"
)


class Model(NamedTuple):
    """The embedding model that searches use."""

    number: int
    fingerprint: str
    dimensions: int


class Words(NamedTuple):
    """What the lexical index takes of a chunk."""

    key: int
    document: int
    language: str | None
    header: str
    body: str


class Snapshot:
    """Reads of one state of the catalogue."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.db = connection

    @property
    def generation(self) -> int:
        """The last change."""
        return int(self.db.execute("SELECT COALESCE(max(generation), 0) FROM log").fetchone()[0])

    @property
    def last_chunk(self) -> int:
        """The highest key ever given to a chunk."""
        row = self.db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'chunks'").fetchone()
        return int(row[0]) if row else 0

    @property
    def pruned(self) -> int:
        """Searches of an earlier generation than this can no longer be served whole."""
        return int(self.db.execute("SELECT value FROM state WHERE key = 'pruned'").fetchone()[0])

    @property
    def language(self) -> str:
        """The stemmer of documents that do not say their language."""
        return str(self.db.execute("SELECT value FROM state WHERE key = 'language'").fetchone()[0])

    def mark(self, generation: int) -> str | None:
        """Return what tells a generation from one of the same number in another history, such as a restored copy."""
        if generation == 0:
            return "new"
        row = self.db.execute("SELECT at FROM log WHERE generation = ?", (generation,)).fetchone()
        return row[0] if row else None

    @property
    def model(self) -> Model | None:
        """The model searches use; None as long as there are no vectors."""
        row = self.db.execute(
            "SELECT m.number, m.fingerprint, m.dimensions FROM models m JOIN state s ON s.key = 'model' "
            "AND m.number = CAST(s.value AS INTEGER)"
        ).fetchone()
        return Model(*row) if row else None

    def own_fields(self, tenant: str) -> dict[str, FieldType]:
        """Return the fields that documents of a tenant brought, with their types."""
        rows = self.db.execute("SELECT name, type FROM field_types WHERE tenant = ?", (tenant,))
        return dict(rows.fetchall())

    def allowed(
        self, generation: int, identity: Identity, condition: Condition | None, as_of: date | None
    ) -> NDArray[np.int64]:
        """Return numbers of what may be found: of chunks if the condition is about chunks, else of documents."""
        sql, parameters = f"{VISIBLE} AND {ALLOWED}", [generation, generation, identity.tenant]
        parameters.append(json.dumps(sorted(identity.groups)))
        if as_of is not None:
            day = as_day(as_of)
            sql += " AND COALESCE(d.valid_from <= ?, 1) AND COALESCE(d.valid_until >= ?, 1)"
            parameters += [day, day]
        source, column = "documents d", "d.number"
        if condition is not None:
            sql, parameters = f"{sql} AND {condition.sql}", [*parameters, *condition.parameters]
            if condition.is_of_chunks:
                source, column = "documents d JOIN chunks c ON c.document = d.number", "c.number"
        return _column(self.db.execute(f"SELECT {column} FROM {source} WHERE {sql}", parameters))

    def visible_documents(self, generation: int) -> NDArray[np.int64]:
        """Return the numbers of all documents of a generation."""
        return _column(self.db.execute(f"SELECT number FROM documents d WHERE {VISIBLE}", (generation, generation)))

    def languages(self, generation: int) -> list[str | None]:
        """Return the languages documents of a generation are in."""
        rows = self.db.execute(f"SELECT DISTINCT language FROM documents d WHERE {VISIBLE}", (generation, generation))
        return sorted((row[0] for row in rows), key=lambda language: language or "")

    def chunk_documents(self, after: int) -> NDArray[np.int64]:
        """Return (chunk, document) of every chunk beyond a number."""
        rows = self.db.execute("SELECT number, document FROM chunks WHERE number > ? ORDER BY number", (after,))
        return np.array(rows.fetchall(), dtype=np.int64).reshape(-1, 2)

    def chunks(self, keys: Sequence[int], identity: Identity) -> list[StoredChunk]:
        """Return chunks by key, in order, as far as they are there for this identity now."""
        groups = json.dumps(sorted(identity.groups))
        rows = self.db.execute(
            f"SELECT {_CHUNK_COLUMNS} FROM chunks c CROSS JOIN documents d ON d.number = c.document "  # in this order
            f"WHERE c.number IN (SELECT value FROM json_each(?)) AND {_MAY_SEE} AND {_STILL_THERE}",
            (json.dumps([int(key) for key in keys]), identity.tenant, groups, groups),
        )
        found = {row[0]: _stored_chunk(row) for row in rows}
        return [found[key] for key in keys if key in found]

    def document(self, document_id: str, identity: Identity) -> tuple[Document, int] | None:
        """Return a document and its version, if it is there for this identity now."""
        groups = json.dumps(sorted(identity.groups))
        row = self.db.execute(
            f"SELECT d.structure, d.text, d.version FROM documents d WHERE d.id = ? AND d.removed IS NULL AND {_MAY_SEE}",
            (document_id, identity.tenant, groups),
        ).fetchone()
        return (Document.model_validate({**json.loads(row[0]), "text": row[1]}), row[2]) if row else None

    def around(self, key: int, reach: int, identity: Identity) -> list[StoredChunk]:
        """Return a chunk and its neighbours: those of a document have keys one after the other."""
        rows = self.db.execute(
            "SELECT n.number FROM chunks c JOIN chunks n ON n.document = c.document AND n.number BETWEEN ? AND ? "
            "WHERE c.number = ? ORDER BY n.number",
            (key - reach, key + reach, key),
        )
        return self.chunks([row[0] for row in rows], identity)

    def documents(
        self, identity: Identity, after: int, count: int, document_id: str | None = None, uri: str | None = None
    ) -> list[StoredDocument]:
        """Return the documents that are there for this identity now, or those of an id or a uri."""
        groups = json.dumps(sorted(identity.groups))
        narrower, values = "", list[object]()
        if document_id is not None:
            narrower, values = " AND d.id = ?", [document_id]
        if uri is not None:
            narrower, values = f"{narrower} AND d.tenant = ? AND d.uri = ?", [*values, identity.tenant, uri]
        rows = self.db.execute(
            f"SELECT {_DOCUMENT_COLUMNS} FROM documents d WHERE d.number > ? AND d.removed IS NULL AND {_MAY_SEE}"
            f"{narrower} ORDER BY d.number LIMIT ?",
            (groups, after, identity.tenant, groups, *values, count),
        )
        return [_stored_document(row) for row in rows]

    def count_for(self, identity: Identity) -> tuple[int, int]:
        """Return how many documents and chunks are there for an identity."""
        rows = self.db.execute(
            "SELECT count(*), coalesce(sum((SELECT count(*) FROM chunks c WHERE c.document = d.number)), 0) "
            f"FROM documents d WHERE d.removed IS NULL AND {ALLOWED}",
            (identity.tenant, json.dumps(sorted(identity.groups))),
        )
        documents, chunks = rows.fetchone()
        return int(documents), int(chunks)

    def groups(self, tenant: str) -> list[str]:
        """Return every access group that documents of a tenant name."""
        rows = self.db.execute(
            "SELECT DISTINCT a.name FROM access a JOIN documents d ON d.number = a.document "
            "WHERE d.tenant = ? AND d.removed IS NULL",
            (tenant,),
        )
        return sorted(row[0] for row in rows)

    def files_of(self, tenant: str, uri: str) -> list[str]:
        """Return the SHA-256 of the files that the versions of a document were read from."""
        rows = self.db.execute(
            "SELECT DISTINCT json_extract(structure, '$.source.sha256') FROM documents "
            "WHERE tenant = ? AND uri = ? AND removed IS NULL",
            (tenant, uri),
        )
        return [row[0] for row in rows if row[0]]

    def live_of(self, sha256: str) -> int:
        """Return how many documents are there that were read from a file of this SHA-256, whoever may see them."""
        sql = "SELECT count(*) FROM documents WHERE removed IS NULL AND json_extract(structure, '$.source.sha256') = ?"
        return int(self.db.execute(sql, (sha256,)).fetchone()[0])

    def groups_of(self, tenant: str, uri: str) -> list[frozenset[str]]:
        """Return the access groups of each version that is there of a document."""
        rows = self.db.execute(
            "SELECT d.number, a.name FROM documents d JOIN access a ON a.document = d.number "
            "WHERE d.tenant = ? AND d.uri = ? AND d.removed IS NULL",
            (tenant, uri),
        ).fetchall()
        return [frozenset(name for n, name in rows if n == number) for number in sorted({n for n, _ in rows})]

    def faults(self) -> Iterator[str]:
        """Yield what does not hold together: pages of the file, rows without their document, spans beside the text."""
        yield from (row[0] for row in self.db.execute("PRAGMA integrity_check") if row[0] != "ok")
        yield from (f"{row[0]} row {row[1]} has no {row[2]}" for row in self.db.execute("PRAGMA foreign_key_check"))
        rows = self.db.execute(
            "SELECT d.uri, c.id FROM chunks c JOIN documents d ON d.number = c.document "
            'WHERE substr(d.text, c.start + 1, c."end" - c.start) != c.text'
        )
        yield from (f"chunk {chunk} is not in the text of {uri}" for uri, chunk in rows)

    def farewell(self, document_id: str, identity: Identity) -> tuple[str, int] | None:
        """Return how a document went (delete, replace) and in which generation; None for those who could not see it."""
        row = self.db.execute(
            "SELECT kind, generation FROM log WHERE document = ? AND tenant = ? AND kind IN ('delete', 'replace') "
            "AND EXISTS (SELECT 1 FROM json_each(groups) WHERE value IN (SELECT value FROM json_each(?))) "
            "ORDER BY generation DESC LIMIT 1",
            (document_id, identity.tenant, json.dumps(sorted(identity.groups))),
        ).fetchone()
        return (row[0], row[1]) if row else None

    def uris(self, tenant: str) -> list[str]:
        """Return the uris of all documents of a tenant."""
        rows = self.db.execute("SELECT DISTINCT uri FROM documents WHERE tenant = ? AND removed IS NULL", (tenant,))
        return sorted(row[0] for row in rows)

    # ------------------------------------------------------------ for what is derived

    def words(self, after: int, until: int) -> Iterator[Words]:
        """Yield what the lexical index takes of the chunks that came in (after, until] and are still there at `until`."""
        rows = self.db.execute(
            "SELECT c.number, c.document, d.language, c.title, c.heading_path, c.text FROM documents d "
            "JOIN chunks c ON c.document = d.number WHERE d.added > ? AND d.added <= ? "
            "AND (d.removed IS NULL OR d.removed > ?) ORDER BY c.number",
            (after, until, until),
        )
        for key, document, language, title, headings, text in rows:
            parts = [title, *(h for h in json.loads(headings) if h != title)]
            yield Words(key, document, language, " > ".join(p for p in parts if p), text)

    def removed(self, after: int, until: int) -> list[int]:
        """Return the numbers of the documents that went in (after, until]."""
        rows = self.db.execute("SELECT number FROM documents WHERE removed > ? AND removed <= ?", (after, until))
        return [row[0] for row in rows]

    def vectors(self, model: Model, after: int, until: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return keys and vectors that came in (after, until], by key."""
        rows = self.db.execute(
            "SELECT chunk, half FROM vectors WHERE model = ? AND added > ? AND added <= ? ORDER BY chunk",
            (model.number, after, until),
        ).fetchall()
        keys = np.array([row[0] for row in rows], dtype=np.int64)
        halves = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float16)
        return keys, halves.reshape(len(rows), model.dimensions).astype(np.float32)

    def vectors_of(self, model: Model, keys: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return keys and vectors of some chunks, by key."""
        rows = self.db.execute(
            "SELECT chunk, half FROM vectors WHERE model = ? AND chunk IN (SELECT value FROM json_each(?)) ORDER BY chunk",
            (model.number, json.dumps([int(key) for key in keys])),
        ).fetchall()
        halves = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float16)
        found = np.array([row[0] for row in rows], dtype=np.int64)
        return found, halves.reshape(len(rows), model.dimensions).astype(np.float32)

    def without_vector(self, model: str, count: int) -> list[StoredChunk]:
        """Return some of the chunks that a model has not embedded yet."""
        rows = self.db.execute(
            f"SELECT {_CHUNK_COLUMNS} FROM chunks c JOIN documents d ON d.number = c.document "
            "WHERE d.removed IS NULL AND NOT EXISTS (SELECT 1 FROM vectors v JOIN models m ON m.number = v.model "
            "WHERE v.chunk = c.number AND m.fingerprint = ?) ORDER BY c.number LIMIT ?",
            (model, count),
        )
        return [_stored_chunk(row) for row in rows]

    def counts(self, model: Model | None) -> tuple[int, int, int]:
        """Return how many documents, chunks and vectors there are."""
        documents = self.db.execute("SELECT count(*) FROM documents WHERE removed IS NULL").fetchone()[0]
        chunks = self.db.execute(
            "SELECT count(*) FROM chunks c JOIN documents d ON d.number = c.document WHERE d.removed IS NULL"
        ).fetchone()[0]
        vectors = self.db.execute(
            "SELECT count(*) FROM vectors v JOIN chunks c ON c.number = v.chunk JOIN documents d "
            "ON d.number = c.document WHERE d.removed IS NULL AND v.model = ?",
            (model.number if model else -1,),
        ).fetchone()[0]
        return documents, chunks, vectors


def _column(rows: sqlite3.Cursor) -> NDArray[np.int64]:
    return np.fromiter((row[0] for row in rows), dtype=np.int64)


def _stored_document(row: tuple[Any, ...]) -> StoredDocument:
    key, identifier, uri, title, tenant, version, language, licence, valid_from, valid_until = row[:10]
    return StoredDocument(
        key=key,
        id=identifier,
        uri=uri,
        title=title,
        tenant=tenant,
        version=version,
        language=language,
        licence=licence,
        valid_from=date.fromisoformat(valid_from) if valid_from else None,
        valid_until=date.fromisoformat(valid_until) if valid_until else None,
        fields=_fields(row[10]),
        groups=tuple(sorted(json.loads(row[11]))),
        chunks=row[12],
        characters=row[13],
        generation=row[14],
    )


def _fields(text: str) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}


def _stored_chunk(row: tuple[Any, ...]) -> StoredChunk:
    names = ("id", "document_id", "uri", "title", "start", "end", "text", "heading_path", "page", "tokens", "kind")
    values = dict(zip(names, row[1:12], strict=True))
    values["heading_path"] = tuple(json.loads(values["heading_path"]))
    return StoredChunk(
        key=row[0],
        chunk=Chunk.model_construct(**values),
        tenant=row[12],
        version=row[13],
        licence=row[14],
        valid_from=date.fromisoformat(row[15]) if row[15] else None,
        valid_until=date.fromisoformat(row[16]) if row[16] else None,
        fields=_fields(row[17]),
    )
