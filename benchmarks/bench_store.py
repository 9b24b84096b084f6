"""The document store beside its peers: queries a second by words and by meaning, filtered, memory, opening, ingest.

    python benchmarks/bench_store.py [--sizes 13000,100000] [--queries 300] [--store DIR] [--no-peers] [--json]

Made-up chunks of 100 words (Zipf, 30,000 words) and 384 numbers (clustered, as embeddings are), the same for all. Words:
12 terms a query, best 10. Meaning: best 10, with the share of the true ten that was found. "filtered" allows a tenth of
the documents, drawn at random. "hybrid" is what a search does: 50 candidates of each leg and the ten best fetched;
embedding of the query is not part of it. Peers are measured where they are installed: bm25s, LanceDB (full text without
positions, HNSW_SQ). All run on one thread as far as they let themselves be told.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LANCE_CPU_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from fieldwise.records import Chunk, Document, Source
from fieldwise.store.filters import Eq
from fieldwise.store.local import LocalStore
from fieldwise.store.protocol import Entry, Identity, QueryVector, Scope

DIMENSIONS, WORDS, CHUNK_WORDS, DOCUMENT_CHUNKS = 384, 30_000, 100, 50
MODEL = "made-up/1"
READER = Identity("default", frozenset({"everyone"}))
Vectors = NDArray[np.float32]


class Corpus:
    """Texts and vectors of so many chunks, and queries."""

    def __init__(self, chunks: int, queries: int) -> None:
        rng = np.random.default_rng(0)
        share = 1 / np.arange(1, WORDS + 1)
        share /= share.sum()
        names = np.array([f"word{n}" for n in range(WORDS)])
        self.texts = [" ".join(names[row]) for row in rng.choice(WORDS, (chunks, CHUNK_WORDS), p=share)]
        self.queries = [" ".join(names[row]) for row in rng.choice(WORDS, (queries, 12), p=share)]
        centres = rng.standard_normal((200, DIMENSIONS)).astype(np.float32)
        self.vectors = near(rng, centres, chunks)
        self.query_vectors = near(rng, centres, queries)
        self.tenth = rng.random(1 + chunks // DOCUMENT_CHUNKS) < 0.1  # of the documents

    def rows_allowed(self) -> NDArray[np.bool_]:
        return self.tenth[np.arange(len(self.texts)) // DOCUMENT_CHUNKS]

    def entries(self) -> Iterator[Entry]:
        for number, begin in enumerate(range(0, len(self.texts), DOCUMENT_CHUNKS)):
            texts = self.texts[begin : begin + DOCUMENT_CHUNKS]
            document = Document.make(title="", text="\n".join(texts), source=Source(uri=f"{number}"))
            chunks, start = [], 0
            for text in texts:
                chunks.append(Chunk.make(document, start, start + len(text)))
                start += len(text) + 1
            vectors = self.vectors[begin : begin + DOCUMENT_CHUNKS]
            fields = {"tenth": bool(self.tenth[number])}
            yield Entry(document, chunks, ["everyone"], fields=fields, vectors=vectors, model=MODEL)


def near(rng: np.random.Generator, centres: Vectors, count: int) -> Vectors:
    values = centres[rng.integers(len(centres), size=count)] + rng.standard_normal((count, DIMENSIONS)).astype(
        np.float32
    )
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def rate(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Queries a second of wall and of processor time, and the middle and 95th percentile in milliseconds."""
    for n in range(min(5, count)):
        work(n)
    seconds, began = [], time.process_time()
    for n in range(count):
        start = time.perf_counter()
        work(n)
        seconds.append(time.perf_counter() - start)
    cpu = max(time.process_time() - began, 1e-9)
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {"per_second": count / sum(seconds), "per_cpu_second": count / cpu, "p50_ms": p50, "p95_ms": p95}


def recall(found: Sequence[Sequence[int]], corpus: Corpus, allowed: NDArray[np.bool_] | None) -> float:
    hits = 0
    for row, query in zip(found, corpus.query_vectors, strict=True):
        scores = corpus.vectors @ query
        if allowed is not None:
            scores[~allowed] = -2
        hits += len(set(row) & set(np.argpartition(-scores, 10)[:10].tolist()))
    return hits / (10 * len(found))


