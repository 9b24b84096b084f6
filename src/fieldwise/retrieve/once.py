"""What answerers have in common is computed once: searches over one index, prompts of one tokenizer."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Once:
    """Keeps what was computed under its key, and what it took: who is given it later is charged the same time.

    Otherwise the system that is asked first would seem slower than the others. One that does not keep computes anew each
    time: a service would gather what it was ever asked.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        self.keeps, self.spared_seconds = keeps, 0.0
        self._kept: dict[Hashable, tuple[Any, float]] = {}

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned when this key was first asked for."""
        if not self.keeps:
            return make()
        if key in self._kept:
            value, seconds = self._kept[key]
            self.spared_seconds += seconds
            return value  # type: ignore[no-any-return]
        began, spared = time.monotonic(), self.spared_seconds
        made = make()
        self._kept[key] = made, time.monotonic() - began + self.spared_seconds - spared
        return made
