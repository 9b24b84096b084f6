"""How many threads to compute with, and how they wait for each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fieldwise.machine import usable_cores

_WAIT_POLICY = "OMP_WAIT_POLICY"


def thread_count(requested: int = 0) -> int:
    """Return the threads to use: what was asked for, or with 0 the cores this process may use."""
    return requested if requested > 0 else usable_cores()


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
