"""`fieldwise judge`: open who judges, show it the predictions of a run, keep its verdicts and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.compare.comparison import Comparison, open_comparison, open_predictions, systems_of
from fieldwise.compare.judge_card import require_gating
from fieldwise.compare.judge_labels import Labels, read_labels, vote_labels
from fieldwise.compare.judge_report import Judge, JudgeReport, pairwise_report, rubric_report, with_gate
from fieldwise.compare.judging import Answered, Faced, cases, contests
from fieldwise.errors import DatasetError, FieldwiseError
from fieldwise.files import write_json, write_jsonl
from fieldwise.interfaces import LlmReply, LlmRequest
from fieldwise.judge.asking import announce, replies, require_use
from fieldwise.judge.pairwise import Preference, pairwise_requests, preferences
from fieldwise.judge.rubric import Judgement, judgements, rubric_request
from fieldwise.judge.settings import JudgeSettings
from fieldwise.llm.client import EndpointClient
from fieldwise.progress import say, track
from fieldwise.run import RunFolder

REPORT, VERDICTS, JOURNAL = "5_reports/judge.json", "5_reports/judge_verdicts.jsonl", "memo/judge/journal.jsonl"
WHERE = "evaluate.judge.endpoint"
_USUAL_REPLY_TOKENS = 120


class Wish(NamedTuple):
    """What is judged, beside which labels, and what is required; two sides ask for a pairwise comparison."""

    systems: tuple[str, ...] = ()
    left: str | None = None
    right: str | None = None
    labels: Path | None = None
    own: tuple[str, ...] = ()
    limit: int | None = None
    at_least: float | None = None
    seed: int = 0


class Material(NamedTuple):
    """What will be judged; one of the two lists is filled."""

    predictions: dict[str, str]
    answered: list[Answered]
    faced: list[Faced]
    comparison: Comparison | None

    def requests(self, rule: str) -> list[LlmRequest]:
        """What a judge is asked, in order; two requests for each contest."""
        if self.comparison is None:
            return [rubric_request(a.case, rule) for a in self.answered]
        return [r for f in self.faced for r in pairwise_requests(f.contest, rule)]

    @property
    def models(self) -> dict[str, str]:
        """System -> model that gave its answers."""
        if self.comparison is None:
            return {a.system: a.model for a in self.answered}
        return {s: m for f in self.faced for s, m in zip(self.names, f.models, strict=True)}

    @property
    def names(self) -> tuple[str, str]:
        """The two systems of a comparison."""
        assert self.comparison is not None
        ((first, second),) = self.comparison.pairs
        return first, second


def gather(run: RunFolder, wish: Wish) -> Material:
    """Read what is to be judged; raises DatasetError where there is nothing."""
    if wish.left is not None or wish.right is not None:
        comparison = open_comparison(run, wish.left, wish.right)
        digests = {name: p.sha256 for name, p in comparison.systems.items()}
        return Material(digests, [], contests(run, comparison, wish.limit, wish.seed), comparison)
    named = wish.systems or tuple(systems_of(run))
    if not named:
        raise DatasetError(
            "there are no answers to judge",
            where=run.path / "5_reports/predictions",
            fix=f"Measure the systems first: fieldwise evaluate --run {run.path}",
        )
    systems = open_predictions(run, named)
    digests = {p.system: p.sha256 for p in systems}
    return Material(digests, cases(run, systems, wish.limit, wish.seed), [], None)


def estimate(run: RunFolder, material: Material, settings: JudgeSettings) -> dict[str, JsonValue]:
    """Return how many requests are still to be paid, and what they cost, about and at most; asks nothing."""
    requests = list({r.conversation: r for r in material.requests(settings.rule)}.values())  # equal ones are paid once
    client = EndpointClient(settings.endpoint, run.path / JOURNAL, where=WHERE)
    left, usual, most = client.estimate(requests, _USUAL_REPLY_TOKENS)
    return {
        "endpoint": settings.endpoint.base_url,
        "model": settings.endpoint.model,
        "requests": left,
        "answered": len(requests) - left,
        "tokens": usual.tokens,
        "most_tokens": most.tokens,
        "price": round(usual.money, 4),
        "most_price": round(most.money, 4),
    }


def judge_run(
    run: RunFolder, material: Material, wish: Wish, settings: JudgeSettings, weights: str | None = None
) -> JudgeReport:
    """Judge everything, keep verdicts and report in the run folder, and return the report. Hold the run's lock.

    With `weights` these judge by their next token, else the endpoint of the settings. Raises FieldwiseError when the
    figures are to decide something and the judge's agreement with people does not allow it; the report is kept before.
    """
    labels = _labels(run, material, wish)
    if weights is not None:
        judge, verdicts = _by_weights(material, settings.rule, weights)
    else:
        judge, verdicts = _by_endpoint(run, material, settings)
    own = tuple(s for s, model in material.models.items() if s in wish.own or model == judge.name)
    judge = judge._replace(own=own)
    report = _report(judge, settings.rule, material, verdicts, labels, wish.seed)
    if wish.at_least is not None and report.card.may_gate:
        report = with_gate(report, wish.at_least)
    write_jsonl(run.path / VERDICTS, _rows(material, verdicts))
    write_json(run.path / REPORT, report.model_dump(mode="json"))
    if wish.at_least is not None:
        require_gating(report.card)
    return report


def _labels(run: RunFolder, material: Material, wish: Wish) -> Labels | None:
    """The labels of a file, else for a comparison the votes on it; told before anything is paid for."""
    comparison = material.comparison
    if wish.labels is None:
        found = vote_labels(run, comparison) if comparison is not None else None
        return found if found is not None and found.by_item else None
    is_pairwise = comparison is not None
    known = [f.contest.id for f in material.faced] or [a.case.id for a in material.answered]
    labels = read_labels(wish.labels, set(known), tuple(material.predictions), is_pairwise=is_pairwise)
    for line in labels.aside[:10]:
        say(f"  {line}")
    if len(labels.aside) > 10:
        say(f"  ... {len(labels.aside) - 10} more lines of labels were left aside")
    if not labels.by_item:
        raise DatasetError(
            "no label can be used",
            where=wish.labels,
            found="; ".join(labels.aside[:3]) or "no line with a label",
            fix="Fill the column label: "
            + (f"{', '.join(material.predictions)} or tie" if is_pairwise else "right, wrong or cannot tell"),
        )
    return labels


def _by_endpoint(
    run: RunFolder, material: Material, settings: JudgeSettings
) -> tuple[Judge, list[Judgement] | list[Preference]]:
    endpoint = settings.endpoint
    client = EndpointClient(endpoint, run.path / JOURNAL, where=WHERE)
    requests = material.requests(settings.rule)
    announce(client, endpoint, requests, "requests")
    found: list[LlmReply] = list(replies(client, requests, "judge"))
    require_use(found, client, endpoint, WHERE)
    judge = Judge(client.name, str(endpoint.base_url), "explained")
    if material.comparison is None:
        return judge, list(judgements([a.case for a in material.answered], found))
    return judge, list(preferences([f.contest for f in material.faced], found))


def _by_weights(material: Material, rule: str, weights: str) -> tuple[Judge, list[Judgement] | list[Preference]]:
    from fieldwise.engine.opening import open_weights
    from fieldwise.judge.next_token import judge_cases, judge_contests

    engine, digest = open_weights(weights)
    judge = Judge(Path(weights).name, f"weights {digest[:12]}", "next token")
    with closing(engine):
        if material.comparison is None:
            told = [a.case for a in material.answered]
            return judge, list(track(judge_cases(engine, told, rule), "judge", len(told)))
        facing = [f.contest for f in material.faced]
        return judge, list(track(judge_contests(engine, facing, rule), "judge", len(facing)))


def _report(
    judge: Judge,
    rule: str,
    material: Material,
    verdicts: Sequence[Judgement] | Sequence[Preference],
    labels: Labels | None,
    seed: int,
) -> JudgeReport:
    digests = material.predictions
    if material.comparison is None:
        one_by_one = [v for v in verdicts if isinstance(v, Judgement)]
        return rubric_report(judge, rule, digests, material.answered, one_by_one, labels, seed)
    beside = [v for v in verdicts if isinstance(v, Preference)]
    same = material.comparison.same
    return pairwise_report(judge, rule, digests, material.names, material.faced, beside, same, labels, seed)


def _rows(material: Material, verdicts: Sequence[Judgement] | Sequence[Preference]) -> Sequence[dict[str, JsonValue]]:
    """Every verdict with its question and answers, for people who look whether the judge is right."""
    rows: list[dict[str, JsonValue]] = []
    for one, verdict in zip(material.answered, verdicts, strict=False):
        case = one.case
        rows.append(
            {
                "id": case.id.removeprefix(f"{one.system}/"),
                "system": one.system,
                "question": case.question,
                "known_answer": case.reference,
                "answer": case.answer,
                **verdict.model_dump(mode="json", exclude={"id"}),
            }
        )
    for two, verdict in zip(material.faced, verdicts, strict=False):
        assert isinstance(verdict, Preference)
        first, second = material.names
        rows.append(
            {
                "id": two.contest.id,
                "question": two.contest.question,
                "known_answer": two.contest.reference,
                first: two.contest.first,
                second: two.contest.second,
                "outcome": verdict.outcome,
                **verdict.model_dump(mode="json", exclude={"id"}),
            }
        )
    return rows


def require_judge(settings: JudgeSettings | None) -> JudgeSettings:
    """Return the settings of a judge that can be asked; raises FieldwiseError: nothing goes where nobody named."""
    endpoint = None if settings is None else settings.endpoint
    if settings is None or endpoint is None or endpoint.base_url is None or endpoint.model is None:
        missing = "the model" if endpoint is not None and endpoint.base_url is not None else "the endpoint"
        raise FieldwiseError(
            f"{missing} of the judge is not named",
            where="judge",
            fix="Name it with --endpoint URL --model NAME, with evaluate.judge in the recipe, or judge with local weights: --weights PLACE. Nothing is sent anywhere that you do not name.",
        )
    return settings
