"""The last step of a release over a run folder written by hand: what record and card say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from decline_rules import decline_rule
from pydantic import ValidationError

from fieldwise.errors import GateFailed
from fieldwise.files import write_json, write_text
from fieldwise.prompts import closed_prompt
from fieldwise.records import BaseWeights, Document, Example, Message, ModelBuild, Source
from fieldwise.release.settings import ReleaseSettings
from fieldwise.release.stage import run_release
from fieldwise.retrieve.decline import DeclineRule
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import write_records

BASE = BaseWeights(model="fieldwise-nano", sha256="ab", licence="Apache-2.0")
OVERRIDE = "Dr. Osei: pilot only"


def gate(verdict: str) -> dict:
    return {"metric": "token_f1", "verdict": verdict, "requirement": "better than base", "found": "+0.1"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    documents = [Document.make(title=n, text=n, source=Source(uri=n, licence="CC0")) for n in ("a.md", "b.md", "c.md")]
    examples = [
        Example.make(
            question=f"Who keeps {d.title}?",
            answer="Ward",
            kind="fact",
            conversation=(*closed_prompt(d.title), Message(role="assistant", content="Ward")),
            document_ids=(d.id,),
        )
        for d in documents[:2]
    ]
    write_records(run.path / "2_chunks/documents.parquet", documents, Document)
    write_records(run.path / "3_examples/train.parquet", examples, Example)
    write_json(run.path / "3_examples/card.json", {"train": 2, "preference_pairs": 1, "version": "dat_1"})
    write_text(run.path / "5_reports/report.md", "| a table |\n")
    for kind in ("q8_0", "q4_k_m"):
        build = ModelBuild(
            id=f"bld_{kind}",
            format="gguf",
            quantisation=kind,
            adapter_id="ada_1",
            sha256=kind,
            bytes=9,
            path=f"6_builds/small-{kind}.gguf",
            parity={"top1_agreement": 0.99},
        )
        write_json(run.path / f"6_builds/small-{kind}.build.json", build.model_dump(mode="json"))
    return run


def release(run: RunFolder, report: str, served: str, base: BaseWeights = BASE, **settings: str) -> tuple[dict, str]:
    if not (run.path / "4_adapters/selected.json").exists():
        write_json(run.path / "4_adapters/selected.json", {"selected": "preference", "decline": None})
    write_json(run.path / "5_reports/report.json", {"verdict": report, "gates": [gate(report)]})
    write_json(
        run.path / "5_reports/served.json",
        {
            "file": "small-q8_0.gguf",
            "figures": {"token_f1": {"value": 0.625}},
            "same_replies": 38,
            "questions": 40,
            "verdict": served,
            "gates": [gate(served)],
        },
    )
    step = StepRun(run, "5c_release", "0" * 64, 0)
    run_release(ReleaseSettings.model_validate(settings), base, step, name="small", domain="law: leases")
    folder = step.staging / "6_builds"
    return json.loads((folder / "release.json").read_text()), (folder / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("report", "served", "verdict"),
    [("FAIL", "INCONCLUSIVE", "FAIL"), ("PASS", "INCONCLUSIVE", "INCONCLUSIVE"), ("INCONCLUSIVE", "FAIL", "FAIL")],
)
def test_what_a_person_lets_out_keeps_its_worst_verdict(run: RunFolder, report: str, served: str, verdict: str) -> None:
    with pytest.raises(GateFailed):
        release(run, report, served)
    record, card = release(run, report, served, override=OVERRIDE)
    assert (record["verdict"], record["override"]) == (verdict, OVERRIDE)
    assert f"Gates: **{verdict}**. Released all the same: {OVERRIDE}." in card


def test_an_override_that_overruled_nothing_is_not_on_record(run: RunFolder) -> None:
    record, card = release(run, "PASS", "PASS", override=OVERRIDE)
    assert (record["verdict"], record["override"]) == ("PASS", None)
    assert "all the same" not in card


@pytest.mark.parametrize("override", ["", " ", "yes", "Dr. Osei:", ": pilot only"])
def test_an_override_without_name_or_reason_is_refused(override: str) -> None:
    with pytest.raises(ValidationError, match="NAME: REASON"):
        ReleaseSettings(override=override)


def test_the_card_tells_what_the_served_file_reached_and_what_training_read(run: RunFolder) -> None:
    record, card = release(run, "PASS", "PASS")
    assert [b["parity"].get("token_f1") for b in sorted(record["builds"], key=lambda b: b["id"])] == [None, 0.625]
    assert "| 0.99 | 0.625 |" in card and "| 0.99 | - |" in card
    assert "38 of them with the very words" in card and "- **PASS** better than base: +0.1" in card
    assert "on 2 of 3 documents" in card
    assert '- "law: leases"' in card


def test_neither_record_nor_card_names_the_folder_of_a_local_base(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "weights/my-base"
    folder.mkdir(parents=True)
    record, card = release(run, "PASS", "PASS", BASE.model_copy(update={"model": str(folder)}))
    assert record["base"] == "my-base" and str(tmp_path) not in json.dumps(record) + card
    _, card = release(run, "PASS", "PASS", BASE.model_copy(update={"model": "org/small", "revision": "abc123"}))
    assert "base_model: org/small" in card and "org/small at revision abc123" in card


def test_record_and_card_carry_when_the_service_declines(run: RunFolder) -> None:
    record, card = release(run, "PASS", "PASS")
    assert record["decline"] is None and "When it declines" not in card
    rule = decline_rule(similarity_weight=-2.0, threshold=0.625, answerable=40, unanswerable=41, right_declines=0.7)
    write_json(
        run.path / "4_adapters/selected.json", {"selected": "preference", "decline": rule.model_dump(mode="json")}
    )
    record, card = release(run, "PASS", "PASS")
    assert DeclineRule.model_validate(record["decline"]) == rule
    assert "40 answerable and 41 unanswerable development questions" in card and "0.625" in card
