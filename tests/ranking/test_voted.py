import json
from pathlib import Path

import pytest
from judged_run import chunks, documents, make_run, question_rows

from fieldwise.errors import DatasetError
from fieldwise.evaluate.questions import read_questions
from fieldwise.files import write_jsonl
from fieldwise.ranking.judged import JudgedSet
from fieldwise.ranking.reading import from_questions, read_beir
from fieldwise.ranking.voted import VotedAnswer, with_votes
from fieldwise.records import Answer, Citation


def answer(*quoted: str, is_verified: bool = True) -> Answer:
    citations = tuple(
        Citation(
            mark=n,
            chunk_id=chunk,
            document_id="d",
            uri="u",
            title="",
            start=0,
            end=1,
            quote="q",
            is_verified=is_verified,
        )
        for n, chunk in enumerate(quoted, 1)
    )
    return Answer(text="a", answer="a", model="m", citations=citations)


@pytest.fixture
def judged(tmp_path: Path) -> JudgedSet:
    write_jsonl(tmp_path / "q.jsonl", question_rows())  # type: ignore[arg-type]
    return from_questions(read_questions(tmp_path / "q.jsonl"), chunks(), documents(), name="q")


def test_what_only_the_preferred_answer_quotes_is_relevant(judged: JudgedSet) -> None:
    voted = [VotedAnswer("v1", "Who?", answer("a", "both"), answer("b", "both"))] * 2
    voted.append(VotedAnswer("v1", "Who?", answer("b"), answer("a")))  # another voter, outvoted
    voted.append(VotedAnswer("v2", "What?", answer("c", is_verified=False), answer("d")))
    found = with_votes(judged, voted, [])
    added = found.queries[len(judged.queries) :]
    assert [(q.id, q.text, dict(q.relevant)) for q in added] == [("vote:v1", "Who?", {"a": 1})]


def test_questions_that_are_measured_on_teach_nothing(judged: JudgedSet) -> None:
    with pytest.raises(DatasetError, match=r"no vote tells.*1 votes on questions that are measured on"):
        with_votes(judged, [VotedAnswer("v1", "Who?", answer("a"), answer("b"))], ["who"])


def test_votes_are_about_the_passages_of_the_run(tmp_path: Path) -> None:
    from judged_run import make_beir

    with pytest.raises(DatasetError, match="passages of its own"):
        with_votes(read_beir(make_beir(tmp_path), "train"), [], [])


def test_a_run_without_answers_to_vote_on_is_told(tmp_path: Path) -> None:
    from test_retrieval_command import call

    run, more = make_run(tmp_path), tmp_path / "more.jsonl"
    write_jsonl(more, [row for n in range(4) for row in question_rows(f"m{n}-", "so " * (n + 1))])  # type: ignore[list-item]
    with pytest.raises(DatasetError, match="there are not two systems to compare"):
        call("learn", more, "--run", run, "--votes")


def test_the_command_learns_from_what_people_voted_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_retrieval_command import call

    from fieldwise.compare.comparison import open_comparison
    from fieldwise.compare.votes import LEDGER, BallotBox
    from fieldwise.run import RunFolder

    run, more = make_run(tmp_path), tmp_path / "more.jsonl"
    write_jsonl(more, [row for n in range(12) for row in question_rows(f"m{n}-", "so " * (n + 1))])  # type: ignore[list-item]
    right, wrong = chunks()[0].id, chunks()[-1].id
    for system, chunk in (("left", right), ("right", wrong)):
        said = answer(chunk).model_copy(update={"text": f"{system} [1]", "answer": system})
        row = {
            "id": "v1",
            "question": "Until when may visitors stay, and where do staff park on level 3?",
            "answer": said.model_dump(mode="json"),
        }
        write_jsonl(run / f"5_reports/predictions/{system}.jsonl", [row])
    comparison = open_comparison(RunFolder(run))
    box = BallotBox(run / LEDGER, comparison)
    showing, _ = box.next("v1")
    assert showing is not None
    assert box.vote("v1", showing.token, "left" if showing.left == "left" else "right", 9.0, "terminal") is not None
    learnt_from = []
    for extra in ((), ("--votes",)):
        assert call("learn", more, "--run", run, "--json", "--out", tmp_path / "model.json", *extra) == 0
        learnt_from.append(json.loads(capsys.readouterr().out)["learnt_from"])
    assert learnt_from[1] == learnt_from[0] + 1
