import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fieldwise.cli import main

DOCUMENT = (
    "# Visits\n\nVisitors may stay until 20:00 on weekdays. The visitor log is kept for 14 days by the ward clerk.\n"
)


def call(*arguments: str) -> int:
    return main([*arguments])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/visits.md").write_text(DOCUMENT)
    assert call("collect", str(tmp_path / "docs"), "--run", str(tmp_path / "run"), "--quiet") == 0
    return tmp_path / "run"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--list"]])
def test_help_needs_no_heavy_library_and_is_quick(arguments: list[str]) -> None:
    code = (
        "import sys; from fieldwise.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'pyarrow', 'pandas', 'openvino', 'fastapi', 'sklearn'} & set(sys.modules)\nassert not heavy, heavy"
    )
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        seconds.append(time.monotonic() - began)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < 0.5, seconds


def test_importing_the_package_sets_the_switches_against_telemetry() -> None:
    code = "import fieldwise, os; print(os.environ['HF_HUB_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")}
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout.split() == ["1", "1"]


def test_a_user_error_is_one_line_without_traceback_and_exit_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fieldwise", "validate", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("fieldwise: ") and "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_json_errors_name_their_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("trace", "x", "--run", str(tmp_path), "--json") == 2
    error = json.loads(capsys.readouterr().out)
    assert error["error"] == "DatasetError" and error["found"] == "x" and error["fix"]


def test_list_names_every_stage_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--list", "--json") == 0
    assert [s["number"] for s in json.loads(capsys.readouterr().out)] == [
        "1",
        "2",
        "2i",
        "3",
        "4a",
        "4b",
        "4c",
        "4d",
        "5a",
        "5b",
        "5c",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "9"], "no such stage"),
        (["--stage", "1", "--end", "2"], "one or the other"),
        (["--start", "3", "--end", "2"], "range is empty"),
    ],
)
def test_stages_that_do_not_exist_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "--run", str(tmp_path), *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_stage_without_its_inputs_says_which_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--run", str(tmp_path / "r"), "--stage", "4c", "--quiet") == 2
    assert "needs 3_generate, 4b_train first" in capsys.readouterr().err


def test_a_second_collect_finds_everything_up_to_date(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call("collect", str(run.parent / "docs"), "--run", str(run), "--json", "--quiet") == 0
    assert json.loads(capsys.readouterr().out)["steps"][0]["action"] == "skip"


def test_a_dry_run_says_what_would_run_and_why(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.parent / "docs/more.md").write_text(DOCUMENT.replace("14", "15"))
    capsys.readouterr()
    assert call("run", "--run", str(run), "--dry-run", "--end", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"step": "1_collect", "action": "run", "reason": "files changed"}]
    assert not list(run.glob(".tmp-*"))


def test_changed_back_is_restored_without_running(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    actions = []
    for text in (DOCUMENT.replace("14", "15"), DOCUMENT):
        (run.parent / "docs/visits.md").write_text(text)
        capsys.readouterr()
        assert call("collect", str(run.parent / "docs"), "--run", str(run), "--json", "--quiet") == 0
        actions.append(json.loads(capsys.readouterr().out)["steps"][0]["action"])
    assert actions == ["run", "restore"]


def test_status_tells_done_and_missing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call("status", "--run", str(run), "--json") == 0
    steps = {s["name"]: s["state"] for s in json.loads(capsys.readouterr().out)["steps"]}
    assert steps["collect"] == "done" and steps["train"] == "missing"


def test_status_of_no_run_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("status", "--run", str(tmp_path / "none")) == 2
    assert "no run stands here" in capsys.readouterr().err


def test_a_document_is_traced_by_its_file_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call("trace", "visits.md", "--run", str(run), "--json") == 0
    assert json.loads(capsys.readouterr().out)["node"]["kind"] == "document"


def test_init_writes_a_valid_recipe_and_never_over_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("init", "legal", "--folder", str(tmp_path)) == 0
    assert (tmp_path / "documents").is_dir()
    assert call("validate", str(tmp_path / "recipe.yaml")) == 0
    assert "valid. Model legal-model" in capsys.readouterr().out
    assert call("init", "legal", "--folder", str(tmp_path)) == 2
    assert call("init", "astrology", "--folder", str(tmp_path / "b")) == 2


def test_the_doctor_names_machine_extras_and_versions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call("doctor", "--json", "--run", str(tmp_path)) in (0, 2)
    findings = {f["name"]: f for f in json.loads(capsys.readouterr().out)}
    assert {"cores", "memory", "disk", "GPU", "train", "gguf", "torch"} <= set(findings)
    assert findings["torch"]["state"] in ("ok", "note")


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.xyz").write_bytes(b"\x00\x01")
    assert call("collect", str(tmp_path / "docs"), "--run", str(tmp_path / "run"), "--quiet") == 2
    error = capsys.readouterr().err
    assert ".xyz" in error and "pdf" in error
