"""Files made on the fly for the tests of this room, and a run folder to collect into."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from fieldwise.collect.settings import CollectSettings
from fieldwise.collect.stage import run
from fieldwise.records import Document
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import read_records

LEFT, TOP = 60, 780


def make_pdf(
    path: Path, draw: Callable[[Canvas], None], *, password: str | None = None, title: str | None = None
) -> Path:
    """A PDF drawn by `draw`, the same bytes each time."""
    encryption = StandardEncryption(password) if password else None
    canvas = Canvas(str(path), pagesize=A4, invariant=1, encrypt=encryption)
    if title:
        canvas.setTitle(title)
    draw(canvas)
    canvas.showPage()
    canvas.save()
    return path


def lines_pdf(path: Path, *pages: list[str], **options: Any) -> Path:
    """A PDF with plain lines; a line that begins with # is set larger, as a heading."""

    def draw(canvas: Canvas) -> None:
        for number, lines in enumerate(pages):
            if number:
                canvas.showPage()
            y = TOP
            for line in lines:
                canvas.setFont(
                    "Helvetica-Bold" if line.startswith("#") else "Helvetica", 16 if line.startswith("#") else 10
                )
                y -= 26 if line.startswith("#") or not line else 13
                canvas.drawString(LEFT, y, line.removeprefix("# "))

    return make_pdf(path, draw, **options)


def picture_pdf(path: Path, pages: int = 1, text_on: int | None = None) -> Path:
    """A PDF whose pages are pictures; page `text_on` has text instead."""
    from PIL import Image

    raw = io.BytesIO()
    Image.new("L", (60, 80), 200).save(raw, "PNG")
    picture = raw.getvalue()

    def draw(canvas: Canvas) -> None:
        for number in range(1, pages + 1):
            if number == text_on:
                canvas.drawString(LEFT, TOP, "This page has a text layer of its own, long enough to count.")
            else:
                canvas.drawImage(ImageReader(io.BytesIO(picture)), 0, 0, *A4)
            if number < pages:
                canvas.showPage()

    return make_pdf(path, draw)


def make_docx(path: Path, build: Callable[[Any], None]) -> Path:
    """A Word file built with python-docx."""
    import docx

    document = docx.Document()
    build(document)
    document.save(str(path))
    return path


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    """A zip archive; an Office file if the members say so."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


WORD_TYPES = b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
WORD_BODY = b'<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>Wards close at nine in the evening.</w:t></w:r></w:p></w:body></w:document>'


def word_zip(path: Path, **extra: bytes) -> Path:
    """The smallest Word file there is, with further members."""
    return make_zip(
        path,
        {
            "[Content_Types].xml": WORD_TYPES,
            "word/document.xml": WORD_BODY,
            **{k.replace("__", "/"): v for k, v in extra.items()},
        },
    )


class Collected:
    """What a run of the stage left."""

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.documents = {d.source.uri: d for d in read_records(folder / "1_documents/documents.parquet", Document)}
        lines = (folder / "1_documents/rejected.jsonl").read_text(encoding="utf-8").splitlines()
        self.rejected = {row["item"]: row for row in map(json.loads, lines)}
        self.provenance = json.loads((folder / "1_documents/provenance.json").read_text(encoding="utf-8"))

    @property
    def reasons(self) -> dict[str, str]:
        return {item: row["reason"] for item, row in self.rejected.items()}


def collect(folder: Path, *sources: Path | str | dict[str, Any], **settings: Any) -> Collected:
    """Run the stage into a run folder and publish what it made; text is recognised only where a test asks for it."""
    run_folder = RunFolder(folder)
    named = tuple(source if isinstance(source, dict) else str(source) for source in sources)
    wanted = CollectSettings.model_validate({"sources": named, "ocr": "off", **settings})
    with StepRun(run_folder, "1_collect", "0" * 64, 42) as step:
        facts = run(wanted, step)
        run_folder.publish("1_collect", "0" * 64, {}, step.staging, facts, 0.0)
    return Collected(folder, facts)
