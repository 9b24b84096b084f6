"""Lets some requests work, some wait and turns the rest away; work runs in threads and is read from the event loop.

The engine computes in blocking iterators. Each runs in a thread of its own; what it yields crosses to the event
loop through a queue, so the loop never waits for arithmetic. A place is free again only when its thread has
really ended, not when its reader has gone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from fieldwise.serve.problems import RequestError, too_busy, took_too_long

T = TypeVar("T")
Produce = Callable[[Callable[[], bool]], Iterator[T]]
"""Work: given a function that tells whether it is cancelled, yields its results one by one."""
_RETRY_SECONDS = 2


@dataclass(frozen=True)
class _Failed:
    error: BaseException


class _Over:
    """Stands behind the last result."""


class Job(Generic[T]):
    """Work under way. Iterate over it; `cancel` when nobody reads any more."""

    def __init__(self, deadline: float, timeout_seconds: float) -> None:
        self._deadline, self._timeout_seconds = deadline, timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[T | _Failed | _Over] = asyncio.Queue()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Ask the thread to stop; harmless when it has."""
        self._cancelled.set()

    async def next(self) -> T:
        """Return the next result. Raises StopAsyncIteration at the end, what the work raised, or the 504 problem."""
        try:
            async with asyncio.timeout_at(self._deadline):
                item = await self._items.get()
        except TimeoutError:
            self.cancel()
            raise took_too_long(self._timeout_seconds) from None
        if isinstance(item, _Over):
            raise StopAsyncIteration
        if isinstance(item, _Failed):
            raise item.error
        return item

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await self.next()

    def run(self, produce: Produce[T]) -> None:
        """Do the work, in a thread."""
        try:
            if not self._cancelled.is_set():
                with closing(_generator(produce(self._cancelled.is_set))) as results:
                    for result in results:
                        self._put(result)
                        if self._cancelled.is_set():
                            break
            self._put(_Over())
        except StopIteration as error:
            self._put(_Failed(RuntimeError(f"work ended with {error!r}")))  # a StopIteration cannot cross a coroutine
        except Exception as error:  # noqa: BLE001  border: the error belongs to whoever reads
            self._put(_Failed(error))

    def _put(self, item: T | _Failed | _Over) -> None:
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:  # the loop is closed: nobody reads any more
            self.cancel()


def _generator(results: Iterator[T]) -> Generator[T, None, None]:
    """Wrap an iterator so that it can be closed; closing reaches a generator inside."""
    yield from results


class Opened(NamedTuple, Generic[T]):
    """Work that has begun well."""

    first: T
    job: Job[T]


class Desk:
    """So many places to work at, and so many to wait in."""

    def __init__(self, *, parallel: int, queue: int, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self._queue, self._places = queue, asyncio.Semaphore(parallel)
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="fieldwise-reply")
        self._jobs: set[Job[object]] = set()
        self.waiting = 0
        self._is_closing = False

    def deadline(self) -> float:
        """Return when a request that arrives now must be answered, on the loop's clock."""
        return asyncio.get_running_loop().time() + self.timeout_seconds

    async def start(self, produce: Produce[T], *, deadline: float | None = None, is_bounded: bool = True) -> Job[T]:
        """Wait for a place and start the work. Raises the 429 problem when too many wait, the 504 one when the time is over.

        `is_bounded` False waits although the queue is full and takes no place in it: for the later prompts of a batch.
        """
        deadline = self.deadline() if deadline is None else deadline
        if is_bounded and self._places.locked() and self.waiting >= self._queue:
            raise too_busy(self.waiting, _RETRY_SECONDS)
        self.waiting += is_bounded
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError:
            raise took_too_long(self.timeout_seconds) from None
        finally:
            self.waiting -= is_bounded
        if self._is_closing:
            self._places.release()
            raise RequestError(503, "shutting_down", "the service is shutting down", fix="Try again when it is back.")
        job: Job[T] = Job(deadline, self.timeout_seconds)
        self._jobs.add(job)  # type: ignore[arg-type]
        done = asyncio.get_running_loop().run_in_executor(self._threads, job.run, produce)
        done.add_done_callback(lambda _: self._leave(job))  # type: ignore[arg-type]
        return job

    async def opened(self, produce: Produce[T], *, deadline: float | None = None) -> Opened[T]:
        """Start work and wait for its first result, so that what is wrong shows before an answer begins."""
        job = await self.start(produce, deadline=deadline)
        try:
            return Opened(await job.next(), job)
        except BaseException:
            job.cancel()
            raise

    async def all_of(self, produce: Produce[T], *, deadline: float | None = None, is_bounded: bool = True) -> list[T]:
        """Start work and return all of its results; a reader that is cancelled cancels the work."""
        job = await self.start(produce, deadline=deadline, is_bounded=is_bounded)
        try:
            return [result async for result in job]
        finally:
            job.cancel()

    def close(self) -> None:
        """Stop all work and wait for its threads."""
        self._is_closing = True
        for job in list(self._jobs):
            job.cancel()
        self._threads.shutdown(wait=True)

    def _leave(self, job: Job[object]) -> None:
        self._jobs.discard(job)
        self._places.release()
