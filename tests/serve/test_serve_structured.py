"""Answers as JSON of a schema, and the questions that go on from earlier ones, over a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from decline_rules import decline_rule
from fake_engine import FakeEngine
from live import Live, events_of, live
from released_run import edit_release, make_run

from fieldwise.files import write_json
from fieldwise.records import NOT_STATED
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.store.options import SearchOptions

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"duration": {"type": "string"}, "is_wet": {"type": "boolean"}},
    "required": ["duration", "is_wet"],
    "additionalProperties": False,
}
QUESTION = "How long do I rub the gel?"
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "rub", "schema": SCHEMA, "strict": True}}


class Extracting(FakeEngine):
    """Writes the fact of a passage as JSON; wrong at first for "fussy", always for "stubborn"; words searches."""

    def _reply(self, text: str, asked: str) -> str:
        if "Search:" in asked:
            return " the deposit of the staff flats" if "wordless" not in asked else " nothing of the sort"
        if "Schema:" not in text:
            return super()._reply(text, asked)
        said = super()._grounded(text.replace(text[text.index("\n\nSchema:") : text.rindex("\n\nQuestion:")], ""))
        fact = re.sub(r" \[\d\]", "", said).strip()
        if "stubborn" in text or ("fussy" in text and "cannot be used" not in text):
            return f" I would say {fact}."
        return f" {NOT_STATED}" if fact == NOT_STATED else f" {json.dumps({'duration': fact, 'is_wet': False})}"


@pytest.fixture(scope="module")
def structured(run: RunFolder) -> Iterator[Live]:
    with live(run, engine=Extracting, timeout_seconds=30) as running:
        yield running


@pytest.fixture
def asking(structured: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=structured.url, timeout=20) as made:
        yield made


@pytest.fixture(scope="module")
def ai(structured: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{structured.url}/v1", api_key="none", max_retries=0, timeout=20) as client:
        yield client


@pytest.mark.parametrize("question", [QUESTION, "How long do I rub the gel, fussy?"])
def test_the_answer_is_json_of_the_schema_with_a_quote_for_its_value(asking: httpx.Client, question: str) -> None:
    answer = asking.post("/ask", json={"question": question, "schema": SCHEMA}).raise_for_status().json()
    assert answer["value"] == json.loads(answer["text"]) == {"duration": "25 seconds", "is_wet": False}
    (citation,) = answer["citations"]
    assert (citation["path"], citation["is_verified"]) == ("/duration", True)
    place = citation["document"]
    text = asking.get(place["url"]).json()["text"]
    assert text[place["start"] : place["end"]] == place["quote"] and "25 seconds" in place["quote"]


def test_streamed_the_same_answer_comes_at_the_end(asking: httpx.Client) -> None:
    body = {"question": QUESTION, "schema": SCHEMA}
    with asking.stream("POST", "/ask", json={**body, "stream": True}) as response:
        events = list(events_of(response.iter_lines()))
    assert [name for name, _ in events] == ["passages", "text", "answer"]
    whole = asking.post("/ask", json=body).json()
    assert {**events[-1][1], "timings": None} == {**whole, "timings": None} and events[1][1]["text"] == whole["text"]


def test_what_the_documents_do_not_say_is_declined_and_no_object(asking: httpx.Client) -> None:
    answer = asking.post("/ask", json={"question": "What does the moon weigh?", "schema": SCHEMA}).json()
    assert (answer["is_declined"], answer["text"], answer["citations"]) == (True, NOT_STATED, [])
    assert "value" not in answer


def test_a_model_that_never_fits_is_an_error_that_says_what_was_wrong(asking: httpx.Client) -> None:
    body = {"question": "How long do I rub the gel, stubborn?", "schema": SCHEMA}
    response = asking.post("/ask", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (502, "schema_not_met")
    assert "not JSON alone" in error["found"] and error["fix"]
    with asking.stream("POST", "/ask", json={**body, "stream": True}) as streamed:
        name, problem = list(events_of(streamed.iter_lines()))[-1]
    assert (name, problem["error"]["code"]) == ("error", "schema_not_met")


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({**SCHEMA, "not": {}}, "schema.not"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}, "schema.properties.a.pattern"),
        ({"type": "array", "items": {}}, "schema.type"),
    ],
)
def test_a_keyword_that_is_not_supported_is_refused_by_name(
    asking: httpx.Client, schema: dict[str, Any], where: str
) -> None:
    ours = asking.post("/ask", json={"question": QUESTION, "schema": schema})
    assert (ours.status_code, ours.json()["error"]["code"]) == (400, "unsupported_schema")
    assert ours.json()["error"]["where"] == where
    theirs = asking.post(
        "/v1/chat/completions",
        json={
            "model": "rag",
            "messages": [{"role": "user", "content": QUESTION}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            "stream": True,
        },
    )
    assert theirs.status_code == 400
    assert theirs.json()["error"]["param"] == f"response_format.json_schema.{where}"


def test_openais_client_gets_json_and_citations(ai: openai.OpenAI) -> None:
    made = ai.chat.completions.create(
        model="rag", messages=[{"role": "user", "content": QUESTION}], response_format=FORMAT
    )
    message = made.choices[0].message
    assert json.loads(message.content or "") == {"duration": "25 seconds", "is_wet": False}
    assert message.refusal is None
    assert [c["path"] for c in (made.model_extra or {})["citations"]] == ["/duration"]


def test_openais_client_is_refused_where_the_documents_do_not_say(ai: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What does the moon weigh?"}]
    message = ai.chat.completions.create(model="rag", messages=messages, response_format=FORMAT).choices[0].message
    assert (message.content, message.refusal) == (None, NOT_STATED)
    chunks = list(ai.chat.completions.create(model="rag", messages=messages, response_format=FORMAT, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == ""
    assert "".join(c.choices[0].delta.refusal or "" for c in chunks) == NOT_STATED


def test_streamed_json_comes_with_its_citations_at_the_end(ai: openai.OpenAI) -> None:
    chunks = list(
        ai.chat.completions.create(
            model="rag", messages=[{"role": "user", "content": QUESTION}], response_format=FORMAT, stream=True
        )
    )
    assert json.loads("".join(c.choices[0].delta.content or "" for c in chunks))["duration"] == "25 seconds"
    assert [bool((c.model_extra or {}).get("citations")) for c in chunks] == [False] * (len(chunks) - 1) + [True]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": "tuned", "response_format": FORMAT}, "response_format"),
        ({"response_format": FORMAT, "stop": ["x"]}, "stop"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_forms_that_are_not_supported_are_refused_by_name(
    asking: httpx.Client, change: dict[str, Any], param: str
) -> None:
    body = {"model": "rag", "messages": [{"role": "user", "content": QUESTION}], **change}
    response = asking.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_the_form_of_words_asks_for_nothing(ai: openai.OpenAI) -> None:
    made = ai.chat.completions.create(
        model="rag", messages=[{"role": "user", "content": QUESTION}], response_format={"type": "text"}
    )
    assert made.choices[0].message.content == "25 seconds [1]"


# ---------------------------------------------------------------- a real engine


def test_random_weights_write_json_that_fits_or_decline(tmp_path: Path) -> None:
    from tiny_models import make_tiny_llama

    from fieldwise.release.gguf import convert
    from fieldwise.serve.backend import open_llama
    from fieldwise.serve.settings import ServeSettings

    file = convert(make_tiny_llama(tmp_path / "weights", context=2048), tmp_path / "tiny.gguf").path
    run = make_run(tmp_path / "run", embedding="none")

    def real(name: str) -> Any:
        return open_llama(file, name, ServeSettings(threads=1))

    schema = {
        "type": "object",
        "properties": {"is_wet": {"type": "boolean"}, "kind": {"enum": ["gel", "soap"]}},
        "required": ["is_wet", "kind"],
    }
    body = {"messages": [{"role": "user", "content": QUESTION}], "model": "rag", "temperature": 2.0}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with live(run, engine=real, retrieve=RetrieveSettings(embedding="none", top_k=1)) as running:
        for seed in range(6):
            sent = {**body, "seed": seed, "response_format": form}
            made = httpx.post(f"{running.url}/v1/chat/completions", json=sent, timeout=60).raise_for_status().json()
            message = made["choices"][0]["message"]
            if made["is_declined"]:
                assert (message["content"], message["refusal"]) == (None, NOT_STATED)
            else:
                value = json.loads(message["content"])
                assert value["kind"] in ("gel", "soap") and isinstance(value["is_wet"], bool)
        short = {**body, "max_tokens": 2, "temperature": 0, "response_format": form}
        cut = httpx.post(f"{running.url}/v1/chat/completions", json=short, timeout=60)
        assert cut.status_code == 502 and "max_tokens" in cut.json()["error"]["message"]


# ---------------------------------------------------------------- follow-ups

HISTORY = [
    {"role": "user", "content": "Who pays the deposit of the staff flats?"},
    {"role": "assistant", "content": "The tenant."},
]


@pytest.mark.parametrize(
    ("how", "question", "query", "by"),
    [
        ("joined", "Is that all?", "Who pays the deposit of the staff flats? Is that all?", "joined"),
        ("carried", "Is that all?", "Is that all? tenant pays deposit staff flats", "carried"),
        ("model", "Is that all?", "the deposit of the staff flats", "tuned"),
        ("model", "Is that all, wordless?", "Is that all, wordless? tenant pays deposit staff flats", "carried"),
    ],
)
def test_what_was_searched_for_a_follow_up_is_told(
    run: RunFolder, how: Any, question: str, query: str, by: str
) -> None:
    with live(run, engine=Extracting, follow_up=how) as running:
        body = {"question": question, "history": HISTORY, "top_k": 1}
        answer = httpx.post(f"{running.url}/ask", json=body, timeout=20).raise_for_status().json()
        alone = httpx.post(f"{running.url}/ask", json={"question": QUESTION}, timeout=20).json()
    assert (answer["searched"]["query"], answer["searched"]["by"]) == (query, by)
    assert ("reason" in answer["searched"]) is ("wordless" in question)
    assert answer["passages"][0]["chunk"]["uri"] == "lease.txt"
    assert "searched" not in alone


def test_an_endpoint_words_the_search_and_its_budget_holds(run: RunFolder, structured: Live) -> None:
    endpoint = {"base_url": f"{structured.url}/v1", "model": "tuned", "budget": {"tokens": 1}}
    search = SearchOptions.model_validate({"endpoint": endpoint})
    with live(run, engine=Extracting, follow_up="endpoint", search=search) as running:
        body = {"question": "Is that all?", "history": HISTORY, "top_k": 1}
        answers = [httpx.post(f"{running.url}/ask", json=body, timeout=20).json() for _ in range(2)]
    assert [a["searched"]["by"] for a in answers] == ["carried"] * 2  # the stand-in for a model writes no JSON
    assert "budget" in answers[1]["searched"]["reason"] and answers[0]["searched"]["reason"]


# ---------------------------------------------------------------- when the rule of declining holds


def fitted(folder: Path, **retrieve: Any) -> RunFolder:
    """A run whose rule of when to decline was fitted with these settings."""
    run = make_run(folder, embedding="none")
    rule = decline_rule(threshold=2.0).model_dump(mode="json")
    edit_release(run, decline=rule)
    write_json(run.path / "4_adapters/selected.json", {"selected": "sft", "decline": rule})
    settings = RetrieveSettings(embedding="none", **retrieve).keyed()
    write_json(run.path / "manifests/4c_select.json", {"parts": {"settings": {"retrieve": settings}}})
    return run


@pytest.mark.parametrize(
    ("retrieve", "settings", "body", "why"),
    [
        ({}, {}, {}, ""),
        ({}, {}, {"top_k": 2}, "retrieve.top_k 3, not 2"),
        ({"candidates": 40}, {}, {}, "retrieve.candidates 50, not 40"),
        ({"rerank": "features"}, {}, {}, "retrieve.rerank unset, not features"),
        ({"screen": "drop"}, {}, {}, "retrieve.screen unset, not drop"),
        ({}, {"search": SearchOptions(per_document=1)}, {}, "without serve.search.per_document"),
        ({}, {}, {"model": "base"}, "the tuned weights"),
    ],
)
def test_the_rule_holds_for_what_it_was_fitted_with_and_else_says_why_not(
    tmp_path: Path, retrieve: Any, settings: Any, body: Any, why: str
) -> None:
    run = fitted(tmp_path / "run")
    chosen = RetrieveSettings(embedding="none", **retrieve)
    with live(run, retrieve=chosen, **settings) as running:
        rule = running.backend.answerer(body.get("model", "tuned"), top_k=body.get("top_k")).decline
        answer = httpx.post(f"{running.url}/ask", json={"question": QUESTION, **body}, timeout=20).json()
    assert (rule is None) is bool(why)
    assert why in answer.get("unruled", "") and ("unruled" in answer) is bool(why)


def test_a_rule_that_was_fitted_anew_since_the_release_tells_nothing(tmp_path: Path) -> None:
    run = fitted(tmp_path / "run", candidates=7)
    write_json(run.path / "4_adapters/selected.json", {"selected": "sft", "decline": None})
    with live(run, retrieve=RetrieveSettings(embedding="none")) as running:
        assert running.backend.answerer().decline is not None
        assert running.backend.answerer(top_k=1).decline is None
