"""Rows to JSON, JSON Lines, CSV and Parquet files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fieldwise.data.targets import Unheld
from fieldwise.errors import DatasetError
from fieldwise.extras import require
from fieldwise.files import atomic, write_jsonl, write_text
from fieldwise.rows.reading import MAX_RECORD_LINES

Rows = Sequence[dict[str, Any]]


def require_kind(path: Path) -> None:
    """Raise DatasetError for a file name that says no kind of file that can be written."""
    if path.suffix.lower() not in _WRITERS:
        raise DatasetError(
            "this kind of file cannot be written",
            where=path,
            found=path.suffix or "no suffix",
            fix=f"Give a name that ends in {', '.join(_WRITERS)}.",
        )


def require_holds(path: Path, values: dict[str, Any]) -> None:
    """Raise Unheld for a row that a file of this kind cannot give back."""
    if path.suffix.lower() != ".csv":
        return
    for name, value in values.items():
        text = _cell(value)
        if "\0" in text:
            raise Unheld("zero_byte", f"{name} holds a zero byte, which CSV cannot")
        if text.count("\n") >= MAX_RECORD_LINES - 1:
            raise Unheld("too_many_lines", f"{name} has {text.count(chr(10)) + 1} lines: what reads CSV takes that for a quote that was never closed")  # fmt: skip


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows atomically; every row has every column, null where it has no value."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    _WRITERS[path.suffix.lower()](path, [{name: row.get(name) for name in columns} for row in rows])


def _write_json(path: Path, rows: Rows) -> None:
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")


def _write_jsonl(path: Path, rows: Rows) -> None:
    write_jsonl(path, rows)


def _write_csv(path: Path, rows: Rows) -> None:
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)


def _write_parquet(path: Path, rows: Rows) -> None:
    pa: Any = require("pyarrow", extra="documents", to="write Parquet files")
    pq: Any = require("pyarrow.parquet", extra="documents", to="write Parquet files")
    columns = {name: _column(pa, [row[name] for row in rows]) for name in rows[0]}
    with atomic(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def _column(pa: Any, values: list[Any]) -> Any:
    """An Arrow array of the values; where they are of several types, of the JSON texts of what is not text."""
    try:
        return pa.array(values)
    except pa.ArrowException:
        return pa.array([v if v is None else _cell(v) for v in values])


_WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    ".jsonl": _write_jsonl,
    ".json": _write_json,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
