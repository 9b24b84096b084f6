import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fieldwise import doctor
from fieldwise.cli import main
from fieldwise.errors import GateFailed
from fieldwise.run import RunFolder

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


@pytest.mark.parametrize(("arguments", "limit"), [(["--help"], 0.5), (["--version"], 0.5), (["run", "--list"], 1.0)])
def test_help_needs_no_heavy_library_and_is_quick(arguments: list[str], limit: float) -> None:
    code = (
        "import sys; from fieldwise.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'pyarrow', 'pandas', 'openvino', 'fastapi', 'sklearn'} & set(sys.modules)\nassert not heavy, heavy"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # CPU time: other work on the machine does not count
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < limit, seconds


def test_importing_the_package_sets_the_switches_against_telemetry() -> None:
    wanted = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "OPENVINO_TELEMETRY_DISABLE": "1",
    }
    code = f"import fieldwise, os; print(*(os.environ[name] for name in {list(wanted)}))"
    environment = {k: v for k, v in os.environ.items() if k not in wanted}
    for own in ({}, {"DO_NOT_TRACK": "user"}):  # what the user has set is kept
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**environment, **own}
        ).stdout.split()
        assert dict(zip(wanted, told, strict=True)) == {**wanted, **own}


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


def test_json_errors_name_their_parts(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call("trace", "x", "--run", str(run), "--json") == 2
    error = json.loads(capsys.readouterr().out)
    assert error["error"] == "DatasetError" and error["found"] == "x" and error["fix"]


def test_json_lists_the_problems_of_a_recipe_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("seed: x\nserve: {prot: 1}\n")
    assert call("validate", str(tmp_path / "r.yaml"), "--json") == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [p["what"] for p in problems] == ["unknown key", "expected a whole number"]


@pytest.mark.parametrize("arguments", [["--json", "run", "--list"], ["run", "--list", "--json"]])
def test_json_may_stand_before_the_command_or_after_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 0
    assert json.loads(capsys.readouterr().out)[0]["number"] == "1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["collect", "docs", "--run", "file/run"], "the run folder cannot be made, found Not a directory"),
        (["status", "--run", "x" * 300], "cannot be used, found File name too long"),
        (["init", "legal", "--folder", "file"], "the folder cannot be made, found Not a directory"),
        (["serve", "--port", "99999"], "command line: serve.port: must be less than or equal to 65535, found 99999"),
    ],
)
def test_a_place_or_number_that_cannot_be_is_told_without_traceback(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("docs").mkdir()
    Path("docs/visits.md").write_text(DOCUMENT)
    assert call(*arguments) == 2
    assert message in capsys.readouterr().err


def test_a_disk_that_fills_outside_a_stage_is_told_as_well(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, **_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "mkdir", full)
    assert call("init", "legal", "--folder", str(run.parent / "new")) == 2
    assert call("run", "--run", str(run), "--end", "1") == 2
    monkeypatch.setattr(RunFolder, "manifest", lambda run, step: full(run.path))
    assert call("status", "--run", str(run)) == 2
    assert capsys.readouterr().err.count("the disk is full") == 3


def test_a_reader_that_goes_away_ends_a_command_quietly() -> None:
    command = [sys.executable, "-m", "fieldwise", "run", "--list"]
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered)
    done.stdout.close()
    assert done.stderr.read() == b"" and done.wait() == 141


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
        "5s",
        "5c",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "9"], "no such stage"),
        (["--stage", "6"], "fieldwise serve"),
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
    assert "needs 2_prepare, 2i_index, 3_generate, 4b_train first" in capsys.readouterr().err


