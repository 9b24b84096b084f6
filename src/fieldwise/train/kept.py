"""A finished training kept in the work folder, so that an interrupted run does not train it again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fieldwise.files import sync, write_json
from fieldwise.train.outcome import Outcome


def keep(outcome: Outcome) -> Path:
    """Mark the folder of a finished training as whole, with its figures; returns the folder."""
    done = outcome.merged.parent
    if not (done / "complete").exists():
        for path in done.rglob("*"):
            if path.is_file():
                sync(path)
        write_json(
            done / "figures.json",
            {
                "steps": outcome.steps,
                "figures": dict(outcome.figures),
                "curve": [dict(row) for row in outcome.curve],
                "dropped": outcome.dropped,
                "about": outcome.about,
            },
        )
        (done / "complete").touch()
    return done


def kept(folder: Path) -> Outcome | None:
    """Return the training that a folder holds whole; one that is half-written is removed."""
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)  # the checkpoints beside it are still good
        return None
    saved = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return Outcome(
        folder / "adapter" if (folder / "adapter").exists() else None,
        folder / "merged",
        saved["steps"],
        saved["figures"],
        tuple(saved["curve"]),
        saved["dropped"],
        saved["about"],
    )
