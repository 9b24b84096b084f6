"""Which settings of the search find best: chosen on one half of training questions, proven on the other.

The halves part by document. No question that is measured on is ever read here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import Field

from fieldwise.errors import DatasetError
from fieldwise.progress import track
from fieldwise.ranking.figures import ndcg
from fieldwise.ranking.judged import JudgedQuery, JudgedSet
from fieldwise.ranking.measure import difference, summarise
from fieldwise.records import Difference, Interval, Record, RetrievedPassage
from fieldwise.retrieve.rerank import Reranker, open_reranker
from fieldwise.retrieve.search import HybridRetriever, Legs, fuse, reranked
from fieldwise.retrieve.settings import RetrieveSettings

LEAST_QUERIES = 20
"""Questions that each half needs."""
WEIGHTS = tuple(round(0.05 * n, 2) for n in range(21))
CANDIDATES = (20, 50, 100)
RERANK_WEIGHTS = (0.25, 0.5, 0.75, 1.0)
_SHOWN = 5


class Tried(Record):
    """A setting with its nDCG@10 on the half it was chosen on."""

    dense_weight: float
    candidates: int
    rerank: str = "none"
    rerank_weight: float = 0.0
    ndcg: float = 0.0


class Tuned(Record):
    """The choice, and what it is worth on questions that did not choose it."""

    name: str
    fitted_on: int
    held_out: int
    current: Tried
    chosen: Tried
    best: tuple[Tried, ...] = Field(description="the best of all that were tried")
    held_out_current: Interval
    held_out_chosen: Interval
    difference: Difference = Field(description="chosen minus current, nDCG@10 on the held-out half")
    is_better: bool = Field(description="the interval of the difference lies above 0")
    lines: str = Field("", description="recipe lines to paste; empty where nothing was gained")


class _Ready(NamedTuple):
    """A query whose legs have been searched once, as deep as any setting asks."""

    query: JudgedQuery
    legs: Legs


def halves(judged: JudgedSet, seed: int) -> tuple[JudgedSet, JudgedSet]:
    """Part the questions by what they ask about; raises DatasetError if a half has fewer than 20."""
    clusters = sorted({q.cluster for q in judged.queries})
    random.Random(f"{seed}/halves").shuffle(clusters)
    first: set[str] = set()
    taken = 0
    for cluster in clusters:
        if taken >= len(judged.queries) / 2:
            break
        first.add(cluster)
        taken += sum(q.cluster == cluster for q in judged.queries)
    parts = tuple(tuple(q for q in judged.queries if (q.cluster in first) is side) for side in (True, False))
    made = [JudgedSet(judged.name, judged.kind, judged.level, judged.split, p, judged.corpus) for p in parts]
    enough(*made)
    return made[0], made[1]


def enough(fit: JudgedSet, held: JudgedSet) -> None:
    """Raise DatasetError if a half is too small to choose on or to prove anything."""
    if min(len(fit.queries), len(held.queries)) < LEAST_QUERIES:
        raise DatasetError(
            "too few questions to tune on",
            where=fit.name,
            found=f"{len(fit.queries)} to choose on and {len(held.queries)} to prove it",
            fix=f"Give at least {LEAST_QUERIES} of each, about different documents.",
        )


def tune(fit: JudgedSet, held: JudgedSet, retriever: HybridRetriever, *, samples: int, seed: int) -> Tuned:
    """Choose by nDCG@10 on `fit`; of equals the one nearest to the current settings. Prove on `held`.

    First weight and candidates without a reranker, then whether the features model on top of the best finds better still.
    """
    settings = retriever.settings
    ready = list(_ready(fit, retriever, "searching, to choose"))
    current = _now(settings)
    reranker = retriever.reranker if settings.rerank != "none" else open_reranker(_with_features(settings), None)
    trial = _Trial(retriever, reranker, fit, ready)
    tried = [trial.measured(t) for t in track(list(_grid(settings)), "trying settings")]
    best = min(tried, key=lambda t: _order(t, current))
    kind = settings.rerank if settings.rerank != "none" else "features"
    weights = sorted({*RERANK_WEIGHTS, settings.rerank_weight})
    asked = [best.model_copy(update={"rerank": kind, "rerank_weight": w}) for w in weights]
    if current.rerank != "none":
        asked.append(current)
    tried += [trial.measured(t) for t in track(asked, "trying the reranker")]
    current = next(t for t in tried if _same(t, current))
    order = sorted(tried, key=lambda t: _order(t, current))
    chosen = order[0]
    proof = list(_ready(held, retriever, "searching, to prove"))
    after, before = (_Trial(retriever, reranker, held, proof).scores(t) for t in (chosen, current))
    clusters = [q.cluster for q in held.queries]
    found = difference(after, before, clusters, samples, seed, baseline="current settings")
    is_better = found.low is not None and found.low > 0
    return Tuned(
        name=fit.name,
        fitted_on=len(fit.queries),
        held_out=len(held.queries),
        current=current,
        chosen=chosen,
        best=tuple(order[:_SHOWN]),
        held_out_current=summarise(before, clusters, samples, seed),
        held_out_chosen=summarise(after, clusters, samples, seed),
        difference=found,
        is_better=is_better,
        lines=_lines(chosen, settings) if is_better else "",
    )


def _with_features(settings: RetrieveSettings) -> RetrieveSettings:
    return settings.model_copy(update={"rerank": "features", "rerank_model": None})


def _now(settings: RetrieveSettings) -> Tried:
    weight = 0.0 if settings.rerank == "none" else settings.rerank_weight
    return Tried(
        dense_weight=settings.dense_weight,
        candidates=settings.candidates,
        rerank=settings.rerank,
        rerank_weight=weight,
    )


def _grid(settings: RetrieveSettings) -> Iterator[Tried]:
    """Every setting without a reranker; without embeddings only the number of candidates counts."""
    weights = WEIGHTS if settings.embedding != "none" else ()
    for candidates in sorted({*CANDIDATES, settings.candidates}):
        for weight in sorted({*weights, settings.dense_weight}):
            yield Tried(dense_weight=weight, candidates=candidates)


def _order(tried: Tried, current: Tried) -> tuple[float, ...]:
    """The best first; of equals the nearest to what is set."""
    return (
        -tried.ndcg,
        float(tried.rerank != current.rerank),
        abs(tried.dense_weight - current.dense_weight),
        abs(tried.candidates - current.candidates),
        abs(tried.rerank_weight - current.rerank_weight),
    )


def _same(tried: Tried, current: Tried) -> bool:
    return tried.model_copy(update={"ndcg": 0.0}) == current.model_copy(update={"ndcg": 0.0})


def _ready(judged: JudgedSet, retriever: HybridRetriever, label: str) -> Iterator[_Ready]:
    deepest = max(*CANDIDATES, retriever.settings.candidates)
    for query in track(judged.queries, label):
        yield _Ready(query, retriever.legs(query.text, deepest))


class _Trial(NamedTuple):
    """Searched questions, on which any setting can be tried."""

    retriever: HybridRetriever
    reranker: Reranker | None
    judged: JudgedSet
    ready: Sequence[_Ready]

    def measured(self, setting: Tried) -> Tried:
        """The setting with its mean nDCG@10."""
        scores = [s for s in self.scores(setting) if s is not None]
        return setting.model_copy(update={"ndcg": round(sum(scores) / max(1, len(scores)), 6)})

    def scores(self, setting: Tried) -> list[float | None]:
        """nDCG@10 of every query under a setting, from the legs that were searched before."""
        return [self._score(query, legs, setting) if query.relevant else None for query, legs in self.ready]

    def _score(self, query: JudgedQuery, legs: Legs, setting: Tried) -> float:
        narrow = narrowed(legs, setting.candidates)
        fused = fuse(narrow.lexical, narrow.dense, setting.dense_weight)
        order = sorted(fused.items(), key=lambda item: (-item[1], item[0]))
        if setting.rerank == "none" or self.reranker is None:
            chunks = [self.retriever.chunks[row] for row, _ in order]
        else:
            chunks = [p.chunk for p in self._reranked(query.text, order, narrow, setting)]
        ranking = [c.document_id if self.judged.level == "document" else c.id for c in chunks]
        return ndcg([i for i in ranking if i != query.id], query.relevant)

    def _reranked(
        self, query: str, order: list[tuple[int, float]], legs: Legs, setting: Tried
    ) -> list[RetrievedPassage]:
        assert self.reranker is not None
        settings = self.retriever.settings.model_copy(update={"rerank_weight": setting.rerank_weight})
        found = [
            RetrievedPassage(
                chunk=self.retriever.chunks[row],
                score=score,
                lexical=legs.lexical.get(row),
                dense=legs.dense.get(row),
            )
            for row, score in order[: settings.rerank_candidates]
        ]
        return reranked(self.reranker, query, found, settings)


def narrowed(legs: Legs, count: int) -> Legs:
    """Return what the legs would be with fewer candidates."""
    words = dict(sorted(legs.lexical.items(), key=lambda item: (-item[1], item[0]))[:count])
    nearest = [row for row, _ in sorted(legs.dense.items(), key=lambda item: (-item[1], item[0]))[:count]]
    return Legs(words, {row: legs.dense[row] for row in {*nearest, *words} if row in legs.dense})


def _lines(chosen: Tried, settings: RetrieveSettings) -> str:
    lines = ["retrieve:"]
    if chosen.dense_weight != settings.dense_weight:
        lines.append(f"  dense_weight: {chosen.dense_weight:g}")
    if chosen.candidates != settings.candidates:
        lines.append(f"  candidates: {chosen.candidates}")
    if chosen.rerank != settings.rerank:
        lines.append(f"  rerank: {chosen.rerank}")
    if chosen.rerank != "none" and chosen.rerank_weight != settings.rerank_weight:
        lines.append(f"  rerank_weight: {chosen.rerank_weight:g}")
    return "\n".join(lines) if len(lines) > 1 else ""
