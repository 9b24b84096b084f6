"""The retrieval index of a run: vectors of all chunks, and which model made them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fieldwise.errors import DatasetError, ModelError
from fieldwise.files import read_json, write_json
from fieldwise.hashing import content_id
from fieldwise.records import Chunk
from fieldwise.retrieve.embed import open_embedder
from fieldwise.retrieve.lexical import LexicalIndex
from fieldwise.retrieve.rerank import open_reranker
from fieldwise.retrieve.search import HybridRetriever
from fieldwise.retrieve.settings import RetrieveSettings

NAME = "index.json"
VECTORS = "vectors.npy"


def build(chunks: Sequence[Chunk], folder: Path, settings: RetrieveSettings) -> dict[str, object]:
    """Embed the chunks and write the index into `folder`; returns its description."""
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint = "none"
    if settings.embedding != "none":
        embedder = open_embedder(settings)
        fingerprint = embedder.fingerprint
        np.save(folder / VECTORS, embedder.encode([passage_text(c) for c in chunks]))
    description: dict[str, object] = {
        "embedding": fingerprint,
        "chunks": len(chunks),
        "content": content_id("idx", [c.id for c in chunks]),
    }
    write_json(folder / NAME, description)
    return description


def open_index(chunks: Sequence[Chunk], folder: Path, settings: RetrieveSettings) -> HybridRetriever:
    """Open an index over the chunks it was built from.

    Raises DatasetError if the chunks are others, ModelError if the vectors are of another embedding model.
    """
    description = read_json(folder / NAME)
    if description.get("content") != content_id("idx", [c.id for c in chunks]):
        raise DatasetError(
            "the index belongs to other chunks",
            where=folder,
            fix="Run the prepare stage again: fieldwise run --stage 2",
        )
    lexical = LexicalIndex(chunks, settings.stemmer)
    if settings.embedding == "none":
        return HybridRetriever(chunks, lexical, None, None, settings, open_reranker(settings, None))
    embedder = open_embedder(settings)
    if description.get("embedding") != embedder.fingerprint:
        raise ModelError(
            "the vectors are of another embedding model",
            where=folder,
            found=description.get("embedding"),
            fix="Run the prepare stage again: fieldwise run --stage 2 --force",
        )
    vectors = np.load(folder / VECTORS, allow_pickle=False)
    if vectors.shape != (len(chunks), embedder.dimensions):
        raise DatasetError(
            "the vectors do not fit the chunks",
            where=folder / VECTORS,
            found=f"shape {vectors.shape}",
            fix="Run the prepare stage again: fieldwise run --stage 2 --force",
        )
    return HybridRetriever(chunks, lexical, embedder, vectors, settings, open_reranker(settings, embedder))


def passage_text(chunk: Chunk) -> str:
    """Return a chunk as the model and the embedding see it: its title above its text, unless it begins with it."""
    title = chunk.title.strip()
    return chunk.text if not title or chunk.text.lstrip("# ").startswith(title) else f"{title}\n{chunk.text}"
