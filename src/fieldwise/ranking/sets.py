"""Which judged set a command means: what a path names, or the questions of the run itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fieldwise.errors import DatasetError
from fieldwise.evaluate.asking import load_questions
from fieldwise.evaluate.metrics import normalise
from fieldwise.evaluate.questions import read_questions
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.ranking.corpus import open_corpus
from fieldwise.ranking.judged import JudgedSet
from fieldwise.ranking.reading import from_questions, from_split, is_beir, read_beir, read_trec
from fieldwise.ranking.tune import enough, halves
from fieldwise.records import Chunk, Document, Example
from fieldwise.retrieve.index import open_index
from fieldwise.retrieve.search import HybridRetriever
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.tables import read_records

_TRAINING_SPLITS = ("train", "dev", "validation")
_QUESTION_FILES = (".jsonl", ".json")


class Asked(NamedTuple):
    """What the command line names."""

    path: Path | None
    queries: Path | None = None
    split: str | None = None


class Bench:
    """A run with its passages, read once, and the sets it can be measured on."""

    def __init__(self, run: RunFolder, evaluate: EvaluateSettings, retrieve: RetrieveSettings) -> None:
        self.run, self.evaluate, self.retrieve = run, evaluate, retrieve
        self._chunks: list[Chunk] | None = None

    @property
    def chunks(self) -> list[Chunk]:
        """The passages of the run."""
        if self._chunks is None:
            self._chunks = list(read_records(self.run.require("2_chunks/chunks.parquet", "prepare"), Chunk))
        return self._chunks

    def _documents(self) -> list[Document]:
        return list(read_records(self.run.require("2_chunks/documents.parquet", "prepare"), Document))

    def retriever(self, judged: JudgedSet) -> HybridRetriever:
        """The search of the run over its own passages, or over those that came with the set."""
        if judged.corpus is None:
            index = self.run.require("2_chunks/index/index.json", "prepare").parent
            return open_index(self.chunks, index, self.retrieve)
        return open_corpus(judged.corpus, self.retrieve, self.run.path / "work" / "retrieval")

    # ------------------------------------------------------------ to measure on

    def to_measure(self, asked: Asked) -> JudgedSet:
        """Return the set that a path names; without one the questions of the recipe, else the generated test split."""
        if asked.path is None:
            if asked.split is not None or self.evaluate.questions is None:
                return self._generated(asked.split or "test")
            questions = load_questions(self.evaluate, self.run)
            name = Path(self.evaluate.questions)
            return from_questions(questions, self.chunks, self._documents(), name=name.name, where=name)
        if is_beir(asked.path):
            return read_beir(asked.path, asked.split or "test")
        return self._file(asked.path, asked.queries)

    def _generated(self, split: str) -> JudgedSet:
        if split not in ("train", "validation", "test"):
            raise DatasetError(
                "there is no such split", where="--split", found=split, fix="Name train, validation or test."
            )
        examples = list(read_records(self.run.require(f"3_examples/{split}.parquet", "generate"), Example))
        return from_split(examples, self.chunks, self._documents(), split)

    def _file(self, path: Path, queries: Path | None) -> JudgedSet:
        if path.is_dir():
            raise DatasetError(
                "not a BEIR folder",
                where=path,
                found="no corpus.jsonl",
                fix="It holds corpus.jsonl, queries.jsonl, qrels/.",
            )
        if path.suffix in _QUESTION_FILES:
            questions = read_questions(path, "PATH")
            return from_questions(questions, self.chunks, self._documents(), name=path.name, where=path)
        if queries is None:
            if not path.is_file():
                raise DatasetError(
                    "there is nothing here",
                    where=path,
                    fix="Name a BEIR folder, a qrels file with --queries FILE, or questions as .jsonl.",
                )
            raise DatasetError("a qrels file holds no words", where=path, fix="Name the queries with --queries FILE.")
        return read_trec(path, queries, self.chunks)

    # ------------------------------------------------------------ to tune on

    def to_tune(self, asked: Asked, seed: int) -> tuple[JudgedSet, JudgedSet]:
        """Return questions to choose on and others to prove it on, none of them measured on.

        Without a path: `evaluate.development` in halves, else the generated train and validation splits.
        """
        if asked.split == "test":
            raise DatasetError(
                "settings are not chosen on the test split",
                where="--split",
                found="test",
                fix="What chose a setting cannot judge it: name a training split.",
            )
        if asked.path is None and self.evaluate.development is None:
            fit, held = self._generated("train"), self._generated("validation")
            enough(fit, held)
            return fit, held
        path = asked.path or Path(str(self.evaluate.development))
        if is_beir(path):
            return halves(read_beir(path, asked.split or _training_split(path)), seed)
        judged = self._file(path, asked.queries)
        self._refuse_measured(judged, path)
        return halves(judged, seed)

    def _refuse_measured(self, judged: JudgedSet, where: Path) -> None:
        if self.evaluate.questions is None:
            return
        measured = {normalise(q.question) for q in read_questions(Path(self.evaluate.questions))}
        shared = [q.text for q in judged.queries if normalise(q.text) in measured]
        if shared:
            raise DatasetError(
                "settings would be chosen on questions that are measured on",
                where=where,
                found=f"{len(shared)} of evaluate.questions, such as {shared[0]!r}",
                fix="What chose a setting cannot judge it: give other questions.",
            )


def _training_split(folder: Path) -> str:
    there: Sequence[str] = sorted(p.stem for p in (folder / "qrels").glob("*.tsv"))
    for split in _TRAINING_SPLITS:
        if split in there:
            return split
    raise DatasetError(
        "the set has no training split",
        where=folder / "qrels",
        found=", ".join(there) or "none",
        fix="Settings are not chosen on the test split: give a set with qrels/train.tsv.",
    )
