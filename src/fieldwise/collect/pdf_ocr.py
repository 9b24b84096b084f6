"""PDF files whose pages without a text layer are recognised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fieldwise.collect.ocr import MAX_SIDE_PIXELS, Recognised, add_notes, add_page, recognise
from fieldwise.collect.pdf import Scans, read_pdf
from fieldwise.records import Document, Source

_MAX_SCALE = 300 / 72  # small formats are not blown up beyond 300 dots an inch


def read_pdf_with_ocr(path: Path, source: Source) -> Document:
    """Return a PDF file as a document; pages that are pictures are read by text recognition.

    Raises DocumentError as `read_pdf` does, and with reason `no_text` when nothing is found on the pictures.
    """
    return read_pdf(path, source, Scans(_recognise, add_page, add_notes))


def _recognise(page: Any) -> Recognised:
    scale = min(_MAX_SCALE, MAX_SIDE_PIXELS / max(page.get_width(), page.get_height()))
    bitmap = page.render(scale=scale)
    try:
        return recognise(bitmap.to_pil())
    finally:
        bitmap.close()
