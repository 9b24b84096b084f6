"""The catalogue: one SQLite file that is the only truth. Everything else in a store can be made from it again.

Every change is one transaction and one generation, written to `log`. Rows of a document that goes are marked with the
generation they went in and stay until searches have been moved past it, so that a search sees one generation of both
legs. Numbers of documents and chunks only grow and are never given twice.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, ModelError, RunError
from fieldwise.files import disk_is_full
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.records import Chunk, Document
from fieldwise.store.filters import BUILT_IN, Condition, FieldType, as_day, is_number, storable
from fieldwise.store.protocol import Entry, FieldValue, Identity, StoredChunk, as_groups

FILE = "catalogue.sqlite"
SCHEMA = 1
_BUSY_SECONDS = 30
_MAX_FIELDS = 100

_TABLES = """
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, tenant TEXT NOT NULL, uri TEXT NOT NULL,
    version INTEGER NOT NULL, title TEXT NOT NULL, language TEXT, licence TEXT, valid_from TEXT, valid_until TEXT,
    fields TEXT NOT NULL, structure TEXT NOT NULL, text TEXT NOT NULL, content TEXT NOT NULL,
    added INTEGER NOT NULL, removed INTEGER
);
CREATE INDEX documents_uri ON documents (tenant, uri);
CREATE INDEX documents_id ON documents (id);
CREATE INDEX documents_removed ON documents (removed) WHERE removed IS NOT NULL;
CREATE TABLE access (name TEXT NOT NULL, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    PRIMARY KEY (name, document)) WITHOUT ROWID;
CREATE INDEX access_document ON access (document);
CREATE TABLE facets (name TEXT NOT NULL, text TEXT, number NUMERIC,
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE);
CREATE INDEX facets_text ON facets (name, text, document);
CREATE INDEX facets_number ON facets (name, number, document);
CREATE INDEX facets_document ON facets (document);
CREATE TABLE field_types (tenant TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL,
    PRIMARY KEY (tenant, name)) WITHOUT ROWID;
