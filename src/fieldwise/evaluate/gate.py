"""The gate on its own: a run against its own gates, or question by question against what an earlier run scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, JsonValue

from fieldwise.errors import DatasetError
from fieldwise.evaluate.baseline import (
    Baseline,
    Measured,
    measured_systems,
    metrics_hash,
    read_baseline,
    read_measured,
    same_questions,
)
from fieldwise.evaluate.metrics import METRICS
from fieldwise.evaluate.quarantine import NONE, QUESTIONS, Quarantine, quarantine_in, told_left_out
from fieldwise.evaluate.report import EvalReport, as_family, judge_pair, overall, told_unanswered
from fieldwise.evaluate.settings import EvaluateSettings, GateSettings, RegressionSettings
from fieldwise.files import read_json
from fieldwise.records import GateResult, Record
from fieldwise.run import RunFolder

EXIT_CODES = {"PASS": 0, "FAIL": 3, "INCONCLUSIVE": 4}
_ENTAILED, _JUDGED = "claims_entailed", "judged_right"
_FLIPS, _SAME, _ANSWERED = "overall_f1", 1e-9, 0.5


class Flipped(Record):
    """A question whose score changed."""

    id: str
    before: float
    after: float


class GateReport(Record):
    """What was judged against what, and the verdict."""

    run: str
    baseline: str | None = Field(None, description="None: the run's own gates, as its report holds them")
    system: str | None = None
    questions: int
    documents: int | None = None
    questions_sha256: str
    seed: int
    baseline_seed: int | None = None
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"]
    gates: tuple[GateResult, ...]
    lost: tuple[Flipped, ...] = Field((), description="questions answered worse than in the baseline, by overall_f1")
    won: tuple[Flipped, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 PASS, 3 FAIL, 4 INCONCLUSIVE."""
        return EXIT_CODES[self.verdict]


def own_gates(
    run: RunFolder, name: str, *, has_suites: bool = False, judged: Sequence[GateResult] = (), advice: str = ""
) -> GateReport:
    """Return the run's own gates: those of its report, and of the file to serve if one was measured.

    With `has_suites` those of the suites as well, and those of a judge; its `advice` is a note.
    """
    value = read_json(run.require("5_reports/report.json", "evaluate"))
    value.pop("verdict", None)
    report = EvalReport.model_validate(value)
    gates, notes = list(report.gates), [*report.quarantine.notes]
    served = run.path / "5_reports/served.json"
    if served.exists():
        found = read_json(served).get("gates")
        gates += [GateResult.model_validate(g) for g in found] if isinstance(found, list) else []
    else:
        notes.append("no file to serve was measured yet: these are the gates of the weights")
    if has_suites:
        suites = run.path / "5_reports/suites.json"
        value = read_json(suites) if suites.exists() else {}
        found = value.get("gates")
        gates += [GateResult.model_validate(g) for g in found] if isinstance(found, list) else []
        notes += _quarantined(value) if value else ["the suites of the recipe were not asked yet: run stage 5s"]
    gates += judged
    notes += [f"advice of a judge, which decides nothing: {advice}"] if advice else []
    if not gates:
        raise DatasetError(
            "the report holds no gate",
            where=run.path / "5_reports/report.json",
            fix="Set evaluate.gates in the recipe, or compare with an earlier run: --baseline DIR",
        )
    return GateReport(
        run=name,
        questions=report.questions,
        questions_sha256=report.questions_sha256,
        seed=report.seed,
        verdict=overall(gates),
        gates=tuple(gates),
        notes=tuple(notes),
    )


def _quarantined(report: dict[str, JsonValue]) -> list[str]:
    """What the suites left out, and what counts again: never without a word."""
    suites = report.get("suites")
    notes: list[str] = []
    for suite in suites if isinstance(suites, list) else []:
        if isinstance(suite, dict):
            notes += quarantine_in(suite).notes
    return notes


class _Pair(NamedTuple):
    candidate: Measured
    baseline: Baseline
    order: list[int]


