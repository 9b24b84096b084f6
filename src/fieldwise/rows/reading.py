"""Rows of JSON, JSON Lines, CSV, Parquet and Arrow files, one after the other; a broken line is named and the others are read.

All but JSON stream. A JSON file is one value, so it is read whole.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, AnyStr, NamedTuple

from fieldwise.decode import decode
from fieldwise.errors import DatasetError
from fieldwise.extras import require

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
MAX_RECORD_LINES = 500
"""A quoted CSV field may hold line breaks; one that is still open after so many lines was never closed."""
_BATCH_ROWS = 1024
_BATCH_BYTES = 1 << 28
_BLOCK_BYTES = 1 << 20
_SHOWN_OF_CUT = 200
_DELIMITERS = ",;\t|"
_WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
csv.field_size_limit(2**31 - 1)  # the limit of 128 KiB is for a whole field, and a document may be longer


class Row(NamedTuple):
    """A row with the line, or in JSON and Parquet the number, it stands at; both count from 1."""

    number: int
    values: dict[str, Any]


class Broken(NamedTuple):
    """A line that is no row: where, why, and what stands there, for the one who mends it."""

    number: int
    reason: str
    text: str


class Note(NamedTuple):
    """A line whose encoding had to be guessed."""

    number: int
    text: str


Read = Row | Broken | Note


def read_rows(path: Path, max_line_bytes: int | None = None) -> Iterator[Read]:
    """Yield the rows of a file, its broken lines, and notes on its encoding, in their order.

    A longer line than the limit is a broken one and never held in memory. Raises DatasetError when the file as a whole cannot be read.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(
            "this kind of file holds no rows",
            where=path,
            found=path.suffix or "no suffix",
            fix=f"Give a file that ends in {', '.join(SUFFIXES)}.",
        )
    if path.stat().st_size == 0:
        raise DatasetError("the file is empty", where=path, fix="Write it again, or leave it out.")
    return reader(path, max_line_bytes)


# ---------------------------------------------------------------- lines


class _Line(NamedTuple):
    number: int
    text: str
    note: str | None
    is_cut: bool = False


def _lines(path: Path, max_bytes: int | None) -> Iterator[_Line]:
    """Lines with their ends, one that is too long with its beginning alone; each decoded for itself, so that one line of another table does not spoil the rest."""
    with path.open("rb") as stream:
        head = stream.read(4096)
        stream.seek(0)
        if head.startswith(_WIDE_MARKS):
            encoding = "utf-32" if head.startswith(_WIDE_MARKS[:2]) else "utf-16"
            wide = io.TextIOWrapper(stream, encoding=encoding, errors="replace", newline="")
            for number, (line, is_cut) in enumerate(_raw_lines(wide, max_bytes, "\n"), 1):
                yield _Line(number, line[:_SHOWN_OF_CUT] if is_cut else line, None, is_cut)
            return
        if b"\0" in head:
            raise DatasetError(
                "the file is not text",
                where=path,
                found="a zero byte at its beginning",
                fix="If it is UTF-16 without a byte order mark, save it as UTF-8.",
            )
        for number, (raw, is_cut) in enumerate(_raw_lines(stream, max_bytes, b"\n"), 1):
            if is_cut:
                yield _Line(number, raw[:_SHOWN_OF_CUT].decode("utf-8", "replace"), None, is_cut=True)
                continue
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            try:
                yield _Line(number, raw.decode("utf-8"), None)
            except UnicodeDecodeError:
                yield _Line(number, *decode(raw))


def _raw_lines(stream: IO[AnyStr], longest: int | None, end: AnyStr) -> Iterator[tuple[AnyStr, bool]]:
    """Lines with their ends, and whether one is longer than may be: of that its beginning alone."""
    limit = -1 if longest is None else longest
    while raw := stream.readline(limit):
        is_cut = len(raw) == limit and not raw.endswith(end)
        if is_cut:
            while (rest := stream.readline(_BLOCK_BYTES)) and not rest.endswith(end):
                pass
        yield raw, is_cut


def _too_long(line: _Line) -> Broken:
    return Broken(line.number, "longer than a row may be", line.text)


# ---------------------------------------------------------------- formats of files


def _read_jsonl(path: Path, max_line_bytes: int | None) -> Iterator[Read]:
    for line in _lines(path, max_line_bytes):
        if line.is_cut:
            yield _too_long(line)
            continue
        if not line.text.strip():
            continue
        if line.note:
            yield Note(line.number, line.note)
        try:
            value = json.loads(line.text)
        except (json.JSONDecodeError, RecursionError) as error:
            yield Broken(line.number, f"not valid JSON: {error}", line.text.rstrip("\r\n"))
            continue
        yield _object(line.number, value)


def _object(number: int, value: Any) -> Row | Broken:
    if isinstance(value, dict):
        return Row(number, value)
    return Broken(number, f"not an object but {_kind_of(value)}", json.dumps(value, ensure_ascii=False))


