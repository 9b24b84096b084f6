"""Where docling and its models are: checked before a file is read, since nothing is ever fetched for it.

docling may stand in an environment of its own. In the one that trains, pip would replace torch to suit torchvision.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

import fieldwise
from fieldwise.collect.settings import CollectSettings
from fieldwise.errors import MissingExtra, ModelError
from fieldwise.extras import installed_version
from fieldwise.hashing import canonical_json, sha256_text

LIBRARIES = ("docling", "docling-core", "docling-parse", "docling-ibm-models", "torch", "transformers")
MODELS = {
    "docling-project--docling-layout-heron": "config.json",
    "docling-project--docling-models": "model_artifacts/tableformer/accurate/tm_config.json",
}
"""Folders of the models and a file each must hold, as `docling-tools models download` lays them out."""
_FETCH = "docling-tools models download layout tableformer -o FOLDER"
_SEPARATE = "python -m venv docling-env && docling-env/bin/pip install 'fieldwise[documents,docling]'"
_ASK = """import importlib.metadata as m, json, sys
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
print(json.dumps({name: version(name) for name in sys.argv[1:]}))"""
_SECONDS = 120.0


class Docling(NamedTuple):
    """What reads PDF files by their layout: the interpreter, the folder of its models, and a hash of all versions."""

    python: str
    models: str
    version: str


def find_docling(settings: CollectSettings) -> Docling | None:
    """Return docling with its models, None unless `collect.layout` asks for it.

    Raises MissingExtra when it is not installed where it is looked for, ModelError when its models are not there.
    """
    if settings.layout != "docling":
        return None
    python = settings.docling.python or sys.executable
    versions = _versions(python)
    if versions["docling"] is None:
        where = settings.docling.python or "this environment"
        raise MissingExtra(
            f"collect.layout is docling, and docling is not installed in {where}",
            fix=f"Give it an environment of its own ({_SEPARATE}) and name its python in collect.docling.python, "
            "or set collect.layout to pdfium.",
        )
    if settings.docling.python is not None and versions["fieldwise"] != fieldwise.__version__:
        raise MissingExtra(
            f"the environment of collect.docling.python must hold fieldwise {fieldwise.__version__}, "
            f"found {versions['fieldwise'] or 'none'}",
            fix=f"Install the same version there: {settings.docling.python} -m pip install fieldwise",
        )
    models = _models(settings.docling.models)
    return Docling(python, str(models), sha256_text(canonical_json([versions, _contents(models)])))


@functools.cache
def _versions(python: str) -> dict[str, str | None]:
    """The versions of the libraries that shape the text, in the environment of an interpreter."""
    names = ("fieldwise", *LIBRARIES)
    if python == sys.executable:
        return {name: installed_version(name) for name in names}
    try:
        done = subprocess.run(
            [python, "-c", _ASK, *names], check=True, capture_output=True, text=True, timeout=_SECONDS
        )
        found: dict[str, str | None] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise MissingExtra(
            f"the interpreter of collect.docling.python does not start: {str(error)[:120]}",
            fix=f"Name the python of an environment that holds docling: {_SEPARATE}",
        ) from error
    return found


def _models(folder: str | None) -> Path:
    fetch = f"On a machine with a network: {_FETCH}. Copy FOLDER here and name it in collect.docling.models."
    if folder is None:
        raise ModelError(
            "docling needs the folder of its models, and nothing is downloaded here",
            where="collect.docling.models",
            found="no folder",
            fix=fetch,
        )
    place = Path(folder)
    missing = [f"{name}/{file}" for name, file in MODELS.items() if not (place / name / file).is_file()]
    if missing:
        raise ModelError(
            "models of docling are missing",
            where=f"collect.docling.models: {folder}",
            found=f"no {' and no '.join(missing)}" if place.is_dir() else "no such folder",
            fix=fetch,
        )
    return place


def _contents(models: Path) -> list[JsonValue]:
    """Names and sizes of the files of the models: to hash hundreds of megabytes at each start would take seconds."""
    files = sorted(path for name in MODELS for path in (models / name).rglob("*") if path.is_file())
    return [[path.relative_to(models).as_posix(), path.stat().st_size] for path in files if ".cache" not in path.parts]
