"""The YAML of a recipe, with the line of each key."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from fieldwise.errors import FieldwiseError

_MAX_RECIPE_BYTES = 1_000_000
_MAX_VALUES = 10_000  # a few anchors that name each other can stand for billions of values


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, str], list[FieldwiseError]]:
    """Return the values, the file and line of each key, and the keys that stand twice (YAML would keep the last)."""
    if path.is_dir():
        raise FieldwiseError(
            "expected a recipe file",
            where=path,
            found="a folder",
            fix=f"Name the YAML file, such as {path / 'recipe.yaml'}.",
        )
    try:
        if path.stat().st_size > _MAX_RECIPE_BYTES:
            raise FieldwiseError(
                "the recipe is too large",
                where=path,
                found=f"{path.stat().st_size} bytes",
                fix="A recipe is a short YAML file.",
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FieldwiseError(
            "the recipe is not there", where=path, fix="Make one with: fieldwise init DOMAIN"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise FieldwiseError(
            "the recipe cannot be read",
            where=path,
            found=str(error),
            fix="Name a text file in UTF-8 that you may read.",
        ) from error
    try:
        keys = list(islice(_key_lines(yaml.compose(text, Loader=yaml.SafeLoader), ""), _MAX_VALUES + 1))
        if len(keys) > _MAX_VALUES:
            raise FieldwiseError(
                "the recipe is too large",
                where=path,
                found=f"more than {_MAX_VALUES} values",
                fix="A recipe is a short YAML file; anchors multiply what they name.",
            )
        value = _unshared(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise FieldwiseError(
            "not valid YAML",
            where=where,
            found=getattr(error, "problem", None) or str(error).splitlines()[0],
            fix="Check indentation, colons and quotes on that line.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise FieldwiseError(
            "a value cannot be read",
            where=path,
            found="brackets or anchors without end" if isinstance(error, RecursionError) else str(error),
            fix="Put text that looks like a date or a number in quotes; docs/recipe.md lists every key with its type.",
        ) from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise FieldwiseError(
            "expected a mapping of sections", where=path, found=type(value).__name__, fix="Start with: name: my-model"
        )
    places: dict[str, str] = {}
    twice: list[FieldwiseError] = []
    for dotted, line in keys:
        if dotted in places:
            twice.append(
                FieldwiseError(
                    "the key stands twice",
                    where=f"{path}:{line}: {dotted}",
                    found=f"it first at {places[dotted]}",
                    fix="Keep one of them.",
                )
            )
        places[dotted] = f"{path}:{line}"
    return value, places, twice


def _unshared(value: Any) -> Any:
    """Copy what several anchors name, so that an override of one place leaves the others alone."""
    if isinstance(value, dict):
        return {k: _unshared(v) for k, v in value.items()}
    return [_unshared(v) for v in value] if isinstance(value, list) else value


def _key_lines(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            dotted = f"{prefix}{key.value}"
            yield dotted, key.start_mark.line + 1
            yield from _key_lines(value, f"{dotted}.")
    elif isinstance(node, yaml.SequenceNode):
        for n, item in enumerate(node.value):
            yield f"{prefix}{n}", item.start_mark.line + 1
            yield from _key_lines(item, f"{prefix}{n}.")
