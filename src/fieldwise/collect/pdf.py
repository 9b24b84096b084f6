"""PDF files: text by pdfium in reading order, headings by the look of their letters, tables as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fieldwise.collect.builder import TextBuilder, one_line, printable
from fieldwise.collect.pdf_blocks import Block, HeadingRules, find_heading_rules, split_blocks
from fieldwise.collect.pdf_layout import Segment, read_segments, reading_order
from fieldwise.collect.pdf_tables import FoundTable, RuledTables, find_aligned, segments_in
from fieldwise.errors import DocumentError
from fieldwise.extras import require
from fieldwise.records import Document, Source

MIN_PAGE_CHARS = 20
NO_TEXT_LAYER = "has no text layer"
INSTALL_OCR = "Have it read by text recognition: pip install 'fieldwise[ocr]', with collect.ocr at auto"
_STAMP_CHARS = 200  # courts and scanners stamp a line on pages that are pictures
_PASSWORD_ERROR = 4
_MAX_OBJECTS = 50_000  # a drawing, not a scan with a stamp; to look through a million takes seconds
_MAX_DAMAGED = 1000  # in a row: a file of 600 bytes may claim a million pages
_MAX_FRUITLESS = 100  # more pages without text than with: each may take a second, and a small file may hold a million
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


class _Tools(NamedTuple):
    """What the pages of a file are read with: `fonts` remembers which of them are bold."""

    ruled: RuledTables
    fonts: dict[int, bool]
    scans: Scans | None


_Part = Block | _Table | _Raw


class RecognisedPage(Protocol):
    """What text recognition finds on a page."""

    @property
    def chars(self) -> int:
        """How many characters."""
        ...

    @property
    def confidence(self) -> float:
        """How sure it is of them, from 0 to 1."""
        ...


class Scans(NamedTuple):
    """How pages without a text layer are recognised, written into a document, and noted.

    Handed in rather than imported: what plain PDF files say does not depend on the code of text recognition.
    """

    recognise: Callable[[Any], Any]
    add_page: Callable[[TextBuilder, int, Any], None]
    add_notes: Callable[[TextBuilder, dict[int, float]], None]


class _Page(NamedTuple):
    number: int
    parts: list[_Part]
    chars: int
    scan: RecognisedPage | None = None
    lacks_text: bool = False
    is_fruitless: bool = False  # text recognition found nothing


def read_pdf(path: Path, source: Source, scans: Scans | None = None) -> Document:
    """Return a PDF file as a document with its pages; those without a text layer are recognised if it is said how.

    Raises DocumentError: `encrypted`, `broken`, or `no_text_layer` when every page is a picture, `no_text` when these
    hold no text either.
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
        pages = _read_pages(file, builder, scans)
        title = one_line(file.get_metadata_value("Title") or "")
        if file.get_formtype() != _NO_FORM:
            builder.note("what is filled into form fields is left out")
    finally:
        file.close()
    if not pages:
        raise DocumentError(
            "no page of the file can be read", reason="broken", fix="Print it to a new PDF, or get it again."
        )
    if all(page.chars < MIN_PAGE_CHARS for page in pages):
        raise _no_text(len(pages), is_recognised=scans is not None)
    _write(builder, pages, scans)
    return builder.document(source, "" if _NO_TITLE.fullmatch(title) else title)


def _no_text(pages: int, *, is_recognised: bool) -> DocumentError:
    found = f"{pages} page{'s' if pages > 1 else ''} of pictures"
    if is_recognised:
        return DocumentError(
            "no page has a text layer, and OCR finds no text on any",
            reason="no_text",
            found=found,
            fix="Leave it out with collect.exclude, or supply the text.",
        )
    return DocumentError(
        "no page has a text layer: it is a scan",
        reason="no_text_layer",
        found=found,
        fix=f"{INSTALL_OCR}, or supply the text.",
    )


