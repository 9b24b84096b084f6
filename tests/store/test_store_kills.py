"""kill -9 in the middle of an ingest: nothing that was acknowledged is lost, no document is there in part."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from stored_documents import EVERY, asked, entry, found

from fieldwise.store.local import LocalStore, StoreSettings

HERE = Path(__file__).parent
SETTINGS = StoreSettings(flat_rows=200, seal_rows=30)

# Puts, replaces and deletes documents for ever, and writes a line, synced, behind each that was acknowledged.
INGEST = """
import os, sys
from pathlib import Path
from random import Random
sys.path.insert(0, sys.argv[1])
from fieldwise.store.local import LocalStore, StoreSettings
from stored_documents import entry
chance = Random(int(sys.argv[4]))
log = open(sys.argv[3], "a")
def acknowledged(line):
    log.write(line + "\\n")
    log.flush()
    os.fsync(log.fileno())
with LocalStore.open(Path(sys.argv[2]), settings=StoreSettings(flat_rows=200, seal_rows=30)) as store:
    acknowledged("open")
    while True:
        if chance.random() < 0.3:
            uri, mark = f"{chance.randrange(40)}", chance.randrange(10**9)
            acknowledged(f"try {uri} {mark}")
            store.put(entry(uri, [f"fridge {mark} part {n}" for n in range(1 + mark % 7)]))
            acknowledged(f"put {uri} {mark}")
        elif chance.random() < 0.2:
            uri = f"{chance.randrange(40)}"
            acknowledged(f"drop {uri} 0")
            store.delete(uri)
            acknowledged(f"gone {uri} 0")
        else:
            with store.batch():
                for _ in range(chance.randrange(1, 9)):
                    uri, mark = f"{chance.randrange(40)}", chance.randrange(10**9)
                    acknowledged(f"try {uri} {mark}")
                    store.put(entry(uri, [f"fridge {mark} part {n}" for n in range(1 + mark % 7)]))
                    acknowledged(f"put {uri} {mark}")
"""


def ingest_until_killed(folder: Path, log: Path, seed: int, seconds: float) -> None:
    command = [sys.executable, "-c", INGEST, str(HERE), str(folder), str(log), str(seed)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    log.touch()
    opened, deadline = log.read_text().count("open"), time.monotonic() + 300
    try:
        while process.poll() is None and log.read_text().count("open") == opened:
            assert time.monotonic() < deadline, "the store did not open"
            time.sleep(0.02)
        time.sleep(seconds)
        assert process.poll() is None, process.communicate()[1]
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()


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


def check(folder: Path, log: Path) -> float:
    """Compare both legs and the catalogue with the log; returns the seconds it took to open."""
    began = time.monotonic()
    with LocalStore.open(folder, settings=SETTINGS) as store:
        opened = time.monotonic() - began
        hits = store.candidates("fridge", asked("fridge part"), EVERY, 10_000)
        assert hits.lexical.keys() == hits.dense.keys(), "the legs do not agree"
        parts: dict[str, list[tuple[str, int]]] = {}
        for chunk in store.fetch(list(hits.dense), EVERY.identity):
            _, mark, _, part = chunk.chunk.text.split()
            parts.setdefault(chunk.chunk.uri, []).append((mark, int(part)))
        for uri, states in expected(log).items():
            marks = {mark for mark, _ in parts.get(uri, [])} or {"0"}
            assert len(marks) == 1, f"{uri} is there in two versions"
            (mark,) = marks
            assert mark in states, f"{uri}: {mark} is neither acknowledged nor under way, of {states}"
            if mark != "0":
                assert sorted(n for _, n in parts[uri]) == list(range(1 + int(mark) % 7)), f"{uri} is there in part"
        stats = store.stats()
        assert stats.chunks == stats.vectors == len(hits.dense)
        # what a kill left undecided is settled now: the log continues from what is there
        with log.open("a") as stream:
            for uri, states in expected(log).items():
                if len(states) > 1:
                    stream.write(f"put {uri} {({mark for mark, _ in parts.get(uri, [])} or {'0'}).pop()}\n")
    with LocalStore.read(folder) as reader:
        assert found(reader, "fridge", count=10_000)[0] == set(parts)
    return opened


def kill_often(tmp_path: Path, kills: int) -> None:
    chance, folder, log = Random(5), tmp_path / "store", tmp_path / "log"
    for n in range(kills):
        ingest_until_killed(folder, log, n, chance.uniform(0.05, 1.5))
        check(folder, log)
    assert sum(line.startswith("put") for line in log.read_text().split("\n")) > kills


def test_three_kills_during_ingest_lose_nothing(tmp_path: Path) -> None:
    kill_often(tmp_path, 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_kills_during_ingest_lose_nothing(tmp_path: Path) -> None:
    kill_often(tmp_path, 50)


def test_a_lexical_index_whose_deletions_are_half_written_is_made_again(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path, settings=SETTINGS) as store:
        for n in range(4):
            store.put(entry(f"{n}", [f"fridge {n} part {k}" for k in range(20)]))
        store.delete("1")
    (index,) = (p for p in (tmp_path / "words").iterdir() if p.is_dir())
    damaged = list(index.glob("*.del"))
    for path in damaged:
        path.write_bytes(b"half")
    assert damaged
    with LocalStore.read(tmp_path, settings=SETTINGS) as store:
        assert found(store, "fridge") == ({"0", "2", "3"}, {"0", "2", "3"})
    with LocalStore.open(tmp_path, settings=SETTINGS) as store:
        assert found(store, "fridge") == ({"0", "2", "3"}, {"0", "2", "3"})
        assert store.faults() == []
