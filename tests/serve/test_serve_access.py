"""Who may come in, and what leaves: keys, names, origins, headers, log lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import httpx
import openai
import pytest
from live import Live, live, wait_for

from fieldwise.errors import FieldwiseError, ServiceError
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.serve.access import Access, is_loopback
from fieldwise.serve.log import JsonLines
from fieldwise.serve.server import listening, serve_run
from fieldwise.serve.settings import ServeSettings


@pytest.fixture(scope="module")
def keyed(run: RunFolder) -> Iterator[Live]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEY_OF_THIS_TEST", "right-key")
        with live(run, api_key_env="KEY_OF_THIS_TEST") as service:
            yield service


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_listening_beyond_this_machine_without_a_key_is_refused_before_anything_is_loaded(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.delenv("FIELDWISE_API_KEY", raising=False)
    with pytest.raises(FieldwiseError, match="needs a key") as found:
        serve_run(RunFolder(run.path / "not-even-there"), ServeSettings(host=host, port=0), RetrieveSettings(), "q8_0")
    assert "FIELDWISE_API_KEY" in str(found.value)


def test_with_a_key_any_address_may_be_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "k")
    assert Access.from_settings(ServeSettings(host="0.0.0.0", api_key_env="OTHER_KEY")).key == "k"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_only_loopback_counts_as_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "path",
    ["/ask", "/models", "/metrics", "/openapi.json", "/v1/models", "/documents/doc_x", "/api/v1/health", "/nothing"],
)
@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "Basic right-key", "Bearer right-keyx", "Bearer \xe9"]
)
def test_every_route_needs_the_key(keyed: Live, path: str, header: str | None) -> None:
    response = httpx.get(
        keyed.url + path, headers={} if header is None else {"Authorization": header.encode("latin-1")}
    )
    assert (
        response.status_code == 401
        and response.headers["www-authenticate"] == "Bearer"
        and "right-key" not in response.text
    )


@pytest.mark.parametrize("path", ["/", "/docs", "/health", "/ready", "/ui/app.js", "/ui/style.css", "/favicon.ico"])
def test_the_page_and_the_states_need_none(keyed: Live, path: str) -> None:
    assert httpx.get(keyed.url + path).status_code == 200


def test_the_right_key_opens_and_the_openai_client_sends_it_so(keyed: Live) -> None:
    assert httpx.get(f"{keyed.url}/models", headers={"Authorization": "Bearer right-key"}).status_code == 200
    assert openai.OpenAI(base_url=f"{keyed.url}/v1", api_key="right-key").models.list().data[0].id == "tuned"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{keyed.url}/v1", api_key="wrong", max_retries=0).models.list()


def test_with_a_key_shutting_down_needs_it_even_from_this_machine(keyed: Live) -> None:
    assert httpx.post(f"{keyed.url}/api/v1/shutdown").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_for_this_machine_is_refused(client: httpx.Client, host: str) -> None:
    response = client.get("/models", headers={"Host": host})
    assert response.status_code in (400, 403)


def test_own_names_are_let_in(client: httpx.Client) -> None:
    assert [
        client.get("/models", headers={"Host": host}).status_code
        for host in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000")
    ] == [200] * 4


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_pages_of_other_sites_cannot_post(client: httpx.Client, origin: str) -> None:
    assert client.post("/api/v1/shutdown", headers={"Origin": origin}).status_code == 403
    assert client.get("/health").status_code == 200


def test_the_own_page_may_post_and_nobody_is_told_to_share(service: Live, client: httpx.Client) -> None:
    response = client.post("/ask", json={"question": "rub"}, headers={"Origin": service.url})
    assert response.status_code == 200 and not [name for name in response.headers if name.startswith("access-control")]
    assert (
        client.options("/ask", headers={"Origin": service.url, "Access-Control-Request-Method": "POST"}).status_code
        == 405
    )


@pytest.mark.parametrize("path", ["/", "/models", "/nothing", "/ui/app.js"])
def test_every_answer_carries_the_safe_headers(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert (
        headers["content-security-policy"].startswith("default-src 'self'")
        and "frame-ancestors 'none'" in headers["content-security-policy"]
    )
    assert headers["x-content-type-options"] == "nosniff" and headers["x-request-id"] and "server" not in headers


def test_log_lines_are_json_with_figures_and_without_words(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fieldwise"):
        client.post("/ask", json={"question": "rub the patient zebra-77"}, headers={"X-Request-Id": "case-9"})
        client.post("/api/v1/generate", json={"prompt": "be broken zebra-77"})
        wait_for(lambda: [r.getMessage() for r in caplog.records].count("request") >= 2)  # the line follows the answer
    lines = [JsonLines().format(record) for record in caplog.records]
    requests = [line for line in map(json.loads, lines) if line["event"] == "request"]
    asked = next(line for line in requests if line["request_id"] == "case-9")
    assert (
        asked["route"] == "/ask"
        and asked["status"] == 200
        and asked["completion_tokens"] == 3
        and asked["outcome"] == "ok"
    )
    assert next(line for line in requests if line["route"] == "/api/v1/generate")["outcome"] == "error"
    assert not [line for line in lines if "zebra-77" in line] and any(
        '"error": "RuntimeError"' in line for line in lines
    )


def test_a_request_id_that_could_forge_a_log_line_is_replaced(client: httpx.Client) -> None:
    assert client.get("/health", headers={"X-Request-Id": 'a" b'}).headers["x-request-id"].startswith("req_")


def test_a_taken_port_and_an_unknown_name_are_told() -> None:
    with listening(ServeSettings(port=0)) as listener:
        listener.listen(1)
        port = listener.getsockname()[1]
        with pytest.raises(ServiceError, match=str(port)), listening(ServeSettings(port=port)):
            pass
    with pytest.raises(ServiceError, match="not known"), listening(ServeSettings(host="no such host", port=0)):
        pass
