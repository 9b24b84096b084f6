"""The evaluate stage: the baseline before training (4a), the report after it (4d), the served file (5b)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.errors import DatasetError, FieldwiseError
from fieldwise.evaluate import endpoints
from fieldwise.evaluate.asking import answer_questions, decline_rule, load_questions, make_answerer, tuned
from fieldwise.evaluate.constant import find_constant
from fieldwise.evaluate.contamination import touched
from fieldwise.evaluate.effect import read_effect
from fieldwise.evaluate.effect import told as told_effect
from fieldwise.evaluate.memory import Peak, peak_memory
from fieldwise.evaluate.metrics import METRICS, TIMES
from fieldwise.evaluate.page import Measured, page
from fieldwise.evaluate.page_training import Curve, curve_of
from fieldwise.evaluate.perplexity import token_perplexity
from fieldwise.evaluate.quarantine import NONE, QUESTIONS, Quarantine
from fieldwise.evaluate.report import (
    EvalReport,
    Scored,
    SystemReport,
    adjust_differences,
    as_family,
    cluster_names,
    compare,
    judge_all,
    judge_pair,
    overall,
    report_json,
    score_system,
    scores_of,
    summarise,
    with_left_out,
    with_whole_sets,
    without,
)
from fieldwise.evaluate.settings import (
    RAG_SYSTEMS,
    EvaluateSettings,
    GateSettings,
    System,
)
from fieldwise.evaluate.table import A_TIME, SHOWN, markdown, plain, told_peak
from fieldwise.extras import require
from fieldwise.files import read_json, read_ledger, write_json, write_jsonl, write_text
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.interfaces import Sampling
from fieldwise.progress import say
from fieldwise.records import Answer, BaseWeights, Example, GateResult, Question
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import read_records

BASELINES: tuple[System, ...] = ("base", "rag_base")
PAGE = "5_reports/report.html"
_REFERENCE: System = "rag_tuned"  # what the file to serve is made of


class _Given(NamedTuple):
    answers: list[Answer]
    peak: Peak


def _measure(
    system: System,
    weights: Path,
    questions: Sequence[Question],
    settings: EvaluateSettings,
    retrieve: RetrieveSettings,
    step: StepRun,
) -> _Given:
    with peak_memory() as peak, closing(TransformersEngine(weights, dtype="auto")) as engine:
        # the rule belongs to the weights it was fitted with: a baseline is measured as it comes
        rule = decline_rule(step.run) if system == "rag_tuned" else None
        sampling = Sampling(max_tokens=settings.max_new_tokens)
        answerer = make_answerer(system, engine, step.run, retrieve, sampling, rule)
        return _Given(answer_questions(answerer, questions, step.work / f"{system}.jsonl"), peak())


def _write_predictions(step: StepRun, system: str, answers: Sequence[Answer], questions: Sequence[Question]) -> None:
    """Keep every answer. Times are kept apart: they differ from run to run, the answers must not."""
    write_jsonl(
        step.out(f"5_reports/predictions/{system}.jsonl"),
        (
            {
                "id": q.id,
                "question": q.question,
                "expected": q.answer,
                "aliases": list(q.aliases),
                "document": q.document,
                "kind": q.kind,
                "answer": a.model_dump(mode="json", exclude={"timings"}),
                "scores": {n: v for n, v in scores_of(a, q).items() if n not in TIMES},
            }
            for q, a in zip(questions, answers, strict=True)
        ),
    )


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
        _write_predictions(step, system, given.answers, questions)
        times[system] = _times(given, questions)
        facts[system] = _headline(system, given.answers, questions, settings, step.seed)
    _keep_times(step, times)
    return facts


def _times(given: _Given, questions: Sequence[Question]) -> JsonValue:
    values = {n: [METRICS[n].score(a, q) for a, q in zip(given.answers, questions, strict=True)] for n in TIMES}
    return {**values, "peak": given.peak.model_dump(mode="json")}  # type: ignore[dict-item]


def _keep_times(step: StepRun, times: dict[str, JsonValue]) -> None:
    """Times and memory stand outside the outputs, since no rerun repeats them."""
    for system, values in times.items():
        write_json(step.run.path / "times" / f"{system}.json", values)


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
            answers = _earlier_answers(step.run, system, questions)
        else:
            measured = _measure(system, _weights_of(system, step.run, base), questions, settings, retrieve, step)
            answers = measured.answers
            _write_predictions(step, system, answers, questions)
            times[system] = _times(measured, questions)
        given[system] = answers
        scores[system] = score_system(system, answers, questions, semantic=settings.semantic, nli=settings.nli)
        if system in BASELINES:
            scores[system] |= _earlier_times(step.run, system, len(questions))
    _keep_times(step, times)
    beside = next((given[s] for s in RAG_SYSTEMS if s in given), ())
    hosted = endpoints.ask_endpoints(settings.endpoints, questions, beside, retrieve, step.run.path)
    for system_there, found in hosted.items():
        _write_predictions(step, system_there, found, questions)
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
    kept = _without_found_times(report)
    write_json(step.out("5_reports/report.json"), _without_times(report_json(kept)))
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
        beside = _earlier_answers(run, "rag_base", questions)
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


# ---------------------------------------------------------------- 5b


def run_served(
    settings: EvaluateSettings,
    retrieve: RetrieveSettings,
    step: StepRun,
    *,
    serve: str,
    max_score_loss: float,
    quarantine: Quarantine = NONE,
) -> dict[str, JsonValue]:
    """Let the file to serve answer the questions and compare it with the weights it was made from, item by item.

    The gates leave out the questions in quarantine.
    """
    questions = load_questions(settings, step.run)
    path = _file_to_serve(step.run, serve)
    if path is None:
        raise DatasetError(
            "the file to serve was not built",
            where="release.serve",
            found=serve,
            fix="Name one of release.quantisations.",
        )
    with peak_memory() as peak, closing(LlamaCppEngine(path, parallel=8)) as engine:
        sampling = Sampling(max_tokens=settings.max_new_tokens)
        answerer = make_answerer("rag_served", engine, step.run, retrieve, sampling, decline_rule(step.run))
        given = _Given(answer_questions(answerer, questions, step.work / "served.jsonl"), peak())
    answers = given.answers
    _write_predictions(step, "served", answers, questions)
    _keep_times(step, {"served": _times(given, questions)})
    earlier = _earlier_answers(step.run, _REFERENCE, questions)
    scores = score_system("served", answers, questions, semantic=settings.semantic, nli=settings.nli)
    verdicts = _not_worse(scores, earlier, questions, settings, step.seed, max_score_loss, quarantine)
    same = sum(a.text == b.text for a, b in zip(answers, earlier, strict=True))
    names = cluster_names(questions)
    figures: dict[str, JsonValue] = {
        m: summarise(s, names, settings.bootstrap_samples, step.seed).model_dump(mode="json")
        for m, s in scores.items()
        if m not in TIMES
    }
    verdict = overall(verdicts)
    perplexity = token_perplexity(answers, questions, names, settings.bootstrap_samples, step.seed)
    write_json(
        step.out("5_reports/served.json"),
        {
            "file": path.name,
            "figures": figures,
            "perplexity": None if perplexity is None else perplexity.model_dump(mode="json"),
            "same_replies": same,
            "questions": len(questions),
            "verdict": verdict,
            "gates": [v.model_dump(mode="json") for v in verdicts],
            **quarantine.of(QUESTIONS).rows(),
        },
    )
    say(
        f"  {path.name}: the same reply as the weights to {same} of {len(questions)} questions; {verdict}: "
        + "; ".join(f"{v.metric} {v.found}" for v in verdicts)
    )
    say(f"  {path.name}: {_speed(scores, given.peak)}")
    return {"verdict": verdict, "same_replies": same, "questions": len(questions), "figures": figures}


def _speed(scores: dict[str, Scored], peak: Peak) -> str:
    """What the file took, on the terminal alone."""
    parts = []
    for name in TIMES:
        if values := [v for v in scores[name].values if v is not None]:
            parts.append(f"{METRICS[name].title.lower()} {sum(values) / len(values):.2f}")
    if shown := told_peak(peak):
        parts.append(f"peak memory {shown} GB")
    return ", ".join(parts) or "no time is known"


def _not_worse(
    served: dict[str, Scored],
    earlier: Sequence[Answer],
    questions: Sequence[Question],
    settings: EvaluateSettings,
    seed: int,
    max_score_loss: float,
    quarantine: Quarantine,
) -> tuple[GateResult, ...]:
    """Judge whether the file does as well as the weights did, by what they said earlier."""
    names, left_out = cluster_names(questions), quarantine.left_out(QUESTIONS)
    before = score_system(_REFERENCE, earlier, questions)
    results = [
        judge_pair(
            GateSettings(metric=m, system=_REFERENCE, baseline=_REFERENCE, requires="not_worse", margin=max_score_loss),
            without(served[m], questions, left_out),
            without(before[m], questions, left_out),
            names,
            settings.bootstrap_samples,
            seed,
        )
        for m in ("token_f1", "overall_f1")
    ]
    return with_left_out(as_family(results), questions, left_out)


def _file_to_serve(run: RunFolder, serve: str) -> Path | None:
    """Return the tuned file of a type; the base beside it has a record without an adapter."""
    records = [read_json(p) for p in sorted((run.path / "6_builds").glob(f"*-{serve}.build.json"))]
    return next((run.path / str(r["path"]) for r in records if r.get("adapter_id") is not None), None)


def _earlier_times(run: RunFolder, system: System, count: int) -> dict[str, Scored]:
    """The times of an earlier measurement, which its answers do not hold; not scored where they are not there."""

    def scored(name: str) -> Scored:
        values = _kept_times(run, system, name)
        return Scored(system, name, values if len(values) == count else (None,) * count)

    return {name: scored(name) for name in TIMES}


def _kept_times(run: RunFolder, system: str, name: str) -> tuple[float | None, ...]:
    path = run.path / "times" / f"{system}.json"
    values = read_json(path).get(name) if path.exists() else None
    return tuple(None if v is None else float(str(v)) for v in values) if isinstance(values, list) else ()


def _kept_peak(run: RunFolder, system: str) -> Peak | None:
    path = run.path / "times" / f"{system}.json"
    found = read_json(path).get("peak") if path.exists() else None
    return Peak.model_validate(found) if isinstance(found, dict) else None


def _earlier_answers(run: RunFolder, system: System, questions: Sequence[Question]) -> list[Answer]:
    path = run.require(f"5_reports/predictions/{system}.jsonl", "evaluate")
    rows = {str(row["id"]): Answer.model_validate(row["answer"]) for row in read_ledger(path)}
    missing = [q.id for q in questions if q.id not in rows]
    if missing:
        raise DatasetError(
            "the baseline was measured on other questions",
            where=path,
            found=f"{len(missing)} of {len(questions)} missing",
            fix="Run the baseline again: fieldwise run --stage 4a --force",
        )
    return [rows[q.id] for q in questions]


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


def _without_found_times(report: EvalReport) -> EvalReport:
    """The report whose gates over a time say their verdict alone: what was found differs from run to run."""
    untold = {"found": A_TIME, "need_n": None, "passes_from": None, "p": None, "p_adjusted": None}
    gates = tuple(g.model_copy(update=untold) if g.metric in TIMES else g for g in report.gates)
    return report.model_copy(update={"gates": gates})


def _without_times(report: dict[str, JsonValue]) -> dict[str, JsonValue]:
    value: dict[str, Any] = json.loads(json.dumps(report))
    for system in value["systems"]:
        for name in TIMES:
            system["figures"].pop(name, None)
    return value


def with_times(report: EvalReport, run: RunFolder) -> EvalReport:
    """Return the report with the times and the memory of the last measurement put in."""
    systems = []
    for system in report.systems:
        figures = dict(system.figures)
        for name in TIMES:
            if values := _kept_times(run, system.system, name):
                scored = Scored(system.system, name, values)
                figures[name] = summarise(scored, [str(n) for n in range(len(values))], 500, 0)
        peak = _kept_peak(run, system.system)
        systems.append(system.model_copy(update={"figures": figures, "peak": peak}))
    return report.model_copy(update={"systems": tuple(systems)})


def read_report(run: RunFolder) -> EvalReport:
    """Read the report of a run, times put in."""
    value = read_json(run.require("5_reports/report.json", "evaluate"))
    value.pop("verdict", None)
    return with_times(EvalReport.model_validate(value), run)
