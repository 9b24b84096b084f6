"""Curves and figures of a run: a JSON Lines file by default, so that no library and no server is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fieldwise.files import append_jsonl


class Tracker(Protocol):
    """Takes figures as they arise."""

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Record the figures of one step of one stage."""
        ...


class JsonlTracker:
    """Appends one line a step, so that a training can be watched while it runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Write the figures as one line."""
        append_jsonl(self.path, {"stage": stage, "step": step, **figures})
