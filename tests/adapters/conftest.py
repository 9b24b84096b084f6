"""Tiny weights that the adapters of these tests stand on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_tiny_llama


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("adapters") / "base", hidden=64, ffn=128, heads=2, kv_heads=1)
