"""What a training leaves, and the account of how it went."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pydantic import JsonValue

from fieldwise.progress import say
from fieldwise.train.curves import judge
from fieldwise.train.hardware import Training
from fieldwise.train.plan import Fitted


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a training left: the adapter, the merged weights, and the figures of its last steps."""

    adapter: Path | None  # None where all weights were trained
    merged: Path
    steps: int
    figures: dict[str, float]
    curve: tuple[dict[str, float], ...]
    dropped: int
    about: dict[str, JsonValue]  # the plan it was trained by, and what its curves show


def with_account(outcome: Outcome, fitted: Fitted, training: Training) -> Outcome:
    """Return an outcome with the plan it was trained by and what its curves show; the latter is said as well."""
    verdict = judge(outcome.curve, training)
    say(
        f"  {training}: {verdict.state.replace('_', ' ')}: {verdict.about}"
        + (f". {verdict.advice}" if verdict.advice else "")
    )
    return dataclasses.replace(
        outcome, about={**outcome.about, "plan": fitted.to_json(), "curve_shows": verdict.to_json()}
    )
