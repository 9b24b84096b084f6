"""OpenDocument files, as LibreOffice writes them: texts, presentations and spreadsheets.

Headers and footers, deletions, footnotes and comments are left out, as they are of Office files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fieldwise.collect.archive import Package, attribute, local_name
from fieldwise.collect.builder import TextBuilder
from fieldwise.collect.opendocument_lists import Numbers, Styles
from fieldwise.collect.sheets import MAX_COLUMNS, MAX_ROWS, add_sheet_table, bounded_rows, is_unnamed, split_tables
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

_FIX = "Save it again from the program that made it."
_NOTED = {"note": "footnotes", "annotation": "comments", "object": "embedded formulas, charts and other objects"}
_LEFT_OUT = {"tracked-changes", "forms", "scripts", "image", "title", "desc", "ruby-text", "notes", "annotation-end"}
_INDEXES = {"table-of-content", "illustration-index", "table-index", "alphabetical-index", "user-index"}
_FURNITURE = {"header", "footer", "date-time", "page-number"}
_SHAPES = {"frame", "custom-shape", "g", "rect", "ellipse", "circle", "line", "connector", "polygon", "path", "caption"}
_MAX_SPACES = 100


def read_text_document(path: Path, source: Source) -> Document:
    """Return an .odt file as a document."""
    return _read(path, source, "text", lambda body, writer: writer.add(body))


def read_presentation(path: Path, source: Source) -> Document:
    """Return an .odp file as a document; a slide is a page, its title a heading, hidden slides are left out."""
    return _read(path, source, "presentation", _add_slides)


def read_spreadsheet(path: Path, source: Source) -> Document:
    """Return an .ods file as a document: each sheet a heading and its tables, values as shown, hidden sheets left out."""
    return _read(path, source, "spreadsheet", _add_sheets)


def _read(path: Path, source: Source, kind: str, add: Callable[[Any, _Writer], None]) -> Document:
    with Package(path) as package:
        manifest = package.xml("META-INF/manifest.xml")
        if manifest is not None and next(manifest.iter("{*}encryption-data"), None) is not None:
            raise DocumentError(
                "the file is protected by a password", reason="encrypted", fix="Save a copy without a password."
            )
        content = package.xml("content.xml")
        body = content.find("{*}body/{*}" + kind) if content is not None else None
        if body is None:
            raise DocumentError("the file holds no document body", reason="broken", found="content.xml", fix=_FIX)
        writer = _Writer(TextBuilder(), Styles(package.xml("styles.xml"), content))
        add(body, writer)
        meta = package.xml("meta.xml")
        title = next((e.text for e in meta.iter("{http://purl.org/dc/elements/1.1/}title") if e.text), "") if meta is not None else ""  # fmt: skip
        return writer.builder.document(source, title)


class _Writer:
    """Walks through a body and hands its blocks to the builder."""

    def __init__(self, builder: TextBuilder, styles: Styles) -> None:
        self.builder, self.styles = builder, styles
        self._numbers = Numbers(styles)

    def add(self, body: Iterable[Any]) -> None:
        """Write the blocks of a part, whatever stands around them."""
        for child in body:
            name = local_name(child)
            if name == "p":
                self._paragraph(child)
            elif name == "h":
                self._heading(child)
            elif name == "list":
                self._list(child, attribute(child, "style-name") or "", 1)
            elif name == "table":
                self._table(child)
            elif name in _INDEXES:
                self.builder.note("tables of contents and indexes are left out")
            elif attribute(child, "display") == "none":
                self.builder.note("hidden parts are left out")
            elif not self._passes_over(child):
                self.add(child)

    def text(self, element: Any) -> str:
        """The words of a paragraph, without those of shapes in it."""
        parts = [element.text or ""]
        for child in element:
            name = local_name(child)
            if name == "s":
                parts.append(
                    " " * min(int(count) if (count := attribute(child, "c") or "").isdigit() else 1, _MAX_SPACES)
                )
            elif name == "tab":
                parts.append("\t")
            elif name == "line-break":
                parts.append("\n")
            elif name not in _SHAPES and name != "hidden-text" and not self._passes_over(child):
                parts.append(self.text(child))
            parts.append(child.tail or "")
        return "".join(parts)

    def _passes_over(self, element: Any) -> bool:
        name = local_name(element)
        if name in _NOTED:
            self.builder.note(f"{_NOTED[name]} are left out")
        return name in _NOTED or name in _LEFT_OUT

    def _paragraph(self, element: Any, mark: str | None = None, depth: int = 0) -> None:
        text = self.text(element).strip("\n")
        if mark is not None:
            self.builder.item(text, mark, depth)
        elif self.styles.is_title(attribute(element, "style-name")):
            self.builder.heading(text, 1)
        else:
            self.builder.paragraph(text.replace("\t", " "))
        self.add(_shapes(element))

    def _heading(self, element: Any, mark: str | None = None) -> None:
        level = attribute(element, "outline-level") or "1"
        depth = int(level) if level.isdigit() else 1
        text = self.text(element)
        if mark is None and text.strip() and attribute(element, "is-list-header") != "true":
            mark = self._numbers.heading(depth)
        self.builder.heading(f"{mark} {text}" if mark and mark != "-" else text, depth)
        self.add(_shapes(element))

    def _list(self, element: Any, style: str, depth: int) -> None:
        if attribute(element, "continue-numbering") != "true" and attribute(element, "continue-list") is None:
            self._numbers.begin(style, depth)
        for item in element:
            if local_name(item) not in ("list-item", "list-header"):
                continue
            is_counted = local_name(item) == "list-item" and any(local_name(c) in ("p", "h") for c in item)
            mark = self._numbers.item(style, depth, attribute(item, "start-value")) if is_counted else None
            for child in item:
                name = local_name(child)
                if name == "list":
                    self._list(child, attribute(child, "style-name") or style, depth + 1)
                elif name == "h":
                    self._heading(child, mark or "")
                    mark = None
                elif name == "p":
                    self._paragraph(child, mark, min(depth - 1, 4))
                    mark = None

    def _table(self, element: Any) -> None:
        rows = [row for row in self.rows(element, MAX_ROWS) if any(cell.strip() for cell in row)]
        if all(sum(bool(cell.strip()) for cell in row) <= 1 for row in rows):  # a frame around text, not a table
            for row in rows:
                for cell in row:
                    self.builder.paragraph(cell)
        else:
            self.builder.table(rows)

    def rows(self, table: Any, most: int) -> Iterator[list[str]]:
        """Yield the rows of a table; of one that is repeated no more than could be kept."""
        for row in _rows(table):
            cells: list[str] = []
            for cell in row:
                if local_name(cell) in ("table-cell", "covered-table-cell") and len(cells) <= MAX_COLUMNS:
                    repeated = min(_repeats(cell, "number-columns-repeated"), MAX_COLUMNS + 1 - len(cells))
                    cells += [self._cell(cell)] * repeated
            repeated = _repeats(row, "number-rows-repeated") if any(cells) else 1
            for _ in range(min(repeated, most)):
                yield cells

    def _cell(self, cell: Any) -> str:
        """The words of a cell, those of lists in it on lines of their own."""
        blocks = [b for b in cell.iter("{*}p", "{*}h") if next(b.iterancestors("{*}annotation"), None) is None]
        return "\n".join(text for block in blocks if (text := self.text(block).strip()))


def _shapes(element: Any) -> Iterator[Any]:
    """The text boxes and drawn shapes anchored in a paragraph; those within them are theirs."""
    for child in element:
        if local_name(child) in _SHAPES:
            yield child
        else:
            yield from _shapes(child)


def _rows(element: Any) -> Iterator[Any]:
    """The rows of a table, also those in groups and in its header; not those of tables within."""
    for child in element:
        name = local_name(child)
        if name == "table-row":
            yield child
        elif name in ("table-header-rows", "table-rows", "table-row-group"):
            yield from _rows(child)


def _repeats(element: Any, name: str) -> int:
    value = attribute(element, name) or ""
    return max(1, int(value)) if value.isdigit() and len(value) < 10 else 1


# ---------------------------------------------------------------- slides and sheets


def _add_slides(body: Any, writer: _Writer) -> None:
    for number, slide in enumerate(body.iterfind("{*}page"), 1):
        if writer.styles.is_hidden(attribute(slide, "style-name")):
            writer.builder.note(f"slide {number} is hidden and left out")
            continue
        writer.builder.page(number)
        shapes = [s for s in slide if attribute(s, "class") not in _FURNITURE]
        titles = [s for s in shapes if attribute(s, "class") == "title"]
        for title in titles:
            writer.builder.heading(" ".join(writer.text(p) for p in title.iter("{*}p")), 1)
        for shape in shapes:
            if shape not in titles:
                writer.add([shape])


def _add_sheets(body: Any, writer: _Writer) -> None:
    builder = writer.builder
    sheets = list(body.iterfind("{*}table"))
    for sheet in sheets:
        name = attribute(sheet, "name") or ""
        if writer.styles.is_hidden(attribute(sheet, "style-name")):
            builder.note(f"sheet {name!r} is hidden and left out")
            continue
        rows = bounded_rows(writer.rows(sheet, MAX_ROWS + 1), builder, f"sheet {name!r}")
        tables = list(split_tables(rows))
        if tables and not (len(sheets) == 1 and is_unnamed(name)):
            builder.heading(name, 1)
        for table in tables:
            add_sheet_table(builder, table)
    if next(body.iter("{*}annotation"), None) is not None:
        builder.note("comments are left out")
