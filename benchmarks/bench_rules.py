"""The teacher without a model over real texts: what passes the checks, what is covered, how fast, and pairs to read.

    python benchmarks/bench_rules.py [--corpora ../shared/corpora] [--documents 600] [--seed 1] [--wide] [--named] [--read FOLDER] [--json]

Documents of MedQuAD (a condition with its questions as headings) and of TAT-QA (a table of a report with the text
around it) are cleaned and cut as `prepare` does, and the rules read questions off every chunk. By corpus:

passed       share of the pairs made that pass all checks, and how many each check stopped
asked_elsewhere  pairs left out, as a run does, since their question is asked twice, with another answer or the same
covered      share of the chunks with at least one pair that is accepted
distinct     different questions among the accepted pairs
speed        pairs that passed per second of the processor (aim: 200), the best of the repeats

With --read, 100 accepted pairs, drawn by the seed, go into a file each, with the words that prove them, to be
judged by hand; `docs/decisions.md` says how the last reading went. The texts are no part of the project; without
them the script says so and measures nothing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fieldwise.collect.builder import TextBuilder
from fieldwise.collect.plain import add_plain
from fieldwise.generate.examples import Asked, drop_ambiguous
from fieldwise.generate.pairs import Pair
from fieldwise.generate.rules import judged_pairs, pairs_of_chunk
from fieldwise.prepare.chunk import chunk_document
from fieldwise.prepare.clean import clean_document
from fieldwise.prepare.settings import ChunkSettings, CleanSettings
from fieldwise.prepare.tokens import TokenCounter
from fieldwise.records import Chunk, Document, Source

CORPORA = Path(__file__).resolve().parents[2] / "shared/corpora"
_TO_READ = 100


# ---------------------------------------------------------------- documents


def medquad(folder: Path) -> Iterator[Document]:
    """Yield a document for every condition: each question a heading, its answer below."""
    for path in sorted((folder / "qa").glob("*.jsonl.gz")):
        entries: dict[str, list[dict[str, Any]]] = {}
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                entries.setdefault(row["doc_id"], []).append(row)
        for name, rows in entries.items():
            builder = TextBuilder()
            for row in rows:
                builder.heading(row["question"], 2)
                add_plain(builder, row["answer"])
            yield builder.document(Source(uri=name, media_type="text/plain"), rows[0]["focus"])


def tatqa(folder: Path) -> Iterator[Document]:
    """Yield a document for every table: the text before it, the table, the text behind it."""
    for entry in json.loads((folder / "tatqa_dataset_dev.json").read_text(encoding="utf-8")):
        builder = TextBuilder()
        texts = sorted(entry["paragraphs"], key=lambda p: p["order"])
        for paragraph in texts[: len(texts) // 2]:
            add_plain(builder, paragraph["text"])
        builder.table(entry["table"]["table"])
        for paragraph in texts[len(texts) // 2 :]:
            add_plain(builder, paragraph["text"])
        yield builder.document(Source(uri=entry["table"]["uid"], media_type="text/plain"))


READERS = {"medquad": medquad, "tatqa": tatqa}


def chunks_of(documents: Sequence[Document]) -> list[Chunk]:
    """Return the chunks, cleaned and cut as the prepare stage does with its defaults."""
    from fieldwise_nano import weights

    counter = TokenCounter.from_file(weights() / "tokenizer.json")
    return [
        chunk
        for document in documents
        for chunk in chunk_document(clean_document(document, CleanSettings()).document, ChunkSettings(), counter.spans)
    ]


# ---------------------------------------------------------------- measuring


def measure(
    chunks: Sequence[Chunk], seed: int, repeats: int, *, wide: bool, named: bool
) -> tuple[dict[str, Any], list[tuple[Chunk, Pair]]]:
    """Return the figures, and every pair that passes all checks with its chunk."""
    stopped: Counter[str] = Counter()
    total = 0
    for chunk in chunks:
        for _, fault in judged_pairs(chunk, _rng(chunk, seed), wide=wide):
            total += 1
            stopped.update([fault] if fault else [])
    made: list[Asked] = []
    seconds = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        made = [Asked(p, c, "train") for c in chunks for p in pairs_of_chunk(c, _rng(c, seed), wide=wide, named=named)]
        seconds = min(seconds, time.process_time() - began)
    kept, repeated = drop_ambiguous(made)
    accepted = [(item.chunk, item.pair) for item in kept]
    covered = {chunk.id for chunk, _ in accepted}
    figures = {
        "chunks": len(chunks),
        "made": total,
        "passed": round(1 - stopped.total() / max(1, total), 4),
        "stopped": dict(stopped.most_common()),
        "covered": round(len(covered) / max(1, len(chunks)), 4),
        "asked_elsewhere": len(repeated),
        "accepted": len(accepted),
        "distinct": len({pair.question.casefold() for _, pair in accepted}),
        "kinds": dict(Counter(pair.kind for _, pair in accepted).most_common()),
        "pairs_per_cpu_second": round(len(made) / max(seconds, 1e-9)),
    }
    return figures, accepted


def _rng(chunk: Chunk, seed: int) -> random.Random:
    return random.Random(f"{seed}/{chunk.id}")


def sheet(accepted: Sequence[tuple[Chunk, Pair]], seed: int) -> str:
    """Return pairs drawn by the seed, each with the place it stands at and the words that prove it."""
    drawn = random.Random(seed).sample(accepted, min(_TO_READ, len(accepted)))
    blocks = (
        f"{number}. [{pair.kind}] {chunk.label}\n{_header(chunk, pair)}  Q: {pair.question}\n  A: {pair.answer}\n  E: {pair.quote}\n"
        for number, (chunk, pair) in enumerate(drawn, 1)
    )
    return "\n".join(blocks)


def _header(chunk: Chunk, pair: Pair) -> str:
    """The first rows of a table: a row proves nothing without the names of its columns."""
    rows = [line for line in chunk.text.splitlines() if line.startswith("|")][:5] if pair.kind == "table" else []
    return "".join(f"     {row}\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    parser.add_argument("--documents", type=int, default=600, help="most documents of a corpus, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--wide", action="store_true", help="with the further kinds of generate.wide_questions")
    parser.add_argument("--named", action="store_true", help="with generate.named_subjects")
    parser.add_argument("--read", type=Path, help="folder for the pairs to judge by hand")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, read in READERS.items():
        if not (options.corpora / name).is_dir():
            print(
                f"{name} skipped: its texts are not there, looked in {options.corpora / name}; name the folder above with --corpora",
                file=sys.stderr,
            )
            continue
        documents = list(read(options.corpora / name))
        drawn = random.Random(options.seed).sample(documents, min(options.documents, len(documents)))
        found, accepted = measure(
            chunks_of(drawn), options.seed, options.repeats, wide=options.wide, named=options.named
        )
        figures[name] = {"documents": len(drawn)} | found
        if options.read:
            options.read.mkdir(parents=True, exist_ok=True)
            (options.read / f"{name}-{options.seed}.txt").write_text(sheet(accepted, options.seed), encoding="utf-8")
    if options.json:
        print(json.dumps(figures))
        return
    for name, row in figures.items():
        print(name)
        for key, value in row.items():
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"  {key:22} {shown}")


if __name__ == "__main__":
    main()
