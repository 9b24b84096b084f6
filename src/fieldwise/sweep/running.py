"""Run the points of a sweep one after the other, each in a run folder of its own that shares the store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fieldwise.errors import FieldwiseError, RunError
from fieldwise.pipeline import choose, require_outside, run_steps
from fieldwise.progress import say
from fieldwise.recipe import save_recipe
from fieldwise.run import RunFolder
from fieldwise.steps import Step
from fieldwise.sweep.grid import Grid, Point

FOLDER = "sweeps"
_SHARED = ("store", "memo")


class Ran(NamedTuple):
    """What became of a point: its run, or why it failed."""

    point: Point
    run: RunFolder
    error: FieldwiseError | None


def steps_until(end: str) -> tuple[Step, ...]:
    """The steps of every point: up to the choice (4c) or the report (4d)."""
    return choose(end=end)


def run_grid(grid: Grid, home: RunFolder, name: str, steps: Sequence[Step]) -> list[Ran]:
    """Bring every point up to date, the recipe's own value first; a point that fails does not end the others."""
    folder = home.path / FOLDER / name
    runs = [(point, RunFolder(folder / point.name)) for point in _own_first(grid)]
    for point, run in runs:
        require_outside(point.recipe, run, tuple(steps))
    done: list[Ran] = []
    with home.locked("fieldwise sweep"):
        if not home.recipe_path.is_file():
            save_recipe(grid.own.recipe, home.recipe_path)
        for number, (point, run) in enumerate(runs, 1):
            told = ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in point.values.items())
            say(f"{number}/{len(runs)} {told}{' (the recipe)' if point.is_own else ''}")
            _share(home, run)
            try:
                with run.locked("fieldwise sweep"):
                    run_steps(point.recipe, run, tuple(steps))
            except RunError:
                raise  # a full disk or a lock meets every point
            except FieldwiseError as error:
                say(f"  failed: {error}")
                done.append(Ran(point, run, error))
            else:
                done.append(Ran(point, run, None))
    return done


def _own_first(grid: Grid) -> list[Point]:
    return [grid.own, *(p for p in grid.points if not p.is_own)]


def _share(home: RunFolder, run: RunFolder) -> None:
    """Let a point's run keep its contents and memos where those of the home run are, by relative links."""
    run.path.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        place, there = home.path / name, run.path / name
        place.mkdir(exist_ok=True)
        if there.is_symlink() and not there.exists():
            there.unlink()  # the home was moved
        if not there.exists():
            there.symlink_to(Path(os.path.relpath(place, run.path)), target_is_directory=True)
