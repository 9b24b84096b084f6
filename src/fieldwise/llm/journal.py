"""What was answered and paid for, one line a reply, forced to the disk before anyone sees the reply.

Killed at any moment, a run loses at most what was in flight: the next one finds every reply that is on record under
the hash of what was asked. Lines that come while the disk is busy share the next write.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fieldwise.files import raise_if_full, read_ledger


class Row(BaseModel):
    """One reply; without a text one that never came whole, although its prompt may have to be paid."""

    model_config = ConfigDict(frozen=True)

    key: str
    label: str = ""
    model: str
    text: str | None
    finish_reason: Literal["stop", "length", "refused"] = "stop"
    prompt_tokens: int
    completion_tokens: int
    price: float


class Journal:
    """An append-only file of replies. One process writes at a time: whoever holds the lock of the run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokens, self.money = 0, 0.0
        self._rows: dict[str, Row] = {}
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        for raw in read_ledger(path):
            try:
                self._keep(Row.model_validate(raw))
            except ValidationError:  # not one of our lines
                continue

    def get(self, key: str) -> Row | None:
        """Return the reply to what has this hash, or None."""
        return self._rows.get(key)

    async def add(self, row: Row) -> None:
        """Record a reply; returns when it is on the disk. A cancelled caller does not stop the write."""
        self._keep(row)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((row.model_dump_json() + "\n", done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        await done

    def record(self, rows: Sequence[Row]) -> None:
        """Record replies for a caller without a loop; returns when they are on the disk."""
        for row in rows:
            self._keep(row)
        self._write("".join(row.model_dump_json() + "\n" for row in rows))

    async def settle(self) -> None:
        """Return when everything that was added is on the disk."""
        if self._writer is not None:
            await self._writer

    def _keep(self, row: Row) -> None:
        self.tokens += row.prompt_tokens + row.completion_tokens
        self.money += row.price
        if row.text is not None:
            self._rows[row.key] = row

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await asyncio.to_thread(self._write, "".join(line for line, _ in batch))
            except Exception as raised:  # noqa: BLE001 - whoever waits for the line raises it
                error = raised
            for _, done in batch:
                if done.done():
                    continue
                done.set_result(None) if error is None else done.set_exception(error)

    def _write(self, lines: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("ab+") as stream:
                is_torn = stream.tell() > 0 and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n"
                stream.write((("\n" if is_torn else "") + lines).encode("utf-8", "surrogatepass"))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise_if_full(error, self.path)
            raise
