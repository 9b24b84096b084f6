"""The main job as `make demo` runs it: minutes, peak memory, a second run, and one changed document.

    python benchmarks/bench_demo.py [--json] [--keep FOLDER]

Needs nothing but an installed `fieldwise[demo]` and `fieldwise-nano`. Memory is the sum of the resident sets of the
command and all its children, sampled ten times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = os.sysconf("SC_PAGE_SIZE")


def _tree(root: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found, grew = {root}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def timed(command: list[str], **options: object) -> dict[str, float]:
    """Run a command to its end; returns seconds, peak bytes and exit code."""
    began = time.monotonic()
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    peak, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.1):
            peak = max(peak, sum(_resident(pid) for pid in _tree(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    stop.set()
    watcher.join()
    return {"seconds": round(time.monotonic() - began, 1), "peak_gib": round(peak / 2**30, 2), "exit": code}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="where the copy and its run folder shall stay")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="bench-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("examples", "recipes"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "fieldwise",
        "run",
        "--config",
        "recipes/quickstart.yaml",
        "--run",
        "run",
        "--json",
    ]
    with (folder / "first.json").open("wb") as stream:
        measured = {"first run": timed(command, cwd=folder, stdout=stream)}
    measured["second run"] = timed(command, cwd=folder, stdout=subprocess.DEVNULL)
    page = folder / "examples/documents/healthcare/falls-prevention.md"
    page.write_text(
        page.read_text(encoding="utf-8") + "\nThe register of falls is kept in room 12.\n", encoding="utf-8"
    )
    measured["one changed document, to the index"] = timed(
        [*command, "--end", "2i"], cwd=folder, stdout=subprocess.DEVNULL
    )
    seconds = {s["step"]: s["seconds"] for s in json.loads((folder / "first.json").read_text())["steps"]}
    if options.json:
        print(json.dumps({"measured": measured, "steps": seconds}, indent=1))
    else:
        for name, row in measured.items():
            print(f"{name}: {row['seconds']} s, peak {row['peak_gib']} GiB, exit {row['exit']}")
        for name, value in seconds.items():
            print(f"  {name}: {value} s")
    if not options.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
