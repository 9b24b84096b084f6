"""Sweeps: the grid, what its points share, what a failing one does, and a whole one over the smallest recipe."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sweep_recipe

from fieldwise.errors import FieldwiseError, ModelError, RecipeError
from fieldwise.files import write_json, write_jsonl
from fieldwise.recipe import Recipe
from fieldwise.records import Answer
from fieldwise.run import RunFolder, StepRun
from fieldwise.steps import Step
from fieldwise.sweep import grid as grids
from fieldwise.sweep import running
from fieldwise.sweep.grid import axes_of, default_name, grid
from fieldwise.sweep.table import plain, require_metrics, tabulate

RANK, ALPHA = "train.sft.lora.rank", "train.sft.lora.alpha"


def test_the_examples_of_the_docstrings_hold() -> None:
    tested = doctest.testmod(grids)
    assert tested.attempted > 0 and tested.failed == 0


def test_every_combination_is_a_point_and_the_recipes_own_is_among_them() -> None:
    made = grid(None, [f"{RANK}=4,8", "train.sft.learning_rate=1e-3,5e-4", "seed=7"])
    own = Recipe().train.sft
    assert [tuple(p.values.values()) for p in made.points[:4]] == [(4, 1e-3), (4, 5e-4), (8, 1e-3), (8, 5e-4)]
    assert made.own.values == {RANK: own.lora.rank, "train.sft.learning_rate": own.learning_rate}
    assert len(made.points) == 5 and all(p.recipe.seed == 7 for p in made.points)
    assert len({p.name for p in made.points}) == 5 and default_name(made.keys) == "rank-learning_rate"


def test_a_point_that_is_the_recipe_itself_is_not_doubled() -> None:
    made = grid(None, [f"{RANK}=16,16,4"])
    assert [(p.values[RANK], p.is_own) for p in made.points] == [(16, True), (4, False)]


def test_settings_can_vary_together_and_lists_are_one_value() -> None:
    made = grid(None, [f"{RANK}:{ALPHA}=4:8,8:16"])
    assert [tuple(p.values.values()) for p in made.points] == [(4, 8), (8, 16), (16, 32)]
    axes, fixed = axes_of(["train.sft.lora.target_modules=[q_proj, v_proj],all-linear", "collect.licence='a, b'"])
    assert axes[0].values == (("[q_proj, v_proj]",), ("all-linear",)) and fixed == ["collect.licence='a, b'"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([f"{RANK}=4"], "nothing varies"),
        ([f"{RANK}=4,", "seed=1"], "a value is missing"),
        ([f"{RANK}:{ALPHA}=4:8,8"], "2 settings that vary together need as many values, found '8'"),
        ([f"{RANK}=4,8", f"{RANK}=16,32"], "varies twice"),
        ([f"{RANK}={','.join(map(str, range(1, 300)))}"], "299 points"),
    ],
)
def test_what_is_no_grid_is_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(FieldwiseError, match=told):
        grid(None, overrides)


def test_all_wrong_values_are_told_before_anything_runs() -> None:
    with pytest.raises(RecipeError) as caught:
        grid(None, [f"{RANK}=4,0,many", "train.sft.epoch=1,2"])
    told = str(caught.value)
    assert "found 0" in told and "found 'many'" in told and "Did you mean train.sft.epochs" in told


# ---------------------------------------------------------------- running


MADE: list[tuple[str, int]] = []


def _work(name: str) -> object:
    def work(recipe: Recipe, step: StepRun) -> dict[str, object]:
        rank = recipe.train.sft.lora.rank
        MADE.append((name, rank))
        if name == "b" and rank == 64:
            raise ModelError("the loss is not a number at step 3", where="train.sft", fix="Lower it.")
        step.out(f"{name}.txt").write_text(f"{rank if name == 'b' else 'same'}")
        return {}

    return work


FIRST = Step("1a", "first", "", (), (), (), lambda r: {"name": r.name}, _work("a"))  # type: ignore[arg-type]
SECOND = Step("2a", "second", "", ("1a_first",), (), (), lambda r: {"rank": r.train.sft.lora.rank}, _work("b"))  # type: ignore[arg-type]


@pytest.fixture
def made_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    monkeypatch.setattr(running, "require_outside", lambda *_: None)
    MADE.clear()
    return MADE


def test_points_share_what_no_value_changes_and_a_second_call_makes_nothing(tmp_path: Path, made_steps) -> None:
    home = RunFolder(tmp_path / "run")
    points = grid(None, [f"{RANK}=4,8"])
    ran = running.run_grid(points, home, "rank", (FIRST, SECOND))
    assert made_steps == [("a", 16), ("b", 16), ("b", 4), ("b", 8)]  # the recipe's own value first
    assert [(r.run.path / "b.txt").read_text() for r in ran] == ["16", "4", "8"] and not (home.path / "b.txt").exists()
    assert len(list((home.store / "keys").glob("*.json"))) == 4 and ran[1].run.store.is_symlink()
    running.run_grid(grid(None, [f"{RANK}=4,8,32"]), home, "rank", (FIRST, SECOND))
    assert made_steps[4:] == [("b", 32)]
    home.path.rename(tmp_path / "moved")  # links are relative
    running.run_grid(points, RunFolder(tmp_path / "moved"), "rank", (FIRST, SECOND))
    assert made_steps[5:] == []


def test_a_point_that_fails_does_not_end_the_others(tmp_path: Path, made_steps) -> None:
    points = grid(None, [f"{RANK}=64,4"])
    ran = running.run_grid(points, RunFolder(tmp_path), "rank", (FIRST, SECOND))
    assert [(r.point.values[RANK], r.error is not None) for r in ran] == [(16, False), (64, True), (4, False)]
    ran = running.run_grid(points, RunFolder(tmp_path), "rank", (FIRST, SECOND))  # only what failed is tried again
    assert made_steps[-1] == ("b", 64) and made_steps.count(("b", 4)) == 1


def test_two_sweeps_of_one_run_do_not_write_at_once(tmp_path: Path, made_steps) -> None:
    with RunFolder(tmp_path).locked("test"), pytest.raises(FieldwiseError, match="another command is writing"):
        running.run_grid(grid(None, [f"{RANK}=64,4"]), RunFolder(tmp_path), "rank", (FIRST, SECOND))
    assert made_steps == []


# ---------------------------------------------------------------- the table


def measured(run: RunFolder, right: int) -> None:
    """Write the answers of a run to 40 questions, so many of them right."""
    rows = []
    for n in range(40):
        said = "14 days" if n < right else "a week"
        answer = Answer(text=said, answer=said, model="m").model_dump(mode="json")
        rows.append(
            {"id": f"q{n}", "question": f"Q{n}?", "expected": "14 days", "document": f"d{n}.md", "answer": answer}
        )
    write_jsonl(run.path / "5_reports/predictions/rag_tuned.jsonl", rows)
    write_json(run.path / "5_reports/report.json", {"seed": 1, "questions_sha256": "x"})


def test_the_table_has_intervals_and_paired_differences_to_the_recipes_own_value(tmp_path: Path) -> None:
    points = grid(None, [f"{RANK}=4,8,16"])
    ran = []
    for right, point in zip((10, 20, 38), points.points, strict=True):
        run = RunFolder(tmp_path / point.name)
        measured(run, right)
        ran.append(running.Ran(point, run, None))
    ran[1] = ran[1]._replace(error=ModelError("the loss is not a number"))
    found = tabulate(points, ran, "rank", ("exact_match", "token_f1"), None, is_measured=True)
    first, second, own = found.rows
    assert own.is_own and own.differences == {} and own.figures["exact_match"].value == 0.95
    change = first.differences["exact_match"]
    assert change.value == -0.7 and change.high is not None and change.high < 0 and change.n == 40
    pair = sorted((d.p or 0.0, d.p_adjusted or 0.0) for d in first.differences.values())
    assert (
        pair[0][1] == pytest.approx(min(2 * pair[0][0], 1), abs=0) and pair[1][1] >= pair[1][0]
    )  # two differences, Holm
    assert second.error is not None and second.figures == {} and found.has_failed and found.questions == 40
    table = plain(found)
    assert "0.95 [0.8" in table and "-0.700 [-0." in table and "rank 8: the loss is not a number" in table
    assert "chosen by its luck" in table


def test_an_unknown_metric_is_refused_before_anything_runs() -> None:
    with pytest.raises(FieldwiseError, match=r"unknown metric.*token_f2"):
        require_metrics(["token_f2"])


# ---------------------------------------------------------------- whole


@pytest.mark.slow
def test_a_rank_study_over_the_smallest_recipe(tmp_path: Path) -> None:
    recipe = sweep_recipe.write(tmp_path)
    call = [
        "from fieldwise.commands import sweep",
        "from fieldwise.commands.common import parents",
        "import argparse, sys",
        "parser = argparse.ArgumentParser()",
        "sweep.add(parser.add_subparsers(), parents())",
        "options = parser.parse_args(sys.argv[1:])",
        "sys.exit(options.command(options))",
    ]
    words = ["sweep", "--json", "--config", str(recipe), "--run", str(tmp_path / "run"), f"{RANK}:{ALPHA}=2:4"]
    words[-1] += ",4:8"

    def run() -> tuple[dict, str]:
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(call), *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            timeout=500,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout), done.stderr

    found, told = run()
    assert told.count("read the sources into documents") == 1  # made once, for the first point
    assert (
        told.count("measure the base before training (") == 1 and told.count("fine-tune: SFT, then preferences (") == 3
    )
    assert [(r["values"][RANK], r["is_own"]) for r in found["rows"]] == [(2, False), (4, False), (8, True)]
    assert {r["figures"]["overall_f1"]["n"] for r in found["rows"]} == {24}
    losses = [r["training"]["sft eval_loss"] for r in found["rows"]]
    assert len(set(losses)) == 3
    assert all(r["differences"]["bits_per_byte"]["n"] == 24 for r in found["rows"] if not r["is_own"])
    again, told = run()
    assert again == found and "fine-tune" not in told
    from fieldwise.adapters.registry import open_registry

    entries = open_registry([tmp_path / "run"]).entries  # the home run itself holds no adapter, its points do
    assert sorted(e.lora.rank for e in entries if e.lora) == [2, 4, 8] and all(e.is_standing for e in entries)
