"""Passages out of a store for one identity: both legs, fused, as `interfaces.Retriever` gives them.

Stages, in this order; all but the first two are off unless the options ask for them: words of the search, both legs and
their fusion, freshness, reranking, near-identical hits folded, cap per document, diversity, wider passages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from fieldwise.interfaces import LlmClient
from fieldwise.records import Chunk, RetrievedPassage
from fieldwise.retrieve.search import fuse
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.store import choose
from fieldwise.store.asked import MAX_QUERY_CHARS
from fieldwise.store.choose import Candidate, Dropped
from fieldwise.store.expand import is_within, widened
from fieldwise.store.filters import Filter
from fieldwise.store.options import PLAIN, Fusion, SearchOptions
from fieldwise.store.protocol import Candidates, ChunkStore, GoneError, Identity, QueryVector, Scope
from fieldwise.store.rewrite import Rewritten, rewritten

_RANK_CONSTANT = 60
_ATTEMPTS = 3
_CHUNKS_FOR_ACRONYMS = 12

Rerank = Callable[[str, Sequence[RetrievedPassage]], list[RetrievedPassage]]
"""Passages in another order, each perhaps with a score of its own; none may be added."""


class Embedder(Protocol):
    """Turns texts into vectors; `fingerprint` names model and code."""

    @property
    def fingerprint(self) -> str:
        """Vectors of another fingerprint do not mix with these."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector a text."""
        ...


class Hit(NamedTuple):
    """A passage with the version of its document and what each stage made of it."""

    passage: RetrievedPassage
    version: int
    explained: dict[str, JsonValue]


class Looked(NamedTuple):
    """What a search found, best first; `generation` is the state of the store it saw."""

    hits: list[Hit]
    searched: Rewritten
    generation: int
    explained: dict[str, JsonValue]

    @property
    def passages(self) -> list[RetrievedPassage]:
        """The passages alone."""
        return [hit.passage for hit in self.hits]


def today() -> date:
    """Return the day it is in coordinated universal time."""
    return datetime.now(UTC).date()


