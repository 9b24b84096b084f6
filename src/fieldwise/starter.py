"""`fieldwise init DOMAIN`: a recipe to start from, with the settings people change first."""

from __future__ import annotations

from pathlib import Path

from fieldwise.errors import FieldwiseError
from fieldwise.files import raise_if_full, write_text

DOMAINS = ("healthcare", "legal", "finance", "general")

_TEMPLATE = """# Recipe made by: fieldwise init {domain}
# Check it with:     fieldwise validate {file}
# Run it with:       fieldwise run --config {file} --run runs/{domain}
# Every key with its default: docs/recipe.md

name: {domain}-model
domain: {domain}
seed: 42

base:
  model: fieldwise-nano          # or a folder, or a Hugging Face id such as HuggingFaceTB/SmolLM2-135M-Instruct

collect:
  sources: [documents]           # folders, files or patterns, relative to this file
  # licence: internal            # terms under which you may use the documents

# generate:
#   data: [rows.csv]             # rows of your own to train on as well; see docs/data.md

evaluate:
  suites: [{domain}]{gap}# before a release: nothing lost against the base here; also safety, general, your own suite.yaml
  # questions: questions.jsonl   # lines of {{"question": ..., "answer": ... or null}} that training never sees

release:
  quantisations: [q8_0, q4_k_m]
"""


def init(domain: str, folder: Path) -> Path:
    """Write `recipe.yaml` and an empty `documents/` into a folder; an existing recipe is never overwritten."""
    if domain not in DOMAINS:
        raise FieldwiseError(
            "unknown domain", where="init", found=repr(domain), fix=f"Choose one of: {', '.join(DOMAINS)}."
        )
    path = folder / "recipe.yaml"
    if path.exists():
        raise FieldwiseError(
            "there is a recipe already", where=path, fix="Name another folder: fieldwise init DOMAIN --folder DIR"
        )
    try:
        (folder / "documents").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise_if_full(error, folder)
        raise FieldwiseError(
            "the folder cannot be made",
            where=folder / "documents",
            found=error.strerror,
            fix="Name another folder: fieldwise init DOMAIN --folder DIR",
        ) from error
    write_text(path, _TEMPLATE.format(domain=domain, file=path.name, gap=" " * (20 - len(domain))))
    return path
