"""A real endpoint on loopback that behaves and misbehaves, through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fieldwise.cli import main
from fieldwise.errors import ServiceError
from fieldwise.records import Message
from fieldwise.suite.endpoint import EndpointRespondent, EndpointSettings
from fieldwise.suite.items import Reply
from fieldwise.suite.respondents import Asked

Behaviour = Callable[["Endpoint", dict[str, Any], BaseHTTPRequestHandler], None]


class Endpoint:
    """What was asked, and where."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = ""
        self.lock = threading.Lock()

    def times(self, body: dict[str, Any]) -> int:
        return sum(b["messages"] == body["messages"] for b in self.bodies)


def send(handler: BaseHTTPRequestHandler, status: int, value: Any, **headers: str) -> None:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    handler.send_response(status)
    for name, text in headers.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def completion(text: str | None, **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}]}


def says_yes(endpoint: Endpoint, body: dict[str, Any], handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, completion("yes"))


@contextmanager
def serving(behave: Behaviour) -> Iterator[Endpoint]:
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with endpoint.lock:
                endpoint.bodies.append(body)
                endpoint.keys.append(self.headers["Authorization"])
            with suppress(BrokenPipeError, ConnectionResetError):
                behave(endpoint, body, self)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()


def replies(url: str, *texts: str, tools=(), **settings: Any) -> list[Reply]:
    who = EndpointRespondent(EndpointSettings(url, "m", first_wait_seconds=0.01, **settings))
    try:
        return list(who.reply_all([Asked((Message(role="user", content=t),), tools) for t in texts]))
    finally:
        who.close()


def suite_file(tmp_path: Path, count: int) -> str:
    rows = [{"id": f"i{n}", "prompt": f"q{n}", "checks": [{"contains": "yes"}]} for n in range(count)]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return str(path)


# ---------------------------------------------------------------- one reply


def test_a_good_endpoint_is_asked_once_for_each_item() -> None:
    tool = {"type": "function", "function": {"name": "book", "parameters": {}}}

    def behave(endpoint, body, handler):
        called = [{"id": "c", "type": "function", "function": {"name": "book", "arguments": '{"ward": "A"}'}}]
        send(handler, 200, completion(None, tool_calls=called))

    with serving(behave) as endpoint:
        found = replies(endpoint.url, "a", tools=(tool,))
    assert found[0].tool_calls[0].arguments == {"ward": "A"} and found[0].text == ""
    assert endpoint.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "a"}],
            "max_tokens": 256,
            "temperature": 0,
            "tools": [tool],
        }
    ]


def test_replies_come_in_order_also_when_the_first_is_the_slowest() -> None:
    def behave(endpoint, body, handler):
        time.sleep(0.3 if body["messages"][0]["content"] == "0" else 0)
        send(handler, 200, completion(body["messages"][0]["content"]))

    with serving(behave) as endpoint:
        assert [r.text for r in replies(endpoint.url, *map(str, range(12)))] == [str(n) for n in range(12)]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((500, {"error": {"message": "broken"}}), "http_500"),
        ((429, {"error": "slow down"}), "http_429"),
        ((200, b"<html>hello</html>"), "no_completion"),
        ((200, b'{"choices": ['), "no_completion"),
        ((200, {"choices": []}), "no_completion"),
        ((200, {"error": {"message": "overloaded"}}), "no_completion"),
        ((400, {"error": {"message": "prompt too long"}}), "http_400"),
    ],
)
def test_what_is_no_reply_is_told_apart_from_a_wrong_one(answer, problem: str) -> None:
    with serving(lambda e, b, h: send(h, *answer, Retry_After="0")) as endpoint:
        assert [r.problem for r in replies(endpoint.url, "a")] == [problem]
        assert len(endpoint.bodies) == (1 if problem == "http_400" else 3)


def test_a_failure_that_passes_is_tried_again() -> None:
    def behave(endpoint, body, handler):
        send(handler, *((503, {"error": "warming up"}) if endpoint.times(body) < 3 else (200, completion("yes"))))

    with serving(behave) as endpoint:
        assert [r.text for r in replies(endpoint.url, "a")] == ["yes"]


