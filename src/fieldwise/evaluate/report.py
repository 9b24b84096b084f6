"""From scores to a report: intervals, paired differences to the baseline, and the verdicts of the gates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field, JsonValue

from fieldwise.evaluate.calibration import Calibration, calibrate
from fieldwise.evaluate.memory import Peak
from fieldwise.evaluate.metrics import METRICS, Metric
from fieldwise.evaluate.overlap import CorpusBleu, corpus_bleu
from fieldwise.evaluate.perplexity import token_perplexity
from fieldwise.evaluate.power import minimum_detectable_effect, needed_n, passes_from
from fieldwise.evaluate.quarantine import Flaky, Quarantine, told_left_out
from fieldwise.evaluate.settings import GateSettings
from fieldwise.evaluate.statistics import (
    Estimate,
    are_few,
    bootstrap_mean,
    bounded_mean,
    clustered_share,
    degrees_of_freedom,
    holm,
    mcnemar,
    p_beyond,
    paired_difference,
)
from fieldwise.evaluate.unscored import told_unscored
from fieldwise.llm.settings import PriceSettings
from fieldwise.records import Answer, Difference, GateResult, Interval, Question, Record

LEAST_ITEMS = 20
RELEASED = "rag_tuned"
_SAME = 1e-9
_FALSE_ALARMS = 0.05  # of all gates together, where nothing is worse than the gates allow


class Scored(NamedTuple):
    """The scores of one system on one metric, in the order of the questions; None is "not scored"."""

    system: str
    metric: str
    values: tuple[float | None, ...]


class AtEndpoint(Record):
    """A model behind an endpoint, as the report names it."""

    model: str
    base_url: str
    documents: bool = Field(description="whether it was asked over the passages of this run's retrieval")
    price: PriceSettings | None = Field(None, description="of a million tokens there; None where none was named")


class SystemReport(Record):
    """All figures of one system."""

    system: str
    figures: dict[str, Interval]
    differences: dict[str, Difference] = Field(default_factory=dict)
    calibration: Calibration | None = Field(None, description="of the fitted doubt, where there is one")
    bleu: CorpusBleu | None = Field(None, description="of all answers together; None without sacrebleu")
    perplexity: Interval | None = Field(
        None,
        exclude_if=lambda perplexity: perplexity is None,
        description="of a token of the known answers; of all together, and by the tokenizer of these weights",
    )
    endpoint: AtEndpoint | None = Field(
        None, exclude_if=lambda endpoint: endpoint is None, description="who answered, if not weights of this run"
    )
    unanswered: dict[str, int] = Field(
        default_factory=dict,
        exclude_if=lambda counts: not counts,
        description="why questions have no answer -> how many",
    )
    peak: Peak | None = Field(None, exclude=True, description="of the last measurement: printed, never written")


class PreferenceEffect(Record):
    """What the preference step did to the probabilities of replies, and how long the answers are."""

    pairs: int
    split: str = Field(description="validation, or train where there were too few held-out pairs")
    margin: float = Field(description="mean nats by which the chosen reply gained on the other since the start")
    accuracy: float = Field(description="share of the pairs where it gained")
    kl_per_token: float = Field(description="mean KL of the next token to the weights at the start, in nats")
    length_learnt: bool = Field(description="whether the margins go with the length of the replies")
    words: dict[str, float] = Field(description="mean words of an answer that does not decline, by system")


class ConstantAnswer(Record):
    """What saying one and the same thing to every question would reach: a baseline of tasks with few different answers."""

    answer: str = Field(description="the commonest known answer of these questions, so the best that one answer can do")
    exact_match: Interval
    system: str = Field(description="the system that is held against it")
    difference: Difference = Field(description="its exact match less that of the one answer, on the same questions")


class EvalReport(Record):
    """Everything measured in one evaluation."""

    questions: int
    unanswerable: int
    questions_sha256: str
    baseline: str
    selected: str = Field(
        "preference", description="the weights chosen on the validation split, sft, preference or rl: those released"
    )
    preference_method: str | None = Field(
        "dpo", description="how the preference step was trained; None: there was none, and system preference is sft"
    )
    effect: PreferenceEffect | None = Field(None, description="of the preference step, where one was run")
    systems: tuple[SystemReport, ...]
    gates: tuple[GateResult, ...] = ()
    quarantined: tuple[Flaky, ...] = Field((), description="questions measured to be flaky, not in the gates")
    expired: tuple[Flaky, ...] = Field((), description="questions whose quarantine has ended: they count again")
    constant: ConstantAnswer | None = Field(
        None, exclude_if=lambda found: found is None, description="where many questions have one and the same answer"
    )
    price: PriceSettings | None = Field(
        None, exclude_if=lambda price: price is None, description="of a million tokens, where the recipe names one"
    )
    seed: int = 0

    @property
    def quarantine(self) -> Quarantine:
        """What of the questions is in quarantine, and what no longer is."""
        return Quarantine(self.quarantined, self.expired)

    def system(self, name: str) -> SystemReport | None:
        """Return the report of one system."""
        return next((s for s in self.systems if s.system == name), None)

    @property
    def candidate(self) -> str:
        """The system that would be released, else the last one of this run's own."""
        own = [s.system for s in self.systems if s.endpoint is None]
        return RELEASED if RELEASED in own else own[-1]

    @property
    def verdict(self) -> str:
        """PASS if every gate passed, FAIL if one failed, else INCONCLUSIVE."""
        return overall(self.gates)


