"""What the verdicts of a judge say about systems, with intervals, beside what the judge itself is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from fieldwise.compare.judge_card import (
    SAMPLES,
    JudgeCard,
    Labelled,
    OwnScore,
    agreement,
    effects,
    made,
    order_consistency,
    self_preference,
    standing,
)
from fieldwise.compare.judge_labels import Labels
from fieldwise.compare.judging import Answered, Faced
from fieldwise.evaluate.preference import Judged
from fieldwise.evaluate.statistics import bounded_mean, clustered_share, paired_difference, sign_test
from fieldwise.judge.pairwise import OUTCOMES, Preference
from fieldwise.judge.rubric import Judgement
from fieldwise.records import Interval, Record

_DECIDED = ("first", "second", "tie")


class Judge(NamedTuple):
    """Who judged: its name, where it runs, whether it explains itself, and which judged systems are its own model."""

    name: str
    place: str
    how: Literal["explained", "next token"]
    own: tuple[str, ...] = ()


class SystemVerdicts(Record):
    """The verdicts on one system."""

    system: str
    answers: int
    right: int
    wrong: int
    cannot_tell: int
    not_scored: int
    share_right: Interval = Field(description="of the answers judged right or wrong")
    difference: Interval | None = Field(
        None, description="share right less that of the first system, on questions decided for both"
    )


class PairVerdicts(Record):
    """The verdicts on two systems beside each other."""

    first: str
    second: str
    contests: int
    outcomes: dict[str, int] = Field(description="contests by outcome; only the consistent ones count")
    same_answers: int = Field(description="questions both answered with the same words: not asked")
    share: Interval = Field(description="share of the counted contests for the first, ties half")
    p: float | None = Field(None, description="exact sign test of wins against losses")


class JudgeReport(Record):
    """Everything one judge said about the predictions of a run."""

    mode: Literal["rubric", "pairwise"]
    judge: str
    place: str
    rule: str = ""
    predictions: dict[str, str] = Field(description="SHA-256 of the predictions, by system")
    systems: tuple[SystemVerdicts, ...] = ()
    pair: PairVerdicts | None = None
    card: JudgeCard
    labels_aside: tuple[str, ...] = ()
    at_least: float | None = None
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"] | None = Field(
        None, description="against at_least, where it was asked for"
    )
    method: str = "Cannot tell, inconsistent and not scored verdicts are counted apart and decide nothing. 95 % intervals over documents."

    @property
    def exit_code(self) -> int:
        """0 where nothing was asked for or it passed, 3 FAIL, 4 INCONCLUSIVE."""
        return {None: 0, "PASS": 0, "FAIL": 3, "INCONCLUSIVE": 4}[self.verdict]


# ---------------------------------------------------------------- one by one


def rubric_report(
    judge: Judge,
    rule: str,
    predictions: dict[str, str],
    answered: Sequence[Answered],
    judgements: Sequence[Judgement],
    labels: Labels | None,
    seed: int,
) -> JudgeReport:
    """Return what verdicts on single answers say."""
    decided = {
        (a.system, _question(a)): float(j.verdict == "right")
        for a, j in zip(answered, judgements, strict=True)
        if j.verdict in ("right", "wrong")
    }
    clusters = {_question(a): a.cluster for a in answered}
    names = list(dict.fromkeys(a.system for a in answered))
    systems = []
    for name in names:
        mine = [j for a, j in zip(answered, judgements, strict=True) if a.system == name]
        systems.append(_system(name, names[0], mine, decided, clusters, seed))
    own = [n for n in names if n in judge.own]
    items, own_scores = _rubric_labels(answered, judgements, labels, own)
    agreed = agreement(items, len(labels.by_item), labels.source, seed) if labels is not None else None
    card = _card(judge, "rubric", [(j.verdict, j.problem) for j in judgements], own).model_copy(
        update={"self_preference": self_preference(own_scores, seed), "agreement": agreed, **standing(agreed)._asdict()}
    )
    return JudgeReport(
        mode="rubric",
        judge=judge.name,
        place=judge.place,
        rule=rule,
        predictions=predictions,
        systems=tuple(systems),
        card=card,
        labels_aside=tuple(labels.aside) if labels else (),
    )


def _question(answered: Answered) -> str:
    return answered.case.id.removeprefix(f"{answered.system}/")


def _system(
    name: str,
    reference: str,
    judgements: Sequence[Judgement],
    decided: dict[tuple[str, str], float],
    clusters: dict[str, str],
    seed: int,
) -> SystemVerdicts:
    counts = Counter(j.verdict for j in judgements)
    scores = {q: v for (s, q), v in decided.items() if s == name}
    share = Interval(value=None, unscored=len(judgements), method="nothing decided")
    if scores:
        found = clustered_share(list(scores.values()), [clusters[q] for q in scores])
        share = made(found, len(scores), "clustered share", len(judgements) - len(scores))
    both = [q for q in scores if (reference, q) in decided] if name != reference else []
    difference = None
    if both:
        before = [decided[reference, q] for q in both]
        moved = paired_difference([scores[q] for q in both], before, [clusters[q] for q in both], SAMPLES, seed)
        difference = made(moved, len(both), "paired, cluster bootstrap")
    return SystemVerdicts(
        system=name,
        answers=len(judgements),
        right=counts["right"],
        wrong=counts["wrong"],
        cannot_tell=counts["cannot tell"],
        not_scored=counts[None],
        share_right=share,
        difference=difference,
    )


def _rubric_labels(
    answered: Sequence[Answered], judgements: Sequence[Judgement], labels: Labels | None, own: Sequence[str]
) -> tuple[list[Labelled], list[OwnScore]]:
    """Labelled answers the judge decided; a person's "cannot tell" is a label of its own there."""
    items, scores = [], []
    for one, judgement in zip(answered, judgements, strict=True):
        label = labels.by_item.get(one.case.id) if labels is not None else None
        if label is None or judgement.verdict not in ("right", "wrong"):
            continue  # decides nothing: counting it where a person could not tell either would flatter the judge
        items.append(Labelled(judgement.verdict, label, one.cluster))
        if one.system in own and label != "cannot tell":
            scores.append(OwnScore(float(judgement.verdict == "right"), float(label == "right"), one.cluster))
    return items, scores


