"""One reply as it grows: choose a token, turn it into text, know when to end. Shared by the engines that run here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fieldwise.engine.sampling import Sampler
from fieldwise.engine.shaping import Guide
from fieldwise.engine.text_stream import StopStream
from fieldwise.errors import ModelError
from fieldwise.interfaces import FinishReason, Generation, Piece, Sampling


class Characters(Protocol):
    """Turns token ids into whole characters."""

    def feed(self, token: int) -> str:
        """Return the text that is complete with this token."""
        ...

    def finish(self) -> str:
        """Return what is left at the end."""
        ...


class Reply:
    """The state of one reply: its tokens so far and, once it has ended, why."""

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        context_tokens: int,
        is_end: Callable[[int], bool],
        characters: Characters,
        rated: Sequence[Sequence[int]] = (),
        guide: Guide | None = None,
    ) -> None:
        self.prompt = list(prompt)
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None
        self._most = min(sampling.max_tokens, context_tokens - len(self.prompt) + 1)
        self._sampler, self._stop = Sampler(sampling), StopStream(sampling.stop)
        self._is_end, self._characters, self._guide = is_end, characters, guide
        self._texts: list[str] = []
        # replies whose log-probability is wanted; those that leave no room are not rated, none rather than some
        fits = all(0 < len(r) <= context_tokens - len(self.prompt) for r in rated)
        self.rated = [list(r) for r in rated] if fits else []
        self.ratings: tuple[float, ...] = ()
        self.rated_hits: tuple[int, ...] = ()
        self.first_token_seconds: float | None = None
        self._began: float | None = None

    def begin(self) -> None:
        """Note that the prompt is read from now on."""
        self._began = time.monotonic()

    def is_read(self) -> None:
        """Note that the prompt has been read, so that the first token can be chosen; later calls change nothing."""
        if self._began is not None and self.first_token_seconds is None:
            self.first_token_seconds = time.monotonic() - self._began

    def take(self, logits: NDArray[np.float32]) -> Piece:
        """Choose the next token and return its text; the reply goes on unless the piece has a finish reason."""
        if len(self.tokens) >= self._most:
            return self.end("length")
        if self._guide is not None:
            allowed = self._guide.allowed(logits)
            if allowed is None:
                return self.end("error")
            logits = allowed
        token = self._sampler.choose(logits)
        if self._is_end(token):
            return self.end("stop")
        self.tokens.append(token)
        is_complete = self._guide is not None and self._guide.take(token)
        text = self._stop.feed(self._characters.feed(token))
        if self._stop.has_stopped or is_complete:
            return self.end("stop", text, 1)
        if len(self.tokens) >= self._most:
            return self.end("length", text, 1)
        self._texts.append(text)
        return Piece(text, 1)

    def end(self, reason: FinishReason, text: str = "", tokens: int = 0) -> Piece:
        """End the reply and return its last piece, with the text that was held back."""
        if not self._stop.has_stopped:
            text += self._stop.feed(self._characters.finish())
            text += self._stop.finish()
        self.finish_reason = reason
        self._texts.append(text)
        return Piece(text, tokens, reason)

    def generation(self) -> Generation:
        """Return the whole reply, after its end."""
        return Generation(
            "".join(self._texts),
            tuple(self.tokens),
            self.finish_reason or "error",
            len(self.prompt),
            self.ratings,
            self.first_token_seconds,
            self.rated_hits,
        )


def check_prompt(prompt: Sequence[int], *, context_tokens: int, vocabulary_size: int) -> None:
    """Raise ModelError for a prompt that is empty, longer than the context, or made with another tokenizer."""
    if not prompt:
        raise ModelError("the prompt is empty", fix="Give at least one token.")
    if len(prompt) > context_tokens:
        raise ModelError(
            "the prompt is longer than the context",
            found=f"{len(prompt)} tokens for a context of {context_tokens}",
            fix="Shorten the question or show fewer passages.",
        )
    strange = [token for token in prompt if not 0 <= token < vocabulary_size]
    if strange:
        raise ModelError(
            "the prompt has tokens that are not in the vocabulary",
            found=f"{strange[0]} of {vocabulary_size}",
            fix="Make the prompt with this engine's tokenize or render.",
        )


def likeliest_at(logits: NDArray[np.float32], columns: NDArray[np.int64]) -> int:
    """Return how many rows of logits are highest in their column.

    >>> likeliest_at(np.array([[0, 1], [0, 1]], dtype=np.float32), np.array([1, 0]))
    1
    """
    return int((logits.argmax(axis=1) == columns).sum())


def log_softmax_at(logits: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log-probability each row of logits gives to its column.

    >>> log_softmax_at(np.zeros((1, 4), dtype=np.float32), np.array([2])).round(4).tolist()
    [-1.3863]
    """
    rows = logits.astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    chosen: NDArray[np.float64] = rows[np.arange(len(rows)), columns] - np.log(np.exp(rows).sum(axis=1))
    return chosen
