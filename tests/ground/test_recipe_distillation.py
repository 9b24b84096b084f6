"""A teacher in a recipe: its place, its problems, and what of it enters the key of the step."""

from pathlib import Path

import pytest

from fieldwise.errors import ModelError, RecipeError
from fieldwise.recipe import load_recipe, missing_places
from fieldwise.steps import STEPS

TRAIN = next(step for step in STEPS if step.id == "4b_train")
TOKEN = "base: {model: fieldwise-nano/nano-2m}\ntrain:\n  distillation: {method: token, teacher: {model: %s}}\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_teacher_counts_from_the_folder_of_the_recipe_and_is_missed_in_time(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, TOKEN % "./large"))
    assert recipe.train.distillation is not None
    assert recipe.train.distillation.teacher.model == str(tmp_path / "large")
    assert [str(p.where) for p in missing_places(recipe)] == ["train.distillation.teacher.model"]
    with pytest.raises(ModelError, match=r"train\.distillation\.teacher\.model"):
        TRAIN.outside(recipe)


def test_the_weights_of_the_teacher_enter_the_key_and_their_place_does_not(tmp_path: Path) -> None:
    pytest.importorskip("fieldwise_nano")
    recipe = load_recipe(written(tmp_path, TOKEN % "fieldwise-nano/nano-10m"))
    plain = load_recipe(written(tmp_path, "base: {model: fieldwise-nano/nano-2m}\n"))
    assert set(TRAIN.outside(recipe)) - set(TRAIN.outside(plain)) == {"teacher"}
    assert "distillation" not in str(TRAIN.settings(plain)) and "nano-10m" not in str(TRAIN.settings(recipe))
    assert TRAIN.require is not None
    TRAIN.require(recipe)


def test_an_endpoint_without_address_is_told_with_its_key(tmp_path: Path) -> None:
    text = "train:\n  distillation: {teacher: {endpoint: {model: large}}}\n"
    with pytest.raises(RecipeError, match=r"train\.distillation\.teacher\.endpoint\.base_url"):
        load_recipe(written(tmp_path, text))


def test_a_misspelt_key_has_its_neighbour_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Did you mean train\.distillation\.top_k"):
        load_recipe(written(tmp_path, TOKEN % "fieldwise-nano"), ["train.distillation.topk=3"])
