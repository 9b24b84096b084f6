"""What a student keeps of its teacher, and how much faster it answers: the same questions, asked in turn.

Both are asked each question one after the other, who is first changing from question to question, so that other load on
the machine falls on both. Quality is token F1 with declines (`metrics.overall_f1`); its difference and the ratio of the
seconds are paired by question, with 95 % intervals over documents. The ratio is a geometric mean: twice as fast and half
as fast come to the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.evaluate.metrics import overall_f1
from fieldwise.evaluate.statistics import Estimate, bounded_mean, paired_difference
from fieldwise.interfaces import Engine, Sampling
from fieldwise.prompts import is_declined, without_marks
from fieldwise.records import Answer, Conversation, Question

_SAMPLES = 2000


class Timed(NamedTuple):
    """An answer, the seconds it took, those of all cores together, and its tokens."""

    answer: Answer
    seconds: float
    cpu_seconds: float
    tokens: int


@dataclass(frozen=True)
class Kept:
    """A student beside its teacher; `difference` is student less teacher, `speed` above 1 says the student is faster."""

    questions: int
    teacher: Estimate
    student: Estimate
    difference: Estimate
    teacher_seconds: float  # mean of an answer
    student_seconds: float
    speed: Estimate  # of seconds on the clock
    cpu_speed: Estimate  # of seconds of computing, which other load hardly moves
    teacher_tokens_a_second: float
    student_tokens_a_second: float

    @property
    def share(self) -> float | None:
        """The student's quality as a share of the teacher's; None where the teacher has none."""
        return self.student.value / self.teacher.value if self.teacher.value else None

    def to_json(self) -> dict[str, JsonValue]:
        """Every figure, intervals as lists."""
        found: dict[str, JsonValue] = {}
        for name, value in vars(self).items():
            found[name] = [round(v, 4) for v in value] if isinstance(value, Estimate) else round(value, 4)
        return {**found, "share": None if self.share is None else round(self.share, 4)}

    def told(self) -> str:
        """Three lines for people."""
        share = "" if self.share is None else f", {self.share:.0%} of the teacher's"
        return (
            f"quality  F1 {self.student.value:.3f} against {self.teacher.value:.3f}{share}; "
            f"difference {_interval(self.difference, '+.3f')} (n={self.questions})\n"
            f"seconds  {self.student_seconds:.3f} an answer against {self.teacher_seconds:.3f}: "
            f"{_interval(self.speed, '.2f')} times as fast, by seconds of computing {_interval(self.cpu_speed, '.2f')}\n"
            f"tokens   {self.student_tokens_a_second:.1f} a second against {self.teacher_tokens_a_second:.1f}"
        )


def ask_in_turn(
    engines: Mapping[str, Engine], prompts: Sequence[Conversation], sampling: Sampling
) -> dict[str, list[Timed]]:
    """Return what each engine answers to each prompt, one at a time; the first prompt is asked once before, to warm up."""
    found: dict[str, list[Timed]] = {name: [] for name in engines}
    order = list(engines)
    for engine in engines.values():
        if prompts:
            engine.generate([engine.render(prompts[0])], sampling)
    for prompt in prompts:
        for name in order:
            found[name].append(_timed(engines[name], prompt, sampling, name))
        order = [*order[1:], order[0]]
    return found


def kept(teacher: Sequence[Timed], student: Sequence[Timed], questions: Sequence[Question], seed: int) -> Kept:
    """Return how the student compares, question by question; raises DatasetError for no question."""
    if not questions:
        raise DatasetError("there is no question to compare on", where="student", fix="Name a set of questions.")
    clusters = [q.document or q.id for q in questions]
    scores = [
        [overall_f1(t.answer, q) or 0.0 for t, q in zip(side, questions, strict=True)] for side in (teacher, student)
    ]
    return Kept(
        questions=len(questions),
        teacher=bounded_mean(scores[0], clusters, _SAMPLES, seed),
        student=bounded_mean(scores[1], clusters, _SAMPLES, seed),
        difference=paired_difference(scores[1], scores[0], clusters, _SAMPLES, seed),
        teacher_seconds=sum(t.seconds for t in teacher) / len(teacher),
        student_seconds=sum(t.seconds for t in student) / len(student),
        speed=ratio([t.seconds for t in teacher], [t.seconds for t in student], clusters, seed),
        cpu_speed=ratio([t.cpu_seconds for t in teacher], [t.cpu_seconds for t in student], clusters, seed),
        teacher_tokens_a_second=_rate(teacher),
        student_tokens_a_second=_rate(student),
    )


def ratio(over: Sequence[float], under: Sequence[float], clusters: Sequence[str], seed: int) -> Estimate:
    """Return the geometric mean of the ratios of paired times, with its interval: of 4/2 and 1/2 it is 1."""
    logs = [[math.log(max(seconds, 1e-9)) for seconds in side] for side in (over, under)]
    made = paired_difference(logs[0], logs[1], clusters, _SAMPLES, seed, is_bounded=False)
    return Estimate(*(math.exp(value) for value in made))


def _timed(engine: Engine, prompt: Conversation, sampling: Sampling, name: str) -> Timed:
    began, computed = time.perf_counter(), time.process_time()
    reply = engine.generate([engine.render(prompt)], sampling)[0]
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - computed
    said = Answer(text=reply.text, answer=without_marks(reply.text), model=name, is_declined=is_declined(reply.text))
    return Timed(said, seconds, cpu_seconds, len(reply.token_ids))


def _rate(side: Sequence[Timed]) -> float:
    return sum(t.tokens for t in side) / max(sum(t.seconds for t in side), 1e-9)


def _interval(found: Estimate, form: str) -> str:
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"
