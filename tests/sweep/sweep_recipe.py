"""The smallest recipe that runs from documents to a report: tiny random weights, two steps of training."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_models import make_tiny_llama

THINGS = ("laundry", "rota", "wards", "keys", "meals", "labels")


def write(folder: Path) -> Path:
    """Write weights, documents, questions and a recipe; returns the recipe."""
    make_tiny_llama(folder / "base", hidden=64, ffn=128, heads=2, kv_heads=1)
    (folder / "documents").mkdir()
    for n, thing in enumerate(THINGS):
        parts = (
            f"## Part {k} of {thing}\n\nThe {thing} of floor {k} are collected at {k + n + 3}:{k}{n} by the porter. "
            f"The {thing} officer of floor {k} must be told within {k + 2} hours."
            for k in range(5)
        )
        (folder / f"documents/{thing}.md").write_text(f"# {thing.title()}\n\n" + "\n\n".join(parts))
    questions = [
        {
            "question": f"When are the {t} of floor {k} collected?",
            "answer": f"{k + n + 3}:{k}{n}",
            "document": f"{t}.md",
        }
        for n, t in enumerate(THINGS)
        for k in range(4)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "name: tiny\n"
        "base: {model: base}\n"
        "collect: {sources: [documents], ocr: off}\n"
        "retrieve: {embedding: none}\n"
        "generate: {max_per_chunk: 1}\n"
        "train: {sft: {max_steps: 2, max_length: 768, learning_rate: 0.01, lora: {rank: 8}}, preference: {enabled: false}}\n"
        "evaluate: {questions: questions.jsonl, gates: [], bootstrap_samples: 200, max_new_tokens: 4, systems: [rag_base, rag_tuned]}\n"
    )
    return recipe
