"""A recipe from its file and the command line, all problems told together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fieldwise.errors import FieldwiseError, RecipeError
from fieldwise.files import write_text
from fieldwise.recipe.contradictions import contradictions
from fieldwise.recipe.model import Recipe
from fieldwise.recipe.overrides import apply
from fieldwise.recipe.places import with_absolute_places
from fieldwise.recipe.problems import in_plain_words, unknown_keys, without_unknown
from fieldwise.recipe.reading import read_yaml


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file (None: all defaults), apply `key=value` overrides, and check everything.

    Places of sources, questions and weights become absolute. They count from the folder of the recipe file, those
    of overrides from the current folder.
    """
    raw: dict[str, Any] = {}
    places: dict[str, str] = {}
    problems: list[FieldwiseError] = []
    if path is not None:
        raw, places, problems = read_yaml(path)
    problems += [p for override in overrides if (p := apply(raw, override, places)) is not None]
    problems += unknown_keys(raw, Recipe, "", places)
    try:  # without what is unknown, to say in the same breath what else is wrong
        recipe = Recipe.model_validate(without_unknown(raw, Recipe))
        problems += contradictions(recipe, places)
    except ValidationError as error:
        problems += [in_plain_words(e, places) for e in error.errors()]
    if problems:
        raise RecipeError(problems, where=path)
    return with_absolute_places(recipe, path.resolve().parent if path is not None else Path.cwd(), places)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe atomically."""
    write_text(path, recipe.to_yaml())