def overall(gates: Sequence[GateResult]) -> Literal["PASS", "FAIL", "INCONCLUSIVE"]:
    """PASS if every gate passed, FAIL if one failed, else INCONCLUSIVE."""
    verdicts = {g.verdict for g in gates}
    return "FAIL" if "FAIL" in verdicts else "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "PASS"


def score_system(
    system: str,
    answers: Sequence[Answer],
    questions: Sequence[Question],
    *,
    semantic: bool = False,
    nli: str | None = None,
) -> dict[str, Scored]:
    """Score every answer by every metric; those that need an encoder only with `semantic`, or the folder of an NLI model."""
    rows = [scores_of(a, q) for a, q in zip(answers, questions, strict=True)]
    values = {name: tuple(row[name] for row in rows) for name in METRICS}
    if semantic:
        from fieldwise.evaluate.semantic import semantic_scores

        values |= semantic_scores(answers, questions)
    if nli is not None:
        from fieldwise.evaluate.entailment import entailed_shares

        values["claims_entailed"] = entailed_shares(answers, nli)
    return {name: Scored(system, name, _of_answers(found, answers)) for name, found in values.items()}


def scores_of(answer: Answer, question: Question) -> dict[str, float | None]:
    """Score one answer by every metric; what is no answer is not scored, which is not wrong."""
    return {name: None if answer.problem else metric.score(answer, question) for name, metric in METRICS.items()}


def _of_answers(values: Sequence[float | None], answers: Sequence[Answer]) -> tuple[float | None, ...]:
    return tuple(None if a.problem else v for v, a in zip(values, answers, strict=True))


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
    metric = METRICS[scored.metric]
    if metric.is_binary:
        estimate = clustered_share(values, names)
    else:
        estimate = (bounded_mean if metric.is_bounded else bootstrap_mean)(values, names, samples, seed)
    return Interval(
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=len(kept),
        unscored=unscored,
        method=_share(estimate.value) if metric.is_binary else _drawn(names),
    )


def _share(value: float) -> str:
    return "Clopper-Pearson, clustered" if value in (0.0, 1.0) else "Wilson, clustered"


def _drawn(clusters: Sequence[str]) -> str:
    return "Student's t, few documents: not narrower than over questions" if are_few(clusters) else "cluster bootstrap"


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
    metric, names = METRICS[candidate.metric], [n for _, _, n in pairs]
    sign = 1.0 if metric.better == "higher" else -1.0
    after, before = [sign * c for c, _, _ in pairs], [sign * b for _, b, _ in pairs]
    values = paired_difference(after, before, names, samples, seed, is_bounded=metric.is_bounded)
    freedom = degrees_of_freedom(names)
    method, p = f"paired {_drawn(names)}", min(1.0, 2 * p_beyond(values, 0.0, freedom))
    if metric.is_binary and len(set(names)) == len(names):  # it takes the questions to be independent
        method, p = f"{method}, McNemar", mcnemar(after, before)
    return Difference(
        value=values.value,
        low=values.low,
        high=values.high,
        n=len(pairs),
        unscored=len(clusters) - len(pairs),
        baseline=baseline.system,
        changed=sum(abs(c - b) > _SAME for c, b in zip(after, before, strict=True)),
        freedom=freedom,
        p=p,
        detectable=minimum_detectable_effect(values),
        method=method,
    )


