"""One and the same answer to every question is a baseline where the answers are few."""

from collections.abc import Sequence

import pytest

from fieldwise.evaluate.constant import find_constant
from fieldwise.evaluate.page import Measured, page
from fieldwise.evaluate.report import EvalReport, report_json, score_system
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.evaluate.stage import build_report
from fieldwise.evaluate.table import beside_constant, markdown, plain
from fieldwise.records import NOT_STATED, Answer, Question


def asked(answers: list[str | None]) -> list[Question]:
    return [Question(id=f"q{n}", question=f"Is it so, {n}?", answer=a) for n, a in enumerate(answers)]


def said(words: list[str]) -> list[Answer]:
    return [Answer(text=w, answer=w, model="m", is_declined=w == NOT_STATED) for w in words]


def measured(questions: list[Question], by: dict[str, list[str]]) -> EvalReport:
    scores = {system: score_system(system, said(words), questions) for system, words in by.items()}
    settings = EvaluateSettings(systems=tuple(by), gates=(), bootstrap_samples=200)
    report = build_report(scores, questions, settings, 3)
    return report.model_copy(update={"constant": find_constant(scores, questions, 200, 3)})


YES_OR_NO: list[str | None] = [*["Yes."] * 24, *["no"] * 16, *[None] * 10]


def test_weights_that_only_learnt_the_commonest_answer_gain_nothing_on_it() -> None:
    report = measured(asked(YES_OR_NO), {"base": ["hm"] * 50, "rag_tuned": ["yes"] * 50})
    found = report.constant
    assert found is not None
    assert (found.answer, found.system) == ("Yes.", "rag_tuned")
    assert (found.exact_match.value, found.exact_match.n, found.exact_match.unscored) == (0.6, 40, 10)
    assert (found.difference.value, found.difference.changed) == (0.0, 0)
    told = beside_constant(report)
    assert "Always answering 'Yes.' would reach an exact match of 0.60 [" in told and "less that: +0.00 [" in told
    assert told in plain(report) and told in markdown(report)
    assert report_json(report)["constant"]["exact_match"]["value"] == 0.6  # type: ignore[call-overload,index]


def test_weights_that_decide_stand_out_from_it() -> None:
    right = ["yes"] * 24 + ["no"] * 14 + ["yes"] * 2 + [NOT_STATED] * 10
    found = measured(asked(YES_OR_NO), {"base": ["hm"] * 50, "rag_tuned": right}).constant
    assert found is not None
    assert found.difference.value == pytest.approx(14 / 40)
    assert found.difference.low is not None and found.difference.low > 0


@pytest.mark.parametrize(
    "answers",
    [
        [f"ward {n}" for n in range(40)],  # all different
        ["yes"] * 12,  # too few to say anything
        [None] * 40,  # nothing to answer
    ],
)
def test_it_is_left_out_where_it_is_no_rival(answers: list[str | None]) -> None:
    report = measured(asked(answers), {"base": ["yes"] * len(answers), "rag_tuned": ["yes"] * len(answers)})
    assert report.constant is None
    assert "constant" not in report_json(report)
    assert "Always answering" not in plain(report) + markdown(report)


def test_the_page_shows_it() -> None:
    questions = asked(YES_OR_NO)
    by = {"base": ["hm"] * 50, "rag_tuned": ["yes"] * 50}
    report = measured(questions, by)
    given: dict[str, Sequence[Answer]] = {system: said(words) for system, words in by.items()}
    scores = {system: score_system(system, answers, questions) for system, answers in given.items()}
    shown = page(Measured("m", report, questions, given, scores, 200, True, [], None))
    assert "Always answering &#x27;Yes.&#x27; would reach" in shown
