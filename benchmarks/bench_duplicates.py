"""Near-duplicates: how many planted copies are found, and how fast, beside datasketch on the same shingles.

    python benchmarks/bench_duplicates.py [--corpora ../shared/corpora] [--copies 500] [--changed 0.03] [--repeats 3] [--json]

The texts are the answers of the MedQuAD collection. A copy is one of at least 60 words with a share of its words
replaced; it counts as found if a pair of it with its original comes back. Both sides get the same shingles, the same
128 permutations and the same threshold, and both decide by the true Jaccard similarity of what the signatures propose:
without that datasketch would name pairs that are none. Seconds are those of the processor, from text to pairs, the best
of the repeats. datasketch is no dependency of the project; where it is not installed it is left out, and said so.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fieldwise.prepare.duplicates import AT_ONCE, DuplicateFinder
from fieldwise.prepare.settings import DuplicateSettings
from fieldwise.shingles import jaccard, shingles

CORPORA = Path(__file__).resolve().parents[2] / "shared/corpora"
_MIN_WORDS = 60
_PERMUTATIONS = 128


class Planted(NamedTuple):
    """Texts by their number, and which of them is a copy of which."""

    texts: dict[str, str]
    copies: dict[str, str]


def plant(folder: Path, copies: int, changed: float) -> Planted:
    rng = random.Random(7)
    answers: dict[str, str] = {}
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                if row["answer"]:
                    answers.setdefault(" ".join(row["answer"].split()), f"t{len(answers):05}")
    texts = {identifier: text for text, identifier in answers.items()}
    vocabulary = [f"word{n}" for n in range(5000)]
    planted = {}
    for original in rng.sample([i for i, text in texts.items() if len(text.split()) >= _MIN_WORDS], copies):
        words = texts[original].split()
        for at in rng.sample(range(len(words)), max(1, round(changed * len(words)))):
            words[at] = rng.choice(vocabulary)
        planted[f"z{len(planted):05}"] = original
        texts[f"z{len(planted) - 1:05}"] = " ".join(words)
    return Planted(texts, planted)


def find_here(texts: dict[str, str], settings: DuplicateSettings) -> set[tuple[str, str]]:
    finder = DuplicateFinder(settings, texts.__getitem__)
    documents = list(texts.items())
    parts = (documents[n : n + AT_ONCE] for n in range(0, len(documents), AT_ONCE))
    return {(pair.first, pair.second) for part in parts for verdict in finder.add_all(part) for pair in verdict.near}


def find_by_datasketch(texts: dict[str, str], settings: DuplicateSettings) -> set[tuple[str, str]]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=settings.near_threshold, num_perm=_PERMUTATIONS)
    found = set()
    kept: dict[str, frozenset[str]] = {}
    for identifier, text in texts.items():
        own = shingles(text, settings.shingle_words)
        signature = MinHash(num_perm=_PERMUTATIONS, seed=42)
        signature.update_batch([shingle.encode() for shingle in own])
        for other in index.query(signature):
            if jaccard(own, kept[other]) >= settings.near_threshold:
                found.add((other, identifier))
        index.insert(identifier, signature)
        kept[identifier] = own
    return found


def measure(
    find: Callable[[dict[str, str], DuplicateSettings], set[tuple[str, str]]],
    planted: Planted,
    settings: DuplicateSettings,
    repeats: int,
) -> dict[str, float]:
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        pairs = find(planted.texts, settings)
        best = min(best, time.process_time() - began)
    found = sum((original, copy) in pairs for copy, original in planted.copies.items())
    return {"found": found, "pairs": len(pairs), "cpu_seconds": round(best, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    parser.add_argument("--copies", type=int, default=500)
    parser.add_argument("--changed", type=float, default=0.03)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = options.corpora / "medquad/qa"
    if not folder.is_dir():
        print(f"skipped: the collection is not there, looked in {folder}; name its folder with --corpora")
        return
    planted, settings = plant(folder, options.copies, options.changed), DuplicateSettings()
    result: dict[str, object] = {
        "texts": len(planted.texts),
        "planted": len(planted.copies),
        "fieldwise": (own := measure(find_here, planted, settings, options.repeats)),
    }
    if importlib.util.find_spec("datasketch") is None:
        print(
            "datasketch is not installed and left out: pip install datasketch in an environment of its own",
            file=sys.stderr,
        )
    else:
        peer = measure(find_by_datasketch, planted, settings, options.repeats)
        result |= {"datasketch": peer, "speed_ratio": round(peer["cpu_seconds"] / own["cpu_seconds"], 2)}
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['texts']} texts, {result['planted']} copies with {options.changed:.0%} of the words changed")
    for name in ("fieldwise", "datasketch"):
        if isinstance(row := result.get(name), dict):
            print(
                f"  {name:12} found {row['found']:4}   pairs {row['pairs']:6}   {row['cpu_seconds']:6.2f} processor seconds"
            )
    if "speed_ratio" in result:
        print(f"  {result['speed_ratio']} times the speed of datasketch (aim: 10)")


if __name__ == "__main__":
    main()