# ---------------------------------------------------------------- two beside each other


def pairwise_report(
    judge: Judge,
    rule: str,
    predictions: dict[str, str],
    names: tuple[str, str],
    faced: Sequence[Faced],
    preferences: Sequence[Preference],
    same_answers: int,
    labels: Labels | None,
    seed: int,
) -> JudgeReport:
    """Return what verdicts on two answers beside each other say about the first system."""
    clusters = [f.cluster for f in faced]
    outcomes = Counter(p.outcome for p in preferences)
    counted = [(p.outcome, c) for p, c in zip(preferences, clusters, strict=True) if p.outcome in _DECIDED]
    share = Interval(value=None, unscored=len(preferences), method="nothing decided")
    if counted:
        found = bounded_mean([_points(o) for o, _ in counted], [c for _, c in counted], SAMPLES, seed)
        share = made(found, len(counted), "cluster bootstrap", len(preferences) - len(counted))
    pair = PairVerdicts(
        first=names[0],
        second=names[1],
        contests=len(preferences),
        outcomes={o: outcomes[o] for o in OUTCOMES},
        same_answers=same_answers,
        share=share,
        p=sign_test(outcomes["first"], outcomes["second"]) if counted else None,
    )
    own = [n for n in names if n in judge.own]
    items, own_scores = _pair_labels(names, faced, preferences, labels, own)
    agreed = agreement(items, len(labels.by_item), labels.source, seed) if labels is not None else None
    both = [p.outcome in _DECIDED for p in preferences if p.outcome in (*_DECIDED, "inconsistent")]
    kept = [c for p, c in zip(preferences, clusters, strict=True) if p.outcome in (*_DECIDED, "inconsistent")]
    first_place, verbosity = effects(_votes(names, faced, preferences), seed)
    card = _card(judge, "pairwise", [(_told(p), p.problem) for p in preferences], own).model_copy(
        update={
            "order_consistency": order_consistency(both, kept),
            "first_place": first_place,
            "verbosity": verbosity,
            "self_preference": self_preference(own_scores, seed),
            "agreement": agreed,
            **standing(agreed)._asdict(),
        }
    )
    return JudgeReport(
        mode="pairwise",
        judge=judge.name,
        place=judge.place,
        rule=rule,
        predictions=predictions,
        pair=pair,
        card=card,
        labels_aside=tuple(labels.aside) if labels else (),
    )


def _points(outcome: str) -> float:
    return {"first": 1.0, "tie": 0.5}.get(outcome, 0.0)


def _told(preference: Preference) -> str | None:
    return None if preference.outcome == "not scored" else preference.outcome


def _votes(names: tuple[str, str], faced: Sequence[Faced], preferences: Sequence[Preference]) -> list[Judged]:
    """The verdicts of single orders, as votes with the first place on the left."""
    votes = []
    for one, preference in zip(faced, preferences, strict=True):
        words = sum(one.words)
        longer = (one.words[0] - one.words[1]) / words if words else 0.0
        winners = {"first": names[0], "second": names[1], "tie": None}
        for given, is_turned in ((preference.first_shown, False), (preference.second_shown, True)):
            if given in winners:
                left, right = (names[1], names[0]) if is_turned else names
                votes.append(Judged(left, right, winners[given], one.contest.id, -longer if is_turned else longer))
    return votes


def _pair_labels(
    names: tuple[str, str],
    faced: Sequence[Faced],
    preferences: Sequence[Preference],
    labels: Labels | None,
    own: Sequence[str],
) -> tuple[list[Labelled], list[OwnScore]]:
    items, scores = [], []
    by_outcome = {"first": names[0], "second": names[1], "tie": "tie"}
    for one, preference in zip(faced, preferences, strict=True):
        label = labels.by_item.get(one.contest.id) if labels is not None else None
        verdict = by_outcome.get(preference.outcome)
        if label is None or verdict is None:
            continue
        items.append(Labelled(verdict, label, one.cluster))
        if len(own) == 1:
            judge, human = (1.0 if v == own[0] else 0.5 if v == "tie" else 0.0 for v in (verdict, label))
            scores.append(OwnScore(judge, human, one.cluster))
    return items, scores


