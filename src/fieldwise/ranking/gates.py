"""Requirements on how well passages are found: PASS, FAIL, or INCONCLUSIVE with the number of queries it would take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from fieldwise.errors import DatasetError
from fieldwise.evaluate.power import needed_n, passes_from
from fieldwise.evaluate.report import LEAST_ITEMS, as_family
from fieldwise.evaluate.statistics import Estimate, p_beyond
from fieldwise.ranking.measure import RetrievalReport, difference
from fieldwise.records import Difference, GateResult, Interval


class Level(NamedTuple):
    """A figure and what it must reach, by the lower end of its interval."""

    figure: str
    least: float


class NotWorse(NamedTuple):
    """A figure that may not be worse than that of an earlier report, by more than a margin."""

    figure: str
    baseline: RetrievalReport
    where: str
    margin: float


def judge(
    report: RetrievalReport, levels: Sequence[Level], not_worse: Sequence[NotWorse], samples: int
) -> tuple[GateResult, ...]:
    """Judge all requirements as one family. Raises DatasetError for a figure that is not there, or another judged set."""
    return as_family(
        [*(_judge_level(report, level) for level in levels), *(_judge_pair(report, g, samples) for g in not_worse)]
    )


def same_set(report: RetrievalReport, baseline: RetrievalReport, where: object) -> None:
    """Raise DatasetError unless both were measured on the same questions with the same judgements."""
    if report.sha256 == baseline.sha256:
        return
    mine, theirs = ({item.id: item.sha256 for item in r.items} for r in (report, baseline))
    both = mine.keys() & theirs.keys()
    raise DatasetError(
        "measured on other questions or judgements",
        where=where,
        found=f"{len(both)} in both, {sum(mine[i] != theirs[i] for i in both)} of them changed, "
        f"{len(mine.keys() - both)} only here, {len(theirs.keys() - both)} only there",
        fix="Measure both on the same set; after a change of the documents the earlier run must be measured anew.",
    )


def _judge_level(report: RetrievalReport, level: Level) -> GateResult:
    requirement = f"{level.figure} at least {level.least:g}"
    found = _known(report, level.figure)
    if found.value is None or found.low is None or found.high is None or found.n < LEAST_ITEMS:
        return GateResult(
            metric=level.figure,
            verdict="INCONCLUSIVE",
            requirement=requirement,
            found=f"{found.n} scored queries",
            need_n=LEAST_ITEMS,
        )
    estimate = Estimate(found.value, found.low, found.high)
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"] = "PASS"
    if found.low < level.least:
        verdict = "FAIL" if found.high < level.least else "INCONCLUSIVE"
    p = p_beyond(estimate, level.least, math.inf)
    return GateResult(
        metric=level.figure,
        verdict=verdict,
        requirement=requirement,
        found=shown(found),
        need_n=needed_n(found.n, estimate, level.least) if verdict == "INCONCLUSIVE" else None,
        p=p if found.value < level.least else 1 - p,
    )


def _judge_pair(report: RetrievalReport, gate: NotWorse, samples: int) -> GateResult:
    same_set(report, gate.baseline, gate.where)
    _known(report, gate.figure)
    old = {item.id: item for item in gate.baseline.items}
    found = difference(
        report.values(gate.figure),
        [old[item.id].scores.get(gate.figure) for item in report.items],
        [item.cluster for item in report.items],
        samples,
        report.seed,
        baseline=gate.where,
    )
    requirement = f"{gate.figure} not worse than {gate.where}" + (f" by more than {gate.margin:g}" * (gate.margin > 0))
    if found.value is None or found.low is None or found.high is None or found.n < LEAST_ITEMS:
        return GateResult(
            metric=gate.figure,
            verdict="INCONCLUSIVE",
            requirement=requirement,
            found=f"{found.n} queries scored on both",
            need_n=LEAST_ITEMS,
        )
    estimate, limit = Estimate(found.value, found.low, found.high), -gate.margin
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"] = "INCONCLUSIVE"
    if found.low > limit or found.changed == 0:
        verdict = "PASS"
    elif found.high <= limit or (found.value < limit and found.high < 0):  # a loss beyond chance, as `gate` judges it
        verdict = "FAIL"
    against = 0.0 if verdict == "FAIL" else limit
    p = p_beyond(estimate, against, found.freedom or math.inf)
    return GateResult(
        metric=gate.figure,
        verdict=verdict,
        requirement=requirement,
        found=shown(found),
        need_n=needed_n(found.n, estimate, limit) if verdict == "INCONCLUSIVE" else None,
        passes_from=passes_from(estimate, limit),
        p=p if found.value < against else 1 - p,
    )


def _known(report: RetrievalReport, figure: str) -> Interval:
    if figure not in report.figures:
        raise DatasetError(
            "there is no such figure",
            where="--at-least or --figure",
            found=figure,
            fix=f"Measured here: {', '.join(report.figures)}.",
        )
    return report.figures[figure]


def shown(figure: Interval) -> str:
    """A figure with its interval; a difference with its sign."""
    style = "+.3f" if isinstance(figure, Difference) else ".3f"
    if figure.value is None:
        return "not scored"
    return f"{figure.value:{style}} [{figure.low:{style}}, {figure.high:{style}}], n={figure.n}"
