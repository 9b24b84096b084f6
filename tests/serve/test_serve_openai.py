"""The official client of OpenAI against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from live import Live

QUESTION: list[Any] = [{"role": "user", "content": "How long do I rub the gel?"}]
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "book_room",
            "description": "Book a room",
            "parameters": {"type": "object", "properties": {"room": {"type": "string"}}},
        },
    }
]


@pytest.fixture(scope="module")
def ai(service: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=20) as client:
        yield client


def test_the_models_are_listed_with_and_without_retrieval(ai: openai.OpenAI) -> None:
    assert [m.id for m in ai.models.list()] == ["tuned", "base", "tuned:q4_k_m", "rag", "rag:base", "rag:tuned:q4_k_m"]
    assert ai.models.retrieve("rag:base").owned_by == "ward-handbook"


def test_a_plain_completion(ai: openai.OpenAI) -> None:
    made = ai.chat.completions.create(model="tuned", messages=HELLO)
    choice = made.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "You said: hello",
        "stop",
    )
    assert (
        made.usage is not None
        and made.usage.completion_tokens == 3
        and made.usage.total_tokens == made.usage.prompt_tokens + 3
    )
    assert made.object == "chat.completion" and made.system_fingerprint == "bld_q8_0"


def test_a_streamed_completion_with_usage(ai: openai.OpenAI) -> None:
    chunks = list(
        ai.chat.completions.create(model="base", messages=HELLO, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "You said: hello"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 3
    assert len({c.id for c in chunks}) == 1


def test_the_wire_format_of_a_stream_is_exact(client: httpx.Client) -> None:
    raw = client.post("/v1/chat/completions", json={"model": "tuned", "messages": HELLO, "stream": True}).content
    blocks = raw.split(b"\n\n")
    assert (
        blocks[-1] == b""
        and blocks[-2] == b"data: [DONE]"
        and all(b.startswith(b"data: {") and b"\n" not in b for b in blocks[:-2])
    )
    assert all(
        json.loads(b[6:])["object"] == "chat.completion.chunk" and "usage" not in json.loads(b[6:]) for b in blocks[:-2]
    )


def test_rag_answers_from_the_documents_with_citations_in_an_extra_field(ai: openai.OpenAI) -> None:
    made = ai.chat.completions.create(model="rag", messages=QUESTION)
    assert made.choices[0].message.content == "25 seconds [1]"
    extra = made.model_extra or {}
    assert (
        extra["is_declined"] is False
        and extra["citations"][0]["uri"] == "policies/hand-hygiene.pdf"
        and extra["citations"][0]["is_verified"]
    )


def test_streamed_rag_puts_the_citations_into_the_last_chunk(ai: openai.OpenAI) -> None:
    chunks = list(ai.chat.completions.create(model="rag:base", messages=QUESTION, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "about 25 seconds or so [1]"
    assert [bool((c.model_extra or {}).get("citations")) for c in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_call_of_a_tool_comes_as_one(ai: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "book room 4"}]
    choice = ai.chat.completions.create(model="tuned", messages=messages, tools=TOOLS).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    call: Any = (choice.message.tool_calls or [])[0]
    assert call.function.name == "book_room" and json.loads(call.function.arguments) == {"room": "4"}
    chunks = list(ai.chat.completions.create(model="tuned", messages=messages, tools=TOOLS, stream=True))
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks) == ""
        and chunks[-1].choices[0].finish_reason == "tool_calls"
    )
    assert [c.choices[0].delta.tool_calls[0].function.name for c in chunks if c.choices[0].delta.tool_calls] == [
        "book_room"
    ]  # type: ignore[union-attr]


def test_a_conversation_with_a_tools_answer_can_go_on(ai: openai.OpenAI) -> None:
    first = (
        ai.chat.completions.create(model="tuned", messages=[{"role": "user", "content": "book room 4"}], tools=TOOLS)
        .choices[0]
        .message
    )
    messages: list[Any] = [
        {"role": "user", "content": "book room 4"},
        first.model_dump(),
        {"role": "tool", "tool_call_id": "call_0", "content": "done"},
        {"role": "user", "content": "thanks"},
    ]
    assert ai.chat.completions.create(model="tuned", messages=messages).choices[0].message.content == "You said: thanks"


def test_tools_that_are_not_called_leave_the_text_whole(ai: openai.OpenAI) -> None:
    chunks = list(ai.chat.completions.create(model="tuned", messages=HELLO, tools=TOOLS, stream=True))
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks) == "You said: hello"
        and chunks[-1].choices[0].finish_reason == "stop"
    )


def test_stop_max_tokens_and_content_parts_are_obeyed(ai: openai.OpenAI) -> None:
    parts: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two three"}]}
    ]
    assert (
        ai.chat.completions.create(model="tuned", messages=parts, stop=["two"]).choices[0].message.content
        == "You said: one"
    )
    cut = ai.chat.completions.create(model="tuned", messages=parts, max_completion_tokens=3).choices[0]
    assert cut.message.content == "You said: one" and cut.finish_reason == "length"


def test_text_completions_take_the_prompt_as_it_stands(ai: openai.OpenAI) -> None:
    assert ai.completions.create(model="tuned", prompt="hello").choices[0].text.startswith(" You said")
    assert "".join(
        c.choices[0].text for c in ai.completions.create(model="tuned", prompt="hello", stream=True)
    ).startswith(" You said")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frequency_penalty", 0.5),
        ("presence_penalty", 1),
        ("logit_bias", {"1": 5}),
        ("logprobs", True),
        ("response_format", {"type": "json_object"}),
        ("n", 2),
        ("audio", {"voice": "x"}),
        ("web_search_options", {}),
        ("tool_choice", "required"),
        ("min_p", 0.1),
        ("temperature", 3),
        ("stop", ["a"] * 9),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
    ],
)
def test_a_field_that_would_be_passed_over_is_refused_by_name(client: httpx.Client, field: str, value: Any) -> None:
    response = client.post("/v1/chat/completions", json={"model": "tuned", "messages": HELLO, field: value})
    error = response.json()["error"]
    assert (
        response.status_code == 400
        and error["param"].split(".")[0] == field
        and error["type"] == "invalid_request_error"
        and set(error) >= {"message", "type", "param", "code"}
    )


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"messages": [{"role": "user"}]}, "messages.0", "needs content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type",
            "'image_url'",
        ),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content", "valid string"),
        ({"messages": HELLO, "max_tokens": "5"}, "max_tokens", "'5'"),
        ({"messages": HELLO, "stream": "yes"}, "stream", "'yes'"),
    ],
)
def test_a_wrong_part_of_a_message_is_named_as_it_stands_in_the_request(
    client: httpx.Client, body: dict[str, Any], param: str, said: str
) -> None:
    response = client.post("/v1/chat/completions", json=body)
    error = response.json()["error"]
    assert response.status_code == 400 and error["param"] == param and said in error["message"]
    assert "function-" not in error["message"] and "Value error" not in error["message"]


def test_fields_that_ask_for_nothing_are_let_through(ai: openai.OpenAI) -> None:
    made = ai.chat.completions.create(
        model="tuned",
        messages=HELLO,
        n=1,
        frequency_penalty=0,
        presence_penalty=0,
        logprobs=False,
        user="ward-3",
        response_format={"type": "text"},
        seed=-5,
        metadata={"a": "b"},
        store=False,
    )
    assert made.choices[0].message.content == "You said: hello"


def test_the_client_raises_its_own_errors(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="tuned, base"):
        ai.chat.completions.create(model="gpt-4", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="the context holds 1500") as found:
        ai.chat.completions.create(model="tuned", messages=[{"role": "user", "content": "long " * 1600}])
    assert found.value.code == "context_length_exceeded"
    with pytest.raises(openai.InternalServerError):
        ai.chat.completions.create(model="tuned", messages=[{"role": "user", "content": "be broken"}])
    with pytest.raises(openai.APIError, match="went wrong"):
        list(
            ai.chat.completions.create(model="tuned", messages=[{"role": "user", "content": "be broken"}], stream=True)
        )


def test_rag_refuses_tools_and_conversations_without_a_question(client: httpx.Client) -> None:
    tools = client.post("/v1/chat/completions", json={"model": "rag", "messages": HELLO, "tools": TOOLS})
    silent = client.post(
        "/v1/chat/completions", json={"model": "rag", "messages": [{"role": "system", "content": "x"}]}
    )
    blank = client.post("/v1/chat/completions", json={"model": "rag", "messages": [{"role": "user", "content": " "}]})
    assert (tools.status_code, tools.json()["error"]["param"]) == (400, "tools")
    for refused in (silent, blank):
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")
