"""What reading documents costs and what it keeps: PDF beside pdfium alone, Office files, filings, and bad input.

    python benchmarks/bench_documents.py [--corpora ../shared/corpora] [--part pdf] [--repeats 3] [--pages 12] [--json]

pdf        pages per processor second of the whole reader (pages, headings, tables) and of plain pypdfium2 text in the
           same run, and the share of pdfium's words (counted with their repeats) that stand in the reader's text
office     the share of the expected words of each well-formed file that stand in its document. The expected Markdown is
           another program's output: its link targets, comments, names of unnamed sheets, guessed kinds of charts and
           commands of formulas are not words of the file; a word counts once, since that program repeats merged cells
filings    the share of the items of 10-K and 10-Q filings, which have no heading tags, that are found as headings;
           items the filing itself leaves out (no characters) are not expected
ocr        pages of the example PDF files, rendered as pictures and recognised: the share of the words of their text layer
           that are found (counted with their repeats), the share of what is found that stands there, mean confidence and
           processor seconds a page. Needs no corpora, and is left out where fieldwise[ocr] is not installed
bad input  `fieldwise collect` over court files and Office files together: its exit code and the reasons of refusals

Seconds are those of the processor in this process, the best of the repeats. The corpora are no part of the project;
without them the parts that need them are left out, and the script says so.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
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

from fieldwise.collect.media import HTML, PDF, XML, detect
from fieldwise.collect.readers import READERS
from fieldwise.collect.xml_text import read_xml
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

CORPORA = Path(__file__).resolve().parents[2] / "shared/corpora"
EXAMPLES = Path(__file__).resolve().parents[1] / "examples/documents"
_WORD = re.compile(r"\w+")
_MARKUP = re.compile(
    r"<!--.*?-->|(?<=\])\([^)]*\)|https?://\S+|^\[author: .*$|^#+ Sheet\d+$|^(?:Line|Bar|Pie|Scatter) chart$"
    r"|^ *- \[[x ]\]|\\[a-z]+|[|$]|&#?\w+;",
    re.MULTILINE,
)
_ITEM = re.compile(r"item\s*(\d+[a-c]?)\b", re.IGNORECASE)
_PART = re.compile(r"part\s+(i{1,3}v?)\b", re.IGNORECASE)


JATS = {"article-title": "title", "sec": "section", "title": "heading", "label": "label", "p": "paragraph", "list-item": "item", "table": "table", "tr": "row", "th": "cell", "td": "cell", "journal-meta": "skip", "permissions": "skip"}  # fmt: skip
"""What the elements of journal articles are, as a recipe would say; other XML files are read without a mapping."""


def read(path: Path) -> Document | None:
    """The document of a file, None if files of its kind are not read."""
    kind = detect(path, path.name).media_type
    if kind == XML:
        return read_xml(path, Source(uri=path.name, media_type=XML), JATS if path.parent.name == "jats" else {})
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


# ---------------------------------------------------------------- text recognition


def ocr(pages: int) -> dict[str, Any]:
    from fieldwise.collect.ocr import MAX_SIDE_PIXELS, recognise

    expected: Counter[str] = Counter()
    found: Counter[str] = Counter()
    kept = 0
    confidences = []
    seconds = 0.0
    for path, number in _example_pages(pages):
        with pypdfium2.PdfDocument(path) as file:
            page = file[number]
            wanted = words(page.get_textpage().get_text_range())
            picture = page.render(scale=MAX_SIDE_PIXELS / max(page.get_width(), page.get_height())).to_pil()
        began = time.process_time()
        read = recognise(picture)
        seconds += time.process_time() - began
        here = words(" ".join(segment.text for segment in read.segments))
        kept += sum((wanted & here).values())
        expected, found = expected + wanted, found + here
        confidences.append(read.confidence)
    return {
        "pages": len(confidences),
        "words": expected.total(),
        "share_of_words_found": round(kept / expected.total(), 4),
        "share_of_found_that_is_right": round(kept / found.total(), 4),
        "mean_confidence": round(sum(confidences) / len(confidences), 3),
        "cpu_seconds_a_page": round(seconds / len(confidences), 1),
    }


def _example_pages(most: int) -> list[tuple[Path, int]]:
    """Pages of the examples that have a text layer, spread evenly over all of them."""
    pages = []
    for path in sorted(EXAMPLES.rglob("*.pdf")):
        try:
            with pypdfium2.PdfDocument(path) as file:
                pages += [(path, n) for n in range(len(file)) if len(file[n].get_textpage().get_text_range()) > 200]
        except pypdfium2.PdfiumError:
            continue  # encrypted
    step = max(1, len(pages) // most)
    return pages[::step][:most]


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
OCR = "ocr"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    parser.add_argument(
        "--part", choices=[*PARTS, OCR], action="append", help="measure this part alone; may be repeated"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pages", type=int, default=12, help="most pages to recognise")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = options.part or [*PARTS, OCR]
    figures: dict[str, dict[str, Any]] = {}
    if (options.corpora / "office_fixtures").is_dir():
        figures = {name: PARTS[name](options.corpora, options.repeats) for name in wanted if name in PARTS}
    elif set(wanted) & set(PARTS):
        print(
            f"corpora skipped: they are not there, looked in {options.corpora}; name their folder with --corpora",
            file=sys.stderr,
        )
    if OCR in wanted and importlib.util.find_spec("rapidocr") is None:
        print("ocr skipped: fieldwise[ocr] is not installed", file=sys.stderr)
    elif OCR in wanted:
        figures[OCR] = ocr(options.pages)
    if options.json:
        print(json.dumps(figures))
        return
    for name, rows in figures.items():
        print(name)
        for key, value in rows.items():
            print(f"  {key:32}{value}")


if __name__ == "__main__":
    main()
