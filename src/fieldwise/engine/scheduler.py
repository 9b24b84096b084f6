"""Continuous batching: one thread computes a token for every running request at a time, and requests come and go.

A request takes a free slot (a sequence in llama.cpp's memory), its prompt is read in chunks beside the running
ones, and its pieces go to a queue of its own, so that a slow reader holds nobody up. A free slot remembers the
tokens it has computed: a new prompt that begins alike, with the same system prompt and passages, reuses them.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.engine.llama_model import LlamaContext, LlamaModel
from fieldwise.engine.reply import Reply, likeliest_at, log_softmax_at
from fieldwise.errors import ModelError
from fieldwise.interfaces import Piece


@dataclass(frozen=True)
class EngineStats:
    """What an engine has done since it was opened."""

    batches: int = 0
    prompt_tokens: int = 0
    reused_prompt_tokens: int = 0
    generated_tokens: int = 0
    largest_batch: int = 0
    running: int = 0
    waiting: int = 0


class Request:
    """A reply on its way. Its pieces stand in `pieces`, an exception in their place ends it too."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.pieces: queue.SimpleQueue[Piece | Exception] = queue.SimpleQueue()
        self.cancelled = threading.Event()


@dataclass
class _Job:
    """Work on one empty sequence, done between two batches."""

    work: Callable[[LlamaContext, int], Any]
    outcome: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)


@dataclass
class _Slot:
    sequence: int
    computed: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    request: Request | None = None


