"""Chunks and questions for the benchmarks of the store: real text where it is there, else made-up, with its vectors.

Real: clauses of ObliQA and documents of `pretrain/` below the folder of corpora, cut every 100 words, and the questions
of ObliQA. Made-up: 100 words a chunk, drawn from the passages that come with the package, rare words rarely. Either way
all-MiniLM-L6-v2 embeds the first 13,000, once: the vectors are kept, block by block, so that a run that was stopped goes
on. Each further chunk gets the vector of one of these with as much noise as lies between neighbours: what is measured is
how long a search takes and how many of the nearest vectors it finds, not how good the passages are.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.hashing import sha256_text
from fieldwise.progress import track
from fieldwise.records import Chunk, Document, Source
from fieldwise.retrieve.embed import MiniLmEmbedder

CORPORA = Path(__file__).resolve().parents[2] / "shared/corpora"
_CLAUSES, _FILES = "retrieval/obliqa", ("medquad_docs", "dc_code", "sec_filings", "fomc_minutes")
_WORDS, _LEAST_WORDS, _DOCUMENT_CHUNKS = 100, 20, 50
_BLOCK = 1000
_EMBEDDED = 13_000
_NOISE = 0.6  # length of what is added to a unit vector: a cosine of about .86
QUESTIONS = 500
Vectors = NDArray[np.float32]


class Corpus:
    """Chunks by document with vectors, and questions; read from a folder when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "corpus"
        about = json.loads((self.folder / "about.json").read_text("utf-8"))
        self.name, self.model = str(about["name"]), str(about["model"])
        self.questions: list[str] = about["questions"]
        self.question_vectors: Vectors = np.load(self.folder / "question_vectors.npy")

    @property
    def documents(self) -> list[list[str]]:
        found: list[list[str]] = json.loads((self.folder / "documents.json").read_text("utf-8"))
        return found

    @property
    def chunks(self) -> list[str]:
        """All chunks, one document after the other."""
        return [chunk for document in self.documents for chunk in document]

    @property
    def vectors(self) -> Vectors:
        found: Vectors = np.load(self.folder / "vectors.npy")
        return found

    @property
    def tenth(self) -> NDArray[np.bool_]:
        """Which documents, drawn at random, make up a tenth of the chunks."""
        found: NDArray[np.bool_] = np.load(self.folder / "tenth.npy")
        return found

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Which chunks these are."""
        return np.repeat(self.tenth, [len(document) for document in self.documents])

    def nearest(self, count: int = 10) -> tuple[list[set[int]], list[set[int]]]:
        """Return the true nearest chunks of every question, of all and of those allowed."""
        everything = self.vectors @ self.question_vectors.T
        some = np.where(self.allowed[:, None], everything, -2)
        best = (np.argpartition(-scores, count, axis=0)[:count].T for scores in (everything, some))
        first, second = ([set(row.tolist()) for row in rows] for rows in best)
        return first, second

    def entries(self) -> Iterator[Any]:
        """Yield the documents as they are put into a store."""
        from fieldwise.store.protocol import Entry

        vectors, at = self.vectors, 0
        for number, (texts, tenth) in enumerate(zip(self.documents, self.tenth.tolist(), strict=True)):
            document, chunks = document_of(f"{number}", texts)
            rows = vectors[at : at + len(texts)]
            yield Entry(document, chunks, ["everyone"], fields={"tenth": tenth}, vectors=rows, model=self.model)
            at += len(texts)


def document_of(uri: str, texts: Sequence[str]) -> tuple[Document, list[Chunk]]:
    """Return a document whose lines are these texts, and a chunk for each."""
    document = Document.make(title="", text="\n".join(texts), source=Source(uri=uri))
    chunks, start = [], 0
    for text in texts:
        chunks.append(Chunk.make(document, start, start + len(text)))
        start += len(text) + 1
    return document, chunks


def make(folder: Path, size: int, options: argparse.Namespace) -> Corpus:
    """Write a corpus, if it is not there, and open it."""
    place = folder / "corpus"
    if not (place / "about.json").is_file():
        found = _texts(size, options.corpora or CORPORA)
        place.mkdir(parents=True, exist_ok=True)
        embedder = MiniLmEmbedder(1)
        np.save(place / "vectors.npy", _vectors(found.chunks, embedder, options.cache))
        np.save(place / "question_vectors.npy", embedder.encode(found.questions))
        np.save(place / "tenth.npy", _tenth([len(document) for document in found.documents]))
        (place / "documents.json").write_text(json.dumps(found.documents), "utf-8")
        about = {"name": found.name, "model": embedder.fingerprint, "questions": found.questions}
        (place / "about.json").write_text(json.dumps(about), "utf-8")
    return Corpus(folder)


def _tenth(sizes: list[int]) -> NDArray[np.bool_]:
    """Documents in random order, as long as they are a tenth of the chunks at most."""
    chosen, left = np.zeros(len(sizes), np.bool_), sum(sizes) // 10
    for number in np.random.default_rng(2).permutation(len(sizes)):
        if sizes[number] <= left:
            chosen[number] = True
            left -= sizes[number]
    return chosen


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `make` asks for, and what all benchmarks of the store share."""
    parser.add_argument("--corpora", type=Path, help="folder of the corpora (default: beside the repository)")
    parser.add_argument("--cache", type=Path, default=Path("build/vectors"), help="keeps the vectors of chunks")
    parser.add_argument("--keep", type=Path, help="keep what is built below this folder, and use what is there")
    parser.add_argument("--json", action="store_true")


