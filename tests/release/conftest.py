from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_tiny_llama


@pytest.fixture(scope="session")
def odd_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose rows of 192 and 544 numbers do not divide into blocks of 256."""
    return make_tiny_llama(tmp_path_factory.mktemp("weights") / "odd", hidden=192, ffn=544, heads=6, kv_heads=2)
