"""The page of a release over a run folder written by hand: chain of gates, ladder, safety by stage, flips, quarantine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lxml import html

from fieldwise.cli import main
from fieldwise.compare.judge_card import JudgeCard
from fieldwise.compare.judge_gate import judged_release
from fieldwise.compare.judge_report import JudgeReport, SystemVerdicts
from fieldwise.files import read_json, write_json, write_jsonl, write_text
from fieldwise.hashing import sha256_file
from fieldwise.records import Interval
from fieldwise.run import RunFolder
from fieldwise.suite.release_page import release_page

WHY = "advisory: no human labels"
HOSTILE = "<script>alert(1)</script>"
GATE = {"metric": "token_f1", "verdict": "PASS", "requirement": "rag_tuned: token_f1 better than base", "found": "+0.2"}


def share(value: float) -> dict[str, object]:
    return Interval(value=value, low=value / 2, high=(1 + value) / 2, n=40, method="Wilson").model_dump(mode="json")


def reply(item: str, text: str, value: float) -> dict[str, object]:
    check = {"check": "must_decline", "value": value, "why": "it does not decline", "is_critical": True}
    return {"id": item, "asked": f"Asked {item}?", "reply": {"text": text}, "checks": [check], "is_passed": value == 1}


def predicted(said: list[str]) -> list[dict[str, object]]:
    return [
        {
            "id": f"q{n}",
            "question": f"Question {n}?",
            "expected": "red",
            "answer": {"text": text, "answer": text, "model": "m"},
            "scores": {"overall_f1": float(text == "red")},
        }
        for n, text in enumerate(said)
    ]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    write_text(run.path / "recipe.yaml", "name: t\ncollect: {sources: [x]}\n")
    write_json(
        run.path / "5_reports/report.json",
        {
            "questions": 4,
            "unanswerable": 0,
            "questions_sha256": "0" * 64,
            "baseline": "base",
            "systems": [{"system": "rag_tuned", "figures": {"token_f1": share(0.5)}}],
            "verdict": "PASS",
            "gates": [GATE],
        },
    )
    served = {"file": "m-q8_0.gguf", "figures": {"token_f1": share(0.4)}, "verdict": "PASS", "gates": [GATE]}
    write_json(run.path / "5_reports/served.json", served)
    for kind, size, adapter in (("q4_k_m", 4_000_000, "a"), ("q8_0", 8_000_000, "a"), ("base-q8_0", 8_000_000, None)):
        parity = {"top1_agreement": 0.5, "kl_divergence": 0.25, "perplexity_ratio": 1.5}
        build = {"quantisation": kind, "bytes": size, "path": f"6_builds/m-{kind}.gguf", "adapter_id": adapter}
        write_json(run.path / f"6_builds/m-{kind}.build.json", {**build, "parity": parity})
    flaky = {"suite": "safety", "item": "i9", "passed": 2, "of": 5, "how": "m", "measured": "2026-01-01"}
    systems = {
        "base": {"passed": share(0.7), "critical": ["h1"]},
        "sft": {"passed": share(0.6), "critical": ["h1", "h2"]},
        "served": {"passed": share(0.6), "critical": ["h2"]},
    }
    suite = {"suite": "safety", "about": "asks", "systems": systems, "expired": []}
    suites = {**suite, "quarantined": [{**flaky, "expires": "2026-02-01", "treat": "leave_out"}]}
    gates = [{**GATE, "verdict": "FAIL", "requirement": "served: safety no critical", "found": "1 new (h2)"}]
    write_json(run.path / "5_reports/suites.json", {"verdict": "FAIL", "gates": gates, "suites": [suites]})
    for system, text in (("base", "I will not."), ("sft", HOSTILE), ("served", "Here is how.")):
        rows = [reply("h1", text, 0.0), reply("h2", text, float(system == "base"))]
        write_jsonl(run.path / f"5_reports/suites/safety/{system}.jsonl", rows)
    write_jsonl(run.path / "5_reports/predictions/rag_tuned.jsonl", predicted(["red", "red", "blue", "red"]))
    write_jsonl(run.path / "5_reports/predictions/served.jsonl", predicted(["red", "green", "red", "red"]))
    return run


def page(run: RunFolder, **more: object) -> html.HtmlElement:
    return html.fromstring(release_page(run, "handbook", has_suites=True, **more))


def text(page: html.HtmlElement, section: str) -> str:
    return " ".join(page.get_element_by_id(section).text_content().split())


def test_the_chain_of_gates_names_its_worst_verdict_first(run: RunFolder) -> None:
    made = page(run)
    assert "FAIL What this release rests on" in " ".join(made.find(".//header").text_content().split())
    assert "1 new (h2)" in text(made, "gates") and text(made, "gates").count("PASS") == 4


def test_the_file_to_serve_is_a_column_beside_all_systems(run: RunFolder) -> None:
    report = read_json(run.path / "5_reports/report.json")
    at = {"model": "big-1", "base_url": "http://127.0.0.1:9/v1", "documents": True}
    hosted = {"system": "hosted", "figures": {"token_f1": share(0.9)}, "endpoint": at}
    write_json(run.path / "5_reports/report.json", {**report, "systems": [*report["systems"], hosted]})
    served = read_json(run.path / "5_reports/served.json")
    more = {"perplexity": share(3.25), "figures": {**served["figures"], "bits_per_byte": share(1.5)}}
    write_json(run.path / "5_reports/served.json", {**served, **more})
    rows = [[" ".join(c.text_content().split()) for c in r] for r in page(run).get_element_by_id("systems").iter("tr")]
    assert rows[0][2:] == ["served file", "hosted: big-1, over the same passages"] and "released" in rows[0][1]
    assert {r[0].split(" n=")[0]: [c.split()[0] for c in r[1:]] for r in rows[1:]} == {
        "Token F1n=40": ["0.50", "0.40", "0.90"],
        "Bits per byte, known answern=40, less is better": ["-", "1.50", "-"],
        "Perplexity of a token, known answer, by this tokenizern=40, less is better": ["-", "3.25", "-"],
    }
    (run.path / "5_reports/served.json").unlink()
    assert page(run).get_element_by_id("systems", None) is None


def test_the_ladder_goes_from_the_weights_down_and_names_what_is_served(run: RunFolder) -> None:
    rows = [" ".join(r.text_content().split()) for r in page(run).get_element_by_id("ladder").iter("tr")][1:]
    assert len(rows) == 3 and [r[:4] for r in rows] == ["weig", "q8_0", "q4_k"]
    assert "0.50" in rows[0] and "to be served" in rows[1] and "0.40" in rows[1] and "not asked" in rows[2]


def test_safety_stands_after_every_stage_and_new_failures_side_by_side(run: RunFolder) -> None:
    made = page(run)
    assert (
        "base" in text(made, "suites")
        and "after SFT" in text(made, "suites")
        and "file to serve" in text(made, "suites")
    )
    failures = text(made, "critical")
    assert failures.count("it does not decline") == 1 and "I will not." in failures and "Here is how." in failures
    assert "after SFT ✗" in failures and "h1" not in failures and not made.findall(".//script") and HOSTILE in failures


def test_what_quantising_changed_and_what_is_flaky_is_shown(run: RunFolder) -> None:
    made = page(run)
    assert "1 lost1 won2 of 4 word for word the same" in text(made, "flips")
    assert "2 of 5" in text(made, "quarantine") and "left out" in text(made, "quarantine")


def test_without_suites_nothing_of_them_is_said(run: RunFolder) -> None:
    made = html.fromstring(release_page(run, "handbook"))
    assert not made.xpath("//*[@id='suites' or @id='critical' or @id='quarantine']")
    assert "PASS What this release rests on" in " ".join(made.find(".//header").text_content().split())


def judged(run: RunFolder, *, may_gate: bool, low: float = 0.85) -> None:
    found = Interval(value=0.9, low=low, high=0.95, n=100, method="m")
    system = SystemVerdicts(
        system="rag_tuned", answers=4, right=3, wrong=1, cannot_tell=0, not_scored=0, share_right=found
    )
    card = JudgeCard(
        judge="j", how="explained", mode="rubric", asked=4, scored=4, cannot_tell=0, may_gate=may_gate, why=WHY
    )
    digest = {"rag_tuned": sha256_file(run.path / "5_reports/predictions/rag_tuned.jsonl")}
    report = JudgeReport(mode="rubric", judge="j", place="p", predictions=digest, systems=(system,), card=card)
    write_json(run.path / "5_reports/judge.json", report.model_dump(mode="json"))


def test_a_judge_advises_until_it_agrees_with_people_and_then_decides(run: RunFolder) -> None:
    assert judged_release(run, None) is None
    missing = judged_release(run, 0.8)
    assert missing.verdict == "FAIL" and "no judge was asked" in missing.gates[0].found
    judged(run, may_gate=False)
    advice = judged_release(run, 0.99)
    assert (advice.verdict, advice.gates) == ("PASS", ()) and "advisory" in advice.advice
    shown = text(page(run, judged=advice.model_dump(mode="json")), "judge")
    assert "Advisory: no human labels" in shown and "0.90" in shown
    judged(run, may_gate=True)
    assert [judged_release(run, level).verdict for level in (0.8, 0.9, 0.99)] == ["PASS", "INCONCLUSIVE", "FAIL"]
    write_jsonl(run.path / "5_reports/predictions/rag_tuned.jsonl", predicted(["red"]))
    assert "other answers" in judged_release(run, 0.8).gates[0].found
    assert "other answers" in text(page(run), "judge")


def test_the_gate_command_holds_the_whole_chain_and_writes_the_page(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", "--run", str(run.path), "--json"]) == 0
    capsys.readouterr()
    told = ["gate", "--run", str(run.path), "--json", "evaluate.suites=[safety]"]
    assert main(told) == 3
    report = json.loads(capsys.readouterr().out)
    assert "1 new (h2)" in [g["found"] for g in report["gates"]] and any("in quarantine" in n for n in report["notes"])
    assert "New critical failures" in (run.path / "5_reports/release.html").read_text()
    assert main([*told, "evaluate.judge_at_least=0.8", "release.override=Dr. Osei: pilot"]) == 3
    assert "no judge was asked" in capsys.readouterr().out
