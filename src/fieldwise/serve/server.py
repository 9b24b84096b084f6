"""`fieldwise serve`: load a release, listen, answer until told to stop."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fieldwise.errors import ServiceError
from fieldwise.extras import require
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.serve import log
from fieldwise.serve.access import Access
from fieldwise.serve.backend import open_backend
from fieldwise.serve.settings import ServeSettings

if TYPE_CHECKING:
    from fieldwise.serve.stored import OpenIngester

_BACKLOG = 512
_GRACE_SECONDS = 5


def serve_run(
    run: RunFolder,
    settings: ServeSettings,
    retrieve: RetrieveSettings,
    model: str,
    ingest: OpenIngester | None = None,
) -> int:
    """Serve the release of a run until SIGINT, SIGTERM or POST /api/v1/shutdown; returns the exit code 0.

    Prints one line with the address once connections are taken. Raises FieldwiseError for what can be known before:
    no release, no such model, no key for a public address, an address that is taken.
    """
    require("fastapi", extra="serve", to="serve over HTTP")
    Access.from_settings(settings)
    log.configure()
    with listening(settings) as listener, open_backend(run, settings, retrieve, model, ingest=ingest) as backend:
        from fieldwise.serve.app import create_app

        app = create_app(backend, settings)
        server = make_server(app)
        listener.listen(_BACKLOG)
        build = backend.models()[0].build
        sys.stdout.write(f"Serving {backend.release.name} ({build.quantisation}) at {address_of(listener)}\n")
        sys.stdout.flush()
        with _stopping_on_signals(server):
            server.run(sockets=[listener])
    return 0


@contextmanager
def listening(settings: ServeSettings) -> Iterator[socket.socket]:
    """Bind the address of the settings. Raises ServiceError when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ServiceError(
            "the address is not known",
            where="serve.host",
            found=repr(settings.host),
            fix="Use 127.0.0.1 for this machine, or 0.0.0.0 with a key.",
        ) from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise ServiceError(
                "the address cannot be had",
                where="serve.port",
                found=f"{settings.host}:{settings.port}: {error.strerror}",
                fix="Choose another with --port; 0 takes a free one.",
            ) from error
        yield listener


def address_of(listener: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: Any) -> Any:
    """Return a uvicorn server for an application of `create_app`; its shutdown route stops it."""
    uvicorn = require("uvicorn", extra="serve", to="serve over HTTP")
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    app.state.service.stop = stop
    return server


@contextmanager
def _stopping_on_signals(server: Any) -> Iterator[None]:
    """Stop cleanly on SIGINT and SIGTERM. uvicorn raises them again when it has stopped, so these handlers must outlast it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
