"""A judged set put through the search: every figure with its interval, by slice, beside the last run on the same set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self

import numpy as np
from pydantic import Field, JsonValue

from fieldwise import __version__
from fieldwise.evaluate.power import minimum_detectable_effect
from fieldwise.evaluate.statistics import (
    are_few,
    bounded_mean,
    degrees_of_freedom,
    holm,
    p_beyond,
    paired_difference,
)
from fieldwise.progress import track
from fieldwise.ranking.figures import ndcg, recall, reciprocal_rank, span_score
from fieldwise.ranking.judged import JudgedQuery, JudgedSet, Level, Span
from fieldwise.records import Difference, GateResult, Interval, Record, RetrievedPassage

DEPTH = 50
"""Passages asked for: as deep as the deepest recall."""
_RECALL_AT = (1, 3, 5, 10, 50)
HEADLINE = ("ndcg@10", "recall@10", "mrr@10")
"""Figures that are compared with the last run and shown for every slice."""
LEAST_IN_SLICE = 5
_WARM_UPS = 3
_SAME = 1e-9


class Search(Protocol):
    """Finds passages; more than asked for is no harm."""

    def search(self, query: str, top_k: int) -> list[RetrievedPassage]:
        """Return the best passages, best first."""
        ...


class QueryScores(Record):
    """The figures of one query, without its words; None where nothing is known to judge it by."""

    id: str
    sha256: str = Field(description="of the question and of what is relevant to it")
    cluster: str
    kind: str = ""
    words: int
    scores: dict[str, float | None]
    milliseconds: float


class Latency(Record):
    """Milliseconds of one search, with its embedding, on a warm index and one query at a time."""

    p50: float
    p95: float
    mean: float
    n: int

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Self:
        """Return the quantiles, interpolated between neighbours."""
        p50, p95 = np.percentile(milliseconds, [50, 95])
        mean = float(np.mean(milliseconds))
        return cls(p50=round(float(p50), 3), p95=round(float(p95), 3), mean=round(mean, 3), n=len(milliseconds))


class RetrievalReport(Record):
    """Everything measured on one judged set."""

    fieldwise: str = __version__
    name: str
    kind: str
    level: Level
    split: str = ""
    sha256: str = Field(description="of the judged set: equal hashes can be compared question by question")
    queries: int
    passages: int
    settings: dict[str, JsonValue] = Field(description="retrieve.* of the recipe")
    shown: int = Field(description="passages shown to the model, those of the span figures")
    figures: dict[str, Interval]
    latency: Latency
    slices: dict[str, dict[str, Interval]] = Field(default_factory=dict)
    differences: dict[str, Difference] = Field(default_factory=dict, description="to the last run on the same set")
    gates: tuple[GateResult, ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0
    items: tuple[QueryScores, ...]

    def values(self, figure: str) -> list[float | None]:
        """The scores of one figure, in the order of the items."""
        return [item.scores.get(figure) for item in self.items]


def score(query: JudgedQuery, found: Sequence[RetrievedPassage], level: Level, shown: int) -> dict[str, float | None]:
    """Return the figures of one ranking.

    At the level of the judgements; `document_...` besides, where these are of passages; spans of the first `shown`.
    """
    of_documents = [p.chunk.document_id for p in found]
    ranking = of_documents if level == "document" else [p.chunk.id for p in found]
    if level == "document":  # in some sets a query is a document of the corpus; it must not find itself (as BEIR does)
        ranking = [i for i in ranking if i != query.id]
    made: dict[str, float | None] = {
        "ndcg@10": ndcg(ranking, query.relevant),
        "mrr@10": reciprocal_rank(ranking, query.relevant),
        **{f"recall@{k}": recall(ranking, query.relevant, k) for k in _RECALL_AT},
    }
    if not query.relevant:
        made = dict.fromkeys(made)
    if query.documents:
        made |= {
            "document_ndcg@10": ndcg(of_documents, query.documents),
            "document_mrr@10": reciprocal_rank(of_documents, query.documents),
            **{f"document_recall@{k}": recall(of_documents, query.documents, k) for k in (1, 3, 10)},
        }
    if level == "passage" and query.documents:
        spans = [Span(p.chunk.document_id, p.chunk.start, p.chunk.end) for p in found[:shown]]
        overlap = span_score(spans, query.spans) if query.spans else None
        for part in ("precision", "recall", "f1"):
            made[f"span_{part}"] = getattr(overlap, part) if overlap else None
    return made


def put_through(judged: JudgedSet, search: Search, shown: int, depth: int = DEPTH) -> tuple[QueryScores, ...]:
    """Search every query once, one at a time, and score what is found."""
    for query in judged.queries[:_WARM_UPS]:
        search.search(query.text, depth)
    made = []
    for query in track(judged.queries, "searching", total=len(judged.queries)):
        began = time.perf_counter()
        found = search.search(query.text, depth)
        taken = (time.perf_counter() - began) * 1000
        made.append(
            QueryScores(
                id=query.id,
                sha256=query.sha256,
                cluster=query.cluster,
                kind=query.kind,
                words=len(query.text.split()),
                scores=score(query, found, judged.level, shown),
                milliseconds=round(taken, 3),
            )
        )
    return tuple(made)


def summarise(values: Sequence[float | None], clusters: Sequence[str], samples: int, seed: int) -> Interval:
    """Mean of scores from 0 to 1 with its 95 % interval, over those that are known."""
    kept = [(v, c) for v, c in zip(values, clusters, strict=True) if v is not None]
    if not kept:
        return Interval(value=None, unscored=len(values), method="nothing scored")
    names = [c for _, c in kept]
    found = bounded_mean([v for v, _ in kept], names, samples, seed)
    method = "Student's t, few documents" if are_few(names) else "cluster bootstrap"
    return Interval(
        value=found.value, low=found.low, high=found.high, n=len(kept), unscored=len(values) - len(kept), method=method
    )


def difference(
    after: Sequence[float | None],
    before: Sequence[float | None],
    clusters: Sequence[str],
    samples: int,
    seed: int,
    *,
    baseline: str,
) -> Difference:
    """Paired difference on the same queries; positive is better."""
    pairs = [(a, b, c) for a, b, c in zip(after, before, clusters, strict=True) if a is not None and b is not None]
    if not pairs:
        return Difference(value=None, unscored=len(clusters), baseline=baseline, method="no query scored on both")
    names = [c for _, _, c in pairs]
    found = paired_difference([a for a, _, _ in pairs], [b for _, b, _ in pairs], names, samples, seed)
    freedom = degrees_of_freedom(names)
    return Difference(
        value=found.value,
        low=found.low,
        high=found.high,
        n=len(pairs),
        unscored=len(clusters) - len(pairs),
        baseline=baseline,
        changed=sum(abs(a - b) > _SAME for a, b, _ in pairs),
        freedom=freedom,
        p=min(1.0, 2 * p_beyond(found, 0.0, freedom)),
        detectable=minimum_detectable_effect(found),
        method="paired cluster bootstrap" if not are_few(names) else "paired Student's t, few documents",
    )


def report(
    judged: JudgedSet,
    items: tuple[QueryScores, ...],
    *,
    passages: int,
    settings: Mapping[str, JsonValue],
    shown: int,
    samples: int,
    seed: int,
) -> RetrievalReport:
    """Return the figures of all queries, over all and by slice."""
    clusters = [item.cluster for item in items]
    names = [n for n in items[0].scores if any(item.scores.get(n) is not None for item in items)]
    return RetrievalReport(
        name=judged.name,
        kind=judged.kind,
        level=judged.level,
        split=judged.split,
        sha256=judged.sha256,
        queries=len(items),
        passages=passages,
        settings=dict(settings),
        shown=shown,
        figures={n: summarise([item.scores.get(n) for item in items], clusters, samples, seed) for n in names},
        latency=Latency.of([item.milliseconds for item in items]),
        slices=_slices(items, samples, seed),
        notes=judged.notes,
        seed=seed,
        items=items,
    )


def _slices(items: Sequence[QueryScores], samples: int, seed: int) -> dict[str, dict[str, Interval]]:
    """Figures by kind of question and by its length; slices of fewer than five queries are left out."""
    sorts: tuple[tuple[str, Callable[[QueryScores], str]], ...] = (
        ("kind", lambda item: item.kind),
        ("length", lambda item: _length(item.words)),
    )
    made: dict[str, dict[str, Interval]] = {}
    for sort, name_of in sorts:
        names = sorted({name_of(item) for item in items} - {""})
        for name in names if len(names) > 1 else ():
            chosen = [item for item in items if name_of(item) == name]
            if len(chosen) >= LEAST_IN_SLICE:
                clusters = [item.cluster for item in chosen]
                made[f"{sort}={name}"] = {
                    f: summarise([item.scores.get(f) for item in chosen], clusters, samples, seed) for f in HEADLINE
                }
    return made


def _length(words: int) -> str:
    return "1-7 words" if words < 8 else "8-15 words" if words < 16 else "16 words or more"


def against(now: RetrievalReport, before: RetrievalReport, samples: int, seed: int) -> dict[str, Difference]:
    """Paired differences of the headline figures to an earlier report on the same set, adjusted as one family (Holm)."""
    old = {item.id: item for item in before.items}
    clusters = [item.cluster for item in now.items]
    found = {
        name: difference(
            now.values(name),
            [old[item.id].scores.get(name) for item in now.items],
            clusters,
            samples,
            seed,
            baseline=before.name,
        )
        for name in HEADLINE
    }
    known = [name for name, d in found.items() if d.p is not None]
    adjusted = dict(zip(known, holm([found[name].p or 0.0 for name in known]), strict=True))
    return {name: d.model_copy(update={"p_adjusted": adjusted.get(name)}) for name, d in found.items()}
