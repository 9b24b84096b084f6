"""Time and memory of `fieldwise data doctor` over generated rows, or over a file of your own.

python benchmarks/bench_data_doctor.py [PATH] [--rows 10000] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ENDINGS = ("ro", "lin", "ta", "mer", "vos", "ned", "kal", "sti")


def _write(path: Path, rows: int) -> None:
    """Questions and answers of invented words, about as long as those of a handbook."""
    rng = random.Random(1)
    words = [a + b + c for a in ("ba", "ce", "di", "fo", "gu") for b in _ENDINGS for c in _ENDINGS]
    with path.open("w", encoding="utf-8") as lines:
        for number in range(rows):
            question = f"What does rule {number} say of {' '.join(rng.choices(words, k=12))}?"
            answer = " ".join(rng.choices(words, k=30))
            lines.write(json.dumps({"question": question, "answer": answer}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.path
        if path is None:
            path = Path(folder) / "rows.jsonl"
            _write(path, options.rows)
        began = time.monotonic()
        command = [sys.executable, "-m", "fieldwise", "data", "doctor", str(path), "--json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        seconds = time.monotonic() - began
    if done.returncode not in (0, 2) or not done.stdout:
        raise SystemExit(done.stderr)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "exit_code": done.returncode,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }
    print(json.dumps(found) if options.json else "\n".join(f"{k:12} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
