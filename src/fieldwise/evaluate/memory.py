"""The peak of the memory while a system answers. It changes nothing of what is computed, and no rerun repeats it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fieldwise.records import Record

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_PEAK = "5"  # what is written there begins the peak anew: proc_pid_clear_refs(5)


class Peak(Record):
    """Most bytes held at once: of the whole process, and by tensors on the GPU; None where nobody can tell."""

    process_bytes: int | None = None
    gpu_bytes: int | None = None


@contextmanager
def peak_memory() -> Iterator[Callable[[], Peak]]:
    """Yield what tells the peak since the block was entered.

    Of the process on Linux alone: elsewhere the peak cannot be begun anew, and would be that of an earlier step.
    """
    has_begun, cuda = _begin(), _cuda()
    if cuda is not None:
        cuda.reset_peak_memory_stats()
    yield lambda: Peak(
        process_bytes=_process_bytes() if has_begun else None,
        gpu_bytes=int(cuda.max_memory_allocated()) if cuda is not None else None,
    )


def _begin() -> bool:
    try:
        _RESET.write_text(_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _process_bytes() -> int | None:
    lines = _STATUS.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _cuda() -> Any:
    """The CUDA part of PyTorch where that is loaded and has a device; nothing is loaded for it."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_available() else None
