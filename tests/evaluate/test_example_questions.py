"""The two files of example questions: what each promises, and that what tunes the system is not what judges it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldwise.evaluate.metrics import normalise
from fieldwise.evaluate.questions import read_development, read_questions
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.records import Question

QUESTIONS = Path(__file__).parents[2] / "examples" / "questions"
MEASURED = QUESTIONS / "healthcare.jsonl"
DEVELOPMENT = QUESTIONS / "healthcare-development.jsonl"
SUPERSEDED = {"infection-control-hand-hygiene-v4.docx", "visitor-rules-2022.md"}


def spans(question: Question) -> set[str]:
    """The answer and its aliases, normalised; empty if the documents do not say."""
    return {normalise(text) for text in (question.answer, *question.aliases) if text is not None}


def answered(path: Path) -> list[Question]:
    return [q for q in read_questions(path) if q.answer is not None]


def test_development_questions_are_enough_and_none_of_them_is_measured_on() -> None:
    found = read_development(EvaluateSettings(questions=str(MEASURED), development=str(DEVELOPMENT)))
    assert sum(q.answer is not None for q in found) >= 60
    assert sum(q.answer is None for q in found) >= 60


@pytest.mark.parametrize("path", [MEASURED, DEVELOPMENT], ids=lambda path: path.stem)
def test_no_example_question_is_asked_twice(path: Path) -> None:
    found = read_questions(path)
    assert len({q.id for q in found}) == len(found)
    assert len({normalise(q.question) for q in found}) == len(found)


def test_no_development_question_asks_for_an_answer_that_is_measured_on() -> None:
    measured = {(q.document, span) for q in answered(MEASURED) for span in spans(q)}
    shared = [q.id for q in answered(DEVELOPMENT) if any((q.document, span) in measured for span in spans(q))]
    assert shared == []


def test_the_answer_of_a_development_question_stands_in_its_quote() -> None:
    found = answered(DEVELOPMENT)
    missing = [q.id for q in found if q.quote is None or not any(s in normalise(q.quote) for s in spans(q))]
    assert missing == []
    assert SUPERSEDED.isdisjoint(q.document for q in found)


def test_development_questions_without_an_answer_name_no_document() -> None:
    declined = [q for q in read_questions(DEVELOPMENT) if q.answer is None]
    assert all((q.document, q.quote, q.aliases) == (None, None, ()) for q in declined)
