"""Engines that are measured beside each other, each in a process of its own, in turns.

So each has the environment it is installed in, and CPU seconds (of all its threads) and memory that are its own. One
process builds what is searched and ends; a second one opens it and answers. An engine is a class with `build()`, `open()`
and a method for every figure, which takes the number of a query.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "LANCE_CPU_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
}
_WARM_UP = 3


class Worker:
    """A process that holds one engine."""

    def __init__(self, python: str, script: str, engine: str, folder: Path) -> None:
        command = [python, script, "--worker", engine, str(folder)]
        paths = [str(Path(__file__).resolve().parents[1] / "src"), str(Path(__file__).parent)]
        env = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)}
        self.engine = engine
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def ask(self, what: str, **more: Any) -> Any:
        """Return the reply; raises RuntimeError for an engine that failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **more}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        reply = json.loads(line) if line else {"failed": "the process has ended"}
        if isinstance(reply, dict) and "failed" in reply:
            raise RuntimeError(f"{self.engine}, {what}: {reply['failed']}")
        return reply

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def opened(python: str, script: str, engine: str, folder: Path, needs: Sequence[str]) -> Worker | None:
    """Return a worker that answers, over what was built now or before; None, and a line, where a library is missing."""
    code = f"import importlib.util as u; print([n for n in {list(needs)!r} if u.find_spec(n) is None])"
    missing = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    if missing != "[]":
        print(f"skipped: {engine} needs {missing}, which {python} does not have", file=sys.stderr)
        return None
    mark = folder / f"{engine}.built"
    if not mark.is_file():
        builder = Worker(python, script, engine, folder)
        mark.write_text(json.dumps(builder.ask("build")))
        builder.close()
    worker = Worker(python, script, engine, folder)
    worker.ask("open")
    return worker


def work(engines: Mapping[str, type]) -> None:
    """Answer on stdin and stdout as the engine that the command line names."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no reply
    engine = engines[sys.argv[2]](Path(sys.argv[3]))
    for line in sys.stdin:
        try:
            reply = _reply(engine, **json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever a peer raises goes to the table
            reply = {"failed": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=replies, flush=True)


def _reply(engine: Any, what: str, **more: Any) -> Any:
    if what in ("build", "open"):
        began, cpu = time.perf_counter(), time.process_time()
        getattr(engine, what)()
        return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    if what == "memory":
        lines = Path("/proc/self/status").read_text().splitlines()
        size = {
            line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))
        }
        return {"resident_mb": size["VmRSS"], "peak_mb": size["VmHWM"], "torch": "torch" in sys.modules}
    return _timed(engine, what, **more) if more else getattr(engine, what)()


def _timed(engine: Any, what: str, begin: int, count: int, seconds: float = 60, clients: int = 1) -> dict[str, Any]:
    """Ask queries `begin` and on, at most `count` and for so many seconds, by clients that each wait for their answer."""
    ask, found = getattr(engine, what), dict[int, Any]()
    warm = time.monotonic() + seconds / 2
    for n in range(begin, begin + _WARM_UP):
        if n == begin or time.monotonic() < warm:
            ask(n)
    walls, cpus, failures, lock = list[float](), list[float](), list[str](), threading.Lock()
    numbers, deadline = iter(range(begin, begin + count)), time.monotonic() + seconds
    cpu_before, before = time.process_time(), time.perf_counter()

    def client() -> None:
        while True:
            with lock:
                n = next(numbers, None)
            if n is None or time.monotonic() > deadline:
                return
            start, cpu = time.perf_counter(), time.process_time()
            try:
                got = ask(n)
            except Exception as error:  # noqa: BLE001 - a peer that cannot be asked by several at once
                failures.append(f"{type(error).__name__}: {error}"[:100])
                continue
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
            with lock:
                walls.append(wall)
                cpus.append(cpu)
                found[n] = got

    if clients == 1:
        client()
    else:
        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    took = {"wall": time.perf_counter() - before, "cpu": time.process_time() - cpu_before}
    return {"walls": walls, "cpus": cpus, "found": found, "failures": failures, **took}


class Figure:
    """What was measured of one engine in several rounds."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, Any]] = []

    def add(self, reply: dict[str, Any]) -> None:
        self.rounds.append(reply)

    def rate(self, of: str) -> list[float]:
        """Queries a second of each round, by `wall` or `cpu`."""
        return [len(r["walls"]) / max(r[of], 1e-9) for r in self.rounds]

    def summary(self) -> dict[str, float]:
        """Medians over the rounds, and percentiles over all queries; milliseconds."""
        walls = np.concatenate([r["walls"] for r in self.rounds]) * 1000
        cpus = np.concatenate([r["cpus"] for r in self.rounds]) * 1000
        return {
            "per_second": statistics.median(self.rate("wall")),
            "per_cpu_second": statistics.median(self.rate("cpu")),
            "p50_ms": float(np.percentile(walls, 50)),
            "p95_ms": float(np.percentile(walls, 95)),
            "p95_best_round_ms": min(float(np.percentile(r["walls"], 95)) * 1000 for r in self.rounds),
            "cpu_ms": 1000 * sum(r["cpu"] for r in self.rounds) / len(walls),
            "p95_cpu_ms": float(np.percentile(cpus, 95)),
            "queries": len(walls),
            "failed": sum(len(r["failures"]) for r in self.rounds),
        }

    def times(self, other: Figure) -> dict[str, float]:
        """The middle ratio of this one's rate to another's in the same round."""
        return {
            of: statistics.median(a / b for a, b in zip(self.rate(of), other.rate(of), strict=True))
            for of in ("wall", "cpu")
        }


def open_workers(
    options: argparse.Namespace, script: str, folder: Path, needs: Mapping[str, Sequence[str]]
) -> dict[str, Worker]:
    """Return the engines that are asked for and installed, in their order."""
    found: dict[str, Worker] = {}
    for name in options.engines.split(","):
        python = sys.executable if name == "store" else options.peers
        worker = opened(python, script, name, folder, needs[name])
        if worker is not None:
            found[name] = worker
    return found


def in_turn(names: Sequence[str], turn: int) -> list[str]:
    """Return the names, another one first in every round."""
    first = turn % len(names) if names else 0
    return [*names[first:], *names[:first]]


def run(
    doc: str,
    engines: Mapping[str, Any],
    measure: Callable[[Path, int, argparse.Namespace], dict[str, Any]],
    show: Callable[[int, dict[str, Any]], None],
    add: Callable[[argparse.ArgumentParser], None],
    **defaults: float,
) -> int:
    """Be the worker that a command line names, or measure every size and show it; `defaults` are of queries and seconds."""
    if sys.argv[1:2] == ["--worker"]:
        work(engines)
        return 0
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--sizes", default="13000,100000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=int(defaults["queries"]), help="of each figure in each round")
    parser.add_argument(
        "--seconds",
        type=float,
        default=defaults["seconds"],
        help="most that an engine may take for a figure in a round",
    )
    parser.add_argument("--engines", default=",".join(engines))
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="where the peers are installed")
    add(parser)
    options = parser.parse_args()
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for size in map(int, options.sizes.split(",")):
            report[str(size)] = measure((options.keep or Path(temporary)) / str(size), size, options)
            if not options.json:
                show(size, report[str(size)])
    report["load"] = os.getloadavg()
    if options.json:
        print(json.dumps(report, indent=2))
    return 0


def short(value: object) -> str:
    """A figure for a line of text."""
    if isinstance(value, dict):
        return "/".join(short(v) for v in value.values())
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
