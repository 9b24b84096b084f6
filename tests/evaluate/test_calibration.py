"""The doubt against what is so: hand-worked figures, then test sets whose truth is known."""

from __future__ import annotations

import random

import numpy as np
import pytest

from fieldwise.evaluate import calibration
from fieldwise.evaluate.calibration import before_declining, calibrate, expected_error
from fieldwise.evaluate.curves import calibration_section, reliability, risk_coverage
from fieldwise.evaluate.report import EvalReport, SystemReport, with_whole_sets
from fieldwise.records import NOT_STATED, Answer, Question


def said(text: str, doubt: float | None, withheld: str = "") -> Answer:
    return Answer(text=text, answer=text, model="m", doubt=doubt, withheld=withheld, is_declined=text == NOT_STATED)


def asked(n: int, known: str | None) -> Question:
    return Question(id=f"q{n}", question="?", answer=known)


def drawn(count: int, seed: int, *, honest: bool = True) -> tuple[list[Answer], list[Question]]:
    """Doubts, and questions that are unanswerable as often as they say (or half as often); less doubt, more right."""
    rng = random.Random(seed)
    answers, questions = [], []
    for n in range(count):
        doubt = rng.betavariate(1.2, 3)
        is_open = rng.random() < (doubt if honest else doubt / 2)
        right = rng.random() < 0.9 - 0.6 * doubt
        answers.append(said("14 days" if right else "red", doubt))
        questions.append(asked(n, None if is_open else "14 days"))
    return answers, questions


def figures(answers: list[Answer], questions: list[Question]):
    return calibrate(answers, questions, [q.id for q in questions], 0)


def test_the_expected_error_by_hand() -> None:
    assert expected_error(np.array([0.2, 0.2, 0.9]), np.array([0.0, 1.0, 1.0])) == pytest.approx(0.7 / 3)
    assert expected_error(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0.0


def test_risk_and_area_by_hand() -> None:
    # 20 questions: doubts 0.01, 0.02, ...; the first ten right, the rest wrong, all with an answer.
    answers = [said("14 days" if n < 10 else "red", (n + 1) / 100) for n in range(20)]
    found = figures(answers, [asked(n, "14 days") for n in range(20)])
    expected = [max(0, n - 10) / n for n in range(1, 21)]
    assert found.aurc.value == pytest.approx(sum(expected) / 20) == found.aurc_best
    assert found.aurc_random == 0.5
    assert (found.curve[0].coverage, found.curve[0].risk) == (0.05, 0.0)
    assert (found.curve[-1].coverage, found.curve[-1].risk) == (1.0, 0.5)
    assert (found.served.coverage, found.served.risk) == (1.0, 0.5)
    assert found.bins[0].unanswerable.value == 0.0 and found.n == 20


def test_what_was_held_back_counts_as_said_and_own_declines_are_never_answered() -> None:
    held = said(NOT_STATED, 0.9, withheld="14 days [1]")
    assert (before_declining(held).answer, before_declining(held).is_declined) == ("14 days", False)
    answers = [said("14 days", 0.1)] * 10 + [held] * 10 + [said(NOT_STATED, 0.2)] * 5
    found = figures(answers, [asked(n, "14 days") for n in range(25)])
    assert found.curve[-1].coverage == pytest.approx(20 / 25) and found.aurc.value == 0.0
    assert found.served.coverage == pytest.approx(10 / 25)


def test_equal_doubts_do_not_depend_on_the_order_of_the_questions() -> None:
    answers = [said("14 days" if n % 2 else "red", 0.5) for n in range(20)]
    questions = [asked(n, "14 days") for n in range(20)]
    there, back = figures(answers, questions), figures(answers[::-1], questions)
    assert there.aurc.value == back.aurc.value == pytest.approx(there.aurc_random)


@pytest.mark.parametrize("answers", [[said("x", None)] * 30, [said("x", 0.5)] * 19])
def test_without_a_doubt_or_with_few_there_are_no_figures(answers: list[Answer]) -> None:
    assert figures(answers, [asked(n, "x") for n in range(len(answers))]) is None


def test_nothing_answered_has_no_curve_but_a_calibration() -> None:
    found = figures([said(NOT_STATED, 0.5)] * 20, [asked(n, None) for n in range(20)])
    assert (found.aurc, found.curve, found.served) == (None, (), None) and found.ece == pytest.approx(0.5)
    assert "nothing was answered" in calibration_section(found, "RAG")


def test_an_honest_doubt_is_told_from_one_that_is_twice_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_DRAWS", 100)
    within = [f.ece <= f.ece_by_chance for f in (figures(*drawn(260, seed)) for seed in range(25))]
    beyond = [f.ece > f.ece_by_chance for f in (figures(*drawn(260, seed, honest=False)) for seed in range(25))]
    assert sum(within) >= 22 and sum(beyond) >= 23


def test_the_area_covers_its_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_DRAWS", 1)
    truth = figures(*drawn(20_000, 99)).aurc.value
    monkeypatch.setattr(calibration, "_DRAWS", 100)
    found = [figures(*drawn(200, seed)).aurc for seed in range(30)]
    assert sum(f.low <= truth <= f.high for f in found) >= 25
    assert all(f.low < f.value < f.high for f in found)


def test_pictures_say_in_words_what_they_show() -> None:
    found = figures(*drawn(260, 1))
    curve, bins = risk_coverage(found), reliability(found)
    assert 'role="img"' in curve and "100% answered" in curve and "wrong" in curve
    assert bins.count('class="dot"') == len(found.bins) and "doubt 0." in bins
    assert "no more than the" in calibration_section(found, "RAG & co") and "RAG &amp; co" in calibration_section(
        found, "RAG & co"
    )


def test_a_report_holds_the_figures_of_whole_sets() -> None:
    answers, questions = drawn(60, 2)
    report = EvalReport(
        questions=60, unanswerable=0, questions_sha256="", baseline="b", systems=(SystemReport(system="b", figures={}),)
    )
    made = with_whole_sets(report, {"b": answers}, questions, 100).system("b")
    assert made.calibration.n == 60
    assert made.bleu is None or made.bleu.signature.startswith("nrefs:1|")
