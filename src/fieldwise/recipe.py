"""The recipe: everything a run is told, in one YAML file.

Each section is named after its room. Unknown keys are refused with the nearest known name, and all problems
are reported together, each with its dotted key and line. `key=value` overrides on the command line use
the same dotted keys.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from fieldwise.collect.settings import CollectSettings
from fieldwise.errors import FieldwiseError, RecipeError
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.files import write_text
from fieldwise.generate.settings import GenerateSettings
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.prepare.settings import PrepareSettings
from fieldwise.release.settings import ReleaseSettings
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.serve.settings import ServeSettings
from fieldwise.settings import Settings
from fieldwise.train.settings import TrainSettings

_MAX_RECIPE_BYTES = 1_000_000


class BaseSettings(Settings):
    """The weights to start from."""

    model: str = Field(
        "fieldwise-nano", description="fieldwise-nano, fieldwise-nano/SIZE, a local folder, or a Hugging Face id"
    )
    revision: str | None = Field(
        None, description="commit or tag of a Hugging Face id; name one for a run that can be repeated"
    )


class Recipe(Settings):
    """Everything a run is told."""

    name: str = Field(
        "fieldwise",
        min_length=1,
        max_length=80,
        pattern=r"^[\w][\w .-]*$",
        description="name of the model this recipe makes",
    )
    domain: str = Field("general", description="field the documents belong to; stands in the model card")
    seed: int = Field(42, ge=0, description="every random choice starts from it")
    base: BaseSettings = BaseSettings()
    collect: CollectSettings = CollectSettings()
    prepare: PrepareSettings = PrepareSettings()
    retrieve: RetrieveSettings = RetrieveSettings()
    generate: GenerateSettings = GenerateSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    release: ReleaseSettings = ReleaseSettings()
    serve: ServeSettings = ServeSettings()

    def hash(self) -> str:
        """Return the hash of the whole recipe."""
        return sha256_text(canonical_json(self.model_dump(mode="json")))

    def to_yaml(self) -> str:
        """Return the recipe with every default filled in."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100))


# ---------------------------------------------------------------- reading


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file (None: all defaults), apply `key=value` overrides, and check everything.

    Places of sources and questions become absolute, taken from where the recipe file stands.
    """
    raw: dict[str, Any] = {}
    lines: dict[str, int] = {}
    if path is not None:
        raw, lines = _read_yaml(path)
    problems = [p for override in overrides if (p := _apply(raw, override)) is not None]
    problems += list(_unknown_keys(raw, Recipe, "", path, lines))
    recipe = None
    if not problems:
        try:
            recipe = Recipe.model_validate(raw)
        except ValidationError as error:
            problems = [_problem(e, path, lines) for e in error.errors()]
    else:  # say in the same breath what else is wrong
        try:
            Recipe.model_validate(_without_unknown(raw, Recipe))
        except ValidationError as error:
            problems += [_problem(e, path, lines) for e in error.errors()]
    if recipe is None:
        raise RecipeError(problems, where=path)
    return _absolute(recipe, path.resolve().parent if path is not None else Path.cwd())


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe atomically."""
    write_text(path, recipe.to_yaml())


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
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
        raise FieldwiseError("the recipe cannot be read", where=path, found=str(error)) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise FieldwiseError(
            "not valid YAML",
            where=where,
            found=getattr(error, "problem", None) or str(error).splitlines()[0],
            fix="Check indentation, colons and quotes on that line.",
        ) from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise FieldwiseError(
            "expected a mapping of sections", where=path, found=type(value).__name__, fix="Start with: name: my-model"
        )
    return value, dict(_key_lines(node, ""))


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


def _apply(raw: dict[str, Any], override: str) -> FieldwiseError | None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        return FieldwiseError(
            "an override is written key=value",
            where="command line",
            found=repr(override),
            fix="Example: train.sft.epochs=2",
        )
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        value = text
    if isinstance(value, dict) and not text.lstrip().startswith("{"):
        value = text  # "NAME: REASON" is text, not a mapping
    target = raw
    *path, last = key.strip().split(".")
    for part in path:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            return FieldwiseError("a value stands where a section is needed", where=key, found=repr(inner))
        target = inner
    target[last] = value
    return None


# ---------------------------------------------------------------- problems


def _where(dotted: str, path: Path | None, lines: dict[str, int]) -> str:
    probe = dotted
    while probe and probe not in lines:
        probe = probe.rpartition(".")[0]
    return f"{path}:{lines[probe]}: {dotted}" if path is not None and probe in lines else dotted


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        if (found := _inner_model(part)) is not None:
            return found
    return None


def _unknown_keys(
    raw: dict[str, Any], model: type[BaseModel], prefix: str, path: Path | None, lines: dict[str, int]
) -> Iterator[FieldwiseError]:
    for key, value in raw.items():
        dotted = f"{prefix}{key}"
        if key not in model.model_fields:
            yield FieldwiseError(
                "unknown key", where=_where(dotted, path, lines), fix=_suggest(str(key), model, prefix)
            )
            continue
        inner = _inner_model(model.model_fields[key].annotation)
        for n, item in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if inner is not None and isinstance(item, dict):
                yield from _unknown_keys(item, inner, f"{dotted}.{n}." if n is not None else f"{dotted}.", path, lines)


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        inner = _inner_model(field.annotation)
        if inner is not None:
            yield from _all_keys(inner, f"{prefix}{name}.")


def _suggest(key: str, model: type[BaseModel], prefix: str) -> str:
    near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {prefix}{near[0]}?"
    elsewhere = [k for k in _all_keys(Recipe) if k.rpartition(".")[2] == key]
    if elsewhere:
        return f"Did you mean {elsewhere[0]}?"
    return f"Known here: {', '.join(model.model_fields)}."


def _without_unknown(raw: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in model.model_fields:
            continue
        inner = _inner_model(model.model_fields[key].annotation)
        if inner is not None and isinstance(value, dict):
            value = _without_unknown(value, inner)
        elif inner is not None and isinstance(value, list):
            value = [_without_unknown(v, inner) if isinstance(v, dict) else v for v in value]
        kept[key] = value
    return kept


def _problem(error: Any, path: Path | None, lines: dict[str, int]) -> FieldwiseError:
    dotted = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    found = error.get("input")
    shown = None if isinstance(found, dict | BaseModel) else repr(found)[:80]
    return FieldwiseError(message, where=_where(dotted, path, lines) or "recipe", found=shown)


def _absolute(recipe: Recipe, folder: Path) -> Recipe:
    sources = tuple(str(folder / Path(s).expanduser()) for s in recipe.collect.sources)
    questions = recipe.evaluate.questions
    update: dict[str, Any] = {"collect": recipe.collect.model_copy(update={"sources": sources})}
    if questions is not None:
        update["evaluate"] = recipe.evaluate.model_copy(
            update={"questions": str(folder / Path(questions).expanduser())}
        )
    model = recipe.base.model
    if model.startswith((".", "~", "/")):
        update["base"] = recipe.base.model_copy(update={"model": str((folder / Path(model).expanduser()).resolve())})
    return recipe.model_copy(update=update)
