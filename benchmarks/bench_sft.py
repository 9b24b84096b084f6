"""SFT on a CPU: what each of Fieldwise's own parts is worth, added one by one to TRL as it comes; same rows, same process.

    python benchmarks/bench_sft.py [--rows 48] [--steps 4] [--rounds 3] [--base fieldwise-nano] [--json]

All train an adapter on all linear layers over packed rows of 1024 tokens, in bfloat16 arithmetic where the processor has
it, with one thread. Seconds are of the processor and one step, the first step left out; the rounds are interleaved and
medians are given. The loss of the last step shows that all learn the same but for rounding.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import fieldwise  # sets the switches of the libraries below  # noqa: F401
from fieldwise.engine.base_weights import resolve
from fieldwise.prompts import grounded_prompt
from fieldwise.records import Example, Message
from fieldwise.train import rows as training_rows
from fieldwise.train.hardware import detect
from fieldwise.train.session import Session
from fieldwise.train.settings import SftSettings
from fieldwise.train.sft import train_sft

PASSAGE = "The {n}. register of the north stair is kept by the porter, who signs it at {h} o'clock and files it for {y} years. "


def examples(count: int) -> list[Example]:
    """Questions over three passages of about a hundred tokens, as retrieval shows them."""
    made = []
    for n in range(count):
        passages = [PASSAGE.format(n=n + k, h=k + 6, y=n % 9 + 1) * 3 for k in range(3)]
        prompt = grounded_prompt(f"How long is the {n}. register kept?", passages)
        reply = f"{n % 9 + 1} years [1]"
        made.append(
            Example.make(
                question=f"How long is the {n}. register kept?",
                answer=reply,
                kind="duration",
                conversation=(*prompt, Message(role="assistant", content=reply)),
                style="grounded",
                split="train",
            )
        )
    return made


class Silent:
    """Takes figures and keeps the losses, and when each came."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.times: list[float] = []

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        if "loss" in figures:
            self.losses.append(figures["loss"])
            self.times.append(time.process_time())


class Parts(NamedTuple):
    """Which of our own parts are in use."""

    labelled_only: bool = False  # the output layer scores only what carries loss
    in_blocks: bool = False  # attention
    together: bool = False  # a layer and its adapter
    at_once: int = 1  # rows


STEPS = {
    "TRL as it comes": Parts(),
    "+ scores of labelled positions alone": Parts(True),
    "+ attention in blocks": Parts(True, True),
    "+ a layer and its adapter as one": Parts(True, True, True),
    "+ two rows at once (Fieldwise)": Parts(True, True, True, 2),
}


@contextmanager
def only(parts: Parts) -> Iterator[None]:
    """Switch off what a variant does without."""
    import trl.trainer.utils as utilities

    score, lighten = training_rows.score_labelled_only, training_rows.lighten
    training_rows.score_labelled_only = lambda: None
    utilities._use_triton = lambda device: parts.labelled_only
    if not parts.together:
        training_rows.lighten = lambda model, lora, device: None
    try:
        yield
    finally:
        training_rows.score_labelled_only, training_rows.lighten = score, lighten


def measure(base: Path, rows: list[Example], steps: int, parts: Parts) -> tuple[float, float]:
    """Processor seconds of a step, and the last loss."""
    tracker = Silent()
    settings = SftSettings(epochs=9, max_steps=steps, batch_size=4, micro_batch_size=parts.at_once, max_length=1024)
    device = dataclasses.replace(detect("auto", 1), **({} if parts.in_blocks else {"attention": None}))
    with tempfile.TemporaryDirectory() as name, only(parts):
        session = Session(Path(name) / "work", Path(name) / "out", 1, 1000, tracker)
        train_sft(base, rows, [], settings, device, session)
    return (tracker.times[-1] - tracker.times[0]) / (len(tracker.times) - 1), tracker.losses[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", default="fieldwise-nano")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    rows, base = examples(options.rows), Path(resolve(options.base).path)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in STEPS}
    for _ in range(options.rounds):
        for name, parts in STEPS.items():
            found[name].append(measure(base, rows, options.steps, parts))
    first = median(seconds for seconds, _ in found["TRL as it comes"])
    result: dict[str, Any] = {}
    for name, runs in found.items():
        seconds = median(s for s, _ in runs)
        result[name] = {"seconds_a_step": round(seconds, 3), "ratio": round(first / seconds, 2), "loss": runs[-1][1]}
    if options.json:
        print(json.dumps(result, indent=1))
        return
    for name, row in result.items():
        print(f"{name:40} {row['seconds_a_step']:7.3f} s a step  {row['ratio']:5.2f} times  loss {row['loss']:.4f}")


if __name__ == "__main__":
    main()
