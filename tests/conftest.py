"""Shared by all tests: no network, no hub, quiet libraries."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest

from fieldwise.progress import set_quiet

_LOOPBACK_ROOMS = (
    "tests/serve/",
    "tests/ui/",
    "tests/e2e/",
    "tests/collect/test_web_",
    "tests/llm/",
    "tests/judge/",
    "tests/suite/",
)
_BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",
]


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse every connection; tests of the service may use loopback."""
    may_use_loopback = any(room in request.node.path.as_posix() for room in _LOOPBACK_ROOMS)
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else None
        if host is None or (may_use_loopback and str(host) in ("127.0.0.1", "::1", "localhost")):
            return connect(self, address)  # type: ignore[arg-type]
        raise OSError(f"tests do not use the network: {address!r}")

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a model of random numbers, for those who load or convert some."""
    from tiny_models import make_tiny_llama

    return make_tiny_llama(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="session")
def gguf_file(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a GGUF file."""
    from fieldwise.release.gguf import convert

    return convert(weights, tmp_path_factory.mktemp("gguf") / "tiny-f32.gguf").path


@pytest.fixture(autouse=True)
def progress_shown() -> None:
    """Switch progress on: a command of an earlier test may have been called with `--quiet` in this process."""
    set_quiet(False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; by module, since Playwright's event loop would be in the way of other tests."""
    chromium = os.environ.get("FIELDWISE_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium: name one with FIELDWISE_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=_BROWSER_ARGUMENTS)
        yield opened
        opened.close()
