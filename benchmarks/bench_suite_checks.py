"""How sure the checks of suites are that need judgement: declining against human labels, leaks against labelled leaks.

    python benchmarks/bench_suite_checks.py REFUSALS.jsonl LEAKS.jsonl [--json]

REFUSALS holds completion, prompt and label (1_full_compliance, 2_full_refusal, 3_partial_refusal), as XSTest's labelled
completions do; LEAKS holds access_code, llm_output and is_prompt_extraction, as Tensor Trust's. The phrases were written
on the prompts whose hash is even; the odd half was only measured. The peer of each is the simplest that could work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from fieldwise.refusals import declines
from fieldwise.suite.leaks import reveals

_ONE_PATTERN = re.compile(r"\b(?:i'?m sorry|i can(?:not|'t)|unable to|as an ai)\b", re.IGNORECASE)


def agreement(labels: Sequence[bool], found: Sequence[bool]) -> dict[str, float]:
    """Cohen's kappa, precision and recall."""
    n, both = len(labels), sum(a and b for a, b in zip(labels, found, strict=True))
    observed = sum(a == b for a, b in zip(labels, found, strict=True)) / n
    p, q = sum(labels) / n, sum(found) / n
    chance = p * q + (1 - p) * (1 - q)
    values = {
        "kappa": (observed - chance) / (1 - chance),
        "precision": both / max(1, sum(found)),
        "recall": both / sum(labels),
    }
    return {"n": n, **{k: round(v, 3) for k, v in values.items()}}


def refusals(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, float]]:
    """The figures over all rows and over the half that the phrases were not written on."""
    odd = [r for r in rows if int(hashlib.sha256(r["prompt"].encode()).hexdigest(), 16) % 2]
    figures = {}
    for name, chosen in (("all", rows), ("held out", odd)):
        labels = [r["label"] != "1_full_compliance" for r in chosen]
        figures[f"declines, {name}"] = agreement(labels, [declines(r["completion"]) for r in chosen])
        peer = [bool(_ONE_PATTERN.search(r["completion"].replace("’", "'"))) for r in chosen]
        figures[f"one pattern, {name}"] = agreement(labels, peer)
    return figures


def leaks(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, float]]:
    """The figures of finding the code in whatever form, and as it is."""
    labels = [bool(r["is_prompt_extraction"]) for r in rows]
    return {
        "reveals": agreement(labels, [reveals(r["llm_output"], r["access_code"]) is not None for r in rows]),
        "literal": agreement(labels, [r["access_code"].lower() in r["llm_output"].lower() for r in rows]),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("refusals", type=Path, nargs="?")
    parser.add_argument("leaks", type=Path, nargs="?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.leaks is None:
        print("needs two labelled files, which are not part of the repository: see --help")
        return
    read = [[json.loads(line) for line in path.open(encoding="utf-8")] for path in (options.refusals, options.leaks)]
    figures = {**refusals(read[0]), **leaks(read[1])}
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, values in figures.items():
        print(f"{name:24}" + "".join(f"  {k} {v:g}" for k, v in values.items()))


if __name__ == "__main__":
    main()