def _read_pages(file: Any, builder: TextBuilder, scans: Scans | None) -> list[_Page]:
    """Read page by page; what cannot be read is noted, at the end of a file with a thousand such pages as a whole."""
    pages: list[_Page] = []
    damaged: list[_Page] = []
    tools = _Tools(RuledTables(), {}, scans)
    fruitless = 0
    for n in range(len(file)):
        page = _read_page(file, n, tools, builder)
        if page is None:
            damaged.append(_Page(n + 1, [], 0))
            if len(damaged) == _MAX_DAMAGED:
                builder.note(f"the pages {damaged[0].number} to {len(file)} are damaged and left out")
                return pages
        else:
            pages += [*_noted(damaged, builder), page]
            damaged = []
            fruitless += page.is_fruitless - (page.scan is not None)
            if fruitless == _MAX_FRUITLESS and tools.scans is not None:
                tools = tools._replace(scans=None)
                builder.note(f"OCR finds no text on so many pages that those after {page.number} are left out of it")
    return [*pages, *_noted(damaged, builder)]


def _noted(damaged: list[_Page], builder: TextBuilder) -> list[_Page]:
    for page in damaged:
        builder.note(f"page {page.number} is damaged and left out")
    return damaged


def _read_page(file: Any, n: int, tools: _Tools, builder: TextBuilder) -> _Page | None:
    """Read a page; None if it is damaged."""
    pdfium: Any = require("pypdfium2", extra="documents", to="read PDF files")
    try:
        page = file[n]
        textpage = page.get_textpage()
    except pdfium.PdfiumError:
        return None
    chars = read_segments(textpage, tools.fonts)
    visible = sum(len(s.text) for s in chars.segments)
    problem = ""
    if visible < MIN_PAGE_CHARS or (visible < _STAMP_CHARS and _is_picture(page)):
        problem, visible = NO_TEXT_LAYER, 0
    elif sum(len(_PRIVATE.findall(s.text)) for s in chars.segments) > 0.3 * visible:
        problem = "has a text layer that cannot be read"
    is_recognised = bool(problem) and tools.scans is not None and not _is_blank(page)
    if is_recognised and tools.scans is not None:
        scan = tools.scans.recognise(page)
        if scan.chars >= MIN_PAGE_CHARS:
            textpage.close()
            page.close()
            return _Page(n + 1, [], scan.chars, scan)
        builder.note(f"OCR finds no text on page {n + 1}")
    if problem:
        builder.note(f"page {n + 1} {problem}")
    if not chars.has_layout:
        parts: list[_Part] = [_Raw(textpage.get_text_range())]
    else:
        is_ruled = page.get_rotation() in (0, 180) and visible >= MIN_PAGE_CHARS
        tables = tools.ruled.find(page, chars.words) if is_ruled else []
        if tables is None:
            builder.note(f"tables of page {n + 1} are left as lines")
        parts = _with_tables(chars.segments, page.get_width(), tables or [])
    textpage.close()
    page.close()
    return _Page(n + 1, parts, visible, lacks_text=bool(problem), is_fruitless=is_recognised)


def _is_blank(page: Any) -> bool:
    """Tell whether there is nothing on the page that could be seen."""
    raw: Any = require("pypdfium2.raw", extra="documents", to="read PDF files")
    return not (raw.FPDFPage_CountObjects(page.raw) or raw.FPDFPage_GetAnnotCount(page.raw))


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


def _write(builder: TextBuilder, pages: list[_Page], scans: Scans | None) -> None:
    rules = find_heading_rules([[p for p in page.parts if isinstance(p, Block)] for page in pages])
    for page in pages:
        if scans is not None and page.scan is not None:
            scans.add_page(builder, page.number, page.scan)
            continue
        builder.page(page.number)
        for part, follower in zip(page.parts, [*page.parts[1:], None], strict=False):
            if isinstance(part, _Table):
                builder.table(part.rows)
            elif isinstance(part, _Raw):
                _write_raw(builder, part.text)
            else:
                _write_block(builder, part, follower if isinstance(follower, Block) else None, rules)

    if scans is None and any(page.lacks_text for page in pages):
        builder.note("pages without text are read with fieldwise[ocr] installed and collect.ocr at auto")
    if scans is not None:
        scans.add_notes(builder, {page.number: page.scan.confidence for page in pages if page.scan is not None})


def _write_block(builder: TextBuilder, block: Block, follower: Block | None, rules: HeadingRules) -> None:
    level = rules.level(block, follower)
    if level is not None:
        builder.heading(block.one_line, level)
    else:
        builder.paragraph(_PRIVATE.sub("", block.text))


def _write_raw(builder: TextBuilder, text: str) -> None:
    for block in re.split(r"\n\s*\n", printable(text)):
        builder.paragraph(block)
