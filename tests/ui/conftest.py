from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "serve"))

from fake_engine import FakeEngine
from live import Live, live
from released_run import make_run


@pytest.fixture(scope="session")
def ui_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_run(tmp_path_factory.mktemp("ui") / "run")


@pytest.fixture(scope="session")
def ui_service(ui_run: Any) -> Iterator[Live]:
    with live(ui_run, engine=lambda name: FakeEngine(name, piece_seconds=0.02)) as running:
        yield running


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; at the end nothing may have gone wrong in it, and it may have asked no other host."""
    contexts: list[Any] = []
    faults: list[str] = []

    def opened(url: str, **options: Any) -> Any:
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options}
        )
        context.set_default_timeout(60_000)  # milliseconds; for busy machines, nothing waits so long
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda message: (
                faults.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((url, "blob:", "data:")) else faults.append(f"asked {request.url}")
            ),
        )
        page.goto(f"{url}/")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
