"""SFT with a teacher: which method learns what from it.

| method | what is learnt | from |
|---|---|---|
| sequence | the teacher's replies to the training questions, once they pass the checks | Kim and Rush 2016 (arXiv:1606.07947) |
| token | its probabilities at the tokens of the known replies | Hinton et al. 2015 (arXiv:1503.02531) |
| on_policy | the same at replies the student draws itself | GKD, Agarwal et al. 2024 (arXiv:2306.13649) |
| cross_tokenizer | its probabilities sorted by size and aligned by bytes | ULD, Boizard et al. 2024 (arXiv:2402.12030); GOLD of TRL |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import JsonValue

from fieldwise.files import write_jsonl
from fieldwise.progress import say
from fieldwise.records import BaseWeights, Example
from fieldwise.train.distil_memory import with_teacher
from fieldwise.train.distil_sequence import MEMO, taught
from fieldwise.train.distil_settings import DistillationSettings
from fieldwise.train.distil_teacher import Teaching, require_fitting, teacher_weights
from fieldwise.train.distil_token import train_token
from fieldwise.train.distil_trl import train_by_trl
from fieldwise.train.hardware import Device
from fieldwise.train.memory import MemoryPlan, Work
from fieldwise.train.outcome import Outcome
from fieldwise.train.plan import Fitted, Fitter
from fieldwise.train.rows import Course
from fieldwise.train.session import Session
from fieldwise.train.settings import SftSettings
from fieldwise.train.sft import train_sft


def student(settings: DistillationSettings, run: Path) -> Callable[..., Outcome]:
    """Return what trains in the place of `train_sft`, with the same arguments.

    What the teacher said or held likely is kept below `memo` of the run folder and outlives a change of settings.
    """

    def tune(
        base: Path,
        train: Sequence[Example],
        validation: Sequence[Example],
        sft: SftSettings,
        device: Device,
        session: Session,
        course: Course | None = None,
    ) -> Outcome:
        require_fitting(settings, base)
        teacher = None if settings.teacher.endpoint is not None else teacher_weights(settings.teacher)
        say(f"  distillation by {settings.method} from {_named(settings)}")
        about: dict[str, JsonValue] = {"method": settings.method, "teacher": _named(settings)}
        if teacher is not None:
            about["teacher_sha256"] = teacher.sha256
        if settings.method == "sequence":
            lesson = taught(train, settings, teacher, run / MEMO)
            outcome = train_sft(base, lesson.examples, validation, sft, device, session, course=course)
            write_jsonl(session.out / "teacher_replies.jsonl", lesson.rows)
            return _with(outcome, {**about, **lesson.facts})
        assert teacher is not None
        # settings refuse what only a course could tell
        how: Callable[..., Outcome] = train_token if settings.method == "token" else train_by_trl
        if session.fitter is not None:
            session = dataclasses.replace(session, fitter=_beside(session.fitter, settings, teacher, base))
        teaching = Teaching(settings, teacher, run / MEMO)
        return _with(how(base, train, validation, sft, device, session, teaching=teaching), about)

    return tune


def _named(settings: DistillationSettings) -> str:
    """Who teaches, without the folders of this machine."""
    endpoint, model = settings.teacher.endpoint, settings.teacher.model or ""
    if endpoint is not None:
        return f"{endpoint.model} at {endpoint.base_url}"
    return Path(model).name if model.startswith((".", "~", "/")) else model


def _with(outcome: Outcome, about: dict[str, JsonValue]) -> Outcome:
    return dataclasses.replace(outcome, about={**outcome.about, "distillation": about})


def _beside(fitter: Fitter, settings: DistillationSettings, teacher: BaseWeights, base: Path) -> Fitter:
    """Let a fitter count the teacher."""

    def fit(measured: Callable[[MemoryPlan], Work]) -> Fitted:
        return with_teacher(fitter(measured), settings, Path(teacher.path), base)

    return fit
