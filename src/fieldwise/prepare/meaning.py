"""The optional second look for near-duplicates: documents that say the same in other words, by the embedding model.

A document is the mean of the unit vectors of its chunks, made a unit vector again: what most of its chunks say counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fieldwise.prepare.duplicates import NearPair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fieldwise.retrieve.embed import MiniLmEmbedder


class MeaningFinder:
    """Compares each document with those before it, by the cosine of their vectors."""

    def __init__(self, threshold: float, embedder: MiniLmEmbedder | None = None) -> None:
        if embedder is None:
            from fieldwise.retrieve.embed import MiniLmEmbedder

            embedder = MiniLmEmbedder()
        self._threshold, self._embedder = threshold, embedder
        self._ids: list[str] = []
        self._vectors: NDArray[np.float32] = np.zeros((64, embedder.dimensions), np.float32)

    def add(self, identifier: str, texts: Sequence[str]) -> list[NearPair]:
        """Add a document by the texts of its chunks; return the earlier ones that reach the threshold, nearest first."""
        mean = self._embedder.encode(texts).mean(axis=0)
        length = float(np.linalg.norm(mean))
        vector = mean / length if length > 0 else mean
        count = len(self._ids)
        cosines = self._vectors[:count] @ vector
        near = [int(n) for n in np.argsort(-cosines, kind="stable") if cosines[n] >= self._threshold]
        if count == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        self._vectors[count] = vector
        self._ids.append(identifier)
        return [NearPair(self._ids[n], identifier, min(1.0, float(cosines[n]))) for n in near]
