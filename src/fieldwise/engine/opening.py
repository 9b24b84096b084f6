"""Any weights a user names, opened: a GGUF file, a folder, a hub id, or the embedded base."""

from __future__ import annotations

from pathlib import Path

from fieldwise.engine.base_weights import resolve
from fieldwise.errors import ModelError
from fieldwise.hashing import sha256_file
from fieldwise.interfaces import Engine


def open_weights(named: str, context_tokens: int = 4096, parallel: int = 1) -> tuple[Engine, str]:
    """Return an engine over the weights and the SHA-256 of these; raises ModelError where there are none."""
    path = Path(named).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(
                "the model file is not there",
                where=path,
                fix="Name a GGUF file, a folder of weights, or fieldwise-nano.",
            )
        from fieldwise.engine.llama_cpp import LlamaCppEngine

        return LlamaCppEngine(path, context_tokens=context_tokens, parallel=parallel), sha256_file(path)
    from fieldwise.engine.transformers_engine import TransformersEngine

    base = resolve(named)
    return TransformersEngine(Path(base.path), dtype="auto"), base.sha256
