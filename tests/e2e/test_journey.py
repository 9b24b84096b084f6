import json
import shutil
import subprocess
import time
from pathlib import Path

import journey
import pytest

from fieldwise.cli import main
from fieldwise.records import ModelBuild


def rerun(finished, *more: str) -> tuple[subprocess.CompletedProcess, float]:
    began = time.monotonic()
    done = subprocess.run(
        journey.command(finished.recipe, finished.run, journey.NO_GATES, "--json", *more),
        capture_output=True,
        text=True,
        check=False,
        env=journey.environment(),
        timeout=300,
    )
    return done, time.monotonic() - began


def test_the_run_ends_with_the_table_and_how_to_serve_it(finished) -> None:
    for shown in (
        "base, closed book",
        "RAG over base",
        "SFT, closed book",
        "SFT+DPO, closed book",
        "RAG over SFT",
        "[",
        "Serve it:   fieldwise serve --run",
    ):
        assert shown in finished.stdout
    assert "Traceback" not in finished.stderr


def test_it_ran_without_a_network_where_that_can_be_arranged() -> None:
    prefix = journey.without_network()
    if not prefix:
        pytest.skip("this machine does not allow network namespaces")
    code = "import socket,sys\ns=socket.socket();s.settimeout(3)\ntry: s.connect(('192.0.2.1', 80))\nexcept OSError as e: sys.exit(0)\nsys.exit(1)"
    assert subprocess.run([*prefix, "python3", "-c", code], check=False).returncode == 0


def test_what_could_not_be_read_is_listed_with_its_reason(finished) -> None:
    rejected = [
        json.loads(line)
        for p in ("1_documents", "2_chunks")
        for line in (finished.run / p / "rejected.jsonl").read_text().splitlines()
    ]
    assert {"laundry-notice-scanned.pdf": "no_text_layer", "interpreter-service.html": "exact_duplicate"}.items() <= {
        r["item"]: r["reason"] for r in rejected
    }.items()


def test_every_figure_has_its_n_its_interval_and_a_paired_difference(finished) -> None:
    report = json.loads((finished.run / "5_reports/report.json").read_text())
    assert [s["system"] for s in report["systems"]] == ["base", "rag_base", "sft", "preference", "rag_tuned"]
    assert (report["questions"], report["unanswerable"]) == (48, 22)
    for system in report["systems"]:
        figure = system["figures"]["token_f1"]
        assert figure["n"] == 26 and figure["low"] <= figure["value"] <= figure["high"]
        if system["system"] != "base":
            difference = system["differences"]["token_f1"]
            assert difference["baseline"] == "base" and difference["low"] <= difference["value"] <= difference["high"]


def test_the_files_released_are_proven_and_described(finished) -> None:
    release = json.loads((finished.run / "6_builds/release.json").read_text())
    builds = {b["quantisation"]: ModelBuild.model_validate(b) for b in release["builds"]}
    assert set(builds) == {"q8_0", "q4_k_m"}
    assert json.loads((finished.run / "6_builds/parity-f32.json").read_text())["token_mismatches"] == []
    for build in builds.values():
        assert (finished.run / build.path).stat().st_size == build.bytes
        assert build.parity["top1_agreement"] > 0.5
    served = json.loads((finished.run / "5_reports/served.json").read_text())
    assert served["questions"] == 48 and served["verdict"] in ("PASS", "INCONCLUSIVE")
    card = (finished.run / "6_builds/MODEL_CARD.md").read_text()
    assert "base_model: fieldwise-nano" in card and "RAG over SFT" in card and "must not be used" in card


def test_no_output_names_the_machine(finished) -> None:
    for manifest in (finished.run / "manifests").glob("*.json"):
        assert str(finished.folder) not in manifest.read_text()
    for name in (
        "4_adapters/sft/merged/config.json",
        "4_adapters/sft/adapter.json",
        "6_builds/release.json",
        "6_builds/MODEL_CARD.md",
    ):
        assert str(finished.folder) not in (finished.run / name).read_text(), name