def against(
    run: RunFolder,
    baseline: Path,
    settings: EvaluateSettings,
    *,
    name: str,
    system: str | None = None,
    quarantine: Quarantine = NONE,
) -> GateReport:
    """Judge a run question by question against a run folder or a baseline file by `evaluate.regressions`.

    Questions in quarantine are left out of the gates and told in the notes. Raises DatasetError where the two were asked
    other questions.
    """
    is_wanted = any(r.metric == _ENTAILED for r in settings.regressions)  # a model takes its time: not for nothing
    pair = _pair(run, baseline, name, system, settings.nli if is_wanted else None)
    candidate = pair.candidate.baseline
    left_out = quarantine.left_out(QUESTIONS)
    gates = judge_regressions(settings.regressions, pair, settings.bootstrap_samples, left_out)
    lost, won = _flipped(pair)
    notes = [*quarantine.of(QUESTIONS).notes]
    if pair.baseline.metrics_sha256 != metrics_hash():
        notes.append("the baseline was scored by other code than today's; make it anew if a metric has changed")
    if pair.baseline.seed != candidate.seed:
        notes.append(f"other seeds: {candidate.seed} against {pair.baseline.seed}")
    return GateReport(
        run=name,
        baseline=str(baseline),
        system=candidate.system,
        questions=len(candidate.items),
        documents=len(set(pair.candidate.clusters) - {i.id for i in candidate.items}),
        questions_sha256=candidate.questions_sha256,
        seed=candidate.seed,
        baseline_seed=pair.baseline.seed,
        verdict=overall(gates),
        gates=gates,
        lost=lost,
        won=won,
        notes=tuple(notes),
    )


def to_keep(run: RunFolder, name: str, system: str | None = None, nli: str | None = None) -> Baseline:
    """Return what a baseline file of this run holds, the scores of an NLI model with it where one is named."""
    return read_measured(run, _system(measured_systems(run), None, system, run.path), name, nli).baseline


def _pair(run: RunFolder, baseline: Path, name: str, system: str | None, nli: str | None = None) -> _Pair:
    mine = measured_systems(run)
    if baseline.is_dir():
        other = RunFolder(baseline)
        chosen = _system(mine, measured_systems(other), system, baseline)
        found = read_measured(other, chosen, str(baseline), nli).baseline
    elif baseline.is_file():
        found = read_baseline(baseline)
        chosen = _system(mine, [found.system], system, baseline)
    else:
        raise DatasetError(
            "there is no baseline here", where=baseline, fix="Name a run folder or a baseline file with --baseline."
        )
    candidate = read_measured(run, chosen, name, nli)
    return _Pair(candidate, found, same_questions(candidate.baseline.items, found, baseline))


def _system(mine: Sequence[str], other: Sequence[str] | None, wanted: str | None, where: object) -> str:
    """The system to judge: the one wanted, else the one nearest to the release that both have."""
    both = [s for s in mine if other is None or s in other]
    if wanted is None and both:
        return both[0]
    if wanted is not None and wanted in both:
        return wanted
    theirs = "" if other is None else f"; the baseline has {', '.join(other) or 'none'}"
    raise DatasetError(
        "no system was measured in both" if wanted is None else f"the system {wanted} was not measured",
        where=where,
        found=f"the run has {', '.join(mine) or 'none'}{theirs}",
        fix="Measure it with fieldwise evaluate, or name another with --system.",
    )


def repeated(run: RunFolder, others: Sequence[Path], *, name: str, system: str | None = None) -> dict[str, list[bool]]:
    """Return whether each question was answered, in this run and in others of the same weights.

    A question counts as answered from an F1 with declines of 0.5 on. Raises DatasetError where they were asked other
    questions.
    """
    found: dict[str, list[bool]] = {}
    for other in [None, *others]:
        pair = _pair(run, run.path if other is None else other, name, system)
        scored = pair.baseline.scored(_FLIPS, pair.order)
        values = [] if scored is None else scored.values
        for item, value in zip(pair.candidate.baseline.items, values, strict=True):
            found.setdefault(item.id, []).extend([] if value is None else [value >= _ANSWERED])
    return found


