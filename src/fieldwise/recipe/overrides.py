"""`key=value` on the command line, laid over what the file says."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import yaml

from fieldwise.errors import FieldwiseError
from fieldwise.recipe.model import Recipe

COMMAND_LINE = "command line"


def apply(raw: dict[str, Any], override: str, places: dict[str, str]) -> FieldwiseError | None:
    """Set one value; a list the recipe leaves out is taken from the defaults, so that one of its entries can be changed."""
    key, equals, text = (part.strip() for part in override.partition("="))
    if not equals or not key:
        return FieldwiseError(
            "an override is written key=value",
            where=COMMAND_LINE,
            found=repr(override),
            fix="Example: train.sft.epochs=2",
        )
    target: Any = raw
    default: Any = Recipe().model_dump(mode="json")
    *path, last = key.split(".")
    for n, part in enumerate(path):
        default = default.get(part) if isinstance(default, dict) else None
        if isinstance(target, dict) and target.get(part) is None:
            target[part] = deepcopy(default) if isinstance(default, list) else {}
        if (entry := _entry(target, part)) is None:
            return _no_entry(target, ".".join(path[:n]), key)
        target = target[entry]
    if (entry := _entry(target, last)) is None:
        return _no_entry(target, ".".join(path), key)
    target[entry] = _value(text)
    for inside in [k for k in places if k.startswith(f"{key}.")]:
        del places[inside]
    places[key] = COMMAND_LINE
    return None


def _value(text: str) -> Any:
    try:
        value = yaml.safe_load(text) if text else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    if isinstance(value, dict) and not text.startswith("{"):
        return text  # "NAME: REASON" is text, not a mapping
    return value


def _entry(target: Any, part: str) -> str | int | None:
    if isinstance(target, list):
        return int(part) if part.isdecimal() and int(part) < len(target) else None
    return part if isinstance(target, dict) else None


def _no_entry(target: Any, parent: str, key: str) -> FieldwiseError:
    if isinstance(target, list):
        found, fix = f"a list of {len(target)}", f"Count from 0, or give the whole list: {parent}=[...]"
    else:
        found, fix = repr(target)[:80], f"Give it a value: {parent}=..."
    return FieldwiseError(f"{parent} has no such entry", where=f"{COMMAND_LINE}: {key}", found=found, fix=fix)
