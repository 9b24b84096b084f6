import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from chat_server import KEY, Answer, ChatServer, failed, prompt_of, said
from pydantic import BaseModel

from fieldwise.errors import FieldwiseError, ServiceError
from fieldwise.interfaces import LlmReply, LlmRequest
from fieldwise.llm.client import EndpointClient
from fieldwise.llm.settings import EndpointSettings
from fieldwise.records import Message


class Verdict(BaseModel):
    score: int
    reason: str


GOOD = '{"score": 3, "reason": "it fits"}'


def settings(server: ChatServer, **more: Any) -> EndpointSettings:
    return EndpointSettings.model_validate({"base_url": server.url, "model": "m", "timeout_seconds": 10, **more})


def request(text: str, *, as_json: bool = False) -> LlmRequest:
    return LlmRequest((Message(role="user", content=text),), Verdict if as_json else None, label=text)


class Pauses:
    """Keeps how long the client meant to wait, and hardly waits."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0.001)


def ask(server: ChatServer, journal: Path, *requests: LlmRequest, pause: Any = None, **more: Any) -> list[LlmReply]:
    client = EndpointClient(settings(server, **more), journal, where="generate.endpoint", pause=pause or Pauses())
    return list(client.ask_all(requests))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


# ---------------------------------------------------------------- replies


def test_replies_come_in_order_whatever_the_order_in_which_they_arrive(server: ChatServer, journal: Path) -> None:
    def behave(body: dict[str, Any]) -> Answer:
        answer = said(prompt_of(body))
        answer.wait_seconds = 0.05 * (int(prompt_of(body)) % 3)
        return answer

    server.behave = behave
    replies = ask(server, journal, *(request(str(n)) for n in range(20)), concurrency=6)
    assert [r.text for r in replies] == [str(n) for n in range(20)]
    assert 1 < server.most_running <= 6


def test_what_is_sent_is_what_the_recipe_says_and_the_key_goes_into_the_header_only(
    server: ChatServer, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEY", KEY)
    server.key = KEY
    replies = ask(server, journal, request("a"), key_variable="OUR_KEY", seed=7, max_tokens=50, temperature=0.5)
    assert replies[0].problem == ""
    assert {k: server.bodies[0][k] for k in ("model", "seed", "max_tokens", "temperature")} == {
        "model": "m",
        "seed": 7,
        "max_tokens": 50,
        "temperature": 0.5,
    }
    assert KEY not in journal.read_text() and KEY not in json.dumps(server.bodies)


def test_the_same_prompt_is_asked_and_paid_once(server: ChatServer, journal: Path) -> None:
    replies = ask(server, journal, *[request("same")] * 5, request("other"))
    assert [r.text for r in replies] == ["You said: same"] * 5 + ["You said: other"]
    assert server.count == 2


def test_a_second_run_costs_nothing_and_other_parameters_ask_again(server: ChatServer, journal: Path) -> None:
    first = ask(server, journal, request("a"), request("b", as_json=False))
    assert ask(server, journal, request("a"), request("b")) == first
    assert server.count == 2
    ask(server, journal, request("a"), temperature=0.9)
    assert server.count == 3


def test_a_torn_last_line_loses_that_reply_alone(server: ChatServer, journal: Path) -> None:
    ask(server, journal, request("a"), request("b"), concurrency=1)
    journal.write_bytes(journal.read_bytes()[:-20])
    ask(server, journal, request("a"), request("b"), request("c"))
    assert sorted(prompt_of(b) for b in server.bodies) == ["a", "b", "b", "c"]
    ask(server, journal, request("a"), request("b"), request("c"))
    assert server.count == 4


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Sure! Here it is:\n{GOOD}\nI hope this helps {{smile}}.",
        f"<think>maybe {{}} or so</think>{GOOD}",
        '{"score": 3,\n "reason": "it\nfits"}',
    ],
)
def test_json_is_found_in_what_models_put_around_it(server: ChatServer, journal: Path, text: str) -> None:
    server.behave = lambda body: said(text)
    value = ask(server, journal, request("a", as_json=True))[0].value
    assert isinstance(value, Verdict) and value.score == 3
    assert server.count == 1


def test_the_schema_goes_along_where_the_endpoint_takes_it(server: ChatServer, journal: Path) -> None:
    server.behave = lambda body: said(GOOD)
    ask(server, journal, request("a", as_json=True))
    told = server.bodies[0]["response_format"]["json_schema"]
    assert told["strict"] is True
    assert told["schema"]["required"] == ["score", "reason"] and told["schema"]["additionalProperties"] is False


@pytest.mark.parametrize("status", [400, 422, 500])
def test_an_endpoint_without_schemas_is_asked_in_words_and_remembered(
    server: ChatServer, journal: Path, status: int
) -> None:
    server.behave = lambda body: (
        failed(status, "response_format is not supported") if "response_format" in body else said(GOOD)
    )
    replies = ask(server, journal, *(request(str(n), as_json=True) for n in range(4)), concurrency=1)
    assert all(isinstance(r.value, Verdict) for r in replies)
    assert server.count == 5  # only the first one is refused
    assert '"score"' in server.bodies[-1]["messages"][0]["content"]


def test_an_endpoint_that_wants_the_new_name_of_the_limit_gets_it(server: ChatServer, journal: Path) -> None:
    server.behave = lambda body: (
        failed(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "max_tokens" in body
        else said("yes")
    )
    assert ask(server, journal, request("a"), max_tokens=77)[0].text == "yes"
    assert server.bodies[-1]["max_completion_tokens"] == 77


@pytest.mark.parametrize("bad", ["I would give it a three.", '{"score": 3, "reas', '{"score": "high"}', "", None])
def test_a_reply_that_is_no_json_gets_one_more_chance_and_both_are_paid(
    server: ChatServer, journal: Path, bad: str | None
) -> None:
    server.script = [said(bad)]
    server.behave = lambda body: said(GOOD)
    reply = ask(server, journal, request("a", as_json=True))[0]
    assert isinstance(reply.value, Verdict)
    assert (reply.requests, reply.prompt_tokens, reply.completion_tokens) == (2, 200, 20)
    assert "cannot be used" in prompt_of(server.bodies[1])
    assert ask(server, journal, request("a", as_json=True))[0] == reply
    assert server.count == 2


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (said("prose for ever"), "not_json"),
        (said(""), "empty_reply"),
        (said('{"score": 3, "re', finish_reason="length"), "cut_reply"),
        (said(None, finish_reason="content_filter"), "refused"),
    ],
)
def test_a_reply_that_stays_wrong_says_how_and_is_not_asked_for_again(
    server: ChatServer, journal: Path, answer: Answer, problem: str
) -> None:
    server.behave = lambda body: answer
    assert ask(server, journal, request("a", as_json=True))[0].problem == problem
    asked = server.count
    assert asked == (1 if problem == "refused" else 2)
    assert ask(server, journal, request("a", as_json=True))[0].problem == problem
    assert server.count == asked


def test_endless_prose_stops_the_run_instead_of_paying_for_all_of_it(server: ChatServer, journal: Path) -> None:
    server.behave = lambda body: said("I am a poet, not a form.")
    with pytest.raises(ServiceError, match="10 requests in a row") as caught:
        ask(server, journal, *(request(str(n), as_json=True) for n in range(200)), concurrency=2)
    assert "no JSON" in str(caught.value)
    assert server.count <= 24


def test_json_can_be_asked_for_in_words_from_the_start(server: ChatServer, journal: Path) -> None:
    server.behave = lambda body: said(GOOD)
    assert ask(server, journal, request("a", as_json=True), json_mode="prompt")[0].problem == ""
    assert "response_format" not in server.bodies[0]


def test_a_caller_that_has_an_event_loop_or_stops_early_gets_what_it_asked_for(
    server: ChatServer, journal: Path
) -> None:
    async def in_a_loop() -> list[LlmReply]:
        return ask(server, journal, request("a"))

    assert asyncio.run(in_a_loop())[0].text == "You said: a"
    client = EndpointClient(settings(server, concurrency=1), journal, where="w")
    replies = client.ask_all([request(str(n)) for n in range(1000)])
    assert next(replies).text == "You said: 0"
    replies.close()
    assert server.count < 900


# ---------------------------------------------------------------- failures that pass


def test_too_many_requests_waits_as_long_as_it_is_told_for_all(server: ChatServer, journal: Path) -> None:
    server.script = [failed(429, "slow down", Retry_After="7")]
    pauses = Pauses()
    assert ask(server, journal, request("a"), pause=pauses, concurrency=1)[0].text == "You said: a"
    assert 6.9 <= sum(pauses.seconds) <= 7.8


def test_retry_after_as_a_date_and_one_that_is_too_long(server: ChatServer, journal: Path) -> None:
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 20))
    server.script = [failed(503, "busy", Retry_After=soon)]
    pauses = Pauses()
    assert ask(server, journal, request("a"), pause=pauses)[0].problem == ""
    assert 15 < sum(pauses.seconds) < 25
    server.script = [failed(429, "come back tomorrow", Retry_After="86400")]
    with pytest.raises(ServiceError, match="longer pause") as caught:
        ask(server, journal, request("b"))
    assert "86400 s" in str(caught.value)


def test_errors_of_the_server_are_tried_again_with_growing_pauses(server: ChatServer, journal: Path) -> None:
    server.script = [failed(500), failed(502), Answer(503, b"<html>busy</html>"), Answer(200, b"<html>hello</html>")]
    pauses = Pauses()
    assert ask(server, journal, request("a"), pause=pauses)[0].text == "You said: a"
    assert len(pauses.seconds) == 4
    assert all(0 <= s <= 0.5 * 2**n for n, s in enumerate(pauses.seconds))


def test_what_fails_for_one_prompt_alone_leaves_the_others(server: ChatServer, journal: Path) -> None:
    def behave(body: dict[str, Any]) -> Answer:
        bad = {
            "x1": failed(500, "engine fault"),
            "x2": failed(400, "maximum context length exceeded"),
            "x3": Answer(cut=0),
        }
        return bad.get(prompt_of(body)) or said("fine")

    server.behave = behave
    replies = ask(server, journal, *map(request, ("a", "x1", "b", "x2", "c", "x3", "d")), max_retries=2)
    assert [r.problem for r in replies] == ["", "http_500", "", "prompt_too_long", "", "no_reply", ""]
    assert "engine fault" in replies[1].detail
    ask(server, journal, *map(request, ("a", "x1", "d")), max_retries=0)
    assert prompt_of(server.bodies[-1]) == "x1"  # what failed for a while is asked again, the rest is not


def test_a_slow_drip_ends_with_its_time_and_its_prompt_counts_as_spent(server: ChatServer, journal: Path) -> None:
    server.script = [Answer(body={"choices": []}, drip_seconds=0.05), Answer(body={"choices": []}, drip_seconds=0.05)]
    reply = ask(server, journal, request("a" * 400), timeout_seconds=0.3)[0]
    assert reply.problem == "timeout" and "0.3 s" in reply.detail
    lost = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [row["text"] for row in lost] == [None, None] and lost[0]["prompt_tokens"] >= 100


# ---------------------------------------------------------------- failures that stay


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (failed(401, "Incorrect API key"), "wants a key"),
        (failed(403, "no"), "wants a key"),
        (failed(402, "pay"), "no credit"),
        (failed(429, "You exceeded your current quota", "insufficient_quota"), "no credit"),
        (failed(404, "The model `m` does not exist"), "no such model or address"),
        (failed(400, "invalid model name"), "no such model or address"),
        (failed(400, "temperature must be 1 for this model"), "does not take a parameter"),
        (Answer(302, b"", {"Location": "https://elsewhere.example/"}), "sends requests elsewhere"),
        (Answer(200, {"error": {"code": 401, "message": "bad key"}}), "wants a key"),
    ],
)
def test_what_would_meet_every_request_stops_at_once(
    server: ChatServer, journal: Path, answer: Answer, words: str
) -> None:
    server.behave = lambda body: answer
    with pytest.raises(ServiceError, match=words) as caught:
        ask(server, journal, *(request(str(n)) for n in range(50)), concurrency=3)
    assert server.count <= 6
    assert caught.value.fix and "generate.endpoint" in str(caught.value)


def test_a_wrong_key_is_never_shown(server: ChatServer, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-expired-9876543210")
    server.key = KEY
    with pytest.raises(ServiceError, match="does not take the key") as caught:
        ask(server, journal, request("a"), key_variable="OUR_KEY")
    assert "OUR_KEY" in str(caught.value) and "9876543210" not in str(caught.value) + repr(caught.value.to_json())
    assert not journal.exists()


@pytest.mark.parametrize("value", [None, "", "two words", "ключ"])
def test_a_missing_or_impossible_key_names_its_variable(
    server: ChatServer, journal: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("OUR_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("OUR_KEY", value)
    with pytest.raises(ServiceError, match="OUR_KEY"):
        ask(server, journal, request("a"), key_variable="OUR_KEY")
    assert server.count == 0


def test_an_endpoint_that_is_not_there_is_named(journal: Path) -> None:
    gone = ChatServer()
    gone.close()
    with pytest.raises(ServiceError, match="cannot be reached") as caught:
        ask(gone, journal, request("a"), max_retries=1)
    assert gone.url in str(caught.value)


def test_what_was_answered_before_the_end_is_kept(server: ChatServer, journal: Path) -> None:
    server.behave = lambda body: failed(401) if prompt_of(body) == "7" else said("ok")
    with pytest.raises(ServiceError):
        ask(server, journal, *(request(str(n)) for n in range(20)), concurrency=1)
    server.behave = lambda body: said("ok")
    assert [r.text for r in ask(server, journal, *(request(str(n)) for n in range(20)))] == ["ok"] * 20
    assert max(server.answered.values()) == 1 and server.count == 21


# ---------------------------------------------------------------- budgets


def test_a_budget_of_money_is_never_passed_and_says_which_are_left(server: ChatServer, journal: Path) -> None:
    server.behave = lambda body: said("ok", prompt=10, completion=100)
    price, budget = {"input": 10.0, "output": 20.0}, {"money": 0.02}
    many = [request(str(n)) for n in range(40)]
    client = EndpointClient(settings(server, price=price, budget=budget, max_tokens=100), journal, where="w")
    replies = list(client.ask_all(many))
    done = [r for r in replies if not r.problem]
    assert {r.problem for r in replies} == {"", "budget_spent"}
    assert 5 <= len(done) <= 9  # 0.0021 each
    assert client.journal.money == pytest.approx(0.0021 * len(done)) and client.journal.money <= 0.02
    again = ask(server, journal, *many, price=price, budget={"money": 1}, max_tokens=100)
    assert not any(r.problem for r in again)
    assert server.count == 40


def test_a_budget_of_tokens_counts_earlier_runs_too(server: ChatServer, journal: Path) -> None:
    ask(server, journal, *(request(str(n)) for n in range(5)))
    replies = ask(server, journal, request("more"), budget={"tokens": 560}, max_tokens=100)
    assert replies[0].problem == "budget_spent"
    assert server.count == 5


def test_an_estimate_leaves_out_what_is_answered(server: ChatServer, journal: Path) -> None:
    chosen = settings(server, price={"input": 1.0, "output": 2.0}, max_tokens=500)
    client = EndpointClient(chosen, journal, where="w")
    requests = [request("word " * 100 + str(n)) for n in range(10)]
    list(client.ask_all(requests[:4]))
    count, usual, most = client.estimate(requests, 50)
    assert count == 6
    assert client.estimate([*requests, *requests], 50) == (count, usual, most)  # equal ones are asked once
    assert 6 * (100 + 50) < usual.tokens < 6 * (200 + 50) < most.tokens
    assert usual.money == pytest.approx((usual.tokens - 300) / 1e6 + 300 * 2 / 1e6)
    assert server.count == 4


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "given",
    [
        {"key_variable": "sk-proj-secret-key"},
        {"base_url": "https://user:secret-key@api.example/v1"},
        {"base_url": "https://api.example/v1?key=secret-key"},
        {"base_url": "ftp://secret-key.example"},
        {"base_url": "http://a.example:99999/secret-key"},
        {"base_url": "https://api.example/v1/chat/completions"},
    ],
)
def test_a_secret_in_the_recipe_is_refused_without_being_repeated(tmp_path: Path, given: dict[str, str]) -> None:
    from fieldwise.recipe import load_recipe

    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"generate": {"teacher": "openai", "endpoint": {"model": "m", **given}}}))
    with pytest.raises(FieldwiseError) as caught:
        load_recipe(path)
    assert "generate.endpoint" in str(caught.value) and "secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:11434/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://10.0.0.7/v1", False),
        ("http://localhost.example.com/v1", False),
    ],
)
def test_only_this_machine_counts_as_loopback(url: str, is_loopback: bool) -> None:
    assert EndpointSettings(base_url=url, model="m").is_loopback is is_loopback


def test_how_fast_and_how_long_is_no_part_of_the_key() -> None:
    plain = EndpointSettings(base_url="http://localhost/v1", model="m")
    other = plain.model_copy(update={"concurrency": 50, "timeout_seconds": 5.0, "key_variable": "OTHER"})
    assert plain.keyed() == other.keyed()
    assert plain.keyed() != plain.model_copy(update={"temperature": 0.1}).keyed()


def test_a_proxy_of_the_network_is_passed_over_for_this_machine(
    server: ChatServer, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "HTTP_PROXY", "http://127.0.0.1:9")
    assert ask(server, journal, request("a"), max_retries=0)[0].text == "You said: a"
