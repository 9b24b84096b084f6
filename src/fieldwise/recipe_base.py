"""The base weights that a recipe names."""

from __future__ import annotations

from functools import cache

from pydantic import JsonValue

from fieldwise.engine.base_weights import resolve
from fieldwise.recipe import Recipe
from fieldwise.records import BaseWeights


@cache
def _resolved(model: str, revision: str | None) -> BaseWeights:
    """Once a process: hashing them takes a moment."""
    return resolve(model, revision)


def base_of(recipe: Recipe) -> BaseWeights:
    """Return the base weights of a recipe with their hash."""
    return _resolved(recipe.base.model, recipe.base.revision)


def weights_hash(recipe: Recipe) -> dict[str, JsonValue]:
    """Return what a step's key holds of the base weights."""
    return {"base": base_of(recipe).sha256}
