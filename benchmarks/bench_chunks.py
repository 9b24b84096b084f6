"""Cutting into chunks: megabytes a processor second beside other splitters, and the memory of a large collection.

    python benchmarks/bench_chunks.py [--corpora ../shared/corpora] [--repeats 3] [--chunks 100000] [--no-memory] [--json]

speed    text is cut into chunks of at most 220 tokens of the base model, with headings, pages and offsets, collection by
         collection: "first" with a token counter that knows no word yet, "again" with one that has seen them. Beside it
         semchunk on the same texts with the same count of tokens, where it is installed
memory   `fieldwise prepare` over so many generated documents that they give the wanted number of chunks; the largest
         resident size of the process

Seconds are those of the processor, the best of the repeats. The texts are no part of the project; without them only
memory is measured, and the script says so.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fieldwise.collect.builder import TextBuilder
from fieldwise.collect.plain import add_plain
from fieldwise.prepare.chunk import chunk_document
from fieldwise.prepare.settings import ChunkSettings
from fieldwise.prepare.tokens import TokenCounter
from fieldwise.records import Document, Source
from fieldwise.tables import write_records

CORPORA = Path(__file__).resolve().parents[2] / "shared/corpora"
COLLECTIONS = ("medquad_docs", "dc_code", "fomc_minutes", "sec_filings", "digitalgov", "openstax_microbiology")
_MAX_CHARS = 3_000_000  # of a collection
_CHUNKS_A_DOCUMENT = 8


def documents(path: Path) -> Iterator[Document]:
    chars = 0
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            builder = TextBuilder()
            add_plain(builder, row["text"])
            yield builder.document(Source(uri=row["id"], media_type="text/plain"), row.get("title") or "")
            chars += len(row["text"])
            if chars > _MAX_CHARS:
                return


def speeds(corpora: Path, repeats: int) -> dict[str, dict[str, float]]:
    from fieldwise_nano import weights

    tokenizer = weights() / "tokenizer.json"
    rows: dict[str, dict[str, float]] = {}
    all_seconds: dict[str, float] = {}
    whole = 0.0
    for name in COLLECTIONS:
        texts = list(documents(corpora / f"pretrain/{name}.jsonl.gz"))
        megabytes = sum(len(d.text.encode()) for d in texts) / 1e6
        gc.collect()
        gc.freeze()  # the collection itself is no work of the splitter
        seconds: dict[str, float] = {}
        for _ in range(repeats):
            counter = TokenCounter.from_file(tokenizer)
            for label in ("first", "again"):
                _clock(seconds, label, lambda d, c=counter: chunk_document(d, ChunkSettings(), c.spans), texts)
            for label, split in peers(counter):
                _clock(seconds, label, lambda d, split=split: split(d.text), texts)
        rows[name] = {"megabytes": round(megabytes, 2)} | {k: round(megabytes / s, 1) for k, s in seconds.items()}
        whole += megabytes
        for label, spent in seconds.items():
            all_seconds[label] = all_seconds.get(label, 0.0) + spent
    rows["all"] = {"megabytes": round(whole, 2)} | {k: round(whole / s, 1) for k, s in all_seconds.items()}
    return rows


def _clock(
    seconds: dict[str, float], label: str, split: Callable[[Document], list[Any]], texts: list[Document]
) -> None:
    began = time.process_time()
    for document in texts:
        split(document)
    seconds[label] = min(seconds.get(label, float("inf")), time.process_time() - began)


def peers(counter: TokenCounter) -> Iterator[tuple[str, Callable[[str], list[Any]]]]:
    """Splitters of others that are installed; they count with the same counter, which knows most words by then."""
    largest = ChunkSettings().max_tokens
    if importlib.util.find_spec("semchunk") is not None:
        import semchunk

        yield "semchunk", semchunk.chunkerify(counter.count, largest, memoize=False)


# ---------------------------------------------------------------- memory


def generated(chunks: int) -> Iterator[Document]:
    """Documents of invented words under headings, each paragraph about a chunk."""
    rng = random.Random(3)
    vocabulary = [
        a + b + c
        for a in ("ba", "ce", "di", "fo", "gu", "ha")
        for b in ("ro", "lin", "ta", "mer", "vos")
        for c in ("n", "dal", "ket", "s", "mo", "pir")
    ]
    for number in range(-(-chunks // _CHUNKS_A_DOCUMENT)):
        builder = TextBuilder()
        builder.heading(f"Rules of ward {number}", 1)
        for part in range(_CHUNKS_A_DOCUMENT):
            builder.heading(f"Part {part + 1} of {number}", 2)
            sentences = (" ".join(rng.choices(vocabulary, k=10)).capitalize() + "." for _ in range(4))
            builder.paragraph(" ".join(sentences))
        yield builder.document(Source(uri=f"{number:06}.md", media_type="text/markdown"))


_PREPARE = """
import json, resource, sys
from pathlib import Path
from fieldwise.prepare.settings import PrepareSettings
from fieldwise.prepare.stage import run
from fieldwise.run import RunFolder, StepRun
from fieldwise_nano import weights
with StepRun(RunFolder(Path(sys.argv[1])), "2_prepare", "0" * 64, 42) as step:
    facts = run(PrepareSettings(), step, weights() / "tokenizer.json")
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([facts["documents"]["kept"], facts["chunks"]["count"], used.ru_maxrss, used.ru_utime + used.ru_stime]))
"""


def memory(chunks: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        write_records(Path(folder) / "1_documents/documents.parquet", generated(chunks), Document)
        (Path(folder) / "1_documents/rejected.jsonl").touch()
        command = [sys.executable, "-c", _PREPARE, folder]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"preparing failed:\n{done.stderr[-2000:]}")
    kept, cut, kibibytes, seconds = json.loads(done.stdout.splitlines()[-1])
    return {
        "documents": kept,
        "chunks": cut,
        "peak_mib": round(kibibytes / 1024),
        "cpu_seconds": round(seconds),
        "aim_mib": 2048,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if (options.corpora / "pretrain").is_dir():
        figures["mb_per_cpu_second"] = speeds(options.corpora, options.repeats)
    else:
        print(
            f"speed skipped: the texts are not there, looked in {options.corpora}; name their folder with --corpora",
            file=sys.stderr,
        )
    if not options.no_memory:
        figures["memory"] = memory(options.chunks)
    if options.json:
        print(json.dumps(figures))
        return
    for name, row in figures.get("mb_per_cpu_second", {}).items():
        print(f"  {name:24}" + "   ".join(f"{key} {value}" for key, value in row.items()))
    if "memory" in figures:
        print("  memory " + "   ".join(f"{key} {value}" for key, value in figures["memory"].items()))


if __name__ == "__main__":
    main()
