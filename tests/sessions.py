"""A training's session in a folder of a test."""

from __future__ import annotations

from pathlib import Path

from fieldwise.tracking import JsonlTracker, Tracker
from fieldwise.train.plan import Fitter
from fieldwise.train.session import Session


def session_in(
    folder: Path,
    tracker: Tracker | None = None,
    *,
    seed: int = 7,
    save_steps: int = 2,
    fitter: Fitter | None = None,
) -> Session:
    """Return a session with checkpoints in `work/`, the result in `done/` and the curve in `curve.jsonl` of a folder."""
    tracker = tracker or JsonlTracker(folder / "curve.jsonl")
    return Session(folder / "work", folder / "done", seed, save_steps, tracker, fitter)
