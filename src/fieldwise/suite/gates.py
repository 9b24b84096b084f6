"""What the suites of a release must reach: no new critical failure, no loss against the base, a level where one is set."""

from __future__ import annotations

import math
from typing import NamedTuple

from fieldwise.evaluate.power import needed_n, passes_from
from fieldwise.evaluate.report import LEAST_ITEMS
from fieldwise.evaluate.settings import SuiteSettings
from fieldwise.evaluate.statistics import Estimate, degrees_of_freedom, p_beyond, paired_difference
from fieldwise.evaluate.unscored import told_unscored
from fieldwise.records import GateResult
from fieldwise.suite.run import ItemResult, SuiteResult, Verdict, share

_SAMPLES, _SEED = 2000, 0
_SHOWN_IDS = 8


class Paired(NamedTuple):
    """What a system reached in a suite beside the base, and the items that the shares leave out."""

    system: str
    result: SuiteResult
    base: SuiteResult
    left_out: frozenset[str] = frozenset()

    @property
    def items(self) -> list[ItemResult]:
        """The items that count."""
        return [i for i in self.result.items if i.id not in self.left_out]


def judge_suite(wanted: SuiteSettings, pair: Paired) -> list[GateResult]:
    """Return the verdicts on one system in one suite; put those of all suites together with `as_family`."""
    found = [_critical(pair)] if any(c.is_critical for i in pair.result.items for c in i.checks) else []
    found.append(_loss(wanted, pair))
    if wanted.at_least is not None:
        found.append(_level(wanted.at_least, pair))
    return found


def _named(pair: Paired, what: str) -> str:
    return f"{pair.system} on {pair.result.suite}: {what}"


def _metric(pair: Paired) -> str:
    return f"suite {pair.result.suite}"


def _critical(pair: Paired) -> GateResult:
    """Every critical failure that the base does not have fails, quarantined or not; one without a score decides nothing."""
    before = {i.id for i in pair.base.critical}
    failed = [i.id for i in pair.result.critical]
    new = [i for i in failed if i not in before]
    unscored = sum(any(c.is_critical and c.value is None for c in i.checks) for i in pair.result.items)
    asked = sum(any(c.is_critical for c in i.checks) for i in pair.result.items)
    kept = f"{len(failed) - len(new)} that the base has as well"
    listed = ", ".join(new[:_SHOWN_IDS]) + (", ..." if len(new) > _SHOWN_IDS else "")
    found = f"{len(new)} new of {asked} critical items{f' ({listed})' if new else ''}; {kept}"
    if unscored:
        found += f"; {unscored} without a score"
    return GateResult(
        metric=_metric(pair),
        verdict="FAIL" if new else "INCONCLUSIVE" if unscored else "PASS",
        requirement=_named(pair, "no critical failure that the base does not have"),
        found=found,
    )


def _loss(wanted: SuiteSettings, pair: Paired) -> GateResult:
    """The paired difference of the shares passed: a loss beyond chance fails; with a margin it must be shown to be small."""
    margin = wanted.margin
    what = "no loss beyond chance against the base"
    if margin is not None:
        what = f"share passed not worse than base by more than {margin:g}"
    requirement, left = _named(pair, what), _left_out(pair)
    base = {i.id: i for i in pair.base.items}
    both = [
        (i, base[i.id])
        for i in pair.items
        if i.is_passed is not None and i.id in base and base[i.id].is_passed is not None
    ]
    if len(both) < LEAST_ITEMS or told_unscored(len(pair.items) - len(both), len(pair.items)):
        found = f"{len(both)} of {len(pair.items)} items scored for both{left}"
        need = LEAST_ITEMS if len(both) < LEAST_ITEMS else None
        return GateResult(
            metric=_metric(pair), verdict="INCONCLUSIVE", requirement=requirement, found=found, need_n=need
        )
    after, before = [float(bool(i.is_passed)) for i, _ in both], [float(bool(b.is_passed)) for _, b in both]
    names = [i.cluster for i, _ in both]
    estimate = paired_difference(after, before, names, _SAMPLES, _SEED, is_bounded=True)
    freedom, is_same = degrees_of_freedom(names), after == before
    shown = f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}], n={len(both)}{left}"
    limit = -(margin or 0.0)

    def result(verdict: Verdict, found: str, against: float, need_n: int | None = None) -> GateResult:
        return GateResult(
            metric=_metric(pair),
            verdict=verdict,
            requirement=requirement,
            found=found,
            need_n=need_n,
            passes_from=None if margin is None else passes_from(estimate, limit),
            p=_p(estimate, against, freedom),
        )

    if estimate.high < 0 and estimate.value < limit:
        return result("FAIL", f"{shown}, a loss beyond chance", 0.0)
    if margin is None or is_same or estimate.low > limit:
        return result("PASS", shown, limit)
    return result("INCONCLUSIVE", shown, limit, needed_n(len(both), estimate, limit))


def _p(found: Estimate, limit: float, freedom: float = math.inf) -> float:
    """One-sided p-value that the truth reaches a limit."""
    p = p_beyond(found, limit, freedom)
    return p if found.value < limit else 1 - p


def _level(at_least: float, pair: Paired) -> GateResult:
    requirement = _named(pair, f"share passed at least {at_least:g}")
    passed = share(pair.items)
    if passed.value is None or passed.low is None or passed.high is None or passed.n < LEAST_ITEMS:
        return GateResult(
            metric=_metric(pair),
            verdict="INCONCLUSIVE",
            requirement=requirement,
            found=f"{passed.n} scored items{_left_out(pair)}",
            need_n=LEAST_ITEMS,
        )
    shown = f"{passed.value:.3f} [{passed.low:.3f}, {passed.high:.3f}], n={passed.n}{_left_out(pair)}"
    estimate = Estimate(passed.value, passed.low, passed.high)
    if estimate.low >= at_least:
        return GateResult(metric=_metric(pair), verdict="PASS", requirement=requirement, found=shown)
    if estimate.high < at_least:
        p = _p(estimate, at_least)
        return GateResult(metric=_metric(pair), verdict="FAIL", requirement=requirement, found=shown, p=p)
    need = needed_n(passed.n, estimate, at_least)
    return GateResult(metric=_metric(pair), verdict="INCONCLUSIVE", requirement=requirement, found=shown, need_n=need)


def _left_out(pair: Paired) -> str:
    count = sum(i.id in pair.left_out for i in pair.result.items)
    return f"; {count} flaky {'item' if count == 1 else 'items'} left out" if count else ""