class Scheduler:
    """Owns the memory of a model and the thread that computes."""

    def __init__(self, model: LlamaModel, context: LlamaContext, *, slots: int, reuses_prefix: bool) -> None:
        self._model, self._context, self._reuses_prefix = model, context, reuses_prefix
        self._slots = [_Slot(n) for n in range(slots)]
        self._waiting: deque[Request | _Job] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._stats = EngineStats()
        self._thread = threading.Thread(target=self._run, name="fieldwise-llama", daemon=True)
        self._thread.start()

    @property
    def is_stopped(self) -> bool:
        """True once nothing more is taken: it was stopped, or a fault ended it."""
        with self._changed:
            return self._is_closing

    @property
    def stats(self) -> EngineStats:
        """Return what has been done so far, and what is under way."""
        with self._changed:
            return replace(
                self._stats, running=sum(slot.request is not None for slot in self._slots), waiting=len(self._waiting)
            )

    def submit(self, request: Request) -> None:
        """Queue a request; it starts with the next batch that has a free slot."""
        self._enqueue(request)

    def call(self, work: Callable[[LlamaContext, int], Any]) -> Any:
        """Run `work` on an empty sequence in the computing thread, and return or raise what it returns or raises."""
        job = _Job(work)
        self._enqueue(job)
        outcome = job.outcome.get()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def stop(self) -> None:
        """Cancel what runs and waits, free the memory and the weights; returns when that is done."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:  # the garbage collector may call from there
            self._thread.join()

    # ------------------------------------------------------------ the computing thread

    def _enqueue(self, item: Request | _Job) -> None:
        with self._changed:
            if self._is_closing:
                raise ModelError("the engine is closed", where=self._model.path)
            self._waiting.append(item)
            self._changed.notify()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._drop_cancelled()
                self._admit()
                self._step()
        except Exception as error:  # noqa: BLE001  border: a fault must reach every reader, who would wait for ever
            self._fail(error)
        finally:
            self._fail(None)
            self._context.close()
            self._model.close()

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not (self._is_closing or self._waiting or any(slot.request for slot in self._slots)):
                self._changed.wait()
            return not self._is_closing

    def _drop_cancelled(self) -> None:
        for slot in self._slots:
            if slot.request is not None and slot.request.cancelled.is_set():
                slot.request.pieces.put(slot.request.reply.end("cancelled"))
                self._release(slot)
        with self._changed:
            gone = [item for item in self._waiting if isinstance(item, Request) and item.cancelled.is_set()]
            for request in gone:
                self._waiting.remove(request)
                request.pieces.put(request.reply.end("cancelled"))

    def _admit(self) -> None:
        while True:
            free = [slot for slot in self._slots if slot.request is None]
            with self._changed:
                if not free or not self._waiting:
                    return
                item = self._waiting.popleft()
            if isinstance(item, _Job):
                self._do(item, free[0])
            else:
                self._start(item, free)

    def _do(self, job: _Job, slot: _Slot) -> None:
        slot.computed = []
        self._context.forget(slot.sequence)
        try:
            outcome = job.work(self._context, slot.sequence)
        except Exception as error:  # noqa: BLE001  border: the fault belongs to whoever asked for the work
            outcome = error
        self._context.forget(slot.sequence)
        job.outcome.put(outcome)

    def _start(self, request: Request, free: list[_Slot]) -> None:
        request.reply.begin()
        prompt = request.reply.prompt
        # the last token is always computed again: its logits choose the first token of the reply
        shared = {slot.sequence: _common(slot.computed, prompt[:-1]) if self._reuses_prefix else 0 for slot in free}
        slot = max(free, key=lambda slot: (shared[slot.sequence], -len(slot.computed)))
        kept = shared[slot.sequence] if self._context.forget(slot.sequence, shared[slot.sequence]) else 0
        slot.computed, slot.pending, slot.request = prompt[:kept], prompt[kept:], request
        self._count(reused_prompt_tokens=kept, prompt_tokens=len(prompt))

    def _step(self) -> None:
        tokens: list[int] = []
        positions: list[int] = []
        sequences: list[int] = []
        wanted: list[bool] = []
        answering: list[_Slot] = []
        # those that only need one token go first, so that a long prompt does not hold up running replies
        for slot in sorted(
            (slot for slot in self._slots if slot.request is not None), key=lambda slot: len(slot.pending)
        ):
            part = slot.pending[: self._context.batch_tokens - len(tokens)]
            if not part:
                break
            tokens += part
            positions += range(len(slot.computed), len(slot.computed) + len(part))
            sequences += [slot.sequence] * len(part)
            slot.computed.extend(part)
            slot.pending = slot.pending[len(part) :]
            wanted += [False] * (len(part) - 1) + [not slot.pending]
            if not slot.pending:
                answering.append(slot)
        if tokens:
            self._answer(answering, self._context.decode(tokens, positions, sequences, wanted))
            self._count(batches=1, generated_tokens=len(answering), largest_batch=len(answering))

    def _answer(self, slots: list[_Slot], logits: NDArray[np.float32]) -> None:
        for slot in slots:
            if slot.request is not None:
                slot.request.reply.is_read()
        if any(slot.request is not None and self._is_unrated(slot.request) for slot in slots):
            logits = logits.copy()  # rating computes more, and the rows are a view of the library's memory
        for slot, row in zip(slots, logits, strict=True):
            request = slot.request
            assert request is not None
            ratings = self._rate(slot, request.reply, row) if self._is_unrated(request) else ()
            piece = replace(request.reply.take(row), ratings=ratings)
            request.pieces.put(piece)
            if piece.finish_reason is None:
                slot.pending = [request.reply.tokens[-1]]
            else:
                self._release(slot)

    @staticmethod
    def _is_unrated(request: Request) -> bool:
        return bool(request.reply.rated) and not request.reply.tokens

    def _rate(self, slot: _Slot, reply: Reply, row: NDArray[np.float32]) -> tuple[float, ...]:
        """Compute the replies to be rated behind the prompt, one after the other, and drop them again."""
        prompt = len(slot.computed)
        for tokens in reply.rated:
            first = np.asarray(tokens[:1], dtype=np.int64)
            total, hits = float(log_softmax_at(row[None], first)[0]), likeliest_at(row[None], first)
            for start in range(0, len(tokens) - 1, self._context.batch_tokens):
                part = tokens[start : min(start + self._context.batch_tokens, len(tokens) - 1)]
                place = prompt + start
                rows = self._context.decode(
                    part, range(place, place + len(part)), [slot.sequence] * len(part), [True] * len(part)
                )
                following = np.asarray(tokens[start + 1 : start + 1 + len(part)], dtype=np.int64)
                total += float(log_softmax_at(rows, following).sum())
                hits += likeliest_at(rows, following)
            reply.ratings, reply.rated_hits = (*reply.ratings, total), (*reply.rated_hits, hits)
            if len(tokens) > 1 and not self._context.forget(slot.sequence, prompt):
                self._read_again(slot)
        return reply.ratings

    def _read_again(self, slot: _Slot) -> None:
        """A model whose memory can only be dropped whole has lost the prompt with the reply: compute it anew."""
        for start in range(0, len(slot.computed), self._context.batch_tokens):
            part = slot.computed[start : start + self._context.batch_tokens]
            self._context.decode(
                part, range(start, start + len(part)), [slot.sequence] * len(part), [False] * len(part)
            )

    def _release(self, slot: _Slot) -> None:
        with self._changed:
            slot.request, slot.pending = None, []

    def _count(self, *, largest_batch: int = 0, **more: int) -> None:
        with self._changed:
            sums = {name: getattr(self._stats, name) + value for name, value in more.items()}
            self._stats = replace(self._stats, largest_batch=max(self._stats.largest_batch, largest_batch), **sums)

    def _fail(self, error: Exception | None) -> None:
        """End everything: with an error, or as cancelled when the engine is being closed."""
        with self._changed:
            self._is_closing = True
            left: list[Request | _Job] = [slot.request for slot in self._slots if slot.request is not None]
            left += self._waiting
            self._waiting.clear()
            for slot in self._slots:
                slot.request = None
        for item in left:
            if isinstance(item, _Job):
                item.outcome.put(error or ModelError("the engine is closed", where=self._model.path))
            elif error is not None:
                item.pieces.put(error)
            else:
                item.pieces.put(item.reply.end("cancelled"))


def _common(left: list[int], right: list[int]) -> int:
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count
