"""Step 5s over real tiny weights: base, SFT and a quantised file through shipped and own suites."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from tiny_models import make_tiny_llama

from fieldwise.errors import DatasetError, FieldwiseError, GateFailed, RecipeError
from fieldwise.evaluate.quarantine import Flaky, Quarantine
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.files import read_json, write_json
from fieldwise.pipeline import choose, plan_all, run_steps, wanted
from fieldwise.recipe import Recipe, load_recipe, missing_places
from fieldwise.records import BaseWeights, ModelBuild
from fieldwise.release.gguf import convert
from fieldwise.release.settings import ReleaseSettings
from fieldwise.release.stage import run_release
from fieldwise.run import RunFolder, StepRun
from fieldwise.steps import STEPS, quarantine_of, wanted_inputs
from fieldwise.suite.stage import run_suites

FLAKY = Flaky(suite="ward", item="i3", passed=2, of=5, how="m", measured=date(2026, 1, 1), expires=date(2026, 2, 1))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base and SFT with different random weights, and the SFT weights as a file."""
    folder = tmp_path_factory.mktemp("weights")
    make_tiny_llama(folder / "base", seed=1)
    make_tiny_llama(folder / "sft", seed=0)
    convert(folder / "sft", folder / "sft.gguf")
    return folder


@pytest.fixture
def step(weights: Path, tmp_path: Path) -> StepRun:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(weights / "sft", run.path / "4_adapters/sft/merged")
    write_json(run.path / "4_adapters/selected.json", {"selected": "sft"})
    (run.path / "6_builds").mkdir(parents=True)
    shutil.copy(weights / "sft.gguf", run.path / "6_builds/ward-f32.gguf")
    build = ModelBuild(
        id="b", format="gguf", quantisation="f32", adapter_id="a", sha256="0", bytes=1, path="6_builds/ward-f32.gguf"
    )
    write_json(run.path / "6_builds/ward-f32.build.json", build.model_dump(mode="json"))
    return StepRun(run, "5s_suites", "0" * 64, 0)


@pytest.fixture
def own(tmp_path: Path) -> str:
    """Items that no random weights pass, and one secret that the system message gives away if it is repeated."""
    rows = [
        {"id": f"i{n}", "prompt": f"Say the word number {n}.", "checks": [{"contains": "xylophone"}]} for n in range(24)
    ]
    path = tmp_path / "ward.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def base(weights: Path) -> BaseWeights:
    return BaseWeights(model="tiny", path=str(weights / "base"), sha256="ab")


def test_every_stage_is_asked_and_the_weights_and_the_file_are_judged(step: StepRun, weights: Path, own: str) -> None:
    settings = EvaluateSettings(suites=(own,), suite_tokens=4)
    facts = run_suites(settings, base(weights), step, serve="f32", quarantine=Quarantine((FLAKY,), ()))
    report = json.loads((step.staging / "5_reports/suites.json").read_text())
    (suite,) = report["suites"]
    assert list(suite["systems"]) == ["base", "sft", "served"] and facts["verdict"] == "PASS"
    assert [g["requirement"].split(":")[0] for g in report["gates"]] == ["sft on ward", "served on ward"]
    assert all("n=23; 1 flaky item left out" in g["found"] for g in report["gates"])
    assert suite["quarantined"][0]["item"] == "i3" and suite["expired"] == []
    rows = [json.loads(x) for x in (step.staging / "5_reports/suites/ward/served.jsonl").read_text().splitlines()]
    assert len(rows) == 24 and {r["is_passed"] for r in rows} == {False}
    same = [
        json.loads(x)["reply"]["text"]
        for x in (step.staging / "5_reports/suites/ward/sft.jsonl").read_text().splitlines()
    ]
    assert sum(a == r["reply"]["text"] for a, r in zip(same, rows, strict=True)) > 20  # one set of weights, two engines


def test_a_release_is_refused_where_a_suite_says_no(step: StepRun) -> None:
    run = step.run
    for name in ("report", "served"):
        write_json(run.path / f"5_reports/{name}.json", {"verdict": "PASS", "gates": []})
    gate = {"metric": "suite safety", "verdict": "FAIL", "requirement": "no new", "found": "1 new (h4)"}
    write_json(run.path / "5_reports/suites.json", {"verdict": "FAIL", "gates": [gate]})
    with pytest.raises(GateFailed, match="h4"):
        run_release(ReleaseSettings(), BaseWeights(), step, name="m", domain="d", has_suites=True)


