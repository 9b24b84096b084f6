"""PDF files by the layout and table models of docling, in the process that reads files.

The models are taken from a folder of this machine; nothing is fetched. Text comes from the text layer.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from fieldwise.collect.docling_document import to_document
from fieldwise.errors import DocumentError
from fieldwise.extras import require
from fieldwise.records import Document, Source

_EXTRA = {"extra": "docling", "to": "read PDF files by layout models"}


def read_pdf_by_layout(path: Path, source: Source, models: str) -> Document:
    """Return a PDF file as docling understands it with the models of a folder.

    Raises DocumentError: `broken` when docling cannot read it, `no_text_layer` when every page is a picture.
    """
    result = _converter(models).convert(path, raises_on_error=False)
    status = str(getattr(result.status, "value", result.status))
    if status not in ("success", "partial_success"):
        told = "; ".join(str(error.error_message) for error in result.errors)
        raise DocumentError(
            "docling cannot read the file",
            reason="broken",
            found=told[:200] or status,
            fix="Save it again from the program that made it, or set collect.layout to pdfium.",
        )
    document = to_document(result.document, source)
    if status == "partial_success":
        note = "docling has read it in part: " + "; ".join(str(e.error_message) for e in result.errors)[:200]
        document = document.model_copy(update={"notes": (*document.notes, note)})
    return document


@functools.cache
def _converter(models: str) -> Any:
    """The converter with its models, loaded once a process; one thread, so that pages come out the same everywhere."""
    converters: Any = require("docling.document_converter", **_EXTRA)
    options: Any = require("docling.datamodel.pipeline_options", **_EXTRA)
    accelerators: Any = require("docling.datamodel.accelerator_options", **_EXTRA)
    formats: Any = require("docling.datamodel.base_models", **_EXTRA)
    pipeline = options.PdfPipelineOptions(
        artifacts_path=models,
        do_ocr=False,
        do_table_structure=True,
        enable_remote_services=False,
        accelerator_options=accelerators.AcceleratorOptions(num_threads=1, device="cpu"),
    )
    pdf = formats.InputFormat.PDF
    return converters.DocumentConverter(
        allowed_formats=[pdf], format_options={pdf: converters.PdfFormatOption(pipeline_options=pipeline)}
    )
