import ast
import json
import shutil
from pathlib import Path

import pytest
from fieldwise_nano import weights

import fieldwise
from fieldwise.errors import FieldwiseError, ModelError
from fieldwise.pipeline import choose, plan_all, require_outside, run_steps
from fieldwise.recipe import Recipe, load_recipe
from fieldwise.run import RunFolder, StepRun
from fieldwise.steps import STEPS, Step

ROOT = Path(fieldwise.__file__).parent


def _copy(source: str, target: str, step: StepRun) -> dict[str, object]:
    (step.work / "ledger").write_text("asked")
    step.out(target).write_text(source)
    return {}


FIRST = Step("1a", "first", "", (), (), (), lambda r: {"name": r.name}, lambda r, s: _copy(r.name, "a.txt", s))
SECOND = Step("2a", "second", "", ("1a_first",), (), (), lambda r: {}, lambda r, s: _copy(r.name, "b.txt", s))


def actions(recipe: Recipe, run: RunFolder) -> list[str]:
    return [p.action for p in plan_all(recipe, run, (FIRST, SECOND))]


def test_a_plan_looks_behind_what_would_be_restored(tmp_path: Path) -> None:
    run, one, two = RunFolder(tmp_path), Recipe(name="one"), Recipe(name="two")
    for recipe in (one, two):
        with run.locked("test"):
            run_steps(recipe, run, (FIRST, SECOND))
    assert actions(two, run) == ["skip", "skip"]
    assert actions(one, run) == ["restore", "restore"]  # not "skip": what stands there was made from the other
    with run.locked("test"):
        assert [h["action"] for h in run_steps(one, run, (FIRST, SECOND))] == ["restore", "restore"]
    assert (tmp_path / "b.txt").read_text() == "one"


def test_force_does_not_take_over_the_work_of_the_last_time(tmp_path: Path) -> None:
    seen: list[bool] = []

    def work(recipe: Recipe, step: StepRun) -> dict[str, object]:
        seen.append((step.work / "ledger").exists())
        return _copy(recipe.name, "a.txt", step)

    step = Step("1a", "first", "", (), (), (), lambda r: {}, work)
    for force in (False, True):
        run_steps(Recipe(), RunFolder(tmp_path), (step,), force=force)
    assert seen == [False, False]


def test_gone_on_with_another_recipe_an_unfinished_step_names_the_difference(tmp_path: Path) -> None:
    def work(recipe: Recipe, step: StepRun) -> dict[str, object]:
        found = sorted(p.name for p in step.work.iterdir())
        if recipe.seed == 1 and "ledger" not in found:
            (step.work / "ledger").write_text("half")
            raise ModelError("stopped in the middle")
        return _copy(" ".join(found), "a.txt", step)

    step = Step("1a", "first", "", (), (), (), lambda r: {"name": r.name}, work)
    run, one, two = RunFolder(tmp_path), Recipe(seed=1), Recipe(seed=2, name="two")
    with pytest.raises(ModelError):
        run_steps(one, run, (step,))
    assert plan_all(one, run, (step,))[0].reason == "never run here"
    told = plan_all(two, run, (step,))[0].reason
    assert "begun before and not finished" in told and "seed: 1 -> 2" in told and "name: 'fieldwise' -> 'two'" in told
    run_steps(one, run, (step,))  # the first recipe again: goes on
    assert (tmp_path / "a.txt").read_text() == "key.json ledger"


def test_a_release_needs_the_system_it_is_compared_with(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["evaluate.systems=[base]", "evaluate.gates=[]"])
    with pytest.raises(FieldwiseError, match=r"evaluate\.systems: the served file is compared with rag_tuned"):
        require_outside(recipe, RunFolder(tmp_path), choose("5b"))


def test_a_run_that_is_its_own_source_is_refused_and_one_below_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    recipe = load_recipe(None, [f"collect.sources=[{tmp_path}]"])
    require_outside(recipe, RunFolder(tmp_path / "runs/mine"), choose("1"))
    with pytest.raises(FieldwiseError, match="the run folder is the source itself"):
        require_outside(recipe, RunFolder(tmp_path), choose("1"))


@pytest.mark.parametrize("room", ["collect", "prepare", "generate", "train", "evaluate", "release"])
def test_the_key_of_a_step_covers_the_tools_its_room_imports(room: str) -> None:
    covered = {name for step in STEPS if room in step.rooms for name in step.rooms}
    for path in (ROOT / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fieldwise."):
                parts = (node.module or "").split(".")[1:]
                if parts[0] in ("engine", "retrieve", "page", "rows", "decode", "shingles") and parts[-1] != "settings":
                    assert parts[0] in covered or "/".join(parts) in covered, f"{path.name} imports {node.module}"


def test_a_base_that_allows_no_k_quant_is_refused_before_anything_runs(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(weights(), base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "hidden_size": 288}))
    recipe = load_recipe(None, [f"base.model={base}"])
    with pytest.raises(FieldwiseError, match="these weights do not allow q4_k_m"):
        require_outside(recipe, RunFolder(tmp_path / "run"), choose("5a"))
    plain = load_recipe(None, [f"base.model={base}", "release.quantisations=[q8_0]"])
    require_outside(plain, RunFolder(tmp_path / "run"), choose("5a"))
