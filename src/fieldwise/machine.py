"""What the machine lets this process use: cores, memory and arithmetic, within the limits of its container.

Limits are those of Linux control groups, version 2 (`cpu.max`, `memory.max`) and version 1. A container that may use two
of sixty-four cores shows sixty-four; as many threads would be stopped by its quota most of the time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_MEMBERSHIP = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 writes a number near 2^63 where there is no limit


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
