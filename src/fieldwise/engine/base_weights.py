"""Find the weights a recipe names: the embedded base, a local folder, or a Hugging Face id."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.hashing import sha256_of_files
from fieldwise.records import BaseWeights

EMBEDDED = "fieldwise-nano"
_NEEDED = ("config.json", "tokenizer.json")
_KEPT_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def resolve(model: str, revision: str | None = None) -> BaseWeights:
    """Return the weights with the folder they stand in and the hash of what is in it.

    Only safetensors are accepted: other formats can run code when they are loaded.
    """
    if model == EMBEDDED or model.startswith(EMBEDDED + "/"):
        folder, licence = _embedded(model.partition("/")[2] or None), "Apache-2.0"
    elif Path(model).expanduser().is_dir():
        folder, licence = Path(model).expanduser(), None
    elif model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelError(
            "the folder of the base model is not there",
            where="base.model",
            found=model,
            fix="Name an existing folder, a Hugging Face id such as HuggingFaceTB/SmolLM2-135M-Instruct, or fieldwise-nano.",
        )
    else:
        folder, licence = _from_hub(model, revision), None
    _check(folder, model)
    files = [
        p
        for p in folder.iterdir()
        if p.is_file() and p.suffix in (".json", ".safetensors", ".jinja", ".model") and p.name != "card.json"
    ]
    return BaseWeights(
        model=model,
        revision=revision,
        path=str(folder.resolve()),
        sha256=sha256_of_files(files, folder),
        licence=licence,
    )


def _embedded(size: str | None) -> Path:
    nano = require("fieldwise_nano", extra="nano", to="use the embedded base weights")
    try:
        folder: Path = nano.weights(size)
    except nano.WeightsError as error:
        raise ModelError(str(error), where="base.model") from error
    return folder


def _from_hub(model: str, revision: str | None) -> Path:
    hub = require("huggingface_hub", extra="train", to="fetch a model from the Hugging Face hub")
    try:
        return Path(
            hub.snapshot_download(
                model,
                revision=revision,
                allow_patterns=_KEPT_PATTERNS,
                token=os.environ.get("HF_TOKEN"),
                tqdm_class=_shown_progress(),
            )
        )
    except Exception as error:  # the hub client raises many kinds; each means that the model could not be had
        raise ModelError(
            "the base model could not be fetched",
            where="base.model",
            found=f"{model}: {type(error).__name__}",
            fix="Check the id and the network (HF_HUB_OFFLINE must not be set), set HF_TOKEN for a gated model, or download it elsewhere and name its folder.",
        ) from error


def _shown_progress() -> Any:
    """A download of gigabytes shows how far it is, although the bars of libraries are off."""
    tqdm = require("tqdm", extra="train", to="show the progress of a download").tqdm

    class Shown(tqdm):  # type: ignore[misc,valid-type]
        """A bar that is never switched off."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": False})

    return Shown


def _check(folder: Path, model: str) -> None:
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"the base model lacks {' and '.join(missing)}",
            where=folder,
            fix="Name a folder saved with save_pretrained, tokenizer included.",
        )
    if not list(folder.glob("*.safetensors")):
        others = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        raise ModelError(
            "the base model has no safetensors file",
            where=folder,
            found=", ".join(others) or "no weights",
            fix="Convert the weights to safetensors; other formats can run code when loaded.",
        )
    config = _json(folder / "config.json")
    if config.get("model_type") is None:
        raise ModelError(
            "config.json does not name a model_type",
            where=folder / "config.json",
            fix="Use a folder saved by transformers.",
        )
    if chat_template(folder) is None:
        raise ModelError(
            "the base model has no chat template",
            where=folder,
            found=model,
            fix="Use an instruct model, or put a chat_template.jinja into a copy of the folder.",
        )


def chat_template(folder: Path) -> str | None:
    """Return the chat template of a model folder, or None."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8") or None
        except UnicodeDecodeError as error:
            raise ModelError(
                "the chat template is not UTF-8 text",
                where=path,
                found=str(error),
                fix="The download may be incomplete: fetch the model again.",
            ) from error
    config = folder / "tokenizer_config.json"
    template = _json(config).get("chat_template") if config.is_file() else None
    if isinstance(template, list):
        template = template[0].get("template") if template and isinstance(template[0], dict) else None
    return template if isinstance(template, str) and template else None


def special_tokens(folder: Path) -> dict[str, str]:
    """Return what a chat template may call `bos_token` and the like."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        settings = _json(folder / name) if (folder / name).is_file() else {}
        for key in _SPECIAL_TOKENS:
            value = settings.get(key)
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                found[key] = value
    return found


def _json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            "not valid JSON", where=path, found=str(error), fix="The download may be incomplete: fetch the model again."
        ) from error
    return value if isinstance(value, dict) else {}


def check_k_quants(folder: Path) -> str | None:
    """Return why K-quants (q4_k_m and the like) do not fit these weights, or None if they do."""
    config = _json(folder / "config.json")
    bad = {
        name: config[name]
        for name in ("hidden_size", "intermediate_size")
        if isinstance(config.get(name), int) and int(str(config[name])) % 256
    }
    return None if not bad else ", ".join(f"{name} {value} is not a multiple of 256" for name, value in bad.items())
