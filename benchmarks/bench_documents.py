"""What reading documents costs and what it keeps: PDF beside pdfium alone, Office files, filings, and bad input.

    python benchmarks/bench_documents.py [--corpora ../shared/corpora] [--part pdf] [--repeats 3] [--json]

pdf        pages per processor second of the whole reader (pages, headings, tables) and of plain pypdfium2 text in the
           same run, and the share of pdfium's words (counted with their repeats) that stand in the reader's text
office     the share of the expected words of each well-formed file that stand in its document. The expected Markdown is
           another program's output: its link targets, comments, names of unnamed sheets, guessed kinds of charts and
           commands of formulas are not words of the file; a word counts once, since that program repeats merged cells
filings    the share of the items of 10-K and 10-Q filings, which have no heading tags, that are found as headings;
           items the filing itself leaves out (no characters) are not expected
bad input  `fieldwise collect` over court files and Office files together: its exit code and the reasons of refusals

Seconds are those of the processor in this process, the best of the repeats. The corpora are no part of the project;
without them the script says so and ends.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pypdfium2

from fieldwise.collect.media import HTML, PDF, detect
from fieldwise.collect.readers import READERS
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

CORPORA = Path(__file__).resolve().parents[2] / "shared/corpora"
_WORD = re.compile(r"\w+")
_MARKUP = re.compile(
    r"<!--.*?-->|(?<=\])\([^)]*\)|https?://\S+|^\[author: .*$|^#+ Sheet\d+$|^(?:Line|Bar|Pie|Scatter) chart$"
    r"|^ *- \[[x ]\]|\\[a-z]+|[|$]|&#?\w+;",
    re.MULTILINE,
)
_ITEM = re.compile(r"item\s*(\d+[a-c]?)\b", re.IGNORECASE)
_PART = re.compile(r"part\s+(i{1,3}v?)\b", re.IGNORECASE)


def read(path: Path) -> Document | None:
    """The document of a file, None if files of its kind are not read."""
    kind = detect(path, path.name).media_type
    reader = READERS.get(kind or "")
    return None if reader is None else reader.load()(path, Source(uri=path.name, media_type=kind or ""))


def best_seconds(work: Callable[[], object], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.casefold().replace("_", " ")))


# ---------------------------------------------------------------- PDF


def plain_pages(path: Path) -> list[str]:
    pages = []
    with pypdfium2.PdfDocument(path) as file:
        for page in file:
            textpage = page.get_textpage()
            pages.append(textpage.get_text_range())
            textpage.close()
            page.close()
    return pages


def pdf(corpora: Path, repeats: int) -> dict[str, Any]:
    rows = []
    for path in sorted([*(corpora / "court_files").glob("*.pdf"), *(corpora / "office_fixtures").rglob("*.pdf")]):
        try:
            document = read(path)
        except DocumentError:
            continue  # scans: nothing to compare
        expected = words(" ".join(pages := plain_pages(path)))
        kept = sum((expected & words(document.text)).values()) / expected.total()
        plain = best_seconds(lambda path=path: plain_pages(path), repeats)
        own = best_seconds(lambda path=path: READERS[PDF].load()(path, Source(uri="a")), repeats)
        rows.append((path.name, len(pages), plain, own, kept, expected.total()))
    pages = sum(row[1] for row in rows)
    plain, own = sum(row[2] for row in rows), sum(row[3] for row in rows)
    return {
        "files": len(rows),
        "pages": pages,
        "pages_per_cpu_second": round(pages / own, 1),
        "pypdfium2_pages_per_cpu_second": round(pages / plain, 1),
        "ratio": round(plain / own, 2),
        "token_recall": round(sum(row[4] * row[5] for row in rows) / sum(row[5] for row in rows), 4),
        "lowest_recall": [[row[0], round(row[4], 3)] for row in sorted(rows, key=lambda row: row[4])[:3]],
        "aims": {"ratio": 0.8, "token_recall": 0.97},
    }


# ---------------------------------------------------------------- Office files and filings


def office(corpora: Path, repeats: int) -> dict[str, Any]:
    shares: dict[str, float] = {}
    failed: dict[str, str] = {}
    not_read = 0
    for path in sorted((corpora / "office_fixtures").rglob("*")):
        if not path.is_file() or "expected" in path.parts or path.name == "SOURCE.md":
            continue
        try:
            document = read(path)
        except DocumentError as error:
            if error.reason != "no_text_layer":
                failed[path.name] = error.reason
            continue
        except Exception as error:  # noqa: BLE001  that none is raised is what is measured
            failed[path.name] = type(error).__name__
            continue
        not_read += document is None
        expected = path.parent / "expected" / f"{path.name}.md"
        if document is not None and expected.is_file():
            wanted = words(_MARKUP.sub(" ", expected.read_text(encoding="utf-8")))
            found = words(f"{document.title} {document.text}")
            shares[f"{path.parent.name}/{path.name}"] = sum(w in found for w in wanted) / max(1, len(wanted))
    low = {name: round(share, 3) for name, share in shares.items() if share < 0.9}
    return {
        "files": len(shares),
        "failed": failed,
        "kinds_not_read": not_read,
        "with_0.9_of_the_words": sum(share >= 0.9 for share in shares.values()),
        "below": low,
        "mean_share": round(sum(shares.values()) / len(shares), 4),
        "aims": {"failed": 0, "below": 0},
    }


def filings(corpora: Path, repeats: int) -> dict[str, Any]:
    found = wanted = 0
    missing: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for filing in sorted(p for p in (corpora / "sec_filings").iterdir() if p.is_dir()):
            page = Path(folder) / f"{filing.name}.html"
            page.write_bytes(gzip.decompress((filing / "primary-document.html.gz").read_bytes()))
            document = READERS[HTML].load()(page, Source(uri=page.name))
            sections = json.loads((filing / "expected-top-level-sections.json").read_text(encoding="utf-8"))
            expected = {s["identifier"].lower() for s in sections if s["character_count"] > 0}
            here = set(_items(document, with_parts=any(e.startswith("part") for e in expected)))
            found, wanted = found + len(expected & here), wanted + len(expected)
            if expected - here:
                missing[filing.name] = sorted(expected - here)
    return {
        "items": wanted,
        "found": found,
        "share": round(found / wanted, 4),
        "missing": missing,
        "aims": {"share": 0.9},
    }


def _items(document: Document, *, with_parts: bool) -> Iterator[str]:
    part = 0
    for heading in document.headings:
        if match := _PART.match(heading.text):
            part = ("i", "ii", "iii", "iv").index(match[1].lower()) + 1
        elif match := _ITEM.match(heading.text):
            yield f"part{part}item{match[1].lower()}" if with_parts else match[1].lower()


# ---------------------------------------------------------------- bad input


def bad_input(corpora: Path, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "fieldwise",
            "collect",
            str(corpora / "court_files"),
            str(corpora / "office_fixtures"),
        ]
        done = subprocess.run([*command, "--run", folder, "--quiet"], check=False, capture_output=True, text=True)
        rejected = Path(folder) / "1_documents/rejected.jsonl"
        rows = (
            [json.loads(line) for line in rejected.read_text(encoding="utf-8").splitlines()]
            if rejected.exists()
            else []
        )
    return {
        "exit_code": done.returncode,
        "refused": dict(Counter(row["reason"] for row in rows).most_common()),
        "aims": {"exit_code": 0},
    }


PARTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "pdf": pdf,
    "office": office,
    "filings": filings,
    "bad input": bad_input,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    parser.add_argument("--part", choices=PARTS, action="append", help="measure this part alone; may be repeated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.corpora / "office_fixtures").is_dir():
        print(f"skipped: the corpora are not there, looked in {options.corpora}; name their folder with --corpora")
        return
    figures = {name: PARTS[name](options.corpora, options.repeats) for name in options.part or PARTS}
    if options.json:
        print(json.dumps(figures))
        return
    for name, rows in figures.items():
        print(name)
        for key, value in rows.items():
            print(f"  {key:32}{value}")


if __name__ == "__main__":
    main()
