"""Unsloth in the place of transformers, for SFT of an adapter on one GPU: all that is known of it stands here.

Written against the sources of unsloth 2026.10.9 (`FastLanguageModel.from_pretrained` and `get_peft_model`), not run on a
GPU. That version asks for older libraries than Fieldwise is made with, in which case transformers is taken. What it saves
is an adapter as PEFT has it; merging and everything behind it goes by transformers.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from pathlib import Path
from typing import Any

from fieldwise.errors import ModelError
from fieldwise.extras import installed_version, require
from fieldwise.progress import say
from fieldwise.train.hardware import Device, Training
from fieldwise.train.loading import targets_of
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.settings import ComputeSettings, LoraSettings, TrainSettings

_PACKAGES = ("unsloth", "unsloth_zoo")
_SHARED = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")  # what it and Fieldwise both stand on


def takes(training: Training, settings: TrainSettings, device: Device, compute: ComputeSettings) -> bool:
    """Return whether Unsloth runs a training; one that asks for it and cannot have it is told why, in one line."""
    if settings.backend == "transformers" or training != "sft":
        return False
    missing = _missing(device)
    reason = missing or _unfit(settings, compute) or _other_versions()
    if reason is not None and (missing is None or settings.backend == "unsloth"):
        say(f"  {training}: by transformers instead of unsloth: {reason}")
    return reason is None


def _missing(device: Device) -> str | None:
    if device.name != "cuda":
        return "it needs a GPU with CUDA, and this training is on the CPU"
    if installed_version("unsloth") is None:
        return "it is not installed"
    return None


def _unfit(settings: TrainSettings, compute: ComputeSettings) -> str | None:
    """Why what the recipe asks for is not left to it; None where it is."""
    asked = {
        "train.sft.method=full": settings.sft.method == "full",
        "train.sft.lora.dora": settings.sft.lora.dora,
        "train.sft.lora.start=pissa": settings.sft.lora.start == "pissa",
        "train.sft.best_by=score": settings.sft.best_by == "score",
        "train.distillation": settings.distillation is not None,
        f"compute.backend={compute.backend}": compute.backend != "local",
    }
    found = [key for key, is_asked in asked.items() if is_asked]
    return f"it is not used with {', '.join(found)}" if found else None


def _other_versions() -> str | None:
    """Why its declared requirements are not met by what is installed; None if they are."""
    from packaging.requirements import Requirement

    for package in _PACKAGES:
        if installed_version(package) is None:
            return f"it needs {package}, which is not installed"
        for line in importlib.metadata.requires(package) or ():
            wanted = Requirement(line)
            here = installed_version(wanted.name)
            if wanted.name not in _SHARED or here is None or (wanted.marker and not wanted.marker.evaluate()):
                continue
            if not wanted.specifier.contains(here.partition("+")[0], prereleases=True):
                return f"{package} {installed_version(package)} asks for {wanted.name} {wanted.specifier}, {here} is installed"
    return None


def begin() -> None:
    """Import Unsloth, which has to come before TRL and transformers; nothing is fetched or reported. Raises ModelError."""
    os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"  # weights are a folder, and none other is to be taken in their place
    try:
        importlib.import_module("unsloth")
    except Exception as error:
        raise _unusable(error) from error


def load(base: Path, plan: MemoryPlan, lora: LoraSettings, training: Training, seed: int) -> Any:
    """Return the weights as a plan holds them, with an adapter of the same modules, rank and scale as without Unsloth."""
    torch = require("torch", extra="train", to="fine-tune")
    fast = importlib.import_module("unsloth").FastLanguageModel
    checkpointing = "unsloth" if plan.activation_checkpointing else False
    is_quantised = plan.quantisation != "none"
    is_half = plan.weights == "bfloat16" or (is_quantised and plan.bfloat16)
    model, _ = fast.from_pretrained(
        model_name=str(base),
        max_seq_length=plan.max_length,
        dtype=torch.bfloat16 if is_half else torch.float32,
        load_in_4bit=plan.quantisation == "4bit",
        load_in_8bit=plan.quantisation == "8bit",
        full_finetuning=False,
        fix_tokenizer=False,  # the recipe's own is used
        trust_remote_code=False,
        use_gradient_checkpointing=checkpointing,
        use_exact_model_name=True,  # else a quantised copy of the hub may stand in
        random_state=seed,
        max_lora_rank=lora.rank,
    )
    model = fast.get_peft_model(
        model,
        r=lora.rank,
        target_modules=targets_of(lora, model, training),
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias="none",
        use_gradient_checkpointing=checkpointing,
        random_state=seed,
        use_rslora=lora.rank_stabilised,
    )
    model.config.use_cache = False
    return model


def _unusable(error: Exception) -> ModelError:
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:160].rstrip(".")
    return ModelError(
        "Unsloth is installed, but cannot be used here",
        where="train.backend",
        found=text,
        fix="Set train.backend=transformers.",
    )
