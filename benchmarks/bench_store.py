"""The document store beside its peers: queries a second by words and by meaning, filtered, memory, opening, ingest.

    python benchmarks/bench_store.py [--sizes 13000,100000] [--rounds 5] [--queries 100] [--keep DIR] [--peers PYTHON]
                                     [--engines store,bm25s,lancedb,chroma] [--corpora DIR] [--cache DIR] [--json]

Text, questions and vectors: see store_corpus.py, the same for all; where there are no corpora the text is made up, and
the first line says so. Words: best 10; all leave stop words out. Meaning: the question's vector given, best 10, with the
share of the true ten that was found. "filtered" allows a tenth of the documents, drawn at random. "hybrid" is what a search does: 50 candidates of each leg and the ten best fetched;
embedding of the query is not part of it (bench_hybrid.py). Peers: bm25s, LanceDB (full text without positions, HNSW_SQ,
ef 128), Chroma (HNSW as it comes), with the Python that --peers names; what is not installed there is skipped.

Every engine is a process of its own, on one thread as far as it lets itself be told. They take turns: a round asks each
engine the same queries (for at most --seconds), and the ratios are the middle ones over the rounds. On a machine that
others use too, the CPU seconds count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from store_corpus import QUESTIONS, Corpus, Vectors, add_options, make
from workers import Figure, in_turn, open_workers, run, short

FIGURES = ("words", "words_filtered", "meaning", "meaning_filtered", "hybrid")
NEEDS = {"store": ["tantivy"], "bm25s": ["bm25s"], "lancedb": ["lancedb"], "chroma": ["chromadb"]}


# ---------------------------------------------------------------- engines


class Engine:
    """What all engines share: the corpus, and where they keep what they made of it."""

    def __init__(self, folder: Path) -> None:
        self.corpus = Corpus(folder)
        self.place = folder / type(self).__name__.lower()

    def query(self, n: int) -> str:
        return self.corpus.questions[n % QUESTIONS]

    def vector(self, n: int) -> Vectors:
        found: Vectors = self.corpus.question_vectors[n % QUESTIONS]
        return found


class Store(Engine):
    def build(self) -> None:
        from fieldwise.store.local import LocalStore

        with LocalStore.open(self.place) as store, store.batch():
            for entry in self.corpus.entries():
                store.put(entry)

    def open(self) -> None:
        from fieldwise.store.filters import Eq
        from fieldwise.store.local import LocalStore
        from fieldwise.store.protocol import Identity, QueryVector, Scope

        self.store = LocalStore.read(self.place)
        self.reader = Identity("default", frozenset({"everyone"}))
        self.everything, self.tenth = Scope(self.reader), Scope(self.reader, Eq("tenth", True))
        self.asked = lambda n: QueryVector(self.corpus.model, self.vector(n))
        self.store.candidates("word1", self.asked(0), self.everything, 10)
        with self.store.catalogue.reading() as db:  # keys come in the order of rows
            self.rows = {int(key): row for row, key in enumerate(db.chunk_documents(0)[:, 0])}

    def words(self, n: int) -> None:
        self.store.candidates(self.query(n), None, self.everything, 10)

    def words_filtered(self, n: int) -> None:
        self.store.candidates(self.query(n), None, self.tenth, 10)

    def meaning(self, n: int) -> list[int]:
        return [self.rows[key] for key in self.store.candidates("nowhere", self.asked(n), self.everything, 10).dense]

    def meaning_filtered(self, n: int) -> list[int]:
        return [self.rows[key] for key in self.store.candidates("nowhere", self.asked(n), self.tenth, 10).dense]

    def hybrid(self, n: int) -> None:
        hits = self.store.candidates(self.query(n), self.asked(n), self.everything, 50)
        self.store.fetch(sorted(hits.dense, key=lambda key: -hits.dense[key])[:10], self.reader)


class Bm25s(Engine):
    def build(self) -> None:
        import bm25s

        index = bm25s.BM25(k1=1.2, b=0.75)
        index.index(bm25s.tokenize(self.corpus.chunks, show_progress=False), show_progress=False)
        index.save(str(self.place))
        np.save(self.place / "allowed.npy", self.corpus.allowed.astype(np.float32))

    def open(self) -> None:
        import bm25s

        self.tokenize, self.index = bm25s.tokenize, bm25s.BM25.load(str(self.place))
        self.allowed = np.load(self.place / "allowed.npy")

    def words(self, n: int, allowed: Vectors | None = None) -> None:
        terms = self.tokenize([self.query(n)], show_progress=False, return_ids=False)
        self.index.retrieve(terms, k=10, show_progress=False, weight_mask=allowed)

    def words_filtered(self, n: int) -> None:
        self.words(n, self.allowed)


class Lancedb(Engine):
    def build(self) -> None:
        import lancedb
        import pyarrow as pa

        texts = self.corpus.chunks
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(self.corpus.vectors.ravel()), self.corpus.vectors.shape[1])
        columns = {
            "row": np.arange(len(texts)),
            "text": texts,
            "tenth": self.corpus.allowed,
            "vector": vectors,
        }
        made = lancedb.connect(str(self.place)).create_table("chunks", pa.table(columns))
        made.create_fts_index("text", with_position=False, stem=True, remove_stop_words=True)
        made.create_index(metric="cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ", num_partitions=1)
        made.create_scalar_index("tenth")
        made.optimize()

    def open(self) -> None:
        import lancedb

        self.table = lancedb.connect(str(self.place)).open_table("chunks")

    def words(self, n: int, where: str | None = None) -> None:
        query = self.table.search(self.query(n), query_type="fts").limit(10).select(["row", "_score"])
        (query.where(where, prefilter=True) if where else query).to_arrow()

    def words_filtered(self, n: int) -> None:
        self.words(n, "tenth = true")

    def meaning(self, n: int, where: str | None = None) -> list[int]:
        query = self.table.search(self.vector(n)).distance_type("cosine").ef(128).limit(10).select(["row", "_distance"])
        found = (query.where(where, prefilter=True) if where else query).to_arrow()["row"].to_pylist()
        return [int(row) for row in found]

    def meaning_filtered(self, n: int) -> list[int]:
        return self.meaning(n, "tenth = true")


class Chroma(Engine):
    def _client(self) -> Any:
        import chromadb

        return chromadb.PersistentClient(str(self.place), chromadb.Settings(anonymized_telemetry=False))

    def build(self) -> None:
        made = self._client().create_collection("chunks", configuration={"hnsw": {"space": "cosine"}})
        vectors, allowed = self.corpus.vectors, self.corpus.allowed
        for begin in range(0, len(vectors), 5000):
            rows = range(begin, min(begin + 5000, len(vectors)))
            made.add(
                ids=[str(row) for row in rows],
                embeddings=vectors[rows.start : rows.stop],
                metadatas=[{"tenth": bool(allowed[row])} for row in rows],
            )

    def open(self) -> None:
        self.collection = self._client().get_collection("chunks", embedding_function=None)

    def meaning(self, n: int, where: dict[str, Any] | None = None) -> list[int]:
        found = self.collection.query(query_embeddings=[self.vector(n)], n_results=10, where=where, include=[])
        return [int(row) for row in found["ids"][0]]

    def meaning_filtered(self, n: int) -> list[int]:
        return self.meaning(n, {"tenth": True})


ENGINES: dict[str, type[Engine]] = {"store": Store, "bm25s": Bm25s, "lancedb": Lancedb, "chroma": Chroma}


# ---------------------------------------------------------------- the store alone

_CHANGES = """
import json, sys, time
from pathlib import Path
import numpy as np
from fieldwise.store.local import LocalStore
from fieldwise.store.protocol import Entry
from store_corpus import Corpus, document_of
corpus = Corpus(Path(sys.argv[1]))
texts, vectors = corpus.chunks[:1000], corpus.vectors[:1000]
new = []
for n in range(0, 1000, 50):
    document, chunks = document_of(f"{n}", texts[n : n + 50])
    new.append(Entry(document, chunks, ["everyone"], tenant="other", vectors=vectors[n : n + 50], model=corpus.model))
