"""Which questions of a benchmark stand in rows to be trained on: word for word, by runs of words, or nearly so in meaning.

A figure on a benchmark says nothing once its questions, or texts that hold them, were trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.data.overlap import ngrams
from fieldwise.errors import DatasetError
from fieldwise.progress import track
from fieldwise.rows.reading import Row, read_rows

HELD_SHARE = 0.8
"""A question of which so large a share of runs of eight words stands in the rows has been seen."""
NEAR_COSINE = 0.95
"""Questions whose embeddings are so close ask the same thing in other words."""
_QUESTION = ("question", "query", "prompt", "instruction", "input")
_ANSWER = ("answer", "output", "response", "completion", "expected")
_BATCH = 256


class BenchmarkItem(NamedTuple):
    """A question of a benchmark with its known answer, if there is one; `place` names it for people."""

    place: str
    question: str
    answer: str = ""


class Benchmark(NamedTuple):
    """Questions under one name."""

    name: str
    items: tuple[BenchmarkItem, ...]


class Contaminated(NamedTuple):
    """What of a benchmark stands in the rows: places of the questions found each way, in the order of the benchmark."""

    items: int
    same: list[str]
    by_ngrams: list[str]
    near: list[str] | None
    """None where meaning was not compared."""

    @property
    def seen(self) -> list[str]:
        """Every question that was found in one way or another, once."""
        return list(dict.fromkeys([*self.same, *self.by_ngrams, *(self.near or ())]))


def read_benchmark(path: Path) -> Benchmark:
    """Read questions from a file of rows; raises DatasetError when no row holds one."""
    items = []
    for read in read_rows(path):
        if isinstance(read, Row):
            question = _text(read.values, _QUESTION)
            if question:
                items.append(BenchmarkItem(f"{path.name}:{read.number}", question, _text(read.values, _ANSWER)))
    if not items:
        raise DatasetError(
            "no row holds a question", where=path, fix=f"Name its column one of: {', '.join(_QUESTION)}."
        )
    return Benchmark(path.stem, tuple(items))


def _text(values: dict[str, object], names: Sequence[str]) -> str:
    return next((v.strip() for n in names if isinstance(v := values.get(n), str) and v.strip()), "")


class Contamination:
    """Compares rows as they come with benchmarks; with `embed` their questions in meaning too."""

    def __init__(self, benchmarks: Sequence[Benchmark], *, embed: bool = False) -> None:
        self.benchmarks = benchmarks
        self.embed = embed
        self._vectors: NDArray[np.float32] | None = None
        self._questions = {_plain(i.question) for b in benchmarks for i in b.items}
        self._searched = {g for b in benchmarks for i in b.items for g in ngrams(f"{i.question}\n{i.answer}")}
        self._found: set[int] = set()
        self._same: set[str] = set()
        self._asked: dict[str, None] = {}

    def add(self, question: str, text: str) -> None:
        """Compare a row: the question it asks, and all it holds."""
        plain = _plain(question)
        if plain in self._questions:
            self._same.add(plain)
        self._found.update(self._searched.intersection(ngrams(text)))
        if self.embed and plain:
            self._asked[plain] = None

    def results(self) -> dict[str, Contaminated]:
        """Return what was found of each benchmark."""
        return {b.name: self._result(b) for b in self.benchmarks}

    def asked_in_other_words(self, items: Sequence[BenchmarkItem]) -> list[str]:
        """Return the places of the questions that a row asks too, told by their meaning."""
        if self._vectors is None:
            self._vectors = _embedded(self._asked, "embedding the rows")
        return [item.place for item in _near(items, self._vectors)]

    def _result(self, benchmark: Benchmark) -> Contaminated:
        same, held = [], []
        for item in benchmark.items:
            if _plain(item.question) in self._same:
                same.append(item.place)
            grams = set(ngrams(f"{item.question}\n{item.answer}"))
            if grams and len(grams & self._found) >= HELD_SHARE * len(grams):
                held.append(item.place)
        near = self.asked_in_other_words(benchmark.items) if self.embed else None
        return Contaminated(len(benchmark.items), same, held, near)


def _near(items: Sequence[BenchmarkItem], rows: NDArray[np.float32]) -> Iterable[BenchmarkItem]:
    if not len(rows) or not items:
        return
    wanted = _embedded([_plain(i.question) for i in items], "embedding the questions held against them")
    for begin in range(0, len(items), _BATCH):
        nearest = (wanted[begin : begin + _BATCH] @ rows.T).max(1)
        yield from (i for i, c in zip(items[begin : begin + _BATCH], nearest, strict=True) if c >= NEAR_COSINE)


def _embedded(texts: Iterable[str], label: str) -> NDArray[np.float32]:
    from fieldwise.retrieve.embed import MiniLmEmbedder

    embedder, known = MiniLmEmbedder(), list(texts)
    parts = [known[n : n + _BATCH] for n in range(0, len(known), _BATCH)]
    made = [embedder.encode(part) for part in track(parts, label)]
    return np.concatenate(made) if made else np.zeros((0, embedder.dimensions), np.float32)


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
