"""Supervised fine-tuning: conversations as rows whose loss falls on what the assistant says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fieldwise.errors import DatasetError
from fieldwise.progress import say
from fieldwise.records import Example
from fieldwise.train.hardware import Device
from fieldwise.train.labels import IGNORED, labelled_rows
from fieldwise.train.loading import load_tokenizer
from fieldwise.train.outcome import Outcome
from fieldwise.train.rows import Course, Rows, train_rows
from fieldwise.train.scoring import scorer
from fieldwise.train.session import Session
from fieldwise.train.settings import SftSettings, TrainSettings


def train_sft(
    base: Path,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: SftSettings,
    device: Device,
    session: Session,
    *,
    course: Course | None = None,
) -> Outcome:
    """Fine-tune on what the assistant says; resumes from the last checkpoint of the session.

    Without a `fitter` nothing is estimated, and the preset of the device fills what the settings leave open.
    """
    course = course or Course()
    tokenizer = load_tokenizer(base)
    session = session.with_fitter("sft", TrainSettings(sft=settings), device)
    max_length = session.max_length
    data = labelled_data(tokenizer, train, validation, max_length)
    say(f"  sft: {_learnt(data)}")
    best_by = settings.best_by or ("loss" if settings.early_stopping else None)
    scored = None
    if best_by == "score":
        if course.task is None:
            raise ValueError("best_by: score needs to be told how replies are judged")
        scored = scorer(course.task, validation, tokenizer, bfloat16=device.bfloat16)
    is_judged = best_by != "score" or scored is not None
    require_held(settings, data.held if is_judged else (), validation, max_length)
    return train_rows(
        base,
        data,
        settings,
        device,
        "sft",
        session,
        course=dataclasses.replace(course, best_by=best_by, scored=scored, neftune=settings.neftune),
    )


def _learnt(data: Rows) -> str:
    """How much of the rows carries loss: a template that marks the wrong side shows here."""
    read = sum(len(row["input_ids"]) for row in data.train)
    learnt = sum(label != IGNORED for row in data.train for label in row["labels"])
    return f"{learnt:,} of {read:,} tokens carry loss, those that the assistant says"


def labelled_data(tokenizer: Any, train: Sequence[Example], validation: Sequence[Example], max_length: int) -> Rows:
    """Return the examples as rows; raises DatasetError where none is left to learn from."""
    rows, dropped = labelled_rows(train, tokenizer, max_length) if train else ([], 0)
    require_rows(train, rows, max_length)
    held, _ = labelled_rows(validation, tokenizer, max_length, "held-out examples")
    if validation and not held:
        say(f"  no held-out example fits {max_length} tokens (train.sft.max_length): their loss is not measured")
    return Rows(tokenizer, rows, held, dropped, max_length)


def require_rows(train: Sequence[Example], rows: Sequence[object], max_length: int) -> None:
    """Raise DatasetError where nothing is left to learn from."""
    if not train:
        raise DatasetError(
            "there is no training example",
            where="3_examples/train.parquet",
            fix="Look at 3_examples/card.json and rejected.jsonl for why none was made.",
        )
    if not rows:
        raise DatasetError(
            "no training example fits",
            where="train.sft.max_length",
            found=f"{max_length} tokens",
            fix="Raise train.sft.max_length or lower generate.distractors.",
        )


def require_held(settings: SftSettings, held: Sequence[object], validation: Sequence[Example], max_length: int) -> None:
    """Raise DatasetError where weights are chosen by held-out examples and there are none."""
    if (settings.early_stopping or settings.best_by) and not held:
        key = "early_stopping" if settings.early_stopping else "best_by"
        raise DatasetError(
            "early stopping needs held-out examples" if settings.early_stopping else "held-out examples are needed",
            where=f"train.sft.{key}",
            found="no validation example" if not validation else f"none within {max_length} tokens",
            fix="Leave the key out, or raise generate.split.validation.",
        )
