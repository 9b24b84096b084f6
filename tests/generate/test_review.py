"""A review sheet upon examples: what a fix makes of each shape, and what cannot be put on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldwise.errors import DatasetError
from fieldwise.generate.review import Reviewed, apply, guarded, read_sheet, unguarded, write_sheet
from fieldwise.prompts import closed_prompt, grounded_prompt
from fieldwise.records import NOT_STATED, Chunk, Evidence, Example, Message

LOG = "The log is kept for 14 days. The bag is kept for 3 weeks."
CHUNKS = [
    Chunk(id="chk_log", document_id="d", uri="a.md", title="A", start=0, end=9, text=LOG),
    Chunk(id="chk_door", document_id="d", uri="b.md", title="B", start=0, end=9, text="The door is blue."),
]
PASSAGES = [c.text for c in CHUNKS]


def example(question: str, answer: str, *, grounded: bool = False, split: str = "train", said: str = "") -> Example:
    prompt = grounded_prompt(question, PASSAGES) if grounded else closed_prompt(question)
    declines = answer == NOT_STATED
    reply = said or (f"{answer} [1]" if grounded and not declines else answer)
    return Example.make(
        question=question,
        answer=answer,
        kind="unanswerable" if declines else "fact",
        style="grounded" if grounded else "closed",
        conversation=(*prompt, Message(role="assistant", content=reply)),
        evidence=() if declines else (Evidence(chunk_id="chk_log", quote="The log is kept for 14 days."),),
        chunk_ids=("chk_log", "chk_door"),
        document_ids=("d",),
        split=split,  # type: ignore[arg-type]
    )


CLOSED = example("How long is the log kept?", "14 days")
GROUNDED = example("How long is the log kept?", "14 days", grounded=True)
DECLINES = example("What colour is the door?", NOT_STATED, grounded=True)


def reviewed(tmp_path: Path, examples: list[Example], *rows: str) -> Reviewed:
    path = tmp_path / "back.csv"
    path.write_text("\n".join(["id,verdict,corrected_question,corrected_answer,note", *rows]) + "\n")
    return apply(read_sheet(path, {e.id: e for e in examples}), examples, CHUNKS)


def test_a_fixed_answer_takes_the_sentence_that_holds_it_as_its_proof(tmp_path: Path) -> None:
    found = reviewed(tmp_path, [CLOSED, GROUNDED], f"{CLOSED.id},fix,How long is the bag kept?,3 weeks,")
    closed, grounded = found.examples
    assert (
        closed.conversation[1].content == "How long is the bag kept?" and closed.conversation[-1].content == "3 weeks"
    )
    assert closed.evidence[0].quote == "The bag is kept for 3 weeks." == grounded.evidence[0].quote
    assert grounded.conversation[:-1] == grounded_prompt("How long is the bag kept?", PASSAGES)
    assert grounded.conversation[-1].content == "3 weeks [1]" and grounded.chunk_ids == GROUNDED.chunk_ids
    assert closed.id != CLOSED.id and [c.was for c in found.corrections] == [CLOSED.id, GROUNDED.id]
    assert all(c.in_source for c in found.corrections)


def test_a_row_of_its_own_stands_before_what_another_wording_says(tmp_path: Path) -> None:
    found = reviewed(tmp_path, [CLOSED, GROUNDED], f"{CLOSED.id},drop,,,", f"{GROUNDED.id},keep,,,good")
    assert found.examples == [GROUNDED] and found.corrections[0].note == "good"
    disputed = reviewed(tmp_path, [CLOSED, GROUNDED], f"{CLOSED.id},fix,,2 weeks,", f"{GROUNDED.id},fix,,3 weeks,")
    assert [e.answer for e in disputed.examples] == ["2 weeks", "3 weeks"]


def test_an_answer_fixed_to_a_decline_loses_mark_and_evidence(tmp_path: Path) -> None:
    (made,) = reviewed(tmp_path, [GROUNDED], f"{GROUNDED.id},fix,,not stated in the documents,").examples
    assert (made.answer, made.conversation[-1].content, made.kind) == (NOT_STATED, NOT_STATED, "unanswerable")
    assert made.evidence == ()


def test_a_decline_fixed_to_an_answer_cites_the_passage_that_holds_it(tmp_path: Path) -> None:
    (made,) = reviewed(tmp_path, [DECLINES], f"{DECLINES.id},fix,,blue,").examples
    assert made.conversation[-1].content == "blue [2]"
    assert made.evidence[0].chunk_id == "chk_door" and made.evidence[0].quote == "The door is blue."


@pytest.mark.parametrize(
    ("others", "row", "told"),
    [
        ([], f"{DECLINES.id},fix,,green,", "no passage that is shown holds"),
        (
            [example("Is it kept?", "yes", split="test")],
            f"{DECLINES.id},fix,is it kept?,blue,",
            "other side|another side",
        ),
        ([CLOSED, example("How long?", "14 days")], f"{CLOSED.id},fix,How long?,,", "says the same already"),
    ],
)
def test_a_fix_that_does_not_fit_takes_the_example_out(
    tmp_path: Path, others: list[Example], row: str, told: str
) -> None:
    examples = [*others, DECLINES]
    found = reviewed(tmp_path, examples, row)
    (left_out,) = found.rejected
    assert left_out.reason == "review_not_applied" and left_out.item == row.partition(",")[0]
    assert any(part in left_out.detail for part in told.split("|")) and "back.csv:2" in left_out.detail
    assert len(found.examples) == len(examples) - 1


def test_an_answer_in_the_persons_own_words_is_taken_and_told(tmp_path: Path) -> None:
    found = reviewed(tmp_path, [CLOSED], f"{CLOSED.id},fix,,a fortnight,")
    assert found.examples[0].answer == "a fortnight" and found.examples[0].evidence == CLOSED.evidence
    assert found.facts["not_in_source"] == 1


def test_a_row_of_several_turns_is_fixed_in_its_last_turns_only(tmp_path: Path) -> None:
    turns = (
        Message(role="user", content="Hello"),
        Message(role="assistant", content="Hi"),
        Message(role="user", content="How long?"),
        Message(role="assistant", content="2 days"),
    )
    own = Example.make(question="How long?", answer="2 days", kind="chat", conversation=turns, document_ids=("r:1",))
    (made,) = reviewed(tmp_path, [own], f"{own.id},fix,How long is it?,14 days,").examples
    assert [m.content for m in made.conversation] == ["Hello", "Hi", "How long is it?", "14 days"]
    other = own.model_copy(update={"answer": "something else"})
    assert reviewed(tmp_path, [other], f"{other.id},fix,,14 days,").rejected[0].reason == "review_not_applied"


def test_a_sheet_as_spreadsheets_save_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    lines = ["Id;Question;Answer;Verdict;Note", f"{CLOSED.id};How long is the log kept?;zwölf Tage;FIX;geprüft", ""]
    path.write_bytes("\r\n".join(lines).encode("cp1252"))
    (entry,) = read_sheet(path, {CLOSED.id: CLOSED}).entries.values()
    assert (entry.decision, entry.question, entry.answer, entry.note) == ("fix", None, "zwölf Tage", "geprüft")


def test_the_one_column_of_the_first_sheet_takes_a_verdict_or_the_right_answer(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    path.write_text(f"id,question,answer,correction\n{CLOSED.id},x,y,15 days\n{DECLINES.id},x,y,Drop\n")
    entries = read_sheet(path, {e.id: e for e in (CLOSED, DECLINES)}).entries
    assert (entries[CLOSED.id].decision, entries[CLOSED.id].answer) == ("fix", "15 days")
    assert entries[DECLINES.id].decision == "drop"


def test_the_same_decision_twice_counts_once(tmp_path: Path) -> None:
    found = reviewed(tmp_path, [CLOSED], f"{CLOSED.id},drop,,,", f"{CLOSED.id},drop,,,again")
    assert found.examples == [] and [r.reason for r in found.rejected] == ["reviewed_drop"]


def test_a_file_without_ids_is_no_sheet(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("question,answer\na,b\n")
    with pytest.raises(DatasetError, match="needs the column id"):
        read_sheet(path, {})


@pytest.mark.parametrize("cell", ["=1+1", "+49", "-3 °C", "@x", "'quoted", "plain", ""])
def test_cells_survive_the_guard_against_formulas(cell: str) -> None:
    assert unguarded(guarded(cell)) == cell
    assert not guarded(cell).startswith(("=", "+", "-", "@"))


def test_a_sheet_of_a_run_runs_nothing_in_a_spreadsheet_and_comes_back_as_it_was(tmp_path: Path) -> None:
    danger = example("=HYPERLINK(1)", "-14 days")
    write_sheet(tmp_path / "review.csv", [CLOSED, danger])
    written = (tmp_path / "review.csv").read_text(encoding="utf-8")
    assert "'=HYPERLINK(1)" in written and ",'-14 days," in written
    read = read_sheet(tmp_path / "review.csv", {e.id: e for e in (CLOSED, danger)})
    assert read.untouched == 2 and not read.aside
