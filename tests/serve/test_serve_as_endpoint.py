"""Our own service as the endpoint of a teacher, a judge, or a system of the evaluation report."""

from pathlib import Path

import pytest
from live import Live, live
from pydantic import BaseModel

from fieldwise.errors import ServiceError
from fieldwise.evaluate.endpoints import ask_endpoints
from fieldwise.evaluate.settings import EndpointSystemSettings
from fieldwise.interfaces import LlmReply, LlmRequest
from fieldwise.llm.client import EndpointClient
from fieldwise.llm.settings import EndpointSettings
from fieldwise.records import Answer, Message, Question
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder


class Verdict(BaseModel):
    score: int


def ask(url: str, journal: Path, request: LlmRequest, **more: object) -> LlmReply:
    chosen = {"base_url": f"{url}/v1", "model": "tuned", "max_tokens": 64, "timeout_seconds": 20, "seed": 1, **more}
    client = EndpointClient(EndpointSettings.model_validate(chosen), journal, where="generate.endpoint")
    return next(iter(client.ask_all([request])))


HELLO = LlmRequest((Message(role="user", content="hello there"),))


def test_it_answers_and_counts_its_tokens(service: Live, tmp_path: Path) -> None:
    reply = ask(service.url, tmp_path / "j.jsonl", HELLO)
    assert reply.problem == "" and "hello there" in reply.text
    assert reply.prompt_tokens > 0 and reply.completion_tokens > 0


def test_it_takes_no_schema_so_that_words_ask_for_the_json(service: Live, tmp_path: Path) -> None:
    reply = ask(service.url, tmp_path / "j.jsonl", LlmRequest(HELLO.conversation, Verdict))
    assert reply.requests == 2  # it came, it was no JSON, and neither was the second: this model only repeats
    assert reply.problem in ("not_json", "cut_reply")


def test_a_model_it_does_not_have_and_a_prompt_too_long_for_it(service: Live, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="no such model") as caught:
        ask(service.url, tmp_path / "a.jsonl", HELLO, model="gpt-99")
    assert "generate.endpoint.model (gpt-99)" in str(caught.value)
    long = LlmRequest((Message(role="user", content="words without end " * 2000),))
    assert ask(service.url, tmp_path / "b.jsonl", long).problem == "prompt_too_long"


def test_it_is_asked_with_its_key(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDWISE_API_KEY", "a-key-of-ours-123456")
    with live(run) as guarded:
        with pytest.raises(ServiceError, match="wants a key"):
            ask(guarded.url, tmp_path / "j.jsonl", HELLO)
        assert ask(guarded.url, tmp_path / "j.jsonl", HELLO, key_variable="FIELDWISE_API_KEY").problem == ""


def test_it_is_a_system_of_the_report_over_our_passages_and_over_its_own(service: Live, tmp_path: Path) -> None:
    questions = [
        Question(id="q1", question="How many visitors may sit at a bed?", answer="two"),
        Question(id="q2", question="What do I ring if I see smoke?", answer="2222"),
    ]
    searched = service.backend.answerer("tuned").retriever.search
    passages = [tuple(searched(q.question, 2)) for q in questions]
    beside = [Answer(text="", answer="", model="rag_tuned", passages=p) for p in passages]
    named = [("over_ours", "tuned", True), ("over_its_own", "rag", False)]
    systems = [
        EndpointSystemSettings(
            name=name,
            documents=documents,
            endpoint=EndpointSettings(base_url=f"{service.url}/v1", model=model, max_tokens=64),
        )
        for name, model, documents in named
    ]
    found = ask_endpoints(systems, questions, beside, RetrieveSettings(), tmp_path)
    for answers in found.values():
        assert [(a.problem, a.prompt_tokens > 0) for a in answers] == [("", True), ("", True)]
    assert [a.passages for a in found["over_ours"]] == passages and all(passages)
    assert not any(a.passages or a.citations for a in found["over_its_own"])
