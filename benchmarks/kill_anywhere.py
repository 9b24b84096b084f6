"""Kill the small journey at random moments with SIGKILL, run it again, and compare every output with an undisturbed run.

    python benchmarks/kill_anywhere.py [--kills 20] [--seed 1] [--json] [KEY=VALUE ...]

The journey also learns by reinforcement and puts what it trained through a small suite; further settings go behind.
Each round starts a fresh run folder and is killed again and again after a random time until it comes to its end; rounds
go on until there were enough kills. A round counts as equal when the hash of every output of every step is.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/e2e"))
import journey

# What the journey of the tests leaves out, since it takes its time.
_ALSO = (
    journey.NO_GATES,
    "train.rl.enabled=true",
    "train.rl.max_steps=2",
    "train.rl.batch_size=4",
    "train.rl.generations=2",
    "train.rl.max_new_tokens=12",
    "evaluate.suite_tokens=12",
)
_ITEMS = 24  # fewer are inconclusive and keep a release back


def _last_step(run: Path) -> str:
    """The last step whose manifest is written."""
    done = sorted((run / "manifests").glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
    return done[-1].stem if done else "none"


def _settings(folder: Path, more: list[str]) -> list[str]:
    """The settings of every run: the suite stands beside the folders of the rounds."""
    suite = folder / "small.jsonl"
    rows = [
        {"id": f"i{n}", "prompt": f"Who keeps key number {n}?", "checks": [{"contains": "xylophone"}]}
        for n in range(_ITEMS)
    ]
    suite.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [*_ALSO, f"evaluate.suites=[{suite}]", *more]


def _undisturbed(folder: Path, settings: list[str]) -> tuple[dict[str, dict[str, str]], float]:
    recipe = journey.prepare(folder)
    began = time.monotonic()
    subprocess.run(
        journey.command(recipe, folder / "run", *settings),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=journey.environment(),
    )
    return journey.fingerprints(folder / "run"), time.monotonic() - began


def _round(
    folder: Path, settings: list[str], rng: random.Random, longest: float, wanted: int, kills: list[dict[str, object]]
) -> bool:
    """Kill until the run comes to its end or there were enough kills, then let it end; returns whether it did."""
    arguments = journey.command(journey.prepare(folder), folder / "run", *settings)
    while True:
        process = subprocess.Popen(
            arguments,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=journey.environment(),
            start_new_session=True,
        )
        after = rng.uniform(1.0, longest)
        try:
            return process.wait(timeout=after if len(kills) < wanted else None) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills.append({"round": folder.name, "after_seconds": round(after, 1), "behind": _last_step(folder / "run")})
            print(
                f"kill {len(kills)}: {folder.name}, {after:.1f} s after the start, behind {kills[-1]['behind']}",
                file=sys.stderr,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="further settings of the recipe")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    kills: list[dict[str, object]] = []
    rounds: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="kill-anywhere-") as name:
        settings = _settings(Path(name), options.settings)
        expected, seconds = _undisturbed(Path(name) / "undisturbed", settings)
        print(f"undisturbed: {seconds:.0f} s, {len(expected)} steps", file=sys.stderr)
        while len(kills) < options.kills:
            folder = Path(name) / f"round {len(rounds) + 1}"
            ended = _round(folder, settings, rng, max(6.0, seconds * 0.4), options.kills, kills)
            found = journey.fingerprints(folder / "run")
            differ = [
                f"{step}/{output}"
                for step, outputs in expected.items()
                for output, sha256 in outputs.items()
                if found.get(step, {}).get(output) != sha256
            ]
            print(f"{folder.name}: ended {ended}, different: {differ or 'none'}", file=sys.stderr)
            rounds.append({"round": folder.name, "ended": ended, "different": differ})
    equal = sum(1 for r in rounds if r["ended"] and not r["different"])
    if options.json:
        print(json.dumps({"seconds_undisturbed": round(seconds, 1), "kills": kills, "rounds": rounds}, indent=1))
    else:
        for r in rounds:
            print(
                f"{r['round']}: {'ended' if r['ended'] else 'did not end'}, different outputs: {r['different'] or 'none'}"
            )
        print(f"{len(kills)} kills in {len(rounds)} rounds; {equal} of {len(rounds)} ended in the same bytes")
    return 0 if equal == len(rounds) else 1


if __name__ == "__main__":
    raise SystemExit(main())
