"""A sign of life from a reader that works through many pages: the limit of time then counts for each page."""

from __future__ import annotations

from collections.abc import Callable

_listeners: list[Callable[[], None]] = []


def on_beat(listener: Callable[[], None]) -> None:
    """Have a function called at every beat; the reading process tells its parent so."""
    _listeners[:] = [listener]


def beat() -> None:
    """Say that a page is done and the next begins."""
    for listener in _listeners:
        listener()
