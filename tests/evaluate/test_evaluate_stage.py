"""The steps of the evaluate stage over a run folder written by hand, with an engine that only echoes."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from fieldwise.errors import DatasetError
from fieldwise.evaluate import memory, select, served, stage
from fieldwise.evaluate.asking import decline_rule
from fieldwise.evaluate.gate import own_gates
from fieldwise.evaluate.quarantine import QUESTIONS as QUESTIONS_NAME
from fieldwise.evaluate.quarantine import Flaky, Quarantine
from fieldwise.evaluate.questions import read_development
from fieldwise.evaluate.settings import EvaluateSettings, GateSettings
from fieldwise.files import write_json, write_jsonl
from fieldwise.recipe import Recipe, load_recipe
from fieldwise.records import NOT_STATED, Answer, BaseWeights, Example, Question, Timings
from fieldwise.retrieve.decline import DeclineRule
from fieldwise.retrieve.grounded import GroundedAnswerer
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder, StepRun
from fieldwise.steps import STEPS
from fieldwise.suite.release_page import release_page
from fieldwise.tables import write_records

QUESTIONS = [Question(id=f"q{n}", question=f"Q{n}?", answer="14 days", document=f"d{n}.md") for n in range(30)]


class Echo:
    def __init__(self, *_: Any, **__: Any) -> None: ...

    def close(self) -> None: ...

    def answer_all(self, conversations: Any, known: Any = ()) -> Any:
        for _ in conversations:
            yield Answer(text="14 days [1]", answer="14 days", model="m")

    name = "echo"


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StepRun:
    run = RunFolder(tmp_path / "run")
    (run.path / "4_adapters/sft/merged").mkdir(parents=True)
    write_json(run.path / "4_adapters/sft/merged/config.json", {})
    (run.path / "4_adapters/preference/merged").mkdir(parents=True)  # left behind, empty, by a run with preferences
    write_json(run.path / "4_adapters/selected.json", {"selected": "sft"})
    monkeypatch.setattr(served, "LlamaCppEngine", Echo)
    for module in (select, stage):
        monkeypatch.setattr(module, "TransformersEngine", Echo)
    for module in (served, stage):
        monkeypatch.setattr(module, "make_answerer", lambda *_: Echo())
        monkeypatch.setattr(module, "load_questions", lambda *_: QUESTIONS)
    return StepRun(run, "4d_evaluate", "0" * 64, 0)


def keep(run: RunFolder, system: str, text: str = "14 days", wrong: set[str] | None = None) -> None:
    def said(question: Question) -> Answer:
        words = "a year" if question.id in (wrong or ()) else text
        return Answer(text=words, answer=words, model="m", is_declined=words == NOT_STATED)

    def row(question: Question) -> dict[str, Any]:
        known = {"question": question.question, "expected": question.answer}
        return {"id": question.id, **known, "answer": said(question).model_dump(mode="json", exclude={"timings"})}

    rows = map(row, QUESTIONS)
    write_jsonl(run.path / f"5_reports/predictions/{system}.jsonl", rows)


def test_without_validation_examples_the_first_weights_are_taken_and_no_score_is_made_up(step: StepRun) -> None:
    write_records(step.run.path / "3_examples/validation.parquet", [], Example)
    assert select.run_select(EvaluateSettings(), RetrieveSettings(), step) == {
        "selected": "sft",
        "scores": {},
        "items": 0,
    }


def test_without_preferences_the_report_does_not_call_sft_a_preference_step(step: StepRun) -> None:
    settings = EvaluateSettings(systems=("base", "preference"), gates=(), bootstrap_samples=100)
    keep(step.run, "base")
    stage.run_evaluate(settings, RetrieveSettings(), BaseWeights(), step)
    page = (step.staging / "5_reports/report.md").read_text()
    assert "SFT again (no preference step)" in page and "SFT+DPO" not in page


def test_what_reinforcement_made_is_one_more_candidate_and_one_more_column(
    step: StepRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(step.run.path / "4_adapters/rl/merged/config.json", {})

    class Knowing(GroundedAnswerer):
        def __init__(self, name: str) -> None:
            self.name = name

        def rated_answers(self, conversations: Any, known: Any = ()) -> Any:
            for _ in conversations:
                yield (
                    Answer(
                        text="14 days" if self.name == "rag_rl" else "a week",
                        answer="14 days" if self.name == "rag_rl" else "a week",
                        model="m",
                    ),
                    None,
                )

    monkeypatch.setattr(select, "make_answerer", lambda name, *_: Knowing(name))
    chosen = EvaluateSettings(development=str(development(tmp_path / "d.jsonl")))
    monkeypatch.setattr(select, "fit", lambda *_: None)
    assert select.run_select(chosen, RetrieveSettings(), step)["selected"] == "rl"
    write_json(step.run.path / "4_adapters/selected.json", {"selected": "rl"})
    settings = EvaluateSettings(systems=("base", "rl", "rag_tuned"), gates=(), bootstrap_samples=100)
    keep(step.run, "base")
    stage.run_evaluate(settings, RetrieveSettings(), BaseWeights(), step)
    report = (step.staging / "5_reports/report.md").read_text()
    assert "after RL, closed book" in report and "RAG over RL (selected)" in report
    assert "after reinforcement learning" in (step.staging / "5_reports/report.html").read_text()


def test_without_reinforcement_its_weights_cannot_be_measured(step: StepRun) -> None:
    settings = EvaluateSettings(systems=("base", "rl"), gates=(), bootstrap_samples=100)
    keep(step.run, "base")
    with pytest.raises(DatasetError, match="4_adapters/rl/merged"):
        stage.run_evaluate(settings, RetrieveSettings(), BaseWeights(), step)


@pytest.mark.parametrize(("seconds", "verdict"), [([9.0] * 30, "FAIL"), ([0.1] * 30, "PASS"), (None, "INCONCLUSIVE")])
def test_the_seconds_of_the_base_are_those_that_were_measured(
    step: StepRun, seconds: list[float] | None, verdict: str
) -> None:
    gate = GateSettings(metric="seconds", system="base", baseline=None, at_least=1.0)
    settings = EvaluateSettings(systems=("base",), gates=(gate,), bootstrap_samples=100)
    keep(step.run, "base")
    if seconds:
        write_json(step.run.path / "times/base.json", {"seconds": seconds})
    assert stage.run_evaluate(settings, RetrieveSettings(), BaseWeights(), step)["verdict"] == verdict
    (kept,) = json.loads((step.staging / "5_reports/report.json").read_text())["gates"]
    assert (kept["verdict"], kept["p"], kept["need_n"]) == (verdict, None, None) and "9.0" not in kept["found"]
    assert ": a time" in (step.staging / "5_reports/report.md").read_text()


def test_times_and_memory_are_printed_and_part_of_nothing_that_is_hashed(
    step: StepRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Timed(Echo):
        def answer_all(self, conversations: Any, known: Any = ()) -> Any:
            for answer in super().answer_all(conversations, known):
                timings = Timings(generate_seconds=0.25, first_token_seconds=0.125, total_seconds=0.5)
                spent = {"prompt_tokens": 300, "completion_tokens": 10}
                yield answer.model_copy(update={**spent, "timings": timings})

    monkeypatch.setattr(stage, "make_answerer", lambda *_: Timed())
    for name, value in (("_begin", True), ("_process_bytes", 1_230_000_000), ("_cuda", None)):
        monkeypatch.setattr(memory, name, lambda value=value: value)
    write_json(step.run.path / "times/base.json", {"seconds": [1.0] * 30})  # as an earlier version left it
    keep(step.run, "base")
    price = {"input": 0.5, "output": 2.0}
    settings = EvaluateSettings(systems=("base", "sft"), gates=(), bootstrap_samples=100, price=price)
    stage.run_evaluate(settings, RetrieveSettings(), BaseWeights(), step)
    printed = capsys.readouterr().err.splitlines()
    (line,) = [x for x in printed if x.startswith("Tokens a second")]
    assert line.split("  ")[0] == "Tokens a second (n=30)" and line.endswith("40.00 [40.00, 40.00]") and " - " in line
    (line,) = [x for x in printed if x.startswith("Seconds to the first token (n=30)")]
    assert line.endswith("0.12 [0.12, 0.12]") and " - " in line
    (line,) = [x for x in printed if x.startswith("Peak memory, GB")]
    kept = json.loads((step.run.path / "times/sft.json").read_text())
    assert kept["tokens_per_second"] == [40.0] * 30 and kept["first_token_seconds"] == [0.125] * 30
    assert line.endswith(" 1.23") and " - " in line and kept["peak"]["process_bytes"] == 1_230_000_000
    written = {p.name: p.read_text() for p in step.staging.rglob("*") if p.is_file()}
    told = (
        "tokens_per_second",
        "Tokens a second",
        "first_token",
        "first token",
        "process_bytes",
        "Peak memory",
        "0.125",
    )
    assert len(written) > 3 and not [(name, t) for name, w in written.items() for t in told if t in w]
    # 300 tokens at 0.5 and 10 at 2 a million: 0.00017 an answer
    cost = "A thousand answers cost, at 0.5 for a million tokens read and 2 for a million said: SFT, closed book 0.17."
    assert cost in printed and cost in written["report.md"] and cost in written["report.html"]
    assert "| Tokens said (n=30) | - | 10.00 [10.00, 10.00] |" in written["report.md"]


def test_the_served_file_is_found_by_its_record_and_judged_with_and_without_its_declines(step: StepRun) -> None:
    for name, adapter in (("finance-base", "ada_1"), ("finance-base-base", None)):
        record = {"path": f"6_builds/{name}-q8_0.gguf", "adapter_id": adapter}
        write_json(step.run.path / f"6_builds/{name}-q8_0.build.json", record)
    keep(step.run, "rag_tuned", "14 days [1]")
    settings = EvaluateSettings(bootstrap_samples=100)
    facts = served.run_served(settings, RetrieveSettings(), step, serve="q8_0", max_score_loss=0.05)
    told = json.loads((step.staging / "5_reports/served.json").read_text())
    assert (told["file"], facts["verdict"]) == ("finance-base-q8_0.gguf", "PASS")
    assert [g["requirement"] for g in told["gates"]] == [
        f"served: {metric} not worse than rag_tuned by more than 0.05" for metric in ("token_f1", "overall_f1")
    ]


# ---------------------------------------------------------------- questions in quarantine


def flaky(item: str, *, ends: int = 2, suite: str = QUESTIONS_NAME) -> Flaky:
    days = {"measured": date(2026, 1, 1), "expires": date(2026, ends, 1)}
    return Flaky(suite=suite, item=item, passed=2, of=3, how="3 runs", **days)


HELD = Quarantine((flaky("q1"), flaky("q2"), flaky("h1", suite="safety")), (flaky("q3", ends=1),))


def test_flaky_questions_are_left_out_of_the_gates_of_the_weights_and_told(step: StepRun) -> None:
    gate = GateSettings(metric="exact_match", system="base", baseline=None, at_least=0.3)
    settings = EvaluateSettings(systems=("base",), gates=(gate,), bootstrap_samples=100)
    keep(step.run, "base", wrong={"q1", "q2", "q3"})
    stage.run_evaluate(settings, RetrieveSettings(), BaseWeights(), step, quarantine=HELD)
    report = json.loads((step.staging / "5_reports/report.json").read_text())
    assert report["gates"][0]["found"].startswith("0.964 [") and report["gates"][0]["found"].endswith(
        "n=28; 2 flaky questions left out"
    )
    assert report["systems"][0]["figures"]["exact_match"]["n"] == 30  # the figures are over all
    assert [f["item"] for f in report["quarantined"]] == ["q1", "q2"]
    assert [f["item"] for f in report["expired"]] == ["q3"]
    for name in ("report.md", "report.html"):
        text = (step.staging / "5_reports" / name).read_text()
        assert "questions q1: passed in 2 of 3 (3 runs), measured 2026-01-01, left out until 2026-02-01" in text
        assert "counts again: questions q3" in text and "safety h1" not in text
    shutil.copytree(step.staging / "5_reports", step.run.path / "5_reports", dirs_exist_ok=True)
    notes = own_gates(step.run, "r").notes
    assert sum(n.startswith("in quarantine: questions") for n in notes) == 2
    page = release_page(step.run, "r")
    assert "questions q1" in page and "2 of 3" in page and "counts again" in page


def test_flaky_questions_are_left_out_of_the_gates_of_the_file_to_serve(step: StepRun) -> None:
    write_json(step.run.path / "6_builds/m-q8_0.build.json", {"path": "6_builds/m-q8_0.gguf", "adapter_id": "a"})
    keep(step.run, "rag_tuned", wrong={"q1", "q4"})
    settings = EvaluateSettings(bootstrap_samples=100)
    served.run_served(settings, RetrieveSettings(), step, serve="q8_0", max_score_loss=0.05, quarantine=HELD)
    told = json.loads((step.staging / "5_reports/served.json").read_text())
    assert all(g["found"].endswith("n=28; 2 flaky questions left out") for g in told["gates"])
    assert told["gates"][0]["found"].startswith("+0.036")  # q4 alone differs
    assert [f["item"] for f in told["quarantined"]] == ["q1", "q2"]


def test_without_flaky_questions_the_reports_stay_as_they_were(step: StepRun) -> None:
    settings = EvaluateSettings(systems=("base",), gates=(), bootstrap_samples=100)
    keep(step.run, "base")
    others = Quarantine((flaky("h1", suite="safety"),))
    made = []
    for quarantine in (Quarantine(), others):
        stage.run_evaluate(settings, RetrieveSettings(), BaseWeights(), step, quarantine=quarantine)
        made.append((step.staging / "5_reports/report.json").read_bytes())
    assert made[0] == made[1] and b"quarantin" not in made[0] and b"expired" not in made[0]


def test_only_flaky_questions_change_the_keys_of_the_steps_that_judge_them(tmp_path: Path) -> None:
    entry = "- {suite: NAME, item: q1, passed: 2, of: 5, how: m, measured: 2020-01-01, expires: 2020-02-01}"
    path = tmp_path / "quarantine.yaml"
    path.write_text(entry.replace("NAME", "safety"))
    named = load_recipe(None, [f"evaluate.quarantine={path}"])
    steps = [s for s in STEPS if s.number in ("4d", "5b")]
    assert all(s.outside(named) == s.outside(Recipe()) for s in steps)
    path.write_text(entry.replace("NAME", "questions"))
    assert all(s.outside(named)["quarantine"] for s in steps)
    others = [s for s in STEPS if s.number in ("4a", "4b")]
    assert all("quarantine" not in s.outside(named) for s in others)


# ---------------------------------------------------------------- development questions


def development(path: Path, answerable: int = 20, unanswerable: int = 20) -> Path:
    rows = [{"question": f"Known {n}?", "answer": "14 days"} for n in range(answerable)]
    rows += [{"question": f"Unknown {n}?", "answer": None} for n in range(unanswerable)]
    write_jsonl(path, rows)
    return path


def test_development_questions_choose_the_weights_and_fit_when_to_decline(
    step: StepRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(step.run.path / "4_adapters/preference/merged/config.json", {})

    class Knowing(GroundedAnswerer):
        """Says the same to everything; after preferences it finds declining probable where it is right."""

        def __init__(self, name: str) -> None:
            self.name = name

        def rated_answers(self, conversations: Any, known: Any = ()) -> Any:
            for n, (message,) in enumerate(conversations):
                says = "14 days" if self.name == "rag_preference" else "a week"
                doubtful = message.content.startswith("Unknown")
                yield Answer(text=says, answer=says, model="m"), -1.0 - n / 100 if doubtful else -6.0 - n / 100

    monkeypatch.setattr(select, "make_answerer", lambda name, *_: Knowing(name))
    settings = EvaluateSettings(development=str(development(tmp_path / "d.jsonl")), false_declines=0.1)
    facts = select.run_select(settings, RetrieveSettings(), step)
    assert (facts["selected"], facts["scores"], facts["items"]) == ("preference", {"sft": 0.0, "preference": 0.5}, 40)
    written = json.loads((step.staging / "4_adapters/selected.json").read_text())
    rule = DeclineRule.model_validate(written["decline"])
    assert (rule.right_declines, rule.false_declines) == (1.0, 0.1)
    write_json(step.run.path / "4_adapters/selected.json", written)
    assert decline_rule(step.run) == rule


def test_without_development_questions_nothing_is_fitted(step: StepRun) -> None:
    write_records(step.run.path / "3_examples/validation.parquet", [], Example)
    select.run_select(EvaluateSettings(), RetrieveSettings(), step)
    assert json.loads((step.staging / "4_adapters/selected.json").read_text())["decline"] is None
    assert decline_rule(step.run) is None


def test_too_few_development_questions_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    path = development(tmp_path / "d.jsonl", answerable=30, unanswerable=5)
    with pytest.raises(DatasetError, match="30 with an answer, 5 without"):
        read_development(EvaluateSettings(development=str(path)))


def test_a_question_that_is_measured_on_cannot_be_a_development_question(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "q.jsonl", [{"question": "the known 3", "answer": "14 days"}])
    path = development(tmp_path / "d.jsonl")
    with pytest.raises(DatasetError, match="1 in both files, such as 'Known 3\\?'"):
        read_development(EvaluateSettings(development=str(path), questions=str(tmp_path / "q.jsonl")))


def test_a_missing_file_of_development_questions_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"evaluate\.development"):
        read_development(EvaluateSettings(development=str(tmp_path / "none.jsonl")))
