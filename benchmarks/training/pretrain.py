"""Continued pre-training as the train step calls it, over texts in a file.

python pretrain.py BASE NOTES.jsonl OUT STEPS
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import torch

import fieldwise  # sets the switches of the libraries below  # noqa: F401
from fieldwise.train.hardware import PRESETS, device_for, this_machine
from fieldwise.train.plan import fit
from fieldwise.train.pretrain import Text, pretrain
from fieldwise.train.session import Session
from fieldwise.train.settings import PretrainSettings, TrainSettings
from fieldwise.train.shape import read_shape


class Silent:
    """Takes figures and keeps none."""

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Take the figures of a step."""


base, notes, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
texts = [
    Text(str(n), json.loads(line)["text"]) for n, line in enumerate(notes.read_text(encoding="utf-8").splitlines())
]
own = PretrainSettings(enabled=True, max_steps=steps, batch_size=4, learning_rate=2e-4)
settings = TrainSettings(pretrain=own, threads=1)
machine = this_machine()
device = device_for(PRESETS["cpu"], settings.precision, settings.threads, machine)
torch.set_num_threads(device.threads)
pretrain(
    base, texts, {t.document: "train" for t in texts}, own, device,
    Session(out / "work", out / "done", 7, 1000, Silent(), functools.partial(fit, "pretrain", settings, PRESETS["cpu"], device, machine, read_shape(base))),
)  # fmt: skip
