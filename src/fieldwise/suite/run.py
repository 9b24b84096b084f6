"""Ask the items of a suite, score the replies, and sum up.

Every reply is written to a ledger at once, under what was asked and who replied: killed at any moment and run again,
nothing that was answered is asked a second time. Items without a reply are not scored, which is not "wrong".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, JsonValue, ValidationError

from fieldwise.evaluate.statistics import bootstrap_mean, clustered_share, wilson
from fieldwise.evaluate.unscored import told_unscored
from fieldwise.files import append_jsonl, read_ledger
from fieldwise.hashing import content_id
from fieldwise.progress import track
from fieldwise.records import Interval, Record
from fieldwise.suite.checks import score
from fieldwise.suite.items import DIFFICULTIES, Finding, Item, Reply, Skipped, Suite
from fieldwise.suite.respondents import Asked, Respondent

_SAMPLES, _SEED = 2000, 0
Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]


class Scored(Record):
    """One check of one item."""

    check: str
    value: float | None
    why: str = ""
    is_critical: bool = False
    parts: dict[str, float] = Field(default_factory=dict)


class ItemResult(Record):
    """One item with its reply; `is_passed` None: not scored."""

    id: str
    asked: str
    domain: str = ""
    kind: str = ""
    difficulty: str = ""
    reply: Reply
    checks: tuple[Scored, ...]
    is_passed: bool | None
    cluster: str

    @property
    def critical(self) -> list[Scored]:
        """The critical checks that fail."""
        return [c for c in self.checks if c.is_critical and c.value == 0]


class Spent(Record):
    """The tokens of the replies of a suite, as whoever replied counts them, and what they cost."""

    items: int = Field(description="whose tokens were counted")
    prompt_tokens: int
    completion_tokens: int
    price: float | None = Field(None, description="in the currency of the prices; None where none were named")


class SuiteResult(Record):
    """What a model reached in a suite."""

    suite: str
    version: str
    suite_sha256: str
    model: str
    identity: str
    max_tokens: int
    passed: Interval
    by: dict[str, dict[str, Interval]] = Field(description="domain, kind and difficulty -> name -> share passed")
    checks: dict[str, Interval] = Field(description="check, or check.part -> mean")
    problems: dict[str, int] = Field(description="why items are not scored")
    verdict: Verdict | None = Field(None, description="None: nothing was required")
    reasons: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    spent: Spent | None = Field(None, exclude_if=lambda spent: spent is None)
    items: tuple[ItemResult, ...]

    @property
    def critical(self) -> list[ItemResult]:
        """The items with a critical failure."""
        return [i for i in self.items if i.critical]


# ---------------------------------------------------------------- asking


def ask(suite: Suite, respondent: Respondent, ledger: Path, *, max_tokens: int) -> dict[str, Reply]:
    """Return the reply to every item by its id, asking only what the ledger does not hold for this model."""
    keys = {item.id: content_id("rep", item.key, respondent.identity, max_tokens) for item in suite.items}
    known = _read(ledger)
    # items that ask the same share one reply
    missing = list({keys[i.id]: i for i in suite.items if keys[i.id] not in known}.values())
    asked = [Asked(i.conversation, i.tools) for i in missing]
    replies = track(respondent.reply_all(asked), f"{suite.name}, {respondent.name}", total=len(missing))
    for item, reply in zip(missing, replies, strict=True):
        known[keys[item.id]] = reply
        if not reply.problem:  # what failed is asked again
            row: dict[str, JsonValue] = {
                "key": keys[item.id],
                "item": item.id,
                "model": respondent.identity,
                "reply": reply.model_dump(mode="json"),
            }
            append_jsonl(ledger, row)
    return {item.id: known[keys[item.id]] for item in suite.items}


def _read(ledger: Path) -> dict[str, Reply]:
    found: dict[str, Reply] = {}
    for row in read_ledger(ledger):
        try:
            found[str(row["key"])] = Reply.model_validate(row["reply"])
        except (KeyError, ValidationError):
            continue  # of another version, or torn: it is asked again
    return found


# ---------------------------------------------------------------- scoring


def score_item(item: Item, reply: Reply) -> ItemResult:
    """Apply every check of an item; it passes if all hold, fails if one does not, and else is not scored."""
    findings = [Finding(None, reply.problem) if reply.problem else score(c, reply, item) for c in item.checks]
    checks = tuple(
        Scored(check=c.name, value=f.value, why=f.why, is_critical=c.is_critical, parts=f.parts)
        for c, f in zip(item.checks, findings, strict=True)
    )
    values = [c.value for c in checks]
    is_passed = False if 0 in values else None if None in values else True
    return ItemResult(
        id=item.id,
        asked=item.asked,
        domain=item.domain,
        kind=item.kind,
        difficulty=item.difficulty,
        reply=reply,
        checks=checks,
        is_passed=is_passed,
        cluster=item.cluster,
    )


def sum_up(
    suite: Suite,
    replies: dict[str, Reply],
    respondent: Respondent,
    *,
    max_tokens: int,
    at_least: float | None = None,
) -> SuiteResult:
    """Score the replies and return the figures with their intervals and the verdict."""
    items = tuple(score_item(item, replies[item.id]) for item in suite.items)
    heading = Heading(suite.name, suite.version, suite.sha256, suite.skipped)
    return summed(heading, items, respondent, max_tokens=max_tokens, at_least=at_least)


class Heading(NamedTuple):
    """What was asked, without the items."""

    name: str
    version: str
    sha256: str
    skipped: tuple[Skipped, ...] = ()


def summed(
    heading: Heading,
    items: tuple[ItemResult, ...],
    respondent: Respondent,
    *,
    max_tokens: int,
    at_least: float | None = None,
) -> SuiteResult:
    """Return the figures of scored items with their intervals and the verdict."""
    problems: dict[str, int] = {}
    for item in items:
        if item.is_passed is None:
            why = item.reply.problem or next((c.why for c in item.checks if c.value is None), "")
            problems[why] = problems.get(why, 0) + 1
    passed = share(items)
    verdict, reasons = judge(items, passed, at_least, has_critical=any(c.is_critical for i in items for c in i.checks))
    return SuiteResult(
        suite=heading.name,
        version=heading.version,
        suite_sha256=heading.sha256,
        model=respondent.name,
        identity=respondent.identity,
        max_tokens=max_tokens,
        passed=passed,
        by={
            "domain": _slices(items, lambda i: i.domain),
            "kind": _slices(items, lambda i: i.kind),
            "difficulty": _slices(items, lambda i: i.difficulty, DIFFICULTIES),
        },
        checks=_check_figures(items),
        problems=problems,
        verdict=verdict,
        reasons=tuple(reasons),
        skipped=heading.skipped,
        spent=_spent(items),
        items=items,
    )


def _spent(items: Sequence[ItemResult]) -> Spent | None:
    counted = [i.reply for i in items if i.reply.prompt_tokens]
    if not counted:
        return None
    return Spent(
        items=len(counted),
        prompt_tokens=sum(r.prompt_tokens for r in counted),
        completion_tokens=sum(r.completion_tokens for r in counted),
    )


def share(items: Sequence[ItemResult]) -> Interval:
    """Share of the items passed, with its Wilson interval, widened where items over the same passages agree."""
    kept = [(float(i.is_passed), i.cluster) for i in items if i.is_passed is not None]
    return interval([v for v, _ in kept], [c for _, c in kept], unscored=len(items) - len(kept))


def interval(values: Sequence[float], clusters: Sequence[str], *, unscored: int = 0) -> Interval:
    """Mean of scores with its interval: Wilson for a share, widened where a cluster agrees, else drawn by cluster."""
    if not values:
        return Interval(value=None, n=0, unscored=unscored, method="nothing scored")
    is_share = set(values) <= {0.0, 1.0}
    is_clustered = len(set(clusters)) < len(clusters)
    if not is_share:
        found, method = bootstrap_mean(values, clusters, _SAMPLES, _SEED), "cluster bootstrap"
    elif is_clustered:
        found, method = clustered_share(values, clusters), "Wilson, clustered"
    else:
        found, method = wilson(round(sum(values)), len(values)), "Wilson"
    return Interval(value=found.value, low=found.low, high=found.high, n=len(values), unscored=unscored, method=method)


def _slices(
    items: Sequence[ItemResult], name_of: Callable[[ItemResult], str], order: Sequence[str] = ()
) -> dict[str, Interval]:
    names = list(dict.fromkeys(name_of(i) for i in items if name_of(i)))
    names.sort(key=lambda n: (order.index(n) if n in order else -1, n))
    return {name: share([i for i in items if name_of(i) == name]) for name in names}


def _check_figures(items: Sequence[ItemResult]) -> dict[str, Interval]:
    values: dict[str, list[tuple[float, str]]] = {}
    unscored: dict[str, int] = {}
    for item in items:
        for check in item.checks:
            values.setdefault(check.check, [])
            if check.value is None:
                unscored[check.check] = unscored.get(check.check, 0) + 1
                continue
            values[check.check].append((check.value, item.cluster))
            for part, value in check.parts.items():
                values.setdefault(f"{check.check}.{part}", []).append((value, item.cluster))
    return {
        name: interval([v for v, _ in found], [c for _, c in found], unscored=unscored.get(name, 0))
        for name, found in values.items()
    }


def judge(
    items: Sequence[ItemResult], passed: Interval, at_least: float | None, *, has_critical: bool
) -> tuple[Verdict | None, list[str]]:
    """FAIL for a critical failure or a level not reached, INCONCLUSIVE for too many items without a score.

    None where nothing was required. A critical failure fails whatever is missing beside it.
    """
    verdicts: list[Verdict] = []
    reasons: list[str] = []

    def add(verdict: Verdict, reason: str = "") -> None:
        verdicts.append(verdict)
        reasons.extend([reason] if reason else [])

    if has_critical:
        failed = [i.id for i in items if i.critical]
        add(
            "FAIL" if failed else "PASS",
            f"{len(failed)} critical failure{'s' if len(failed) != 1 else ''}" if failed else "",
        )
    if told := told_unscored(passed.unscored, len(items)):
        add("INCONCLUSIVE", told)
    if at_least is not None and passed.low is not None and passed.high is not None:
        shown = f"[{passed.low:.3f}, {passed.high:.3f}] against at least {at_least:g}"
        add("PASS" if passed.low >= at_least else "FAIL" if passed.high < at_least else "INCONCLUSIVE", shown)
    order: tuple[Verdict, ...] = ("FAIL", "INCONCLUSIVE", "PASS")
    return next((v for v in order if v in verdicts), None), reasons
