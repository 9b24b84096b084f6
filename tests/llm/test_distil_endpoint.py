"""A teacher behind an endpoint for sequence-level distillation: paid once, held to its budget, its text checked."""

from pathlib import Path

import pytest
from chat_server import ChatServer, said

from fieldwise.errors import ServiceError
from fieldwise.prompts import grounded_prompt
from fieldwise.records import NOT_STATED, Example, Message
from fieldwise.tables import write_records
from fieldwise.train.distil_sequence import MEMO, taught, told_before
from fieldwise.train.distil_settings import DistillationSettings
from fieldwise.train.distil_teacher import require_fitting

PASSAGES = [f"Register {n}\nRegister {n} is kept for {n + 10} days." for n in range(3)]


def example(n: int) -> Example:
    question = f"How long is register {n} kept?"
    reply = f"{n + 10} days [{n + 1}]"
    prompt = grounded_prompt(question, PASSAGES)
    conversation = (*prompt, Message(role="assistant", content=reply))
    return Example.make(question=question, answer=reply, kind="duration", style="grounded", conversation=conversation)


EXAMPLES = [example(n) for n in range(3)]


def settings(server: ChatServer, **more) -> DistillationSettings:
    endpoint = {"base_url": server.url, "model": "large", "max_tokens": 32, **more}
    return DistillationSettings.model_validate({"teacher": {"endpoint": endpoint}})


def behave(body):
    asked = body["messages"][-1]["content"]
    n = int(asked.rpartition("register ")[2].split()[0])
    return said(f"It is kept for {n + 10} days [{n + 1}]" if n else NOT_STATED, prompt=100, completion=10)


def test_replies_are_paid_once_and_checked(server: ChatServer, tmp_path: Path, capsys) -> None:
    server.behave = behave
    first = taught(EXAMPLES, settings(server), None, tmp_path)
    again = taught(EXAMPLES, settings(server), None, tmp_path)
    assert server.count == 3 and again == first
    assert first.facts["learnt"] == 2 and first.facts["rejected"] == {"over_refusal": 1}
    assert [e.conversation[-1].content for e in first.examples] == [
        "10 days [1]", "It is kept for 11 days [2]", "It is kept for 12 days [3]",
    ]  # fmt: skip
    shown = capsys.readouterr().err
    assert "3 of 3 questions still to be asked" in shown and "0 of 3 questions still" in shown
    assert "the known reply is learnt for over_refusal 1" in shown


def test_a_spent_budget_stops_and_a_larger_one_goes_on(server: ChatServer, tmp_path: Path) -> None:
    server.behave = behave
    with pytest.raises(ServiceError, match="the budget of the teacher is spent") as caught:
        taught(EXAMPLES, settings(server, budget={"tokens": 1}), None, tmp_path)
    assert "train.distillation.teacher.endpoint.budget.when_spent=finish" in str(caught.value) and server.count == 0
    found = taught(EXAMPLES, settings(server, budget={"tokens": 100_000}), None, tmp_path)
    assert found.facts["learnt"] == 2 and server.count == 3


def test_a_budget_may_end_with_what_there_is(server: ChatServer, tmp_path: Path) -> None:
    server.behave = behave
    taught(EXAMPLES[:2], settings(server), None, tmp_path)
    found = taught(EXAMPLES, settings(server, budget={"tokens": 1, "when_spent": "finish"}), None, tmp_path)
    assert found.facts["rejected"] == {"budget_spent": 1, "over_refusal": 1} and len(found.examples) == 3


def test_the_cost_is_told_before_and_nothing_is_asked(server: ChatServer, tmp_path: Path) -> None:
    server.behave = behave
    own = settings(server, price={"input": 1.0, "output": 10.0})
    assert "not known before stage 3" in str(told_before(own, tmp_path))
    (tmp_path / "3_examples").mkdir()
    write_records(tmp_path / "3_examples/train.parquet", EXAMPLES, Example)
    told = str(told_before(own, tmp_path))
    assert server.count == 0 and "3 of 3 questions still to be asked" in told and "currency of the prices" in told
    taught(EXAMPLES[:2], own, None, tmp_path / MEMO)
    assert "1 of 3 questions still to be asked" in str(told_before(own, tmp_path))
    weights = DistillationSettings.model_validate({"teacher": {"model": "fieldwise-nano"}})
    assert told_before(weights, tmp_path) is None


def test_a_missing_key_shows_before_anything_is_asked(server: ChatServer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ServiceError, match="NO_SUCH_KEY"):
        require_fitting(settings(server, key_variable="NO_SUCH_KEY"), tmp_path)
    assert server.count == 0
