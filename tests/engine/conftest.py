from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_models import make_tiny_llama

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.release.gguf import convert


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="session")
def gguf_file(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(weights, tmp_path_factory.mktemp("gguf") / "tiny-f32.gguf").path


@pytest.fixture(scope="session")
def exact(gguf_file: Path) -> Iterator[LlamaCppEngine]:
    with LlamaCppEngine(gguf_file, parallel=8, threads=1, exact=True) as engine:
        yield engine


@pytest.fixture(scope="session")
def torch_engine(weights: Path) -> Iterator[TransformersEngine]:
    with TransformersEngine(weights, attention="eager", threads=1) as engine:
        yield engine
