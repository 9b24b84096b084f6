"""A real server on a free port, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fake_engine import FakeEngine

from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.serve.app import create_app
from fieldwise.serve.backend import Backend, open_backend
from fieldwise.serve.server import address_of, listening, make_server
from fieldwise.serve.settings import ServeSettings

RETRIEVE = RetrieveSettings()


@dataclass
class Live:
    """A running service."""

    url: str
    backend: Backend
    app: Any
    engines: dict[str, FakeEngine] = field(default_factory=dict)

    @property
    def tuned(self) -> FakeEngine:
        return self.engines["tuned"]


@contextmanager
def live(
    run: RunFolder,
    *,
    model: str = "q8_0",
    retrieve: RetrieveSettings = RETRIEVE,
    engine: Callable[[str], Any] = FakeEngine,
    waits: bool = True,
    ingest: Callable[[Any], Any] | None = None,
    **settings: Any,
) -> Iterator[Live]:
    """Serve a run until the block ends; with `waits` from when it is ready."""
    engines: dict[str, Any] = {}

    def open_engine(path: Path, name: str, _: ServeSettings) -> Any:
        engines[name] = engine(name)
        return engines[name]

    chosen = ServeSettings(port=0, **settings)
    with (
        listening(chosen) as listener,
        open_backend(run, chosen, retrieve, model, open_engine=open_engine, ingest=ingest) as backend,
    ):
        app = create_app(backend, chosen)
        server = make_server(app)
        listener.listen(64)
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
        url = address_of(listener)
        thread.start()
        try:
            if waits:
                wait_for(lambda: httpx.get(f"{url}/ready").status_code == 200)
            yield Live(url, backend, app, engines)
        finally:
            app.state.service.stop()
            thread.join(15)
            assert not thread.is_alive(), "the server did not stop"


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.01)


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Yield name and data of server-sent events."""
    import json

    name = "message"
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield name, data if data == "[DONE]" else json.loads(data)
            name = "message"
