"""From scores to a report: intervals, paired differences to the baseline, and the verdicts of the gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field, JsonValue

from fieldwise.evaluate.metrics import METRICS, Metric
from fieldwise.evaluate.settings import GateSettings
from fieldwise.evaluate.statistics import (
    FEW_CLUSTERS,
    Estimate,
    bootstrap_mean,
    clustered_share,
    mcnemar,
    needed_n,
    paired_difference,
)
from fieldwise.records import Answer, Difference, GateResult, Interval, Question, Record

_LEAST_ITEMS = 20


class Scored(NamedTuple):
    """The scores of one system on one metric, in the order of the questions; None is "not scored"."""

    system: str
    metric: str
    values: tuple[float | None, ...]


class SystemReport(Record):
    """All figures of one system."""

    system: str
    figures: dict[str, Interval]
    differences: dict[str, Difference] = Field(default_factory=dict)


class EvalReport(Record):
    """Everything measured in one evaluation."""

    questions: int
    unanswerable: int
    questions_sha256: str
    baseline: str
    selected: str = Field("dpo", description="the weights chosen on the validation split, sft or dpo: those released")
    has_dpo: bool = Field(True, description="whether there are weights after DPO; without them sft_dpo is sft")
    systems: tuple[SystemReport, ...]
    gates: tuple[GateResult, ...] = ()
    seed: int = 0

    def system(self, name: str) -> SystemReport | None:
        """Return the report of one system."""
        return next((s for s in self.systems if s.system == name), None)

    @property
    def verdict(self) -> str:
        """PASS if every gate passed, FAIL if one failed, else INCONCLUSIVE."""
        return overall(self.gates)


def overall(gates: Sequence[GateResult]) -> Literal["PASS", "FAIL", "INCONCLUSIVE"]:
    """PASS if every gate passed, FAIL if one failed, else INCONCLUSIVE."""
    verdicts = {g.verdict for g in gates}
    return "FAIL" if "FAIL" in verdicts else "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "PASS"


def score_system(system: str, answers: Sequence[Answer], questions: Sequence[Question]) -> dict[str, Scored]:
    """Score every answer by every metric."""
    return {
        name: Scored(system, name, tuple(metric.score(a, q) for a, q in zip(answers, questions, strict=True)))
        for name, metric in METRICS.items()
    }


def cluster_names(questions: Sequence[Question]) -> list[str]:
    """The document of each question, or the question itself: what the bootstrap draws."""
    return [q.document or q.id for q in questions]


def summarise(scored: Scored, clusters: Sequence[str], samples: int, seed: int) -> Interval:
    """Mean with its 95 % interval over the items that were scored."""
    kept = [(v, c) for v, c in zip(scored.values, clusters, strict=True) if v is not None]
    unscored = len(scored.values) - len(kept)
    if not kept:
        return Interval(value=None, n=0, unscored=unscored, method="nothing scored")
    values, names = [v for v, _ in kept], [c for _, c in kept]
    # All 0 or all 1: every draw would be the same, an interval without width, so the share of such items is judged.
    binary = METRICS[scored.metric].is_binary or (set(values) in ({0.0}, {1.0}) and scored.metric != "seconds")
    estimate = clustered_share(values, names) if binary else bootstrap_mean(values, names, samples, seed)
    return Interval(
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=len(kept),
        unscored=unscored,
        method="Wilson, clustered" if binary else _drawn(names),
    )


def _drawn(clusters: Sequence[str]) -> str:
    few = len(set(clusters)) < FEW_CLUSTERS
    return "cluster bootstrap" + (", few documents: not narrower than over questions" if few else "")


def compare(candidate: Scored, baseline: Scored, clusters: Sequence[str], samples: int, seed: int) -> Difference:
    """Paired difference on the items both were scored on; positive is better, also where lower values are."""
    pairs = [
        (c, b, n)
        for c, b, n in zip(candidate.values, baseline.values, clusters, strict=True)
        if c is not None and b is not None
    ]
    if not pairs:
        return Difference(
            value=None, n=0, unscored=len(clusters), baseline=baseline.system, method="no item scored on both"
        )
    sign = 1.0 if METRICS[candidate.metric].better == "higher" else -1.0
    values = paired_difference(
        [sign * c for c, _, _ in pairs], [sign * b for _, b, _ in pairs], [n for _, _, n in pairs], samples, seed
    )
    method = f"paired {_drawn([n for _, _, n in pairs])}"
    if METRICS[candidate.metric].is_binary:
        method += f", McNemar p={mcnemar([c for c, _, _ in pairs], [b for _, b, _ in pairs]):.2g}"
    return Difference(
        value=values.value,
        low=values.low,
        high=values.high,
        n=len(pairs),
        unscored=len(clusters) - len(pairs),
        baseline=baseline.system,
        method=method,
    )


def judge(
    gate: GateSettings, scores: dict[str, dict[str, Scored]], clusters: Sequence[str], samples: int, seed: int
) -> GateResult:
    """Decide one gate: PASS, FAIL, or INCONCLUSIVE with the number of items it would need. A missing metric fails."""
    metric = METRICS.get(gate.metric)
    candidate = scores.get(gate.system, {}).get(gate.metric)
    if metric is None or candidate is None:
        return GateResult(
            metric=gate.metric,
            verdict="FAIL",
            requirement=_requirement(gate),
            found="not measured: add the metric's system to evaluate.systems"
            if metric
            else f"unknown metric; known: {', '.join(METRICS)}",
        )
    figure = summarise(candidate, clusters, samples, seed)
    if figure.value is None or figure.n < _LEAST_ITEMS:
        return GateResult(
            metric=gate.metric,
            verdict="INCONCLUSIVE",
            requirement=_requirement(gate),
            found=f"{figure.n} scored items",
            need_n=_LEAST_ITEMS,
        )
    if gate.at_least is not None and (verdict := _against_level(gate, figure, metric)) is not None:
        return verdict
    if gate.baseline is None:
        return GateResult(metric=gate.metric, verdict="PASS", requirement=_requirement(gate), found=_shown(figure))
    reference = scores.get(gate.baseline, {}).get(gate.metric)
    if reference is None:
        return GateResult(
            metric=gate.metric,
            verdict="FAIL",
            requirement=_requirement(gate),
            found=f"the baseline {gate.baseline} was not measured",
        )
    return judge_pair(gate, candidate, reference, clusters, samples, seed)


def _against_level(gate: GateSettings, figure: Interval, metric: Metric) -> GateResult | None:
    level = gate.at_least
    assert level is not None and figure.low is not None and figure.high is not None
    worst, best = (figure.low, figure.high) if metric.better == "higher" else (-figure.high, -figure.low)
    limit = level if metric.better == "higher" else -level
    if worst >= limit:
        return None
    verdict = "FAIL" if best < limit else "INCONCLUSIVE"
    assert figure.value is not None
    return GateResult(
        metric=gate.metric,
        verdict=verdict,
        requirement=_requirement(gate),
        found=_shown(figure),
        need_n=needed_n(figure.n, Estimate(figure.value, figure.low, figure.high), level)
        if verdict == "INCONCLUSIVE"
        else None,
    )


def judge_pair(
    gate: GateSettings, candidate: Scored, reference: Scored, clusters: Sequence[str], samples: int, seed: int
) -> GateResult:
    """Decide whether the candidate is better, or not worse by more than the margin, than the reference on the same items."""
    difference = compare(candidate, reference, clusters, samples, seed)
    requirement = _requirement(gate, candidate.system)
    if difference.value is None or difference.n < _LEAST_ITEMS:
        return GateResult(
            metric=gate.metric,
            verdict="INCONCLUSIVE",
            requirement=requirement,
            found=f"{difference.n} items scored on both",
            need_n=_LEAST_ITEMS,
        )
    assert difference.low is not None and difference.high is not None
    limit = -gate.margin if gate.requires == "not_worse" else gate.margin
    if difference.low > limit or (gate.requires == "not_worse" and difference.low == difference.high == 0.0):
        return GateResult(
            metric=gate.metric, verdict="PASS", requirement=requirement, found=_shown(difference, sign=True)
        )
    if difference.high <= limit:
        return GateResult(
            metric=gate.metric, verdict="FAIL", requirement=requirement, found=_shown(difference, sign=True)
        )
    return GateResult(
        metric=gate.metric,
        verdict="INCONCLUSIVE",
        requirement=requirement,
        found=_shown(difference, sign=True),
        need_n=needed_n(difference.n, Estimate(difference.value, difference.low, difference.high), limit),
    )


def _requirement(gate: GateSettings, system: str | None = None) -> str:
    parts = []
    if gate.at_least is not None:
        is_lower_better = gate.metric in METRICS and METRICS[gate.metric].better == "lower"
        parts.append(f"{'at most' if is_lower_better else 'at least'} {gate.at_least:g}")
    if gate.baseline is not None:
        word = "better than" if gate.requires == "better" else "not worse than"
        margin = f" by more than {gate.margin:g}" if gate.margin else ""
        parts.append(f"{word} {gate.baseline}{margin}")
    return f"{system or gate.system}: {gate.metric} " + " and ".join(parts)


def _shown(figure: Interval, *, sign: bool = False) -> str:
    style = "+.3f" if sign else ".3f"
    return f"{figure.value:{style}} [{figure.low:{style}}, {figure.high:{style}}], n={figure.n}"


def report_json(report: EvalReport) -> dict[str, JsonValue]:
    """The report as JSON, verdict included."""
    value: dict[str, JsonValue] = report.model_dump(mode="json")
    return {**value, "verdict": report.verdict}
