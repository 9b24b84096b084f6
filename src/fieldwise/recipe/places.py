"""Files and folders that a recipe names: made absolute, and looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fieldwise.collect.settings import RowsSource, WebSource, is_other_scheme, is_url
from fieldwise.errors import FieldwiseError
from fieldwise.evaluate.settings import SuiteSettings
from fieldwise.generate.settings import DataSettings
from fieldwise.recipe.model import Recipe
from fieldwise.recipe.overrides import COMMAND_LINE
from fieldwise.recipe.problems import where

_RETRIEVE_PLACES = ("embedding_model", "rerank_model", "rerank_cross_encoder")


def missing_places(recipe: Recipe) -> list[FieldwiseError]:
    """Return a problem for each source, file of questions or folder of weights that is not there."""
    named = [
        *((f"collect.sources.{n}", place) for n, place in enumerate(map(_local_place, recipe.collect.sources))),
        *((f"generate.data.{n}", _data_place(d)) for n, d in enumerate(recipe.generate.data)),
        ("generate.tools", recipe.generate.tools or ""),
        *(("generate.review", place) for place in recipe.generate.review),
        ("generate.votes", recipe.generate.votes or ""),
        ("evaluate.questions", recipe.evaluate.questions or ""),
        ("evaluate.development", recipe.evaluate.development or ""),
        ("evaluate.quarantine", recipe.evaluate.quarantine or ""),
        ("evaluate.nli", recipe.evaluate.nli or ""),
        *((f"evaluate.suites.{n}", s.suite) for n, s in enumerate(recipe.evaluate.wanted_suites) if is_file(s.suite)),
        *((f"retrieve.{name}", getattr(recipe.retrieve, name) or "") for name in _RETRIEVE_PLACES),
        ("base.model", recipe.base.model if recipe.base.model.startswith("/") else ""),
        ("train.distillation.teacher.model", _teacher_place(recipe)),
    ]
    return [
        FieldwiseError(
            "the file or folder is not there",
            where=key,
            found=place,
            fix="Check the spelling; places count from the folder of the recipe file, those on the command line from here.",
        )
        for key, place in named
        if place and not Path(place).exists() and not (key.startswith("collect.") and set(place) & set("*?["))
    ]


def _teacher_place(recipe: Recipe) -> str:
    teacher = recipe.train.distillation.teacher.model if recipe.train.distillation is not None else None
    return teacher if teacher is not None and teacher.startswith("/") else ""


def _local_place(source: str | WebSource | RowsSource) -> str:
    """The file or folder of this machine that a source names; none for addresses."""
    if isinstance(source, WebSource):
        return source.urls or ""
    if isinstance(source, RowsSource):
        return source.rows or ""
    return "" if is_url(source) else source


def is_file(suite: str) -> bool:
    """Whether a suite is named by its place: with a folder, or an ending."""
    is_place = Path(suite).suffix != "" or len(Path(suite).parts) > 1
    return is_place and not suite.startswith("lm-eval:")


def _data_place(entry: str | DataSettings) -> str:
    return entry if isinstance(entry, str) else entry.path


def with_absolute_places(recipe: Recipe, folder: Path, places: dict[str, str]) -> Recipe:
    """Return the recipe with absolute places: those of the file count from its folder, overrides from the current one."""

    def absolute(key: str, place: str) -> str:
        at = Path.cwd() if where(key, places).startswith(COMMAND_LINE) else folder
        return str(at / Path(place).expanduser())

    def absolute_source(key: str, source: str | WebSource | RowsSource) -> str | WebSource | RowsSource:
        if not (place := _local_place(source)) or is_other_scheme(place):
            return source
        at = absolute(key, place)
        if isinstance(source, str):
            return at
        return source.model_copy(update={"urls" if isinstance(source, WebSource) else "rows": at})

    def absolute_of(settings: BaseModel, section: str, *names: str) -> dict[str, str]:
        """The settings of these names that name a place, each as an absolute one."""
        named = {name: place for name in names if (place := getattr(settings, name)) is not None}
        return {name: absolute(f"{section}.{name}", place) for name, place in named.items()}

    sources = tuple(absolute_source(f"collect.sources.{n}", s) for n, s in enumerate(recipe.collect.sources))
    web = recipe.collect.web.model_copy(update=absolute_of(recipe.collect.web, "collect.web", "ca_file"))
    docling = recipe.collect.docling
    docling = docling.model_copy(update=absolute_of(docling, "collect.docling", "models", "python"))
    update: dict[str, Any] = {
        "collect": recipe.collect.model_copy(update={"sources": sources, "web": web, "docling": docling})
    }

    def absolute_data(key: str, entry: str | DataSettings) -> str | DataSettings:
        if isinstance(entry, str):
            return absolute(key, entry)
        return entry.model_copy(update={"path": absolute(f"{key}.path", entry.path)})

    data = tuple(absolute_data(f"generate.data.{n}", d) for n, d in enumerate(recipe.generate.data))
    reviews = tuple(absolute("generate.review", place) for place in recipe.generate.review)
    made = {"data": data, "review": reviews, **absolute_of(recipe.generate, "generate", "votes", "tools")}
    update["generate"] = recipe.generate.model_copy(update=made)

    def absolute_suite(key: str, entry: str | SuiteSettings) -> str | SuiteSettings:
        """A name stays as it is; what ends like a file, or holds a folder, is one."""
        place = entry if isinstance(entry, str) else entry.suite
        if not is_file(place):
            return entry
        at = absolute(key if isinstance(entry, str) else f"{key}.suite", place)
        return at if isinstance(entry, str) else entry.model_copy(update={"suite": at})

    wanted = recipe.evaluate.suites
    suites = tuple(absolute_suite(f"evaluate.suites.{n}", s) for n, s in enumerate(wanted))
    files = absolute_of(recipe.evaluate, "evaluate", "questions", "development", "quarantine", "nli")
    update["evaluate"] = recipe.evaluate.model_copy(update={**files, "suites": suites})
    update["serve"] = recipe.serve.model_copy(update=absolute_of(recipe.serve, "serve", "store", "keys"))
    models = absolute_of(recipe.retrieve, "retrieve", *_RETRIEVE_PLACES)
    update["retrieve"] = recipe.retrieve.model_copy(update=models)

    def absolute_weights(key: str, model: str) -> str:
        weights = Path(absolute(key, model))
        is_place = model.startswith((".", "~", "/")) or (
            not model.startswith("fieldwise-nano") and (weights.is_dir() or weights.suffix == ".gguf")
        )
        return str(weights.resolve()) if is_place else model

    update["base"] = recipe.base.model_copy(update={"model": absolute_weights("base.model", recipe.base.model)})
    distillation = recipe.train.distillation
    if distillation is not None and (named := distillation.teacher.model) is not None:
        named = absolute_weights("train.distillation.teacher.model", named)
        teacher = distillation.teacher.model_copy(update={"model": named})
        changed = distillation.model_copy(update={"teacher": teacher})
        update["train"] = recipe.train.model_copy(update={"distillation": changed})
    return recipe.model_copy(update=update)
