"""Hybrid search: BM25 and embeddings, fused by a convex sum of z-scores.

On two public sets this fusion beat reciprocal rank fusion and both legs alone (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.records import Chunk, RetrievedPassage
from fieldwise.retrieve.embed import MiniLmEmbedder
from fieldwise.retrieve.lexical import LexicalIndex
from fieldwise.retrieve.rerank import Reranker, blend
from fieldwise.retrieve.settings import RetrieveSettings

_MAX_QUERY_CHARS = 4000


class Legs(NamedTuple):
    """What both legs find: row and BM25 score, row and cosine."""

    lexical: dict[int, float]
    dense: dict[int, float]


class HybridRetriever:
    """Searches the chunks of one run; implements `interfaces.Retriever`."""

    def __init__(
        self,
        chunks: Sequence[Chunk],
        lexical: LexicalIndex,
        embedder: MiniLmEmbedder | None,
        vectors: NDArray[np.float32] | None,
        settings: RetrieveSettings,
        reranker: Reranker | None = None,
    ) -> None:
        self.chunks, self.lexical, self.embedder, self.vectors, self.settings, self.reranker = (
            chunks,
            lexical,
            embedder,
            vectors,
            settings,
            reranker,
        )

    def search(self, query: str, top_k: int | None = None) -> list[RetrievedPassage]:
        """Return the best passages, best first; an empty query finds nothing."""
        query = query.strip()[:_MAX_QUERY_CHARS]
        if not query or not self.chunks:
            return []
        words, meaning = self.legs(query, self.settings.candidates)
        fused = fuse(words, meaning, self.settings.dense_weight)
        wanted = top_k or self.settings.top_k
        order = sorted(fused.items(), key=lambda item: (-item[1], item[0]))
        count = wanted if self.reranker is None else max(wanted, self.settings.rerank_candidates)
        found = [
            RetrievedPassage(chunk=self.chunks[row], score=score, lexical=words.get(row), dense=meaning.get(row))
            for row, score in order[:count]
        ]
        return found if self.reranker is None else reranked(self.reranker, query, found, self.settings)[:wanted]

    def legs(self, query: str, count: int) -> Legs:
        """Return the best of each leg, by row; what BM25 finds has its cosine too."""
        words = dict(self.lexical.search(query, count))
        meaning: dict[int, float] = {}
        if self.embedder is not None and self.vectors is not None:
            scores = self.vectors @ self.embedder.encode([query])[0]
            nearest = np.argsort(-scores, kind="stable")[:count]
            meaning = {int(row): float(scores[row]) for row in {*nearest.tolist(), *words}}
        return Legs(words, meaning)


def reranked(
    reranker: Reranker, query: str, found: Sequence[RetrievedPassage], settings: RetrieveSettings
) -> list[RetrievedPassage]:
    """Return passages in the order of both scores; those beyond the candidates stay behind, as they were."""
    head, tail = found[: settings.rerank_candidates], found[settings.rerank_candidates :]
    second = reranker.score_passages(query, head)
    both = blend([p.score for p in head], second, settings.rerank_weight)
    order = sorted(range(len(head)), key=lambda n: (-both[n], n))
    return [*(head[n].model_copy(update={"rerank": second[n]}) for n in order), *tail]


def fuse(lexical: dict[int, float], dense: dict[int, float], dense_weight: float) -> dict[int, float]:
    """Return the convex sum of z-scores over the union of both legs (Bruch et al., arXiv 2210.11934).

    A row that BM25 did not find gets the lowest BM25 z-score of the list.

    >>> fuse({1: 2.0, 2: 1.0}, {}, 0.4)
    {1: 1.0, 2: -1.0}
    """
    if not dense:
        return _z_scores(lexical)
    if not lexical:
        return _z_scores(dense)
    words, meaning = _z_scores(lexical), _z_scores(dense)
    lowest_word, lowest_meaning = min(words.values()), min(meaning.values())
    rows = {*words, *meaning}
    return {
        row: (1 - dense_weight) * words.get(row, lowest_word) + dense_weight * meaning.get(row, lowest_meaning)
        for row in sorted(rows)
    }


def _z_scores(scores: dict[int, float]) -> dict[int, float]:
    if not scores:
        return {}
    values = np.array(list(scores.values()))
    spread = float(values.std())
    return {row: (value - float(values.mean())) / spread if spread > 0 else 0.0 for row, value in scores.items()}
