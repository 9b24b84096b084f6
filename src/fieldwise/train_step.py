"""The step that trains: its work, what its key holds, and what it needs and costs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from fieldwise.recipe import Recipe
from fieldwise.recipe_base import base_of, weights_hash
from fieldwise.run import RunFolder, StepRun

if TYPE_CHECKING:
    from fieldwise.train.scoring import TaskScore


def work(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    """Train and return what the manifest tells of it."""
    from fieldwise.train import stage

    sides = sides_in(recipe, step) if recipe.train.pretrain.enabled else {}
    return stage.run(recipe.train, base_of(recipe), step, stage.Asides(sides, task_score(recipe), recipe.compute))


def task_score(recipe: Recipe) -> TaskScore | None:
    """Return how the train stage is to judge replies, by the measures of the evaluation; None if it chooses by no score."""
    if recipe.train.sft.best_by != "score":
        return None
    from fieldwise.evaluate.selection import comparable, of_replies
    from fieldwise.train.scoring import TaskScore

    weights = recipe.evaluate.selection_weights
    return TaskScore(functools.partial(of_replies, weights=weights), comparable, recipe.evaluate.max_new_tokens)


def outside(recipe: Recipe) -> dict[str, JsonValue]:
    """Return the hash of the weights, of a teacher's, and what scores replies, each where the recipe asks for it."""
    found = weights_hash(recipe)
    if recipe.train.distillation is not None:
        from fieldwise.train.distil_teacher import fingerprint as of_teacher

        found |= of_teacher(recipe.train.distillation)
    if recipe.train.sft.best_by != "score":
        return found
    from fieldwise.evaluate.selection import fingerprint

    scored = fingerprint(recipe.evaluate.selection_weights)
    return {**found, "score": scored, "max_new_tokens": recipe.evaluate.max_new_tokens}


def sides_in(recipe: Recipe, step: StepRun) -> Mapping[str, str]:
    """Return on which side of the split each document stands, as the generate stage has put them."""
    from fieldwise.files import read_json
    from fieldwise.generate.split import sides_of
    from fieldwise.records import Chunk
    from fieldwise.tables import read_records

    chunks = read_records(step.run.require("2_chunks/chunks.parquet", "prepare"), Chunk)
    groups = read_json(step.run.require("2_chunks/groups.json", "prepare"))
    return sides_of(chunks, groups, recipe.generate.split, recipe.seed)


def settings(recipe: Recipe) -> dict[str, JsonValue]:
    """Return the settings that shape the weights; those a recipe leaves open are not among them."""
    split = {"split": recipe.generate.split.model_dump(mode="json")} if recipe.train.pretrain.enabled else {}
    shared = recipe.compute.keyed()
    return {"train": recipe.train.keyed(), **split, **({"compute": shared} if shared else {})}


def require(recipe: Recipe) -> None:
    """Raise for what the recipe wants to train and this machine, its libraries or the weights do not allow."""
    from fieldwise.train.forecast import require_trainable

    if recipe.evaluate.selection != "f1":
        from fieldwise.evaluate.selection import require_measures

        require_measures(recipe.evaluate.selection_weights)
    require_trainable(recipe.train, Path(base_of(recipe).path), recipe.compute)
    if recipe.train.distillation is not None:
        from fieldwise.train.distil_teacher import require_fitting

        require_fitting(recipe.train.distillation, Path(base_of(recipe).path))


def estimate(recipe: Recipe, run: RunFolder) -> str | None:
    """Return what the training would take, None before there are examples to tell it from."""
    from fieldwise.train.forecast import told_before

    told = told_before(recipe.train, Path(base_of(recipe).path), run.path, recipe.compute)
    if recipe.train.distillation is None:
        return told
    from fieldwise.train import distil_sequence

    return "\n".join(t for t in (told, distil_sequence.told_before(recipe.train.distillation, run.path)) if t)
