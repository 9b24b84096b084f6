"""How fast passages are embedded, beside sentence-transformers with its defaults, and how near the vectors are to its own.

    python benchmarks/bench_embedding.py [--chunks 64] [--rounds 5] [--threads 2] [--json]

Chunks of 240 tokens, made of the passages that come with the package; weights of all-MiniLM-L6-v2 on both sides.
sentence-transformers computes in float32 by torch with batches of 32, ours by OpenVINO in bfloat16 where the machine has
it. Both get the same threads and take turns; each round is timed by the clock and by CPU seconds, and the ratio is that of
the medians. On a machine that others use too, the CPU seconds count. Reach: 3.5 times at a least cosine of 0.999.
Without sentence-transformers only our own speed is shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.machine import has_bfloat16, usable_cores
from fieldwise.retrieve.embed import MiniLmEmbedder, bundled_folder

REACH, LEAST_COSINE = 3.5, 0.999
TOKENS = 240
_WARM_UP = 8


class Pace(NamedTuple):
    """Chunks a second: by the clock, and by CPU seconds."""

    clock: float
    cpu: float


def chunks(count: int, embedder: MiniLmEmbedder) -> list[str]:
    """Return texts of 240 tokens, each beginning elsewhere."""
    kept = json.loads(resources.files("fieldwise.ranking").joinpath("everyday.json").read_text("utf-8"))
    text = "\n".join(kept["passages"])
    ids = embedder.tokenizer
    ids.no_truncation()
    offsets = ids.encode(text, add_special_tokens=False).offsets
    ids.enable_truncation(256)
    step = max(1, (len(offsets) - TOKENS) // count)
    places = [n * step for n in range(count)]
    return [text[offsets[n][0] : offsets[n + TOKENS - 1][1]] for n in places]


def timed(encode: Callable[[Sequence[str]], object], texts: Sequence[str]) -> Pace:
    clock, cpu = time.perf_counter(), time.process_time()
    encode(texts)
    return Pace(len(texts) / (time.perf_counter() - clock), len(texts) / (time.process_time() - cpu))


def median(paces: Sequence[Pace]) -> Pace:
    return Pace(*(statistics.median(p[n] for p in paces) for n in range(2)))


def peer(threads: int) -> Callable[[Sequence[str]], NDArray[np.float32]] | None:
    """sentence-transformers as it comes, or None where it is not installed."""
    try:
        import sentence_transformers
        import torch
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(threads)
    model = sentence_transformers.SentenceTransformer(str(bundled_folder()), device="cpu")
    return lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ours = MiniLmEmbedder(options.threads)
    texts = chunks(options.chunks, ours)
    theirs = peer(options.threads)
    encoders = {"fieldwise": ours.encode, **({} if theirs is None else {"sentence-transformers": theirs})}
    for encode in encoders.values():
        encode(texts[:_WARM_UP])
    rounds: dict[str, list[Pace]] = {name: [] for name in encoders}
    for _ in range(options.rounds):
        for name, encode in encoders.items():
            rounds[name].append(timed(encode, texts))
    paces = {name: median(found) for name, found in rounds.items()}
    result: dict[str, object] = {
        "chunks": options.chunks,
        "tokens": TOKENS,
        "threads": options.threads,
        "arithmetic": "bfloat16" if has_bfloat16() else "float32",
        "per_second": {name: {"clock": round(p.clock, 1), "cpu": round(p.cpu, 1)} for name, p in paces.items()},
    }
    if theirs is None:
        print("sentence-transformers is not installed: no ratio", file=sys.stderr)
    else:
        mine, other = paces["fieldwise"], paces["sentence-transformers"]
        cosines = np.sum(ours.encode(texts) * theirs(texts), axis=1)
        result |= {
            "ratio_clock": round(mine.clock / other.clock, 2),
            "ratio_cpu": round(mine.cpu / other.cpu, 2),
            "least_cosine": round(float(cosines.min()), 6),
        }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, pace in paces.items():
        print(f"{name:22} {pace.clock:7.1f} chunks/s  {pace.cpu:7.1f} chunks a CPU second")
    if theirs is not None:
        met = result["ratio_cpu"] >= REACH and result["least_cosine"] >= LEAST_COSINE  # type: ignore[operator]
        print(
            f"ratio {result['ratio_clock']} by the clock, {result['ratio_cpu']} by CPU seconds, least cosine "
            f"{result['least_cosine']}: {'reached' if met else 'missed'} ({REACH} at {LEAST_COSINE})"
        )


if __name__ == "__main__":
    main()
