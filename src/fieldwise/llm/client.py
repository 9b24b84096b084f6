"""Asks an OpenAI-compatible endpoint many things at once, pays for each of them once, and stops where it should."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from fieldwise.errors import ServiceError
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.interfaces import LlmReply, LlmRequest
from fieldwise.llm.budget import Budget, Cost, cost, most_tokens, usual_tokens
from fieldwise.llm.journal import Journal, Row
from fieldwise.llm.settings import EndpointSettings
from fieldwise.llm.structured import read_value, repair_prompt, strict_schema, with_schema
from fieldwise.llm.wire import Again, Completion, Refused, Wire
from fieldwise.records import Conversation

BUDGET_SPENT = "budget_spent"
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_MOST_LOST_TRIES = 2  # an endpoint that answers too late or not at all may ask to be paid every time
_MOST_FAILED_IN_A_ROW = 10
_CANNOT_GO_ON = frozenset({"unreachable", "too_many_requests"})

Settled = Callable[[int, LlmReply], None]
Pause = Callable[[float], Awaitable[None]]


class EndpointClient:
    """An LlmClient. `where` is the dotted key of the settings, as messages name it."""

    def __init__(self, settings: EndpointSettings, journal: Path, *, where: str, pause: Pause = asyncio.sleep) -> None:
        self.name = settings.model or ""
        self.journal = Journal(journal)
        self._settings, self._where, self._pause = settings, where, pause

    def ask_all(self, requests: Sequence[LlmRequest]) -> Iterator[LlmReply]:
        """Yield one reply for each request, in order, while others are under way.

        Raises ServiceError for what no other request would escape. Replies that had come by then are in the journal.
        """
        arrived: queue.SimpleQueue[tuple[int, LlmReply] | None] = queue.SimpleQueue()
        asking = _Asking(self._settings, self._where, self.journal, self._pause)
        work = _Background(
            lambda: asking.run(requests, lambda number, reply: arrived.put((number, reply))),
            ended=lambda: arrived.put(None),
        )
        early: dict[int, LlmReply] = {}
        number = 0
        try:
            while (item := arrived.get()) is not None:
                early[item[0]] = item[1]
                while number in early:
                    yield early.pop(number)
                    number += 1
        finally:
            work.stop()
        if work.error is not None:
            raise work.error

    def is_answered(self, request: LlmRequest) -> bool:
        """Whether the journal holds a reply already."""
        return (
            self.journal.get(request_key(self._settings, _conversation(request), request.schema, request.sample))
            is not None
        )

    def estimate(self, requests: Sequence[LlmRequest], usual_reply_tokens: int) -> tuple[int, Cost, Cost]:
        """Return how many requests are still to be paid, what they cost about, and at most; second rounds left out.

        Equal requests are paid once, so they count once.
        """
        by_key = {request_key(self._settings, _conversation(r), r.schema, r.sample): r for r in requests}
        left = [r for key, r in by_key.items() if self.journal.get(key) is None]
        usual = most = Cost()
        for conversation in map(_conversation, left):
            reply = min(usual_reply_tokens, self._settings.max_tokens)
            usual += cost(usual_tokens(conversation), reply, self._settings.price)
            most += cost(most_tokens(conversation), self._settings.max_tokens, self._settings.price)
        return len(left), usual, most


def request_key(
    settings: EndpointSettings, conversation: Conversation, schema: type[BaseModel] | None, sample: int = 0
) -> str:
    """Return the hash of everything that shapes a reply: endpoint, model, parameters, prompt, schema, and which sample."""
    asked = [m.model_dump(mode="json", include={"role", "content"}) for m in conversation]
    shaping = [settings.base_url, settings.model, settings.temperature, settings.max_tokens, settings.seed]
    told = None if schema is None else strict_schema(schema)
    return sha256_text(canonical_json([*shaping, asked, told, *([sample] if sample else [])]))


def _conversation(request: LlmRequest) -> Conversation:
    schema = request.schema
    return request.conversation if schema is None else with_schema(request.conversation, schema)


class _Asking:
    """One call of `ask_all`: what is under way, what has failed, and until when the endpoint wants to be left alone."""

    def __init__(self, settings: EndpointSettings, where: str, journal: Journal, pause: Pause) -> None:
        self._settings, self._where, self._journal, self._pause = settings, where, journal, pause
        self._wire = Wire(settings, where)
        self._running: dict[str, asyncio.Task[Row]] = {}
        self._failed_in_a_row = self._answered = 0
        self._quiet_until = 0.0
        self._budget: Budget | None = None

    async def run(self, requests: Sequence[LlmRequest], settled: Settled) -> None:
        """Answer all requests, `concurrency` of them at a time."""
        self._budget = Budget(self._settings.budget, self._journal)
        order = iter(enumerate(requests))
        workers = min(self._settings.concurrency, len(requests))
        try:
            async with self._wire, asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(order, settled))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            for task in self._running.values():
                task.cancel()
            await self._journal.settle()

    async def _work(self, order: Iterator[tuple[int, LlmRequest]], settled: Settled) -> None:
        for number, request in order:
            settled(number, await self._reply(request))

    # ------------------------------------------------------------ a reply

    async def _reply(self, request: LlmRequest) -> LlmReply:
        conversation, rows = _conversation(request), []
        try:
            row, is_new = await self._row(conversation, request)
            rows.append(row)
            value, fault = _value(row, request)
            if fault and request.schema is not None and row.finish_reason != "refused":
                is_cut = row.finish_reason == "length"
                conversation = repair_prompt(conversation, row.text or "", fault, is_cut=is_cut)
                row, is_new = await self._row(conversation, request)
                rows.append(row)
                value, fault = _value(row, request)
        except Refused as refused:
            if refused.reason != BUDGET_SPENT:
                self._count_failure(refused.detail)
            return _reply(rows, problem=refused.reason, detail=refused.detail)
        if not fault:
            self._failed_in_a_row = 0
            return _reply(rows, value=value)
        if is_new:  # what failed in an earlier run must not end this one
            self._count_failure(fault)
        return _reply(rows, problem=_problem(row, request), detail=fault)

    def _count_failure(self, detail: str) -> None:
        """End it all when nothing succeeds: the cause then lies with the endpoint or the settings, and may cost money."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= _MOST_FAILED_IN_A_ROW:
            raise self._end(
                f"{_MOST_FAILED_IN_A_ROW} requests in a row came to nothing",
                detail,
                f"Check {self._where}, above all base_url and model. What was answered is kept: the same command goes on.",
            )

    async def _row(self, conversation: Conversation, request: LlmRequest) -> tuple[Row, bool]:
        """Return the reply to a prompt, and whether it is a new one; equal prompts are asked once."""
        key = request_key(self._settings, conversation, request.schema, request.sample)
        row = self._journal.get(key)
        if row is not None:
            return row, False
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._pay(key, conversation, request))
        try:
            return await task, True
        finally:
            self._running.pop(key, None)

    async def _pay(self, key: str, conversation: Conversation, request: LlmRequest) -> Row:
        assert self._budget is not None
        settings = self._settings
        prompt = most_tokens(conversation)
        most = cost(_MOST_LOST_TRIES * prompt, settings.max_tokens, settings.price)
        if not await self._budget.reserve(most):
            raise Refused(BUDGET_SPENT, "the budget is spent")
        try:
            completion = await self._send(conversation, request, key)
            prompt_tokens = usual_tokens(conversation) if completion.prompt_tokens is None else completion.prompt_tokens
            reply_tokens = completion.completion_tokens
            if reply_tokens is None:
                reply_tokens = len(completion.text) // 4 + 1
            row = Row(
                key=key,
                label=request.label,
                model=self._settings.model or "",
                text=completion.text,
                finish_reason=completion.finish_reason,
                prompt_tokens=prompt_tokens,
                completion_tokens=reply_tokens,
                price=cost(prompt_tokens, reply_tokens, settings.price).money,
            )
            await self._journal.add(row)
            return row
        finally:
            await self._budget.release(most)

    # ------------------------------------------------------------ sending until it is answered

    async def _send(self, conversation: Conversation, request: LlmRequest, key: str) -> Completion:
        lost, attempt, seen = 0, 0, self._answered
        while True:
            attempt += 1
            await self._keep_quiet()
            try:
                completion = await self._wire.ask(conversation, request.schema, request.sample)
                self._answered += 1
                return completion
            except Again as again:
                if again.reason == "too_many_requests" and self._answered > seen:
                    attempt, seen = 1, self._answered  # it does answer, one after the other
                lost += again.is_lost
                if again.is_lost:
                    await self._journal.add(self._lost(key, conversation, request))
                if attempt > self._settings.max_retries or lost >= _MOST_LOST_TRIES:
                    raise self._given_up(again, attempt) from None
                await self._wait(again, attempt)

    def _lost(self, key: str, conversation: Conversation, request: LlmRequest) -> Row:
        prompt = usual_tokens(conversation)
        money = cost(prompt, 0, self._settings.price).money
        name = self._settings.model or ""
        return Row(
            key=key, label=request.label, model=name, text=None, prompt_tokens=prompt, completion_tokens=0, price=money
        )

    async def _wait(self, again: Again, attempt: int) -> None:
        """Pause as long as the endpoint asks, for all requests; else longer each time, by chance between none and all of it."""
        if again.wait:
            if again.wait > self._settings.max_wait_seconds:
                raise self._end(
                    "the endpoint asks for a longer pause than it is given",
                    f"{again.wait:.0f} s ({again.detail})",
                    f"Run again later: what was answered is kept. Or raise {self._where}.max_wait_seconds.",
                )
            self._quiet_until = max(self._quiet_until, asyncio.get_running_loop().time() + again.wait)
            return
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        await self._pause(random.uniform(0, longest))  # spreads requests, shapes no output

    async def _keep_quiet(self) -> None:
        left = self._quiet_until - asyncio.get_running_loop().time()
        if left > 0:
            await self._pause(left + random.uniform(0, 0.1 * left))  # not all in the same moment

    def _given_up(self, again: Again, attempts: int) -> Exception:
        if again.reason not in _CANNOT_GO_ON:
            return Refused(again.reason, f"{again.detail} ({attempts} tries)")
        what = {
            "unreachable": "the endpoint cannot be reached",
            "too_many_requests": "the endpoint says again and again that there are too many requests",
        }[again.reason]
        fix = {
            "unreachable": "Check that it runs, and the address.",
            "too_many_requests": f"Lower {self._where}.concurrency.",
        }[again.reason]
        return self._end(
            what, f"{again.detail} ({attempts} tries)", f"{fix} The same command goes on where it stopped."
        )

    def _end(self, what: str, found: str, fix: str) -> ServiceError:
        return ServiceError(what, where=f"{self._where}: {self._settings.base_url}", found=found, fix=fix)


