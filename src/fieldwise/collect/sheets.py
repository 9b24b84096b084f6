"""Spreadsheets and delimited text: each sheet a heading and its tables."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from fieldwise.collect.archive import Package
from fieldwise.collect.builder import TextBuilder, printable
from fieldwise.decode import decode
from fieldwise.errors import DocumentError
from fieldwise.extras import require
from fieldwise.records import Document, Source

MAX_ROWS = 5_000
MAX_COLUMNS = 100
_MAX_SKIPPED_ROWS = 100_000
_DELIMITERS = ",;\t|"
_SNIFF_CHARS = 20_000
_UNNAMED = re.compile(r"[^\W\d]+ ?1")
_PERCENT = re.compile(r"0(?:\.(0+))?%")


def read_csv(path: Path, source: Source) -> Document:
    """Return a CSV or TSV file as one table; the delimiter is found from the content."""
    decoded = decode(path.read_bytes())
    builder = TextBuilder()
    if decoded.note:
        builder.note(decoded.note)
    text = printable(decoded.text)
    csv.field_size_limit(10_000_000)
    try:
        reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text[:_SNIFF_CHARS]), skipinitialspace=True)
        rows = list(bounded_rows(reader, builder, "the file"))
    except csv.Error as error:
        raise DocumentError(
            "not a readable table",
            reason="broken",
            found=str(error)[:120],
            fix="Save it again as CSV with quotes around cells that hold the delimiter.",
        ) from error
    builder.table(rows)
    return builder.document(source)


def read_workbook(path: Path, source: Source) -> Document:
    """Return an Excel workbook: values as last calculated, hidden sheets left out."""
    openpyxl: Any = require("openpyxl", extra="documents", to="read Excel files")
    builder = TextBuilder()
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise DocumentError(
            "the workbook cannot be opened",
            reason="broken",
            found=str(error)[:120],
            fix="Save it again from the program that made it.",
        ) from error
    try:
        for sheet in book.worksheets:
            if sheet.sheet_state != "visible":
                builder.note(f"sheet {sheet.title!r} is hidden and left out")
                continue
            sheet.reset_dimensions()
            tables = list(split_tables(bounded_rows(_sheet_rows(sheet), builder, f"sheet {sheet.title!r}")))
            if tables and not (len(book.worksheets) == 1 and is_unnamed(sheet.title)):
                builder.heading(sheet.title, 1)
            for table in tables:
                add_sheet_table(builder, table)
        title = str(book.properties.title or "") if book.properties else ""
    finally:
        book.close()
    with Package(path) as package:
        if package.has_part("xl/comments") or package.has_part("xl/threadedComments"):
            builder.note("comments are left out")
    return builder.document(source, title)


def _delimiter(sample: str) -> str:
    """The sniffer is asked for no more than that: what it makes of quotes, an apostrophe in a cell can mislead."""
    try:
        return csv.Sniffer().sniff(sample, delimiters=_DELIMITERS).delimiter
    except csv.Error:
        return max(_DELIMITERS, key=sample.partition("\n")[0].count)


def is_unnamed(sheet: str) -> bool:
    """Tell whether a sheet has the name that programs give the first one."""
    return _UNNAMED.fullmatch(sheet) is not None


def bounded_rows(rows: Iterable[list[str]], builder: TextBuilder, what: str) -> Iterator[list[str]]:
    """Yield the rows up to the limit; what is left out is noted."""
    kept = skipped = 0
    for row in rows:
        if kept >= MAX_ROWS:
            skipped += bool(any(row))
            if skipped > _MAX_SKIPPED_ROWS:
                break
            continue
        kept += bool(any(row))
        if len(row) > MAX_COLUMNS:
            builder.note(f"{what}: columns after the first {MAX_COLUMNS} are left out")
        yield row[:MAX_COLUMNS]
    if skipped:
        builder.note(
            f"{what}: the first {MAX_ROWS} rows of {kept + skipped}{' or more' if skipped > _MAX_SKIPPED_ROWS else ''} are read"
        )


def _sheet_rows(sheet: Any) -> Iterator[list[str]]:
    for row in sheet.iter_rows():
        yield [_shown(cell) for cell in row]


def _shown(cell: Any) -> str:
    """A cell as a person would read it: dates as ISO 8601, shares of one as per cent, no needless decimals."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, int | float):
        if (match := _PERCENT.fullmatch(cell.number_format or "")) is not None:
            return f"{value * 100:.{len(match[1] or '')}f}%"
        return f"{value:.10g}" if isinstance(value, float) else str(value)
    return str(value)


def split_tables(rows: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Split the rows of a sheet where a row is empty."""
    table: list[list[str]] = []
    for row in rows:
        if any(cell.strip() for cell in row):
            table.append(row)
        elif table:
            yield table
            table = []
    if table:
        yield table


def add_sheet_table(builder: TextBuilder, rows: list[list[str]]) -> None:
    """Rows of one cell each are remarks, not a table."""
    filled = [[cell for cell in row if cell.strip()] for row in rows]
    if all(len(cells) == 1 for cells in filled):
        builder.paragraph("\n".join(cells[0] for cells in filled))
    else:
        builder.table(rows)