class _Texts(NamedTuple):
    """Chunks by document, and questions; `name` says where they are from."""

    name: str
    documents: list[list[str]]
    questions: list[str]

    @property
    def chunks(self) -> list[str]:
        """All chunks, one document after the other."""
        return [chunk for document in self.documents for chunk in document]


def _texts(size: int, corpora: Path) -> _Texts:
    """Return so many chunks and questions: real ones where the corpora hold enough, else made-up ones."""
    if (corpora / _CLAUSES / "corpus.jsonl").is_file():
        documents = _first(_real(corpora), size)
        if sum(map(len, documents)) == size:
            lines = (corpora / _CLAUSES / "queries.jsonl").read_text("utf-8").splitlines()
            asked = [str(json.loads(line)["text"]) for line in lines]
            order = np.random.default_rng(0).permutation(len(asked))
            return _Texts("real", documents, [asked[n] for n in order[:QUESTIONS]])
        print(f"skipped: {corpora} has less than {size} chunks; made-up text instead", file=sys.stderr)
    else:
        print(f"skipped: no {_CLAUSES} below {corpora}; made-up text instead", file=sys.stderr)
    rng = np.random.default_rng(0)
    passages = json.loads(resources.files("fieldwise.ranking").joinpath("everyday.json").read_text("utf-8"))["passages"]
    words = np.array(sorted({w for passage in passages for w in passage.split()}))
    rng.shuffle(words)
    share = 1 / np.arange(1, len(words) + 1)
    share /= share.sum()
    made = [" ".join(row) for row in words[rng.choice(len(words), (size, _WORDS), p=share)]]
    asked = [" ".join(row) for row in words[rng.choice(len(words), (QUESTIONS, 12), p=share)]]
    return _Texts("made-up", [made[n : n + _DOCUMENT_CHUNKS] for n in range(0, size, _DOCUMENT_CHUNKS)], asked)


def _real(corpora: Path) -> Iterator[list[str]]:
    with (corpora / _CLAUSES / "corpus.jsonl").open(encoding="utf-8") as lines:
        clauses: dict[int, list[str]] = {}
        for line in lines:
            row = json.loads(line)
            if row["text"].strip():
                clauses.setdefault(row["metadata"]["doc"], []).append(row["text"])
    yield from clauses.values()
    for name in _FILES:
        path = corpora / "pretrain" / f"{name}.jsonl.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as rows:
                for row in rows:
                    words = json.loads(row)["text"].split()
                    cut = [" ".join(words[n : n + _WORDS]) for n in range(0, len(words), _WORDS)]
                    cut = [text for text in cut if len(text.split()) >= _LEAST_WORDS]
                    yield from (cut[n : n + _DOCUMENT_CHUNKS] for n in range(0, len(cut), _DOCUMENT_CHUNKS))


def _first(documents: Iterator[list[str]], size: int) -> list[list[str]]:
    found: list[list[str]] = []
    left = size
    for document in documents:
        if not left:
            break
        found.append(document[:left])
        left -= len(found[-1])
    return found


def _vectors(chunks: list[str], embedder: MiniLmEmbedder, cache: Path) -> Vectors:
    """Return unit vectors of chunks; those that were embedded are kept in a folder, block by block."""
    cache.mkdir(parents=True, exist_ok=True)
    blocks = []
    for begin in track(range(0, min(len(chunks), _EMBEDDED), _BLOCK), "embedding"):
        part = chunks[begin : begin + _BLOCK]
        path = cache / f"{sha256_text(json.dumps([embedder.fingerprint, part]))[:20]}.npy"
        if not path.is_file():
            temporary = path.with_suffix(".tmp.npy")
            np.save(temporary, embedder.encode(part).astype(np.float16))
            temporary.rename(path)
        blocks.append(np.load(path).astype(np.float32))
    real = np.concatenate(blocks)
    rng = np.random.default_rng(1)
    more = real[rng.integers(len(real), size=max(0, len(chunks) - len(real)))]
    more = more + rng.standard_normal(more.shape).astype(np.float32) * np.float32(_NOISE / real.shape[1] ** 0.5)
    values = np.concatenate([real, more])
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
