"""The result of a blind comparison: who is preferred, how sure that is, and how many votes are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from fieldwise.compare.checks import checks
from fieldwise.compare.comparison import Comparison
from fieldwise.compare.votes import Ledger, Standing, Vote, judged, standing
from fieldwise.evaluate.agreement import agreement
from fieldwise.evaluate.preference import Strengths, more_votes, share, strengths
from fieldwise.evaluate.statistics import Estimate
from fieldwise.records import Interval, Record

WIDTH = 0.2
_SAMPLES = 1000
METHOD = (
    "Davidson's model of paired comparisons with ties (1970); both bad counts as a tie. 95 % intervals by drawing whole "
    "questions, never narrower than Wald's. Stopping by the width of the interval, so that looking often does no harm."
)


class ComparedSystem(Record):
    """A system by its name and what made its answers."""

    system: str
    predictions_sha256: str
    made_by: str
    strength: Interval | None = Field(
        None, description="log-odds, summing to 0; None without votes, or while they do not link the systems"
    )


class PairResult(Record):
    """What the votes say about two systems."""

    first: str
    second: str
    votes: int
    questions: int
    prefers_first: int
    ties: int
    both_bad: int
    prefers_second: int
    share: Interval = Field(description="share of the votes for the first, ties half; 0.5 is no preference")
    verdict: Literal["first", "second", "no difference shown", "no votes"]
    more_votes: int = Field(description="about how many more bring the interval to the width asked for; 0 is enough")
    questions_left: int = Field(description="questions with two answers that nobody has voted on")


class VoterCount(Record):
    """What one voter gave."""

    voter: str
    votes: int
    skipped: int


class CheckResult(Record):
    """One look at whether the votes can be trusted; see checks.py."""

    check: str
    voter: str | None
    state: Literal["ok", "look"]
    found: str


class VoteReport(Record):
    """Everything the votes on one comparison say."""

    systems: tuple[ComparedSystem, ...]
    votes: int
    voters: tuple[VoterCount, ...]
    without: tuple[str, ...] = Field((), description="voters left out on request")
    withdrawn: int
    same_answers: int = Field(description="questions of a pair never shown: both answers are the same to the eye")
    width: float
    pairs: tuple[PairResult, ...]
    tie_parameter: Interval | None = Field(None, description="Davidson's v: 1 makes a tie of equals as likely as a win")
    length_effect: Interval | None = Field(None, description="log-odds won by an answer of twice the words")
    left_effect: Interval | None = Field(None, description="log-odds won by standing on the left")
    strengths_at_equal_length: dict[str, Interval] = Field(
        default_factory=dict, description="with length and side taken out"
    )
    shared_items: int = Field(description="items that several voters judged")
    same_votes: float | None = Field(description="share of pairs of voters of one mind on these")
    agreement: Interval | None = Field(description="Krippendorff's alpha, nominal")
    checks: tuple[CheckResult, ...]
    method: str = METHOD

    @property
    def is_enough(self) -> bool:
        """Whether every pair's interval is as narrow as asked."""
        return all(p.more_votes == 0 for p in self.pairs)


class Counted(NamedTuple):
    """The votes behind a report, some voters left out."""

    standing: Standing
    ledger: Ledger
    without: tuple[str, ...]


def count_votes(comparison: Comparison, ledger: Ledger, without: Collection[str] = ()) -> Counted:
    """Sort the votes on a comparison, without those of some voters."""
    left_out = {w.casefold() for w in without}
    kept = [v for v in ledger.votes if v.who not in left_out]
    return Counted(standing(kept, comparison), ledger, tuple(sorted(without)))


