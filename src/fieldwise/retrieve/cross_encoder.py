"""A cross-encoder as reranker: any folder that sentence-transformers' CrossEncoder reads, through transformers alone.

Query and text are read together, so it sees what neither words nor vectors tell; and it costs a pass of the model for
each pair. It is torch that computes: for a serving process without torch keep to the features.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.retrieve.rerank import Reranker

_BATCH = 16
_MAX_TOKENS = 512


@contextmanager
def silent(transformers: Any) -> Iterator[None]:
    """Keep the bars and tables of transformers off stderr: what matters is told by errors of our own."""
    talk = transformers.utils.logging
    had_bars, level = talk.is_progress_bar_enabled(), talk.get_verbosity()
    talk.disable_progress_bar()
    talk.set_verbosity_error()
    try:
        yield
    finally:
        talk.set_verbosity(level)
        if had_bars:
            talk.enable_progress_bar()


class PairClassifier:
    """A sequence classifier that reads two texts together, from a folder as transformers saves it; safetensors alone.

    Raises ModelError for a folder that is none, or a model without a trained head; `what` and `where` say which it was to be.
    """

    def __init__(self, folder: Path, what: str, where: str, max_tokens: int | None = None) -> None:
        fix = f"Name a folder with config.json, model.safetensors and tokenizer of a {what}."
        if not (folder / "config.json").is_file():
            raise ModelError(f"there is no {what} here", where=where, found=folder, fix=fix)
        self._torch = require("torch", extra="train", to=f"use a {what}")
        transformers = require("transformers", extra="train", to=f"use a {what}")
        self._lock = threading.Lock()
        try:
            with silent(transformers):
                self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
                model, told = transformers.AutoModelForSequenceClassification.from_pretrained(
                    folder,
                    dtype=self._torch.float32,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                )
        except (OSError, ValueError, RuntimeError) as error:
            found = f"{folder}: {str(error).splitlines()[0][:160]}"
            raise ModelError(f"the {what} cannot be read", where=where, found=found, fix=fix) from error
        missing = sorted(told["missing_keys"])
        if missing:  # a plain encoder would be given a head of chance and judge by it
            raise ModelError(
                "the model has no trained head to score with",
                where=where,
                found=f"{folder}: without {', '.join(missing[:3])}",
                fix=f"Name a model that was trained as a {what}, not an embedding model.",
            )
        self._model = model.eval()
        self.labels = tuple(str(model.config.id2label[n]) for n in range(model.config.num_labels))
        longest = getattr(model.config, "max_position_embeddings", None) or _MAX_TOKENS
        self._max_tokens = min(max_tokens or _MAX_TOKENS, longest, self._tokenizer.model_max_length)

    def logits(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return a row for each pair, a column for each label; of a pair beyond the model's length the longer side is cut."""
        found = np.zeros((len(pairs), len(self.labels)), dtype=np.float32)
        order = sorted(range(len(pairs)), key=lambda n: (len(pairs[n][0]) + len(pairs[n][1]), n))
        for begin in range(0, len(order), _BATCH):
            group = order[begin : begin + _BATCH]
            found[group] = self._logits([pairs[n] for n in group])
        return found

    def _logits(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        batch = self._tokenizer(
            [first for first, _ in pairs],
            [second for _, second in pairs],
            padding=True,
            truncation="longest_first",
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        with self._lock, self._torch.inference_mode():
            logits: NDArray[np.float32] = self._model(**batch).logits.numpy()
        return logits


class CrossEncoderReranker(Reranker):
    """Scores pairs by a sequence classifier: its one logit, or with several classes that of the last.

    Raises ModelError for a folder that is none, or a model that was not made to score.
    """

    def __init__(self, folder: Path, max_tokens: int | None = None) -> None:
        self._model = PairClassifier(folder, "cross-encoder", "retrieve.rerank_model", max_tokens)
        self.name = f"cross-encoder {folder.name}"

    def predict(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the logit of each pair; of a pair beyond the model's length the longer side is cut at its end."""
        return [float(score) for score in self._model.logits(pairs)[:, -1]]
