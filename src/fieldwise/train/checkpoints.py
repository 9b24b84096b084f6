"""Checkpoints of a training: the last whole one, and its weights put in the place of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from fieldwise.errors import ModelError
from fieldwise.extras import require


def last_checkpoint(work: Path) -> Path | None:
    """Return the last whole checkpoint and remove those a kill left half-written: their state is what is saved last."""
    for folder in sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(folder)
        else:
            return folder
    return None


def take_weights(trainer: Any, checkpoint: Path) -> None:
    """Put the weights of a checkpoint, or of what an earlier training left, in the place of the present ones."""
    peft = require("peft", extra="train", to="fine-tune")
    safetensors = require("safetensors.torch", extra="train", to="fine-tune")
    if not (checkpoint / "adapter_model.safetensors").exists():
        state: dict[str, Any] = {}
        for file in sorted(checkpoint.glob("model*.safetensors")):
            state |= safetensors.load_file(file)
        lacking = trainer.model.load_state_dict(state, strict=False)
        tied = set(getattr(trainer.model, "all_tied_weights_keys", None) or ())
        if lacking.unexpected_keys or set(lacking.missing_keys) - tied:
            raise ModelError(
                "the checkpoint is of other weights",
                where=checkpoint,
                found=", ".join([*lacking.unexpected_keys, *lacking.missing_keys][:3]),
                fix="Remove the folder: the training begins anew.",
            )
        return
    peft.set_peft_model_state_dict(trainer.model, safetensors.load_file(checkpoint / "adapter_model.safetensors"))


def keep_start(model: Any, work: Path) -> Path:
    """Save an adapter as it begins, where that moved the base weights, and return the folder: what was learnt is the difference."""
    config, folder = model.peft_config["default"], work / "begin"
    began, config.init_lora_weights = config.init_lora_weights, True
    model.save_pretrained(folder, safe_serialization=True)
    config.init_lora_weights = began
    return folder
