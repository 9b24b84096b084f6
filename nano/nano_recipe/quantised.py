"""What quantising costs a size, and how long an answer takes: its GGUF files beside one another, on the held-out items.

    python -m nano_recipe.quantised src/fieldwise_nano/weights/nano-10m --build build --json quantised.json

Reading: every item of READ, right as in `evaluate` (all tokens of the answer are the first choice). Agreement: at how many
positions the first choice is that of the f32 file, over the answers of those items and over held-out running text.
Seconds: the questions of evaluation/handwritten.jsonl one after another, never two over one passage in a row, from the
prompt to the last token, on --threads. What a prompt shares with the one before (the system message) is kept, as it is
when the engine serves.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.interfaces import Sampling
from fieldwise.release.gguf import convert
from fieldwise.release.quantise import quantise

from .evaluate import READ, Item, handwritten_prompts, options_of, reading_items, wilson
from .rows import RowMaker, open_maker

KINDS = ("f32", "q8_0", "q4_k_m")
_TEXT_ROWS, _TEXT_LENGTH = 64, 512


def files(weights: Path, out: Path) -> dict[str, Path]:
    """Write the GGUF files of a folder of weights."""
    made = {kind: out / f"{kind}.gguf" for kind in KINDS}
    convert(weights, made["f32"], name=weights.name)
    for kind in KINDS[1:]:
        quantise(made["f32"], made[kind], kind)  # type: ignore[arg-type]
    return made


def first_choices(engine: LlamaCppEngine, items: Sequence[Item], rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The first choice at every position of an answer, item by item, then of every row of text."""
    answers = [engine.logits(i.ids[:-1])[i.start - 1 :].argmax(-1) for i in items]
    return [*answers, *(engine.logits(row.tolist()).argmax(-1) for row in rows)]


def seconds(engine: LlamaCppEngine, prompts: Sequence[list[int]]) -> dict[str, float]:
    """Seconds per answer and tokens per answer; greedy, at most 40 tokens."""
    engine.generate(prompts[:2], Sampling(max_tokens=4))
    spent, tokens = [], 0
    for prompt in prompts:
        began = time.perf_counter()
        tokens += len(engine.generate([prompt], Sampling(max_tokens=40))[0].token_ids)
        spent.append(time.perf_counter() - began)
    return {
        "median": float(np.median(spent)),
        "p95": float(np.quantile(spent, 0.95)),
        "n": len(prompts),
        "tokens": tokens / len(prompts),
        "prompt_tokens": sum(map(len, prompts)) / len(prompts),
    }


def measure(
    weights: Path, maker: RowMaker, items: Sequence[Item], threads: int, handwritten: Path
) -> dict[str, object]:
    """All figures of every file."""
    rows = maker.text[: _TEXT_ROWS * _TEXT_LENGTH].astype(np.int64).reshape(_TEXT_ROWS, _TEXT_LENGTH)
    asked = handwritten_prompts(maker, handwritten)
    asked.sort(key=lambda found: found[0]["questions"].index(found[1]))  # passage after passage, then the next question
    prompts = [prompt for _, _, prompt in asked]
    report: dict[str, object] = {"threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        made = files(weights, Path(folder))
        for kind, path in made.items():
            with LlamaCppEngine(path, context_tokens=1024, threads=threads) as engine:
                chosen = first_choices(engine, items, rows)
                if kind == "f32":
                    wanted = chosen
                right = sum(c.tolist() == i.ids[i.start :] for c, i in zip(chosen, items, strict=False))
                same = [c == w for c, w in zip(chosen, wanted, strict=True)]
                answers, text = (np.concatenate(part) for part in (same[: len(items)], same[len(items) :]))
                report[kind] = {
                    "bytes": path.stat().st_size,
                    "READ": wilson(right, len(items))._asdict(),
                    "agreement_answers": wilson(int(answers.sum()), len(answers))._asdict(),
                    "agreement_text": wilson(int(text.sum()), len(text))._asdict(),
                    "seconds": seconds(engine, prompts),
                }
    return report


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    maker = open_maker(options.build, options.forms, "test", seed=777)
    items = reading_items(maker, READ, options.each, 1024)
    report = measure(options.weights, maker, items, options.threads, options.handwritten)
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