def test_sources_and_questions_are_looked_for_before_anything_is_done(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = (run / "recipe.yaml").read_text()
    assert call("collect", str(run.parent / "none"), "--run", str(run)) == 2
    assert call("run", "--run", str(run), "--end", "4a", "--force", "base.model=./none") == 2
    told = capsys.readouterr().err
    assert "the source is not there" in told and "the folder of the base model is not there" in told
    assert "1 collect:" not in told
    assert (run / "recipe.yaml").read_text() == recipe
    assert call("collect", str(run.parent / "none"), "--run", str(run.parent / "other")) == 2
    assert not (run.parent / "other").exists()


def test_a_gate_that_says_no_ends_with_the_table_and_exit_code_3(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise GateFailed("the gates say FAIL")

    monkeypatch.setattr("fieldwise.pipeline.run_steps", refuse)
    monkeypatch.setattr("fieldwise.evaluate.kept.read_report", lambda run: run.path.name)
    monkeypatch.setattr("fieldwise.evaluate.table.plain", lambda report: f"table of {report}")
    page = run / "5_reports/report.html"
    page.parent.mkdir()
    page.touch()
    capsys.readouterr()
    assert call("run", "--run", str(run), "--end", "1") == 3
    told = capsys.readouterr()
    assert "table of run" in told.out and "the gates say FAIL" in told.err
    assert told.out.count(str(page)) == 1


def test_a_run_that_was_measured_ends_with_the_table_and_names_the_page_once(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fieldwise.pipeline.run_steps", lambda *_, **__: [{"step": "4d_evaluate"}])
    monkeypatch.setattr("fieldwise.commands.stages._print_table", lambda run: None)
    (run / "5_reports").mkdir()
    for name in ("report.json", "report.html"):
        (run / "5_reports" / name).touch()
    capsys.readouterr()
    assert call("run", "--run", str(run), "--end", "1") == 0
    assert capsys.readouterr().out == f"\nRun folder: {run}\nReport:     {run / '5_reports/report.html'}\n"


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


def test_prepare_ends_with_the_report_of_documents_which_can_be_seen_again(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert call("run", "--run", str(run), "--stage", "prepare") == 0
    told = capsys.readouterr()
    report, _, steps = told.out.partition("\n\n")
    assert report.startswith("documents  1 found, 0 not read, 0 left out, 1 kept\n") and steps == "2_prepare: run\n"
    assert report.endswith(f"Report:     {run / '2_chunks/report.html'}") and "1 found, 1 read, 1 kept" in told.err
    assert call("documents", "--run", str(run)) == 0
    assert capsys.readouterr().out == report + "\n"


def test_status_tells_done_and_missing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call("status", "--run", str(run), "--json") == 0
    steps = {s["name"]: s["state"] for s in json.loads(capsys.readouterr().out)["steps"]}
    assert steps["collect"] == "done" and steps["train"] == "missing"


def test_status_without_the_sources_tells_what_stands(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.parent / "docs").rename(run.parent / "moved")
    capsys.readouterr()
    assert call("status", "--run", str(run), "--json") == 0
    collect = json.loads(capsys.readouterr().out)["steps"][0]
    assert collect["state"] == "unknown" and "the source is not there" in collect["reason"]
    assert call("run", "--run", str(run), "--end", "1", "--dry-run") == 2


def test_status_of_no_run_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("status", "--run", str(tmp_path / "none")) == 2
    assert "no run stands here" in capsys.readouterr().err


def test_a_document_is_traced_by_its_file_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call("trace", "visits.md", "--run", str(run), "--json") == 0
    assert json.loads(capsys.readouterr().out)["node"]["kind"] == "document"


def test_tracing_a_document_that_was_left_out_says_why(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.parent / "docs/empty.md").touch()
    assert call("collect", str(run.parent / "docs"), "--run", str(run)) == 0
    assert call("trace", "empty.md", "--run", str(run)) == 2
    assert "empty.md was left out, so nothing was made from it, found collect: empty" in capsys.readouterr().err


def test_validate_looks_for_the_places_a_recipe_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text(
        "collect: {sources: [docs, '*.md']}\nevaluate: {questions: q.jsonl}\nbase: {model: ./weights}\n"
    )
    assert call("validate", str(tmp_path / "r.yaml")) == 2
    told = capsys.readouterr().err
    assert "3 problems" in told
    assert all(key in told for key in ("collect.sources.0", "evaluate.questions", "base.model"))


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


def test_the_doctor_compares_with_the_tested_set() -> None:
    pins = Path("constraints.txt").read_text().splitlines()
    assert all(f"{name}=={version}" in pins for name, version in doctor._TESTED.items())


def test_the_doctor_names_what_is_missing_for_each_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_version", lambda name: None)
    told = {f.name: f for f in doctor._extras()}
    assert set(told) == set(doctor.EXTRAS)
    assert told["gguf"].state == "note" and "xllamacpp" in told["gguf"].value and "fieldwise[gguf]" in told["gguf"].fix


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.xyz").write_bytes(b"\x00\x01")
    assert call("collect", str(tmp_path / "docs"), "--run", str(tmp_path / "run"), "--quiet") == 2
    error = capsys.readouterr().err
    assert ".xyz" in error and "pdf" in error


@pytest.mark.parametrize("question", ["", "  ", "a\udcffb"])
def test_what_is_no_question_is_not_asked(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", question]) == 2
    assert "this is no question" in capsys.readouterr().err


def test_a_home_of_nobody_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "~nobody-of-this-name/x", "--run", str(tmp_path / "run")]) == 2
    assert "~nobody-of-this-name" in capsys.readouterr().err
