"""How many passages that give orders to a model the screen sees, and how many ordinary ones it takes for such.

    python benchmarks/bench_screen.py [CORPORA] [--json]

CORPORA (default ../shared/corpora) holds `safety` (attacks with their sources, and texts that only look like some),
`retrieval` and `pretrain` (ordinary passages, in blocks of up to 1,200 characters). Attacks that were planted into a
context also count as removed when nothing of them is left in what a model is shown. The rules were written with sight
of the attacks, so the recall is what they can do, not what they will do on attacks that nobody has seen.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fieldwise.evaluate.statistics import wilson
from fieldwise.retrieve.screen import screen, shown

_BLOCK = 1200
_ORDINARY = (
    "medquad_docs",
    "dc_code",
    "sec_filings",
    "site_policy",
    "va_gov",
    "digitalgov",
    "fomc_minutes",
    "oss_docs",
)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file, packed or not; none where it is missing."""
    if not path.is_file():
        return
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    yield from (json.loads(line) for line in content.decode("utf-8").split("\n") if line.strip())


def blocks(text: str) -> Iterator[str]:
    """Paragraphs, put together up to the size of a passage."""
    block = ""
    for part in text.split("\n\n"):
        if block and len(block) + len(part) > _BLOCK:
            yield block
            block = ""
        block = f"{block}\n\n{part}".strip()[: 2 * _BLOCK]
    if block:
        yield block


def tagged(text: str) -> str:
    """A text in characters that no reader sees."""
    return "".join(chr(0xE0000 + ord(c)) if 0x20 <= ord(c) < 0x7F else c for c in text)


def figure(hits: int, count: int) -> dict[str, float]:
    """A share with its 95 % Wilson interval."""
    found = wilson(hits, count)
    return {"n": count, "share": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def attacks(safety: Path) -> dict[str, dict[str, float]]:
    """Shares of the attacks that are seen, by source, and of planted ones that are removed."""
    counts: dict[str, list[bool]] = defaultdict(list)
    for row in rows(safety / "injection.jsonl"):
        if row["label"] == 1:
            counts[f"{row['source']} seen"].append(bool(screen(row["text"]).signs))
    for row in rows(safety / "indirect.jsonl"):
        if row["label"] == 1:
            text, attack = row["text"], row["attack"]
            seen = screen(text)
            asks = attack.rstrip().endswith("?")
            kind = (
                f"{row['source']} {'plain question' if asks else 'order'}"
                if "code" not in row["source"]
                else "bipia_code"
            )
            counts[f"{kind} seen"].append(bool(seen.signs))
            counts[f"{kind} removed"].append(attack not in shown(text, seen))
            hidden = text.replace(attack, tagged(attack))
            counts["the same in tag characters removed"].append(tagged(attack) not in shown(hidden, screen(hidden)))
    return {name: figure(sum(found), len(found)) for name, found in counts.items()}


def alarms(corpora: Path, each: int, rng: random.Random) -> dict[str, dict[str, float]]:
    """Shares of ordinary texts that are taken for attacks, by source."""
    texts: dict[str, list[str]] = defaultdict(list)
    for name in ("injection.jsonl", "indirect.jsonl"):
        for row in rows(corpora / "safety" / name):
            if row["label"] == 0:
                texts[f"safety: {row['source']}"].append(row["text"])
    for name in ("scifact", "obliqa"):
        texts[name] = [
            f"{r.get('title', '')}\n{r['text']}" for r in rows(corpora / "retrieval" / name / "corpus.jsonl")
        ]
    for name in _ORDINARY:
        found = [b for r in rows(corpora / "pretrain" / f"{name}.jsonl.gz") for b in blocks(r.get("text", ""))]
        texts[name] = found
    figures = {}
    for name, found in texts.items():
        if found:
            taken = rng.sample(found, min(each, len(found)))
            figures[name] = figure(sum(bool(screen(text).signs) for text in taken), len(taken))
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path, nargs="?", default=Path(__file__).parents[2] / "shared/corpora")
    parser.add_argument("--each", type=int, default=4000, help="most texts of each ordinary source")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.corpora / "safety/indirect.jsonl").is_file():
        print(f"skipped: {options.corpora} is not there", file=sys.stderr)
        return 0
    began, cpu = time.perf_counter(), time.process_time()
    figures = {
        "attacks": attacks(options.corpora / "safety"),
        "ordinary": alarms(options.corpora, options.each, random.Random(options.seed)),
    }
    count = sum(f["n"] for f in figures["ordinary"].values())
    if options.json:
        print(json.dumps(figures, indent=2))
        return 0
    for part, found in figures.items():
        print(f"{part:46} {'n':>5}  share [95 %]")
        for name, f in sorted(found.items()):
            print(f"  {name:44} {f['n']:>5}  {f['share']:.4f} [{f['low']:.4f}, {f['high']:.4f}]")
    print(
        f"{count:.0f} ordinary texts and the attacks in {time.process_time() - cpu:.0f} s of CPU, {time.perf_counter() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
