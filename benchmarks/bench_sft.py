"""SFT on a CPU: tokens a second of Fieldwise's trainer beside TRL as it comes, same rows, same loss, same process.

    python benchmarks/bench_sft.py [--rows 48] [--json]

Both use the embedded base, LoRA on all linear layers, packed rows of 1024 and bfloat16 arithmetic where the processor
has it. Fieldwise lets the output layer score only what carries loss; TRL scores every position on a CPU.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

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
    """Takes figures and keeps the losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        if "loss" in figures:
            self.losses.append(figures["loss"])


def measure(rows: list[Example], labelled_only: bool) -> dict[str, float]:
    """Seconds of three steps behind one to warm up, and the last loss."""
    import trl.trainer.utils as utilities

    utilities._use_triton = lambda device: labelled_only
    known = training_rows.score_labelled_only
    training_rows.score_labelled_only = lambda: None
    tracker, settings = Silent(), SftSettings(max_steps=4, batch_size=4, max_length=1024)
    try:
        with tempfile.TemporaryDirectory() as name:
            began = time.process_time()
            train_sft(
                Path(resolve("fieldwise-nano").path), rows, [], settings, detect("auto", 0),
                Session(Path(name) / "work", Path(name) / "out", 1, 1000, tracker),
            )  # fmt: skip
            seconds = time.process_time() - began
    finally:
        training_rows.score_labelled_only = known
    return {"processor_seconds": round(seconds, 1), "loss": tracker.losses[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = examples(options.rows)
    measure(rows, True)  # loads what both need
    result: dict[str, Any] = {"fieldwise": measure(rows, True), "trl": measure(rows, False)}
    result["ratio"] = round(result["trl"]["processor_seconds"] / result["fieldwise"]["processor_seconds"], 2)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name in ("fieldwise", "trl"):
            print(f"{name}: {result[name]['processor_seconds']} processor seconds, loss {result[name]['loss']:.6f}")
        print(f"ratio {result['ratio']}")


if __name__ == "__main__":
    main()
