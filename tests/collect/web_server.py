"""A web server on loopback that behaves as a test tells it to, and a clock that does not wait."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fieldwise.collect.connection import Clock

HOST = "127.0.0.1"


@dataclass
class Reply:
    """What the server answers; `raw` writes to the wire itself."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html"})
    length: int | None = None
    raw: Callable[[Any], None] | None = None


Page = Reply | Callable[[BaseHTTPRequestHandler], Reply]


def html(text: str, **headers: str) -> Reply:
    """A page with some words."""
    body = f"<!DOCTYPE html><html><head><title>{text}</title></head><body><p>The page says: {text}.</p></body></html>"
    return Reply(body.encode(), headers={"Content-Type": "text/html; charset=utf-8", **headers})


def redirect(to: str, status: int = 302) -> Reply:
    """A redirect."""
    return Reply(status=status, headers={"Location": to})


class Server:
    """Serves `pages` by path; a list of pages is served one after the other, the last for ever."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Page | list[Page]] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.stopping = threading.Event()
        self._http = ThreadingHTTPServer((HOST, 0), self._handler())
        self._http.daemon_threads = True
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    def url(self, path: str = "/") -> str:
        return f"http://{HOST}:{self.port}{path}"

    def count(self, path: str) -> int:
        return self.asked.count(path)

    def pages_asked(self) -> list[str]:
        return [path for path in self.asked if path != "/robots.txt"]

    def close(self) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path
                server.asked.append(path)
                server.headers.append({k.lower(): v for k, v in self.headers.items()})
                page = server.pages.get(path, server.pages.get(path.partition("?")[0]))
                if isinstance(page, list):
                    page = page.pop(0) if len(page) > 1 else page[0]
                reply = page(self) if callable(page) else page
                self.close_connection = True
                try:
                    self._send(reply or Reply(b"not here", 404))
                except (BrokenPipeError, ConnectionResetError):
                    return

            def _send(self, reply: Reply) -> None:
                if reply.raw is not None:
                    reply.raw(self)
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: object) -> None:
                return

        return Handler


class FakeClock:
    """A clock whose sleeps pass at once and are noted; real seconds pass as well."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.wall_time = 1_800_000_000.0
        real = Clock()
        self.clock = Clock(
            now=lambda: real.now() + sum(self.slept), wall=lambda: self.wall_time, sleep=self.slept.append
        )
