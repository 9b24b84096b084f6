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


class CrossEncoderReranker(Reranker):
    """Scores pairs by a sequence classifier: its one logit, or with several classes that of the last.

    Raises ModelError for a folder that is none, or a model that was not made to score.
    """

    def __init__(self, folder: Path, max_tokens: int | None = None) -> None:
        if not (folder / "config.json").is_file():
            raise ModelError(
                "there is no cross-encoder here",
                where="retrieve.rerank_model",
                found=folder,
                fix="Name a folder with config.json, weights and tokenizer, as sentence-transformers saves them.",
            )
        torch = require("torch", extra="train", to="rerank with a cross-encoder")
        transformers = require("transformers", extra="train", to="rerank with a cross-encoder")
        self.name, self.torch, self._lock = f"cross-encoder {folder.name}", torch, threading.Lock()
        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            kind = transformers.AutoModelForSequenceClassification
            with silent(transformers):
                model, told = kind.from_pretrained(
                    folder,
                    config=config,
                    dtype=torch.float32,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                "the cross-encoder cannot be read", where=folder, found=str(error).splitlines()[0][:160]
            ) from error
        missing = sorted(told["missing_keys"])
        if missing:  # a plain encoder would be given a head of chance and rank by it
            raise ModelError(
                "the model has no trained head to score with",
                where=folder,
                found=f"without {', '.join(missing[:3])}",
                fix="Name a model that was trained as a cross-encoder, not an embedding model.",
            )
        self.model = model.eval()
        longest = getattr(config, "max_position_embeddings", None) or _MAX_TOKENS
        self.max_tokens = min(max_tokens or _MAX_TOKENS, longest, self.tokenizer.model_max_length)

    def predict(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the logit of each pair; of a pair beyond the model's length the longer side is cut at its end."""
        scores = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda n: (len(pairs[n][0]) + len(pairs[n][1]), n))
        for begin in range(0, len(order), _BATCH):
            group = order[begin : begin + _BATCH]
            for place, score in zip(group, self._logits([pairs[n] for n in group]), strict=True):
                scores[place] = score
        return scores

    def _logits(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        with self._lock, self.torch.inference_mode():
            logits = self.model(**self._encoded(pairs)).logits
        return [float(score) for score in logits[:, -1]]

    def _encoded(self, pairs: Sequence[tuple[str, str]]) -> Any:
        return self.tokenizer(
            [query for query, _ in pairs],
            [text for _, text in pairs],
            padding=True,
            truncation="longest_first",
            max_length=self.max_tokens,
            return_tensors="pt",
        )
