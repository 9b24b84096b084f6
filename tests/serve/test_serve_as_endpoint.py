"""Our own service as the endpoint of a teacher or judge."""

from pathlib import Path

import pytest
from live import Live, live
from pydantic import BaseModel

from fieldwise.errors import ServiceError
from fieldwise.interfaces import LlmReply, LlmRequest
from fieldwise.llm.client import EndpointClient
from fieldwise.llm.settings import EndpointSettings
from fieldwise.records import Message
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
