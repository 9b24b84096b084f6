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
from fieldwise.records import Difference, Interval, Record
from fieldwise.retrieve.search import HybridRetriever, Legs, fuse
from fieldwise.retrieve.settings import RetrieveSettings

LEAST_QUERIES = 20
"""Questions that each half needs."""
WEIGHTS = tuple(round(0.05 * n, 2) for n in range(21))
CANDIDATES = (20, 50, 100)
_SHOWN = 5


class Tried(Record):
    """A setting with its nDCG@10 on the half it was chosen on."""

    dense_weight: float
    candidates: int
    ndcg: float


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
    """Choose by nDCG@10 on `fit`; of equals the one nearest to the current settings. Prove on `held`."""
    settings = retriever.settings
    ready = list(_ready(fit, retriever, "searching, to choose"))
    tried = [_tried(s, retriever, ready, fit) for s in track(list(_grid(settings)), "trying settings")]
    current = next(t for t in tried if _is(t, settings))
    order = sorted(
        tried,
        key=lambda t: (-t.ndcg, abs(t.dense_weight - settings.dense_weight), abs(t.candidates - settings.candidates)),
    )
    chosen = order[0]
    proof = list(_ready(held, retriever, "searching, to prove"))
    after, before = (_scores(t, retriever, proof, held) for t in (chosen, current))
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


def _grid(settings: RetrieveSettings) -> Iterator[RetrieveSettings]:
    """Every setting tried, the current one among them; without embeddings only the number of candidates counts."""
    weights = WEIGHTS if settings.embedding != "none" else (settings.dense_weight,)
    for candidates in sorted({*CANDIDATES, settings.candidates}):
        for weight in sorted({*weights, settings.dense_weight}):
            yield settings.model_copy(update={"dense_weight": weight, "candidates": candidates})


def _is(tried: Tried, settings: RetrieveSettings) -> bool:
    return (tried.dense_weight, tried.candidates) == (settings.dense_weight, settings.candidates)


def _ready(judged: JudgedSet, retriever: HybridRetriever, label: str) -> Iterator[_Ready]:
    deepest = max(*CANDIDATES, retriever.settings.candidates)
    for query in track(judged.queries, label):
        yield _Ready(query, retriever.legs(query.text, deepest))


def _tried(settings: RetrieveSettings, retriever: HybridRetriever, ready: Sequence[_Ready], judged: JudgedSet) -> Tried:
    asked = Tried(dense_weight=settings.dense_weight, candidates=settings.candidates, ndcg=0.0)
    scores = [s for s in _scores(asked, retriever, ready, judged) if s is not None]
    return asked.model_copy(update={"ndcg": round(sum(scores) / max(1, len(scores)), 6)})


def _scores(
    setting: Tried, retriever: HybridRetriever, ready: Sequence[_Ready], judged: JudgedSet
) -> list[float | None]:
    """nDCG@10 of every query under a setting, from the legs that were searched before."""
    made: list[float | None] = []
    for query, legs in ready:
        if not query.relevant:
            made.append(None)
            continue
        narrow = narrowed(legs, setting.candidates)
        fused = fuse(narrow.lexical, narrow.dense, setting.dense_weight)
        best = sorted(fused.items(), key=lambda item: (-item[1], item[0]))
        chunks = (retriever.chunks[row] for row, _ in best)
        ranking = [c.document_id if judged.level == "document" else c.id for c in chunks]
        made.append(ndcg([i for i in ranking if i != query.id], query.relevant))
    return made


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
    return "\n".join(lines) if len(lines) > 1 else ""
