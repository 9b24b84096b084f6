"""Which of what was found is shown: newer before older, the same said once, not all from one document, not all alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from fieldwise.shingles import jaccard, shingles
from fieldwise.store.options import SearchOptions
from fieldwise.store.protocol import StoredChunk

_SHINGLE_WORDS = 3


@dataclass
class Candidate:
    """A chunk on its way through a search, with what each stage made of it."""

    found: StoredChunk
    fused: float
    score: float
    freshness: float = 0.0
    rerank: float | None = None
    relevance: float | None = None
    likeness: float | None = None
    folded: list[str] = field(default_factory=list)

    @property
    def key(self) -> int:
        """The key of its chunk."""
        return self.found.key


@dataclass
class Dropped:
    """How many candidates did not come through, by stage."""

    gone: int = 0
    folded: int = 0
    over_cap: int = 0
    covered: int = 0


def freshness(found: StoredChunk, options: SearchOptions, today: date) -> float:
    """Return what a chunk gains by the day its document is of; nothing without a day. A day to come counts as today."""
    name = options.freshness_field
    value = found.valid_from if name == "valid_from" else found.fields.get(name)
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            return 0.0
    if not isinstance(value, date):
        return 0.0
    age = max((today - value).days, 0)
    return float(options.freshness * 0.5 ** (age / options.half_life_days))


def folded(candidates: Sequence[Candidate], threshold: float, most: int, dropped: Dropped) -> list[Candidate]:
    """Return candidates, best first, without those that nearly repeat a better one; `most` are enough."""
    kept: list[tuple[Candidate, frozenset[str]]] = []
    for candidate in candidates:
        said = shingles(candidate.found.chunk.text, _SHINGLE_WORDS)
        twin = next((better for better, other in kept if jaccard(said, other) >= threshold), None)
        if twin is not None:
            twin.folded.append(candidate.found.chunk.id)
            dropped.folded += 1
        elif len(kept) < most:
            kept.append((candidate, said))
    return [candidate for candidate, _ in kept]


def capped(candidates: Sequence[Candidate], most: int, dropped: Dropped) -> list[Candidate]:
    """Return candidates, best first, with at most so many of one document."""
    counts: Counter[str] = Counter()
    kept = []
    for candidate in candidates:
        counts[candidate.found.chunk.document_id] += 1
        if counts[candidate.found.chunk.document_id] <= most:
            kept.append(candidate)
        else:
            dropped.over_cap += 1
    return kept


def diverse(
    candidates: Sequence[Candidate], diversity: float, count: int, vectors: Mapping[int, NDArray[np.float32]]
) -> list[Candidate]:
    """Return `count` candidates by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Relevance is the score between the worst (0) and the best (1) of the candidates; likeness the cosine of the vectors,
    or the Jaccard similarity of word shingles where one of them has none.
    """
    scores = [c.score for c in candidates]
    low, spread = min(scores, default=0.0), max(scores, default=0.0) - min(scores, default=0.0)
    words = {c.key: shingles(c.found.chunk.text, _SHINGLE_WORDS) for c in candidates if c.key not in vectors}

    def likeness(first: Candidate, second: Candidate) -> float:
        if first.key in vectors and second.key in vectors:
            return float(vectors[first.key] @ vectors[second.key])
        both = [words.get(c.key) or shingles(c.found.chunk.text, _SHINGLE_WORDS) for c in (first, second)]
        return jaccard(*both)

    left, chosen = list(candidates), list[Candidate]()
    nearest = {c.key: 0.0 for c in left}
    for candidate in left:
        candidate.relevance = (candidate.score - low) / spread if spread > 0 else 1.0
    while left and len(chosen) < count:
        best = max(left, key=lambda c: ((1 - diversity) * (c.relevance or 0.0) - diversity * nearest[c.key], -c.key))
        best.likeness = nearest[best.key] if chosen else None
        left.remove(best)
        chosen.append(best)
        for other in left:
            nearest[other.key] = max(nearest[other.key], likeness(other, best))
    return chosen
