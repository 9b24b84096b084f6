"""How often the doctor's list of unsafe words and wishes finds what people labelled, and how often it is wrong.

python benchmarks/bench_unsafe.py [--corpora ../shared/corpora] [--json]

Found: harmful requests of HarmBench, AdvBench, MaliciousInstruct and XSTest, jailbreaks. Wrong: the safe requests of
XSTest, which sound harmful, and rows from clinical, legal and financial texts. The words were written with an eye on
these very sets, so expect less of requests put otherwise. The texts are no part of the project.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fieldwise.data.unsafe import unsafe_categories

CORPORA = Path(__file__).resolve().parents[2] / "shared/corpora"
_PLAIN = (
    "medquad_qa",
    "va_gov",
    "dc_code",
    "sec_filings",
    "fomc_minutes",
    "openstax_anatomy_physiology",
    "site_policy",
)
_MOST_ROWS, _ROW_CHARS = 3000, 2000


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    yield from map(json.loads, filter(None, text.split("\n")))


def sets(corpora: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the texts of each set by a name that says what they are."""
    labelled: dict[str, list[str]] = {}
    for row in _lines(corpora / "safety/harmful_and_overrefusal.jsonl"):
        labelled.setdefault(f"{row['label']}, {row['source']}", []).append(row["prompt"])
    for row in _lines(corpora / "safety/injection.jsonl"):
        labelled.setdefault(f"{'attack' if row['label'] else 'benign'}, {row['kind']}", []).append(row["text"])
    yield from labelled.items()
    for name in _PLAIN:
        rows = list(_lines(corpora / f"pretrain/{name}.jsonl.gz"))[:_MOST_ROWS]
        yield (
            f"field text, {name}",
            [" ".join(v for v in row.values() if isinstance(v, str))[:_ROW_CHARS] for row in rows],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.corpora / "safety").is_dir():
        sys.exit(f"the texts are not there, looked in {options.corpora / 'safety'}; name the folder with --corpora")
    figures: dict[str, dict[str, float]] = {}
    for name, texts in sets(options.corpora):
        began = time.process_time()
        found = sum(bool(unsafe_categories(text)) for text in texts)
        seconds = time.process_time() - began
        figures[name] = {
            "rows": len(texts),
            "found": found,
            "share": round(found / len(texts), 4),
            "microseconds_a_row": round(seconds / len(texts) * 1e6, 1),
        }
    if options.json:
        print(json.dumps(figures))
        return
    for name, row in figures.items():
        print(
            f"{name:45} {row['found']:5} of {row['rows']:5} ({row['share']:.1%}), {row['microseconds_a_row']:.0f} µs a row"
        )


if __name__ == "__main__":
    main()
