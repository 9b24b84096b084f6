"""Numbers on the command line, for argparse's `type`: within their bounds, or told what was expected."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def whole_number(told: str, most: float = float("inf")) -> Callable[[str], int]:
    """Return what reads a whole number from 1 up to `most`; `told` says in words what is expected."""

    def read(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected {told}, found {text!r}")
        return int(text)

    return read


def number(told: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return what reads a number that `fits`; `told` says in words what is expected."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not fits(value):  # nothing fits what is no number
            raise argparse.ArgumentTypeError(f"expected {told}, found {text!r}")
        return value

    return read


share = number("a share from 0 to 1", lambda value: 0 <= value <= 1)
