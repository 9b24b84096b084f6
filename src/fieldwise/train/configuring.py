"""What every trainer of TRL is told: options that this version must know, and those that all trainings share."""

from __future__ import annotations

import dataclasses
from typing import Any

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.train import distributed
from fieldwise.train.hardware import Device
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.session import Session


def build_config(kind: Any, **options: Any) -> Any:
    """Return a config of TRL; raises ModelError for an option that this version does not know: none is dropped without a word."""
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(options) - known - {"eval_packing"})
    if unknown:
        raise ModelError(
            "this version of TRL lacks options",
            where="train",
            found=", ".join(unknown),
            fix="Install the tested versions: pip install -c constraints.txt 'fieldwise[train]'",
        )
    return kind(**{k: v for k, v in options.items() if k in known})


def common_options(device: Device, plan: MemoryPlan, session: Session) -> dict[str, Any]:
    """Return what every trainer is told: batch, schedule, optimizer, arithmetic, checkpoints, seeds, processes.

    What was measured for a CPU: rows one at a time with accumulation, no activation checkpointing, bfloat16 autocast
    over float32 weights where the processor has it (docs/decisions.md).
    """
    adamw = "adamw_torch_fused" if device.name == "cuda" else "adamw_torch"
    return {
        "per_device_train_batch_size": plan.micro_batch,
        "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": plan.accumulation,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "max_grad_norm": 1.0,
        "optim": adamw if plan.optimizer == "adamw" else plan.optimizer,
        "bf16": device.bfloat16,
        "fp16": False,
        "use_cpu": device.name == "cpu",
        "activation_checkpointing": plan.activation_checkpointing and plan.backend == "transformers",  # else its own
        "save_strategy": "steps",
        "save_steps": session.save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,  # a mean over steps would lose those before an interruption
        "logging_nan_inf_filter": False,  # else a loss that is no number is shown as 0
        "report_to": "none",
        "seed": session.seed,
        "data_seed": session.seed,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        **distributed.options(),
    }


def score_labelled_only() -> None:
    """Let TRL project only the positions that carry loss through the output layer, as it does on a GPU.

    On a CPU it would score every position, of which a question over passages uses one in fifty; the loss is the
    same to the last digit and a step takes a third less time (docs/decisions.md).
    """
    utilities: Any = require("trl.trainer.utils", extra="train", to="fine-tune")
    if hasattr(utilities, "_use_triton"):
        utilities._use_triton = lambda device: True  # asked only here; the kernels below look for themselves
