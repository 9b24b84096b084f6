"""A hub of data sets on loopback: as much of the Hugging Face HTTP interface as `datasets` asks of it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "5f0c1d2e3b4a59687786a5b4c3d2e1f001122334"
NAME = "house/rules"


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


class FakeHub:
    """Holds one data set, `house/rules`, with the given files."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def entries(self, folder: str) -> list[dict[str, object]]:
        """What lies directly in a folder, and the folders in it."""
        start = f"{folder}/" if folder else ""
        inside = {path.removeprefix(start): path for path in self.files if path.startswith(start)}
        folders = sorted({name.partition("/")[0] for name in inside if "/" in name})
        return [{"type": "directory", "path": start + name, "oid": "0" * 40} for name in folders] + [
            {"type": "file", "path": path, "size": len(self.files[path]), "oid": _oid(self.files[path])}
            for name, path in inside.items()
            if "/" not in name
        ]

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        path = unquote(path.partition("?")[0])
        if found := re.fullmatch(rf"/datasets/{NAME}/resolve/([^/]+)/(.+)", path):
            content = self.files.get(found[2])
            if content is None:
                return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            etag = f'"{_oid(content)}"'
            return 200, content, {"X-Repo-Commit": COMMIT, "ETag": etag}
        if re.fullmatch(rf"/api/datasets/{NAME}(?:/revision/[^/]+)?", path):
            siblings = [{"rfilename": name} for name in self.files]
            info = {"id": NAME, "sha": COMMIT, "private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings}  # fmt: skip
            return 200, json.dumps(info).encode(), {}
        if found := re.fullmatch(rf"/api/datasets/{NAME}/tree/[^/]+(?:/(.*))?", path):
            return 200, json.dumps(self.entries(found[1] or "")).encode(), {}
        return 404, b"", {"X-Error-Code": "RepoNotFound"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                hub.asked.append(f"{self.command} {self.path}")
                status, body, headers = hub.answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_POST = do_GET  # noqa: N815  names of the base class

            def log_message(self, format: str, *args: object) -> None:
                return

        return Handler