def judge_regressions(
    gates: Sequence[RegressionSettings], pair: _Pair, samples: int, left_out: frozenset[str] = frozenset()
) -> tuple[GateResult, ...]:
    """Judge every metric as one family, without the questions left out; one that either side was not measured on fails."""
    return as_family([_judge(gate, pair, samples, left_out) for gate in gates])


def _judge(regression: RegressionSettings, pair: _Pair, samples: int, left_out: frozenset[str]) -> GateResult:
    candidate = pair.candidate.baseline
    gate = GateSettings(metric=regression.metric, requires=regression.requires, margin=regression.margin)
    after = candidate.scored(gate.metric, range(len(candidate.items)))
    before = pair.baseline.scored(gate.metric, pair.order)
    if why := _not_comparable(gate.metric, candidate, pair.baseline):
        return GateResult(
            metric=gate.metric,
            verdict="FAIL",
            requirement=_requirement(regression, candidate.system),
            found=why,
        )
    for side, scored in (("the run", after), ("the baseline", before)):
        if gate.metric not in METRICS or scored is None or all(v is None for v in scored.values):
            return GateResult(
                metric=gate.metric,
                verdict="FAIL",
                requirement=_requirement(regression, candidate.system),
                found=f"{side} was not measured by it",
            )
    assert after is not None and before is not None
    if told := _unanswered(candidate) or _unanswered(pair.baseline):
        requirement = _requirement(regression, candidate.system)
        return GateResult(metric=gate.metric, verdict="INCONCLUSIVE", requirement=requirement, found=told)
    counted = (None if i.id in left_out else v for i, v in zip(candidate.items, after.values, strict=True))
    after = after._replace(values=tuple(counted))
    result = judge_pair(gate, after, before, pair.candidate.clusters, samples, candidate.seed)
    told = result.found + told_left_out(sum(i.id in left_out for i in candidate.items))
    return result.model_copy(update={"requirement": _requirement(regression, candidate.system), "found": told})


def _unanswered(side: Baseline) -> str:
    """That too many questions were not answered to decide anything; F1 with declines has a score for every answer."""
    scores = side.scores.get(_FLIPS, ())
    return told_unanswered(f"{side.system} of {side.run}", scores.count(None), len(side.items))


def _not_comparable(metric: str, run: Baseline, baseline: Baseline) -> str:
    """Why the scores of two sides were not made by one and the same model; empty where they were, or need none."""
    if metric == _ENTAILED and baseline.nli_sha256 != run.nli_sha256:
        return (
            f"the baseline was scored by {'another' if baseline.nli_sha256 else 'no'} NLI model: "
            "keep the file anew with this evaluate.nli, or name the run folder"
        )
    if metric != _JUDGED:
        return ""
    for side, who in (("the run", run.judge), ("the baseline", baseline.judge)):
        if not who:
            return f"no judge saw the answers of {side} one by one: fieldwise judge --run DIR"
    if run.judge != baseline.judge:
        return f"judged by {run.judge}, the baseline by {baseline.judge}: ask one judge, by one rule, for both"
    if not (run.judge_may_gate or baseline.judge_may_gate):
        return (
            f"{run.judge} is advice: kappa of 0.6 against 50 human labels was not shown, fieldwise judge --labels FILE"
        )
    return ""


def _requirement(gate: RegressionSettings, system: str) -> str:
    word = "better than" if gate.requires == "better" else "not worse than"
    margin = f" by more than {gate.margin:g}" if gate.margin else ""
    return f"{system}: {gate.metric} {word} the baseline{margin}"


def _flipped(pair: _Pair) -> tuple[tuple[Flipped, ...], tuple[Flipped, ...]]:
    """Questions answered worse and better, the largest change first."""
    items = pair.candidate.baseline.items
    after, before = pair.candidate.baseline.scores.get(_FLIPS), pair.baseline.scored(_FLIPS, pair.order)
    if after is None or before is None:
        return (), ()
    found = [
        Flipped(id=item.id, before=b, after=a)
        for item, a, b in zip(items, after, before.values, strict=True)
        if a is not None and b is not None and abs(a - b) > _SAME
    ]
    found.sort(key=lambda f: (-abs(f.after - f.before), f.id))
    return tuple(f for f in found if f.after < f.before), tuple(f for f in found if f.after > f.before)