def adjust_differences(systems: Sequence[SystemReport], metrics: Sequence[str]) -> tuple[SystemReport, ...]:
    """Return the systems with the p-values of all these differences adjusted as one family (Holm)."""
    family = [(s.system, m) for s in systems for m, d in s.differences.items() if m in metrics and d.p is not None]
    found = {s.system: s.differences for s in systems}
    adjusted = dict(zip(family, holm([found[s][m].p or 0.0 for s, m in family]), strict=True))

    def with_adjusted(system: str, metric: str, difference: Difference) -> Difference:
        return difference.model_copy(update={"p_adjusted": adjusted.get((system, metric))})

    return tuple(
        s.model_copy(update={"differences": {m: with_adjusted(s.system, m, d) for m, d in s.differences.items()}})
        for s in systems
    )


def with_whole_sets(
    report: EvalReport, answers: dict[str, Sequence[Answer]], questions: Sequence[Question], samples: int
) -> EvalReport:
    """Return the report with the figures that answers have only together: calibration, corpus BLEU, perplexity."""
    names = cluster_names(questions)

    def bleu(given: Sequence[Answer]) -> CorpusBleu | None:
        known = [
            (a.answer, (q.answer, *q.aliases))
            for a, q in zip(given, questions, strict=True)
            if q.answer is not None and not a.problem
        ]
        return corpus_bleu([said for said, _ in known], [answers for _, answers in known])

    systems = tuple(
        s.model_copy(
            update={
                "calibration": calibrate(answers[s.system], questions, names, report.seed),
                "bleu": bleu(answers[s.system]),
                "perplexity": token_perplexity(answers[s.system], questions, names, samples, report.seed),
            }
        )
        for s in report.systems
    )
    return report.model_copy(update={"systems": systems})


def judge_all(
    gates: Sequence[GateSettings],
    scores: dict[str, dict[str, Scored]],
    clusters: Sequence[str],
    samples: int,
    seed: int,
    unanswered: Mapping[str, int] | None = None,
) -> tuple[GateResult, ...]:
    """Decide all gates as one family; `unanswered` counts the questions that a system has no answer to."""
    missing = {s: told for s, count in (unanswered or {}).items() if (told := told_unanswered(s, count, len(clusters)))}
    return as_family([judge(gate, scores, clusters, samples, seed, missing) for gate in gates])


def told_unanswered(system: str, count: int, total: int) -> str:
    """Return in words that a system left too many questions without an answer for a gate; empty where it did not."""
    return told_unscored(count, total, f"questions were not answered by {system}")


def without(scored: Scored, questions: Sequence[Question], left_out: frozenset[str]) -> Scored:
    """Return the scores with those of the questions left out taken away, as the gates look at them."""
    if not left_out:
        return scored
    kept = (None if q.id in left_out else v for q, v in zip(questions, scored.values, strict=True))
    return scored._replace(values=tuple(kept))


def with_left_out(
    gates: Sequence[GateResult], questions: Sequence[Question], left_out: frozenset[str]
) -> tuple[GateResult, ...]:
    """Return the verdicts with how many flaky questions they did not look at."""
    told = told_left_out(sum(q.id in left_out for q in questions))
    return tuple(g.model_copy(update={"found": g.found + told}) if told else g for g in gates)


def as_family(results: Sequence[GateResult]) -> tuple[GateResult, ...]:
    """Return the results with p-values adjusted (Holm); a FAIL that the adjustment does not bear out is INCONCLUSIVE.

    So the gates together raise a false alarm in at most 5 % of the cases, however many there are. PASS needs no
    adjustment: all must pass, so a wrong PASS of the whole takes one of the gate that is not met, at its own level
    (Berger 1982, intersection-union tests).
    """
    measured = [n for n, r in enumerate(results) if r.p is not None]
    adjusted = dict(zip(measured, holm([results[n].p or 0.0 for n in measured]), strict=True))
    made = []
    for n, result in enumerate(results):
        update: dict[str, object] = {"p_adjusted": adjusted.get(n)}
        if result.verdict == "FAIL" and adjusted.get(n, 0.0) > _FALSE_ALARMS:
            update["verdict"] = "INCONCLUSIVE"
            update["found"] = f"{result.found}; p={adjusted[n]:.2g} among {len(measured)} gates"
        made.append(result.model_copy(update=update))
    return tuple(made)


