"""Questions to measure on: the user's file, or the test split of the generated examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from fieldwise.errors import DatasetError
from fieldwise.evaluate.metrics import normalise
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.files import read_jsonl
from fieldwise.prompts import is_declined
from fieldwise.records import Document, Example, Question
from fieldwise.retrieve.decline import LEAST_ITEMS, too_few_questions


def read_questions(path: Path, key: str = "evaluate.questions") -> list[Question]:
    """Read a JSON Lines file of questions: `question` and `answer` (null if the documents do not say) are needed.

    `id`, `aliases`, `document`, `quote`, `kind`, `domain` and `difficulty` are optional; `key` is what in the recipe names the file.
    """
    if not path.is_file():
        raise DatasetError(
            "the questions are not there",
            where=key,
            found=path,
            fix="Name a JSON Lines file with question and answer, or leave the key out to use the generated test split.",
        )
    questions: list[Question] = []
    for number, row in enumerate(read_jsonl(path), 1):
        try:
            questions.append(Question.model_validate({"id": f"q{number:04d}", **row}))
        except ValidationError as error:
            first = error.errors()[0]
            raise DatasetError(
                f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}",
                where=f"{path}:{number}",
                found=str(row)[:80],
                fix='A line looks like {"question": "...", "answer": "..." or null}.',
            ) from error
        if blank := next((k for k in ("question", "answer") if not str(row[k]).strip()), None):
            raise DatasetError(
                f"{blank}: nothing but blanks",
                where=f"{path}:{number}",
                found=str(row)[:80],
                fix="Write it out; the answer null says that the documents do not tell.",
            )
    repeated = sorted(i for i, times in Counter(q.id for q in questions).items() if times > 1)
    if repeated:
        raise DatasetError(
            "ids stand twice", where=path, found=", ".join(repeated[:5]), fix="Give every question an id of its own."
        )
    if not questions:
        raise DatasetError("the file holds no question", where=path)
    return questions


def read_development(settings: EvaluateSettings) -> list[Question]:
    """Read the development questions and check them before anything is spent on them; none if the recipe names none.

    Raises DatasetError if they are too few, or if one of them is measured on as well.
    """
    if settings.development is None:
        return []
    path = Path(settings.development)
    questions = read_questions(path, "evaluate.development")
    without = sum(q.answer is None for q in questions)
    if min(without, len(questions) - without) < LEAST_ITEMS:
        raise too_few_questions(len(questions) - without, without)
    measured = read_questions(Path(settings.questions)) if settings.questions is not None else []
    known = {normalise(q.question) for q in measured}
    shared = [q for q in questions if normalise(q.question) in known]
    if shared:
        raise DatasetError(
            "development questions are measured on as well",
            where=path,
            found=f"{len(shared)} in both files, such as {shared[0].question!r}",
            fix="What chose and tuned a model cannot judge it: keep the two files apart.",
        )
    return questions


def from_examples(examples: Sequence[Example], uris: dict[str, str]) -> list[Question]:
    """Turn held-out examples into questions, one for each wording.

    Rows of the user's own that need their context or the turns before are no question that stands alone, nor is a task
    on passages.
    """
    questions: dict[str, Question] = {}
    for example in examples:
        needs_context = example.style == "grounded" and not example.chunk_ids
        is_task = example.style == "task" or bool(example.tools)
        if needs_context or is_task or sum(m.role == "user" for m in example.conversation) > 1:
            continue
        declined = is_declined(example.answer)
        if declined and example.style == "grounded":
            continue  # the documents do answer it; only the passages shown did not
        questions.setdefault(
            example.question.casefold(),
            Question(
                id=example.id,
                question=example.question,
                answer=None if declined else example.answer,
                kind=example.kind,
                document=uris.get(example.document_ids[0]) if example.document_ids and not declined else None,
                quote=example.evidence[0].quote if example.evidence else None,
            ),
        )
    return list(questions.values())


def document_uris(documents: Sequence[Document]) -> dict[str, str]:
    """Document id -> uri."""
    return {d.id: d.source.uri for d in documents}


def point_to_kept(
    questions: Sequence[Question], collected: dict[str, str], kept: dict[str, str], groups: dict[str, str]
) -> list[Question]:
    """Let questions about a dropped duplicate point to the copy that was kept.

    `collected` and `kept` are uri -> document id, `groups` document id -> group of equal and nearly equal documents.
    """
    copies: dict[str, list[str]] = {}
    for uri, identifier in kept.items():
        copies.setdefault(groups.get(identifier, identifier), []).append(uri)

    def moved(question: Question) -> Question:
        if question.document is None or question.document in kept or question.document not in collected:
            return question
        found = copies.get(groups.get(collected[question.document], ""), [])
        return question.model_copy(update={"document": found[0]}) if len(found) == 1 else question

    return [moved(q) for q in questions]
