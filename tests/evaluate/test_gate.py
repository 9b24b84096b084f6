"""`fieldwise gate` over run folders written by hand: against their own gates, an earlier run, and a baseline file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from tiny_models import make_tiny_pair_classifier

from fieldwise.cli import main
from fieldwise.evaluate.baseline import read_measured
from fieldwise.evaluate.gate import GateReport
from fieldwise.evaluate.gate_report import junit, markdown
from fieldwise.files import read_jsonl, write_json, write_jsonl, write_text
from fieldwise.records import NOT_STATED, GateResult
from fieldwise.run import RunFolder

COUNT = 120


def answer(text: str) -> dict[str, Any]:
    return {"text": text, "answer": text, "model": "m", "is_declined": text == NOT_STATED}


def keep(folder: Path, said: list[str], system: str = "rag_tuned", **changes: Any) -> Path:
    """A run folder with predictions; every sixth question has no answer."""
    rows = [
        {
            "id": f"q{n}",
            "question": f"Question {n}?",
            "expected": None if n % 6 == 5 else f"{n} days",
            "aliases": [],
            "document": None if n % 6 == 5 else f"d{n % 40}.pdf",
            "kind": "duration",
            "answer": {**answer(text), "known_bits": None},
            **changes,
        }
        for n, text in enumerate(said)
    ]
    write_jsonl(folder / f"5_reports/predictions/{system}.jsonl", rows)
    gates = [GateResult(metric="token_f1", verdict="PASS", requirement="token_f1 better", found="+0.2").model_dump()]
    report = {
        "questions": len(said),
        "unanswerable": 0,
        "questions_sha256": "0" * 64,
        "baseline": "base",
        "systems": [],
    }
    write_json(folder / "5_reports/report.json", {**report, "gates": gates, "verdict": "PASS"})
    write_text(folder / "recipe.yaml", "name: t\ncollect: {sources: [x]}\n")
    return folder


def right(n: int) -> str:
    return NOT_STATED if n % 6 == 5 else f"{n} days"


GOOD = [right(n) if n % 4 else "red" for n in range(COUNT)]
WORSE = [right(n) if n % 2 else "red" for n in range(COUNT)]
GATES = ["evaluate.regressions=[{metric: token_f1}, {metric: overall_f1}]"]


def gate(run: Path, baseline: Path | None = None, *more: str) -> list[str]:
    against = ["--baseline", str(baseline)] if baseline else []
    return ["gate", "--run", str(run), *against, *more]


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def test_an_unchanged_run_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*gate(keep(tmp_path / "new", GOOD), keep(tmp_path / "old", GOOD)), "--json", *GATES]) == 0
    report = found(capsys)
    assert (report["verdict"], report["lost"], report["questions"], report["documents"]) == ("PASS", [], COUNT, 40)


def test_a_run_made_worse_fails_and_names_the_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*gate(keep(tmp_path / "new", WORSE), keep(tmp_path / "old", GOOD)), *GATES]) == 3
    text = capsys.readouterr().out
    assert "Gate: FAIL" in text and "30 questions lost, 0 won; most lost: q10, " in text
    assert "FAIL         rag_tuned: token_f1 not worse than the baseline by more than 0.05: -0.3" in text


def test_too_few_questions_are_inconclusive_and_say_how_many_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, old = keep(tmp_path / "new", [*GOOD[:38], "red", "39 days"]), keep(tmp_path / "old", GOOD[:40])
    assert main([*gate(new, old), "--json", *GATES]) == 4
    report = found(capsys)
    assert report["verdict"] == "INCONCLUSIVE" and report["gates"][0]["need_n"] > 33


def test_other_questions_are_refused_with_the_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = keep(tmp_path / "new", GOOD), keep(tmp_path / "old", GOOD)
    path = old / "5_reports/predictions/rag_tuned.jsonl"
    rows = list(read_jsonl(path))
    rows[3]["expected"] = "another answer"
    rows[4]["question"] = "Reworded?"
    write_jsonl(path, [*rows[:-2], {**rows[0], "id": "old1", "question": "Only then?"}])
    assert main(gate(new, old)) == 2
    said = capsys.readouterr().err
    assert "2 new: q118, q119; 1 gone: old1; 2 changed: q3, q4" in said and "other questions" in said


def test_renumbered_questions_in_another_order_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = keep(tmp_path / "new", WORSE), keep(tmp_path / "old", GOOD)
    path = old / "5_reports/predictions/rag_tuned.jsonl"
    rows = [{**row, "id": f"other{n}"} for n, row in enumerate(read_jsonl(path))]
    write_jsonl(path, rows[::-1])
    assert main([*gate(new, old), "--json", *GATES]) == 3
    assert {f["before"] - f["after"] for f in found(capsys)["lost"]} == {1.0}


def test_a_baseline_keeps_the_name_of_its_run_and_the_times_that_were_measured(tmp_path: Path) -> None:
    run = keep(tmp_path / "old", GOOD)
    write_json(run / "times/rag_tuned.json", {"seconds": [0.5] * COUNT, "tokens_per_second": [*[20.0] * 119, None]})
    kept = read_measured(RunFolder(run), "rag_tuned", "monday").baseline
    assert kept.run == "monday"
    assert kept.scores["seconds"] == (0.5,) * COUNT and kept.scores["tokens_per_second"][-2:] == (20.0, None)


def test_a_baseline_file_gates_as_its_run_does_and_holds_no_word_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, file = keep(tmp_path / "old", GOOD), tmp_path / "baseline.json"
    assert main([*gate(old), "--save-baseline", str(file)]) == 0
    assert "days" not in file.read_text() and "Question" not in file.read_text() and "pdf" not in file.read_text()
    new = keep(tmp_path / "new", WORSE)
    capsys.readouterr()
    assert main([*gate(new, file), "--json", *GATES]) == 3
    by_file = found(capsys)
    assert main([*gate(new, old), "--json", *GATES]) == 3
    assert by_file["gates"] == found(capsys)["gates"] and len(by_file["lost"]) == 30


def test_a_metric_that_the_baseline_lacks_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, file = keep(tmp_path / "old", GOOD), tmp_path / "baseline.json"
    main([*gate(old), "--save-baseline", str(file)])
    value = json.loads(file.read_text())
    del value["scores"]["token_f1"]
    write_json(file, {**value, "metrics_sha256": "other"})
    capsys.readouterr()
    assert main([*gate(keep(tmp_path / "new", GOOD), file), "--json", *GATES]) == 3
    report = found(capsys)
    assert report["gates"][0]["found"] == "the baseline was not measured by it"
    assert report["gates"][1]["verdict"] == "PASS" and "other code" in report["notes"][0]


WORDS = "0 1 2 3 4 5 6 7 8 9 days red the ward closes at ."


def with_passages(folder: Path) -> Path:
    """The same run with a passage behind every answer, and a citation of it."""
    path = folder / "5_reports/predictions/rag_tuned.jsonl"
    rows = list(read_jsonl(path))
    for row in rows:
        text = f"The ward closes at {row['id'].removeprefix('q')} days."
        chunk = {"id": "c", "document_id": "d", "uri": "d", "title": "d", "start": 0, "end": len(text), "text": text}
        said = row["answer"]["text"]
        row["answer"] |= {"text": f"{said} [1]", "passages": [{"chunk": chunk, "score": 1.0}]}
    write_jsonl(path, rows)
    return folder


def test_entailed_claims_are_scored_anew_on_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ("contradiction", "entailment", "neutral")
    nli, other = (make_tiny_pair_classifier(tmp_path / f"nli{n}", WORDS, labels, seed=n) for n in (3, 4))
    new, old = (with_passages(keep(tmp_path / name, GOOD)) for name in ("new", "old"))
    wanted = "evaluate.regressions=[{metric: claims_entailed}]"
    by_it = ["--json", wanted, f"evaluate.nli={nli}"]
    assert main([*gate(new, old), *by_it]) == 0
    (judged,) = found(capsys)["gates"]
    assert judged["metric"] == "claims_entailed" and judged["found"].endswith(f"n={sum(t != NOT_STATED for t in GOOD)}")

    file = tmp_path / "baseline.json"
    main([*gate(old), "--save-baseline", str(file), f"evaluate.nli={nli}"])
    capsys.readouterr()
    assert main([*gate(new, file), *by_it]) == 0
    assert found(capsys)["gates"] == [judged]
    assert main([*gate(new, file), "--json", wanted, f"evaluate.nli={other}"]) == 3
    assert "scored by another NLI model" in found(capsys)["gates"][0]["found"]
    main([*gate(old), "--save-baseline", str(file)])
    capsys.readouterr()
    assert main([*gate(new, file), *by_it]) == 3
    assert found(capsys)["gates"][0]["found"] == (
        "the baseline was scored by no NLI model: keep the file anew with this evaluate.nli, or name the run folder"
    )
    assert main([*gate(new, old), wanted]) == 2
    assert "Name a folder with evaluate.nli" in capsys.readouterr().err


def test_a_metric_that_scores_no_question_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = keep(tmp_path / "new", GOOD), keep(tmp_path / "old", GOOD)
    assert main([*gate(new, old), "--json", "evaluate.regressions=[{metric: bits_per_byte}]"]) == 3
    assert found(capsys)["gates"][0]["found"] == "the run was not measured by it"


@pytest.mark.parametrize(("verdict", "code"), [("PASS", 0), ("FAIL", 3), ("INCONCLUSIVE", 4)])
def test_without_a_baseline_the_gates_of_the_report_and_of_the_served_file_count(
    tmp_path: Path, verdict: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = keep(tmp_path / "run", GOOD)
    served = GateResult(metric="token_f1", verdict=verdict, requirement="served", found="0", need_n=700)
    write_json(run / "5_reports/served.json", {"gates": [served.model_dump(mode="json")]})
    assert main(gate(run)) == code
    text = capsys.readouterr().out
    assert f"Gate: {verdict}" in text and "would need about 700 items" in text


def test_the_served_file_is_compared_where_both_have_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = (keep(keep(tmp_path / n, GOOD), GOOD, "served") for n in ("new", "old"))
    main([*gate(new, old), "--json", *GATES])
    assert found(capsys)["system"] == "served"
    main([*gate(new, old), "--json", "--system", "rag_tuned", *GATES])
    assert found(capsys)["system"] == "rag_tuned"
    assert main([*gate(new, old), "--system", "base"]) == 2
    assert "the run has served, rag_tuned; the baseline has served, rag_tuned" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "expected a JSON object"), ("{}", "this is no baseline file"), ("no json", "not valid JSON")],
)
def test_a_file_that_is_no_baseline_is_refused(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(tmp_path / "b.json", content)
    assert main(gate(keep(tmp_path / "new", GOOD), tmp_path / "b.json")) == 2
    assert message in capsys.readouterr().err


def test_scores_that_do_not_go_with_the_items_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, file = keep(tmp_path / "new", GOOD), tmp_path / "b.json"
    main([*gate(run), "--save-baseline", str(file)])
    value = json.loads(file.read_text())
    value["scores"]["token_f1"].pop()
    write_json(file, value)
    assert main(gate(run, file)) == 2
    assert f"{COUNT - 1} values of token_f1 for {COUNT} items" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no prediction"),
        ([{"id": "q", "question": "?", "answer": {}}], "a file of an earlier version"),
        ([{"id": "q", "question": "?", "document": None, "answer": {}}], "text: field required"),
        ([{"id": "q", "question": "?", "document": None, "answer": answer("x")}] * 2, "ids stand twice, found q"),
    ],
)
def test_predictions_that_cannot_be_read_are_told(
    tmp_path: Path, rows: list[dict[str, Any]], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, old = keep(tmp_path / "new", GOOD), keep(tmp_path / "old", GOOD)
    write_jsonl(old / "5_reports/predictions/rag_tuned.jsonl", rows)
    assert main(gate(run, old)) == 2
    assert message in capsys.readouterr().err


def test_no_run_and_no_baseline_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = keep(tmp_path / "run", GOOD)
    assert main(gate(run, tmp_path / "none")) == 2 and "there is no baseline here" in capsys.readouterr().err
    assert main(gate(tmp_path / "none", run)) == 2 and "no run stands here" in capsys.readouterr().err


def test_files_for_a_build_server_and_a_pull_request(tmp_path: Path) -> None:
    new, old = keep(tmp_path / "new", WORSE), keep(tmp_path / "old", GOOD)
    files = ["--junit", str(tmp_path / "out/gate.xml"), "--markdown", str(tmp_path / "out/gate.md")]
    assert main([*gate(new, old, *files), *GATES]) == 3
    suite = etree.parse(tmp_path / "out/gate.xml").find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "2", "0")
    assert suite.findall("testcase")[0].find("failure").get("type") == "FAIL"
    page = (tmp_path / "out/gate.md").read_text()
    assert page.startswith("# Gate: FAIL") and "- q10: 1.00 to 0.00" in page and "Question" not in page


def test_hostile_names_stay_text() -> None:
    gates = tuple(
        GateResult(metric="m", verdict=v, requirement="a|b \x00<x>&\x1b", found="]]> `c`", need_n=9)
        for v in ("PASS", "FAIL", "INCONCLUSIVE")
    )
    report = GateReport(run="r\x08\ud800<", questions=1, questions_sha256="0", seed=0, verdict="FAIL", gates=gates)
    suite = etree.fromstring(junit(report).encode()).find("testsuite")
    assert [c.tag for case in suite.findall("testcase") for c in case] == ["system-out", "failure", "error"]
    assert suite.findall("testcase")[1].get("name") == "a|b \ufffd<x>&\ufffd"
    assert "a\\|b" in markdown(report)


# ---------------------------------------------------------------- repeated runs, and quarantine


def test_what_comes_and_goes_between_repeats_is_left_out_until_its_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shaky = ["red" if n in (1, 2) else text for n, text in enumerate(GOOD)]
    runs = [keep(tmp_path / name, said) for name, said in (("a", GOOD), ("b", shaky), ("c", GOOD))]
    out = tmp_path / "quarantine.yaml"
    repeats = ["--repeat", str(runs[1]), "--repeat", str(runs[2])]
    assert main([*gate(runs[0], None, *repeats, "--quarantine", str(out)), "--json"]) == 0
    assert [(f["item"], f["passed"], f["of"]) for f in found(capsys)["flaky"]] == [("q1", 2, 3), ("q2", 2, 3)]
    with_it = [*GATES, f"evaluate.quarantine={out}"]
    assert main([*gate(runs[1], runs[0]), "--json", *with_it]) == 0
    report = found(capsys)
    assert all("2 flaky questions left out" in g["found"] for g in report["gates"])
    assert sum("passed in 2 of 3" in note for note in report["notes"]) == 2
    out.write_text(out.read_text().replace("expires: '2", "expires: '1"))
    assert main([*gate(runs[1], runs[0]), "--json", *with_it]) != 0
    report = found(capsys)
    assert (
        sum("counts again" in note for note in report["notes"]) == 2 and "left out" not in report["gates"][0]["found"]
    )
    assert main(gate(runs[0], None, *repeats[:2])) == 2
