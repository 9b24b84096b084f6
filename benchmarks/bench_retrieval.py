"""How well the search finds, on two public sets: nDCG@10 of each leg, of fusions, and with the shipped reranker.

    python benchmarks/bench_retrieval.py [--corpora ../shared/corpora/retrieval] [--sets scifact obliqa] [--cache build/vectors]
                                         [--queries N] [--reranker FILE] [--lexical-only] [--json]

BM25 and MiniLM are the legs of our own search; RRF-60 is what many peers fuse by (sum of 1 / (60 + rank) over the first
100 of both, Cormack et al. 2009); "fusion" is our default (z-scores, 0.4 dense, 50 candidates), "fusion + reranker" the
same with `retrieve.rerank: features`. All rank the same passages for the same test questions; intervals are of 95 %,
differences paired. The sets may be measured on only: nothing here is learnt or chosen on them.

Vectors are made once and kept in the cache, so that a run that was stopped goes on; 5,000 abstracts take some two minutes
on two free cores. The sets are no part of the project: what is not there is skipped, and the script says so.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fieldwise.progress import track
from fieldwise.ranking.corpus import open_corpus
from fieldwise.ranking.figures import ndcg
from fieldwise.ranking.judged import JudgedQuery
from fieldwise.ranking.measure import difference, summarise
from fieldwise.ranking.reading import read_beir
from fieldwise.ranking.tune import narrowed
from fieldwise.records import Difference, Interval, RetrievedPassage
from fieldwise.retrieve.rerank import open_reranker
from fieldwise.retrieve.search import HybridRetriever, Legs, fuse, reranked
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.store.retriever import reciprocal_ranks

CORPORA = Path(__file__).resolve().parents[2] / "shared/corpora/retrieval"
AIMS = {
    "scifact": {"fusion": 0.730, "fusion + reranker": 0.735},
    "obliqa": {"fusion": 0.695, "fusion + reranker": 0.725},
}
_DEPTH = 100
_SAMPLES, _SEED = 2000, 42
Way = Callable[[JudgedQuery, Legs], list[str]]


class Row(NamedTuple):
    """One way to rank, over all questions."""

    figure: Interval
    to_bm25: Difference | None
    to_rrf: Difference | None


def _ordered(scores: dict[int, float], retriever: HybridRetriever) -> list[str]:
    order = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [retriever.chunks[row].document_id for row, _ in order]


def ways(retriever: HybridRetriever, settings: RetrieveSettings) -> dict[str, Way]:
    """Every way to rank, from legs that were searched once."""
    reranker = open_reranker(settings, retriever.embedder)

    def fused(legs: Legs) -> dict[int, float]:
        narrow = narrowed(legs, settings.candidates)
        return fuse(narrow.lexical, narrow.dense, settings.dense_weight)

    def with_reranker(query: JudgedQuery, legs: Legs) -> list[str]:
        assert reranker is not None
        order = sorted(fused(legs).items(), key=lambda item: (-item[1], item[0]))[: settings.rerank_candidates]
        found = [
            RetrievedPassage(
                chunk=retriever.chunks[row], score=s, lexical=legs.lexical.get(row), dense=legs.dense.get(row)
            )
            for row, s in order
        ]
        return [p.chunk.document_id for p in reranked(reranker, query.text, found, settings)]

    made: dict[str, Way] = {"BM25": lambda _, legs: _ordered(legs.lexical, retriever)}
    if retriever.embedder is not None:
        made |= {
            "MiniLM": lambda _, legs: _ordered(legs.dense, retriever),
            "RRF-60": lambda _, legs: _ordered(reciprocal_ranks(legs.lexical, _nearest(legs)), retriever),
            "fusion": lambda _, legs: _ordered(fused(legs), retriever),
        }
    name = "fusion + reranker" if retriever.embedder is not None else "BM25 + reranker"
    return {**made, name: with_reranker}


def _nearest(legs: Legs) -> dict[int, float]:
    """The dense leg as it was searched, without the cosines of what only BM25 found."""
    return dict(sorted(legs.dense.items(), key=lambda item: (-item[1], item[0]))[:_DEPTH])


def measure(folder: Path, settings: RetrieveSettings, cache: Path, most: int | None) -> tuple[int, int, dict[str, Row]]:
    judged = read_beir(folder, "test")
    assert judged.corpus is not None
    queries: Sequence[JudgedQuery] = judged.queries
    if most is not None and most < len(queries):
        queries = random.Random(_SEED).sample(list(queries), most)
    retriever = open_corpus(judged.corpus, settings, cache)
    rankings = ways(retriever, settings)
    scores: dict[str, list[float | None]] = {name: [] for name in rankings}
    for query in track(queries, f"searching {folder.name}"):
        legs = retriever.legs(query.text, _DEPTH)
        for name, rank in rankings.items():
            scores[name].append(ndcg([i for i in rank(query, legs) if i != query.id], query.relevant))
    clusters = [q.id for q in queries]

    def against(name: str, other: str) -> Difference | None:
        if name == other or other not in scores:
            return None
        return difference(scores[name], scores[other], clusters, _SAMPLES, _SEED, baseline=other)

    rows = {
        name: Row(summarise(found, clusters, _SAMPLES, _SEED), against(name, "BM25"), against(name, "RRF-60"))
        for name, found in scores.items()
    }
    return len(queries), len(judged.corpus), rows


def told(name: str, rows: dict[str, Row]) -> list[str]:
    lines = [f"  {'':18} {'nDCG@10':24} {'minus BM25':26} {'minus RRF-60':26} aim"]
    for way, row in rows.items():
        aim = AIMS.get(name, {}).get(way)
        met = (
            ""
            if aim is None or row.figure.value is None
            else f"{aim:.3f} {'reached' if row.figure.value >= aim else 'missed'}"
        )
        cells = [_cell(row.figure, ".3f"), _cell(row.to_bm25, "+.3f"), _cell(row.to_rrf, "+.3f")]
        lines.append(f"  {way:18} {cells[0]:24} {cells[1]:26} {cells[2]:26} {met}".rstrip())
    return lines


def _cell(figure: Interval | None, style: str) -> str:
    if figure is None or figure.value is None:
        return ""
    return f"{figure.value:{style}} [{figure.low:{style}}, {figure.high:{style}}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    parser.add_argument("--sets", nargs="+", default=list(AIMS), choices=list(AIMS))
    parser.add_argument("--cache", type=Path, default=Path("build/vectors"), help="folder that keeps the vectors")
    parser.add_argument("--queries", type=int, help="at most so many test questions, drawn with a fixed seed")
    parser.add_argument("--reranker", help="features model in place of the shipped one")
    parser.add_argument("--lexical-only", action="store_true", help="no vectors: BM25 with and without the reranker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    embedding = "none" if options.lexical_only else "all-MiniLM-L6-v2"
    settings = RetrieveSettings(embedding=embedding, rerank="features", rerank_model=options.reranker)
    results: dict[str, object] = {}
    for name in options.sets:
        folder = options.corpora / name
        if not (folder / "corpus.jsonl").is_file():
            print(f"skipped: {name} is not there, looked in {folder}; name its folder with --corpora", file=sys.stderr)
            continue
        count, passages, rows = measure(folder, settings, options.cache, options.queries)
        results[name] = {
            "queries": count,
            "passages": passages,
            "aims": AIMS[name],
            "rows": {
                way: {
                    "ndcg@10": row.figure.model_dump(mode="json"),
                    "minus BM25": None if row.to_bm25 is None else row.to_bm25.model_dump(mode="json"),
                    "minus RRF-60": None if row.to_rrf is None else row.to_rrf.model_dump(mode="json"),
                }
                for way, row in rows.items()
            },
        }
        if not options.json:
            print("\n".join([f"{name}: {count} test questions over {passages} passages", *told(name, rows), ""]))
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
