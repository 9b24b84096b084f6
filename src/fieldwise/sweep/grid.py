"""The points of a sweep: every combination of the values that overrides give, checked before anything runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.errors import FieldwiseError, RecipeError
from fieldwise.recipe import Recipe, load_recipe

_MOST_POINTS = 200
_OPENING, _CLOSING = "[{", "]}"


class Axis(NamedTuple):
    """Settings that vary together, and their values: one text for each setting."""

    keys: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]


class Point(NamedTuple):
    """One combination: its name, what it sets, and the recipe that makes of it."""

    name: str
    values: dict[str, JsonValue]
    recipe: Recipe
    is_own: bool


class Grid(NamedTuple):
    """All points of a sweep, the recipe's own value among them."""

    keys: tuple[str, ...]
    points: tuple[Point, ...]

    @property
    def own(self) -> Point:
        """The point that the others are compared with."""
        return next(p for p in self.points if p.is_own)


def split_values(text: str) -> list[str]:
    """Split at commas outside of brackets and quotes.

    >>> split_values("4,8,16"), split_values("[q_proj, v_proj],all-linear")
    (['4', '8', '16'], ['[q_proj, v_proj]', 'all-linear'])
    """
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _OPENING:
            depth += 1
        elif letter in _CLOSING:
            depth -= 1
        if letter == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [p.strip() for p in parts]


def axes_of(overrides: Sequence[str]) -> tuple[list[Axis], list[str]]:
    """Return what varies, and the overrides of one value, which hold for every point.

    `a.rank:a.alpha=4:8,8:16` lets two settings vary together.
    """
    axes: list[Axis] = []
    fixed: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        values = split_values(text)
        if not equals or len(values) == 1:
            fixed.append(override)
            continue
        keys = tuple(k.strip() for k in key.split(":"))
        rows = tuple(tuple(v.split(":")) if len(keys) > 1 else (v,) for v in values)
        uneven = next((v for v, row in zip(values, rows, strict=True) if len(row) != len(keys) or not all(row)), None)
        if uneven is not None:
            raise FieldwiseError(
                "a value is missing"
                if len(keys) == 1
                else f"{len(keys)} settings that vary together need as many values",
                where=f"command line: {key}",
                found=repr(uneven),
                fix="Write rank=4,8,16, or rank:alpha=4:8,8:16 for settings that vary together.",
            )
        axes.append(Axis(keys, rows))
    named = [k for axis in axes for k in axis.keys]
    if twice := next((k for k in named if named.count(k) > 1), None):
        raise FieldwiseError(
            "the setting varies twice", where=f"command line: {twice}", fix="Give all its values at once."
        )
    if not axes:
        raise FieldwiseError(
            "nothing varies",
            where="sweep",
            found=" ".join(overrides) or "no override",
            fix="Give a setting several values: fieldwise sweep train.sft.lora.rank=4,8,16,32",
        )
    return axes, fixed


def grid(config: Path | None, overrides: Sequence[str]) -> Grid:
    """Return the points; raises FieldwiseError, with every problem of every value, before anything runs."""
    axes, fixed = axes_of(overrides)
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > _MOST_POINTS:
        raise FieldwiseError(
            "the grid is too large",
            where="sweep",
            found=f"{count} points",
            fix=f"Take at most {_MOST_POINTS}: sweep one or two settings at a time.",
        )
    own = load_recipe(config, fixed)
    keys = tuple(k for axis in axes for k in axis.keys)
    found: dict[str, Recipe] = {}
    problems: list[FieldwiseError] = []
    for combination in itertools.product(*(axis.values for axis in axes)):
        values = [v for row in combination for v in row]
        try:
            recipe = load_recipe(config, [*fixed, *(f"{k}={v}" for k, v in zip(keys, values, strict=True))])
        except RecipeError as error:
            problems += error.problems
        else:
            found.setdefault(recipe.hash(), recipe)
    if problems:
        raise RecipeError(list({str(p): p for p in problems}.values()), where=config)
    found.setdefault(own.hash(), own)
    return Grid(keys, tuple(_point(keys, recipe, own) for recipe in found.values()))


def _point(keys: Sequence[str], recipe: Recipe, own: Recipe) -> Point:
    values = {k: value_of(recipe, k) for k in keys}
    words = "_".join(f"{k.rpartition('.')[2]}-{_slug(v)}" for k, v in values.items())[:60]
    return Point(f"{words}.{recipe.hash()[:8]}", values, recipe, recipe.hash() == own.hash())


def value_of(recipe: Recipe, key: str) -> JsonValue:
    """Return the setting at a dotted key."""
    value: JsonValue = recipe.model_dump(mode="json")
    for part in key.split("."):
        if isinstance(value, list):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def _slug(value: JsonValue) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", str(value)).strip("-.") or "none"


def default_name(keys: Sequence[str]) -> str:
    """The name of a sweep that is given none: what varies."""
    return "-".join(dict.fromkeys(k.rpartition(".")[2] for k in keys))[:60]
