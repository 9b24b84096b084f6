"""What the machine offers for training, and the settings a class of hardware is best begun with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from fieldwise.errors import FieldwiseError
from fieldwise.extras import installed_version, require
from fieldwise.machine import (
    Gpu,
    available_bytes,
    cpu_features,
    gpus,
    has_bfloat16,
    memory_bytes,
    usable_cores,
)

Training = Literal[
    "pretrain", "sft", "preference", "reward", "rl"
]  # the parts of the train stage, as the recipe and the folders call them
BLOCKWISE = "blockwise"  # attention of our own on a CPU (train/blockwise.py), as transformers is told
_CLASS_LIMITS = ((16e9, "8gb"), (44e9, "24gb"))  # a GPU with more is of the class 80gb


@dataclass(frozen=True)
class Device:
    """Where training runs and with which arithmetic."""

    name: str  # cpu or cuda
    threads: int
    bfloat16: bool  # autocast to bfloat16; weights stay float32 on a CPU
    workers: int = 1  # processes that train together, each with these threads
    attention: str | None = None  # as transformers calls it: FlashAttention where it can be used, our own on a CPU
    backend: Literal["transformers", "unsloth"] = "transformers"  # what loads and runs the weights


class Preset(NamedTuple):
    """What a class of hardware is best begun with; a recipe overrules any of it."""

    name: str
    micro_batch: Mapping[Training, int]
    max_length: Mapping[Training, int]
    weights: Literal["float32", "bfloat16"]
    optimizer: Literal["adamw", "paged_adamw_8bit"]
    precomputes_reference: bool = True  # scoring it in every step keeps a second forward pass in memory


def _pairs(number: int) -> dict[Training, int]:
    """What holds for pairs holds for the reward model, and for replies with their prompts."""
    return {"preference": number, "reward": number, "rl": number}


# Packed rows one at a time: attention without FlashAttention works on a dense mask over all that is packed. Pairs are
# padded, so several at once cost nothing.
PRESETS = {
    "cpu": Preset("cpu", {"sft": 1, **_pairs(4)}, {"sft": 512, **_pairs(768)}, "float32", "adamw"),
    "8gb": Preset("8gb", {"sft": 1, **_pairs(1)}, {"sft": 1024, **_pairs(1024)}, "bfloat16", "paged_adamw_8bit"),
    "24gb": Preset("24gb", {"sft": 1, **_pairs(2)}, {"sft": 2048, **_pairs(2048)}, "bfloat16", "adamw"),
    "80gb": Preset(
        "80gb",
        {"sft": 1, **_pairs(4)},
        {"sft": 4096, **_pairs(2048)},
        "bfloat16",
        "adamw",
        precomputes_reference=False,
    ),
}


class Machine(NamedTuple):
    """What this process may use."""

    cores: int
    memory: int | None
    available: int | None
    features: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    has_bitsandbytes: bool
    flash_attention: str | None = None  # as transformers calls it

    def described(self) -> str:
        """Return the machine in one line."""
        parts = [f"{self.cores} core{'s' if self.cores != 1 else ''}", *self.features]
        if self.memory is not None:
            parts.append(f"{self.memory / 1e9:.1f} GB of memory")
        for gpu in self.gpus:
            major, minor = gpu.capability
            parts.append(f"{gpu.name} ({gpu.memory_bytes / 1e9:.1f} GB, compute capability {major}.{minor})")
        return ", ".join(parts)


def this_machine() -> Machine:
    """Return what this process may use, and what of it is free now."""
    return Machine(
        usable_cores(),
        memory_bytes(),
        available_bytes(),
        cpu_features(),
        gpus(),
        installed_version("bitsandbytes") is not None,
        flash_attention(gpus()),
    )


def flash_attention(found: Sequence[Gpu]) -> str | None:
    """Return what transformers calls the FlashAttention that is installed and that each GPU can run; None without.

    Version 2 needs Ampere (8.0) or later, version 3 is for Hopper (9.0). A kernel of the hub is not looked for: a training
    fetches no code.
    """
    if found and installed_version("flash-attn-3") is not None and all(gpu.capability[0] == 9 for gpu in found):
        return "flash_attention_3"
    if found and installed_version("flash-attn") is not None and all(gpu.capability >= (8, 0) for gpu in found):
        return "flash_attention_2"
    return None


def preset_for(wanted: str, machine: Machine) -> Preset:
    """Return the preset a recipe names, or with `auto` the one of this machine: that of its smallest GPU, else the CPU's."""
    if wanted == "cpu":
        return PRESETS["cpu"]
    if not machine.gpus:
        if wanted == "auto":
            return PRESETS["cpu"]
        raise FieldwiseError(
            "no GPU that torch can use was found",
            where="train.hardware",
            found=wanted,
            fix="Set train.hardware=auto, or look with: fieldwise doctor",
        )
    if wanted != "auto":
        return PRESETS[wanted]
    smallest = min(gpu.memory_bytes for gpu in machine.gpus)
    return PRESETS[next((name for limit, name in _CLASS_LIMITS if smallest < limit), "80gb")]


def device_for(preset: Preset, precision: str, threads: int, machine: Machine) -> Device:
    """Choose device and arithmetic for a preset; what the recipe fixes is kept."""
    count = threads or machine.cores
    if preset.name != "cpu":
        if precision == "bfloat16" and (old := [gpu for gpu in machine.gpus if not gpu.bfloat16]):
            raise FieldwiseError(
                "a GPU has no bfloat16 arithmetic",
                where="train.precision",
                found=f"{old[0].name}, compute capability {old[0].capability[0]}.{old[0].capability[1]}, bfloat16 needs 8.0",
                fix="Set train.precision=auto, which takes float32 there.",
            )
        bfloat16 = precision != "float32" and all(gpu.bfloat16 for gpu in machine.gpus)
        return Device("cuda", count, bfloat16, attention=machine.flash_attention if bfloat16 else None)  # 16 bits alone
    bfloat16 = precision == "bfloat16" or (precision == "auto" and bool(has_bfloat16()))
    return Device("cpu", count, bfloat16, attention=BLOCKWISE)


def shared(device: Device, strategy: str, workers: int, machine: Machine, *, is_one_machine: bool = True) -> Device:
    """Return the device of each of several processes that train together; raises for more of them than can work."""
    if strategy != "ddp" and device.name == "cpu":
        raise FieldwiseError(
            "weights are shared out over several GPUs only: on a CPU accelerate runs plain DDP without a word",
            where="compute.strategy",
            found=f"{strategy} on a CPU",
            fix="Set compute.strategy=ddp.",
        )
    most = len(machine.gpus) if device.name == "cuda" else machine.cores
    if is_one_machine and workers > most:
        raise FieldwiseError(
            "there are more processes than this machine can work with",
            where="compute.workers",
            found=f"{workers} for {most} {'GPUs' if device.name == 'cuda' else 'cores'}",
            fix=f"Set compute.workers={most}{', or compute.backend=local' if most < 2 else ''}.",
        )
    each = device.threads // workers if is_one_machine else device.threads
    return replace(device, threads=max(1, each), workers=workers)


def detect(precision: str, threads: int) -> Device:
    """Choose device and arithmetic of this machine; what the recipe fixes is kept."""
    require("torch", extra="train", to="train")
    machine = this_machine()
    return device_for(preset_for("auto", machine), precision, threads, machine)
