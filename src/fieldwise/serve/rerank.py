"""Order texts by how well they fit a query: with the reranker of the run, else half by meaning and half by words.

Without a reranker score = 0.5 * max(cosine, 0) + 0.5 * overlap. `cosine` is that of the embedding model of the index;
`overlap` is the share of the query's words a text holds, stemmed, rare words counting more, as BM25 weighs them. Without
embeddings the score is the overlap. With one the score is the logistic of what it says. All lie between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fieldwise.serve.library import Shelf


class Ranked(NamedTuple):
    """A text with its scores; `place` is where it stands in the request, from 0."""

    place: int
    score: float
    cosine: float | None
    overlap: float


def rerank(library: Shelf, query: str, texts: Sequence[str], method: str | None = None) -> list[Ranked]:
    """Return all texts, best first; equal ones stay in order. Without a method that of the run."""
    shares = overlaps(library.stems(query), [library.stems(text) for text in texts])
    said = library.rerank_scores(query, list(texts), method)
    if said is not None:
        ranked = [Ranked(n, _logistic(s), None, share) for n, (s, share) in enumerate(zip(said, shares, strict=True))]
        return sorted(ranked, key=lambda r: (-said[r.place], r.place))  # which the logistic may round to equal
    cosines = library.similarity(query, list(texts))
    if cosines is None:
        ranked = [Ranked(n, share, None, share) for n, share in enumerate(shares)]
    else:
        ranked = [
            Ranked(n, 0.5 * max(cosine, 0.0) + 0.5 * share, cosine, share)
            for n, (cosine, share) in enumerate(zip(cosines, shares, strict=True))
        ]
    return sorted(ranked, key=lambda r: (-r.score, r.place))


def _logistic(score: float) -> float:
    return 1 / (1 + math.exp(-score)) if score > -700 else 0.0


def overlaps(query: Sequence[str], texts: Sequence[Sequence[str]]) -> list[float]:
    """Return for each text the weighted share of the query's words it holds; a word's weight is BM25's idf among the texts.

    >>> [round(share, 2) for share in overlaps(["insulin", "dose"], [["insulin"], ["the", "dose"], ["insulin", "dose"], ["heart"]])]
    [0.5, 0.5, 1.0, 0.0]
    """
    words, sets = list(dict.fromkeys(query)), [set(text) for text in texts]
    found = {word: sum(word in text for text in sets) for word in words}
    weights = {word: math.log(1 + (len(texts) - count + 0.5) / (count + 0.5)) for word, count in found.items()}
    total = sum(weights.values())
    return [sum(weights[word] for word in words if word in text) / total if total else 0.0 for text in sets]