def report(comparison: Comparison, counted: Counted, width: float = WIDTH, seed: int = 0) -> VoteReport:
    """Return what the votes say; a function of the votes and answers alone."""
    found = counted.standing
    votes = found.counted
    names = sorted({side.system for v in votes for side in (v.left, v.right)})
    plain = strengths(names, [judged(v) for v in votes], _SAMPLES, seed) if votes else None
    adjusted = strengths(names, [judged(v) for v in votes], _SAMPLES, seed, adjusted=True) if votes else None
    units = _units(votes)
    agreed = agreement(units, _SAMPLES, seed)
    return VoteReport(
        systems=tuple(_system(comparison, name, plain, votes) for name in sorted(comparison.systems)),
        votes=len(votes),
        voters=_voters(found),
        without=counted.without,
        withdrawn=counted.ledger.withdrawn,
        same_answers=comparison.same,
        width=width,
        pairs=tuple(_pair(comparison, pair, votes, width, seed) for pair in comparison.pairs),
        tie_parameter=_interval(plain.ties if plain else None, len(votes)),
        length_effect=_interval(adjusted.length if adjusted else None, len(votes)),
        left_effect=_interval(adjusted.left if adjusted else None, len(votes)),
        strengths_at_equal_length={
            name: _made(e, len(votes)) for name, e in ((adjusted.strengths if adjusted else None) or {}).items()
        },
        shared_items=agreed.items,
        same_votes=agreed.same,
        agreement=_interval(agreed.alpha, agreed.items),
        checks=tuple(CheckResult(**c._asdict()) for c in checks(found, counted.ledger.unreadable)),
    )


def _interval(estimate: Estimate | None, n: int) -> Interval | None:
    return None if estimate is None else _made(estimate, n)


def _made(estimate: Estimate, n: int) -> Interval:
    return Interval(value=estimate.value, low=estimate.low, high=estimate.high, n=n, method="question bootstrap")


def _system(comparison: Comparison, name: str, fit: Strengths | None, votes: Sequence[Vote]) -> ComparedSystem:
    system = comparison.systems[name]
    n = sum(name in (v.left.system, v.right.system) for v in votes)
    strength = fit.strengths.get(name) if fit is not None and fit.strengths is not None else None
    return ComparedSystem(
        system=name,
        predictions_sha256=system.sha256,
        made_by=system.made_by,
        strength=_interval(strength, n),
    )


def _voters(found: Standing) -> tuple[VoterCount, ...]:
    votes, skipped = Counter(v.who for v in found.counted), Counter(v.who for v in found.skipped)
    names = {v.who: v.voter for v in [*found.skipped, *found.counted]}
    return tuple(VoterCount(voter=names[w], votes=votes[w], skipped=skipped[w]) for w in sorted(names))


def _pair(comparison: Comparison, pair: tuple[str, str], votes: Sequence[Vote], width: float, seed: int) -> PairResult:
    first, second = pair
    mine = [v for v in votes if {v.left.system, v.right.system} == {first, second}]
    found = share(first, [judged(v) for v in mine], _SAMPLES, seed) if mine else None
    voted = {v.question_id for v in mine}
    verdict: Literal["first", "second", "no difference shown", "no votes"] = "no votes"
    if found is not None:
        verdict = "first" if found.low > 0.5 else "second" if found.high < 0.5 else "no difference shown"
    return PairResult(
        first=first,
        second=second,
        votes=len(mine),
        questions=len(voted),
        prefers_first=sum(v.winner == first for v in mine),
        ties=sum(v.choice == "tie" for v in mine),
        both_bad=sum(v.choice == "both_bad" for v in mine),
        prefers_second=sum(v.winner == second for v in mine),
        share=_interval(found, len(mine)) or Interval(value=None, method="no votes"),
        verdict=verdict,
        more_votes=more_votes(len(mine), found, width),
        questions_left=sum((i.first, i.second) == pair and i.question_id not in voted for i in comparison.items),
    )


def _units(votes: Sequence[Vote]) -> list[list[str]]:
    """What each item's voters preferred; both bad and tie are one value, as in the strengths."""
    units: dict[str, list[str]] = {}
    for vote in votes:
        units.setdefault(vote.item, []).append(vote.winner or "tie")
    return list(units.values())


# ---------------------------------------------------------------- as text


def plain(report: VoteReport) -> str:
    """The result for a terminal."""
    lines = [_head(report), ""]
    voted = [p for p in report.pairs if p.votes]
    for pair in voted:
        lines += _pair_lines(pair, report.width)
    if unvoted := [p for p in report.pairs if not p.votes]:
        lines += [_unvoted_line(unvoted, report.width), ""]
    lines += _strength_lines(report)
    lines += _effect_lines(report)
    if suspects := [c for c in report.checks if c.state == "look"]:
        lines += ["", "Look at:"]
        lines += [f"  {c.check.replace('_', ' ')}{f', {c.voter}' if c.voter else ''}: {c.found}" for c in suspects]
        if any(c.voter for c in suspects):
            lines.append("  A voter is left out with --without NAME.")
    return "\n".join(lines)


