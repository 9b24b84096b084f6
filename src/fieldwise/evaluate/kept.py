"""What a measurement leaves behind: answers with their scores, and apart from them the times and memory that no rerun repeats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.evaluate.memory import Peak
from fieldwise.evaluate.metrics import METRICS, TIMES
from fieldwise.evaluate.report import EvalReport, Scored, scores_of, summarise
from fieldwise.evaluate.settings import System
from fieldwise.evaluate.table import A_TIME
from fieldwise.files import read_json, read_ledger, write_json, write_jsonl
from fieldwise.records import Answer, Question
from fieldwise.run import RunFolder, StepRun


class Given(NamedTuple):
    """What a system answered, and the most memory it took."""

    answers: list[Answer]
    peak: Peak


def write_predictions(step: StepRun, system: str, answers: Sequence[Answer], questions: Sequence[Question]) -> None:
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


def times_of(given: Given, questions: Sequence[Question]) -> JsonValue:
    """Return the seconds of every answer and the peak of the memory, as they are kept."""
    values = {n: [METRICS[n].score(a, q) for a, q in zip(given.answers, questions, strict=True)] for n in TIMES}
    return {**values, "peak": given.peak.model_dump(mode="json")}  # type: ignore[dict-item]


def keep_times(step: StepRun, times: dict[str, JsonValue]) -> None:
    """Times and memory stand outside the outputs, since no rerun repeats them."""
    for system, values in times.items():
        write_json(step.run.path / "times" / f"{system}.json", values)


def earlier_answers(run: RunFolder, system: System, questions: Sequence[Question]) -> list[Answer]:
    """Return what a system answered in an earlier measurement; raises DatasetError if it was asked other questions."""
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


def earlier_times(run: RunFolder, system: System, count: int) -> dict[str, Scored]:
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


def without_found_times(report: EvalReport) -> EvalReport:
    """The report whose gates over a time say their verdict alone: what was found differs from run to run."""
    untold = {"found": A_TIME, "need_n": None, "passes_from": None, "p": None, "p_adjusted": None}
    gates = tuple(g.model_copy(update=untold) if g.metric in TIMES else g for g in report.gates)
    return report.model_copy(update={"gates": gates})


def without_times(report: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return a report as JSON without the figures that no rerun repeats."""
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
