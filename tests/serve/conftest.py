from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from live import Live, live
from released_run import make_run

from fieldwise.run import RunFolder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("serve") / "run")


@pytest.fixture(scope="session")
def service(run: RunFolder) -> Iterator[Live]:
    with live(run, timeout_seconds=30) as running:
        yield running


@pytest.fixture
def client(service: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=20) as made:
        yield made