class StoreRetriever:
    """Searches a store as one identity; implements `interfaces.Retriever`.

    Only what is valid on the day that `as_of` gives is found; None searches what was valid on any day. `fusion` takes
    the place of the one in the options. `client` words searches where the options want that.
    """

    def __init__(
        self,
        store: ChunkStore,
        embedder: Embedder | None,
        identity: Identity,
        settings: RetrieveSettings,
        *,
        fusion: Fusion | None = None,
        filter: Filter | None = None,
        as_of: Callable[[], date] | None = today,
        options: SearchOptions = PLAIN,
        client: LlmClient | None = None,
        rerank: Rerank | None = None,
    ) -> None:
        self.store, self.embedder, self.identity, self.settings = store, embedder, identity, settings
        self.filter, self.as_of, self.client, self.rerank = filter, as_of, client, rerank
        self.options = options if fusion is None else options.model_copy(update={"fusion": fusion})

    def acting_for(
        self,
        identity: Identity,
        filter: Filter | None = None,
        *,
        as_of: Callable[[], date] | None = None,
        options: SearchOptions | None = None,
    ) -> StoreRetriever:
        """Return a retriever over the same store for someone else, maybe of another day or with other options."""
        return StoreRetriever(
            self.store,
            self.embedder,
            identity,
            self.settings,
            filter=filter,
            as_of=as_of or self.as_of,
            options=options or self.options,
            client=self.client,
            rerank=self.rerank,
        )

    def search(self, query: str, top_k: int | None = None) -> list[RetrievedPassage]:
        """Return the best passages, best first; an empty query finds nothing."""
        return self.look(query, top_k).passages

    def look(self, query: str, top_k: int | None = None) -> Looked:
        """Return the best passages with what each stage did; of a long query its first 4,000 characters count."""
        count, query = top_k or self.settings.top_k, query.strip()[:MAX_QUERY_CHARS].rstrip()
        if not query:
            return Looked([], Rewritten(""), self.store.generation, {})
        day = self.as_of() if self.as_of else None
        scope = Scope(self.identity, self.filter, day)
        words = rewritten(query, self.options.rewrite, self.client, lambda about: self._texts(about, scope))
        vector = None
        if self.embedder is not None and self.identity.groups:
            vector = QueryVector(self.embedder.fingerprint, self.embedder.encode([words.text])[0])
        for attempt in range(_ATTEMPTS):
            found = self.store.candidates(words.text, vector, scope, self.settings.candidates)
            fused = self._fused(found)
            dropped = Dropped()
            chosen, is_whole = self._chosen(query, found, fused, count, day, dropped)
            hits, is_whole = self._hits(chosen, found, fused, count, dropped, is_whole)
            if is_whole or attempt == _ATTEMPTS - 1:  # else something went in this very moment: look again
                break
        return Looked(hits, words, found.generation, self._told(words, day, found, dropped))

    # ------------------------------------------------------------ stages

    def _texts(self, about: str, scope: Scope) -> list[str]:
        """The best passages for some words by BM25, of those that the identity may see."""
        found = self.store.candidates(about, None, scope, _CHUNKS_FOR_ACRONYMS).lexical
        keys = sorted(found, key=lambda key: (-found[key], key))
        return [c.chunk.text for c in self.store.fetch(keys, self.identity)]

    def _fused(self, found: Candidates) -> dict[int, float]:
        if self.options.fusion == "reciprocal_ranks":
            return reciprocal_ranks(found.lexical, found.dense)
        return fuse(found.lexical, found.dense, self.settings.dense_weight)

    def _chosen(
        self,
        query: str,
        legs: Candidates,
        fused: dict[int, float],
        count: int,
        day: date | None,
        dropped: Dropped,
    ) -> tuple[list[Candidate], bool]:
        """The candidates to show, best first, and whether all that were looked at are still there."""
        options = self.options
        pool = sorted(fused.items(), key=lambda item: (-item[1], item[0]))
        if not options.needs_a_pool and self.rerank is None:
            pool = pool[:count]
        stored = {c.key: c for c in self.store.fetch([key for key, _ in pool], self.identity)}
        left = [Candidate(stored[key], score, score) for key, score in pool if key in stored]
        dropped.gone = len(pool) - len(left)
        if options.freshness:
            for candidate in left:
                candidate.freshness = choose.freshness(candidate.found, options, day or today())
                candidate.score += candidate.freshness
            left.sort(key=lambda c: (-c.score, c.key))
        if self.rerank is not None:
            left = self._reranked(query, left, legs)
        if options.fold is not None:
            left = choose.folded(left, options.fold, len(left), dropped)
        if options.per_document is not None:
            left = choose.capped(left, options.per_document, dropped)
        wanted = len(left) if options.expand != "none" else count  # a passage may turn out to be within another
        if options.diversity:
            left = choose.diverse(left, options.diversity, wanted, self.store.vectors_of([c.key for c in left]))
        return left[:wanted], not dropped.gone

    def _reranked(self, query: str, left: list[Candidate], legs: Candidates) -> list[Candidate]:
        assert self.rerank is not None
        known = {c.found.chunk.id: c for c in left}
        found = [
            RetrievedPassage(
                chunk=c.found.chunk, score=c.score, lexical=legs.lexical.get(c.key), dense=legs.dense.get(c.key)
            )
            for c in left
        ]
        ordered = []
        for place, passage in enumerate(self.rerank(query, found)):
            candidate = known[passage.chunk.id]
            candidate.rerank = getattr(passage, "rerank", None)
            candidate.score = -float(place)  # from here on the order counts: scores of two stages do not mix
            ordered.append(candidate)
        return ordered

    def _hits(
        self,
        chosen: list[Candidate],
        found: Candidates,
        fused: dict[int, float],
        count: int,
        dropped: Dropped,
        is_whole: bool,
    ) -> tuple[list[Hit], bool]:
        told = _Stages(found, fused)
        hits: list[Hit] = []
        shown: list[Chunk] = []
        for candidate in chosen:
            chunk = candidate.found.chunk
            if self.options.expand != "none":
                if is_within(chunk, shown):
                    dropped.covered += 1
                    continue
                try:
                    chunk = widened(self.store, candidate.found, self.options, self.identity, shown)
                except GoneError:
                    dropped.gone, is_whole = dropped.gone + 1, False
                    continue
            shown.append(chunk)
            passage = RetrievedPassage(
                chunk=chunk,
                score=candidate.fused + candidate.freshness,
                lexical=found.lexical.get(candidate.key),
                dense=found.dense.get(candidate.key),
            )
            hits.append(Hit(passage, candidate.found.version, told.of(candidate, chunk)))
            if len(hits) == count:
                break
        return hits, is_whole

    def _told(self, words: Rewritten, day: date | None, found: Candidates, dropped: Dropped) -> dict[str, JsonValue]:
        return {
            "searched": words.text,
            "words_by": words.by,
            "words_added": list(words.added),
            "as_of": day.isoformat() if day else None,
            "tenant": self.identity.tenant,
            "groups": list[JsonValue](sorted(self.identity.groups)),
            "fusion": self.options.fusion,
            "dense_weight": self.settings.dense_weight,
            "candidates": {"lexical": len(found.lexical), "dense": len(found.dense)},
            "dropped": {
                "gone": dropped.gone,
                "folded": dropped.folded,
                "over_cap": dropped.over_cap,
                "within_another": dropped.covered,
            },
        }


class _Stages:
    """Scores, ranks and z-scores of both legs."""

    def __init__(self, found: Candidates, fused: dict[int, float]) -> None:
        self._legs = {"lexical": found.lexical, "dense": found.dense}
        self._ranks = {name: _ranks(leg) for name, leg in {**self._legs, "fused": fused}.items()}
        self._z = {name: fuse(leg, {}, 0.0) for name, leg in self._legs.items()}

    def of(self, candidate: Candidate, shown: Chunk) -> dict[str, JsonValue]:
        key = candidate.key
        told: dict[str, JsonValue] = {
            name: {"score": leg[key], "rank": self._ranks[name][key], "z": self._z[name][key]} if key in leg else None
            for name, leg in self._legs.items()
        }
        span = [candidate.found.chunk.start, candidate.found.chunk.end]
        return {
            **told,
            "fused": {"score": candidate.fused, "rank": self._ranks["fused"][key]},
            "freshness": candidate.freshness,
            "rerank": candidate.rerank,
            "relevance": candidate.relevance,
            "likeness": candidate.likeness,
            "folded": list[JsonValue](candidate.folded),
            "found_at": list[JsonValue](span),
            "is_widened": span != [shown.start, shown.end],
        }


def _ranks(leg: dict[int, float]) -> dict[int, int]:
    return {key: n for n, (key, _) in enumerate(sorted(leg.items(), key=lambda item: (-item[1], item[0])), 1)}


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
