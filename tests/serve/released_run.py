"""A run folder with a release, written by hand: documents, chunks, index, originals, and files that stand for models."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from fieldwise.files import write_json
from fieldwise.records import Chunk, Document, Heading, ModelBuild, PageSpan, Source, TableSpan
from fieldwise.retrieve import index
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.tables import write_records

HYGIENE = """# Hand hygiene

## Alcohol gel

🙂 Take two pumps. Rub the gel with both hands for 25 seconds, until the hands are dry.

## Wash basins

Use warm water. Leave the tap with a paper towel.
"""
VISITING = """# Visiting

## Numbers

At most two visitors may sit at a bed. Children come with an adult.

## Fire

If you see smoke, ring 2222 and close the doors.
"""
LEASE = "Lease of the staff flats.\nThe deposit is paid back within 14 days after the keys are returned.\n"
BLEEPS = """# Bleeps

## Numbers at night

🙂 Carry it at all times.

| Role | Bleep |
| --- | --- |
| Porter \\| driver | 4471 |
| Site manager | 4480 |

Batteries are in the post room.
"""
HOSTILE_TITLE = "<img src=x onerror=\"window.hacked='title'\">"
HOSTILE = "<script>window.hacked='text'</script>\nThe payload is <b onmouseover=\"window.hacked='tag'\">harmless words</b> in a document.\n"


def make_documents() -> list[Document]:
    """Five documents: with pages and headings, with characters beyond 16 bits, plain, with a table, and hostile."""
    return [
        _document("policies/hand-hygiene.pdf", "Hand hygiene", HYGIENE, page_break="## Wash basins"),
        _document("visiting rules.md", "Visiting", VISITING),
        _document("lease.txt", "Lease", LEASE),
        _document("bleeps.md", "Bleeps", BLEEPS),
        _document("evil.html", HOSTILE_TITLE, HOSTILE),
    ]


def make_run(folder: Path, *, embedding: str = "all-MiniLM-L6-v2", models: dict[str, Path] | None = None) -> RunFolder:
    """Write a run with a release; `models` are real files by type, without it each file holds a few words."""
    run, documents = RunFolder(folder), make_documents()
    chunks = [chunk for document in documents for chunk in _chunks(document)]
    write_records(run.path / "2_chunks/documents.parquet", documents, Document)
    write_records(run.path / "2_chunks/chunks.parquet", chunks, Chunk)
    index.build(chunks, run.path / "2_chunks/index", RetrieveSettings(embedding=embedding))  # type: ignore[arg-type]
    for document in documents:
        content = original_bytes(document.source.uri)
        path = run.path / f"1_documents/originals/{document.source.sha256[:16]}-{Path(document.source.uri).name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    builds = [_build(run, kind, "ada_1", models) for kind in ("q8_0", "q4_k_m")]
    write_json(
        run.path / "6_builds/release.json",
        {
            "name": "ward-handbook",
            "domain": "healthcare",
            "serve": "q8_0",
            "builds": [b.model_dump(mode="json") for b in builds],
            "base_build": _build(run, "base-q8_0", None, models).model_dump(mode="json"),
            "verdict": "PASS",
            "override": None,
        },
    )
    return run


def original_bytes(uri: str) -> bytes:
    """What the file of a document holds."""
    return f"the bytes of {uri}".encode()


def edit_release(run: RunFolder, **changes: Any) -> None:
    """Change the release of a run."""
    from fieldwise.files import read_json

    write_json(run.path / "6_builds/release.json", {**read_json(run.path / "6_builds/release.json"), **changes})


def _document(uri: str, title: str, text: str, page_break: str | None = None) -> Document:
    content = original_bytes(uri)
    source = Source(
        uri=uri,
        media_type="text/html" if uri.endswith("html") else "application/pdf",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
    )
    headings, place = [], 0
    for line in text.splitlines(keepends=True):
        if line.startswith("#"):
            headings.append(
                Heading(level=line.count("#"), text=line.strip("# \n"), start=place, end=place + len(line.rstrip()))
            )
        place += len(line)
    split = text.index(page_break) if page_break else 0
    pages = (
        (PageSpan(number=1, start=0, end=split), PageSpan(number=2, start=split, end=len(text))) if page_break else ()
    )
    rows = [line for line in text.splitlines(keepends=True) if line.startswith("|")]
    begins = text.find("|")
    tables = (
        (TableSpan(start=begins, end=begins + len("".join(rows).rstrip()), rows=len(rows) - 1, columns=2),)
        if rows
        else ()
    )
    return Document.make(title=title, text=text, source=source, pages=pages, headings=tuple(headings), tables=tables)


def _chunks(document: Document) -> list[Chunk]:
    starts = [h.start for h in document.headings if h.level == 2] or [0]
    ends = [*starts[1:], len(document.text)]
    names = [h.text for h in document.headings if h.level == 2] or [""]
    return [
        Chunk.make(document, start, end, heading_path=(document.title, name) if name else ())
        for start, end, name in zip(starts, ends, names, strict=True)
    ]


def _build(run: RunFolder, kind: str, adapter: str | None, models: dict[str, Path] | None) -> ModelBuild:
    path = run.path / f"6_builds/ward-handbook-{kind}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    if models is None:
        path.write_text(f"stands for {kind}", encoding="utf-8")
    else:
        shutil.copyfile(models[kind], path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelBuild(
        id=f"bld_{kind}",
        format="gguf",
        quantisation=kind.removeprefix("base-"),
        adapter_id=adapter,
        sha256=digest,
        bytes=path.stat().st_size,
        path=f"6_builds/{path.name}",
    )
