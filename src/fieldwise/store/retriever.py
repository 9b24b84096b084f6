"""Passages out of a store for one identity: both legs, fused, as `interfaces.Retriever` gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldwise.records import RetrievedPassage
from fieldwise.retrieve.search import fuse
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.store.filters import Filter
from fieldwise.store.protocol import Candidates, ChunkStore, Identity, QueryVector, Scope

Fusion = Literal["convex", "reciprocal_ranks"]
_RANK_CONSTANT = 60
_ATTEMPTS = 3


class Embedder(Protocol):
    """Turns texts into vectors; `fingerprint` names model and code."""

    @property
    def fingerprint(self) -> str:
        """Vectors of another fingerprint do not mix with these."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector a text."""
        ...


def today() -> date:
    """Return the day it is in coordinated universal time."""
    return datetime.now(UTC).date()


class StoreRetriever:
    """Searches a store as one identity; implements `interfaces.Retriever`.

    Only what is valid on the day that `as_of` gives is found; None searches what was valid on any day.
    """

    def __init__(
        self,
        store: ChunkStore,
        embedder: Embedder | None,
        identity: Identity,
        settings: RetrieveSettings,
        *,
        fusion: Fusion = "convex",
        filter: Filter | None = None,
        as_of: Callable[[], date] | None = today,
    ) -> None:
        self.store, self.embedder, self.identity, self.settings = store, embedder, identity, settings
        self.fusion, self.filter, self.as_of = fusion, filter, as_of

    def acting_for(self, identity: Identity, filter: Filter | None = None) -> StoreRetriever:
        """Return a retriever over the same store for someone else."""
        return StoreRetriever(
            self.store, self.embedder, identity, self.settings, fusion=self.fusion, filter=filter, as_of=self.as_of
        )

    def search(self, query: str, top_k: int | None = None) -> list[RetrievedPassage]:
        """Return the best passages, best first; an empty query finds nothing."""
        count = top_k or self.settings.top_k
        if not query.strip():
            return []
        vector = None
        if self.embedder is not None and self.identity.groups:
            vector = QueryVector(self.embedder.fingerprint, self.embedder.encode([query.strip()])[0])
        scope = Scope(self.identity, self.filter, self.as_of() if self.as_of else None)
        passages: list[RetrievedPassage] = []
        for _ in range(_ATTEMPTS):
            found = self.store.candidates(query, vector, scope, self.settings.candidates)
            best = sorted(self._fused(found).items(), key=lambda item: (-item[1], item[0]))[:count]
            chunks = {c.key: c.chunk for c in self.store.fetch([key for key, _ in best], self.identity)}
            passages = [
                RetrievedPassage(
                    chunk=chunks[key], score=score, lexical=found.lexical.get(key), dense=found.dense.get(key)
                )
                for key, score in best
                if key in chunks
            ]
            if len(passages) == len(best):  # else something went in this very moment: another search fills its place
                break
        return passages

    def _fused(self, found: Candidates) -> dict[int, float]:
        if self.fusion == "reciprocal_ranks":
            return reciprocal_ranks(found.lexical, found.dense)
        return fuse(found.lexical, found.dense, self.settings.dense_weight)


def reciprocal_ranks(lexical: dict[int, float], dense: dict[int, float]) -> dict[int, float]:
    """Return the sum of 1 / (60 + rank) over both legs (Cormack et al., SIGIR 2009).

    >>> fused = reciprocal_ranks({1: 9.0, 2: 3.0}, {2: 0.9})
    >>> round(fused[2], 4), round(fused[1], 4)
    (0.0325, 0.0164)
    """
    fused: dict[int, float] = {}
    for leg in (lexical, dense):
        for rank, (key, _) in enumerate(sorted(leg.items(), key=lambda item: (-item[1], item[0])), 1):
            fused[key] = fused.get(key, 0.0) + 1 / (_RANK_CONSTANT + rank)
    return fused
