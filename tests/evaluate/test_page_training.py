"""The curves of the trainings, scores without what training has seen, and pictures of figures above 1."""

from __future__ import annotations

import re

import pytest

from fieldwise.evaluate.contamination import touched
from fieldwise.evaluate.page_training import Curve, contamination_section, curve_of, curves_section
from fieldwise.evaluate.picture import Row, intervals
from fieldwise.evaluate.report import EvalReport, Scored
from fieldwise.records import Interval, Question

REPORT = EvalReport(questions=30, unanswerable=0, questions_sha256="0", baseline="base", systems=())


def asked(*texts: str) -> list[Question]:
    return [Question(id=f"q{n}", question=t, answer="a") for n, t in enumerate(texts)]


def test_a_copy_of_a_trained_question_is_touched_and_another_wording_is_not() -> None:
    trained = ["How long are records of the ward kept after discharge?", "Who signs?"]
    questions = asked(
        "How long are records of the ward kept after discharge",
        "So how long are records of the ward kept after discharge?",
        "After a patient has left, when may their file be thrown away?",
        "who signs",
        "Who signs the form?",
    )
    assert touched(questions, trained) == [True, True, False, True, False]
    assert touched(questions, []) == [False] * 5


def test_scores_stand_beside_those_without_what_was_seen() -> None:
    values = (1.0,) * 10 + (0.0,) * 20
    scores = {"base": {m: Scored("base", m, values) for m in ("token_f1", "overall_f1")}}
    names = [str(n) for n in range(30)]
    shown = contamination_section(REPORT, [True] * 10 + [False] * 20, scores, names, 200)
    assert "<b>10</b> of 30" in shown and "without the 10" in shown
    assert re.findall(r">(0\.\d\d) ", shown) == ["0.33", "0.00", "0.33", "0.00"]
    assert "stands as it is" in contamination_section(REPORT, [False] * 30, scores, names, 200)
    assert contamination_section(REPORT, None, scores, names, 200) == ""


def test_curves_are_drawn_from_what_a_training_kept() -> None:
    kept = [{"step": 1.0, "loss": 4.0}, {"step": 2.0, "loss": 2.0}, {"step": 2.0, "eval_loss": 2.5}, {"epoch": 1}]
    curve = curve_of("SFT", kept)
    assert curve == Curve("SFT", [(1.0, 4.0), (2.0, 2.0)], [(2.0, 2.5)])
    shown = curves_section([curve])
    assert "2 steps, mean loss 3 to 3; held out 2.50" in shown and shown.count("<circle") == 1
    assert curve_of("DPO", []) is None and curve_of("DPO", None) is None and curves_section([]) == ""
    small = curves_section([Curve("DPO", [(n, 0.69 + 0.001 * n) for n in range(1, 9)])])
    ticks = re.findall(r'text-anchor="end">([\d.]+)<', small)
    assert len(ticks) == len(set(ticks)) == 5 and "mean loss 0.693 to 0.696" in small
    assert "nan" not in curves_section([Curve("flat", [(1.0, 2.0), (2.0, 2.0)])])


@pytest.mark.parametrize(("value", "last"), [(0.4, "1"), (4.83, "6")])
def test_a_figure_above_one_is_not_drawn_at_the_edge(value: float, last: str) -> None:
    figure = Interval(value=value, low=value * 0.9, high=value * 1.1, n=9, method="m")
    shown = intervals("p", "T", [Row("base", figure)])
    assert re.findall(r'text-anchor="middle">([\d.]+)<', shown)[-1] == last
    assert float(re.findall(r'cx="([\d.]+)"', shown)[0]) < 330
