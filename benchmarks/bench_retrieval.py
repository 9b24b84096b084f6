"""How well the search finds, on two public sets: nDCG@10 of each leg, of fusions, and with rerankers.

    python benchmarks/bench_retrieval.py [--corpora ../shared/corpora/retrieval] [--sets scifact obliqa] [--cache build/vectors]
                                         [--train features|all] [--queries N] [--lexical-only] [--json]

| row | what ranks |
|---|---|
| BM25, MiniLM | the legs of our own search, 100 deep |
| RRF-60 | what many peers fuse by: the sum of 1 / (60 + rank) over both legs (Cormack et al. 2009) |
| fusion | our default: z-scores, 0.4 dense, 50 candidates of each leg |
| fusion of 100 | the same with `retrieve.candidates=100` |
| + reranker | with `retrieve.rerank: features`, as it is shipped: learnt on neither set |
| + learnt | with --train features: the features model learnt on the set's own training questions, 100 candidates |
| tuned: ..., + tuned, learnt | with --train all: the embedding model trained on one half of them (by passage), the features on the other |

All rank the same passages for the same test questions; intervals are of 95 %, differences paired. The sets may be
measured on only: what --train makes stays in the cache, and nothing that was learnt on them ships.

Vectors are made once and kept in the cache, so that a run that was stopped goes on; 5,000 abstracts take some two minutes
on two free cores, training the embedding model five to ten. The sets are no part of the project: what is not there is
skipped, and the script says so.
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
from fieldwise.ranking.judged import JudgedQuery, JudgedSet
from fieldwise.ranking.learn import learn_model
from fieldwise.ranking.measure import difference, summarise
from fieldwise.ranking.reading import read_beir
from fieldwise.ranking.train_embedder import LEARNING_RATE, pairs_of, train_on
from fieldwise.ranking.tune import RERANK_WEIGHTS, halves, narrowed
from fieldwise.records import Difference, Interval, RetrievedPassage
from fieldwise.retrieve.rerank import Reranker, open_reranker
from fieldwise.retrieve.search import HybridRetriever, Legs, fuse, reranked
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.store.retriever import reciprocal_ranks

CORPORA = Path(__file__).resolve().parents[2] / "shared/corpora/retrieval"
WITHOUT, WITH = "without reranker", "with trained reranker"
AIMS = {"scifact": {WITHOUT: 0.730, WITH: 0.735}, "obliqa": {WITHOUT: 0.695, WITH: 0.725}}
AIM_OF = {"fusion": WITHOUT, "fusion of 100": WITHOUT, "+ learnt": WITH, "+ tuned, learnt": WITH}
_DEPTH = 100
_SAMPLES, _SEED = 2000, 42
_CHOOSING = 200  # training questions that choose the share of the learnt score
Way = Callable[[JudgedQuery], list[str]]


class Row(NamedTuple):
    """One way to rank, over all questions."""

    figure: Interval
    to_bm25: Difference | None
    to_rrf: Difference | None
    to_fusion: Difference | None


class Searched:
    """A search whose legs are searched once for a question, 100 deep."""

    def __init__(self, retriever: HybridRetriever) -> None:
        self.retriever, self._legs = retriever, dict[str, Legs]()

    def legs(self, query: JudgedQuery) -> Legs:
        if query.id not in self._legs:
            self._legs[query.id] = self.retriever.legs(query.text, _DEPTH)
        return self._legs[query.id]

    def ids(self, scores: dict[int, float]) -> list[str]:
        return [self.retriever.chunks[row].document_id for row, _ in _ordered(scores)]

    def fused(self, query: JudgedQuery, settings: RetrieveSettings) -> dict[int, float]:
        narrow = narrowed(self.legs(query), settings.candidates)
        return fuse(narrow.lexical, narrow.dense, settings.dense_weight)

    def reranked(self, query: JudgedQuery, settings: RetrieveSettings, reranker: Reranker) -> list[str]:
        legs = self.legs(query)
        found = [
            RetrievedPassage(
                chunk=self.retriever.chunks[row], score=s, lexical=legs.lexical.get(row), dense=legs.dense.get(row)
            )
            for row, s in _ordered(self.fused(query, settings))[: settings.rerank_candidates]
        ]
        return [p.chunk.document_id for p in reranked(reranker, query.text, found, settings)]


def _ordered(scores: dict[int, float]) -> list[tuple[int, float]]:
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def _nearest(legs: Legs) -> dict[int, float]:
    """The dense leg as it was searched, without the cosines of what only BM25 found."""
    return dict(_ordered(legs.dense)[:_DEPTH])


def ways(searched: Searched, settings: RetrieveSettings) -> dict[str, Way]:
    """Every way to rank that needs no training on the set."""
    wide = settings.model_copy(update={"candidates": _DEPTH})
    shipped = open_reranker(settings, searched.retriever.embedder)
    assert shipped is not None
    made: dict[str, Way] = {"BM25": lambda q: searched.ids(searched.legs(q).lexical)}
    if searched.retriever.embedder is not None:
        made |= {
            "MiniLM": lambda q: searched.ids(searched.legs(q).dense),
            "RRF-60": lambda q: searched.ids(reciprocal_ranks(searched.legs(q).lexical, _nearest(searched.legs(q)))),
            "fusion": lambda q: searched.ids(searched.fused(q, settings)),
            "fusion of 100": lambda q: searched.ids(searched.fused(q, wide)),
        }
    return {**made, "+ reranker": lambda q: searched.reranked(q, settings, shipped)}


# ---------------------------------------------------------------- trained on the set's own training questions


def learnt(searched: Searched, teach: JudgedSet, settings: RetrieveSettings) -> Way:
    """Features learnt on the training questions, their share beside the search chosen on them too."""
    deep = settings.model_copy(update={"candidates": _DEPTH, "rerank_candidates": _DEPTH})
    searched.retriever.settings = deep
    reranker, _ = learn_model(teach, searched.retriever, notes={"questions_of": teach.name})

    def worth(weight: float) -> float:
        tried = deep.model_copy(update={"rerank_weight": weight})
        return sum(ndcg(searched.reranked(q, tried, reranker), q.relevant) for q in teach.queries[:_CHOOSING])

    chosen = deep.model_copy(update={"rerank_weight": max(RERANK_WEIGHTS, key=worth)})
    return lambda q: searched.reranked(q, chosen, reranker)


def tuned(
    folder: Path, teach: JudgedSet, searched: Searched, settings: RetrieveSettings, cache: Path
) -> tuple[Searched, JudgedSet]:
    """The search with an embedding model trained on half of the questions, and the other half to learn on."""
    first, second = halves(teach, _SEED)
    place = cache / f"embedder-{folder.name}"
    if not (place / "model.safetensors").is_file():
        current = searched.retriever.embedder
        assert current is not None
        place.mkdir(parents=True, exist_ok=True)
        train_on(
            pairs_of(first, searched.retriever, 10_000, _SEED), current.folder, place, rate=LEARNING_RATE, seed=_SEED
        )
    own = settings.model_copy(update={"embedding_model": str(place)})
    return Searched(open_corpus(searched.retriever.chunks, own, cache)), second


# ---------------------------------------------------------------- measured


def measure(
    folder: Path, settings: RetrieveSettings, cache: Path, most: int | None, *, trains: str | None
) -> tuple[int, int, dict[str, Row]]:
    judged = read_beir(folder, "test")
    assert judged.corpus is not None
    queries: Sequence[JudgedQuery] = judged.queries
    if most is not None and most < len(queries):
        queries = random.Random(_SEED).sample(list(queries), most)
    searched = Searched(open_corpus(judged.corpus, settings, cache))
    rankings = ways(searched, settings)
    teach = read_beir(folder, "train")
    if trains is not None:
        rankings["+ learnt"] = learnt(searched, teach, settings)
    if trains == "all":
        after, others = tuned(folder, teach, searched, settings, cache)
        rankings["tuned: MiniLM"] = lambda q: after.ids(after.legs(q).dense)
        rankings["tuned: fusion"] = lambda q: after.ids(after.fused(q, settings))
        rankings["+ tuned, learnt"] = learnt(after, others, settings)
    scores: dict[str, list[float | None]] = {name: [] for name in rankings}
    for query in track(queries, f"searching {folder.name}"):
        for name, rank in rankings.items():
            scores[name].append(ndcg([i for i in rank(query) if i != query.id], query.relevant))
    clusters = [q.id for q in queries]

    def against(name: str, other: str) -> Difference | None:
        if name == other or other not in scores:
            return None
        return difference(scores[name], scores[other], clusters, _SAMPLES, _SEED, baseline=other)

    rows = {
        name: Row(
            summarise(found, clusters, _SAMPLES, _SEED),
            *(against(name, other) for other in ("BM25", "RRF-60", "fusion")),
        )
        for name, found in scores.items()
    }
    return len(queries), len(judged.corpus), rows


def told(name: str, rows: dict[str, Row]) -> list[str]:
    lines = [f"  {'':16} {'nDCG@10':22} {'minus BM25':24} {'minus RRF-60':24} {'minus fusion':24} reach"]
    for way, row in rows.items():
        aim = AIMS[name].get(AIM_OF.get(way, ""))
        value = row.figure.value
        met = "" if aim is None or value is None else f"{aim:.3f} {'reached' if value >= aim else 'missed'}"
        cells = [_cell(row.figure, ".3f"), *(_cell(d, "+.3f") for d in (row.to_bm25, row.to_rrf, row.to_fusion))]
        lines.append(f"  {way:16} {cells[0]:22} {cells[1]:24} {cells[2]:24} {cells[3]:24} {met}".rstrip())
    return lines


def _cell(figure: Interval | None, style: str) -> str:
    if figure is None or figure.value is None:
        return ""
    return f"{figure.value:{style}} [{figure.low:{style}}, {figure.high:{style}}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    parser.add_argument("--sets", nargs="+", default=list(AIMS), choices=list(AIMS))
    parser.add_argument(
        "--cache", type=Path, default=Path("build/vectors"), help="folder that keeps vectors and weights"
    )
    parser.add_argument("--queries", type=int, help="at most so many test questions, drawn with a fixed seed")
    about = (
        "also what is trained on the set's own training questions: features in seconds, the embedding model in minutes"
    )
    parser.add_argument("--train", choices=["features", "all"], help=about)
    parser.add_argument("--lexical-only", action="store_true", help="no vectors: BM25 with and without the reranker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    embedding = "none" if options.lexical_only else "all-MiniLM-L6-v2"
    settings = RetrieveSettings(embedding=embedding, rerank="features")
    trains = None if options.lexical_only else options.train
    results: dict[str, object] = {}
    for name in options.sets:
        folder = options.corpora / name
        if not (folder / "corpus.jsonl").is_file():
            print(f"skipped: {name} is not there, looked in {folder}; name its folder with --corpora", file=sys.stderr)
            continue
        count, passages, rows = measure(folder, settings, options.cache, options.queries, trains=trains)
        results[name] = {
            "queries": count,
            "passages": passages,
            "reach": AIMS[name],
            "rows": {
                way: {
                    "ndcg@10": row.figure.model_dump(mode="json"),
                    **{f"minus {d.baseline}": d.model_dump(mode="json") for d in row[1:] if d is not None},
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