def _kind_of(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def _read_json(path: Path, max_line_bytes: int | None) -> Iterator[Read]:
    content = path.read_bytes()
    decoded = decode(content)
    try:
        value = json.loads(decoded.text)
    except (json.JSONDecodeError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            yield from _read_jsonl(path, max_line_bytes)  # many data sets call JSON Lines .json
            return
        raise DatasetError(
            "not valid JSON",
            where=f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else path,
            found=str(error)[:120],
            fix="Mend the file, or write one object a line and call it .jsonl: then a broken line spoils only itself.",
        ) from error
    if decoded.note:
        yield Note(1, decoded.note)
    yield from (_object(number, item) for number, item in enumerate(_list_in(value, path), 1))


def _list_in(value: Any, path: Path) -> list[Any]:
    if isinstance(value, list):
        return value
    lists = (
        {k: v for k, v in value.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
        if isinstance(value, dict)
        else {}
    )
    if len(lists) == 1:
        found: list[Any] = next(iter(lists.values()))
        return found
    raise DatasetError(
        "the JSON holds no list of rows",
        where=path,
        found=f"lists under {', '.join(lists)}"
        if lists
        else _kind_of(value)
        if not isinstance(value, dict)
        else "an object",
        fix="Write a list of objects, or one object a line in a .jsonl file.",
    )


def _read_csv(path: Path, max_line_bytes: int | None) -> Iterator[Read]:
    records = _Records(_lines(path, max_line_bytes))
    header = records.header(path)
    yield from records.notes()
    while (read := records.next(len(header))) is not None:
        yield from records.notes()
        if isinstance(read, Broken):
            yield read
        else:
            number, fields = read
            yield Row(number, dict(zip(header, fields, strict=True)))


class _Records:
    """CSV records with their first line; one with too few or too many fields costs its first line only."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self._lines, self._waiting, self._notes = lines, list[_Line](), list[Note]()
        self._delimiter = ","

    def header(self, path: Path) -> list[str]:
        """The names of the columns; they say which sign stands between the fields."""
        line = self._take()
        while line is not None and not line.text.strip():
            line = self._take()
        if line is None:
            raise DatasetError("the file holds no header", where=path, fix="Name the columns in its first line.")
        self._delimiter = max(_DELIMITERS, key=line.text.count)
        names = [n.strip() for n in self._parse(line.text) or []]
        twice = sorted({n for n in names if names.count(n) > 1 or not n})
        if twice or not names:
            raise DatasetError(
                "the header must name each column once",
                where=f"{path}:{line.number}",
                found=", ".join(n or "a column without name" for n in twice) or "a broken line",
                fix="Give each column a name of its own in the first line.",
            )
        return names

    def notes(self) -> list[Note]:
        """What had to be guessed since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def next(self, width: int) -> tuple[int, list[str]] | Broken | None:
        """The next record or the line that is none; None at the end of the file."""
        line = self._take()
        while line is not None and not line.text.strip():
            line = self._take()
        if line is None:
            return None
        if line.is_cut:
            return _too_long(line)
        taken, quotes = [line], line.text.count('"')
        while quotes % 2 and len(taken) < MAX_RECORD_LINES and (more := self._take()) is not None:
            taken.append(more)
            quotes += more.text.count('"')
        is_broken = quotes % 2 or any(t.is_cut for t in taken)
        fields = None if is_broken else self._parse("".join(t.text for t in taken))
        if fields is not None and len(fields) == width:
            return line.number, fields
        self._waiting = taken[:0:-1] + self._waiting
        told = "a quote that is never closed" if quotes % 2 else "quotes that do not fit"
        if fields is not None and len(taken) == 1:
            told = f"{len(fields)} field{'s' if len(fields) != 1 else ''} where the header has {width}"
        return Broken(line.number, told, line.text.rstrip("\r\n"))

    def _take(self) -> _Line | None:
        if self._waiting:
            return self._waiting.pop()
        line = next(self._lines, None)
        if line is not None and line.note:
            self._notes.append(Note(line.number, line.note))
        return line

    def _parse(self, text: str) -> list[str] | None:
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter, strict=True))
        except csv.Error:
            return None
        return rows[0] if len(rows) == 1 else None


def _read_parquet(path: Path, max_line_bytes: int | None) -> Iterator[Read]:
    pa: Any = require("pyarrow", extra="documents", to="read Parquet files")
    pq: Any = require("pyarrow.parquet", extra="documents", to="read Parquet files")
    try:
        with pq.ParquetFile(path) as file:
            for number, values in enumerate(_parquet_rows(file), 1):
                yield Row(number, values)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            "not a readable Parquet file", where=path, found=str(error)[:120], fix="Write or download the file again."
        ) from error


def _parquet_rows(file: Any) -> Iterator[dict[str, Any]]:
    """The rows, so many at a time as have room even if each holds the largest value there can be.

    A column that says one long text a thousand times takes a few kilobytes in the file and ten gigabytes in memory.
    """
    for group in range(file.num_row_groups):
        facts = file.metadata.row_group(group)
        columns = (facts.column(n) for n in range(facts.num_columns))
        largest = sum(c.total_uncompressed_size for c in columns if c.physical_type == "BYTE_ARRAY")
        most = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, largest)))
        for batch in file.iter_batches(batch_size=most, row_groups=[group]):
            for n in range(batch.num_rows):
                yield {name: batch.column(name)[n].as_py() for name in batch.schema.names}


def _read_arrow(path: Path, max_line_bytes: int | None) -> Iterator[Read]:
    """A file of a folder that `save_to_disk` of the `datasets` library has left."""
    pa: Any = require("pyarrow", extra="documents", to="read Arrow files")
    ipc: Any = require("pyarrow.ipc", extra="documents", to="read Arrow files")
    try:
        with path.open("rb") as stream, ipc.open_stream(stream) as batches:
            number = 0
            for batch in batches:
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, values)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            "not a readable Arrow file", where=path, found=str(error)[:120], fix="Save or copy the data set again."
        ) from error


_READERS: dict[str, Callable[[Path, int | None], Iterator[Read]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
