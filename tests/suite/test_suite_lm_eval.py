"""Tasks of lm-evaluation-harness over our own respondents; skipped where the harness is not installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import make_tiny_llama

from fieldwise.cli import main
from fieldwise.files import write_text
from fieldwise.suite.lm_eval import _cut, is_task

GENERATE = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""
CHOOSE = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: [red, green]
doc_to_target: 0
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 2}}
"""


def task(folder: Path, template: str, name: str) -> Path:
    rows = [{"question": f"Which colour has stone {n}?", "answer": "red"} for n in range(5)]
    write_text(folder / "rows.jsonl", "\n".join(map(json.dumps, rows)))
    path = folder / f"{name}.yaml"
    write_text(path, template.format(name=name, rows=folder / "rows.jsonl"))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("weights") / "tiny", seed=0)


def test_a_task_is_told_from_a_suite_by_its_keys(tmp_path: Path) -> None:
    assert is_task("lm-eval:gsm8k") and is_task(str(task(tmp_path, GENERATE, "stones")))
    write_text(tmp_path / "ward.yaml", "name: ward\nitems: []\n")
    assert not is_task(str(tmp_path / "ward.yaml")) and not is_task("safety") and not is_task("none.yaml")


def test_a_reply_ends_where_the_task_says() -> None:
    assert _cut("red\nand more", ["\n"]) == "red" and _cut("red", None) == "red" and _cut("a;b", ";") == "a"


def test_without_the_harness_the_command_names_what_to_install(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    assert (
        main(["suite", str(task(tmp_path, GENERATE, "stones")), "--weights", str(weights), "--out", str(tmp_path)]) == 2
    )
    assert "fieldwise[lm-eval]" in capsys.readouterr().err


def test_a_task_of_generation_is_asked_once_and_scored_by_the_harness(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval")
    command = ["suite", str(task(tmp_path, GENERATE, "stones")), "--weights", str(weights), "--max-tokens", "4"]
    command += ["--out", str(tmp_path / "out"), "--json"]
    assert main(command) == 0
    (found,) = json.loads(capsys.readouterr().out)["tasks"]
    assert (found["items"], found["version"]) == (5, "1")
    figure = found["metrics"]["exact_match"]
    assert figure["value"] == 0.0 and figure["n"] == 5 and 0.3 < figure["high"] < 0.6  # random weights
    (ledger,) = (tmp_path / "out").rglob("replies.jsonl")
    before = ledger.read_text()
    assert before.count("\n") == 5 and main(command) == 0 and ledger.read_text() == before
    assert main([*command, "--at-least", "0.5"]) == 2


def test_a_choice_is_rated_by_weights_and_refused_by_endpoints(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval")
    path = task(tmp_path, CHOOSE, "colours")
    assert main(["suite", str(path), "--weights", str(weights), "--out", str(tmp_path / "out"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["tasks"]
    assert found["metrics"]["acc"]["n"] == 5
    endpoint = ["--endpoint", "http://127.0.0.1:9/v1", "--model", "m"]
    assert main(["suite", str(path), *endpoint, "--out", str(tmp_path / "out")]) == 2
    assert "log-probabilities" in capsys.readouterr().err


def test_a_task_that_cannot_be_read_is_told_in_one_line(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval")
    path = task(tmp_path, GENERATE, "stones")
    write_text(path, path.read_text().replace("exact_match", "no_such_metric_here"))
    (tmp_path / "rows.jsonl").unlink()
    assert main(["suite", str(path), "--weights", str(weights), "--out", str(tmp_path / "out")]) == 2
    assert "the task cannot be run" in capsys.readouterr().err
