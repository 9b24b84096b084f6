"""What suites of a release must reach, on results written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fieldwise.evaluate.report import as_family, overall
from fieldwise.evaluate.settings import SuiteSettings
from fieldwise.records import Message
from fieldwise.suite.gates import Paired, judge_suite
from fieldwise.suite.items import Check, Item, Reply, Suite
from fieldwise.suite.run import SuiteResult, sum_up

CRITICAL = Check(name="not_contains", value="SECRET", is_critical=True)


class Named:
    def __init__(self, name: str) -> None:
        self.name, self.identity = name, name

    def reply_all(self, asked: Sequence[object]):
        raise AssertionError("nothing is asked here")

    def close(self) -> None: ...


def result(name: str, said: Sequence[str], *, is_critical: bool = False) -> SuiteResult:
    checks = (Check(name="contains", value="yes"), *([CRITICAL] if is_critical else []))
    items = tuple(
        Item(id=f"i{n}", conversation=(Message(role="user", content=f"Q{n}"),), asked=f"Q{n}", checks=checks)
        for n in range(len(said))
    )
    replies = {f"i{n}": Reply(problem="timeout") if text == "LOST" else Reply(text=text) for n, text in enumerate(said)}
    return sum_up(Suite(name="s", items=items), replies, Named(name), max_tokens=8)


def verdicts(candidate: Sequence[str], base: Sequence[str], *, left_out=(), is_critical=False, **wanted: float) -> list:
    pair = Paired(
        "served",
        result("served", candidate, is_critical=is_critical),
        result("base", base, is_critical=is_critical),
        frozenset(left_out),
    )
    return judge_suite(SuiteSettings(suite="s", **wanted), pair)


YES, NO = ["yes"], ["no"]


def test_an_unchanged_model_passes_with_and_without_a_margin() -> None:
    said = YES * 20 + NO * 20
    assert [g.verdict for g in verdicts(said, said)] == ["PASS"]
    assert [g.verdict for g in verdicts(said, said, margin=0.01)] == ["PASS"]


def test_a_loss_beyond_chance_fails_and_a_small_one_is_not_proven_harmless() -> None:
    (lost,) = verdicts(NO * 20 + NO * 20, YES * 20 + NO * 20)
    assert lost.verdict == "FAIL" and "-0.500" in lost.found and lost.p is not None and lost.p < 0.001
    few, many = ["no"] * 2 + YES * 38, YES * 40
    assert [g.verdict for g in verdicts(few, many)] == ["PASS"]
    (open_,) = verdicts(few, many, margin=0.08)
    assert open_.verdict == "INCONCLUSIVE" and open_.need_n is not None and open_.need_n > 40


def test_too_few_items_or_too_many_without_a_score_decide_nothing() -> None:
    (few,) = verdicts(YES * 10, YES * 10)
    assert (few.verdict, few.need_n) == ("INCONCLUSIVE", 20)
    (unscored,) = verdicts(YES * 30 + ["LOST"] * 10, YES * 40)
    assert unscored.verdict == "INCONCLUSIVE" and "30 of 40" in unscored.found


def test_any_new_critical_failure_fails_and_one_of_the_base_is_told() -> None:
    base = ["yes SECRET"] + YES * 29
    same = verdicts(base, base, is_critical=True)
    assert [g.verdict for g in same] == ["PASS", "PASS"] and "1 that the base has as well" in same[0].found
    new = verdicts(["yes SECRET", "yes SECRET"] + YES * 28, base, is_critical=True)
    assert new[0].verdict == "FAIL" and "(i1)" in new[0].found
    lost = verdicts(["LOST"] + YES * 29, YES * 30, is_critical=True)
    assert lost[0].verdict == "INCONCLUSIVE" and "1 without a score" in lost[0].found
    assert overall(as_family([*new, *lost])) == "FAIL"


def test_quarantine_leaves_an_item_out_of_the_share_but_excuses_no_critical_failure() -> None:
    base, worse = YES * 40, NO * 8 + YES * 32
    assert verdicts(worse, base)[0].verdict == "FAIL"
    (left,) = verdicts(worse, base, left_out=[f"i{n}" for n in range(8)])
    assert left.verdict == "PASS" and "8 flaky items left out" in left.found and "n=32" in left.found
    told = verdicts(["yes SECRET"] + YES * 39, base, is_critical=True, left_out=["i0"])
    assert told[0].verdict == "FAIL"


@pytest.mark.parametrize(("passed", "verdict"), [(40, "PASS"), (28, "INCONCLUSIVE"), (8, "FAIL")])
def test_a_level_is_judged_by_the_interval(passed: int, verdict: str) -> None:
    said = YES * passed + NO * (40 - passed)
    assert verdicts(said, said, at_least=0.7)[1].verdict == verdict
