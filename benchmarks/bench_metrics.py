"""Processor seconds of the metrics of a report, without any model.

    python benchmarks/bench_metrics.py [--items 1000] [--passages 3] [--json]

Invented questions (`fieldwise data sample`) with the passages a system would have been shown. What is said is a whole passage with
citations, several sentences where most answers are a few words, so that every metric has something to read. All metrics of
`METRICS` are scored, which leaves out the two that need an encoder, then intervals, paired differences and corpus BLEU are
made as for a report of two systems. Reach: 20 seconds for 1,000 items.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence

from fieldwise.data.sample import DOMAINS, samples
from fieldwise.evaluate.metrics import METRICS
from fieldwise.evaluate.report import Scored, cluster_names, score_system
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.evaluate.stage import build_report
from fieldwise.records import Answer, Chunk, Question, RetrievedPassage, Timings
from fieldwise.retrieve.grounded import grounded_answer

REACH_SECONDS = 20.0


def made(count: int, passages: int) -> tuple[list[Question], list[Answer]]:
    """Questions with known answers as long as passages, and answers over several passages that are partly right."""
    each = -(-count // len(DOMAINS))
    drawn = [s for domain in DOMAINS for s in samples(domain, each, 5)][:count]
    rng = random.Random(5)
    questions, answers = [], []
    for n, sample in enumerate(drawn):
        texts = [sample.context, *(rng.choice(drawn).context for _ in range(passages - 1))]
        found = [
            RetrievedPassage(
                chunk=Chunk(id=f"c{k}", document_id=f"d{k}", uri=f"d{k}", title="", start=0, end=len(t), text=t),
                score=1.0,
            )
            for k, t in enumerate(texts)
        ]
        known = sample.context.split("\n")[-1]
        said = " ".join(
            f"{s.rstrip('.')} [{rng.randint(1, passages)}]." for s in known.split(". ")[rng.randint(0, 1) :]
        )
        answers.append(
            grounded_answer(
                said, found, "m", timings=Timings(), finish_reason="stop", prompt_tokens=0, completion_tokens=0
            )
        )
        questions.append(Question(id=str(n), question=sample.question, answer=known, document=f"d{n // 4}"))
    return questions, answers


def measure(questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, float]:
    """Processor seconds by part."""
    parts = {}
    for name, metric in METRICS.items():
        began = time.process_time()
        for answer, question in zip(answers, questions, strict=True):
            metric.score(answer, question)
        parts[name] = time.process_time() - began
    scores: dict[str, dict[str, Scored]] = {
        system: score_system(system, answers, questions) for system in ("base", "rag_tuned")
    }
    began = time.process_time()
    build_report(scores, questions, EvaluateSettings(gates=()), 0)
    parts["intervals and differences of two systems"] = time.process_time() - began
    assert len(cluster_names(questions)) == len(questions)
    return parts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--passages", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    questions, answers = made(given.items, given.passages)
    words = sum(len(a.answer.split()) for a in answers) / len(answers)
    parts = measure(questions[:20], answers[:20]) and measure(questions, answers)  # imports and caches first
    whole = sum(parts.values())
    if given.json:
        print(
            json.dumps({"items": given.items, "words": round(words, 1), "cpu_seconds": round(whole, 2), "parts": parts})
        )
    else:
        for name, seconds in sorted(parts.items(), key=lambda p: -p[1])[:8]:
            print(f"{seconds:6.2f} s  {name}")
        print(f"{whole:6.2f} s  all, {given.items} answers of {words:.0f} words over {given.passages} passages")
    sys.exit(0 if whole <= REACH_SECONDS * given.items / 1000 else 1)


if __name__ == "__main__":
    main()
