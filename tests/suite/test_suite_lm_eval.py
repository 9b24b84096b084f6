"""Tasks of lm-evaluation-harness over our own respondents; skipped where the harness is not installed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic import JsonValue
from tiny_models import make_tiny_llama

from fieldwise.cli import main
from fieldwise.errors import DatasetError, MissingExtra, RecipeError
from fieldwise.evaluate.quarantine import Quarantine
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.files import write_json, write_text
from fieldwise.pipeline import choose
from fieldwise.recipe import load_recipe
from fieldwise.records import BaseWeights
from fieldwise.release.gguf import convert
from fieldwise.run import RunFolder, StepRun
from fieldwise.suite.lm_eval import _cut, deciding, is_task, metrics_of
from fieldwise.suite.stage import run_suites
from fieldwise.suite.tasks import open_task

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
    write_text(tmp_path / "short.yaml", "include: stones.yaml\ntask: short\n")
    assert is_task(str(tmp_path / "short.yaml"))
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


# ---------------------------------------------------------------- a task as a suite of a release

READS_LONG = """\
include: {base}
task: longer
doc_to_text: !function words.long
"""


def long_too(folder: Path) -> Path:
    """A task whose third item is longer than any context here, by a function beside it."""
    base = task(folder, GENERATE, "stones")
    write_text(
        folder / "words.py", "def long(doc):\n    return doc['question'] * (4000 if ' 2?' in doc['question'] else 1)\n"
    )
    path = folder / "longer.yaml"
    write_text(path, READS_LONG.format(base=base.name))
    return path


def test_the_hash_of_a_task_covers_all_that_it_reads(tmp_path: Path) -> None:
    path = long_too(tmp_path)
    seen = {open_task(str(path)).sha256}
    for name in ("longer.yaml", "stones.yaml", "words.py", "rows.jsonl"):
        before = (tmp_path / name).read_text()
        write_text(tmp_path / name, before + "\n")
        seen.add(open_task(str(path)).sha256)
        write_text(tmp_path / name, before)
    assert len(seen) == 5 and open_task(str(path)).sha256 in seen
    write_text(tmp_path / "unrelated.yaml", "a: 1\n")
    assert open_task(str(path)).sha256 in seen


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("dataset_path: json", "dataset_path: openai/gsm8k"), "not a local file"),
        (("dataset_path: json", "dataset_path: pandas"), "not a local file"),
        (("rows.jsonl", "none.jsonl"), "are not there"),
        (("task: stones", "task: [a, b]"), "group of tasks"),
        (("task: stones", "include: stones.yaml"), "includes itself"),
        (("task: stones", "task: [stones"), "cannot be read"),
    ],
)
def test_a_task_that_a_release_could_not_repeat_is_refused(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    path = task(tmp_path, GENERATE, "stones")
    write_text(path, path.read_text().replace(*change))
    with pytest.raises(DatasetError, match=told):
        open_task(str(path))


def test_a_recipe_takes_a_task_file_and_no_name_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task(tmp_path, GENERATE, "stones")
    path = tmp_path / "recipe.yaml"
    write_text(path, "evaluate: {suites: [{suite: stones.yaml, at_least: 0.5}]}\n")
    recipe = load_recipe(path)
    (suites,) = choose("5s")
    assert list(suites.outside(recipe)["suites"]) == ["stones"]  # needs no harness
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    assert suites.require is not None
    with pytest.raises(MissingExtra, match="lm_eval"):
        suites.require(recipe)
    suites.require(load_recipe(None, ["evaluate.suites=[safety]"]))
    write_text(path, "evaluate: {suites: ['lm-eval:gsm8k']}\n")
    with pytest.raises(RecipeError, match="no suite of a release"):
        load_recipe(path)


def test_the_metric_that_decides_is_0_or_1_by_its_definition_or_the_one_wanted() -> None:
    values = {"f1": 0.0, "half": 0.5, "wrong": 1.0}
    rows = [
        {"doc_id": n, "filter": f, "metrics": [*values, "exact_match"], **values, "exact_match": float(n % 2)}
        for f in ("strict", "loose")
        for n in range(4)
    ]
    assert deciding(rows, {}) == "exact_match,strict" and deciding(rows[:4], {}) == "exact_match"
    assert deciding(rows, {}, "exact_match,loose") == "exact_match,loose" and deciding(rows[:4], {}, "f1") == "f1"
    assert deciding(rows, {}, "half") is None and deciding(rows, {"wrong": False}, "wrong") is None
    assert deciding([{**r, "metrics": ["f1"]} for r in rows], {}) is None  # 0 for all of them by chance
    assert metrics_of(rows)["exact_match,loose"] == [0.0, 1.0, 0.0, 1.0]


def test_a_metric_is_chosen_of_tasks_alone_and_changes_no_other_key(tmp_path: Path) -> None:
    path = task(tmp_path, GENERATE, "stones")
    recipe = load_recipe(None, [f"evaluate.suites=[{{suite: {path}, metric: f1}}, safety]"])
    (suites,) = choose("5s")
    first, second = suites.settings(recipe)["suites"]
    assert first["metric"] == "f1" and second == {"margin": None, "at_least": None}
    with pytest.raises(DatasetError, match="metrics to choose from"):
        suites.outside(load_recipe(None, ["evaluate.suites=[{suite: safety, metric: acc}]"]))


def test_a_task_stands_among_the_suites_of_a_release(tmp_path: Path, weights: Path) -> None:
    pytest.importorskip("lm_eval")
    run = RunFolder(tmp_path / "run")
    shutil.copytree(weights, run.path / "4_adapters/sft/merged")
    write_json(run.path / "4_adapters/selected.json", {"selected": "sft"})
    convert(weights, run.path / "6_builds/m-f32.gguf")
    write_json(run.path / "6_builds/m-f32.build.json", {"path": "6_builds/m-f32.gguf", "adapter_id": "a"})
    step = StepRun(run, "5s_suites", "0" * 64, 0)
    settings = EvaluateSettings(
        suites=(str(task(tmp_path, CHOOSE, "colours")), str(long_too(tmp_path))), suite_tokens=4
    )
    base = BaseWeights(model="tiny", path=str(weights), sha256="ab")

    def asked() -> dict[str, JsonValue]:
        return run_suites(settings, base, step, serve="f32", quarantine=Quarantine())

    facts = asked()
    report = json.loads((step.staging / "5_reports/suites.json").read_text())
    colours, longer = report["suites"]
    assert [colours["suite"], colours["version"], colours["items"]] == ["colours", "2", 5]
    assert colours["systems"]["served"]["passed"]["n"] == 5 and "acc" in colours["systems"]["sft"]["checks"]
    assert longer["systems"]["base"]["problems"] == {"too_long": 1} and longer["systems"]["base"]["passed"]["n"] == 4
    rows = [json.loads(x) for x in (step.staging / "5_reports/suites/longer/sft.jsonl").read_text().splitlines()]
    assert [r["is_passed"] for r in rows] == [False, False, None, False, False]
    assert rows[0]["asked"] == "Which colour has stone 0?" and rows[2]["reply"]["problem"] == "too_long"
    assert [g["requirement"].split(":")[0] for g in report["gates"]] == [
        f"{system} on {suite}" for suite in ("colours", "longer") for system in ("sft", "served")
    ]
    assert facts["verdict"] == "INCONCLUSIVE"  # five items decide nothing
    kept = {p.name: p.read_bytes() for p in step.work.glob("longer-*.jsonl")}
    assert len(kept) == 3 and asked() == facts
    assert {p.name: p.read_bytes() for p in step.work.glob("longer-*.jsonl")} == kept  # nothing is asked twice


def test_what_does_not_fit_the_context_is_not_scored(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval")
    path = long_too(tmp_path)
    command = ["suite", str(path), "--weights", str(weights), "--max-tokens", "4", "--out", str(tmp_path / "out")]
    assert main([*command, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["tasks"]
    assert found["problems"] == {"too_long": 1}
    assert (found["metrics"]["exact_match"]["n"], found["metrics"]["exact_match"]["unscored"]) == (4, 1)
    write_text(path, path.read_text().replace("stones.yaml", "colours.yaml"))
    task(tmp_path, CHOOSE, "colours")
    assert main([*command, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["tasks"]
    assert found["problems"] == {"too_long": 1} and found["metrics"]["acc"]["n"] == 4
