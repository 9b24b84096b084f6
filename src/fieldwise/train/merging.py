"""An adapter added to the weights it was made for, and weights saved with all that belongs to a model folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.train.loading import load_model
from fieldwise.train.shape import tensor_shapes


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Add an adapter to the float32 base and save the sum, with everything that belongs to a model folder."""
    peft = require("peft", extra="train", to="merge an adapter")
    require_same_base(base, adapter)
    model = peft.PeftModel.from_pretrained(load_model(base), adapter).merge_and_unload(safe_merge=True)
    save_weights(model, base, out)


def save_weights(model: Any, base: Path, out: Path) -> None:
    """Save all weights, with everything that belongs to a model folder."""
    model.config.use_cache = True
    model.save_pretrained(out, safe_serialization=True)
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "special_tokens_map.json",
        "tokenizer.model",
        "generation_config.json",
    ):
        if (base / name).is_file():
            shutil.copyfile(base / name, out / name)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)  # a path of this machine has no place in what is published
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def require_same_base(base: Path, adapter: Path) -> None:
    """Raise ModelError for an adapter whose modules the base does not have, or has in another size.

    PEFT would leave modules out that it cannot place, with no more than a warning.
    """
    shapes = {
        name.removesuffix(".weight"): shape
        for file in base.glob("*.safetensors")
        for name, shape in tensor_shapes(file).items()
    }
    for name, shape in tensor_shapes(adapter / "adapter_model.safetensors").items():
        module, _, kind = name.removeprefix("base_model.model.").partition(".lora_")
        known = shapes.get(module)
        side = {"A.weight": 1, "B.weight": 0}.get(kind)
        if side is None or len(shape) != 2:
            continue
        if known is None or known[side] != shape[1 if side else 0]:
            raise ModelError(
                "the adapter was made for other base weights",
                where=adapter,
                found=f"{module} with {shape[1 if side else 0]} {'inputs' if side else 'outputs'}; "
                + (f"the base has {known[side]}" if known else "the base has no such module"),
                fix=f"Name the base in {adapter / 'adapter_config.json'} (base_model_name_or_path).",
            )
