from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for room in ("llm", "compare"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / room))

from chat_server import ChatServer  # noqa: E402


@pytest.fixture
def server() -> Iterator[ChatServer]:
    made = ChatServer()
    yield made
    made.close()