def _value(row: Row, request: LlmRequest) -> tuple[BaseModel | None, str]:
    if request.schema is not None:
        return read_value(row.text or "", request.schema)
    return None, "" if (row.text or "").strip() and row.finish_reason != "refused" else "the reply is empty or refused"


def _problem(row: Row, request: LlmRequest) -> str:
    if row.finish_reason == "refused":
        return "refused"
    if not (row.text or "").strip():
        return "empty_reply"
    return "cut_reply" if row.finish_reason == "length" else "not_json"


def _reply(rows: Sequence[Row], *, value: BaseModel | None = None, problem: str = "", detail: str = "") -> LlmReply:
    return LlmReply(
        text=(rows[-1].text or "") if rows else "",
        value=value,
        problem=problem,
        detail=detail,
        prompt_tokens=sum(r.prompt_tokens for r in rows),
        completion_tokens=sum(r.completion_tokens for r in rows),
        price=sum(r.price for r in rows),
        requests=len(rows),
    )


class _Background:
    """Runs a coroutine in a thread: the caller may have a loop already, and Ctrl-C must reach it, not a callback."""

    def __init__(self, work: Callable[[], Coroutine[None, None, None]], *, ended: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self._work, self._ended = work, ended
        self._task: asyncio.Task[None] | None = None
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llm", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Cancel what still runs, and wait until its last words are written."""
        self._has_begun.wait()
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: all is done
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the caller's thread raises it
            self.error = error
        finally:
            self._has_begun.set()
            self._ended()

    async def _main(self) -> None:
        self._task = asyncio.current_task()
        self._has_begun.set()
        await self._work()