def test_an_endpoint_that_drips_or_cuts_off_does_not_hold_the_run() -> None:
    def drip(endpoint, body, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    def cut(endpoint, body, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.close_connection = True

    with serving(drip) as endpoint:
        assert replies(endpoint.url, "a", timeout_seconds=0.2)[0].problem == "timeout"
    with serving(cut) as endpoint:
        assert replies(endpoint.url, "a")[0].problem == "connection"


def test_a_reply_without_end_is_given_up() -> None:
    def flood(endpoint, body, handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(12):
            handler.wfile.write(b" " * (1 << 20))

    with serving(flood) as endpoint:
        assert replies(endpoint.url, "a")[0].problem == "too_much"


def test_parameters_an_endpoint_does_not_take_are_left_out() -> None:
    def behave(endpoint, body, handler):
        if "max_tokens" in body:
            send(handler, 400, {"error": {"message": "Use 'max_completion_tokens' instead."}})
        elif "temperature" in body:
            send(handler, 400, {"error": {"message": "temperature is not supported"}})
        else:
            send(handler, 200, completion("yes"))

    with serving(behave) as endpoint:
        assert replies(endpoint.url, "a")[0].text == "yes"
        assert endpoint.bodies[-1].keys() == {"model", "messages", "max_completion_tokens"}


def test_arguments_that_are_no_json_are_the_models_mistake() -> None:
    called = [{"function": {"name": "book", "arguments": "ward A"}}]
    with serving(lambda e, b, h: send(h, 200, completion("", tool_calls=called))) as endpoint:
        found = replies(endpoint.url, "a")[0]
    assert found.problem == "" and found.tool_calls[0].arguments == {"": "ward A"}


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_what_meets_every_request_ends_the_run_and_shows_no_key(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")

    def behave(endpoint, body, handler):
        send(handler, status, {"error": {"message": f"bad key {handler.headers['Authorization']}"}}, Location="/x")

    with serving(behave) as endpoint, pytest.raises(ServiceError) as caught:
        replies(endpoint.url, "a", "b", key_env="MY_KEY")
    assert endpoint.keys[0] == "Bearer sk-very-secret" and "very-secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://h/v1", "http://user:pw@h/v1", "http:///v1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ServiceError, match="not the address") as caught:
        EndpointRespondent(EndpointSettings(url, "m"))
    assert "pw" not in str(caught.value)


def test_a_key_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ServiceError, match="NO_KEY"):
        EndpointRespondent(EndpointSettings("http://h/v1", "m", "NO_KEY"))


# ---------------------------------------------------------------- the command


def test_the_command_prints_figures_and_keeps_every_reply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def behave(endpoint, body, handler):
        send(handler, 200, completion("yes" if body["model"] == "good" else "no"))

    arguments = ["suite", suite_file(tmp_path, 12), "--out", str(tmp_path / "out"), "--quiet"]
    with serving(behave) as endpoint:
        both = [*arguments, "--endpoint", endpoint.url, "--model", "bad", "--model", "good", "--model", "good"]
        assert main(both) == 0
        printed = capsys.readouterr().out
        assert main([*both, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert len(endpoint.bodies) == 24  # the second call asked nothing
        assert main([*both[:-4], "--force", "--at-least", "0.9"]) == 3
        assert len(endpoint.bodies) == 36
    assert "good against bad: +1.00" in printed and "report.md" in printed
    assert [m["passed"]["value"] for m in told["models"]] == [0.0, 1.0]
    kept = [json.loads(line) for p in (tmp_path / "out/mine").glob("good-*/items.jsonl") for line in p.open()]
    assert len(kept) == 12 and kept[0]["reply"]["text"] == "yes" and kept[0]["is_passed"]


def test_tokens_and_their_cost_are_told_as_the_endpoint_counts_them(tmp_path: Path, capsys) -> None:
    def behave(endpoint, body, handler):
        usage = {"prompt_tokens": 1000, "completion_tokens": 50}
        odd = {"prompt_tokens": "many", "completion_tokens": -3}
        send(handler, 200, {**completion("yes"), "usage": odd if body["messages"][0]["content"] == "q3" else usage})

    arguments = ["suite", suite_file(tmp_path, 12), "--out", str(tmp_path / "out"), "--quiet", "--model", "m"]
    with serving(behave) as endpoint:
        asked = [*arguments, "--endpoint", endpoint.url]
        assert main([*asked, "--price", "0.5", "2"]) == 0
        assert (
            "m: 11000 tokens read, 550 said for 11 of 12 items, cost 0.0066 in the currency" in capsys.readouterr().out
        )
        assert main([*asked, "--json"]) == 0
    spent = json.loads(capsys.readouterr().out)["models"][0]["spent"]
    assert spent == {"items": 11, "prompt_tokens": 11000, "completion_tokens": 550, "price": None}


def test_too_many_failures_are_inconclusive_and_the_next_call_asks_these_alone(tmp_path: Path, capsys) -> None:
    is_well = threading.Event()

    def behave(endpoint, body, handler):
        fails = body["messages"][0]["content"] in ("q0", "q4", "q8") and not is_well.is_set()
        send(handler, *((400, {"error": "no"}) if fails else (200, completion("yes"))))

    with serving(behave) as endpoint:
        arguments = [
            "suite",
            suite_file(tmp_path, 12),
            "--out",
            str(tmp_path / "out"),
            "--quiet",
            "--endpoint",
            endpoint.url,
            "--model",
            "m",
        ]
        assert main(arguments) == 3
        assert "m: INCONCLUSIVE (3 of 12 items are not scored" in capsys.readouterr().out
        is_well.set()
        before = len(endpoint.bodies)
        assert main(arguments) == 0
        assert sorted(b["messages"][0]["content"] for b in endpoint.bodies[before:]) == ["q0", "q4", "q8"]


def test_an_endpoint_that_is_not_there_is_one_clear_message(tmp_path: Path, capsys) -> None:
    with serving(says_yes) as endpoint:
        gone = endpoint.url
    code = main(
        ["suite", suite_file(tmp_path, 20), "--out", str(tmp_path / "o"), "--quiet", "--endpoint", gone, "--model", "m"]
    )
    told = capsys.readouterr()
    assert code == 2 and "6 items in a row were not answered" in told.err and not told.out


def test_items_that_are_all_too_long_are_counted_and_the_rest_is_asked(tmp_path: Path, capsys) -> None:
    def behave(endpoint, body, handler):
        is_long = int(body["messages"][0]["content"][1:]) < 10
        send(handler, *((400, {"error": "too long"}) if is_long else (200, completion("yes"))))

    with serving(behave) as endpoint:
        place = ["--out", str(tmp_path / "o"), "--quiet", "--endpoint", endpoint.url, "--model", "m"]
        assert main(["suite", suite_file(tmp_path, 12), *place]) == 3
    assert "10 of 12 items not scored (http_400 10)" in capsys.readouterr().out


def test_killed_and_run_again_no_answered_item_is_asked_twice(tmp_path: Path) -> None:
    def slow(endpoint, body, handler):
        time.sleep(0.05)
        send(handler, 200, completion("yes"))

    with serving(slow) as endpoint:
        command = [
            sys.executable,
            "-m",
            "fieldwise",
            "suite",
            suite_file(tmp_path, 60),
            "--out",
            str(tmp_path / "out"),
            "--quiet",
            "--endpoint",
            endpoint.url,
            "--model",
            "m",
            "--json",
        ]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        ledger: list[Path] = []
        for _ in range(600):
            ledger = list((tmp_path / "out").glob("mine/*/replies.jsonl"))
            if ledger and ledger[0].read_bytes().count(b"\n") >= 10:
                break
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        answered = {json.loads(line)["item"] for line in ledger[0].read_text().splitlines()}
        time.sleep(0.3)  # what was under way when it was killed
        before = len(endpoint.bodies)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        asked = [b["messages"][0]["content"] for b in endpoint.bodies[before:]]
    assert done.returncode == 0, done.stderr
    assert 10 <= len(answered) < 60
    assert sorted(asked) == sorted(f"q{n}" for n in range(60) if f"i{n}" not in answered)
    assert json.loads(done.stdout)["models"][0]["passed"]["value"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["suite"], "which suite"),
        (["suite", "nothing"], "no suite has this name"),
        (["suite", "legal", "--endpoint", "http://127.0.0.1:9/v1"], "which model"),
        (["suite", "legal", "--endpoint", "http://127.0.0.1:9/v1", "--weights", "x", "--model", "m"], "two sources"),
        (["suite", "legal", "--weights", "gone.gguf"], "not there"),
        (["suite", "legal", "--weights", "./gone"], "not there"),
        (["suite", "legal", "--weights", "x", "--model", "m"], "Leave --model out"),
        (["suite", "legal", "--run", "gone"], "run folder is not there"),
        (["suite", "legal", "--run", "gone", "--price", "1", "2"], "only an endpoint has prices"),
    ],
)
def test_what_cannot_be_asked_is_one_message(arguments, says, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--quiet"]) == 2
    assert says in capsys.readouterr().err


def test_the_list_names_every_shipped_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "finance",
        "general",
        "healthcare",
        "legal",
        "safety",
    ]
    assert main(["suite", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[3]["items"] >= 40
