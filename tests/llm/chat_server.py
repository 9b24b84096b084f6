"""An OpenAI-compatible endpoint on loopback, in threads, that behaves and misbehaves as a test tells it to."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fieldwise.generate.rules import pairs_of_chunk
from fieldwise.records import Chunk, Document, Source

HOST = "127.0.0.1"
KEY = "sk-test-secret-0123456789"


@dataclass
class Answer:
    """What is sent back; `drip` sends the body a byte at a time with this pause, `cut` only its first bytes."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drip_seconds: float = 0.0
    cut: int | None = None
    wait_seconds: float = 0.0


def said(text: str | None, *, finish_reason: str = "stop", prompt: int = 100, completion: int = 10) -> Answer:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return Answer(body={"object": "chat.completion", "choices": [choice], "usage": usage})


def failed(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error in OpenAI's shape; `Retry_After="1"` gives a header."""
    error = {"message": message, "type": "error", "param": None, "code": code}
    return Answer(status, {"error": error}, {k.replace("_", "-"): v for k, v in headers.items()})


Behaviour = Callable[[dict[str, Any]], Answer]


class ChatServer:
    """Counts what it is asked; `bodies` and `headers` keep it. `script` is answered first, then `behave`."""

    def __init__(self, behave: Behaviour | None = None, *, key: str | None = None, port: int = 0) -> None:
        self.behave: Behaviour = behave or (lambda body: said(f"You said: {prompt_of(body)}"))
        self.script: list[Answer] = []
        self.key = key
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answered: Counter[str] = Counter()  # whole replies sent, by prompt
        self.running = self.most_running = 0
        self._lock = threading.Lock()
        self.stopping = threading.Event()

        class Http(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, request: Any, address: Any) -> None:
                """A client that goes away is no error here."""

        self._http = Http((HOST, port), self._handler())
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._http.server_address[1]}/v1"

    @property
    def count(self) -> int:
        return len(self.bodies)

    def close(self) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, body: dict[str, Any], headers: dict[str, str], path: str) -> Answer:
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            if path != "/v1/chat/completions":
                return failed(404, "no such route")
            if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
                return failed(401, f"Incorrect API key provided: {headers.get('authorization')}", "invalid_api_key")
            if self.script:
                return self.script.pop(0)
        return self.behave(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.running += 1
                    server.most_running = max(server.most_running, server.running)
                try:
                    self._send(body, server._answer(body, {k.lower(): v for k, v in self.headers.items()}, self.path))
                finally:
                    with server._lock:
                        server.running -= 1

            def _send(self, body: dict[str, Any], answer: Answer) -> None:
                server.stopping.wait(answer.wait_seconds) if answer.wait_seconds else None
                content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                head = f"HTTP/1.1 {answer.status} X\r\nContent-Type: application/json\r\n"
                head += "".join(f"{k}: {v}\r\n" for k, v in answer.headers.items())
                whole = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
                if answer.cut is not None:
                    self.wfile.write(whole[: answer.cut])
                    self.close_connection = True
                    return
                if answer.drip_seconds:
                    for n in range(len(whole)):
                        if server.stopping.is_set():
                            return
                        self.wfile.write(whole[n : n + 1])
                        time.sleep(answer.drip_seconds)
                else:
                    self.wfile.write(whole)
                if answer.status == 200:
                    with server._lock:
                        server.answered[json.dumps(body["messages"])] += 1

            def log_message(self, *_: object) -> None:
                """Tests read `bodies`."""

        return Handler


def prompt_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def lesson_for(body: dict[str, Any]) -> Answer:
    """What a good teacher says about the passage of a prompt: the pairs of the rules."""
    passage = re.search(r"<passage>\n(.*)\n</passage>", prompt_of(body), re.DOTALL)
    assert passage is not None
    text = passage.group(1)
    document = Document.make(title="T", text=text, source=Source(uri="m.md"))
    pairs = pairs_of_chunk(Chunk.make(document, 0, len(text)), random.Random(0))[:6]
    written = [{"question": p.question, "answer": p.answer, "quote": p.quote, "kind": p.kind} for p in pairs]
    return said(
        json.dumps({"pairs": written, "unanswerable": ["Who pays the driver of the blue van?"]}),
        prompt=400,
        completion=200,
    )
