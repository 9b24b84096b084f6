"""How many threads to compute with, and how they wait for each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WAIT_POLICY = "OMP_WAIT_POLICY"


def thread_count(requested: int = 0) -> int:
    """Return the threads to use: what was asked for, or with 0 the physical cores this process may run on.

    Two threads on one core share its arithmetic units, so hyperthreads only add waiting.
    """
    return requested if requested > 0 else _physical_cores(Path("/proc/cpuinfo"))


@contextmanager
def sleeping_threads() -> Iterator[None]:
    """Import a library that computes with OpenMP so that its threads sleep while they wait.

    By default they spin, and where others use the cores as well that cost a factor of 10 (PyTorch) to 20
    (llama.cpp) on two cores. OpenMP reads its settings once, when it is loaded; what the user has set stays.
    """
    if _WAIT_POLICY in os.environ:
        yield
        return
    os.environ[_WAIT_POLICY] = "PASSIVE"
    try:
        yield
    finally:
        del os.environ[_WAIT_POLICY]


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
