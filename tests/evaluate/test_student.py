"""A student beside its teacher: scores, ratios and their intervals by hand-worked numbers, and two engines asked in turn."""

import math

import pytest

from fieldwise.errors import DatasetError
from fieldwise.evaluate.student import Kept, Timed, ask_in_turn, kept, ratio
from fieldwise.interfaces import Generation, Sampling
from fieldwise.prompts import closed_prompt, is_declined
from fieldwise.records import NOT_STATED, Answer, Question

QUESTIONS = [Question(id=f"q{n}", question="How long?", answer="14 days" if n % 2 else None) for n in range(12)]


def timed(text: str, seconds: float, tokens: int = 4) -> Timed:
    return Timed(Answer(text=text, answer=text, model="m", is_declined=is_declined(text)), seconds, seconds / 2, tokens)


def test_the_figures_are_those_worked_by_hand() -> None:
    # the teacher is right everywhere; the student declines all, right for the six without an answer
    teacher = [timed("14 days" if q.answer else NOT_STATED, 0.4) for q in QUESTIONS]
    student = [timed(NOT_STATED, 0.1, tokens=2) for _ in QUESTIONS]
    found = kept(teacher, student, QUESTIONS, 1)
    assert found.teacher.value == 1.0 and found.student.value == 0.5 and found.share == 0.5
    assert found.difference.value == -0.5 and found.difference.low < -0.5 < found.difference.high < 0
    assert found.speed.value == pytest.approx(4.0) and found.cpu_speed.value == pytest.approx(4.0)
    assert found.teacher_seconds == pytest.approx(0.4) and found.student_seconds == pytest.approx(0.1)
    assert found.teacher_tokens_a_second == pytest.approx(10.0) and found.student_tokens_a_second == pytest.approx(20.0)
    told = found.told()
    assert "50% of the teacher's" in told and "4.00 [" in told and "(n=12)" in told
    assert found.to_json()["share"] == 0.5 and len(found.to_json()["speed"]) == 3


def test_ratios_are_geometric_and_their_interval_holds_them() -> None:
    names = [str(n) for n in range(2)]
    assert ratio([4.0, 1.0], [2.0, 2.0], names, 1).value == pytest.approx(1.0)
    made = ratio([3.0, 6.0, 3.0, 4.0, 5.0, 3.5], [1.0, 2.0, 1.5, 1.0, 2.0, 1.0], [str(n) for n in range(6)], 1)
    expected = math.exp(sum(math.log(r) for r in (3, 3, 2, 4, 2.5, 3.5)) / 6)
    assert made.value == pytest.approx(expected) and 2 < made.low < expected < made.high < 4


def test_a_teacher_without_any_quality_has_no_share() -> None:
    wrong = [timed("blue", 0.1) for _ in QUESTIONS]
    found: Kept = kept(wrong, wrong, QUESTIONS, 1)
    assert found.share is None and found.to_json()["share"] is None and "of the teacher" not in found.told()


def test_no_question_is_an_error() -> None:
    with pytest.raises(DatasetError, match="no question"):
        kept([], [], [], 1)


class Recorded:
    """An engine whose replies are its name; keeps who was asked when."""

    context_tokens, is_closed = 100, False

    def __init__(self, model_id: str, asked: list[str]) -> None:
        self.model_id, self._asked = model_id, asked

    def render(self, conversation, *, tools=()) -> list[int]:
        return [len(conversation[-1].content)]

    def generate(self, prompts, sampling, *, rated=()) -> list[Generation]:
        self._asked.append(self.model_id)
        return [Generation(f"{self.model_id} [1]", (1, 2, 3), "stop", len(p)) for p in prompts]


def test_engines_are_asked_in_turn_and_warmed_up() -> None:
    asked: list[str] = []
    engines = {name: Recorded(name, asked) for name in ("a", "b")}
    found = ask_in_turn(engines, [closed_prompt(q) for q in ("x", "y", "z")], Sampling())
    assert asked == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert [t.answer.answer for t in found["b"]] == ["b"] * 3 and all(t.tokens == 3 for t in found["a"])
    assert all(t.seconds > 0 for side in found.values() for t in side)
