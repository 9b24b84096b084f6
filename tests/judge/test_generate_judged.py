"""A judge over generated pairs, and review sheets that come back, through the command line over a run that stands."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Answer, ChatServer, prompt_of, said

from fieldwise.cli import main
from fieldwise.files import read_json, read_ledger
from fieldwise.records import Example
from fieldwise.tables import read_records

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose examples the rules have made."""
    folder = tmp_path_factory.mktemp("judged")
    (folder / "documents").mkdir()
    for path in sorted((ROOT / "examples/documents/healthcare").glob("*.md"))[:8]:
        shutil.copy(path, folder / "documents")
    sources = f"collect.sources=[{folder / 'documents'}]"
    assert main(["run", "--end", "3", "--run", str(folder / "run"), sources, "retrieve.embedding=none"]) == 0
    return folder / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture
def judge() -> Iterator[ChatServer]:
    server = ChatServer(lambda body: verdict("right"))
    yield server
    server.close()


def verdict(word: str) -> Answer:
    return said(json.dumps({"explanation": f"It is {word}.", "verdict": word}))


def generate(run: Path, *overrides: str) -> int:
    return main(["generate", "--run", str(run), *overrides])


def judged_by(server: ChatServer, *more: str) -> list[str]:
    endpoint = "generate.judge.endpoint"
    return [f"{endpoint}.base_url={server.url}", f"{endpoint}.model=m", *more]


def outputs(run: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((run / "3_examples").iterdir())}


def examples(run: Path) -> list[Example]:
    return [e for s in ("train", "validation", "test") for e in read_records(run / f"3_examples/{s}.parquet", Example)]


def card(run: Path) -> dict[str, Any]:
    return dict(read_json(run / "3_examples/card.json"))


def rejected(run: Path, reason: str) -> list[dict[str, Any]]:
    return [dict(r) for r in read_ledger(run / "3_examples/rejected.jsonl") if r["reason"] == reason]


# ---------------------------------------------------------------- the judge


def test_a_judge_that_finds_everything_right_changes_no_example(made: Path, run: Path, judge: ChatServer) -> None:
    assert generate(run, *judged_by(judge)) == 0
    before, after = outputs(made), outputs(run)
    assert {n for n in after if after[n] != before[n]} == {"card.json"}
    facts = card(run)["judge"]
    assert facts["right"] == judge.count > 50 and facts["wrong"] == 0 and facts["not_scored"] == {}
    assert "judge" not in card(made)


def test_every_pair_is_judged_with_its_own_passage(run: Path, judge: ChatServer) -> None:
    assert generate(run, *judged_by(judge)) == 0
    for body in judge.bodies:
        answer, source = (
            re.search(rf"<{t}>\n(.*?)\n</{t}>", prompt_of(body), re.S).group(1) for t in ("answer", "source")
        )
        assert answer in source and "(no answer is known)" in prompt_of(body)


@pytest.mark.parametrize("undecided", ["aside", "keep"])
def test_wrong_pairs_go_and_those_it_cannot_tell_are_counted_apart(
    run: Path, judge: ChatServer, undecided: str
) -> None:
    def picky(body: dict[str, Any]) -> Answer:
        number = int(hashlib.sha256(body["messages"][1]["content"].encode()).hexdigest(), 16) % 10
        return {0: verdict("wrong"), 1: verdict("cannot tell"), 2: said("prose")}.get(number, verdict("right"))

    judge.behave = picky
    assert generate(run, *judged_by(judge, f"generate.judge.undecided={undecided}")) == 0
    facts, wrong = card(run)["judge"], rejected(run, "judged_wrong")
    assert facts["wrong"] == len(wrong) > 0 and facts["cannot_tell"] > 0 and facts["not_scored"]["not_json"] > 0
    asked = {e.question for e in examples(run) if e.evidence}
    assert not asked & {str(r["detail"]).split(" | ")[0] for r in wrong}
    assert all("It is wrong." in str(r["detail"]) for r in wrong)
    aside = [r for reason in ("judge_cannot_tell", "judge_not_scored") for r in rejected(run, reason)]
    assert len(aside) == (facts["cannot_tell"] + facts["not_scored"]["not_json"] if undecided == "aside" else 0)


def test_another_setting_of_the_examples_judges_nothing_again(run: Path, judge: ChatServer) -> None:
    assert generate(run, *judged_by(judge)) == 0
    asked = judge.count
    assert generate(run, *judged_by(judge, "generate.distractors=1")) == 0
    assert judge.count == asked


