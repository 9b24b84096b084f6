"""The documents of a run, put into a store with the vectors the run has made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fieldwise.errors import DatasetError
from fieldwise.files import read_json
from fieldwise.hashing import content_id
from fieldwise.records import Chunk, Document
from fieldwise.retrieve.index import NAME, VECTORS
from fieldwise.store.local import LocalStore
from fieldwise.store.protocol import DEFAULT_TENANT, EVERYONE, Entry
from fieldwise.tables import read_records

_AGAIN = "Run the prepare stage again: fieldwise run --stage 2"


class Imported(NamedTuple):
    """What an import did."""

    documents: int
    chunks: int
    changed: int
    removed: int


def import_run(
    store: LocalStore,
    run: Path,
    *,
    groups: Collection[str] = (EVERYONE,),
    tenant: str = DEFAULT_TENANT,
    is_mirror: bool = False,
) -> Imported:
    """Put the documents of a run folder into a store; what is there already, word for word, stays as it is.

    With `is_mirror` documents of the tenant that the run does not have are deleted. Raises DatasetError if the run's
    index belongs to other chunks, ModelError if its vectors are of another model than the store's.
    """
    folder = run / "2_chunks"
    chunks = list(read_records(folder / "chunks.parquet", Chunk))
    vectors, model = _vectors(folder / "index", chunks)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, chunk in enumerate(chunks):
        rows[chunk.document_id].append(row)
    seen: set[str] = set()
    changed = 0
    with store.batch():
        for document in read_records(folder / "documents.parquet", Document):
            if document.source.uri in seen:
                raise DatasetError(
                    "two documents of the run have the same address",
                    where=folder / "documents.parquet",
                    found=document.source.uri,
                    fix="Rename one of the sources.",
                )
            seen.add(document.source.uri)
            own = rows.pop(document.id, [])
            changed += store.put_if_new(
                Entry(
                    document,
                    [chunks[row] for row in own],
                    groups,
                    tenant,
                    vectors=vectors[own] if vectors is not None and own else None,
                    model=model,
                )
            )
        if rows:
            raise DatasetError(
                "chunks of documents that are not there", where=folder, found=next(iter(rows)), fix=_AGAIN
            )
        gone = sorted(set(store.uris(tenant)) - seen) if is_mirror else []
        store.delete_all(gone, tenant)
    return Imported(len(seen), len(chunks), changed, len(gone))


def _vectors(folder: Path, chunks: list[Chunk]) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None, str]:
    description = read_json(folder / NAME)
    if description.get("content") != content_id("idx", [c.id for c in chunks]):
        raise DatasetError("the index belongs to other chunks", where=folder, fix=_AGAIN)
    model = str(description.get("embedding"))
    if model == "none":
        return None, ""
    vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    if vectors.ndim != 2 or len(vectors) != len(chunks):
        raise DatasetError(
            "the vectors do not fit the chunks", where=folder / VECTORS, found=f"shape {vectors.shape}", fix=_AGAIN
        )
    return vectors, model
