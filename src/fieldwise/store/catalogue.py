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
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, ModelError, RunError
from fieldwise.files import disk_is_full
from fieldwise.store import changes
from fieldwise.store.entries import checked_row
from fieldwise.store.protocol import Entry, as_groups
from fieldwise.store.snapshot import Model, Snapshot

FILE = "catalogue.sqlite"
SCHEMA = 1
_BUSY_SECONDS = 30

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
        row = checked_row(entry)
        with self.writing() as db:
            same = db.execute(
                "SELECT number FROM documents WHERE tenant = ? AND uri = ? AND content = ? AND removed IS NULL",
                (entry.tenant, row["uri"], row["content"]),
            ).fetchone()
            model = changes.model_for(db, entry)
            if same is not None:
                return model is not None and self._add_vectors_of(db, entry, same[0], model)
            generation = changes.next_generation(db)
            version = changes.next_version(db, entry.tenant, row["uri"])
            changes.end_earlier(db, entry, row, generation, keeps_earlier=keeps_earlier)
            columns = {**row, "version": version, "added": generation}
            names = ", ".join(columns)
            number = db.execute(
                f"INSERT INTO documents ({names}) VALUES ({', '.join('?' * len(columns))})", tuple(columns.values())
            ).lastrowid
            assert number is not None
            groups = sorted(as_groups(entry.groups))
            db.executemany("INSERT INTO access VALUES (?, ?)", [(name, number) for name in groups])
            changes.insert_fields(db, entry, number)
            keys = [changes.insert_chunk(db, chunk, number) for chunk in entry.chunks]
            if model is not None and entry.vectors is not None:
                changes.insert_vectors(db, model, keys, entry.vectors, generation)
            changes.log(db, generation, "put", (entry.tenant, row["uri"], row["id"], version), groups)
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
        generation = changes.next_generation(db)
        assert entry.vectors is not None
        changes.insert_vectors(db, model, keys, entry.vectors, generation)
        changes.log(db, generation, "embed", (entry.tenant, entry.document.source.uri, entry.document.id, 0), [])
        return True

    def delete(self, uri: str, tenant: str) -> bool:
        """Mark every version of a document as gone, in one transaction."""
        with self.writing() as db:
            rows = changes.live(db, tenant, uri)
            if not rows:
                return False
            generation = changes.next_generation(db)
            changes.remove(db, rows, generation, "delete", tenant, uri)
        return True

    def add_vectors(self, model: str, keys: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Store vectors of a model for chunks, in one transaction; those that are there stay, those of gone chunks are left out."""
        with self.writing() as db:
            known = changes.register(db, model, vectors)
            generation = changes.next_generation(db)
            there = {
                k
                for (k,) in db.execute(
                    "SELECT number FROM chunks WHERE number IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(keys)),),
                )
            }
            kept = [n for n, key in enumerate(keys) if key in there]
            changes.insert_vectors(db, known, [keys[n] for n in kept], vectors[kept], generation)
            changes.log(db, generation, "embed", ("", "", "", 0), [])

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
            generation = changes.next_generation(db)
            db.execute("INSERT OR REPLACE INTO state VALUES ('model', ?)", (str(row[0]),))
            changes.log(db, generation, "model", ("", "", "", 0), [])

    def prune(self, published: int) -> int:
        """Drop what went at or before a generation that every new search is past; returns how many documents."""
        with self.writing() as db:
            count = db.execute("DELETE FROM documents WHERE removed <= ?", (published,)).rowcount
            if count:
                db.execute("UPDATE state SET value = ? WHERE key = 'pruned'", (str(published),))
        return count
