"""What is wrong with single keys and values, in the words of someone who writes YAML, with file, line and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from fieldwise.errors import FieldwiseError
from fieldwise.recipe.model import Recipe

_MOST_SUGGESTED = 4
_RENAMED = {"train.dpo": "train.preference, with method: dpo"}
_PLAIN = {  # kinds of pydantic's errors in the words of someone who writes YAML, and what to do
    "int": ("expected a whole number", ""),
    "float": ("expected a number", ""),
    "bool": ("expected true or false", ""),
    "string_type": ("expected text", "Put it in quotes."),
    "tuple_type": ("expected a list", "Write it as [a, b]."),
    "model": ("expected a section of keys", "Write its keys below it, or leave it out."),
    "missing": ("a value is needed", "docs/recipe.md says what it means."),
}


def where(dotted: str, places: dict[str, str]) -> str:
    """Return file, line and key of a value; of one that no file names, those of the section it lies in."""
    probe = dotted
    while probe and probe not in places:
        probe = probe.rpartition(".")[0]
    return f"{places[probe]}: {dotted}" if probe else dotted


def _inner_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _inner_models(part)]


def _model_for(annotation: Any, value: Any) -> type[BaseModel] | None:
    """The model of a section; of several the one that knows, or nearly knows, most of the keys that are there."""
    keys = [str(key) for key in value] if isinstance(value, dict) else []

    def known(model: type[BaseModel]) -> tuple[int, int]:
        near = sum(bool(difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.6)) for key in keys)
        return len(set(keys) & set(model.model_fields)), near

    return max(_inner_models(annotation), key=known, default=None)


def unknown_keys(
    raw: dict[str, Any], model: type[BaseModel], prefix: str, places: dict[str, str]
) -> Iterator[FieldwiseError]:
    """Yield a problem for each key that the settings do not have, with the nearest one they have."""
    for key, value in raw.items():
        dotted = f"{prefix}{key}"
        if key not in model.model_fields:
            yield FieldwiseError("unknown key", where=where(dotted, places), fix=_suggest(str(key), model, prefix))
            continue
        annotation = model.model_fields[key].annotation
        for n, item in enumerate(value) if isinstance(value, list) else [(None, value)]:
            inner = _model_for(annotation, item)
            if inner is not None and isinstance(item, dict):
                yield from unknown_keys(item, inner, f"{dotted}.{n}." if n is not None else f"{dotted}.", places)


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for inner in _inner_models(field.annotation):
            yield from _all_keys(inner, f"{prefix}{name}.")


def _either(places: list[str]) -> str:
    """Some names as a choice: `a`, `a or b`, `a, b or c`."""
    *others, last = places[:_MOST_SUGGESTED]
    return f"{', '.join(others)} or {last}" if others else last


def _suggest(key: str, model: type[BaseModel], prefix: str) -> str:
    if f"{prefix}{key}" in _RENAMED:
        return f"Call it {_RENAMED[f'{prefix}{key}']}."
    near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {prefix}{near[0]}?"
    elsewhere = [k for k in _all_keys(Recipe) if k.rpartition(".")[2] == key]
    if elsewhere:
        return f"Did you mean {_either(elsewhere)}?"
    return f"Known here: {', '.join(model.model_fields)}."


def without_unknown(raw: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Return the values without those of unknown keys."""
    kept: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in model.model_fields:
            continue
        annotation = model.model_fields[key].annotation
        kept[key] = [_known(annotation, v) for v in value] if isinstance(value, list) else _known(annotation, value)
    return kept


def _known(annotation: Any, value: Any) -> Any:
    inner = _model_for(annotation, value)
    return without_unknown(value, inner) if inner is not None and isinstance(value, dict) else value


def in_plain_words(error: Any, places: dict[str, str]) -> FieldwiseError:
    """Return one of pydantic's errors as a problem of the recipe."""
    location, default = _field_at(error["loc"])
    kind, found = str(error["type"]), error.get("input")
    plain = next(
        (p for k, p in _PLAIN.items() if kind == k or kind in (f"{k}_type", f"{k}_parsing", f"{k}_from_float")), None
    )
    if plain is not None:
        message, fix = plain if found is not None else (plain[0], "")
    else:
        message = re.sub(r"^\w+ should (?=\w)", "must ", str(error["msg"]).removeprefix("Value error, "))
        near = difflib.get_close_matches(str(found), re.findall(r"'([^']+)'", message), n=1)
        fix = f"Did you mean {near[0]}?" if near and kind == "literal_error" else ""
    if not fix and isinstance(default, str | int | float):
        fix = f"The default is {str(default).lower() if isinstance(default, bool) else default}."
    words: dict[object, str] = {None: "nothing", True: "true", False: "false"}
    shown = (
        None
        if isinstance(found, dict | BaseModel)
        else words[found]
        if found is None or isinstance(found, bool)
        else repr(found)[:80]
    )
    return FieldwiseError(message, where=where(location, places) or "recipe", found=shown, fix=fix or None)


def _field_at(loc: tuple[str | int, ...]) -> tuple[str, Any]:
    """Return the dotted key of a problem, without pydantic's names for members of a union, and its default."""
    models: list[type[BaseModel]] = [Recipe]
    parts: list[str] = []
    default: Any = None
    for part in loc:
        if isinstance(part, str):
            if not models:
                break
            model = next((m for m in models if part in m.model_fields), None)
            if model is None:
                models = [m for m in models if m.__name__ == part] or models
                continue
            field = model.model_fields[part]
            models, default = _inner_models(field.annotation), field.default
        parts.append(str(part))
    return ".".join(parts), default