def test_a_judge_without_an_address_is_refused_before_anything_runs(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(run, "generate.judge.rule=Be brief.") == 2
    assert "generate.judge.endpoint.base_url: the judge needs it" in capsys.readouterr().err


def test_a_judge_that_finds_all_wrong_ends_with_samples(
    run: Path, judge: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    judge.behave = lambda body: verdict("wrong")
    assert generate(run, *judged_by(judge)) == 2
    told = capsys.readouterr().err
    assert "too few questions" in told and told.count("judged_wrong") >= 5


def test_a_dry_run_says_what_the_judge_would_cost(
    run: Path, judge: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--dry-run", "--stage", "3", "--run", str(run), *judged_by(judge)]) == 0
    assert "judge: at most about" in capsys.readouterr().out and judge.count == 0


# ---------------------------------------------------------------- the review sheet


def edited(run: Path, path: Path, edit: Any, *lines: str) -> Path:
    """The sheet that a run left, with what a person changed; `edit` gets every row."""
    with (run / "3_examples/review.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        edit(row)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(k for r in rows for k in r)), restval="")
        writer.writeheader()
        writer.writerows(rows)
        stream.write("".join(f"{line}\n" for line in lines))
    return path


def test_a_sheet_nobody_touched_changes_no_example(made: Path, run: Path) -> None:
    assert generate(run, f"generate.review={run / '3_examples/review.csv'}") == 0
    before, after = outputs(made), outputs(run)
    assert {n for n in after if before.get(n) != after[n]} == {"card.json", "corrections.jsonl"}
    (facts,) = card(run)["review"]
    assert facts["rows_decided"] == 0 and facts["rows_untouched"] == len(examples(made))


def test_corrections_come_back_into_every_wording_the_card_and_the_lineage(
    made: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = [e for e in examples(made) if e.style == "closed" and e.evidence and e.split == "train"]
    grounded = {(e.question, e.answer): e for e in examples(made) if e.style == "grounded" and e.evidence}
    target = next(e for e in closed if (e.question, e.answer) in grounded)
    gone = next(e for e in closed if e.question != target.question and (e.question, e.answer) in grounded)
    kept = next(e for e in closed if e.question not in (target.question, gone.question))
    answer = " ".join(target.evidence[0].quote.split()[:3])

    def edit(row: dict[str, str]) -> None:
        decided = {target.id: ("fix", answer), gone.id: ("drop", ""), kept.id: ("Keep", "")}
        row["verdict"], row["corrected_answer"] = decided.get(row["id"], ("", ""))

    sheet = edited(run, tmp_path / "back.csv", edit)
    assert generate(run, f"generate.review={sheet}") == 0
    now = examples(run)
    fixed = [e for e in now if e.question == target.question and e.answer == answer]
    assert {e.style for e in fixed} == {"closed", "grounded"} and all(e.split == target.split for e in fixed)
    twin = next(e for e in fixed if e.style == "grounded")
    mark = grounded[target.question, target.answer].conversation[-1].content.removeprefix(target.answer)
    assert twin.conversation[-1].content == f"{answer}{mark}" and re.fullmatch(r" \[\d\]", mark)
    assert not [e for e in now if e.question == gone.question and e.evidence]
    assert not [e for e in now if e.question == target.question and e.answer == target.answer]
    (facts,) = card(run)["review"]
    assert (facts["kept"], facts["fixed"], facts["dropped"], facts["other_wordings"]) == (1, 2, 2, 1)
    rows = {str(r["id"]): r for r in read_ledger(run / "3_examples/corrections.jsonl")}
    assert rows[twin.id]["follows"] == target.id and rows[twin.id]["answer_was"] == target.answer
    assert len(rejected(run, "reviewed_drop")) == 2 and card(run)["version"] != card(made)["version"]
    capsys.readouterr()
    assert main(["trace", twin.id, "--run", str(run)]) == 0
    traced = capsys.readouterr().out
    assert "back.csv:" in traced and target.answer[:20] in traced
    assert main(["trace", gone.id, "--run", str(run)]) == 2
    assert "reviewed_drop" in capsys.readouterr().err


def test_an_edited_sheet_makes_the_stage_stale_and_the_same_sheet_does_not(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = examples(run)[0]
    sheet = edited(run, tmp_path / "a.csv", lambda row: row.update(verdict="keep" if row["id"] == first.id else ""))
    for _ in range(2):
        assert generate(run, f"generate.review={sheet}") == 0
    assert "up to date" in capsys.readouterr().err
    moved = Path(shutil.copy(sheet, tmp_path / "elsewhere.csv"))
    assert generate(run, f"generate.review={moved}") == 0
    assert "up to date" in capsys.readouterr().err  # its content counts, not its place
    sheet.write_text(sheet.read_text().replace(",keep", ",drop"))
    assert generate(run, f"generate.review={sheet}") == 0
    assert "review changed" in capsys.readouterr().err and rejected(run, "reviewed_drop")


def test_lines_that_cannot_be_used_are_reported_with_their_number_and_kept_aside(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = examples(run)[:2]
    width = 10
    sheet = edited(
        run,
        tmp_path / "back.csv",
        lambda row: row.update(
            verdict={first.id: "drop", second.id: "perhaps"}.get(row["id"], ""), corrected_answer=""
        ),
        f"{first.id}{',' * 8}keep,",
        f"exa_0000000000000000{',' * 8}drop,",
        "one field too few,,",
        f"{examples(run)[2].id}{',' * 8}fix,",
    )
    last = len(sheet.read_text().splitlines())
    assert sheet.read_text().splitlines()[0].count(",") + 1 == width
    assert generate(run, f"generate.review={sheet}") == 0
    aside = {
        str(r["item"]): str(r["reason"])
        for r in read_ledger(run / "3_examples/rejected.jsonl")
        if "back.csv:" in str(r["item"])
    }
    by_reason: dict[str, list[str]] = {}
    for item, reason in aside.items():
        by_reason.setdefault(reason, []).append(item)
    assert len(by_reason["review_duplicate_id"]) == 2  # decided both ways: neither counts
    assert by_reason["review_unknown_id"] == [f"back.csv:{last - 2}"]
    assert by_reason["review_broken_line"] == [f"back.csv:{last - 1}"]
    assert by_reason["review_nothing_to_fix"] == [f"back.csv:{last}"] and len(by_reason["review_unknown_verdict"]) == 1
    assert first.id in {e.id for e in examples(run)}
    told = capsys.readouterr().err
    assert f"back.csv:{last - 1}: review_broken_line" in told
    assert sum(card(run)["review"][0]["lines_aside"].values()) == len(aside) == 6


def test_a_sheet_of_other_examples_and_one_that_is_not_there_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outputs(run)
    other = tmp_path / "other.csv"
    other.write_text("id,verdict\nexa_0000000000000000,drop\n")
    assert generate(run, f"generate.review={other}") == 2
    assert "no line of the review sheet is about these examples" in capsys.readouterr().err
    assert generate(run, f"generate.review={tmp_path / 'none.csv'}") == 2
    assert "the review sheet is not there" in capsys.readouterr().err
    assert outputs(run) == before


def test_a_second_sheet_is_put_upon_what_the_first_has_made(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = next(e for e in examples(run) if e.style == "closed" and e.evidence)
    sheet = edited(
        run,
        tmp_path / "one.csv",
        lambda row: row.update(correction="the first answer" if row["id"] == target.id else ""),
    )
    assert generate(run, f"generate.review={sheet}") == 0
    again = next(e for e in examples(run) if e.answer == "the first answer" and e.style == "closed")
    capsys.readouterr()
    two = edited(run, tmp_path / "two.csv", lambda row: row.update(verdict="drop" if row["id"] == again.id else ""))
    assert main(["review", "--run", str(run), "--check", str(two)]) == 0
    assert "1 rows decide" in capsys.readouterr().out
    assert generate(run, f"generate.review=[{sheet}, {two}]") == 0
    assert not [e for e in examples(run) if e.answer == "the first answer"]
    assert [f["sheet"] for f in card(run)["review"]] == ["one.csv", "two.csv"]
    capsys.readouterr()
    assert main(["review", "--run", str(run), "--check", str(sheet)]) == 0
    assert "decides already" in capsys.readouterr().out


def test_a_review_that_drops_everything_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = edited(run, tmp_path / "all.csv", lambda row: row.update(verdict="drop"))
    assert generate(run, f"generate.review={sheet}") == 2
    assert "the review leaves too few examples" in capsys.readouterr().err
