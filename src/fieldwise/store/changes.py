"""Changes of the catalogue, each within a transaction that its caller has begun."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, ModelError
from fieldwise.records import Chunk
from fieldwise.store.entries import as_unit, other_model, with_types_of
from fieldwise.store.filters import as_day
from fieldwise.store.protocol import Entry
from fieldwise.store.snapshot import Model


def next_generation(db: sqlite3.Connection) -> int:
    """Return the number the change under way will have."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
    return int(row[0]) + 1 if row else 1


def next_version(db: sqlite3.Connection, tenant: str, uri: str) -> int:
    """Return the version a document of this address would be."""
    row = db.execute("SELECT COALESCE(max(version), 0) + 1 FROM log WHERE tenant = ? AND uri = ?", (tenant, uri))
    return int(row.fetchone()[0])


def log(db: sqlite3.Connection, generation: int, kind: str, what: tuple[str, str, str, int], groups: list[str]) -> None:
    """Write what happened to the log of generations."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    found = db.execute(
        "INSERT INTO log (kind, tenant, uri, document, version, groups, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (kind, *what, json.dumps(groups), now),
    ).lastrowid
    assert found is not None
    assert found >= generation  # one transaction may log several lines; all belong to the last one's readers


def live(db: sqlite3.Connection, tenant: str, uri: str) -> list[tuple[int, str, int]]:
    """Return (number, id, version) of what is there of a document."""
    return db.execute(
        "SELECT number, id, version FROM documents WHERE tenant = ? AND uri = ? AND removed IS NULL", (tenant, uri)
    ).fetchall()


def remove(
    db: sqlite3.Connection, rows: Sequence[tuple[int, str, int]], generation: int, kind: str, tenant: str, uri: str
) -> None:
    """Mark rows as gone from a generation on."""
    for number, identifier, version in rows:
        groups = [name for (name,) in db.execute("SELECT name FROM access WHERE document = ?", (number,))]
        db.execute("UPDATE documents SET removed = ? WHERE number = ?", (generation, number))
        log(db, generation, kind, (tenant, uri, identifier, version), sorted(groups))


def end_earlier(
    db: sqlite3.Connection, entry: Entry, row: dict[str, Any], generation: int, *, keeps_earlier: bool
) -> None:
    """Take earlier versions out, or end their validity."""
    uri = str(row["uri"])
    earlier = live(db, entry.tenant, uri)
    gone = [e for e in earlier if not keeps_earlier or e[1] == row["id"]]
    remove(db, gone, generation, "replace", entry.tenant, uri)
    if keeps_earlier and entry.valid_from is not None:
        day_before = as_day(entry.valid_from - timedelta(days=1))
        for number, _, _ in earlier:
            db.execute(
                "UPDATE documents SET valid_until = ? WHERE number = ? AND removed IS NULL "
                "AND COALESCE(valid_until > ?, 1) AND COALESCE(valid_from <= ?, 1)",
                (day_before, number, day_before, day_before),
            )


def insert_fields(db: sqlite3.Connection, entry: Entry, number: int) -> None:
    """Store the fields of an entry; raises DatasetError for one that has another type elsewhere."""
    known = dict(db.execute("SELECT name, type FROM field_types WHERE tenant = ?", (entry.tenant,)).fetchall())
    types = with_types_of(entry, known)
    for name, value in entry.fields.items():
        kind = types[name]
        db.execute("INSERT OR IGNORE INTO field_types VALUES (?, ?, ?)", (entry.tenant, name, kind))
        if kind == "texts":
            rows = [(name, text, None, number) for text in dict.fromkeys(cast(tuple[str, ...], value))]
        elif kind == "text":
            rows = [(name, cast(str, value), None, number)]
        else:
            rows = [(name, None, value, number)]  # type: ignore[list-item]
        db.executemany("INSERT INTO facets VALUES (?, ?, ?, ?)", rows)


def insert_chunk(db: sqlite3.Connection, chunk: Chunk, number: int) -> int:
    """Store a chunk; returns its key."""
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


def model_for(db: sqlite3.Connection, entry: Entry) -> Model | None:
    """Return the model of an entry with vectors; raises ModelError if the store uses another."""
    if entry.vectors is None:
        return None
    model = register(db, entry.model, entry.vectors)
    active = db.execute("SELECT value FROM state WHERE key = 'model'").fetchone()
    if active is None:
        db.execute("INSERT INTO state VALUES ('model', ?)", (str(model.number),))
    elif int(active[0]) != model.number:
        used = db.execute("SELECT fingerprint FROM models WHERE number = ?", (int(active[0]),)).fetchone()[0]
        raise other_model(used, entry.model, entry.document.source.uri)
    return model


def register(db: sqlite3.Connection, fingerprint: str, vectors: NDArray[np.float32]) -> Model:
    """Return a model by its fingerprint, made known if it is new."""
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


def insert_vectors(
    db: sqlite3.Connection, model: Model, keys: Sequence[int], vectors: NDArray[np.float32], generation: int
) -> None:
    """Store vectors, two bytes a number; those that are there stay."""
    if len(keys) != len(vectors):
        raise DatasetError("the vectors do not fit the chunks", found=f"{len(vectors)} for {len(keys)} chunks")
    unit = as_unit(vectors).astype(np.float16)
    rows = [(model.number, key, generation, unit[n].tobytes()) for n, key in enumerate(keys)]
    db.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?, ?)", rows)
