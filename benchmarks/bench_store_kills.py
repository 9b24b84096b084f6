"""kill -9 while a large store is written to: is anything lost, is anything there in part, how long does opening take.

    python benchmarks/bench_store_kills.py [--size 100000] [--kills 50] [--keep DIR] [--json]

A process puts, replaces and deletes documents of up to 50 chunks in a store of so many chunks (those of bench_store.py, whose --keep folder can be used: the store is copied),
and writes a synced line for each that was acknowledged. It is killed at a moment drawn at random; the store is opened
again for writing, timed, up to its first answer, by a process of its own, which compares catalogue and both legs with the
lines. Reach: no acknowledged row lost, no document in part, open within 2 seconds.

Beside it, what usearch leaves when its own `save` is killed: 50 vectors are added to an index of as many vectors as the
store has and the index is saved over its file, again and again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from store_corpus import add_options, document_of, make

SEED, URIS, MOST_CHUNKS, DIMENSIONS = 7, 60, 50, 384


def acknowledge(log: Path) -> Callable[[str], None]:
    stream = log.open("a")

    def line(text: str) -> None:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())

    return line


def entry(uri: str, mark: int, model: str) -> Any:
    from fieldwise.store.protocol import Entry

    texts = [f"quagga {mark} part {n} " + "word1 word22 word333 " * 20 for n in range(1 + mark % MOST_CHUNKS)]
    document, chunks = document_of(uri, texts)
    vectors = np.random.default_rng(mark).standard_normal((len(texts), DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Entry(document, chunks, ["everyone"], tenant="killed", vectors=vectors, model=model)


def ingest(folder: Path, log: Path, seed: int) -> None:
    """Change the store for ever."""
    from fieldwise.store.local import LocalStore

    chance, say = Random(seed), acknowledge(log)
    with LocalStore.open(folder) as store:
        model = store.stats().model
        say("open")

        def put() -> None:
            uri, mark = f"{chance.randrange(URIS)}", chance.randrange(10**9)
            say(f"try {uri} {mark}")
            store.put(entry(uri, mark, model))
            say(f"put {uri} {mark}")

        while True:
            if chance.random() < 0.2:
                uri = f"{chance.randrange(URIS)}"
                say(f"drop {uri} 0")
                store.delete(uri, "killed")
                say(f"gone {uri} 0")
            elif chance.random() < 0.3:
                put()
            else:
                with store.batch():
                    for _ in range(chance.randrange(1, 12)):
                        put()


def look(folder: Path, log: Path, base: int) -> dict[str, Any]:
    """Open the store, and say how long that took and what is wrong."""
    from fieldwise.store.local import LocalStore
    from fieldwise.store.protocol import Identity, QueryVector, Scope

    with LocalStore.read(folder) as store:
        model = store.stats().model
    scope = Scope(Identity("killed", frozenset({"everyone"})))
    vector = QueryVector(model, np.ones(DIMENSIONS, np.float32) / DIMENSIONS**0.5)
    wrong: list[str] = []
    began, cpu = time.perf_counter(), time.process_time()
    with LocalStore.open(folder) as store:
        store.candidates("quagga", vector, scope, 10)
        took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
        hits = store.candidates("quagga", vector, scope, 100_000)
        if hits.lexical.keys() != hits.dense.keys():
            wrong.append("the legs do not agree")
        parts: dict[str, list[tuple[str, int]]] = {}
        for found in store.fetch(list(hits.lexical), scope.identity):
            _, mark, _, part = found.chunk.text.split()[:4]
            parts.setdefault(found.chunk.uri, []).append((mark, int(part)))
        lost, partial, is_now = 0, 0, dict[str, str]()
        for uri, states in expected(log).items():
            marks = {mark for mark, _ in parts.get(uri, [])} or {"0"}
            is_now[uri] = min(marks)
            whole = marks == {"0"} or sorted(n for _, n in parts[uri]) == list(range(1 + int(min(marks)) % MOST_CHUNKS))
            partial += len(marks) > 1 or not whole
            lost += not marks & states
        stats = store.stats()
        if not stats.chunks == stats.vectors == base + len(hits.lexical):
            wrong.append(f"{stats.chunks} chunks and {stats.vectors} vectors, {base + len(hits.lexical)} expected")
    say = acknowledge(log)
    for uri, states in expected(log).items():  # what a kill left undecided is settled now
        if len(states) > 1:
            say(f"put {uri} {is_now[uri]}")
    return {**took, "lost": lost, "partial": partial, "wrong": wrong, "loose_chunks": len(hits.lexical)}


def expected(log: Path) -> dict[str, set[str]]:
    """For each uri the states that are right: what was acknowledged last, or what was under way behind it."""
    states: dict[str, set[str]] = {}
    for line in log.read_text().split("\n"):
        kind, _, rest = line.partition(" ")
        uri, _, mark = rest.partition(" ")
        if kind in ("try", "drop"):
            states.setdefault(uri, {"0"}).add(mark)
        elif kind in ("put", "gone"):
            states[uri] = {mark}
    return states


def save(path: Path, log: Path, seed: int) -> None:
    """Add to usearch's index and save it, for ever."""
    from usearch.index import Index

    rng, say, index = np.random.default_rng(seed), acknowledge(log), Index.restore(str(path))
    say("open")
    while True:
        key = 10**9 * (1 + seed) + len(index)
        index.add(np.arange(key, key + 50, dtype=np.uint64), rng.integers(-99, 99, (50, index.ndim), np.int8))
        index.save(str(path))
        say(f"put {len(index)} 0")


