"""What is said when the checks leave too little, or too little is there to hold something out."""

import pytest

from fieldwise.generate.settings import GenerateSettings, SplitSettings
from fieldwise.generate.stage import _read_off, _tell_empty, _too_few
from fieldwise.generate.teacher import Taught
from fieldwise.records import Chunk, Document, Rejection, Source

VAGUE = " ".join(
    f"{subject} may recommend {n} kinds of tests."
    for n, subject in enumerate(["A doctor", "The doctor", "Doctors", "Some doctors", "Your doctor", "A physician"], 2)
)


def chunk(text: str) -> Chunk:
    return Chunk.make(Document.make(title="t", text=text, source=Source(uri="t.md")), 0, len(text))


def read_off(text: str) -> str:
    only = chunk(text)
    taught = _read_off([only], {only.document_id: "train"}, GenerateSettings(), 7)
    return str(_too_few(taught, [only], GenerateSettings(), 0))


def test_when_the_rules_leave_nothing_their_check_is_named_with_five_of_what_it_left_out() -> None:
    told = read_off(VAGUE)
    assert "questions from 1 chunks; left out: " in told
    lines = [line for line in told.splitlines() if line.startswith("  ")]
    assert 1 <= len(lines) <= 5 and len({line.split(":")[0] for line in lines}) == 1 and "doctor" in told
    assert "teacher" not in told


def test_a_teacher_is_told_by_its_own_rules() -> None:
    left = [Rejection(stage="generate", item="c", reason="quote_not_in_chunk", detail=f"no {n}") for n in range(7)]
    told = str(_too_few(Taught(rejected=left), [chunk(VAGUE)], GenerateSettings(teacher="fake"), 0))
    assert "left out: 7 quote_not_in_chunk" in told and told.count("quote_not_in_chunk: no") == 5
    assert "take another model" in told


def test_a_text_that_gives_no_question_at_all_says_so_without_a_rule() -> None:
    told = read_off("So it was.")
    assert "0 questions from 1 chunks" in told and "left out" not in told


def test_a_set_too_small_to_hold_anything_out_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    _tell_empty({"train": 30, "validation": 0, "test": 0}, GenerateSettings(), 2)
    told = capsys.readouterr().err
    assert "nothing is held out for validation and test: 2 documents are too few" in told
    assert "evaluate.questions" in told
    none = GenerateSettings(split=SplitSettings(train=0.9, validation=0.1, test=0))
    _tell_empty({"train": 30, "validation": 3, "test": 0}, none, 9)
    assert capsys.readouterr().err == ""
