"""A small student beside its teacher: quality kept and speed gained, same questions, both as files that are served.

    python benchmarks/bench_distil.py [--rows 120] [--questions 120] [--epochs 2] [--json]

The teacher is `nano-10m`, tuned on invented passages of three fields (`fieldwise data sample`); the students are `nano-2m`,
tuned on the same rows in three ways: on the known replies (SFT), on the teacher's probabilities of them (token), and on
the teacher's own replies (sequence, asked as a GGUF file). All are measured as 16-bit GGUF files on questions that none
has seen, asked in turn with one thread. About three minutes of processor time; the figures of docs/decisions.md are of
`--rows 240`, five and a half.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fieldwise  # sets the switches of the libraries below  # noqa: F401
from fieldwise.data.sample import DOMAINS, samples
from fieldwise.engine.base_weights import resolve
from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.evaluate.student import ask_in_turn, kept
from fieldwise.interfaces import Sampling
from fieldwise.prompts import grounded_prompt, is_declined, without_marks
from fieldwise.records import Example, Message, Question
from fieldwise.release.gguf import convert
from fieldwise.train.distil import student
from fieldwise.train.distil_settings import DistillationSettings
from fieldwise.train.hardware import detect
from fieldwise.train.session import Session
from fieldwise.train.settings import SftSettings
from fieldwise.train.sft import train_sft

SEED = 11


def rows(count: int, seed: int) -> list[Example]:
    """Questions over two passages, one of them of another scene; one in eight is answered by neither."""
    drawn = [(d, s) for d in DOMAINS for s in samples(d, count // len(DOMAINS), seed)]
    rng = random.Random(seed)
    rng.shuffle(drawn)
    made = []
    for n, (domain, sample) in enumerate(drawn):
        passages = [sample.context, drawn[n - 1][1].context]
        rng.shuffle(passages)
        mark = f" [{passages.index(sample.context) + 1}]"
        reply = sample.answer if is_declined(sample.answer) else sample.answer + mark
        made.append(
            Example.make(
                question=sample.question,
                answer=reply,
                kind=f"{domain}/{sample.kind}",
                style="grounded",
                conversation=(*grounded_prompt(sample.question, passages), Message(role="assistant", content=reply)),
            )
        )
    return made


class Silent:
    """Takes figures and keeps none."""

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Take the figures of a step."""


def tuned(
    size: str, train: Sequence[Example], epochs: float, work: Path, distilled: dict[str, Any] | None = None
) -> Path:
    """Return the GGUF file of tuned weights."""
    base = Path(resolve(f"fieldwise-nano/{size}").path)
    how = train_sft
    if distilled is not None:
        how = student(DistillationSettings.model_validate(distilled), work)
    outcome = how(
        base, train, [], SftSettings(epochs=epochs, batch_size=4), detect("auto", 0),
        session=Session(work / "work", work / "done", SEED, 10_000, Silent()),
    )  # fmt: skip
    convert(outcome.merged, work / "model.gguf", dtype="f16")
    return work / "model.gguf"


def question(example: Example) -> Question:
    """An example as it is measured."""
    known = None if is_declined(example.answer) else without_marks(example.answer)
    return Question(id=example.id, question=example.question, answer=known)


def main() -> None:
    """Tune, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=120, help="examples to train on")
    parser.add_argument("--questions", type=int, default=120, help="questions to measure on")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    train, held = rows(given.rows, SEED), rows(given.questions, SEED + 1)
    known = {e.question for e in train}
    held = [e for e in held if e.question not in known]
    took: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def made(name: str, size: str, distilled: dict[str, Any] | None = None) -> Path:
            began = time.process_time()
            file = tuned(size, train, given.epochs, place / name, distilled)
            took[name] = time.process_time() - began
            return file

        taught = made("teacher", "nano-10m")
        merged = {"model": str(place / "teacher" / "done" / "merged")}
        files = {
            "teacher": taught,
            "SFT": made("SFT", "nano-2m"),
            "token": made("token", "nano-2m", {"method": "token", "teacher": merged}),
            "sequence": made("sequence", "nano-2m", {"teacher": {"model": str(taught)}, "max_new_tokens": 48}),
        }
        engines = {name: LlamaCppEngine(file, threads=1) for name, file in files.items()}
        answers = ask_in_turn(engines, [e.conversation[:-1] for e in held], Sampling(max_tokens=48))
        for engine in engines.values():
            engine.close()
    asked = [question(e) for e in held]
    found = {name: kept(answers["teacher"], answers[name], asked, SEED) for name in files if name != "teacher"}
    against = {name: kept(answers["SFT"], answers[name], asked, SEED) for name in ("token", "sequence")}
    if given.json:
        told = {name: {**k.to_json(), "training_cpu_seconds": round(took[name], 1)} for name, k in found.items()}
        versus = {name: k.to_json()["difference"] for name, k in against.items()}
        print(
            json.dumps(
                {"students": told, "difference_to_sft": versus, "teacher_cpu_seconds": round(took["teacher"], 1)}
            )
        )
        return
    for name, k in found.items():
        print(
            f"\nnano-2m by {name} against nano-10m ({took[name]:.0f} CPU s of training, teacher {took['teacher']:.0f})"
        )
        print(k.told())
    for name, k in against.items():
        print(f"\n{name} against SFT: F1 {k.difference.value:+.3f} [{k.difference.low:+.3f}, {k.difference.high:+.3f}]")


if __name__ == "__main__":
    main()