def test_what_a_judge_says_no_to_is_refused_as_well(step: StepRun) -> None:
    for name in ("report", "served"):
        write_json(step.run.path / f"5_reports/{name}.json", {"verdict": "PASS", "gates": []})
    judged = {"verdict": "FAIL", "gates": [{"verdict": "FAIL", "requirement": "judge: 0.8", "found": "0.2"}]}
    with pytest.raises(GateFailed, match=r"judge: 0\.8"):
        run_release(ReleaseSettings(), BaseWeights(), step, name="m", domain="d", judged=judged)


# ---------------------------------------------------------------- off, and on by one line


def test_without_suites_the_step_is_not_there_and_no_key_changes(tmp_path: Path) -> None:
    recipe, run = Recipe(), RunFolder(tmp_path / "run")
    assert "5s_suites" not in [s.id for s in wanted(STEPS, recipe)]
    release = choose("5c")[0]
    assert "5s_suites" in release.inputs and "5s_suites" not in wanted_inputs(release, recipe)
    with pytest.raises(FieldwiseError, match=r"evaluate\.suites"):
        run_steps(recipe, run, choose("5s"))
    on = load_recipe(None, ["evaluate.suites=[safety, general]"])
    assert "5s_suites" in wanted_inputs(release, on) and "5s" in [s.number for s in choose("5")]
    for step in STEPS[:-2]:
        assert step.settings(recipe) == step.settings(on), step.id
        assert step.beside(recipe, run) == {} == step.beside(on, run)
    assert [p.step.number for p in plan_all(on, run, choose("5s"))] == ["5s"]


def test_what_a_judge_or_a_quarantine_says_is_part_of_a_key_only_where_it_is_asked_for(tmp_path: Path) -> None:
    run, release, suites = RunFolder(tmp_path / "run"), choose("5c")[0], choose("5s")[0]
    asks = load_recipe(None, ["evaluate.judge_at_least=0.8"])
    assert release.beside(asks, run) == {"judge": None, "judge_at_least": 0.8}
    write_json(run.path / "5_reports/judge.json", {})
    assert release.beside(asks, run)["judge"] and release.beside(Recipe(), run) == {}
    entry = "{suite: general, item: g01, passed: 2, of: 5, how: m, measured: 2020-01-01, expires: 2020-02-01}"
    (tmp_path / "quarantine.yaml").write_text(f"- {entry}")
    named = load_recipe(None, ["evaluate.suites=[general]", f"evaluate.quarantine={tmp_path / 'quarantine.yaml'}"])
    kept = suites.outside(named)["quarantine"]
    assert [e["item"] for e in kept["expired"]] == ["g01"] and kept["standing"] == []
    (tmp_path / "quarantine.yaml").write_text(f"- {entry}".replace("2020", str(datetime.now(UTC).year + 1)))
    assert [f.item for f in quarantine_of(named).standing] == ["g01"]
    assert suites.outside(named)["quarantine"] != kept


def test_suites_of_a_recipe_are_found_beside_it_and_unknown_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("evaluate: {suites: [safety, own.yaml, {suite: sub/two.jsonl, margin: 0.1}]}")
    recipe = load_recipe(path)
    assert [s.suite for s in recipe.evaluate.wanted_suites] == [
        "safety",
        str(tmp_path / "own.yaml"),
        str(tmp_path / "sub/two.jsonl"),
    ]
    assert [p.where for p in missing_places(recipe)] == ["evaluate.suites.1", "evaluate.suites.2"]
    path.write_text("evaluate: {suites: [saftey, safety, safety]}")
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    told = str(error.value)
    assert "no suite has this name" in told and "stands twice" in told


def test_a_suite_twice_by_another_name_is_refused(tmp_path: Path, step: StepRun, weights: Path, own: str) -> None:
    other = tmp_path / "sub/ward.jsonl"
    other.parent.mkdir()
    shutil.copy(own, other)
    with pytest.raises(DatasetError, match="stands twice"):
        run_suites(
            EvaluateSettings(suites=(own, str(other))), base(weights), step, serve="f32", quarantine=Quarantine()
        )


def test_figures_of_an_earlier_run_are_read_from_its_report(step: StepRun, weights: Path, own: str) -> None:
    settings = EvaluateSettings(suites=(own,), suite_tokens=4)
    first = run_suites(settings, base(weights), step, serve="f32", quarantine=Quarantine())
    ledger = sorted(p.name for p in step.work.glob("*.jsonl"))
    assert ledger == ["ward-base.jsonl", "ward-served.jsonl", "ward-sft.jsonl"]
    stamps = {p.name: p.stat().st_size for p in step.work.glob("*.jsonl")}
    assert run_suites(settings, base(weights), step, serve="f32", quarantine=Quarantine()) == first
    assert {p.name: p.stat().st_size for p in step.work.glob("*.jsonl")} == stamps  # nothing was asked again
    assert read_json(step.staging / "5_reports/suites.json")["selected"] == "sft"
