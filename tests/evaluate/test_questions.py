import json
from pathlib import Path

import pytest

from fieldwise.errors import DatasetError
from fieldwise.evaluate.asking import answer_questions
from fieldwise.evaluate.questions import from_examples, point_to_kept, read_questions
from fieldwise.prompts import closed_prompt
from fieldwise.records import NOT_STATED, Answer, Example, Message, Question


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return path


def test_a_line_needs_only_question_and_answer(tmp_path: Path) -> None:
    found = read_questions(
        write(
            tmp_path / "q.jsonl", {"question": "How long?", "answer": "14 days"}, {"question": "Who?", "answer": None}
        )
    )
    assert [(q.id, q.answer) for q in found] == [("q0001", "14 days"), ("q0002", None)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "How long?"}], r"q\.jsonl:1: answer: field required"),
        (
            [{"question": "a", "answer": "b"}, {"question": "a", "answer": 3}],
            r"q\.jsonl:2: answer: input should be a valid string",
        ),
        ([{"question": "a", "answer": "b", "colour": "red"}], "colour: extra inputs are not permitted"),
        ([{"id": "x", "question": "a", "answer": "b"}] * 2, "ids stand twice, found x"),
        ([{"question": "a", "answer": " "}], r"q\.jsonl:1: answer: nothing but blanks"),
        ([{"question": "", "answer": None}], r"q\.jsonl:1: question: nothing but blanks"),
        ([], "holds no question"),
    ],
)
def test_a_bad_file_is_told_with_its_line(tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_questions(write(tmp_path / "q.jsonl", *rows))


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="leave the key out"):
        read_questions(tmp_path / "none.jsonl")


def test_questions_about_a_dropped_duplicate_point_to_the_kept_copy() -> None:
    questions = [
        Question(id=u, question="?", answer="x", document=u) for u in ("copy.html", "kept.docx", "unknown.pdf")
    ]
    moved = point_to_kept(
        questions, {"copy.html": "d1", "kept.docx": "d2"}, {"kept.docx": "d2"}, {"d1": "g", "d2": "g"}
    )
    assert [q.document for q in moved] == ["kept.docx", "kept.docx", "unknown.pdf"]


def test_held_out_examples_become_questions_once() -> None:
    def example(question: str, answer: str, style: str = "closed") -> Example:
        return Example.make(
            question=question,
            answer=answer,
            kind="fact",
            style=style,
            conversation=closed_prompt(question),
            document_ids=("d",),
        )

    found = from_examples(
        [
            example("A?", "x"),
            example("a?", "x", "grounded"),
            example("B?", NOT_STATED),
            example("C?", NOT_STATED, "grounded"),
        ],
        {"d": "d.md"},
    )
    assert [(q.question, q.answer, q.document) for q in found] == [("A?", "x", "d.md"), ("B?", None, None)]


class Counting:
    name = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answer_all(self, conversations, known=()):
        for conversation in conversations:
            self.asked.append(conversation[-1].content)
            yield Answer(text="x", answer="x", model="m")


def test_an_answered_question_is_never_asked_again(tmp_path: Path) -> None:
    questions = [Question(id=str(n), question=f"Q{n}", answer="x") for n in range(4)]
    ledger = tmp_path / "ledger.jsonl"
    answer_questions(Counting(), questions[:2], ledger)
    with ledger.open("a") as stream:
        stream.write('{"id": "3", "ans')  # killed while writing
    second = Counting()
    assert len(answer_questions(second, questions, ledger)) == 4
    assert second.asked == ["Q2", "Q3"]


def test_names_of_slices_are_read_and_change_no_question_that_has_none(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"question": "Who?", "answer": "I", "domain": "ward", "difficulty": "hard"}\n{"question": "What?", "answer": null}'
    )
    named, plain = read_questions(path)
    assert (named.domain, named.difficulty) == ("ward", "hard")
    assert not {"domain", "difficulty"} & set(plain.model_dump(mode="json"))  # its hash is that of earlier versions


def test_a_row_that_needs_its_context_or_earlier_turns_is_no_question() -> None:
    def turns(*texts: str) -> tuple[Message, ...]:
        return tuple(Message(role="assistant" if n % 2 else "user", content=text) for n, text in enumerate(texts))

    def row(question: str, style: str, *texts: str) -> Example:
        return Example.make(
            question=question, answer="So", kind="chat", style=style, conversation=turns(*texts), split="test"
        )

    rows = [
        row("Why?", "closed", "Why?", "So"),
        row("And then?", "closed", "Why?", "So", "And then?", "So"),
        row("Is it void?", "grounded", "[1] A clause.\n\nIs it void?", "So"),
    ]
    assert [q.question for q in from_examples(rows, {})] == ["Why?"]