# ---------------------------------------------------------------- the store


def of_store(corpus: Corpus, folder: Path) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if not (folder / "catalogue.sqlite").exists():
        with LocalStore.open(folder) as store:
            began, cpu = time.perf_counter(), time.process_time()
            with store.batch():
                for entry in corpus.entries():
                    store.put(entry)
            out["ingest"] = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    began = time.perf_counter()
    with LocalStore.open(folder) as store:
        out["open_for_writing_seconds"] = time.perf_counter() - began
        out["changes"] = changes(store)
    began = time.perf_counter()
    with LocalStore.read(folder) as store:
        everything, tenth = Scope(READER), Scope(READER, Eq("tenth", True))
        store.candidates("word1", QueryVector(MODEL, corpus.query_vectors[0]), everything, 10)
        out["open_and_first_search_seconds"] = time.perf_counter() - began
        out["stats"] = store.stats()._asdict()
        by_key = row_of_key(store, len(corpus.texts))
        count = len(corpus.queries)
        for name, scope in (("", everything), (", filtered", tenth)):
            out[f"words{name}"] = rate(lambda n, s=scope: store.candidates(corpus.queries[n], None, s, 10), count)
            found: list[list[int]] = [[]] * count

            def dense(n: int, scope: Scope = scope, found: list[list[int]] = found) -> None:
                hits = store.candidates("nowhere", QueryVector(MODEL, corpus.query_vectors[n]), scope, 10)
                found[n] = [by_key[key] for key in hits.dense]

            out[f"meaning{name}"] = rate(dense, count)
            out[f"meaning{name}"]["recall"] = recall(found, corpus, corpus.rows_allowed() if name else None)

        def hybrid(n: int) -> None:
            vector = QueryVector(MODEL, corpus.query_vectors[n])
            hits = store.candidates(corpus.queries[n], vector, everything, 50)
            store.fetch(sorted(hits.dense, key=lambda key: -hits.dense[key])[:10], READER)

        out["hybrid"] = rate(hybrid, count)
    out["serving"] = serving(folder)
    return out


def row_of_key(store: LocalStore, count: int) -> dict[int, int]:
    """The row in the corpus of every key; documents come in the order of their numbers."""
    with store.catalogue.reading() as db:
        pairs = db.chunk_documents(0)
    return {int(key): row for row, key in enumerate(pairs[:count, 0])}


def changes(store: LocalStore) -> dict[str, float]:
    """Seconds to add 1,000 chunks and to delete them again, each seen by both legs."""
    corpus = Corpus(1000, 1)
    entries = [
        Entry(e.document, e.chunks, e.groups, tenant="other", vectors=e.vectors, model=MODEL) for e in corpus.entries()
    ]
    began = time.perf_counter()
    with store.batch():
        for entry in entries:
            store.put(entry)
    added = time.perf_counter()
    store.delete_all([entry.document.source.uri for entry in entries], "other")
    return {"add_1000_seconds": added - began, "delete_1000_seconds": time.perf_counter() - added}


_SERVER = """
import json, sys, resource
from pathlib import Path
import numpy as np
from fieldwise.store.local import LocalStore
from fieldwise.store.protocol import Identity, QueryVector, Scope
rng = np.random.default_rng(1)
with LocalStore.read(Path(sys.argv[1])) as store:
    scope = Scope(Identity("default", frozenset({"everyone"})))
    for n in range(300):
        vector = QueryVector("made-up/1", rng.standard_normal(384).astype(np.float32))
        hits = store.candidates(" ".join(f"word{k}" for k in rng.integers(1, 3000, 12)), vector, scope, 50)
        store.fetch(list(hits.dense)[:10], scope.identity)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mb": round(peak), "torch": "torch" in sys.modules}))
"""


