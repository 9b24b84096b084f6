"""Rows of a store of points: what is written of a document and its chunks, and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, ModelError
from fieldwise.records import Chunk, Document
from fieldwise.store.database import Row
from fieldwise.store.entries import as_unit, other_model
from fieldwise.store.protocol import Entry, Identity, StoredChunk, StoredDocument, as_groups
from fieldwise.store.words import field_of

STILL = 2**53
"""`removed` of what is still there."""
BLANK = {"text": "", "structure": "", "title": "", "fields": "{}"}
"""What is left of the words of a document that went."""
_SHARED = ("tenant", "uri", "title", "language", "licence", "version", "groups", "added", "removed")


def document_payload(
    entry: Entry, row: Mapping[str, Any], number: int, version: int, generation: int
) -> dict[str, Any]:
    """Return the row of a document as it stands from a generation on."""
    return {
        **row,
        "version": version,
        "groups": sorted(as_groups(entry.groups)),
        "number": number,
        "chunks": len(entry.chunks),
        "characters": len(row["text"]),
        "added": generation,
        "removed": STILL,
        "kind": "",
    }


def chunk_rows(
    entry: Entry,
    document: Mapping[str, Any],
    fields: dict[str, Any],
    keys: Sequence[int],
    vectors: NDArray[np.float32] | None,
    language: str,
) -> list[Row]:
    """Return the rows of a document's chunks; `fields` are its own as the database keeps them."""
    shared = {name: document[name] for name in _SHARED} | fields
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


def checked_vectors(entry: Entry, model: str, dimensions: int) -> NDArray[np.float32] | None:
    """Return the vectors of an entry with length 1, None without; raises ModelError for those of another model."""
    if entry.vectors is None:
        return None
    if not entry.model:
        raise ModelError("vectors need the fingerprint of the model that made them", fix="Give model=...")
    if model and model != entry.model:
        raise other_model(model, entry.model, entry.document.source.uri)
    vectors = np.asarray(entry.vectors)
    if vectors.ndim != 2 or vectors.shape[1] != dimensions:
        raise ModelError(f"vectors of this store have {dimensions} numbers", found=f"shape {vectors.shape}")
    if len(vectors) != len(entry.chunks):
        raise DatasetError("the vectors do not fit the chunks", found=f"{len(vectors)} for {len(entry.chunks)} chunks")
    return as_unit(vectors)


def ending(documents: list[dict[str, Any]], begins: date | None) -> list[list[Any]]:
    """Return numbers of earlier versions with the last day they are valid, the one before a new version begins."""
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


def original_of(payload: dict[str, Any]) -> Document:
    """Return the document of a row with its text and structure."""
    return Document.model_validate({**json.loads(payload["structure"]), "text": payload["text"]})


def _fields(payload: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(payload["fields"]).items()}


def _date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def stored_chunk(number: int, payload: dict[str, Any]) -> StoredChunk:
    """Return the chunk of a row."""
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


def stored_document(payload: dict[str, Any], identity: Identity) -> StoredDocument:
    """Return what is known of the document of a row, with the groups that who asks shares."""
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