began = time.perf_counter()
with LocalStore.open(Path(sys.argv[1]) / "store") as store:
    out = {"open_for_writing_seconds": time.perf_counter() - began}
    began, cpu = time.perf_counter(), time.process_time()
    with store.batch():
        for entry in new:
            store.put(entry)
    added, cpu_added = time.perf_counter(), time.process_time()
    store.delete_all([entry.document.source.uri for entry in new], "other")
    out |= {"add_1000_seconds": added - began, "add_1000_cpu_seconds": cpu_added - cpu}
    out |= {"delete_1000_seconds": time.perf_counter() - added, "delete_1000_cpu_seconds": time.process_time() - cpu_added}
print(json.dumps(out))
"""
_OPENING = """
import json, sys, time
from pathlib import Path
from fieldwise.store.local import LocalStore
from fieldwise.store.protocol import Identity, QueryVector, Scope
from store_corpus import Corpus
corpus = Corpus(Path(sys.argv[1]))
began, cpu = time.perf_counter(), time.process_time()
with LocalStore.read(Path(sys.argv[1]) / "store") as store:
    scope = Scope(Identity("default", frozenset({"everyone"})))
    store.candidates(corpus.questions[0], QueryVector(corpus.model, corpus.question_vectors[0]), scope, 10)
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
print(json.dumps(took | store.stats()._asdict()))
"""


def alone(code: str, *arguments: Path) -> dict[str, Any]:
    here = Path(__file__).resolve()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[1] / "src"), str(here.parent)])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    value: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=env).stdout)
    return value


# ---------------------------------------------------------------- measured


def measure(folder: Path, size: int, options: argparse.Namespace) -> dict[str, Any]:
    corpus = make(folder, size, options)
    true = dict(zip(("meaning", "meaning_filtered"), corpus.nearest(), strict=True))
    workers = open_workers(options, __file__, folder, NEEDS)
    figures = {name: {f: Figure() for f in FIGURES if hasattr(ENGINES[name], f)} for name in workers}
    hits: dict[tuple[str, str], list[int]] = {}
    for turn in range(options.rounds):
        for figure in FIGURES:
            names = [name for name in workers if figure in figures[name]]
            for name in in_turn(names, turn):
                begin = turn * options.queries
                reply = workers[name].ask(figure, begin=begin, count=options.queries, seconds=options.seconds)
                figures[name][figure].add(reply)
                if figure in true:
                    for n, rows in reply["found"].items():
                        counted = hits.setdefault((name, figure), [0, 0])
                        counted[0] += len(set(rows) & true[figure][int(n) % QUESTIONS])
                        counted[1] += 10
    out: dict[str, Any] = {}
    for name, measured in figures.items():
        out[name] = {
            "build": json.loads((folder / f"{name}.built").read_text()),
            "memory": workers[name].ask("memory"),
            **{figure: value.summary() for figure, value in measured.items()},
        }
        for figure in true:
            if (name, figure) in hits:
                out[name][figure]["recall"] = hits[name, figure][0] / hits[name, figure][1]
        if name != "store" and "store" in figures:
            own = figures["store"]
            out[name]["store_is_times"] = {f: own[f].times(value) for f, value in measured.items()}
    for worker in workers.values():
        worker.close()
    if "store" in workers:
        out["store"]["open_and_first_search"] = alone(_OPENING, folder)
        out["store"]["changes"] = alone(_CHANGES, folder)
    return out


def show(size: int, engines: dict[str, dict[str, Any]]) -> None:
    for name, figures in engines.items():
        for figure, value in figures.items():
            if figure == "store_is_times":
                for of, ratio in value.items():
                    told = f"clock {ratio['wall']:.1f}  CPU {ratio['cpu']:.1f}"
                    print(f"{size:>9,} store is times {name:8} {of:22} {told}", flush=True)
            else:
                text = "  ".join(f"{k} {short(v)}" for k, v in value.items())
                print(f"{size:>9,} {name:9} {figure:22} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(run(__doc__ or "", ENGINES, measure, show, add_options, queries=100, seconds=5))