def test_a_second_run_finds_everything_up_to_date_within_ten_seconds(finished) -> None:
    done, seconds = rerun(finished)
    assert done.returncode == 0, done.stderr
    assert {s["action"] for s in json.loads(done.stdout)["steps"]} == {"skip"}
    assert seconds < 10


def test_a_setting_of_a_late_stage_leaves_the_early_ones_alone(finished) -> None:
    done, _ = rerun(finished, "release.quantisations=[q8_0]", "--dry-run")
    actions = {p["step"]: p["action"] for p in json.loads(done.stdout)}
    assert [s for s, a in actions.items() if a == "run"] == ["5a_build", "5b_verify", "5c_release"]


def test_one_changed_document_is_read_again_and_no_other(finished, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder, symlinks=True)
    page = folder / "documents/quiet-room-notice.md"
    page.write_text(page.read_text() + "\nThe key of the quiet room hangs at reception.\n")
    memo = {p: p.stat().st_mtime_ns for p in (folder / "run/memo/extract").rglob("*.json")}
    done = subprocess.run(
        [*journey.command(folder / "recipe.yaml", folder / "run", journey.NO_GATES), "--end", "2i", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=journey.environment(),
        timeout=120,
    )
    assert [s["action"] for s in json.loads(done.stdout)["steps"]] == ["run", "run", "run"]
    after = set((folder / "run/memo/extract").rglob("*.json"))
    assert len(after - set(memo)) == 1


def test_lineage_can_be_walked_both_ways(finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "medication-storage.md", "--run", str(finished.run), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["used_in"]) >= {"chunk", "example", "adapter", "build"}
    build = next(b for b in document["used_in"]["build"] if "q8_0" in b["label"])
    assert main(["trace", build["id"], "--run", str(finished.run), "--json"]) == 0
    made_from = json.loads(capsys.readouterr().out)["made_from"]
    assert "medication-storage.md" in {d["label"] for d in made_from["document"]}
    assert {"adapter", "example", "chunk"} <= set(made_from)


def test_the_released_model_is_asked_from_the_command_line(finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "Where are drug fridges kept?", "--run", str(finished.run), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["model"] and len(answer["passages"]) >= 1
    for citation in answer["citations"]:
        assert citation["uri"] in journey.NAMES


def test_status_says_done_everywhere(finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--run", str(finished.run)]) == 0
    assert capsys.readouterr().out.count(" done ") == 11


def test_a_gate_that_says_no_stops_the_release_with_exit_code_3(finished, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder, symlinks=True)
    impossible = "evaluate.gates=[{metric: exact_match, system: rag_tuned, baseline: null, at_least: 0.999}]"
    arguments = [*journey.command(folder / "recipe.yaml", folder / "run", impossible), "--start", "4d"]
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, env=journey.environment(), timeout=300
    )
    assert done.returncode == 3
    assert "the gates say FAIL" in done.stderr and "Traceback" not in done.stderr
    earlier = json.loads((folder / "run/6_builds/release.json").read_text())
    assert earlier["verdict"] == "PASS"  # what was released before stays; the new candidate is not let out
    again = subprocess.run(
        [*arguments, "release.override=Dr. Test: trial on paper only"],
        capture_output=True,
        text=True,
        check=False,
        env=journey.environment(),
        timeout=300,
    )
    assert again.returncode == 0, again.stderr
    release = json.loads((folder / "run/6_builds/release.json").read_text())
    assert (release["verdict"], release["override"]) == ("FAIL", "Dr. Test: trial on paper only")
    assert "Released all the same: Dr. Test" in (folder / "run/6_builds/MODEL_CARD.md").read_text()


def test_no_file_of_the_adapters_names_a_folder_of_this_machine(finished) -> None:
    configs = {
        m: json.loads((finished.run / f"4_adapters/{m}/adapter/adapter_config.json").read_text())
        for m in ("sft", "preference")
    }
    assert configs["sft"]["base_model_name_or_path"] == "fieldwise-nano"
    assert configs["preference"]["base_model_name_or_path"] == "4_adapters/sft/merged"
    assert configs["sft"]["target_modules"] == sorted(configs["sft"]["target_modules"])
