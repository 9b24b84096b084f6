"""Optional libraries: imported where they are used, with a message that names the extra to install."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from types import ModuleType

from fieldwise import vector_maths
from fieldwise.errors import MissingExtra

# extra -> what it adds; `fieldwise doctor` prints this list
EXTRAS: dict[str, str] = {
    "documents": "read PDF, Office and HTML files; chunk, find duplicates, detect the language",
    "rag": "search the documents: lexical index, embeddings, citations",
    "train": "fine-tune: SFT and preferences with LoRA",
    "gpu": "train over 4-bit and 8-bit weights, 8-bit optimizers",
    "ray": "train with several processes on a Ray cluster",
    "eval": "overlap metrics and statistics, JSON schemas of suites",
    "lm-eval": "tasks of lm-evaluation-harness as suites",
    "gguf": "convert, quantise and run GGUF files, hold replies to a schema",
    "serve": "the HTTP service and its pages",
    "hub": "take data sets of the Hugging Face hub as documents",
    "qdrant": "a Qdrant server as document store",
    "lancedb": "LanceDB as document store",
    "ocr": "read scanned pages and pictures by text recognition (OCR)",
    "presidio": "look for personal data with recognisers of presidio-analyzer as well",
    "docling": "read PDF files by the layout models of docling",
    "nano": "the embedded base weights (installed from the folder nano/)",
    "tensorboard": "write the curves of training as event files",
    "mlflow": "send the curves of training to MLflow",
    "wandb": "send the curves of training to Weights & Biases",
    "trackio": "send the curves of training to trackio",
    "examples": "rebuild the example documents",
}

_SETTLED = "_fieldwise_settled"


def require(module: str, *, extra: str, to: str) -> ModuleType:
    """Import a module or raise MissingExtra that says what to install. PyTorch comes with its vector maths settled.

    >>> require("json", extra="documents", to="read JSON").__name__
    'json'
    """
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise MissingExtra(
            f"the library {error.name!r} is needed to {to}", fix=f"Install it with: pip install 'fieldwise[{extra}]'"
        ) from error
    _settle_torch()
    return found


def _settle_torch() -> None:
    """Settle PyTorch once, also where another library has brought it along."""
    torch = sys.modules.get("torch")
    if torch is not None and not hasattr(torch, _SETTLED):
        vector_maths.settle(torch)
        setattr(torch, _SETTLED, True)


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, without importing it; None if it is missing."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
