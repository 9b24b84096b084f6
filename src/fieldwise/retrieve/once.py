"""What answerers have in common is computed once: searches over one index, prompts of one tokenizer."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Once:
    """Keeps what was computed under its key, and what it took: who is given it later is charged the same time.

    Otherwise the system that is asked first would seem slower than the others.
    """

    def __init__(self) -> None:
        self.spared_seconds = 0.0
        self._kept: dict[Hashable, tuple[Any, float]] = {}

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned when this key was first asked for."""
        if key in self._kept:
            value, seconds = self._kept[key]
            self.spared_seconds += seconds
            return value  # type: ignore[no-any-return]
        began, spared = time.monotonic(), self.spared_seconds
        made = make()
        self._kept[key] = made, time.monotonic() - began + self.spared_seconds - spared
        return made
