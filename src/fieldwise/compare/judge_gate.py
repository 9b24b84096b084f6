"""What the judge's report says to a release: a verdict where the judge may gate, else advice that decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from fieldwise.compare.judge_report import JudgeReport, SystemVerdicts
from fieldwise.compare.judge_run import REPORT
from fieldwise.errors import DatasetError
from fieldwise.files import read_json
from fieldwise.hashing import sha256_file
from fieldwise.records import GateResult, Record
from fieldwise.run import RunFolder

_JUDGED = ("served", "rag_tuned", "rl", "preference", "sft")
"""The nearest to what is released comes first."""


class JudgedRelease(Record):
    """The judge's verdict on what is to be released."""

    judge: str = ""
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"]
    gates: tuple[GateResult, ...]
    advice: str = Field("", description="what the judge found and decides nothing by")


def read_judge_report(run: RunFolder) -> JudgeReport | None:
    """Return the judge's report of a run if one stands there; raises DatasetError for one that cannot be read."""
    path = run.path / REPORT
    if not path.is_file():
        return None
    try:
        return JudgeReport.model_validate(read_json(path))
    except ValidationError as error:
        raise DatasetError(
            "not a report of the judge", where=path, found=str(error.errors()[0]["msg"]), fix="Judge again."
        ) from error


def is_current(run: RunFolder, report: JudgeReport) -> bool:
    """Whether the judge saw the very answers that stand in the run folder now."""
    return all(_digest(run.path / f"5_reports/predictions/{s}.jsonl") == d for s, d in report.predictions.items())


def judge_file(run: RunFolder) -> str | None:
    """The hash of the judge's report, for the key of a step that reads it; None without one."""
    return _digest(run.path / REPORT)


def _digest(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def judged_release(run: RunFolder, at_least: float | None) -> JudgedRelease | None:
    """Return the verdict that the recipe asks for; None where it asks for none. What was not measured fails."""
    if at_least is None:
        return None
    report = read_judge_report(run)
    requirement = f"judge: share right at least {at_least:g}"
    again = f"fieldwise judge --run {run.path.name} --labels FILE"
    if report is None or not is_current(run, report):
        found = "no judge was asked" if report is None else "the judge saw other answers than these"
        return _only(_gate("FAIL", requirement, f"{found}: {again}"))
    system = next((s for name in _JUDGED for s in report.systems if s.system == name), None)
    if system is None:
        return _only(_gate("FAIL", requirement, f"neither served nor rag_tuned was judged one by one: {again}"))
    requirement = f"{system.system}: share that {report.judge} finds right at least {at_least:g}"
    if not report.card.may_gate:
        advice = f"{report.judge} finds {_shown(system)} of {system.system} right; {report.card.why}"
        return JudgedRelease(judge=report.judge, verdict="PASS", gates=(), advice=advice)
    share = system.share_right
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"] = "INCONCLUSIVE"
    if share.low is not None and share.high is not None:
        verdict = "PASS" if share.low >= at_least else "FAIL" if share.high < at_least else "INCONCLUSIVE"
    return _only(_gate(verdict, requirement, _shown(system)), report.judge)


def _shown(system: SystemVerdicts) -> str:
    share = system.share_right
    if share.value is None:
        return f"none of {system.answers} answers decided"
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}], n={share.n}"


def _gate(verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"], requirement: str, found: str) -> GateResult:
    return GateResult(metric="judge", verdict=verdict, requirement=requirement, found=found)


def _only(gate: GateResult, judge: str = "") -> JudgedRelease:
    return JudgedRelease(judge=judge, verdict=gate.verdict, gates=(gate,))
