import pytest

from fieldwise.evaluate import table
from fieldwise.evaluate.report import (
    EvalReport,
    Scored,
    as_family,
    cluster_names,
    judge,
    report_json,
    score_system,
    summarise,
)
from fieldwise.evaluate.settings import EvaluateSettings, GateSettings
from fieldwise.evaluate.stage import build_report
from fieldwise.evaluate.table import cell, markdown, plain
from fieldwise.records import NOT_STATED, Answer, GateResult, Question


def scored(system: str, values: list[float | None], metric: str = "exact_match") -> dict[str, dict[str, Scored]]:
    return {system: {metric: Scored(system, metric, tuple(values))}}


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def decide(gate: GateSettings, candidate: list[float | None], baseline: list[float | None]) -> tuple[str, int | None]:
    scores = {**scored("sft", candidate, gate.metric), **scored("base", baseline, gate.metric)}
    result = judge(gate, scores, names(len(candidate)), 500, 0)
    return result.verdict, result.need_n


BETTER = GateSettings(metric="exact_match", system="sft", baseline="base")


def test_a_clear_gain_passes_no_change_fails_to_be_better_and_a_loss_fails() -> None:
    assert decide(BETTER, [1.0] * 60 + [0.0] * 40, [0.0] * 60 + [0.0] * 40)[0] == "PASS"
    assert decide(BETTER, [0.0] * 100, [0.0] * 100)[0] == "FAIL"
    assert decide(BETTER, [0.0] * 100, [1.0] * 100)[0] == "FAIL"


def test_a_gain_within_the_noise_is_inconclusive_and_says_how_many_items_it_needs() -> None:
    verdict, need = decide(BETTER, [1.0, 0.0, 0.0, 1.0] * 10, [0.0, 1.0, 0.0, 1.0] * 9 + [0.0, 0.0, 0.0, 1.0])
    assert verdict == "INCONCLUSIVE"
    assert need is not None and need > 40


def test_too_few_items_are_never_a_pass() -> None:
    assert decide(BETTER, [1.0] * 10, [0.0] * 10) == ("INCONCLUSIVE", 20)


def test_items_that_could_not_be_scored_do_not_count() -> None:
    assert decide(BETTER, [1.0] * 10 + [None] * 90, [0.0] * 100)[0] == "INCONCLUSIVE"


def test_not_worse_allows_the_margin_and_no_more() -> None:
    gate = GateSettings(metric="exact_match", system="sft", baseline="base", requires="not_worse", margin=0.1)
    assert decide(gate, [1.0] * 199 + [0.0], [1.0] * 200)[0] == "PASS"
    assert decide(gate, [1.0] * 100 + [0.0] * 100, [1.0] * 200)[0] == "FAIL"


def test_a_loss_beyond_chance_that_is_found_larger_than_allowed_fails() -> None:
    gate = GateSettings(metric="exact_match", system="sft", baseline="base", requires="not_worse", margin=0.1)
    before = [1.0] * 100 + [0.0] * 100
    assert decide(gate, [0.0] * 24 + before[24:], before)[0] == "FAIL"  # -0.12 [-0.17, -0.08]
    assert decide(gate, [0.0] * 18 + before[18:], before)[0] == "INCONCLUSIVE"  # -0.09 [-0.13, -0.05]
    result = judge(gate, {**scored("sft", [0.0] * 24 + before[24:]), **scored("base", before)}, names(200), 500, 0)
    assert result.found.endswith("n=200, a loss beyond chance") and result.p < 0.001


def test_unchanged_is_not_worse_even_without_a_margin() -> None:
    gate = GateSettings(metric="exact_match", system="sft", baseline="base", requires="not_worse")
    assert decide(gate, [1.0, 0.0] * 20, [1.0, 0.0] * 20)[0] == "PASS"


def test_where_lower_is_better_less_is_a_gain() -> None:
    gate = GateSettings(metric="false_decline", system="sft", baseline="base")
    assert decide(gate, [0.0] * 100, [1.0] * 60 + [0.0] * 40)[0] == "PASS"
    assert decide(gate, [1.0] * 60 + [0.0] * 40, [0.0] * 100)[0] == "FAIL"


@pytest.mark.parametrize(("level", "verdict"), [(0.6, "PASS"), (0.8, "INCONCLUSIVE"), (0.95, "FAIL")])
def test_a_level_is_compared_with_the_interval_not_with_the_mean(level: float, verdict: str) -> None:
    gate = GateSettings(metric="exact_match", system="sft", baseline=None, at_least=level)
    assert decide(gate, [1.0] * 80 + [0.0] * 20, [0.0] * 100)[0] == verdict


def test_a_level_of_what_should_be_low_is_named_as_the_most() -> None:
    gate = GateSettings(metric="false_decline", system="sft", baseline=None, at_least=0.5)
    result = judge(gate, scored("sft", [0.0] * 90 + [1.0] * 10, "false_decline"), names(100), 500, 0)
    assert (result.verdict, result.requirement) == ("PASS", "sft: false_decline at most 0.5")


def test_one_document_cannot_make_noise_a_gain() -> None:
    candidate, baseline = [1.0, 0.0, 0.0, 1.0, 1.0] * 6, [0.0, 1.0, 0.0, 1.0, 0.0] * 6
    scores = {**scored("sft", candidate), **scored("base", baseline)}
    assert judge(BETTER, scores, ["handbook"] * 30, 500, 0).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_scores_that_all_are_equal_still_have_an_interval(value: float) -> None:
    figure = summarise(Scored("s", "token_f1", (value,) * 40), names(40), 200, 0)
    assert figure.value == value and figure.high - figure.low == pytest.approx(0.0876, abs=1e-3)


