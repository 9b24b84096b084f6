"""Progress on stderr: a bar on a terminal, a line now and then elsewhere; never on stdout."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
_BAR_EVERY_SECONDS = 0.2
_LINE_EVERY_SECONDS = 10.0
_quiet = False
_is_interrupted = False
_sink: Callable[[str], None] | None = None


def set_quiet(quiet: bool) -> None:
    """Switch progress off for this process (`--quiet`)."""
    global _quiet
    _quiet = quiet


def tell_to(sink: Callable[[str], None] | None) -> None:
    """Give what is said to a function in the place of stderr; a process that works for another one has no terminal."""
    global _sink
    _sink = sink


def remember_interrupts() -> None:
    """Make Ctrl-C be remembered besides being raised: a library may swallow it, above all while it is imported."""
    global _is_interrupted
    _is_interrupted = False
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def stop_if_interrupted() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed and the exception came to nothing; called between pieces of work."""
    if _is_interrupted:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _is_interrupted
    _is_interrupted = True
    raise KeyboardInterrupt


def say(text: str) -> None:
    """Print one line for the person who watches."""
    if _sink is not None:
        _sink(text)
    elif not _quiet:
        print(text, file=sys.stderr, flush=True)


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and show how many are done, how fast, and how long it may still take."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    began = shown = time.monotonic()
    on_terminal = sys.stderr.isatty()
    every = _BAR_EVERY_SECONDS if on_terminal else _LINE_EVERY_SECONDS
    for done, item in enumerate(items, 1):
        stop_if_interrupted()
        yield item
        now = time.monotonic()
        if not _quiet and now - shown >= every:
            _show(label, done, total, now - began, on_terminal)
            shown = now
    if on_terminal and not _quiet and shown > began:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _show(label: str, done: int, total: int | None, seconds: float, on_terminal: bool) -> None:
    speed = done / seconds if seconds else 0.0
    text = f"  {label}: {done}" + (f"/{total}" if total else "") + f", {speed:.1f}/s"
    if total and speed:
        text += f", about {(total - done) / speed:.0f} s left"
    print(f"\r\033[K{text}" if on_terminal else text, end="" if on_terminal else "\n", file=sys.stderr, flush=True)
