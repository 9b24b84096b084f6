"""Fixtures of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from web_server import FakeClock, Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
