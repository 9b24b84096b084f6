"""What the machine offers for training, and what follows from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fieldwise.extras import require


@dataclass(frozen=True)
class Device:
    """Where training runs and with which arithmetic."""

    name: str  # cpu or cuda
    threads: int
    bfloat16: bool  # autocast to bfloat16; weights stay float32 on a CPU


def physical_cores() -> int:
    """Return the cores this process may use; two hardware threads of one core count once where the system tells."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        folder = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(((folder / "physical_package_id").read_text(), (folder / "core_id").read_text()))
        except OSError:
            return max(1, len(allowed))
    return max(1, len(cores))


def cpu_has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 itself (AVX512-BF16 or AMX); emulated it would be slower."""
    try:
        flags = next(
            line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if line.startswith("flags")
        )
    except (OSError, StopIteration):
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def detect(precision: str, threads: int) -> Device:
    """Choose device and arithmetic; what the recipe fixes is kept."""
    torch = require("torch", extra="train", to="train")
    count = threads or physical_cores()
    if torch.cuda.is_available():
        return Device("cuda", count, precision != "float32" and bool(torch.cuda.is_bf16_supported()))
    return Device("cpu", count, precision == "bfloat16" or (precision == "auto" and cpu_has_bfloat16()))