def serving(folder: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", _SERVER, str(folder)], capture_output=True, text=True, check=True)
    value: dict[str, Any] = json.loads(done.stdout)
    return value


# ---------------------------------------------------------------- peers


def of_bm25s(corpus: Corpus) -> dict[str, Any]:
    import bm25s

    index = bm25s.BM25(k1=1.2, b=0.75)
    began = time.process_time()
    index.index(bm25s.tokenize(corpus.texts, show_progress=False), show_progress=False)
    built = time.process_time() - began
    mask = corpus.rows_allowed().astype(np.float32)

    def ask(n: int, mask: NDArray[np.float32] | None = None) -> object:
        terms = bm25s.tokenize([corpus.queries[n]], show_progress=False, return_ids=False)
        return index.retrieve(terms, k=10, show_progress=False, weight_mask=mask)

    count = len(corpus.queries)
    return {
        "build_cpu_seconds": built,
        "words": rate(ask, count),
        "words, filtered": rate(lambda n: ask(n, mask), count),
    }


def of_lancedb(corpus: Corpus, folder: Path) -> dict[str, Any]:
    import lancedb
    import pyarrow as pa

    table = pa.table(
        {
            "row": np.arange(len(corpus.texts)),
            "text": corpus.texts,
            "tenth": corpus.rows_allowed(),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(corpus.vectors.ravel()), DIMENSIONS),
        }
    )
    began = time.process_time()
    made = lancedb.connect(str(folder)).create_table("chunks", table)
    made.create_fts_index("text", with_position=False, stem=True, remove_stop_words=False)
    made.create_index(metric="cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ", num_partitions=1)
    made.create_scalar_index("tenth")
    made.optimize()
    out: dict[str, Any] = {"build_cpu_seconds": time.process_time() - began}
    count = min(len(corpus.queries), 100)
    for name, where in (("", None), (", filtered", "tenth = true")):

        def words(n: int, where: str | None = where) -> object:
            query = made.search(corpus.queries[n], query_type="fts").limit(10).select(["row", "_score"])
            return (query.where(where, prefilter=True) if where else query).to_arrow()

        found: list[list[int]] = [[]] * count

        def dense(n: int, where: str | None = where, found: list[list[int]] = found) -> None:
            query = made.search(corpus.query_vectors[n]).metric("cosine").ef(128).limit(10).select(["row", "_distance"])
            got = (query.where(where, prefilter=True) if where else query).to_arrow()
            found[n] = got["row"].to_pylist()

        out[f"words{name}"] = rate(words, count)
        out[f"meaning{name}"] = rate(dense, count)
        part = Corpus.__new__(Corpus)
        part.vectors, part.query_vectors = corpus.vectors, corpus.query_vectors[:count]
        out[f"meaning{name}"]["recall"] = recall(found, part, corpus.rows_allowed() if name else None)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", default="13000,100000")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--store", type=Path, help="keep the stores below this folder, and use those that are there")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report: dict[str, dict[str, Any]] = {}
    lines: dict[str, Any]
    with tempfile.TemporaryDirectory() as temporary:
        for size in map(int, options.sizes.split(",")):
            corpus = Corpus(size, options.queries)
            place = (options.store or Path(temporary)) / str(size)
            lance = Path(temporary) / f"lance-{size}"
            works = {"store": partial(of_store, corpus, place)}
            if not options.no_peers and importlib.util.find_spec("bm25s"):
                works["bm25s"] = partial(of_bm25s, corpus)
            if not options.no_peers and importlib.util.find_spec("lancedb"):
                works["lancedb"] = partial(of_lancedb, corpus, lance)
            report[str(size)] = lines = {}
            for name, work in works.items():
                lines[name] = work()
                if not options.json:
                    show(size, name, lines[name])
            shutil.rmtree(lance, ignore_errors=True)
    if options.json:
        print(json.dumps(report, indent=2, default=float))
    return 0


def show(size: int, name: str, figures: dict[str, Any]) -> None:
    for figure, value in figures.items():
        text = value if not isinstance(value, dict) else "  ".join(f"{k} {_short(v)}" for k, v in value.items())
        print(f"{size:>9,} {name:8} {figure:32} {_short(text)}", flush=True)


def _short(value: object) -> str:
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )


if __name__ == "__main__":
    sys.exit(main())