def test_a_missing_metric_or_system_fails() -> None:
    assert (
        judge(GateSettings(metric="no_such", system="sft"), scored("sft", [1.0] * 50), names(50), 200, 0).verdict
        == "FAIL"
    )
    assert (
        judge(
            GateSettings(metric="exact_match", system="rag_base"), scored("sft", [1.0] * 50), names(50), 200, 0
        ).verdict
        == "FAIL"
    )
    assert judge(BETTER, scored("sft", [1.0] * 50), names(50), 200, 0).verdict == "FAIL"


def failed(p: float | None) -> GateResult:
    return GateResult(metric="m", verdict="FAIL", requirement="r", found="f", p=p)


def test_a_failure_that_many_gates_would_show_by_chance_is_inconclusive() -> None:
    passed = [GateResult(metric="m", verdict="PASS", requirement="r", found="f", p=0.9)] * 3
    assert as_family([failed(0.02)])[0].verdict == "FAIL"
    judged = as_family([failed(0.02), *passed])
    assert (judged[0].verdict, judged[0].p_adjusted) == ("INCONCLUSIVE", pytest.approx(0.08))
    assert judged[0].found == "f; p=0.08 among 4 gates"
    assert as_family([failed(0.001), *passed])[0].verdict == "FAIL"
    assert as_family([failed(None), *passed])[0].verdict == "FAIL"  # not measured: no matter of chance


def test_a_gate_says_from_which_difference_on_it_would_pass() -> None:
    gate = GateSettings(metric="exact_match", system="sft", baseline="base", requires="not_worse", margin=0.2)
    candidate, baseline = [1.0, 0.0, 1.0, 1.0] * 25, [1.0, 1.0, 0.0, 1.0] * 25
    result = judge(gate, {**scored("sft", candidate), **scored("base", baseline)}, names(100), 500, 0)
    assert result.verdict == "PASS" and -0.1 < result.passes_from < 0.0  # half width 0.14: -0.2 + 1.43 * 0.14


def test_differences_of_a_report_are_one_family() -> None:
    found = report().system("preference").differences
    shown = [d for m, d in found.items() if m in table.SHOWN and d.p is not None]
    assert all(d.p_adjusted >= d.p for d in shown) and len(shown) >= 5
    assert found["exact_match"].changed == 60 and 0 < found["exact_match"].detectable < 0.2
    assert "is seen with 80 % power from: Token F1 0." in plain(report())


def test_nothing_scored_has_no_value() -> None:
    figure = summarise(Scored("s", "exact_match", (None, None)), names(2), 200, 0)
    assert (figure.value, figure.n, figure.unscored) == (None, 0, 2)


def report() -> EvalReport:
    questions = [
        Question(id=str(i), question="?", answer="14 days" if i % 4 else None, document=f"d{i % 5}") for i in range(80)
    ]
    right = [
        Answer(text="14 days", answer="14 days", model="m")
        if q.answer
        else Answer(text=NOT_STATED, answer=NOT_STATED, model="m", is_declined=True)
        for q in questions
    ]
    wrong = [Answer(text="red", answer="red", model="m") for _ in questions]
    scores = {
        "base": score_system("base", wrong, questions),
        "preference": score_system("preference", right, questions),
    }
    settings = EvaluateSettings(
        gates=(
            GateSettings(metric="token_f1", system="preference"),
            GateSettings(metric="abstention", system="preference"),
        ),
        bootstrap_samples=200,
    )
    assert cluster_names(questions)[1] == "d1"
    return build_report(scores, questions, settings, 0)


def test_a_report_counts_compares_and_judges() -> None:
    made = report()
    assert (made.questions, made.unanswerable, made.verdict) == (80, 20, "PASS")
    tuned = made.system("preference")
    assert tuned.figures["exact_match"].value == 1.0
    assert tuned.figures["exact_match"].n == 60
    assert tuned.differences["abstention"].value == 1.0
    assert report_json(made)["verdict"] == "PASS"


def test_the_printed_tables_show_figure_interval_and_verdict() -> None:
    text = plain(report())
    assert "SFT+DPO, closed book" in text and "1.00 [" in text and "Gates: PASS" in text
    assert "1.00 [0.79, 1.00] n=20" in cell(report().system("preference").figures["abstention"], 60)
    page = markdown(report())
    assert "Seconds" not in page and "| Exact match (n=60) | 0.00 [" in page


def test_what_was_selected_is_named_as_it_is() -> None:
    from fieldwise.evaluate.table import title

    made = report()
    assert title(made, "rag_tuned") == "RAG over SFT+DPO"
    assert title(made.model_copy(update={"selected": "sft"}), "rag_tuned") == "RAG over SFT (selected)"
    assert title(made.model_copy(update={"preference_method": None}), "preference") == "SFT again (no preference step)"


def test_a_metric_that_no_system_was_scored_on_is_not_shown() -> None:
    questions = [Question(id=f"q{n}", question="?", answer="14 days") for n in range(20)]
    plain, rated = ([Answer(text="14 days", answer="14 days", model="m", known_bits=bits)] * 20 for bits in (None, 1.5))
    settings = EvaluateSettings(bootstrap_samples=100, gates=())
    for answers, is_shown in ((plain, False), (rated, True)):
        report = build_report({"base": score_system("base", answers, questions)}, questions, settings, 0)
        assert ("bits_per_byte" in table.scored(report)) is is_shown
        assert ("Bits per byte" in markdown(report)) is is_shown