def _head(report: VoteReport) -> str:
    given = ", ".join(f"{v.voter} {v.votes}{f' (+{v.skipped} skipped)' if v.skipped else ''}" for v in report.voters)
    parts = [f"{_many(report.votes, 'vote')} by {_many(len(report.voters), 'voter')}" + (f": {given}" if given else "")]
    if report.without:
        parts.append(f"without {', '.join(report.without)}")
    if report.same_answers:
        parts.append(f"{_many(report.same_answers, 'question')} not shown, the answers being the same")
    return "; ".join(parts) + "."


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _pair_lines(pair: PairResult, width: float) -> list[str]:
    verdicts = {
        "first": f"{pair.first} is preferred",
        "second": f"{pair.second} is preferred",
    }
    named, found = (pair.second, _turned(pair.share)) if pair.verdict == "second" else (pair.first, pair.share)
    counts = f"{pair.prefers_first} for {pair.first}, {pair.ties} ties, {pair.both_bad} both bad, {pair.prefers_second} for {pair.second}"
    lines = [
        f"{pair.first} against {pair.second}: {verdicts.get(pair.verdict, 'no difference shown')}",
        f"  {counts}; {_many(pair.votes, 'vote')} on {_many(pair.questions, 'question')}",
        f"  share of {named}, ties half: {_range(found, '.0%')}",
    ]
    if pair.more_votes == 0:
        return [*lines, f"  enough: the interval is no wider than {width:.0%}", ""]
    needed = f"  about {pair.more_votes} more votes for an interval of {width:.0%}"
    if pair.more_votes > pair.questions_left:
        needed += f"; only {_many(pair.questions_left, 'question')} without a vote: more questions are needed too"
    return [*lines, needed, ""]


def _turned(share: Interval) -> Interval:
    """The other system's share."""
    assert share.value is not None and share.low is not None and share.high is not None
    return share.model_copy(update={"value": 1 - share.value, "low": 1 - share.high, "high": 1 - share.low})


def _unvoted_line(pairs: Sequence[PairResult], width: float) -> str:
    named = ", ".join(f"{p.first} against {p.second}" for p in pairs[:3])
    more = f" and {len(pairs) - 3} more pairs" if len(pairs) > 3 else ""
    return f"No votes on {named}{more}; about {pairs[0].more_votes} each for an interval of {width:.0%}."


def _range(figure: Interval, form: str) -> str:
    assert figure.value is not None and figure.low is not None and figure.high is not None
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"


def _strength_lines(report: VoteReport) -> list[str]:
    ranked = [s for s in report.systems if s.strength is not None]
    if sum(p.votes > 0 for p in report.pairs) < 2:
        return []
    if not ranked:
        return ["Strengths: the votes do not link the systems yet."]
    ranked.sort(key=lambda s: -(s.strength.value or 0.0) if s.strength else 0.0)
    wide = max(len(s.system) for s in ranked)
    return [
        "Strengths (Bradley-Terry with ties, log-odds; 0 is the mean):",
        *(f"  {s.system:{wide}}  {_range(s.strength, '+.2f')}" for s in ranked if s.strength),
    ]


def _effect_lines(report: VoteReport) -> list[str]:
    lines = []
    if report.length_effect is not None:
        says = _says(report.length_effect, "longer answers win more", "shorter answers win more")
        lines.append(f"Length: log-odds of an answer of twice the words {_range(report.length_effect, '+.2f')}: {says}")
    if report.left_effect is not None:
        says = _says(report.left_effect, "the left place helps", "the right place helps")
        lines.append(f"Side: log-odds of the left place {_range(report.left_effect, '+.2f')}: {says}")
    if report.agreement is not None:
        lines.append(
            f"Agreement: Krippendorff's alpha {_range(report.agreement, '.2f')} on {_many(report.shared_items, 'item')} judged by several"
        )
    elif report.votes:
        lines.append(
            f"Agreement: {_many(report.shared_items, 'item')} judged by several voters, too few or too alike to say"
        )
    return lines


def _says(effect: Interval, above: str, below: str) -> str:
    assert effect.low is not None and effect.high is not None
    return above if effect.low > 0 else below if effect.high < 0 else "no effect shown"
