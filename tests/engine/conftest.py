from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.engine.transformers_engine import TransformersEngine


@pytest.fixture(scope="session")
def exact(gguf_file: Path) -> Iterator[LlamaCppEngine]:
    with LlamaCppEngine(gguf_file, parallel=8, threads=1, exact=True) as engine:
        yield engine


@pytest.fixture(scope="session")
def torch_engine(weights: Path) -> Iterator[TransformersEngine]:
    with TransformersEngine(weights, attention="eager", threads=1) as engine:
        yield engine
