"""A database of points on Qdrant, for `points.PointStore`.

BM25 is kept as sparse vectors: frequencies and lengths are weighed here, rarity by Qdrant (its IDF modifier). A range
over texts is refused, since Qdrant orders numbers and days only.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.extras import require
from fieldwise.retrieve.lexical import HEADER_WEIGHT
from fieldwise.store.database import Kind, Row
from fieldwise.store.points import PointStore
from fieldwise.store.qdrant_filters import QdrantConditions
from fieldwise.store.words import weights_of

_STATE_POINT = 0
_BATCH = 256
_DENSE, _WORDS = "dense", "words"
_KEYWORDS, _NUMBERS = ("tenant", "groups", "uri", "id"), ("added", "removed", "document")


class QdrantStore(PointStore):
    """A store below a name on a Qdrant server; `client` is a `qdrant_client.QdrantClient`."""

    def __init__(
        self, client: Any, name: str, *, dimensions: int = 384, language: str = "english", writes: bool = True
    ) -> None:
        super().__init__(QdrantPoints(client, name), dimensions=dimensions, language=language, writes=writes)


class QdrantPoints:
    """Three collections below a name; implements `database.Points`."""

    def __init__(self, client: Any, name: str) -> None:
        self._models = require("qdrant_client.models", extra="qdrant", to="keep a store on Qdrant")
        self.client, self.conditions = client, QdrantConditions(self._models)
        self._names: dict[str, str] = {part: f"{name}-{part}" for part in ("chunks", "documents", "state")}

    def state(self) -> dict[str, Any] | None:
        """Return the state; None where there is no store."""
        if not self.client.collection_exists(self._names["state"]):
            return None
        found = self.client.retrieve(self._names["state"], [_STATE_POINT], with_payload=True)
        return json.loads(found[0].payload["state"]) if found else None

    def create(self, dimensions: int) -> None:
        """Make the collections, and what they lack where this was begun before."""
        m = self._models
        words = {
            "vectors_config": {_DENSE: m.VectorParams(size=dimensions, distance=m.Distance.COSINE)},
            "sparse_vectors_config": {_WORDS: m.SparseVectorParams(modifier=m.Modifier.IDF)},
        }
        for part, name in self._names.items():
            if not self.client.collection_exists(name):
                self.client.create_collection(name, **(words if part == "chunks" else {"vectors_config": {}}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without a server there are no indexes of payloads, and it says so
            for part in ("chunks", "documents"):
                for field in (*_KEYWORDS, *_NUMBERS):
                    kind = m.PayloadSchemaType.KEYWORD if field in _KEYWORDS else m.PayloadSchemaType.INTEGER
                    self.client.create_payload_index(self._names[part], field, kind)

    def write_state(self, state: dict[str, Any]) -> None:
        """Write the state: one point."""
        point = self._models.PointStruct(id=_STATE_POINT, vector={}, payload={"state": json.dumps(state)})
        self.client.upsert(self._names["state"], [point], wait=True)

    def add(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows as points."""
        points = [self._models.PointStruct(id=r.number, vector=self._vectors_of(r), payload=r.payload) for r in rows]
        for begin in range(0, len(points), _BATCH):
            self.client.upsert(self._names[kind], points[begin : begin + _BATCH], wait=True)

    def _vectors_of(self, row: Row) -> dict[str, Any]:
        if not row.language:
            return {}
        indices, values = _sparse(row.language, weights_of(row.language, row.body, row.header, HEADER_WEIGHT))
        words = {_WORDS: self._models.SparseVector(indices=indices, values=values)}
        return words if row.vector is None else {**words, _DENSE: row.vector.tolist()}

    def change(self, kind: Kind, payload: Mapping[str, Any], where: Any) -> None:
        """Set parts of the payload of points."""
        self.client.set_payload(self._names[kind], dict(payload), points=where, wait=True)

    def remove(self, kind: Kind, where: Any) -> None:
        """Delete points."""
        self.client.delete(self._names[kind], self._models.FilterSelector(filter=where), wait=True)

    def scroll(self, kind: Kind, where: Any, most: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield ids and payloads in the order of ids."""
        offset, seen = None, 0
        while most is None or seen < most:
            limit = _BATCH if most is None else min(_BATCH, most - seen)
            points, offset = self.client.scroll(self._names[kind], where, limit=limit, offset=offset, with_payload=True)
            for point in points:
                yield int(point.id), dict(point.payload)
            seen += len(points)
            if offset is None:
                return

    def count(self, kind: Kind, where: Any, *, embedded: bool = False) -> int:
        """Return how many points there are."""
        if embedded:
            where = self._models.Filter(must=[where, self._models.HasVectorCondition(has_vector=_DENSE)])
        return int(self.client.count(self._names[kind], count_filter=where, exact=True).count)

    def by_words(self, terms: Mapping[str, Sequence[str]], where: Any, count: int) -> dict[int, float]:
        """Return the best chunks by the product of sparse vectors."""
        found = {index for name, words in terms.items() for index in _sparse(name, dict.fromkeys(words, 1.0))[0]}
        asked = self._models.SparseVector(indices=sorted(found), values=[1.0] * len(found))
        points = self._nearest(asked, _WORDS, where, count)
        return {int(p.id): float(p.score) for p in points if p.score > 0}

    def by_vector(self, unit: NDArray[np.float32], where: Any, count: int) -> dict[int, float]:
        """Return the nearest chunks."""
        return {int(p.id): float(p.score) for p in self._nearest(unit.tolist(), _DENSE, where, count)}

    def _nearest(self, asked: Any, using: str, where: Any, count: int) -> list[Any]:
        found = self.client.query_points(
            self._names["chunks"], query=asked, using=using, query_filter=where, limit=count, with_payload=False
        )
        return list(found.points)

    def vectors(self, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return vectors of chunks."""
        found = self.client.retrieve(self._names["chunks"], list(numbers), with_payload=False, with_vectors=[_DENSE])
        vectors = {int(p.id): (p.vector or {}).get(_DENSE) for p in found}
        return {number: np.array(v, np.float32) for number, v in vectors.items() if v is not None}

    def close(self) -> None:
        """Release the client."""
        self.client.close()


def open_local(folder: Path | None, name: str = "fieldwise", **more: Any) -> QdrantStore:
    """Open a store by Qdrant's client alone, in a folder or in memory: for tests, not for service."""
    module = require("qdrant_client", extra="qdrant", to="keep a store on Qdrant")
    client = module.QdrantClient(":memory:") if folder is None else module.QdrantClient(path=str(folder))
    return QdrantStore(client, name, **more)


def _sparse(name: str, words: Mapping[str, float]) -> tuple[list[int], list[float]]:
    """Numbers of 32 bits for the terms of a language, ascending, with their weights; terms of one number add up."""
    found: Counter[int] = Counter()
    for term, weight in words.items():
        digest = hashlib.sha256(f"{name}\0{term}".encode()).digest()
        found[int.from_bytes(digest[:4], "big")] += weight  # type: ignore[assignment]
    return sorted(found), [float(found[index]) for index in sorted(found)]