def judge(
    gate: GateSettings,
    scores: dict[str, dict[str, Scored]],
    clusters: Sequence[str],
    samples: int,
    seed: int,
    missing: Mapping[str, str] | None = None,
) -> GateResult:
    """Decide one gate: PASS, FAIL, or INCONCLUSIVE with the number of items it would need. A missing metric fails.

    `missing` says of systems that too many questions were not answered for anything to be decided.
    """
    metric = METRICS.get(gate.metric)
    candidate = scores.get(gate.system, {}).get(gate.metric)
    if metric is None:
        return _result(gate, "FAIL", f"unknown metric; known: {', '.join(METRICS)}")
    if candidate is None:
        return _result(gate, "FAIL", "not measured: add the metric's system to evaluate.systems or evaluate.endpoints")
    if told := next((t for s in (gate.system, gate.baseline) if (t := (missing or {}).get(s or ""))), None):
        return _result(gate, "INCONCLUSIVE", told)
    figure = summarise(candidate, clusters, samples, seed)
    if figure.value is None or figure.n < LEAST_ITEMS:
        return _result(gate, "INCONCLUSIVE", f"{figure.n} scored items", need_n=LEAST_ITEMS)
    if gate.at_least is not None and (result := _against_level(gate, figure, metric)) is not None:
        return result
    if gate.baseline is None:
        return _result(gate, "PASS", _shown(figure))
    reference = scores.get(gate.baseline, {}).get(gate.metric)
    if reference is None:
        return _result(gate, "FAIL", f"the baseline {gate.baseline} was not measured")
    return judge_pair(gate, candidate, reference, clusters, samples, seed)


def _result(
    gate: GateSettings,
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"],
    found: str,
    *,
    need_n: int | None = None,
    passes_from: float | None = None,
    p: float | None = None,
    system: str | None = None,
) -> GateResult:
    return GateResult(
        metric=gate.metric,
        verdict=verdict,
        requirement=_requirement(gate, system),
        found=found,
        need_n=need_n,
        passes_from=passes_from,
        p=p,
    )


def _against_level(gate: GateSettings, figure: Interval, metric: Metric) -> GateResult | None:
    level = gate.at_least
    assert level is not None and figure.value is not None and figure.low is not None and figure.high is not None
    found = Estimate(figure.value, figure.low, figure.high)
    if metric.better == "lower":
        found, level = Estimate(-found.value, -found.high, -found.low), -level
    if found.low >= level:
        return None
    p = _against(found, level)
    if found.high < level:
        return _result(gate, "FAIL", _shown(figure), p=p)
    return _result(gate, "INCONCLUSIVE", _shown(figure), need_n=needed_n(figure.n, found, level), p=p)


def _against(found: Estimate, limit: float, freedom: float | None = None) -> float:
    """One-sided p-value that the truth reaches a limit."""
    p = p_beyond(found, limit, math.inf if freedom is None else freedom)
    return p if found.value < limit else 1 - p


def judge_pair(
    gate: GateSettings, candidate: Scored, reference: Scored, clusters: Sequence[str], samples: int, seed: int
) -> GateResult:
    """Decide whether the candidate is better, or not worse by more than the margin, than the reference on the same items.

    A loss that was found larger than the margin and is beyond chance fails, though it may be a little smaller in truth:
    nothing is left to decide but by how much. Without any real change this is as rare as the interval says.
    """
    difference, system = compare(candidate, reference, clusters, samples, seed), candidate.system
    if difference.value is None or difference.n < LEAST_ITEMS:
        found = f"{difference.n} items scored on both"
        return _result(gate, "INCONCLUSIVE", found, need_n=LEAST_ITEMS, system=system)
    assert difference.low is not None and difference.high is not None
    found, limit = _shown(difference, sign=True), -gate.margin if gate.requires == "not_worse" else gate.margin
    estimate = Estimate(difference.value, difference.low, difference.high)
    power, p = passes_from(estimate, limit), _against(estimate, limit, difference.freedom)
    if estimate.low > limit or (gate.requires == "not_worse" and difference.changed == 0):
        return _result(gate, "PASS", found, passes_from=power, p=p, system=system)
    if gate.requires == "not_worse" and estimate.value < limit and estimate.high < 0:
        beyond = "" if estimate.high <= limit else ", a loss beyond chance"
        p = _against(estimate, 0.0, difference.freedom)
        return _result(gate, "FAIL", found + beyond, passes_from=power, p=p, system=system)
    if difference.changed == 0:
        return _result(gate, "FAIL", f"{found}, no item differs", passes_from=power, system=system)
    if estimate.high <= limit:
        return _result(gate, "FAIL", found, passes_from=power, p=p, system=system)
    need = needed_n(difference.n, estimate, limit)
    return _result(gate, "INCONCLUSIVE", found, need_n=need, passes_from=power, p=p, system=system)


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
    value: dict[str, JsonValue] = report.model_dump(mode="json", exclude={"quarantined", "expired"})
    value |= report.quarantine.rows()
    return {**value, "verdict": report.verdict}
