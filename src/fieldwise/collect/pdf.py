"""PDF files: text by pdfium in reading order, headings by the look of their letters, tables as Markdown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.collect.builder import TextBuilder, one_line, printable
from fieldwise.collect.pdf_blocks import Block, HeadingRules, find_heading_rules, split_blocks
from fieldwise.collect.pdf_layout import Segment, read_segments, reading_order
from fieldwise.collect.pdf_tables import FoundTable, RuledTables, find_aligned, segments_in
from fieldwise.errors import DocumentError
from fieldwise.extras import require
from fieldwise.records import Document, Source

MIN_PAGE_CHARS = 20
_STAMP_CHARS = 200  # courts and scanners stamp a line on pages that are pictures
_PASSWORD_ERROR = 4
_MAX_OBJECTS = 50_000  # a drawing, not a scan with a stamp; to look through a million takes seconds
_MAX_DAMAGED = 1000  # in a row: a file of 600 bytes may claim a million pages
_NO_FORM = 0
_NO_TITLE = re.compile(
    r"(?:untitled|untitled document|document\d*|scan\w*|\(?unspecified\)?|title|.*\.(?:docx?|od[tsp]|rtf|indd|qxd|pdf|tmp|dvi|xlsx?|pptx?|wpd|ps|tif)|microsoft word - .*|powerpoint presentation|slide \d+|\W*)",
    re.IGNORECASE,
)
_PRIVATE = re.compile("[\ue000-\uf8ff\ufffd]")


class _Table(NamedTuple):
    rows: list[list[str]]


class _Raw(NamedTuple):
    """Text of a page whose layout is of no use."""

    text: str


_Part = Block | _Table | _Raw


class _Page(NamedTuple):
    number: int
    parts: list[_Part]
    chars: int


def read_pdf(path: Path, source: Source) -> Document:
    """Return a PDF file as a document with its pages.

    Raises DocumentError: `encrypted`, `broken`, or `no_text_layer` when every page is a picture.
    """
    pdfium: Any = require("pypdfium2", extra="documents", to="read PDF files")
    try:
        file = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD_ERROR:
            raise DocumentError(
                "the file is protected by a password", reason="encrypted", fix="Save a copy without a password."
            ) from error
        raise DocumentError(
            "the file is damaged",
            reason="broken",
            found=str(error)[:120],
            fix="Print it to a new PDF, or get it again.",
        ) from error
    builder = TextBuilder()
    try:
        if len(file) == 0:
            raise DocumentError("the file has no pages", reason="broken", fix="Print it to a new PDF, or get it again.")
        pages = _read_pages(file, builder)
        title = one_line(file.get_metadata_value("Title") or "")
        if file.get_formtype() != _NO_FORM:
            builder.note("what is filled into form fields is left out")
    finally:
        file.close()
    if all(page.chars < MIN_PAGE_CHARS for page in pages):
        raise DocumentError(
            "no page has a text layer: it is a scan",
            reason="no_text_layer",
            found=f"{len(pages)} page{'s' if len(pages) > 1 else ''} of pictures",
            fix="Run it through a text recognition program (OCR), or supply the text.",
        )
    _write(builder, pages)
    return builder.document(source, "" if _NO_TITLE.fullmatch(title) else title)


def _read_pages(file: Any, builder: TextBuilder) -> list[_Page]:
    """Read page by page; what cannot be read is noted, at the end of a file with a thousand such pages as a whole."""
    pages: list[_Page] = []
    damaged: list[_Page] = []
    fonts: dict[int, bool] = {}
    ruled = RuledTables()
    for n in range(len(file)):
        page = _read_page(file, n, ruled, fonts, builder)
        if page is None:
            damaged.append(_Page(n + 1, [], 0))
            if len(damaged) == _MAX_DAMAGED:
                builder.note(f"the pages {damaged[0].number} to {len(file)} are damaged and left out")
                return pages
        else:
            pages += [*_noted(damaged, builder), page]
            damaged = []
    return [*pages, *_noted(damaged, builder)]


def _noted(damaged: list[_Page], builder: TextBuilder) -> list[_Page]:
    for page in damaged:
        builder.note(f"page {page.number} is damaged and left out")
    return damaged


def _read_page(file: Any, n: int, ruled: RuledTables, fonts: dict[int, bool], builder: TextBuilder) -> _Page | None:
    """Read a page; None if it is damaged."""
    pdfium: Any = require("pypdfium2", extra="documents", to="read PDF files")
    try:
        page = file[n]
        textpage = page.get_textpage()
    except pdfium.PdfiumError:
        return None
    chars = read_segments(textpage, fonts)
    visible = sum(len(s.text) for s in chars.segments)
    if visible < MIN_PAGE_CHARS or (visible < _STAMP_CHARS and _is_picture(page)):
        builder.note(f"page {n + 1} has no text layer")
        visible = 0
    elif sum(len(_PRIVATE.findall(s.text)) for s in chars.segments) > 0.3 * visible:
        builder.note(f"page {n + 1} has a text layer that cannot be read")
    if not chars.has_layout:
        parts: list[_Part] = [_Raw(textpage.get_text_range())]
    else:
        is_ruled = page.get_rotation() in (0, 180) and visible >= MIN_PAGE_CHARS
        tables = ruled.find(page, chars.words) if is_ruled else []
        if tables is None:
            builder.note(f"tables of page {n + 1} are left as lines")
        parts = _with_tables(chars.segments, page.get_width(), tables or [])
    textpage.close()
    page.close()
    return _Page(n + 1, parts, visible)


def _is_picture(page: Any) -> bool:
    """Tell whether one picture covers most of the page."""
    raw: Any = require("pypdfium2.raw", extra="documents", to="read PDF files")
    if raw.FPDFPage_CountObjects(page.raw) > _MAX_OBJECTS:
        return False
    area = page.get_width() * page.get_height()
    for picture in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=4):
        left, low, right, high = picture.get_bounds()
        if (right - left) * (high - low) > 0.5 * area:
            return True
    return False


def _with_tables(segments: list[Segment], width: float, tables: list[FoundTable]) -> list[_Part]:
    """Cut the page at its ruled tables: what stands above each, the table, what stands below the last."""
    parts: list[_Part] = []
    rest = segments
    for table in sorted(tables, key=lambda t: -t.box[3]):
        taken = segments_in(table, rest)
        if not taken:
            continue
        chosen = set(taken)
        rest = [s for s in rest if s not in chosen]
        above = [s for s in rest if s.y > table.box[3]]
        beside = {s for s in above}
        parts += [*_arrange(above, width), _Table(table.rows)]
        rest = [s for s in rest if s not in beside]
    return parts + _arrange(rest, width)


def _arrange(segments: list[Segment], width: float) -> list[_Part]:
    """Lines in reading order as blocks, runs of aligned figures as tables."""
    lines = reading_order(segments, width)
    parts: list[_Part] = []
    at = 0
    for table in find_aligned(lines):
        parts += [*split_blocks(lines[at : table.first]), _Table(table.rows)]
        at = table.last
    return parts + split_blocks(lines[at:])


# ---------------------------------------------------------------- writing


def _write(builder: TextBuilder, pages: list[_Page]) -> None:
    rules = find_heading_rules([[p for p in page.parts if isinstance(p, Block)] for page in pages])
    for page in pages:
        builder.page(page.number)
        for part, follower in zip(page.parts, [*page.parts[1:], None], strict=False):
            if isinstance(part, _Table):
                builder.table(part.rows)
            elif isinstance(part, _Raw):
                _write_raw(builder, part.text)
            else:
                _write_block(builder, part, follower if isinstance(follower, Block) else None, rules)


def _write_block(builder: TextBuilder, block: Block, follower: Block | None, rules: HeadingRules) -> None:
    level = rules.level(block, follower)
    if level is not None:
        builder.heading(block.one_line, level)
    else:
        builder.paragraph(_PRIVATE.sub("", block.text))


def _write_raw(builder: TextBuilder, text: str) -> None:
    for block in re.split(r"\n\s*\n", printable(text)):
        builder.paragraph(block)