def _card(
    judge: Judge,
    mode: Literal["rubric", "pairwise"],
    told: Sequence[tuple[str | None, str]],
    own: Sequence[str],
) -> JudgeCard:
    problems = Counter(problem or "no_verdict" for verdict, problem in told if verdict is None)
    return JudgeCard(
        judge=judge.name,
        how=judge.how,
        mode=mode,
        asked=len(told),
        scored=sum(verdict is not None for verdict, _ in told),
        cannot_tell=sum(verdict == "cannot tell" for verdict, _ in told),
        not_scored=dict(problems.most_common()),
        judges_itself=tuple(own),
        may_gate=False,
        why="",
    )


# ---------------------------------------------------------------- a gate


def with_gate(report: JudgeReport, at_least: float) -> JudgeReport:
    """Return the report judged against a share: every system's share right, or the first system's of a pair.

    Call `judge_card.require_gating` first: a judge of unknown worth decides nothing.
    """
    shares = [s.share_right for s in report.systems] if report.pair is None else [report.pair.share]
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"] = "PASS"
    for share in shares:
        if share.high is not None and share.high < at_least:
            verdict = "FAIL"
        elif (share.low is None or share.low < at_least) and verdict != "FAIL":
            verdict = "INCONCLUSIVE"
    return report.model_copy(update={"at_least": at_least, "verdict": verdict})


# ---------------------------------------------------------------- as text


def plain(report: JudgeReport) -> str:
    """The result for a terminal."""
    lines = [f"Judged by {report.judge} ({report.place}), {report.card.mode}, {report.card.how}", ""]
    lines += _system_lines(report.systems) if report.pair is None else _pair_lines(report.pair)
    lines += ["", "The judge:", *(f"  {line}" for line in _card_lines(report.card))]
    if report.labels_aside:
        lines.append(f"  {len(report.labels_aside)} lines of labels left aside:")
        lines += [f"    {line}" for line in report.labels_aside[:10]]
    if report.verdict is not None:
        lines += ["", f"{report.verdict}: at least {report.at_least:.0%} by the lower end of the interval"]
    return "\n".join(lines)


def _system_lines(systems: Sequence[SystemVerdicts]) -> list[str]:
    wide = max(6, *(len(s.system) for s in systems))
    head = f"{'system':{wide}}  right  wrong  cannot tell  not scored  share right          less {systems[0].system}"
    lines = [head if len(systems) > 1 else head.rpartition("  less")[0].rstrip()]
    for s in systems:
        moved = range_of(s.difference, "+.0%") if s.difference is not None else ""
        lines.append(
            f"{s.system:{wide}}  {s.right:5}  {s.wrong:5}  {s.cannot_tell:11}  {s.not_scored:10}  {range_of(s.share_right, '.0%'):19}  {moved}".rstrip()
        )
    return lines


def _pair_lines(pair: PairVerdicts) -> list[str]:
    o = pair.outcomes
    lines = [
        f"{pair.first} against {pair.second}: {o['first']} for {pair.first}, {o['tie']} ties, {o['second']} for {pair.second}",
        f"  not counted: {o['inconsistent']} that changed with the order, {o['cannot tell']} cannot tell, {o['not scored']} not scored",
        f"  share of {pair.first}, ties half: {range_of(pair.share, '.0%')}"
        + (f", p = {pair.p:.2g}" if pair.p is not None else ""),
    ]
    if pair.same_answers:
        lines.append(f"  {pair.same_answers} questions were answered in the same words and not asked")
    return lines


def _card_lines(card: JudgeCard) -> list[str]:
    lines = [card.why]
    if card.agreement is not None:
        found = card.agreement
        lines.append(
            f"{found.compared} of {found.labels} labels ({found.source}) compared, {range_of(found.same, '.0%')} the same"
        )
    told = ", ".join(f"{n} {reason}" for reason, n in card.not_scored.items())
    lines.append(f"{card.scored} of {card.asked} scored" + (f"; not scored: {told}" if told else ""))
    if card.order_consistency is not None:
        lines.append(f"same verdict in both orders: {range_of(card.order_consistency, '.0%')}")
    if card.first_place is not None:
        lines.append(f"standing first is worth {range_of(card.first_place, '+.2f')} in log-odds")
    if card.verbosity is not None:
        lines.append(f"twice the words are worth {range_of(card.verbosity, '+.2f')} in log-odds")
    if card.judges_itself:
        found_own = (
            f"gives it {range_of(card.self_preference, '+.0%')} beyond people"
            if card.self_preference is not None
            else "by how much it prefers itself shows only beside human labels"
        )
        lines.append(f"judges its own model ({', '.join(card.judges_itself)}): {found_own}")
    return lines


def range_of(figure: Interval, form: str) -> str:
    """A figure with its interval."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "-"
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"
