"""A search over passages that came with judged questions; their vectors are kept in blocks, so that a second time is quick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError
from fieldwise.files import atomic
from fieldwise.hashing import content_id
from fieldwise.progress import track
from fieldwise.records import Chunk
from fieldwise.retrieve.embed import MiniLmEmbedder, open_embedder
from fieldwise.retrieve.index import passage_text
from fieldwise.retrieve.lexical import LexicalIndex
from fieldwise.retrieve.rerank import open_reranker
from fieldwise.retrieve.search import HybridRetriever
from fieldwise.retrieve.settings import RetrieveSettings

_BLOCK = 500


def open_corpus(chunks: Sequence[Chunk], settings: RetrieveSettings, cache: Path) -> HybridRetriever:
    """Return the search of a recipe's `retrieve` over these passages; vectors are read from and left in `cache`."""
    lexical = LexicalIndex(chunks, settings.stemmer)
    if settings.embedding == "none":
        return HybridRetriever(chunks, lexical, None, None, settings, open_reranker(settings, None))
    embedder = open_embedder(settings)
    vectors = embed_blocks([passage_text(c) for c in chunks], embedder, cache)
    return HybridRetriever(chunks, lexical, embedder, vectors, settings, open_reranker(settings, embedder))


def embed_blocks(texts: Sequence[str], embedder: MiniLmEmbedder, cache: Path) -> NDArray[np.float32]:
    """Embed texts in blocks, each kept under the hash of model and texts: what was embedded before is only read."""
    cache.mkdir(parents=True, exist_ok=True)
    blocks = [texts[begin : begin + _BLOCK] for begin in range(0, len(texts), _BLOCK)]
    made = [_block(block, embedder, cache) for block in track(blocks, f"embedding, blocks of {_BLOCK}")]
    return np.concatenate(made) if made else np.zeros((0, embedder.dimensions), np.float32)


def _block(texts: Sequence[str], embedder: MiniLmEmbedder, cache: Path) -> NDArray[np.float32]:
    path = cache / f"{content_id('vec', embedder.fingerprint, list(texts))}.npy"
    if path.is_file():
        try:
            found: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DatasetError(
                "not readable vectors", where=path, found=str(error)[:80], fix="Delete the file; they are made anew."
            ) from error
        if found.shape == (len(texts), embedder.dimensions):
            return found
    vectors = embedder.encode(texts)
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, vectors)
    return vectors
