"""Run GGUF files on the CPU with llama.cpp: many requests in one batch, in this process, without a compiler."""

from __future__ import annotations

import queue
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldwise.engine.llama_model import LlamaContext, LlamaModel
from fieldwise.engine.reply import Reply, check_prompt, log_softmax_at
from fieldwise.engine.scheduler import EngineStats, Request, Scheduler
from fieldwise.engine.shaping import Shaper, can_shape
from fieldwise.engine.template import render, reply_text, without_control
from fieldwise.engine.text_stream import ByteCharacters
from fieldwise.engine.threads import thread_count
from fieldwise.errors import ModelError
from fieldwise.interfaces import Generation, Piece, Sampling
from fieldwise.records import Conversation

_POLL_SECONDS = 0.05
_LOGIT_BYTES = 64_000_000
_CONTEXT_IF_UNSAID = 8192
T = TypeVar("T", bound=np.generic)


class LlamaCppEngine:
    """A GGUF file that answers. Safe to use from several threads: their requests are computed together.

    `context_tokens` limits prompt and reply of one request (0: what the model was trained with, at most 8192: the
    memory for all of it is taken at once), `parallel` is how many requests run together, `threads` 0 takes the
    physical cores. `exact` computes attention in 32 bits and without reuse, for comparing with transformers; the
    default is faster and differs by about 0.01 in the logits.
    A seed gives the same reply again as long as the logits are the same; they move in the last digits with the
    company a request has in its batch, so nearly equal tokens may swap.
    """

    def __init__(
        self,
        path: Path,
        *,
        context_tokens: int = 0,
        parallel: int = 1,
        threads: int = 0,
        exact: bool = False,
        model_id: str | None = None,
    ) -> None:
        self._model = LlamaModel(path)
        self.model_id = model_id or path.stem
        self.context_tokens = min(self._model.context_tokens, context_tokens or _CONTEXT_IF_UNSAID)
        self.vocabulary_size = self._model.vocabulary_size
        self.holds_shapes = can_shape()
        self._shaper = Shaper(self._model.vocabulary_of)
        try:
            context = LlamaContext(
                self._model,
                context_tokens=self.context_tokens,
                sequences=parallel,
                threads=thread_count(threads),
                exact=exact,
            )
        except ModelError:
            self._model.close()
            raise
        self._scheduler = Scheduler(self._model, context, slots=parallel, reuses_prefix=not exact)
        self._finalizer = weakref.finalize(self, self._scheduler.stop)

    @property
    def is_closed(self) -> bool:
        """True after `close`, or after a fault of llama.cpp that ended the engine."""
        return self._scheduler.is_stopped

    @property
    def stats(self) -> EngineStats:
        """Return how much has been computed, and what runs and waits."""
        return self._scheduler.stats

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a text, special tokens recognised, none added."""
        return self._model.tokenize(text)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens; control tokens have none."""
        return b"".join(self._model.piece(token) for token in token_ids).decode("utf-8", "replace")

    def render(self, conversation: Conversation, *, tools: Sequence[dict[str, object]] = ()) -> list[int]:
        """Return the prompt of a conversation, ending where the assistant begins to speak."""
        if self._model.chat_template is None:
            raise ModelError(
                "the GGUF file has no chat template",
                where=self._model.path,
                fix="Convert the weights again with a chat_template.jinja in their folder.",
            )
        safe = without_control(conversation, self._model.control_tokens)
        return self.tokenize(
            render(self._model.chat_template, safe, tools=tools, special_tokens=self._model.special_tokens)
        )

    def reply_tokens(self, text: str) -> list[int]:
        """Return the tokens of a reply as the template puts it behind a prompt, without what ends it."""
        if self._model.chat_template is None:
            return self.tokenize(text)
        return self.tokenize(
            reply_text(
                self._model.chat_template,
                text,
                special_tokens=self._model.special_tokens,
                control_tokens=self._model.control_tokens,
            )
        )

    def generate(
        self, prompts: Sequence[list[int]], sampling: Sampling, *, rated: Sequence[Sequence[list[int]]] = ()
    ) -> list[Generation]:
        """Continue every prompt, as many at once as there are slots; each uses the same seed."""
        requests = [self._request(prompt, sampling, rated[n] if rated else ()) for n, prompt in enumerate(prompts)]
        try:
            for request in requests:
                self._scheduler.submit(request)
            return [self._collect(request) for request in requests]
        finally:
            for request in requests:
                request.cancelled.set()

    def stream(
        self,
        prompt: list[int],
        sampling: Sampling,
        is_cancelled: Callable[[], bool] = lambda: False,
        *,
        rated: Sequence[list[int]] = (),
    ) -> Iterator[Piece]:
        """Continue one prompt piece by piece; wrong arguments raise here, before the first piece.

        Closing the iterator, or `is_cancelled` turning true, frees the slot with the next batch.
        """
        return self._pieces(self._request(prompt, sampling, rated), is_cancelled)

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token: one row per position, one column per token of the vocabulary."""
        return np.concatenate(self._logit_chunks(token_ids, np.copy))

    def logprobs(self, token_ids: Sequence[int]) -> NDArray[np.float64]:
        """Return the log-probability of each token but the first, given those before it."""
        following = np.asarray([*token_ids[1:], 0], dtype=np.int64)
        start = 0

        def pick(rows: NDArray[np.float32]) -> NDArray[np.float64]:
            nonlocal start
            wanted = following[start : start + len(rows)]
            start += len(rows)
            return log_softmax_at(rows, wanted)

        return np.concatenate(self._logit_chunks(token_ids, pick))[:-1]

    def close(self) -> None:
        """Cancel what runs, then free memory and weights."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, prompt: Sequence[int], sampling: Sampling, rated: Sequence[list[int]] = ()) -> Request:
        check_prompt(prompt, context_tokens=self.context_tokens, vocabulary_size=self.vocabulary_size)
        return Request(
            Reply(
                prompt,
                sampling,
                context_tokens=self.context_tokens,
                is_end=self._model.is_end,
                characters=ByteCharacters(self._model.piece),
                rated=rated,
                guide=self._shaper.guide(sampling.shape) if sampling.shape and self.holds_shapes else None,
            )
        )

    def _pieces(self, request: Request, is_cancelled: Callable[[], bool]) -> Iterator[Piece]:
        self._scheduler.submit(request)
        try:
            while True:
                if is_cancelled():
                    request.cancelled.set()
                try:
                    piece = request.pieces.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finish_reason is not None:
                    return
        finally:
            request.cancelled.set()

    def _collect(self, request: Request) -> Generation:
        while True:
            piece = request.pieces.get()
            if isinstance(piece, Exception):
                raise piece
            if piece.finish_reason is not None:
                return request.reply.generation()

    def _logit_chunks(
        self, token_ids: Sequence[int], use: Callable[[NDArray[np.float32]], NDArray[T]]
    ) -> list[NDArray[T]]:
        check_prompt(token_ids, context_tokens=self.context_tokens, vocabulary_size=self.vocabulary_size)
        tokens = list(token_ids)

        def work(context: LlamaContext, sequence: int) -> list[NDArray[T]]:
            size = max(1, min(context.batch_tokens, _LOGIT_BYTES // (4 * self.vocabulary_size)))
            chunks = []
            for start in range(0, len(tokens), size):
                part = tokens[start : start + size]
                rows = context.decode(part, range(start, start + len(part)), [sequence] * len(part), [True] * len(part))
                chunks.append(use(rows))
            return chunks

        chunks: list[NDArray[T]] = self._scheduler.call(work)
        return chunks
