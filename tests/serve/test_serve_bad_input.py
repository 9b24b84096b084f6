"""What is refused, how it is told, and what stops when nobody listens any more."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fake_engine import FakeEngine
from live import Live, events_of, live, wait_for

from fieldwise.errors import ModelError
from fieldwise.run import RunFolder

CHAT = {"model": "tuned", "messages": [{"role": "user", "content": "hi"}]}


def send(url: str, path: str, body: dict[str, Any]) -> socket.socket:
    """Send a request and leave the answer unread."""
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname or "", place.port or 0), timeout=10)
    content = json.dumps(body).encode()
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
    return connection


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("/ask", {}, "question"),
        ("/ask", {"question": ""}, "question"),
        ("/ask", {"question": "a", "extra": 1}, "extra"),
        ("/ask", {"question": "a", "top_k": 10}, "top_k"),
        ("/ask", {"question": "a", "history": [{"role": "system", "content": "x"}]}, "history.0.role"),
        ("/api/v1/generate", {"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ("/api/v1/generate", {"prompt": "a", "max_tokens": 2049}, "max_tokens"),
        ("/api/v1/generate", {"prompt": "a", "temperature": 2.1}, "temperature"),
        ("/api/v1/generate", {"prompt": "a", "top_p": -0.1}, "top_p"),
        ("/api/v1/generate", {"prompt": "a", "top_k": -1}, "top_k"),
        ("/api/v1/generate/batch", {"prompts": []}, "prompts"),
        ("/api/v1/rerank", {"query": "a", "documents": []}, "documents"),
        ("/api/v1/generate", {"prompt": 7}, "prompt"),
        ("/api/v1/generate", {"prompt": "a", "max_tokens": True}, "max_tokens"),
        ("/api/v1/generate", {"prompt": "a", "max_tokens": "20"}, "max_tokens"),
        ("/api/v1/generate", {"prompt": "a", "temperature": "0.5"}, "temperature"),
        ("/ask", {"question": " \n\t"}, "question"),
        ("/api/v1/rerank", {"query": " ", "documents": ["a"]}, "query"),
        ("/api/v1/rerank", {"documents": ["a"]}, "query"),
    ],
)
def test_a_body_that_does_not_fit_is_told_what_where_found_and_fix(
    client: httpx.Client, path: str, body: dict[str, Any], where: str
) -> None:
    response = client.post(path, json=body)
    error = response.json()["error"]
    assert response.status_code == 422 and error["where"] == where and error["what"] and error["fix"]
    assert {"what", "where", "found", "fix", "code", "request_id"} <= set(error)


@pytest.mark.parametrize("content", [b"{", b"", b"[1]", b'"text"', b"\xff\xfe", b'{"question": NaN}', b"[" * 100_000])
def test_what_is_not_a_json_object_is_refused_without_a_fault(client: httpx.Client, content: bytes) -> None:
    response = client.post("/ask", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422) and response.json()["error"]["what"]


@pytest.mark.parametrize("content", [b'{"question": "\xff\xfe"}', b"[" * 100_000, b'{"top_k": ' + b"9" * 5000 + b"}"])
def test_a_body_that_no_parser_takes_is_told_as_one(client: httpx.Client, content: bytes) -> None:
    for path, code in (("/ask", "invalid_request"), ("/v1/chat/completions", "invalid_value")):
        response = client.post(path, content=content, headers={"Content-Type": "application/json"})
        error = response.json()["error"]
        assert (
            response.status_code == 400 and error["code"] == code and error.get("where", error.get("param")) == "body"
        )
        assert "UTF-8" in response.text


@pytest.mark.parametrize("path", ["/ask", "/api/v1/generate", "/v1/chat/completions"])
def test_half_a_character_is_refused_before_it_reaches_the_tokenizer(client: httpx.Client, path: str) -> None:
    content = (
        '{"question": "\\ud800"}'
        if path == "/ask"
        else '{"prompt": "\\ud800"}'
        if "generate" in path
        else '{"messages": [{"role": "user", "content": "\\ud800"}]}'
    )
    response = client.post(path, content=content.encode(), headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422) and "\\ud800" in response.text


def test_numbers_that_are_no_numbers_are_refused(client: httpx.Client) -> None:
    assert (
        client.post(
            "/api/v1/generate",
            content=b'{"prompt": "a", "temperature": NaN}',
            headers={"Content-Type": "application/json"},
        ).status_code
        == 422
    )


def test_top_p_of_zero_takes_the_likeliest_token(client: httpx.Client) -> None:
    assert client.post("/api/v1/generate", json={"prompt": "a", "top_p": 0}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/ask", {"question": "long " * 1600}),
        ("/api/v1/generate", {"prompt": "long " * 1600}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "long " * 1600}], "stream": True}),
        ("/v1/chat/completions", {"model": "rag", "messages": [{"role": "user", "content": "long " * 1600}]}),
    ],
)
def test_a_prompt_longer_than_the_context_is_refused_with_both_counts(
    service: Live, client: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    before = service.tuned.started
    response = client.post(path, json=body)
    error = response.json()["error"]
    assert response.status_code == 400 and error["code"] == "context_length_exceeded"
    said = error.get("message") or error["found"]
    assert "the context holds 1500" in said and int(said.split(" tokens")[0].split()[-1]) > 1600
    assert service.tuned.started == before


def test_own_routes_give_the_counts_as_numbers_too(client: httpx.Client) -> None:
    error = client.post("/api/v1/generate", json={"prompt": "long " * 1600}).json()["error"]
    assert error["context_tokens"] == 1500 and error["prompt_tokens"] > 1600


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("/ask", {"question": "long " * 1600}, "question"),
        ("/api/v1/generate", {"prompt": "long " * 1600}, "prompt"),
        ("/api/v1/generate/batch", {"prompts": ["short", "long " * 1600]}, "prompts.1"),
        ("/v1/completions", {"prompt": "long " * 1600}, "prompt"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "long " * 1600}]}, "messages"),
        (
            "/v1/chat/completions",
            {"model": "rag", "messages": [{"role": "user", "content": "long " * 1600}]},
            "messages",
        ),
    ],
)
def test_a_prompt_that_is_too_long_is_named_by_its_field(
    client: httpx.Client, path: str, body: dict[str, Any], where: str
) -> None:
    error = client.post(path, json=body).json()["error"]
    assert error["code"] == "context_length_exceeded" and error.get("where", error.get("param")) == where


@pytest.mark.parametrize(
    "path", ["/ask", "/api/v1/generate", "/api/v1/generate/batch", "/v1/chat/completions", "/v1/completions"]
)
def test_an_unknown_model_is_a_404_that_lists_those_there_are(client: httpx.Client, path: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/ask": {"question": "a"},
        "/api/v1/generate": {"prompt": "a"},
        "/api/v1/generate/batch": {"prompts": ["a"]},
        "/v1/chat/completions": CHAT,
        "/v1/completions": {"prompt": "a"},
    }
    response = client.post(path, json={**bodies[path], "model": "gpt-4"})
    assert response.status_code == 404 and response.json()["error"]["code"] == "model_not_found"
    assert "'gpt-4'" in response.text and "tuned, base, tuned:q4_k_m" in response.text


def test_a_body_beyond_a_megabyte_is_refused(client: httpx.Client) -> None:
    response = client.post(
        "/ask", content=b'{"question": "' + b"a" * 1_100_000 + b'"}', headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 413 and response.json()["error"]["code"] == "body_too_large"


def test_an_announced_huge_body_is_refused_without_waiting_for_it(service: Live) -> None:
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=5) as connection:
        connection.sendall(f"POST /ask HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 30000000\r\n\r\n".encode())
        assert connection.recv(200).startswith(b"HTTP/1.1 413")


def test_chunked_bodies_are_measured_as_they_come(client: httpx.Client) -> None:
    assert client.post("/ask", content=(b"x" * 100_000 for _ in range(12))).status_code == 413


def test_a_full_queue_answers_429_with_the_time_to_wait_and_counts_it(run: RunFolder) -> None:
    with live(run, parallel=1, queue=1) as service, ThreadPoolExecutor(2) as pool:
        first = send(service.url, "/api/v1/generate", {"prompt": "go slowly", "max_tokens": 2048})
        wait_for(lambda: service.tuned.running == 1)
        waiting = pool.submit(httpx.post, f"{service.url}/api/v1/generate", json={"prompt": "second"}, timeout=20)
        wait_for(lambda: "fieldwise_queue_depth 1.0" in httpx.get(f"{service.url}/metrics").text)
        refused = httpx.post(f"{service.url}/v1/chat/completions", json=CHAT)
        assert (
            refused.status_code == 429
            and int(refused.headers["retry-after"]) >= 1
            and refused.json()["error"]["type"] == "rate_limit_error"
        )
        first.close()
        assert waiting.result().json()["generated_text"] == "You said: second"
        assert 'fieldwise_rejected_total{route="/v1/chat/completions"} 1.0' in httpx.get(f"{service.url}/metrics").text


def test_a_request_that_takes_too_long_is_a_504_and_its_work_stops(run: RunFolder) -> None:
    with live(run, timeout_seconds=0.4) as service:
        response = httpx.post(f"{service.url}/api/v1/generate", json={"prompt": "be stuck"}, timeout=10)
        assert response.status_code == 504 and response.json()["error"]["code"] == "timeout"
        wait_for(lambda: service.tuned.cancelled == 1 and service.tuned.running == 0)


def test_a_place_is_taken_until_its_work_has_really_ended_and_waiting_for_it_has_a_limit(run: RunFolder) -> None:
    gate = threading.Event()

    class Deaf(FakeEngine):
        """Does not notice that it is cancelled."""

        def _pieces(self, prompt: Any, sampling: Any, is_cancelled: Any) -> Any:
            if "deaf" in self.detokenize(prompt):
                gate.wait(10)
            return super()._pieces(prompt, sampling, is_cancelled)

    with live(run, engine=Deaf, timeout_seconds=0.5, parallel=1) as service:
        answers = [
            httpx.post(f"{service.url}/api/v1/generate", json={"prompt": prompt}, timeout=10)
            for prompt in ("be deaf", "second")
        ]
        assert [a.status_code for a in answers] == [504, 504] and service.tuned.running == 1
        gate.set()
        wait_for(lambda: service.tuned.running == 0)
        assert httpx.post(f"{service.url}/api/v1/generate", json={"prompt": "third"}).status_code == 200


def test_a_stream_that_takes_too_long_ends_with_an_error_event(run: RunFolder) -> None:
    with (
        live(run, timeout_seconds=0.5) as service,
        httpx.stream(
            "POST", f"{service.url}/api/v1/generate", json={"prompt": "go slowly", "stream": True}, timeout=10
        ) as response,
    ):
        events = list(events_of(response.iter_lines()))
    assert (
        response.status_code == 200
        and len(events) > 2
        and events[-1][0] == "error"
        and events[-1][1]["error"]["code"] == "timeout"
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/generate", {"prompt": "go slowly", "stream": True, "max_tokens": 2048}),
        ("/api/v1/generate", {"prompt": "go slowly", "max_tokens": 2048}),
        ("/api/v1/generate", {"prompt": "be stuck"}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "go slowly"}], "stream": True, "max_tokens": 2048},
        ),
        ("/ask", {"question": "go slowly", "stream": True, "max_tokens": 2048}),
        ("/api/v1/generate/batch", {"prompts": ["go slowly"] * 3, "max_tokens": 2048}),
    ],
)
def test_a_client_that_goes_away_stops_the_generation(service: Live, path: str, body: dict[str, Any]) -> None:
    before = service.tuned.cancelled
    expected = len(body.get("prompts", [1]))
    connection = send(service.url, path, body)
    wait_for(lambda: service.tuned.running == expected)
    if body.get("stream"):
        received = b""
        while received.count(b"word") < 2:
            received += connection.recv(4096)
    connection.close()
    wait_for(lambda: service.tuned.running == 0, 3)
    assert service.tuned.cancelled == before + expected


def test_a_client_that_goes_away_while_it_waits_never_starts(run: RunFolder) -> None:
    with live(run, parallel=1) as service:
        first = send(service.url, "/api/v1/generate", {"prompt": "go slowly", "max_tokens": 2048})
        wait_for(lambda: service.tuned.running == 1)
        started = service.tuned.started
        second = send(service.url, "/api/v1/generate", {"prompt": "second", "stream": True})
        wait_for(lambda: "fieldwise_queue_depth 1.0" in httpx.get(f"{service.url}/metrics").text)
        second.close()
        wait_for(lambda: "fieldwise_queue_depth 0.0" in httpx.get(f"{service.url}/metrics").text)
        first.close()
        wait_for(lambda: service.tuned.running == 0)
        assert httpx.post(f"{service.url}/api/v1/generate", json={"prompt": "third"}, timeout=10).status_code == 200
        assert service.tuned.started == started + 1


@pytest.mark.parametrize("path", ["/api/v1/generate", "/v1/chat/completions"])
def test_a_fault_is_a_500_with_a_request_id_and_nothing_else_of_it(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    body: dict[str, Any] = (
        {"prompt": "be broken"} if "generate" in path else {"messages": [{"role": "user", "content": "be broken"}]}
    )
    with caplog.at_level("ERROR", "fieldwise"):
        response = client.post(path, json=body, headers={"X-Request-Id": "case-17"})
    assert response.status_code == 500 and response.headers["x-request-id"] == "case-17" and "case-17" in response.text
    assert "Traceback" not in response.text and "broken" not in response.text and "RuntimeError" not in response.text
    assert any(record.fields["request_id"] == "case-17" for record in caplog.records)  # type: ignore[attr-defined]


def test_a_fault_in_the_middle_of_a_stream_is_its_last_event(client: httpx.Client) -> None:
    with client.stream("POST", "/api/v1/generate", json={"prompt": "be broken", "stream": True}) as response:
        events = list(events_of(response.iter_lines()))
    assert [name for name, _ in events] == ["text", "error"] and events[-1][1]["error"]["code"] == "internal_error"
    assert "broken" not in json.dumps(events[-1])


def test_places_are_free_again_after_faults_and_refusals(service: Live, client: httpx.Client) -> None:
    for _ in range(6):
        client.post("/api/v1/generate", json={"prompt": "be broken"})
        client.post("/api/v1/generate", json={"prompt": "long " * 1600})
    assert client.post("/api/v1/generate", json={"prompt": "fine"}).status_code == 200
    wait_for(lambda: service.tuned.running == 0)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/ask", 405),
        ("GET", "/documents/doc_none", 404),
        ("GET", "/documents/..%2f..%2frecipe.yaml", 404),
        ("GET", "/ui/..%2f__init__.py", 404),
        ("GET", "/ui/nothing.js", 404),
        ("GET", "/v1/models/none", 404),
    ],
)
def test_addresses_that_are_not_there_are_told_in_the_same_shape(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert response.status_code == status and response.json()["error"]["code"]


def test_a_model_whose_file_is_gone_is_a_503_without_its_path(run: RunFolder, tmp_path: Any) -> None:
    kept = run.path / "6_builds/ward-handbook-q4_k_m.gguf"
    content = kept.read_bytes()
    with live(run) as service:
        kept.write_bytes(b"another file")
        try:
            response = httpx.post(f"{service.url}/ask", json={"question": "a", "model": "tuned:q4_k_m"})
        finally:
            kept.write_bytes(content)
    assert (
        response.status_code == 503
        and "not the one that was released" in response.text
        and str(run.path) not in response.text
    )


def test_not_ready_until_the_models_are_warm(run: RunFolder) -> None:
    gate = threading.Event()

    class SlowToWarm(FakeEngine):
        def generate(self, prompts: Any, sampling: Any, **rated: Any) -> Any:
            gate.wait(10)
            return super().generate(prompts, sampling)

    with live(run, engine=SlowToWarm, waits=False) as service:
        assert [httpx.get(f"{service.url}/{path}").status_code for path in ("ready", "health")] == [503, 200]
        gate.set()
        wait_for(lambda: httpx.get(f"{service.url}/ready").status_code == 200)


def test_a_base_that_cannot_be_loaded_keeps_the_service_from_being_ready_and_is_told(run: RunFolder) -> None:
    def engine(name: str) -> FakeEngine:
        if name == "base":
            raise ModelError("the file is cut off", where="/secret/place")
        return FakeEngine(name)

    with live(run, engine=engine, waits=False) as service:
        wait_for(lambda: "the file is cut off" in httpx.get(f"{service.url}/ready").text)
        state = httpx.get(f"{service.url}/ready")
        assert state.status_code == 503 and "secret" not in state.text
        assert httpx.post(f"{service.url}/ask", json={"question": "rub"}).status_code == 200
