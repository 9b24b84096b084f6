"""Questions, who answers them, and a ledger so that none is asked twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from fieldwise.errors import DatasetError
from fieldwise.evaluate.questions import (
    document_uris,
    from_examples,
    point_to_kept,
    read_questions,
)
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.files import append_jsonl, read_json, read_ledger
from fieldwise.hashing import content_id, sha256_file
from fieldwise.interfaces import Answerer, Engine, Retriever, Sampling
from fieldwise.progress import track
from fieldwise.records import Answer, Chunk, Document, Example, Message, Question, RetrievedPassage
from fieldwise.retrieve.decline import DeclineRule
from fieldwise.retrieve.grounded import ClosedAnswerer, GroundedAnswerer
from fieldwise.retrieve.index import NAME as INDEX
from fieldwise.retrieve.index import open_index
from fieldwise.retrieve.once import Once
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.tables import read_records


def load_questions(settings: EvaluateSettings, run: RunFolder) -> list[Question]:
    """Return the questions to measure on."""
    documents = list(read_records(run.require("2_chunks/documents.parquet", "prepare"), Document))
    if settings.questions is not None:
        collected = read_records(run.require("1_documents/documents.parquet", "collect"), Document)
        groups = {str(k): str(v) for k, v in read_json(run.require("2_chunks/groups.json", "prepare")).items()}
        return point_to_kept(
            read_questions(Path(settings.questions)),
            {d.source.uri: d.id for d in collected},
            {d.source.uri: d.id for d in documents},
            groups,
        )
    examples = list(read_records(run.require("3_examples/test.parquet", "generate"), Example))
    questions = from_examples(examples, document_uris(documents))
    if not questions:
        raise DatasetError(
            "there are no questions to measure on",
            where="evaluate.questions",
            found="an empty test split",
            fix="Name a file of questions, or raise generate.split.test.",
        )
    return questions


def make_answerer(
    system: str,
    engine: Engine,
    run: RunFolder,
    retrieve: RetrieveSettings,
    sampling: Sampling,
    decline: DeclineRule | None = None,
) -> ClosedAnswerer | GroundedAnswerer:
    """Return the answerer of a system over an engine that runs its weights; `decline` adds to the model's own words.

    Systems that are asked by one process search once for a question and make its prompt once; the index is only opened
    for a question that none of them was asked.
    """
    if not system.startswith("rag"):
        return ClosedAnswerer(system, engine, sampling, once=_shared(str(run.path.resolve())))
    path, folder = run.require("2_chunks/chunks.parquet", "prepare"), run.path / "2_chunks/index"
    same = content_id("shr", sha256_file(path), sha256_file(folder / INDEX), retrieve.keyed())
    index = _Unopened(lambda: open_index(list(read_records(path, Chunk)), folder, retrieve))
    return GroundedAnswerer(system, engine, index, retrieve, sampling, decline, once=_shared(same))


@lru_cache(maxsize=2)  # of one index, and of prompts without passages: what others found takes memory
def _shared(of: str) -> Once:
    """What the systems that this process asks have in common."""
    del of
    return Once()


class _Unopened:
    """A retriever that is opened when it is first searched."""

    def __init__(self, opened: Callable[[], Retriever]) -> None:
        self._opened = opened

    @cached_property
    def _retriever(self) -> Retriever:
        return self._opened()

    def search(self, query: str, top_k: int) -> list[RetrievedPassage]:
        """Return the best passages, best first."""
        return self._retriever.search(query, top_k)


def decline_rule(run: RunFolder) -> DeclineRule | None:
    """Return the rule fitted with the choice of the weights; None if the recipe named no development questions."""
    value = read_json(run.require("4_adapters/selected.json", "train")).get("decline")
    return DeclineRule.model_validate(value) if isinstance(value, dict) else None


def answer_questions(answerer: Answerer, questions: Sequence[Question], ledger: Path) -> list[Answer]:
    """Answer every question once: what a ledger already holds is not asked again."""
    known = {str(row["id"]): Answer.model_validate(row["answer"]) for row in read_ledger(ledger)}
    missing = [q for q in questions if q.id not in known]
    conversations = [(Message(role="user", content=q.question),) for q in missing]
    for question, answer in zip(
        missing,
        track(
            answerer.answer_all(conversations, [q.answer for q in missing]),
            f"answers of {answerer.name}",
            total=len(missing),
        ),
        strict=True,
    ):
        known[question.id] = answer
        append_jsonl(ledger, {"id": question.id, "answer": answer.model_dump(mode="json")})
    return [known[q.id] for q in questions]


def tuned(run: RunFolder) -> list[str]:
    """The trainings that left weights; the folder of one that was switched off may still stand there, empty."""
    return [
        name for name in ("sft", "preference", "rl") if (run.path / f"4_adapters/{name}/merged/config.json").is_file()
    ]
