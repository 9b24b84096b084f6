"""What every training is told beside its rows and settings: where it works, with which seed, and what watches over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fieldwise.tracking import Tracker
from fieldwise.train.hardware import Device, Training
from fieldwise.train.memory import MemoryPlan, Work
from fieldwise.train.plan import Fitted, Fitter, preset_alone
from fieldwise.train.settings import TrainSettings


@dataclass(frozen=True)
class Session:
    """One training: an interrupted one goes on from `work` and leaves in `out` what an undisturbed one would."""

    work: Path  # checkpoints
    out: Path  # adapter, merged weights, records
    seed: int
    save_steps: int  # optimiser steps between two checkpoints
    tracker: Tracker
    fitter: Fitter | None = None

    def with_fitter(self, training: Training, settings: TrainSettings, device: Device) -> Session:
        """Return the session with a fitter: without its own, the preset of the device fills what is left open, unestimated."""
        return self if self.fitter else replace(self, fitter=preset_alone(training, settings, device))

    def fit(self, measured: Callable[[MemoryPlan], Work]) -> Fitted:
        """Return the plan that fits the machine, given how much a plan trains on at once."""
        if self.fitter is None:
            raise ValueError("the session has no fitter yet: call with_fitter first")
        return self.fitter(measured)

    @property
    def max_length(self) -> int:
        """Tokens that a row is cut to; what fits into memory has no say in it."""
        return self.fit(lambda plan: Work(1, 1, 1)).plan.max_length
