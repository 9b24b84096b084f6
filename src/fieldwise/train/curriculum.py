"""A curriculum (Bengio et al. 2009): phases of examples, easy to hard, as trainings one after another on the same weights.

Packing puts examples into rows by their length, so an order within one training would not last; each step of the
curriculum is therefore a training of its own, with its own curve, checkpoints and learning rate schedule.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.files import write_json
from fieldwise.progress import say
from fieldwise.records import Example
from fieldwise.train import distributed
from fieldwise.train.difficulty import base_losses
from fieldwise.train.hardware import Device
from fieldwise.train.kept import keep, kept
from fieldwise.train.outcome import Outcome
from fieldwise.train.rows import Course
from fieldwise.train.session import Session
from fieldwise.train.settings import CurriculumSettings, SftSettings
from fieldwise.train.sft import train_sft

_FITS_NOT = "train.sft.max_length"  # where an error says that no example of a step can be shown whole


class Lesson(NamedTuple):
    """One step of a curriculum: its name, the examples that are new in it, and earlier ones it repeats."""

    name: str
    examples: tuple[Example, ...]
    repeated: tuple[Example, ...] = ()


def lessons(
    examples: Sequence[Example], settings: CurriculumSettings, seed: int, losses: Mapping[str, float] | None = None
) -> list[Lesson]:
    """Return the steps in order; within a phase the examples rise by difficulty, equal ones by their id.

    `losses` by example id take the place of the difficulty that the examples carry. Four examples of one phase in two parts: the two easiest, then the two hardest.
    """
    found: list[Lesson] = []
    earlier: list[Example] = []

    def hardness(example: Example) -> tuple[float, str]:
        return (example.difficulty if losses is None else losses[example.id], example.id)

    for phase in settings.phases:
        own = sorted((e for e in examples if e.phase == phase), key=hardness)
        bounds = [round(n * len(own) / settings.parts) for n in range(settings.parts + 1)]
        repeated = random.Random(f"{seed}/curriculum/{phase}").sample(earlier, round(settings.replay * len(earlier)))
        for part in range(settings.parts):
            if new := tuple(own[bounds[part] : bounds[part + 1]]):
                name = phase if settings.parts == 1 else f"{phase}_{part + 1}"
                found.append(Lesson(name, new, tuple(repeated)))
        earlier += own
    return found


def train_in_phases(
    base: Path,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: SftSettings,
    device: Device,
    session: Session,
    *,
    course: Course | None = None,
) -> Outcome:
    """Fine-tune step by step; the curve of each stands in `phases/` of `session.out`, all of them in a row in the outcome.

    Steps that an interrupted run has finished are not trained again; the one it was in goes on from its checkpoint.
    """
    chosen = settings.curriculum
    losses = None
    if chosen.difficulty == "base_loss":
        losses = distributed.agreed(lambda: base_losses(base, train, device, session.work / "base_losses.json"))
    planned = lessons(train, chosen, session.seed, losses)
    left_out = len(train) - sum(len(lesson.examples) for lesson in planned)
    if left_out:
        say(f"  {left_out} of {len(train)} examples are of phases that train.sft.curriculum.phases leaves out")
    if distributed.is_first():
        shutil.rmtree(session.out, ignore_errors=True)
    task = course.task if course else None
    told: list[JsonValue] = []
    curve: list[dict[str, float]] = []
    last: Outcome | None = None
    for number, lesson in enumerate(planned, 1):
        repeats = f", {len(lesson.repeated)} earlier ones again" if lesson.repeated else ""
        say(f"  sft {number}/{len(planned)} {lesson.name}: {len(lesson.examples)} examples{repeats}")
        folder = session.work / f"{number}_{lesson.name}"
        own = dataclasses.replace(session, work=folder / "checkpoints", out=folder / "done")
        outcome = _finished(own.out)
        if outcome is None:
            known = [*lesson.examples, *lesson.repeated]
            place = Course(f"sft/{lesson.name}", _weights(last), task=task)
            try:
                outcome = train_sft(base, known, validation, settings, device, own, course=place)
            except DatasetError as error:
                if error.where != _FITS_NOT or (number == len(planned) and last is None):
                    raise
                say(f"  {lesson.name} is passed over: none of its examples fits")
                told.append({"phase": lesson.name, "examples": len(lesson.examples), "passed_over": str(error)})
                continue
            if distributed.is_first():
                keep(outcome)
            distributed.wait()  # the next step begins with what the first process has written
        about = _about(lesson, outcome)
        told.append(about)
        if distributed.is_first():
            rows: list[JsonValue] = [dict(row) for row in outcome.curve]
            write_json(session.out / f"phases/{number}_{lesson.name}.json", {**about, "curve": rows})
        behind = curve[-1]["step"] if curve else 0.0
        curve += [{**row, "step": row["step"] + behind} for row in outcome.curve]
        last = outcome
    if last is None:
        raise _no_phase(train)
    return _joined(last, curve, told, session, left_out)


def _about(lesson: Lesson, outcome: Outcome) -> dict[str, JsonValue]:
    return {
        "phase": lesson.name,
        "examples": len(lesson.examples),
        "repeated": len(lesson.repeated),
        "dropped": outcome.dropped,
        "steps": outcome.steps,
        **outcome.figures,
        **{k: v for k, v in outcome.about.items() if k != "plan"},
    }


def _joined(
    last: Outcome, curve: Sequence[dict[str, float]], told: list[JsonValue], session: Session, left_out: int
) -> Outcome:
    """The weights of the last step in their place, with the curve and the record of all of them."""
    for source in (last.adapter, last.merged):
        if source is not None and distributed.is_first():
            shutil.copytree(source, session.out / source.name)
    return Outcome(
        None if last.adapter is None else session.out / "adapter",
        session.out / "merged",
        int(curve[-1]["step"]) if curve else 0,
        last.figures,
        tuple(curve),
        sum(int(str(t["dropped"])) for t in told if isinstance(t, dict) and "dropped" in t),
        {**last.about, "phases": told, "left_out": left_out},
    )


def _no_phase(train: Sequence[Example]) -> DatasetError:
    return DatasetError(
        "no example is of a phase of the curriculum",
        where="train.sft.curriculum.phases",
        found=", ".join(sorted({e.phase for e in train})) or "no training example",
        fix="Name the phases that the examples have, or set train.sft.curriculum.enabled=false.",
    )


def _finished(folder: Path) -> Outcome | None:
    """The step that a folder holds whole, as the first process finds it: it removes one that is half-written."""
    return distributed.agreed(lambda: kept(folder))


def _weights(outcome: Outcome | None) -> Path | None:
    return None if outcome is None else outcome.adapter or outcome.merged
