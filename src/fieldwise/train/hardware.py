"""What the machine offers for training, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from fieldwise.extras import require
from fieldwise.machine import has_bfloat16, usable_cores


@dataclass(frozen=True)
class Device:
    """Where training runs and with which arithmetic."""

    name: str  # cpu or cuda
    threads: int
    bfloat16: bool  # autocast to bfloat16; weights stay float32 on a CPU


def detect(precision: str, threads: int) -> Device:
    """Choose device and arithmetic; what the recipe fixes is kept."""
    torch = require("torch", extra="train", to="train")
    count = threads or usable_cores()
    if torch.cuda.is_available():
        return Device("cuda", count, precision != "float32" and bool(torch.cuda.is_bf16_supported()))
    return Device("cpu", count, precision == "bfloat16" or (precision == "auto" and bool(has_bfloat16())))
