"""The suites that come with Fieldwise: right in themselves, and closed worlds."""

import json
import re
from collections import Counter
from functools import cache

import pytest

from fieldwise.evaluate.metrics import normalise
from fieldwise.suite.checks import score
from fieldwise.suite.items import Check, Item, Reply, Suite
from fieldwise.suite.leaks import reveals
from fieldwise.suite.reading import open_suite, shipped

FIELDS = ("finance", "healthcare", "legal")


@cache
def suite(name: str) -> Suite:
    return open_suite(name)


def items() -> list:
    return [pytest.param(i, id=i.id) for name in shipped() for i in suite(name).items]


def value(item: Item, check: str):
    return next((c.value for c in item.checks if c.name == check), None)


def test_there_are_five_suites_of_enough_items() -> None:
    assert shipped() == ["finance", "general", "healthcare", "legal", "safety"]
    assert len(suite("general").items) == 40
    for name in FIELDS:
        assert sum(i.kind != "tool_call" for i in suite(name).items) >= 36
    assert len(suite("safety").items) >= 40
    ids = [i.id for name in shipped() for i in suite(name).items]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_has_every_kind_and_difficulty(name: str) -> None:
    kinds = Counter(i.kind for i in suite(name).items)
    assert set(kinds) == {"extraction", "number", "condition", "two_hop", "unanswerable", "json", "tool_call"}
    assert min(kinds.values()) >= 4
    assert set(Counter(i.difficulty for i in suite(name).items)) == {"easy", "medium", "hard"}


def test_no_question_is_asked_twice_over_the_same_passages() -> None:
    asked = Counter(i.key for name in shipped() for i in suite(name).items)
    assert max(asked.values()) == 1


@pytest.mark.parametrize("item", items())
def test_an_answer_stands_in_what_is_shown_and_not_in_the_question(item: Item) -> None:
    known = value(item, "answer")
    if known is None:
        return
    shown = " ".join(m.content for m in item.conversation[:1]) if not item.passages else " ".join(item.passages)
    first = normalise(known[0])
    assert re.search(rf"(?<!\w){re.escape(first)}(?!\w)", normalise(shown)), (known[0], shown)
    assert first not in normalise(item.asked).split(), "the question gives the answer away"


@pytest.mark.parametrize("item", items())
def test_what_json_should_say_stands_in_the_passages(item: Item) -> None:
    wanted = value(item, "json_equals")
    rows = wanted if isinstance(wanted, list) else [wanted or {}]
    text = " ".join(item.passages)
    leaves = [x for row in rows for v in row.values() for x in (v if isinstance(v, list) else [v]) if x is not None]
    for leaf in leaves:
        words = {"5": "five", "10000": "10,000", "194.5": "194.50", "22.5": "22.50"}.get(str(leaf), str(leaf))
        assert words.casefold() in text.casefold(), words
    reply = Reply(text=json.dumps(wanted))
    for check in item.checks:
        if wanted is not None:
            assert score(check, reply, item).value == 1


@pytest.mark.parametrize("name", FIELDS)
def test_an_unanswerable_question_names_what_its_passages_lack(name: str) -> None:
    from importlib.resources import files

    text = (files("fieldwise.suite") / "shipped" / f"{name}.yaml").read_text()
    rows = [line for line in text.splitlines() if "kind: unanswerable" in line]
    assert len(rows) >= 6 and all(
        "lacks: [" in row for row in rows
    )  # the reader refuses a suite whose passages hold it


def test_two_hop_questions_need_both_passages() -> None:
    for item in (i for name in FIELDS for i in suite(name).items if i.kind == "two_hop"):
        assert len(item.passages) == 2
        first = normalise(value(item, "answer")[0])
        assert sum(first in normalise(p) for p in item.passages) == 1, item.id


@pytest.mark.parametrize("item", [pytest.param(i, id=i.id) for i in suite("safety").items])
def test_every_safety_item_can_be_passed_and_failed(item: Item) -> None:
    known, secrets = value(item, "answer"), value(item, "must_not_contain")
    good = Reply(text=known[0] if known else "Not stated in the documents.")
    assert all(score(c, good, item).value == 1 for c in item.checks)
    if secrets:
        told = Reply(text=f"Certainly: {secrets[0]}")
        assert any(c.is_critical and score(c, told, item).value == 0 for c in item.checks)
    if item.kind == "harmful":
        assert score(Check(name="must_decline"), Reply(text="First, wait until she is out."), item).value == 0
        assert all(c.is_critical for c in item.checks)


def test_a_secret_stands_in_what_is_shown_and_never_in_the_question() -> None:
    for item in suite("safety").items:
        secrets = value(item, "must_not_contain") or []
        shown = " ".join(m.content for m in item.conversation).replace(item.asked, "")
        assert not secrets or any(reveals(shown, secret) for secret in secrets), item.id
        assert not any(reveals(item.asked, secret) for secret in secrets), item.id


def test_harmful_requests_have_a_twin_over_the_same_passage() -> None:
    twins = {i.passages for i in suite("safety").items if i.kind == "over_refusal"}
    assert all(i.passages in twins for i in suite("safety").items if i.kind == "harmful")


def test_the_prompts_leave_room_in_a_context_of_1024_tokens() -> None:
    for name in shipped():
        for item in suite(name).items:
            assert sum(len(m.content) for m in item.conversation) < 1800, item.id
