"""What the machine lets this process use: cores, memory and arithmetic, within the limits of its container.

Limits are those of Linux control groups, version 2 (`cpu.max`, `memory.max`) and version 1. A container that may use two
of sixty-four cores shows sixty-four; as many threads would be stopped by its quota most of the time.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_MEMBERSHIP = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 writes a number near 2^63 where there is no limit
_ARITHMETIC = {  # as /proc/cpuinfo writes it -> as people call it; x86 first, then ARM
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "sve": "SVE",
    "i8mm": "I8MM",
    "bf16": "BF16",
}


class Gpu(NamedTuple):
    """One CUDA device."""

    name: str
    memory_bytes: int
    capability: tuple[int, int]  # such as (8, 0)

    @property
    def bfloat16(self) -> bool:
        """Whether it multiplies bfloat16 itself: Ampere (8.0) and later."""
        return self.capability >= (8, 0)


def peak_bytes() -> int:
    """Return the most memory that this process has held: on a GPU, where PyTorch uses one, else the resident set."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_reserved())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def usable_cores() -> int:
    """Return the cores to compute on: physical ones this process may run on, at most as many as its quota allows.

    Two hardware threads of one core share its arithmetic units, so counting both only adds waiting.
    """
    quota = _quota(_MEMBERSHIP, _MOUNTED)
    cores = _physical_cores(_CPUINFO)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def memory_bytes() -> int | None:
    """Return the memory this process may use, or None where the system does not tell."""
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    limit = _memory_limit(_MEMBERSHIP, _MOUNTED)
    return installed if limit is None else min(installed, limit)


def available_bytes() -> int | None:
    """Return the memory that is free for this process now, caches that would make room included; None if unknown."""
    free = next(
        (int(line.split()[1]) * 1024 for line in _read(_MEMINFO).splitlines() if line.startswith("MemAv")), None
    )
    left = _memory_left(_MEMBERSHIP, _MOUNTED)
    return min((n for n in (free, left) if n is not None), default=None)


def cpu_features() -> tuple[str, ...]:
    """Return the kinds of vector arithmetic the processor has that matter for training, such as AVX2 and AMX-BF16."""
    for line in _read(_CPUINFO).splitlines():
        key, _, flags = line.partition(":")
        if key.strip() in ("flags", "Features"):
            found = set(flags.split())
            return tuple(name for flag, name in _ARITHMETIC.items() if flag in found)
    return ()


def gpus() -> tuple[Gpu, ...]:
    """Return the CUDA devices this process may use.

    Asked of torch where it is loaded already; else of the driver's own tool, since loading torch takes seconds.
    """
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        shown = [torch.cuda.get_device_properties(n) for n in range(count)]
        return tuple(Gpu(str(p.name), int(p.total_memory), (int(p.major), int(p.minor))) for p in shown)
    return _gpus_of_driver()


def _gpus_of_driver() -> tuple[Gpu, ...]:
    tool = shutil.which("nvidia-smi")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if tool is None or visible in ("", "-1") or _torch_is_for_cpu():
        return ()
    try:
        lines = subprocess.run(
            [tool, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.splitlines()
    except (subprocess.SubprocessError, OSError):
        return ()
    found = tuple(gpu for line in lines if (gpu := _gpu(line)) is not None)
    wanted = [int(n) for n in (visible or "").split(",") if n.strip().isdigit()]
    return tuple(found[n] for n in wanted if n < len(found)) if wanted else found


def _gpu(line: str) -> Gpu | None:
    name, _, rest = line.partition(", ")
    mebibytes, _, capability = rest.partition(", ")
    major, _, minor = capability.strip().partition(".")
    if not (mebibytes.strip().isdigit() and major.isdigit() and minor.isdigit()):
        return None
    return Gpu(name.strip(), int(mebibytes) << 20, (int(major), int(minor)))


def _torch_is_for_cpu() -> bool:
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False


def has_bfloat16() -> bool | None:
    """Tell whether the processor multiplies bfloat16 itself (AVX512-BF16 or AMX); None where the system does not tell."""
    try:
        flags = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _physical_cores(cpuinfo: Path) -> int:
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    try:
        blocks = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n")
    except OSError:
        return len(allowed)
    cores: set[tuple[str, str]] = set()
    for block in blocks:
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        if "core id" in facts and facts.get("processor", "").isdigit() and int(facts["processor"]) in allowed:
            cores.add((facts.get("physical id", ""), facts["core id"]))
    return len(cores) or len(allowed)


def _quota(membership: Path, mounted: Path) -> float | None:
    """Cores' worth of time that the groups of this process allow, or None."""
    found = []
    for folder in _groups(membership, mounted, "cpu"):
        limit, _, period = _read(folder / "cpu.max").partition(" ")
        limit = limit or _read(folder / "cpu.cfs_quota_us")
        period = period or _read(folder / "cpu.cfs_period_us") or "100000"
        if limit.isdigit() and period.isdigit() and int(period) > 0:
            found.append(int(limit) / int(period))
    return min(found, default=None)


def _memory_limit(membership: Path, mounted: Path) -> int | None:
    found = [
        int(limit)
        for folder in _groups(membership, mounted, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (limit := _read(folder / name)).isdigit() and int(limit) < _UNLIMITED
    ]
    return min(found, default=None)


def _memory_left(membership: Path, mounted: Path) -> int | None:
    """What the tightest group still allows: its limit less what it holds, without file pages nobody uses."""
    found = []
    for folder in _groups(membership, mounted, "memory"):
        for limit, held, idle in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, used = _read(folder / limit), _read(folder / held)
            if most.isdigit() and used.isdigit() and int(most) < _UNLIMITED:
                lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
                reclaimable = next((int(line[1]) for line in lines if line[0] == idle), 0)
                found.append(max(0, int(most) - int(used) + reclaimable))
    return min(found, default=None)


def _groups(membership: Path, mounted: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups this process is in, from its own upwards: a limit of any of them holds."""
    for line in _read(membership).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number != "0" and controller not in controllers.split(","):
            continue
        top = mounted if number == "0" else mounted / controllers
        top = top if top.is_dir() else mounted / controller
        inside = top / path.lstrip("/")
        for folder in (inside, *inside.parents):
            yield folder
            if folder == top:
                break


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
