"""Megabytes of text per processor second in each part of the prepare stage, over the example documents, repeated.

python benchmarks/bench_prepare.py [--mb 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fieldwise.prepare.chunk import chunk_document
from fieldwise.prepare.clean import clean_document
from fieldwise.prepare.filters import measure_document
from fieldwise.prepare.language import detect_language
from fieldwise.prepare.personal_data import find_personal_data
from fieldwise.prepare.settings import ChunkSettings, CleanSettings
from fieldwise.prepare.tokens import TokenCounter
from fieldwise.records import Document
from fieldwise.tables import read_records

ROOT = Path(__file__).resolve().parent.parent


def _documents() -> list[Document]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fieldwise", "collect", str(ROOT / "examples/documents/healthcare")]
        subprocess.run([*command, "--run", folder, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        return list(read_records(Path(folder) / "1_documents/documents.parquet", Document))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from fieldwise_nano import weights

    counter = TokenCounter.from_file(weights() / "tokenizer.json")
    documents = _documents()
    times = max(1, round(options.mb * 1e6 / sum(len(d.text.encode()) for d in documents)))
    megabytes = times * sum(len(d.text.encode()) for d in documents) / 1e6
    parts: dict[str, Callable[[Document], Any]] = {
        "cleaning": lambda d: clean_document(d, CleanSettings()),
        "language": lambda d: detect_language(d.text),
        "chunks": lambda d: chunk_document(d, ChunkSettings(), counter.spans),
        "personal data": lambda d: find_personal_data(d.text),
        "filters": measure_document,
    }
    speeds = {}
    for name, part in parts.items():
        part(documents[0])  # what is loaded once
        began = time.process_time()
        for document in documents * times:
            part(document)
        speeds[name] = round(megabytes / (time.process_time() - began), 2)
    if options.json:
        print(json.dumps({"megabytes": round(megabytes, 2), "mb_per_cpu_second": speeds}))
    else:
        print(f"{megabytes:.1f} MB; MB per processor second:")
        for name, speed in speeds.items():
            print(f"  {name:14}{speed:7.2f}")


if __name__ == "__main__":
    main()
