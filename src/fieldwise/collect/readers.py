"""Which reader reads which media type, and what its output depends on.

A new format is one file with a function `(path, source) -> Document`, a row in READERS, and its way of being
recognised in media.py.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from fieldwise.collect import media
from fieldwise.errors import MissingExtra
from fieldwise.extras import installed_version
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.interfaces import Extractor

_FORMAT_VERSION = 1  # raise it when what readers return changes its shape
_IMPORTED = re.compile(r"^from fieldwise\.collect\.(\w+) import", re.MULTILINE)


@dataclass(frozen=True)
class Reader:
    """A reader by the place of its function, so that listing readers imports none of them."""

    name: str
    module: str
    function: str
    libraries: tuple[str, ...] = ()
    is_zip: bool = False
    allows_doctype: bool = False
    besides: str = ""  # versions of what stands in another environment

    def load(self) -> Extractor:
        """Import the reader."""
        function: Extractor = getattr(importlib.import_module(self.module), self.function)
        return function

    def version(self) -> str:
        """Return a hash of all that shapes what the reader returns: its code and the versions of its libraries."""
        sources = {name: _source_hash(name) for name in _modules(self.module)}
        libraries = {lib: installed_version(lib) for lib in self.libraries}
        besides = [self.besides] if self.besides else []
        return sha256_text(canonical_json([_FORMAT_VERSION, sources, libraries, *besides]))


@functools.cache
def _modules(module: str) -> tuple[str, ...]:
    """The reader's module and those of this room it is built on."""
    found: list[str] = []
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if name not in found and path is not None:
            found.append(name)
            waiting += [f"fieldwise.collect.{part}" for part in _IMPORTED.findall(path.read_text(encoding="utf-8"))]
    return tuple(sorted(found))


@functools.cache
def _source_hash(module: str) -> str:
    path = _path(module)
    return sha256_text(path.read_text(encoding="utf-8")) if path is not None else ""


def _path(module: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


READERS: dict[str, Reader] = {
    media.PDF: Reader("pdf", "fieldwise.collect.pdf", "read_pdf", ("pypdfium2", "pdfplumber", "pdfminer.six")),
    media.HTML: Reader("html", "fieldwise.collect.web", "read_html", ("lxml", "trafilatura")),
    media.DOCX: Reader("docx", "fieldwise.collect.word", "read_word", ("lxml",), is_zip=True),
    media.PPTX: Reader("pptx", "fieldwise.collect.slides", "read_slides", ("lxml",), is_zip=True),
    media.XLSX: Reader("xlsx", "fieldwise.collect.sheets", "read_workbook", ("openpyxl",), is_zip=True),
    media.ODT: Reader(
        "odt", "fieldwise.collect.opendocument", "read_text_document", ("lxml",), is_zip=True, allows_doctype=True
    ),
    media.ODP: Reader(
        "odp", "fieldwise.collect.opendocument", "read_presentation", ("lxml",), is_zip=True, allows_doctype=True
    ),
    media.ODS: Reader(
        "ods", "fieldwise.collect.opendocument", "read_spreadsheet", ("lxml",), is_zip=True, allows_doctype=True
    ),
    media.CSV: Reader("csv", "fieldwise.collect.sheets", "read_csv"),
    media.MARKDOWN: Reader("markdown", "fieldwise.collect.markdown", "read_markdown"),
    media.ASCIIDOC: Reader("asciidoc", "fieldwise.collect.asciidoc", "read_asciidoc"),
    media.PLAIN: Reader("plain", "fieldwise.collect.plain", "read_plain"),
    media.MAIL: Reader("mail", "fieldwise.collect.mail", "read_mail", ("lxml", "trafilatura")),
    media.MSG: Reader("msg", "fieldwise.collect.outlook", "read_outlook", ("lxml", "trafilatura")),
    media.EPUB: Reader(
        "epub", "fieldwise.collect.epub", "read_epub", ("lxml", "trafilatura"), is_zip=True, allows_doctype=True
    ),
}

_OCR_LIBRARIES = ("rapidocr", "onnxruntime", "opencv-python-headless")
_IMAGE = Reader("image", "fieldwise.collect.images", "read_image", (*_OCR_LIBRARIES, "pillow"))
OCR_READERS: dict[str, Reader] = {
    media.PDF: Reader(
        "pdf", "fieldwise.collect.pdf_ocr", "read_pdf_with_ocr", (*READERS[media.PDF].libraries, *_OCR_LIBRARIES)
    ),
    media.PNG: _IMAGE,
    media.JPEG: _IMAGE,
    media.TIFF: _IMAGE,
}
"""What takes the place of the others where text recognition is wanted and installed."""


def layout_reader(versions: str) -> Reader:
    """Return the reader of PDF files by the models of docling, whose versions and models are hashed already."""
    return Reader("docling", "fieldwise.collect.pdf_docling", "read_pdf_by_layout", besides=versions)


def xml_reader(elements: Mapping[str, str]) -> Reader:
    """Return the reader of XML files by what their elements are."""
    return Reader(
        "xml",
        "fieldwise.collect.xml_text",
        "read_xml",
        ("lxml",),
        besides=canonical_json(dict(sorted(elements.items()))),
    )


def ocr_versions(setting: str) -> dict[str, JsonValue] | None:
    """Return the versions of the libraries that recognise text, None if none is to be recognised.

    The setting is `auto` (where they are installed), `on` or `off`. Raises MissingExtra for `on` without them.
    """
    found: dict[str, JsonValue] = {name: installed_version(name) for name in _OCR_LIBRARIES[:2]}
    missing = [name for name, version in found.items() if version is None]
    if setting == "on" and missing:
        raise MissingExtra(
            f"collect.ocr is on, and the library {missing[0]!r} is needed to recognise text",
            fix="Install it with: pip install 'fieldwise[ocr]', or set collect.ocr to auto.",
        )
    return None if setting == "off" or missing else found
