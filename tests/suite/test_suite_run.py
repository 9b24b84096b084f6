"""Asking with a ledger, figures, verdicts and reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tiny_models import make_tiny_llama

from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.files import read_ledger
from fieldwise.records import Message
from fieldwise.suite.items import Check, Item, Reply, Suite
from fieldwise.suite.reading import open_suite
from fieldwise.suite.report import difference, markdown, plain
from fieldwise.suite.respondents import Asked, EngineRespondent
from fieldwise.suite.run import ask, judge, score_item, share, sum_up


class Scripted:
    """Replies what it is told, counts what it is asked."""

    def __init__(self, replies: dict[str, str], name: str = "m") -> None:
        self.name, self.identity = name, f"id of {name}"
        self.replies, self.asked = replies, []

    def reply_all(self, asked: Sequence[Asked]) -> Iterator[Reply]:
        for one in asked:
            text = one.conversation[-1].content
            self.asked.append(text)
            said = self.replies.get(text, "no idea")
            if said == "KILL":
                raise KeyboardInterrupt
            yield Reply(problem="timeout") if said == "FAIL" else Reply(text=said)

    def close(self) -> None: ...


def item(name: str, *checks: Check, asked: str = "", **more) -> Item:
    return Item(
        id=name,
        conversation=(Message(role="user", content=asked or name),),
        asked=name,
        checks=checks or (Check(name="contains", value="yes"),),
        **more,
    )


def result(suite: Suite, replies: dict[str, str], tmp_path: Path, name: str = "m", at_least: float | None = None):
    who = Scripted(replies, name)
    return sum_up(
        suite, ask(suite, who, tmp_path / f"{name}.jsonl", max_tokens=8), who, max_tokens=8, at_least=at_least
    )


def suite_of(*items: Item) -> Suite:
    return Suite(name="s", items=items)


# ---------------------------------------------------------------- the ledger


def test_nothing_answered_is_asked_again_after_a_kill(tmp_path: Path) -> None:
    suite = suite_of(*(item(c) for c in "abcde"))
    first = Scripted({"c": "KILL"})
    with pytest.raises(KeyboardInterrupt):
        ask(suite, first, tmp_path / "l.jsonl", max_tokens=8)
    (tmp_path / "l.jsonl").open("a").write('{"key": "torn')
    second = Scripted({"c": "yes"})
    replies = ask(suite, second, tmp_path / "l.jsonl", max_tokens=8)
    assert first.asked == ["a", "b", "c"] and second.asked == ["c", "d", "e"]
    assert replies["c"].text == "yes" and list(replies) == list("abcde")
    third = Scripted({})
    assert ask(suite, third, tmp_path / "l.jsonl", max_tokens=8) == replies and third.asked == []


def test_another_model_another_limit_or_another_question_is_asked_anew(tmp_path: Path) -> None:
    suite, ledger = suite_of(item("a")), tmp_path / "l.jsonl"
    ask(suite, Scripted({}), ledger, max_tokens=8)
    for who, limit, changed in (
        (Scripted({}, "other"), 8, suite),
        (Scripted({}), 9, suite),
        (Scripted({}), 8, suite_of(item("a", asked="b"))),
    ):
        ask(changed, who, ledger, max_tokens=limit)
        assert len(who.asked) == 1
    again = Scripted({})
    ask(suite_of(item("a", Check(name="contains", value="no"))), again, ledger, max_tokens=8)
    assert again.asked == []  # only what is checked has changed


def test_what_failed_is_asked_again_and_is_not_wrong(tmp_path: Path) -> None:
    suite, ledger = suite_of(item("a"), item("b")), tmp_path / "l.jsonl"
    replies = ask(suite, Scripted({"a": "FAIL"}), ledger, max_tokens=8)
    assert score_item(suite.items[0], replies["a"]).is_passed is None
    assert [row["item"] for row in read_ledger(ledger)] == ["b"]
    again = Scripted({"a": "yes"})
    assert ask(suite, again, ledger, max_tokens=8)["a"].text == "yes" and again.asked == ["a"]


def test_items_that_ask_the_same_share_a_reply(tmp_path: Path) -> None:
    who = Scripted({"x": "yes"})
    replies = ask(suite_of(item("a", asked="x"), item("b", asked="x")), who, tmp_path / "l", max_tokens=8)
    assert who.asked == ["x"] and replies["a"] == replies["b"]


# ---------------------------------------------------------------- figures


def test_an_item_passes_if_every_check_holds() -> None:
    both = item("a", Check(name="contains", value="yes"), Check(name="not_contains", value="no"))
    assert [score_item(both, Reply(text=t)).is_passed for t in ("yes", "yes no", "no", "")] == [
        True,
        False,
        False,
        False,
    ]


def test_figures_by_hand(tmp_path: Path) -> None:
    items = [item(str(n), kind="k" if n < 6 else "z", difficulty="hard" if n % 2 else "easy") for n in range(10)]
    found = result(suite_of(*items), {str(n): "yes" for n in range(8)}, tmp_path)
    # Wilson for 8 of 10, worked by hand in statistics.wilson
    assert [round(x, 3) for x in (found.passed.value, found.passed.low, found.passed.high)] == [0.8, 0.49, 0.943]
    assert {k: (v.value, v.n) for k, v in found.by["kind"].items()} == {"k": (1.0, 6), "z": (0.5, 4)}
    assert list(found.by["difficulty"]) == ["easy", "hard"] and found.verdict is None
    assert found.checks["contains"].value == 0.8


def test_items_over_the_same_passages_widen_the_interval(tmp_path: Path) -> None:
    def half(passages) -> Suite:
        return suite_of(*(item(str(n), passages=passages(n)) for n in range(20)))

    replies = {str(n): "yes" for n in range(10)}
    alone = result(half(lambda n: (f"p{n}",)), replies, tmp_path, "alone").passed
    together = result(half(lambda n: (f"p{n // 10}",)), replies, tmp_path, "together").passed
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_too_many_unscored_items_are_inconclusive(tmp_path: Path) -> None:
    suite = suite_of(*(item(str(n)) for n in range(20)))
    two = result(suite, {"0": "FAIL", "1": "FAIL"}, tmp_path, "two")
    three = result(suite, {"0": "FAIL", "1": "FAIL", "2": "FAIL"}, tmp_path, "three")
    assert (two.verdict, two.passed.n, two.passed.unscored) == (None, 18, 2)
    assert (three.verdict, three.problems) == ("INCONCLUSIVE", {"timeout": 3})
    assert "3 of 20 items are not scored" in three.reasons[0]


def test_a_critical_failure_fails_whatever_else_is_missing(tmp_path: Path) -> None:
    critical = Check(name="not_contains", value="secret", is_critical=True)
    suite = suite_of(*(item(str(n), critical) for n in range(4)))
    assert result(suite, {}, tmp_path, "good").verdict == "PASS"
    bad = result(suite, {"0": "secret", "1": "FAIL", "2": "FAIL"}, tmp_path, "bad")
    assert bad.verdict == "FAIL" and [i.id for i in bad.critical] == ["0"]
    page = markdown([bad])
    assert "Critical failures of m: 1" in page.replace("bad", "m") and "| 0 |" in page
    assert "Critical failures" in plain([bad]) and "said: secret" in plain([bad])


@pytest.mark.parametrize(("level", "verdict"), [(0.4, "PASS"), (0.97, "FAIL"), (0.8, "INCONCLUSIVE")])
def test_a_level_is_judged_by_the_interval(tmp_path: Path, level: float, verdict: str) -> None:
    suite = suite_of(*(item(str(n)) for n in range(10)))
    found = result(suite, {str(n): "yes" for n in range(8)}, tmp_path, at_least=level)  # [0.49, 0.943]
    assert found.verdict == verdict


def test_nothing_scored_at_all_is_inconclusive() -> None:
    items = [score_item(item("a"), Reply(problem="timeout"))]
    assert share(items).value is None
    assert judge(items, share(items), 0.5, has_critical=False)[0] == "INCONCLUSIVE"


def test_two_models_are_compared_on_the_same_items(tmp_path: Path) -> None:
    suite = suite_of(*(item(str(n)) for n in range(10)))
    low = result(suite, {"0": "FAIL"}, tmp_path, "low")
    high = result(suite, {str(n): "yes" for n in range(10)}, tmp_path, "high")
    told = difference(high, low)
    assert told.startswith("high against low: +1.00") and "n=9" in told and "p=0.0039" in told  # 2 * 0.5 ** 9
    table = plain([low, high])
    assert "low" in table.splitlines()[2] and "high against low" in table


def test_what_a_model_says_is_no_markup_of_the_report(tmp_path: Path) -> None:
    critical = Check(name="not_contains", value="x", is_critical=True)
    said = "x | <script>alert(1)</script> [a](http://b) `c`"
    page = markdown([result(suite_of(item("a", critical)), {"a": said}, tmp_path)])
    assert "<script>" not in page and "[a](http" not in page
    row = next(line for line in page.splitlines() if line.startswith("| a |"))
    assert row.replace("\\|", "").count("|") == 5


# ---------------------------------------------------------------- weights in this process


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransformersEngine]:
    with TransformersEngine(make_tiny_llama(tmp_path_factory.mktemp("w") / "tiny"), threads=1) as opened:
        yield opened


def test_weights_reply_the_same_twice_and_tell_what_does_not_fit(engine: TransformersEngine) -> None:
    who = EngineRespondent("tiny", engine, "sha256:0", 6)
    long = Asked((Message(role="user", content="tablets " * 3000),))
    short = [Asked(i.conversation, i.tools) for i in open_suite("healthcare").items[:2]]
    first, second = list(who.reply_all([short[0], long, short[1]])), list(who.reply_all([short[0], long, short[1]]))
    assert first == second and [r.problem for r in first] == ["", "too_long", ""]
    assert first[0].finish_reason == "length" and "the context holds" in first[1].detail
