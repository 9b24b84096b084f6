"""What the journaled client adds to a request, and whether 50 at once keep a local endpoint busy.

A server in a process of its own answers on loopback: at once, to see what the client costs beside bare httpx, and
after a fixed time with a fixed number of places, to see how many of the places are busy. Rounds take turns.

python benchmarks/bench_teacher.py [--requests 600] [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from fieldwise.interfaces import LlmRequest
from fieldwise.llm.client import EndpointClient
from fieldwise.llm.settings import EndpointSettings
from fieldwise.records import Message

PROMPT = "The charge nurse signs the fridge log within 2 hours. " * 40
REPLY = json.dumps({"pairs": [{"question": "q " * 10, "answer": "a", "quote": "w " * 30}] * 6})
PLACES, SECONDS = 50, 1.0


def _serve(pipe: Any, seconds: float) -> None:
    """A minimal HTTP server: it must cost less than the clients it measures."""
    usage = {"prompt_tokens": 600, "completion_tokens": 400}
    choice = {"index": 0, "message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice], "usage": usage}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    state = {"busy": 0, "since": 0.0, "area": 0.0, "first": 0.0, "last": 0.0}

    def change(by: int) -> None:
        now = time.monotonic()
        state["area"] += state["busy"] * (now - state["since"]) if state["since"] else 0
        state["busy"] += by
        state["since"] = state["last"] = now
        state["first"] = state["first"] or now

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                change(+1)
                if seconds:
                    await asyncio.sleep(seconds)
                change(-1)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=256)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)
        pipe.send(state["area"] / max(1e-9, state["last"] - state["first"]))

    asyncio.run(main())


@contextmanager
def serving(seconds: float) -> Iterator[tuple[str, dict[str, float]]]:
    """Address of a server, and when it has ended how many requests it had at a time on average."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(theirs, seconds), daemon=True)
    process.start()
    result: dict[str, float] = {}
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1", result
    finally:
        ours.send(None)
        result["busy"] = ours.recv()
        process.join(10)


def bare(url: str, count: int, concurrency: int) -> tuple[float, float]:
    """Wall and processor seconds of httpx alone."""

    async def main() -> None:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        order = iter(range(count))
        async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=60) as client:

            async def work() -> None:
                for number in order:
                    body = {"model": "m", "messages": [{"role": "user", "content": f"{PROMPT}{number}"}]}
                    answer = await client.post(f"{url}/chat/completions", json=body)
                    answer.json()["choices"][0]["message"]["content"]

            await asyncio.gather(*(work() for _ in range(concurrency)))

    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(main())
    return time.perf_counter() - wall, time.process_time() - cpu


def ours(url: str, count: int, concurrency: int, folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of the client with its journal, each reply forced to the disk."""
    settings = EndpointSettings(base_url=url, model="m", concurrency=concurrency)
    client = EndpointClient(settings, folder / f"{time.monotonic_ns()}.jsonl", where="bench")
    requests = [LlmRequest((Message(role="user", content=f"{PROMPT}{n}"),)) for n in range(count)]
    wall, cpu = time.perf_counter(), time.process_time()
    assert all(not reply.problem for reply in client.ask_all(requests))
    return time.perf_counter() - wall, time.process_time() - cpu


def added(options: argparse.Namespace, concurrency: int, folder: Path) -> dict[str, float]:
    """Milliseconds a request costs more than with httpx alone, in wall time and processor time; medians of the rounds."""
    walls, cpus, bare_walls = [], [], []
    with serving(0.0) as (url, _):
        bare(url, 50, concurrency), ours(url, 50, concurrency, folder)
        for _ in range(options.rounds):
            plain, journaled = (
                bare(url, options.requests, concurrency),
                ours(url, options.requests, concurrency, folder),
            )
            walls.append((journaled[0] - plain[0]) / options.requests * 1000)
            cpus.append((journaled[1] - plain[1]) / options.requests * 1000)
            bare_walls.append(plain[0] / options.requests * 1000)
    return {
        "added_ms": round(statistics.median(walls), 3),
        "added_cpu_ms": round(statistics.median(cpus), 3),
        "bare_ms": round(statistics.median(bare_walls), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {"processors": os.cpu_count()}
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        for concurrency in (1, 8, 50):
            figures[f"concurrency_{concurrency}"] = added(options, concurrency, folder)
        with serving(SECONDS) as (url, busy):
            wall, _ = ours(url, options.requests * 2, PLACES, folder)
        ideal = options.requests * 2 / PLACES * SECONDS
        figures["saturation"] = {
            "places": PLACES,
            "busy": round(busy["busy"], 1),
            "share": round(busy["busy"] / PLACES, 3),
            "wall_over_ideal": round(wall / ideal, 3),
        }
    if options.json:
        print(json.dumps(figures))
        return
    print("added to bare httpx, milliseconds a request (each reply on the disk before it counts):")
    for concurrency in (1, 8, 50):
        row = figures[f"concurrency_{concurrency}"]
        print(
            f"  {concurrency:3} at a time: {row['added_ms']:.2f} wall, {row['added_cpu_ms']:.2f} processor (httpx alone {row['bare_ms']:.2f})"
        )
    row = figures["saturation"]
    print(
        f"an endpoint of {PLACES} places, {SECONDS} s a reply: {row['busy']} busy ({row['share']:.0%}), {row['wall_over_ideal']:.2f} times the least possible time"
    )


if __name__ == "__main__":
    main()