def look_at_saved(path: Path, log: Path, _: int) -> dict[str, Any]:
    """Say whether what was saved can be read and has as many vectors as were acknowledged."""
    from usearch.index import Index

    since = log.read_text().rpartition("anew")[2]
    counts = [int(line.split()[1]) for line in since.splitlines() if line.startswith("put")]
    began, cpu = time.perf_counter(), time.process_time()
    try:
        found = Index.restore(str(path))
        size = -1 if found is None else len(found)
    except (RuntimeError, OSError, ValueError, MemoryError):
        size = -1
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    unread = size < 0
    return {**took, "unreadable": int(unread), "lost": int(not unread and size < max(counts, default=0))}


ROLES: dict[str, Callable[..., Any]] = {"ingest": ingest, "look": look, "save": save, "look_at_saved": look_at_saved}


def child(role: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--role", role, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def killed(writer: str, reader: str, place: Path, log: Path, kills: int, base: int, restore: Callable[[], None]) -> Any:
    chance, found = Random(SEED), []
    for n in range(kills):
        log.touch()
        opened = log.read_text().count("open")
        process = child(writer, place, log, n)
        while process.poll() is None and log.read_text().count("open") == opened:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.05, 2.0))
        if process.poll() is not None:
            raise RuntimeError(f"{writer} ended by itself")
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        said, _ = child(reader, place, log, base).communicate()
        found.append(json.loads(said))
        if found[-1].get("unreadable"):
            restore()
    seconds = np.array([f["seconds"] for f in found])
    cpu = np.array([f["cpu_seconds"] for f in found])
    acknowledged = sum(line.startswith(("put", "gone")) for line in log.read_text().splitlines())
    counts = {key: sum(f[key] for f in found) for key in ("lost", "partial", "unreadable") if key in found[0]}
    return {
        "kills": kills,
        "acknowledged": acknowledged,
        **counts,
        "wrong": sorted({w for f in found for w in f.get("wrong", [])}),
        "open_seconds_p50": float(np.median(seconds)),
        "open_seconds_p95": float(np.percentile(seconds, 95)),
        "open_seconds_most": float(seconds.max()),
        "open_cpu_seconds_p50": float(np.median(cpu)),
        "open_cpu_seconds_most": float(cpu.max()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=50)
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.keep) as temporary:
        base = (options.keep or Path(temporary)) / str(options.size)
        make(base, options.size, options)
        if not (base / "store.built").is_file():
            builder = [sys.executable, str(Path(__file__).with_name("bench_store.py")), "--worker", "store", str(base)]
            subprocess.run(builder, input='{"what": "build"}\n', stdout=subprocess.DEVNULL, text=True, check=True)
        store, index, log = Path(temporary) / "store", Path(temporary) / "index", Path(temporary) / "log"
        shutil.copytree(base / "store", store)
        report = {"store": killed("ingest", "look", store, log, options.kills, options.size, lambda: None)}
        graph = next((base / "store/vectors").glob("*/seg-*/graph.usearch"), None)
        if graph is None:
            print("skipped: the store is too small for a graph, which usearch would save", file=sys.stderr)
        else:
            shutil.copy(graph, index)
            log = log.with_name("log of usearch")

            def restore() -> None:
                shutil.copy(graph, index)
                acknowledge(log)("anew")

            report["usearch"] = killed("save", "look_at_saved", index, log, options.kills, 0, restore)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, figures in report.items():
            for figure, value in figures.items():
                print(f"{name:8} {figure:22} {value if not isinstance(value, float) else f'{value:.2f}'}")
    failed = report["store"]["lost"] or report["store"]["partial"] or report["store"]["wrong"]
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--role"]:
        given = sys.argv[3:]
        said = ROLES[sys.argv[2]](Path(given[0]), Path(given[1]), int(given[2]))
        print(json.dumps(said))
    else:
        sys.exit(main())
