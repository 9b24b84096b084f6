"""Predictions and votes for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldwise.compare.comparison import Comparison, open_comparison
from fieldwise.compare.votes import BallotBox, Choice
from fieldwise.files import write_jsonl
from fieldwise.records import Answer, Chunk, Citation, RetrievedPassage
from fieldwise.run import RunFolder


def chunk(number: int) -> Chunk:
    return Chunk(
        id=f"chk_{number}", document_id="doc_1", uri="rules.md", title="Rules", start=0, end=9, text=f"Rule {number}."
    )


def answer(text: str, passages: Sequence[int] = ()) -> Answer:
    """An answer; over passages it cites the first."""
    cited = Citation(
        mark=1,
        chunk_id="chk_0",
        document_id="doc_1",
        uri="rules.md",
        title="Rules",
        start=0,
        end=7,
        quote="Rule 0.",
        is_verified=True,
    )
    return Answer(
        text=text,
        answer=text.replace(" [1]", ""),
        model="hidden-model-name",
        citations=(cited,) if passages else (),
        passages=tuple(RetrievedPassage(chunk=chunk(n), score=1.0) for n in passages),
    )


def write_predictions(run: RunFolder, system: str, answers: dict[str, Answer]) -> Path:
    path = run.path / f"5_reports/predictions/{system}.jsonl"
    write_jsonl(
        path,
        (
            {
                "id": q,
                "question": f"What does {q} say?",
                "expected": None,
                "answer": a.model_dump(mode="json", exclude={"timings"}),
                "scores": {},
            }
            for q, a in answers.items()
        ),
    )
    return path


def make_run(folder: Path, questions: int = 40, systems: Sequence[str] = ("base", "tuned")) -> RunFolder:
    run = RunFolder(folder)
    for system in systems:
        write_predictions(run, system, {f"q{n:03}": answer(f"{system} says {n} [1]", (0, 1)) for n in range(questions)})
    return run


def cast(box: BallotBox, voter: str, preferred: str | None, count: int, seconds: float = 60.0) -> None:
    """Let a voter prefer one system so many times; None votes for the left side whatever stands there."""
    for _ in range(count):
        showing, _ = box.next(voter)
        assert showing is not None
        choice: Choice = "left" if preferred in (None, showing.left) else "right"
        assert box.vote(voter, showing.token, choice, seconds, "page") is not None


def box_of(run: RunFolder, comparison: Comparison | None = None) -> BallotBox:
    return BallotBox(run.path / "5_reports/votes.jsonl", comparison or open_comparison(run))
