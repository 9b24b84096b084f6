"""Rerankers: a second look at what the search has found.

A `Reranker` scores pairs of a query and a text; everything else follows from that. What a search has found may be
scored with more than the text: `score_passages` is given the first scores and the headings too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fieldwise.records import RetrievedPassage

if TYPE_CHECKING:
    from fieldwise.retrieve.embed import MiniLmEmbedder
    from fieldwise.retrieve.settings import RetrieveSettings


class Ranked(NamedTuple):
    """A text with its score; `place` is where it stood among the texts that were given, from 0."""

    place: int
    score: float
    document: str


class Comparison(NamedTuple):
    """Which of two texts fits a query better; `margin` is first minus second."""

    better: Literal["first", "second", "equal"]
    first: float
    second: float
    margin: float


class Reranker(ABC):
    """Scores how well texts fit a query. Scores of one reranker order texts; they are no probabilities."""

    name: str

    @abstractmethod
    def predict(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return a score for each (query, text), in order; higher fits better.

        Pairs of one query are judged as one list: a score may depend on what it is compared with.
        """

    def score_passages(self, query: str, passages: Sequence[RetrievedPassage]) -> list[float]:
        """Return a score for each passage that a search has found, in order."""
        from fieldwise.retrieve.index import passage_text  # which opens a search, which asks a reranker

        return self.predict([(query, passage_text(p.chunk)) for p in passages])

    def rerank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[Ranked]:
        """Return the texts, best first, at most `top_k`; equal ones stay in order."""
        scores = self.predict([(query, text) for text in documents])
        ranked = [Ranked(n, score, text) for n, (score, text) in enumerate(zip(scores, documents, strict=True))]
        return sorted(ranked, key=lambda r: (-r.score, r.place))[: _checked(top_k)]

    def batch_rerank(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]], top_k: int | None = None
    ) -> list[list[Ranked]]:
        """Return the order of each query's own texts. Raises ValueError unless there are as many lists as queries."""
        return [self.rerank(query, texts, top_k) for query, texts in zip(queries, documents, strict=True)]

    def get_top_documents(self, query: str, documents: Sequence[str], top_k: int = 3) -> list[str]:
        """Return the texts themselves, best first."""
        return [ranked.document for ranked in self.rerank(query, documents, top_k)]

    def compare_documents(self, query: str, first: str, second: str) -> Comparison:
        """Return which of two texts fits better."""
        a, b = self.predict([(query, first), (query, second)])
        return Comparison("equal" if a == b else "first" if a > b else "second", a, b, a - b)

    def filter_by_threshold(self, query: str, documents: Sequence[str], threshold: float) -> list[Ranked]:
        """Return the texts whose score reaches the threshold, best first."""
        return [ranked for ranked in self.rerank(query, documents) if ranked.score >= threshold]


def _checked(top_k: int | None) -> int | None:
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k: expected 1 or more, found {top_k}")
    return top_k


def open_reranker(settings: RetrieveSettings, embedder: MiniLmEmbedder | None) -> Reranker | None:
    """Return the reranker that a recipe asks for, if any."""
    if settings.rerank == "none":
        return None
    if settings.rerank == "features":
        from fieldwise.retrieve.features import FeatureReranker, LinearModel

        model = LinearModel.read(Path(settings.rerank_model)) if settings.rerank_model else LinearModel.shipped()
        return FeatureReranker(model, embedder, settings.stemmer, open_cross_encoder(settings.rerank_cross_encoder))
    return open_cross_encoder(settings.rerank_model)


def open_cross_encoder(folder: str | None) -> Reranker | None:
    """Return the cross-encoder in a folder, None where none is named."""
    if folder is None:
        return None
    from fieldwise.retrieve.cross_encoder import CrossEncoderReranker

    return CrossEncoderReranker(Path(folder))


def blend(first: Sequence[float], second: Sequence[float], weight: float) -> list[float]:
    """Return the z-scores of both, the second with this weight; a list of equal scores counts nothing.

    >>> blend([3.0, 1.0], [0.0, 8.0], 0.25)
    [0.5, -0.5]
    """
    pairs = zip(_z_scores(first), _z_scores(second), strict=True)
    return [(1 - weight) * a + weight * b for a, b in pairs]


def _z_scores(scores: Sequence[float]) -> list[float]:
    if not scores:
        return []
    mean = sum(scores) / len(scores)
    spread = (sum((s - mean) ** 2 for s in scores) / len(scores)) ** 0.5
    return [(s - mean) / spread if spread > 1e-12 else 0.0 for s in scores]
