"""The evaluate stage: the baseline before training (4a) and the report after it (4d)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from pydantic import JsonValue

from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.errors import FieldwiseError
from fieldwise.evaluate import endpoints
from fieldwise.evaluate.asking import answer_questions, decline_rule, load_questions, make_answerer, tuned
from fieldwise.evaluate.constant import find_constant
from fieldwise.evaluate.contamination import touched
from fieldwise.evaluate.effect import read_effect
from fieldwise.evaluate.effect import told as told_effect
from fieldwise.evaluate.kept import (
    Given,
    earlier_answers,
    earlier_times,
    keep_times,
    times_of,
    with_times,
    without_found_times,
    without_times,
    write_predictions,
)
from fieldwise.evaluate.memory import peak_memory
from fieldwise.evaluate.metrics import TIMES
from fieldwise.evaluate.page import Measured, page
from fieldwise.evaluate.page_training import Curve, curve_of
from fieldwise.evaluate.quarantine import NONE, QUESTIONS, Quarantine
from fieldwise.evaluate.report import (
    EvalReport,
    Scored,
    SystemReport,
    adjust_differences,
    cluster_names,
    compare,
    judge_all,
    report_json,
    score_system,
    summarise,
    with_left_out,
    with_whole_sets,
    without,
)
from fieldwise.evaluate.settings import RAG_SYSTEMS, EvaluateSettings, System
from fieldwise.evaluate.table import SHOWN, markdown, plain
from fieldwise.extras import require
from fieldwise.files import read_json, write_json, write_text
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.interfaces import Sampling
from fieldwise.progress import say
from fieldwise.records import Answer, BaseWeights, Example, Question
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import read_records

BASELINES: tuple[System, ...] = ("base", "rag_base")
PAGE = "5_reports/report.html"


def _measure(
    system: System,
    weights: Path,
    questions: Sequence[Question],
    settings: EvaluateSettings,
    retrieve: RetrieveSettings,
    step: StepRun,
) -> Given:
    with peak_memory() as peak, closing(TransformersEngine(weights, dtype="auto")) as engine:
        # the rule belongs to the weights it was fitted with: a baseline is measured as it comes
        rule = decline_rule(step.run) if system == "rag_tuned" else None
        sampling = Sampling(max_tokens=settings.max_new_tokens)
        answerer = make_answerer(system, engine, step.run, retrieve, sampling, rule)
        return Given(answer_questions(answerer, questions, step.work / f"{system}.jsonl"), peak())


def _weights_of(system: System, run: RunFolder, base: BaseWeights) -> Path:
    if system in BASELINES:
        return Path(base.path)
    if system == "sft":
        return run.require("4_adapters/sft/merged", "train")
    if system == "preference" and "preference" in tuned(run):
        return run.path / "4_adapters/preference/merged"
    if system == "rl":
        return run.require("4_adapters/rl/merged", "train")
    return run.require(f"4_adapters/{_selected(run)}/merged", "train")


def _selected(run: RunFolder) -> str:
    return str(read_json(run.require("4_adapters/selected.json", "train"))["selected"])


def _told_below(report: EvalReport) -> str:
    effect = told_effect(report)
    return f"\n{effect}\n" if effect else ""


def _preference_method(run: RunFolder) -> str | None:
    if "preference" not in tuned(run):
        return None
    return str(read_json(run.require("4_adapters/preference/adapter.json", "train"))["method"])


# ---------------------------------------------------------------- 4a


def run_baseline(
    settings: EvaluateSettings, retrieve: RetrieveSettings, base: BaseWeights, step: StepRun
) -> dict[str, JsonValue]:
    """Measure the base before anything is trained; returns its main figures."""
    require("scipy", extra="eval", to="compute intervals")  # said before hours are spent
    questions = load_questions(settings, step.run)
    facts: dict[str, JsonValue] = {"questions": len(questions)}
    times: dict[str, JsonValue] = {}
    for system in (s for s in BASELINES if s in settings.systems):
        given = _measure(system, Path(base.path), questions, settings, retrieve, step)
        write_predictions(step, system, given.answers, questions)
        times[system] = times_of(given, questions)
        facts[system] = _headline(system, given.answers, questions, settings, step.seed)
    keep_times(step, times)
    return facts


def _headline(
    system: str, answers: Sequence[Answer], questions: Sequence[Question], settings: EvaluateSettings, seed: int
) -> dict[str, JsonValue]:
    scores = score_system(system, answers, questions)
    names = cluster_names(questions)
    return {
        m: summarise(scores[m], names, settings.bootstrap_samples, seed).model_dump(mode="json")
        for m in ("exact_match", "token_f1", "abstention")
    }


# ---------------------------------------------------------------- 4d


def run_evaluate(
    settings: EvaluateSettings,
    retrieve: RetrieveSettings,
    base: BaseWeights,
    step: StepRun,
    *,
    name: str = "model",
    quarantine: Quarantine = NONE,
) -> dict[str, JsonValue]:
    """Measure the tuned systems, compare all, judge the gates, write the report and its page.

    The figures are over all questions; the gates leave out those in quarantine, and the report lists them.
    """
    questions = load_questions(settings, step.run)
    given: dict[str, Sequence[Answer]] = {}
    scores: dict[str, dict[str, Scored]] = {}
    times: dict[str, JsonValue] = {}
    for system in settings.systems:
        if system in BASELINES:
            answers = earlier_answers(step.run, system, questions)
        else:
            measured = _measure(system, _weights_of(system, step.run, base), questions, settings, retrieve, step)
            answers = measured.answers
            write_predictions(step, system, answers, questions)
            times[system] = times_of(measured, questions)
        given[system] = answers
        scores[system] = score_system(system, answers, questions, semantic=settings.semantic, nli=settings.nli)
        if system in BASELINES:
            scores[system] |= earlier_times(step.run, system, len(questions))
    keep_times(step, times)
    beside = next((given[s] for s in RAG_SYSTEMS if s in given), ())
    hosted = endpoints.ask_endpoints(settings.endpoints, questions, beside, retrieve, step.run.path)
    for system_there, found in hosted.items():
        write_predictions(step, system_there, found, questions)
    given |= hosted
    scores |= _score_hosted(hosted, questions, settings)
    report = build_report(
        scores, questions, settings, step.seed, selected=_selected(step.run), quarantine=quarantine, hosted=hosted
    ).model_copy(
        update={
            "preference_method": (method := _preference_method(step.run)),
            "effect": read_effect(step.run, {s: given[s] for s in settings.systems}) if method else None,
        }
    )
    report = with_whole_sets(report, given, questions, settings.bootstrap_samples).model_copy(
        update={
            "constant": find_constant(
                {s: scores[s] for s in settings.systems}, questions, settings.bootstrap_samples, step.seed
            )
        }
    )
    kept = without_found_times(report)
    write_json(step.out("5_reports/report.json"), without_times(report_json(kept)))
    write_text(step.out("5_reports/report.md"), markdown(kept) + _told_below(kept))
    shown = Measured(
        name,
        report,
        questions,
        given,
        scores,
        settings.bootstrap_samples,
        settings.questions is not None,
        _curves(step.run),
        _touched(step.run, questions),
    )
    write_text(step.out(PAGE), page(shown))
    say(plain(with_times(report, step.run)))
    figures = {s.system: {m: f.value for m, f in s.figures.items() if m not in TIMES} for s in report.systems}
    return {"verdict": report.verdict, "questions": report.questions, "figures": figures}  # type: ignore[dict-item]


def _score_hosted(
    hosted: Mapping[str, Sequence[Answer]], questions: Sequence[Question], settings: EvaluateSettings
) -> dict[str, dict[str, Scored]]:
    """Score what endpoints answered; how long they took depends on who else asks them, so times are not scored."""
    untimed: tuple[None, ...] = (None,) * len(questions)
    return {
        system: score_system(system, answers, questions, semantic=settings.semantic, nli=settings.nli)
        | {m: Scored(system, m, untimed) for m in TIMES}
        for system, answers in hosted.items()
    }


def estimate_endpoints(settings: EvaluateSettings, retrieve: RetrieveSettings, run: RunFolder) -> str:
    """Return what asking the endpoints would take, a line each, as far as the passages are known; asks nothing."""
    try:
        questions = load_questions(settings, run)
    except FieldwiseError:
        return "cost of the endpoints not known before the stages that make documents and questions"
    try:
        beside = earlier_answers(run, "rag_base", questions)
    except FieldwiseError:
        beside = []
    return endpoints.estimate(settings.endpoints, questions, beside, retrieve, run.path)


def _curves(run: RunFolder) -> list[Curve]:
    """The curves that the trainings of these weights kept."""
    names = {"sft": "SFT", "preference": (_preference_method(run) or "preference").upper(), "rl": "RL"}
    found = [
        curve_of(names[name], read_json(path).get("curve"))
        for name in tuned(run)
        if (path := run.path / f"4_adapters/{name}/figures.json").exists()
    ]
    return [curve for curve in found if curve is not None]


def _touched(run: RunFolder, questions: Sequence[Question]) -> list[bool] | None:
    """Which questions training has nearly seen; None where no examples stand."""
    path = run.path / "3_examples/train.parquet"
    if not path.exists():
        return None
    return touched(questions, (e.question for e in read_records(path, Example)))


def build_report(
    scores: dict[str, dict[str, Scored]],
    questions: Sequence[Question],
    settings: EvaluateSettings,
    seed: int,
    selected: str = "preference",
    quarantine: Quarantine = NONE,
    hosted: Mapping[str, Sequence[Answer]] | None = None,
) -> EvalReport:
    """Put scores, intervals, differences to the first system, and gate verdicts together.

    `hosted` are the answers of the systems at endpoints: what they left unanswered is counted.
    """
    unanswered = {name: endpoints.problems(answers) for name, answers in (hosted or {}).items()}
    at = {e.name: endpoints.at_endpoint(e) for e in settings.endpoints}
    kept, left_out = quarantine.of(QUESTIONS), quarantine.left_out(QUESTIONS)
    gated = {s: {m: without(v, questions, left_out) for m, v in by.items()} for s, by in scores.items()}
    names, samples = cluster_names(questions), settings.bootstrap_samples
    baseline = next(iter(scores))
    systems = []
    for system, by_metric in scores.items():
        figures = {m: summarise(s, names, samples, seed) for m, s in by_metric.items()}
        differences = (
            {}
            if system == baseline
            else {
                m: compare(s, scores[baseline][m], names, samples, seed) for m, s in by_metric.items() if m not in TIMES
            }
        )
        systems.append(
            SystemReport(
                system=system,
                figures=figures,
                differences=differences,
                endpoint=at.get(system),
                unanswered=unanswered.get(system, {}),
            )
        )
    missing = {name: sum(counts.values()) for name, counts in unanswered.items()}
    return EvalReport(
        questions=len(questions),
        unanswerable=sum(q.answer is None for q in questions),
        questions_sha256=sha256_text(canonical_json([q.model_dump(mode="json") for q in questions])),
        baseline=baseline,
        selected=selected,
        systems=adjust_differences(systems, [m for m in SHOWN if m not in TIMES]),
        gates=with_left_out(judge_all(settings.gates, gated, names, samples, seed, missing), questions, left_out),
        price=settings.price,
        quarantined=kept.standing,
        expired=kept.expired,
        seed=seed,
    )