CREATE TABLE chunks (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL,
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE, start INTEGER NOT NULL, "end" INTEGER NOT NULL,
    page INTEGER, heading_path TEXT NOT NULL, tokens INTEGER NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX chunks_id ON chunks (id);
CREATE INDEX chunks_document ON chunks (document);
CREATE TABLE models (number INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, dimensions INTEGER NOT NULL);
CREATE TABLE vectors (
    model INTEGER NOT NULL REFERENCES models, chunk INTEGER NOT NULL REFERENCES chunks ON DELETE CASCADE,
    added INTEGER NOT NULL, half BLOB NOT NULL, UNIQUE (model, chunk)
);
CREATE INDEX vectors_added ON vectors (model, added);
CREATE INDEX vectors_chunk ON vectors (chunk);
CREATE TABLE log (
    generation INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, tenant TEXT NOT NULL, uri TEXT NOT NULL,
    document TEXT NOT NULL, version INTEGER NOT NULL, groups TEXT NOT NULL, at TEXT NOT NULL
);
CREATE INDEX log_uri ON log (tenant, uri);
CREATE INDEX log_document ON log (document);
"""

VISIBLE = "d.added <= ? AND (d.removed IS NULL OR d.removed > ?)"
# for one identity: the tenant, then the groups as a JSON list
ALLOWED = "d.tenant = ? AND d.number IN (SELECT document FROM access WHERE name IN (SELECT value FROM json_each(?)))"
# A row that is being replaced may still be shown if the identity may see what takes its place; a deleted one may not.
_STILL_THERE = (
    "EXISTS (SELECT 1 FROM documents n JOIN access a ON a.document = n.number WHERE n.tenant = d.tenant "
    "AND n.uri = d.uri AND n.removed IS NULL AND a.name IN (SELECT value FROM json_each(?)))"
)
_CHUNK_COLUMNS = (
    'c.number, c.id, d.id, d.uri, c.title, c.start, c."end", c.text, c.heading_path, c.page, c.tokens, c.kind, '
    "d.tenant, d.version, d.licence, d.valid_from, d.valid_until, d.fields"
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


class Catalogue:
    """One connection a thread for reading, one connection under a lock for writing."""

    def __init__(self, folder: Path, *, writes: bool, language: str = "english") -> None:
        self.path, self.writes = folder / FILE, writes
        self._threads = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._guard = threading.RLock()
        with self._clear_errors():
            if writes:
                self._create(language)
            self._check_schema(self._connection())

    # ------------------------------------------------------------ opening

    def _create(self, language: str) -> None:
        connection = self._connection()
        connection.execute("PRAGMA journal_mode = WAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            with self.writing() as db:
                if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                    for statement in _TABLES.split(";\n"):
                        db.execute(statement)
                    db.execute("INSERT INTO state VALUES ('pruned', '0')")
                    db.execute("INSERT INTO state VALUES ('language', ?)", (language,))
                    db.execute(f"PRAGMA user_version = {SCHEMA}")

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA:
            raise RunError(
                "the store was made by a newer version of Fieldwise",
                where=self.path,
                found=f"schema {found}, this version knows {SCHEMA}",
                fix="Upgrade Fieldwise, or put the documents into a new store.",
            )
        if found < 1:
            raise DatasetError("this is no document store", where=self.path, fix="Name the folder of a store.")

    def _connection(self) -> sqlite3.Connection:
        connection = getattr(self._threads, "connection", None)
        if connection is None:
            connection = self._threads.connection = self._connect()
            with self._guard:
                self._connections.append(connection)
        return cast(sqlite3.Connection, connection)

    def _connect(self) -> sqlite3.Connection:
        if not self.writes and not self.path.exists():
            raise DatasetError("there is no document store", where=self.path, fix="Name the folder of a store.")
        place = self.path.resolve().as_uri()
        options = "mode=rwc" if self.writes else "mode=ro"
        try:
            return self._opened(f"{place}?{options}")
        except sqlite3.OperationalError:
            wal = self.path.with_name(f"{FILE}-wal")
            if self.writes or (wal.exists() and wal.stat().st_size):
                raise
            return self._opened(f"{place}?mode=ro&immutable=1")  # a disk that cannot be written: nothing changes there

    def _opened(self, uri: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # what was deleted shall not be read from free pages
            connection.execute("PRAGMA cache_size = -16000")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Turn what SQLite says into what, where and what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            said = str(error)
            if "full" in said or "disk I/O" in said:
                raise disk_is_full(self.path) from error
            if "readonly" in said or "unable to open" in said:
                raise RunError(
                    "the store cannot be written" if self.writes else "the store cannot be opened for reading",
                    where=self.path,
                    found=said,
                    fix="Check the rights of the folder and whether its disk is mounted read-only.",
                ) from error
            if "locked" in said or "busy" in said:
                raise RunError(
                    "another process holds the store", where=self.path, found=said, fix="Try again when it is done."
                ) from error
            if "not a database" in said or "malformed" in said:
                raise DatasetError(
                    "the catalogue of the store is damaged",
                    where=self.path,
                    found=said,
                    fix="Put back a copy of it; everything else in the folder is made from it again.",
                ) from error
            raise

    def close(self) -> None:
        """Close every connection; the last one of all processes folds the write-ahead log into the file."""
        with self._guard:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
            self._threads = threading.local()

    @contextmanager
    def reading(self) -> Iterator[Snapshot]:
        """Yield one state of the catalogue, whatever is written meanwhile."""
        with self._clear_errors():
            connection = self._connection()
            if connection.in_transaction:  # within a change of this thread
                yield Snapshot(connection)
                return
            connection.execute("BEGIN")
            try:
                yield Snapshot(connection)
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a transaction that is committed at the end, or not at all."""
        with self._guard, self._clear_errors():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    # ------------------------------------------------------------ changing

    def put(self, entry: Entry, *, keeps_earlier: bool = False) -> bool:
        """Store an entry in one transaction; false if it is there already, word for word."""
        row = _checked(entry)
        with self.writing() as db:
            same = db.execute(
                "SELECT number FROM documents WHERE tenant = ? AND uri = ? AND content = ? AND removed IS NULL",
                (entry.tenant, row["uri"], row["content"]),
            ).fetchone()
            model = _model_for(db, entry)
            if same is not None:
                return model is not None and self._add_vectors_of(db, entry, same[0], model)
            generation = _next_generation(db)
            version = _next_version(db, entry.tenant, row["uri"])
            _end_earlier(db, entry, row, generation, keeps_earlier=keeps_earlier)
            columns = {**row, "version": version, "added": generation}
            names = ", ".join(columns)
            number = db.execute(
                f"INSERT INTO documents ({names}) VALUES ({', '.join('?' * len(columns))})", tuple(columns.values())
            ).lastrowid
            assert number is not None
            groups = sorted(as_groups(entry.groups))
            db.executemany("INSERT INTO access VALUES (?, ?)", [(name, number) for name in groups])
            _insert_fields(db, entry, number)
            keys = [_insert_chunk(db, chunk, number) for chunk in entry.chunks]
            if model is not None and entry.vectors is not None:
                _insert_vectors(db, model, keys, entry.vectors, generation)
            _log(db, generation, "put", (entry.tenant, row["uri"], row["id"], version), groups)
        return True

    def _add_vectors_of(self, db: sqlite3.Connection, entry: Entry, number: int, model: Model) -> bool:
        missing = db.execute(
            "SELECT c.number FROM chunks c LEFT JOIN vectors v ON v.chunk = c.number AND v.model = ? "
            "WHERE c.document = ? AND v.chunk IS NULL",
            (model.number, number),
        ).fetchall()
        if not missing:
            return False
        keys = [k for (k,) in db.execute("SELECT number FROM chunks WHERE document = ? ORDER BY number", (number,))]
        generation = _next_generation(db)
        assert entry.vectors is not None
        _insert_vectors(db, model, keys, entry.vectors, generation)
        _log(db, generation, "embed", (entry.tenant, entry.document.source.uri, entry.document.id, 0), [])
        return True

    def delete(self, uri: str, tenant: str) -> bool:
        """Mark every version of a document as gone, in one transaction."""
        with self.writing() as db:
            rows = _live(db, tenant, uri)
            if not rows:
                return False
            generation = _next_generation(db)
            _remove(db, rows, generation, "delete", tenant, uri)
        return True

    def add_vectors(self, model: str, keys: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Store vectors of a model for chunks, in one transaction; those that are there stay, those of gone chunks are left out."""
        with self.writing() as db:
            known = _register(db, model, vectors)
            generation = _next_generation(db)
            there = {
                k
                for (k,) in db.execute(
                    "SELECT number FROM chunks WHERE number IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(keys)),),
                )
            }
            kept = [n for n, key in enumerate(keys) if key in there]
            _insert_vectors(db, known, [keys[n] for n in kept], vectors[kept], generation)
            _log(db, generation, "embed", ("", "", "", 0), [])

    def activate(self, model: str) -> None:
        """Make searches use another model; raises ModelError unless every chunk has its vector."""
        with self.writing() as db:
            row = db.execute("SELECT number FROM models WHERE fingerprint = ?", (model,)).fetchone()
            missing = db.execute(
                "SELECT count(*) FROM chunks c JOIN documents d ON d.number = c.document LEFT JOIN vectors v "
                "ON v.chunk = c.number AND v.model = ? WHERE d.removed IS NULL AND v.chunk IS NULL",
                (row[0] if row else -1,),
            ).fetchone()[0]
            if row is None or missing:
                raise ModelError(
                    "not every chunk has a vector of this model",
                    where=self.path,
                    found=f"{missing} without, model {model}",
                    fix="Embed the others first.",
                )
            generation = _next_generation(db)
            db.execute("INSERT OR REPLACE INTO state VALUES ('model', ?)", (str(row[0]),))
            _log(db, generation, "model", ("", "", "", 0), [])

    def prune(self, published: int) -> int:
        """Drop what went at or before a generation that every new search is past; returns how many documents."""
        with self.writing() as db:
            count = db.execute("DELETE FROM documents WHERE removed <= ?", (published,)).rowcount
            if count:
                db.execute("UPDATE state SET value = ? WHERE key = 'pruned'", (str(published),))
        return count


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
            f"SELECT {_CHUNK_COLUMNS} FROM chunks c JOIN documents d ON d.number = c.document "
            f"WHERE c.number IN (SELECT value FROM json_each(?)) AND {ALLOWED} AND {_STILL_THERE}",
            (json.dumps([int(key) for key in keys]), identity.tenant, groups, groups),
        )
        found = {row[0]: _stored_chunk(row) for row in rows}
        return [found[key] for key in keys if key in found]

    def document(self, document_id: str, identity: Identity) -> tuple[Document, int] | None:
        """Return a document and its version, if it is there for this identity now."""
        groups = json.dumps(sorted(identity.groups))
        row = self.db.execute(
            f"SELECT d.structure, d.text, d.version FROM documents d WHERE d.id = ? AND d.removed IS NULL AND {ALLOWED}",
            (document_id, identity.tenant, groups),
        ).fetchone()
        return (Document.model_validate({**json.loads(row[0]), "text": row[1]}), row[2]) if row else None

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


def _stored_chunk(row: tuple[Any, ...]) -> StoredChunk:
    names = ("id", "document_id", "uri", "title", "start", "end", "text", "heading_path", "page", "tokens", "kind")
    values = dict(zip(names, row[1:12], strict=True))
    values["heading_path"] = tuple(json.loads(values["heading_path"]))
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(row[17]).items()}
    return StoredChunk(
        key=row[0],
        chunk=Chunk.model_construct(**values),
        tenant=row[12],
        version=row[13],
        licence=row[14],
        valid_from=date.fromisoformat(row[15]) if row[15] else None,
        valid_until=date.fromisoformat(row[16]) if row[16] else None,
        fields=fields,
    )


# ---------------------------------------------------------------- one transaction of a document


def _next_generation(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
    return int(row[0]) + 1 if row else 1


def _next_version(db: sqlite3.Connection, tenant: str, uri: str) -> int:
    row = db.execute("SELECT COALESCE(max(version), 0) + 1 FROM log WHERE tenant = ? AND uri = ?", (tenant, uri))
    return int(row.fetchone()[0])


def _log(
    db: sqlite3.Connection, generation: int, kind: str, what: tuple[str, str, str, int], groups: list[str]
) -> None:
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    found = db.execute(
        "INSERT INTO log (kind, tenant, uri, document, version, groups, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (kind, *what, json.dumps(groups), now),
    ).lastrowid
    assert found is not None
    assert found >= generation  # one transaction may log several lines; all belong to the last one's readers


def _live(db: sqlite3.Connection, tenant: str, uri: str) -> list[tuple[int, str, int]]:
    return db.execute(
        "SELECT number, id, version FROM documents WHERE tenant = ? AND uri = ? AND removed IS NULL", (tenant, uri)
    ).fetchall()


def _remove(
    db: sqlite3.Connection, rows: Sequence[tuple[int, str, int]], generation: int, kind: str, tenant: str, uri: str
) -> None:
    for number, identifier, version in rows:
        groups = [name for (name,) in db.execute("SELECT name FROM access WHERE document = ?", (number,))]
        db.execute("UPDATE documents SET removed = ? WHERE number = ?", (generation, number))
        _log(db, generation, kind, (tenant, uri, identifier, version), sorted(groups))


def _end_earlier(
    db: sqlite3.Connection, entry: Entry, row: dict[str, Any], generation: int, *, keeps_earlier: bool
) -> None:
    """Take earlier versions out, or end their validity."""
    uri = str(row["uri"])
    earlier = _live(db, entry.tenant, uri)
    gone = [e for e in earlier if not keeps_earlier or e[1] == row["id"]]
    _remove(db, gone, generation, "replace", entry.tenant, uri)
    if keeps_earlier and entry.valid_from is not None:
        day_before = as_day(entry.valid_from - timedelta(days=1))
        for number, _, _ in earlier:
            db.execute(
                "UPDATE documents SET valid_until = ? WHERE number = ? AND removed IS NULL "
                "AND COALESCE(valid_until > ?, 1) AND COALESCE(valid_from <= ?, 1)",
                (day_before, number, day_before, day_before),
            )


def _insert_fields(db: sqlite3.Connection, entry: Entry, number: int) -> None:
    known = dict(db.execute("SELECT name, type FROM field_types WHERE tenant = ?", (entry.tenant,)).fetchall())
    for name, value in entry.fields.items():
        kind = field_type(name, value)
        if known.setdefault(name, kind) != kind:
            raise DatasetError(
                f"the field {name!r} holds {known[name]} in other documents",
                where=entry.document.source.uri,
                found=repr(value)[:80],
                fix="Give it another name, or the same type everywhere.",
            )
        db.execute("INSERT OR IGNORE INTO field_types VALUES (?, ?, ?)", (entry.tenant, name, kind))
        if kind == "texts":
            rows = [(name, text, None, number) for text in dict.fromkeys(cast(tuple[str, ...], value))]
        elif kind == "text":
            rows = [(name, cast(str, value), None, number)]
        else:
            rows = [(name, None, value, number)]  # type: ignore[list-item]
        db.executemany("INSERT INTO facets VALUES (?, ?, ?, ?)", rows)


def _insert_chunk(db: sqlite3.Connection, chunk: Chunk, number: int) -> int:
    key = db.execute(
        'INSERT INTO chunks (id, document, start, "end", page, heading_path, tokens, kind, title, text) '
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            chunk.id,
            number,
            chunk.start,
            chunk.end,
            chunk.page,
            json.dumps(chunk.heading_path, ensure_ascii=False),
            chunk.tokens,
            chunk.kind,
            chunk.title,
            chunk.text,
        ),
    ).lastrowid
    assert key is not None
    return key


# ---------------------------------------------------------------- models and vectors


def _model_for(db: sqlite3.Connection, entry: Entry) -> Model | None:
    if entry.vectors is None:
        return None
    model = _register(db, entry.model, entry.vectors)
    active = db.execute("SELECT value FROM state WHERE key = 'model'").fetchone()
    if active is None:
        db.execute("INSERT INTO state VALUES ('model', ?)", (str(model.number),))
    elif int(active[0]) != model.number:
        used = db.execute("SELECT fingerprint FROM models WHERE number = ?", (int(active[0]),)).fetchone()[0]
        raise other_model(used, entry.model, entry.document.source.uri)
    return model


def other_model(used: str, found: str, where: object) -> ModelError:
    """Return the error that says that two models do not mix."""
    return ModelError(
        f"the vectors are of another embedding model than the store's {used}",
        where=where,
        found=found,
        fix="Embed with the store's model, or add the vectors of all chunks for the other one and activate it.",
    )


def _register(db: sqlite3.Connection, fingerprint: str, vectors: NDArray[np.float32]) -> Model:
    if not fingerprint:
        raise ModelError("vectors need the fingerprint of the model that made them", fix="Give model=...")
    if vectors.ndim != 2 or vectors.shape[1] < 1:
        raise ModelError("vectors must be one row a chunk", found=f"shape {vectors.shape}")
    row = db.execute("SELECT number, dimensions FROM models WHERE fingerprint = ?", (fingerprint,)).fetchone()
    if row is None:
        made = db.execute(
            "INSERT INTO models (fingerprint, dimensions) VALUES (?, ?)", (fingerprint, vectors.shape[1])
        ).lastrowid
        assert made is not None
        return Model(made, fingerprint, vectors.shape[1])
    if row[1] != vectors.shape[1]:
        raise ModelError(f"vectors of {fingerprint} have {row[1]} numbers", found=f"{vectors.shape[1]} numbers")
    return Model(row[0], fingerprint, row[1])


def _insert_vectors(
    db: sqlite3.Connection, model: Model, keys: Sequence[int], vectors: NDArray[np.float32], generation: int
) -> None:
    if len(keys) != len(vectors):
        raise DatasetError("the vectors do not fit the chunks", found=f"{len(vectors)} for {len(keys)} chunks")
    unit = as_unit(vectors).astype(np.float16)
    rows = [(model.number, key, generation, unit[n].tobytes()) for n, key in enumerate(keys)]
    db.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?, ?)", rows)


def as_unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors of length 1; one without direction or with a number that is none is refused."""
    values = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(values.astype(np.float64), axis=-1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise ModelError(
            "a vector is zero or holds what is no number", fix="Look at the text it was made from and at the model."
        )
    unit: NDArray[np.float32] = (values / lengths).astype(np.float32)
    return unit


# ---------------------------------------------------------------- checks


def field_type(name: str, value: FieldValue) -> FieldType:
    """Return the type a value gives its field; raises DatasetError for what cannot be one."""
    if not isinstance(name, str) or not name.strip() or len(name) > 200:
        raise DatasetError("a field needs a name of 1 to 200 characters", found=repr(name)[:80])
    if name in BUILT_IN:
        raise DatasetError(f"every document has its own {name!r}", fix="Give the field another name.")
    storable(name, "the name of a field")
    if isinstance(value, bool):
        return "truth"
    if is_number(value):
        return "number"
    if isinstance(value, str):
        storable(value, f"the field {name!r}")
        return "text"
    if isinstance(value, tuple | list) and all(isinstance(v, str) and storable(v, name) for v in value):
        return "texts"
    raise DatasetError(
        f"the field {name!r} must be a text, a list of texts, a number or true or false", found=repr(value)[:80]
    )


def _checked(entry: Entry) -> dict[str, Any]:
    """The row of a document; raises DatasetError for an entry that cannot be stored."""
    document, uri = entry.document, entry.document.source.uri
    groups = as_groups(entry.groups)
    if not groups:
        raise DatasetError(
            "the document names no access group, so nobody could find it",
            where=uri,
            fix="Name its groups, or 'everyone' if all readers of the tenant carry that group.",
        )
    if not entry.tenant or not uri:
        raise DatasetError("a document needs a tenant and a uri", where=uri, found=repr(entry.tenant)[:80])
    if entry.valid_from and entry.valid_until and entry.valid_until < entry.valid_from:
        raise DatasetError(
            "the document ends before it is valid", where=uri, found=f"{entry.valid_from} to {entry.valid_until}"
        )
    if len(entry.fields) > _MAX_FIELDS:
        raise DatasetError(f"more than {_MAX_FIELDS} fields", where=uri, found=len(entry.fields))
    for name, value in entry.fields.items():
        field_type(name, value)
    if len({c.id for c in entry.chunks}) != len(entry.chunks):
        raise DatasetError("two chunks of the document have the same id", where=uri)
    for text in (*groups, entry.tenant, uri, document.id, document.title, document.language, document.source.licence):
        storable(text or "", uri)
    storable(document.text.replace("\0", " "), uri)
    for chunk in entry.chunks:
        if chunk.document_id != document.id or document.text[chunk.start : chunk.end] != chunk.text:
            raise DatasetError(
                "the chunk is no part of the document", where=uri, found=chunk.id, fix="Cut the document again."
            )
        storable("\n".join((chunk.id, chunk.title, *chunk.heading_path)), uri)
    structure = document.model_dump(mode="json", exclude={"text"})
    row: dict[str, Any] = {
        "id": document.id,
        "tenant": entry.tenant,
        "uri": uri,
        "title": document.title,
        "language": document.language,
        "licence": document.source.licence,
        "valid_from": as_day(entry.valid_from),
        "valid_until": as_day(entry.valid_until),
        "fields": canonical_json(dict(entry.fields)),
        "structure": canonical_json(structure),
        "text": document.text,
    }
    chunks = [chunk.model_dump(mode="json") for chunk in entry.chunks]
    row["content"] = sha256_text(canonical_json([row, sorted(groups), chunks]))
    return row
