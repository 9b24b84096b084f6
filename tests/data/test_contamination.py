"""Rows held against benchmarks: word for word, by runs of words, in meaning; the command and the page of the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fieldwise.cli import main
from fieldwise.data.contamination import Benchmark, BenchmarkItem, Contamination, read_benchmark
from fieldwise.errors import DatasetError

LONG = (
    "Which of the two nurses on the night shift has to sign the controlled drugs book before the keys are handed over?"
)


def benchmark(*questions: str) -> Benchmark:
    return Benchmark("ward", tuple(BenchmarkItem(f"ward:{n}", q) for n, q in enumerate(questions, 1)))


def rows(path: Path, *asked: str) -> Path:
    lines = (json.dumps({"question": q, "answer": f"The answer to number {n}."}) for n, q in enumerate(asked))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_question_is_found_whatever_its_case_and_signs() -> None:
    found = Contamination([benchmark("When does the ward close?", "Who keeps the key?")])
    found.add("when does the WARD close", "when does the ward close\nAt eight.")
    result = found.results()["ward"]
    assert (result.same, result.by_ngrams, result.near, result.items) == (["ward:1"], [], None, 2)


def test_a_long_question_within_another_text_is_found_by_its_runs_of_words() -> None:
    found = Contamination([benchmark(LONG, "Who keeps the key?")])
    found.add("Say it in other words", f"Rewrite this: {LONG} Thank you.")
    assert found.results()["ward"].by_ngrams == ["ward:1"]
    half = Contamination([benchmark(LONG)])
    half.add("x", LONG[:60])
    assert half.results()["ward"].seen == []


def test_meaning_finds_other_words_and_nothing_else() -> None:
    found = Contamination([benchmark("At what time does the kitchen close?", "Who signs the drugs book?")], embed=True)
    found.add("What time does the kitchen close?", "")
    found.add("How many beds does the ward have?", "")
    assert found.results()["ward"].near == ["ward:1"]
    assert Contamination([benchmark("a b")], embed=True).results()["ward"].near == []


def test_a_benchmark_is_read_from_rows_with_and_without_answers(tmp_path: Path) -> None:
    path = tmp_path / "board.jsonl"
    path.write_text('{"query": "Who?", "answer": null}\n{"id": 3}\n{"question": "When?", "answer": "Now"}\n')
    assert read_benchmark(path) == Benchmark(
        "board", (BenchmarkItem("board.jsonl:1", "Who?"), BenchmarkItem("board.jsonl:3", "When?", "Now"))
    )
    path.write_text('{"id": 3}\n')
    with pytest.raises(DatasetError, match="no row holds a question"):
        read_benchmark(path)


def test_the_doctor_stops_a_run_that_would_train_on_a_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = rows(tmp_path / "train.jsonl", *(f"What is told in part {n} of the handbook?" for n in range(30)), LONG)
    board = rows(tmp_path / "board.jsonl", LONG, "Where is the blue cupboard?")
    page = tmp_path / "report.html"
    flags = ["--against", str(board), "--against", "healthcare", "--html", str(page), "--quiet"]
    assert main(["data", "doctor", str(train), *flags, "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["contamination"]["board"]["same"] == ["board.jsonl:1"]
    assert report["contamination"]["board"]["seen"] == 1 and report["contamination"]["healthcare"]["seen"] == 0
    assert [f["code"] for f in report["findings"] if f["severity"] == "problem"] == ["contamination"]
    text = page.read_text(encoding="utf-8")
    assert "1 problem would spoil a run" in text and "<mark>" in text and "board.jsonl:1" in text
    assert len(report["samples"]) == 5 and any(t["carries_loss"] for t in report["samples"][0]["tokens"])


def test_splits_are_compared_in_meaning_where_no_context_changes_the_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(tmp_path / "train.jsonl", "What time does the kitchen close?", "How many beds does the ward have?")
    rows(tmp_path / "test.jsonl", "At what time does the kitchen close?", "Who signs the drugs book?")

    def found(*flags: str) -> list[list[str]]:
        main(["data", "doctor", str(tmp_path), "--json", "--quiet", *flags])
        told = json.loads(capsys.readouterr().out)["findings"]
        return [f["places"] for f in told if f["code"] == "meaning_leakage"]

    assert found("--embed") == [["test:1"]] and found() == []
    for name in ("train", "test"):
        lines = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        over = "\n".join(json.dumps({**row, "context": f"{name} says so."}) for row in lines)
        (tmp_path / f"{name}.jsonl").write_text(over)
    assert found("--embed") == []


def test_words_of_rows_cannot_become_markup_of_the_page(tmp_path: Path) -> None:
    train = rows(tmp_path / "<b>train.jsonl", *(f"<script>alert({n})</script> what is it?" for n in range(30)))
    page = tmp_path / "report.html"
    assert main(["data", "doctor", str(train), "--html", str(page), "--quiet"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "<script>" not in text and "&lt;script&gt;" in text and "<b>train" not in text
