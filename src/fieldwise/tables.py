"""Records in Parquet: one row a record, plain columns for plain fields, JSON text for nested ones.

The same records give the same bytes, so that the hash of a file says whether anything changed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from fieldwise.errors import DatasetError
from fieldwise.extras import require
from fieldwise.files import atomic
from fieldwise.records import Record

R = TypeVar("R", bound=Record)
_BATCH_ROWS = 2048
_BATCH_CHARS = 1 << 25
"""A batch is held several times over while it is written; of long documents fewer make one."""


def write_records(path: Path, records: Iterable[R], kind: type[R], *, without: Collection[str] = ()) -> int:
    """Write records atomically, in batches; returns how many.

    Fields named in `without` get no column: whoever reads the file finds their defaults.
    """
    pa, pq = _pyarrow()
    fields = {name: field for name, field in kind.model_fields.items() if name not in without}
    schema = pa.schema([(name, _column_type(pa, field.annotation)) for name, field in fields.items()])
    count = 0
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for rows in _batches(_to_row(record, schema) for record in records):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def read_records(path: Path, kind: type[R]) -> Iterator[R]:
    """Yield the records of a file, batch by batch."""
    pa, pq = _pyarrow()
    if not path.exists():
        raise DatasetError(
            "the file is not there", where=path, fix="Run the stage that makes it: fieldwise run --list shows which."
        )
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(
            "not a readable Parquet file",
            where=path,
            found=str(error)[:120],
            fix="Run again with --force for this stage.",
        ) from error
    nested = {
        name
        for name, field in kind.model_fields.items()
        if _column_type(pa, field.annotation) == pa.string() and not _is_text(field.annotation)
    }
    with file:
        for group in range(file.num_row_groups):  # one by one: batches over several would undo their limit
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group]):
                for row in batch.to_pylist():
                    yield kind.model_validate(
                        {k: json.loads(v) if k in nested and v is not None else v for k, v in row.items()}
                    )


def _pyarrow() -> tuple[Any, Any]:
    return require("pyarrow", extra="documents", to="read and write Parquet files"), require(
        "pyarrow.parquet", extra="documents", to="read and write Parquet files"
    )


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    chars = 0
    for row in rows:
        batch.append(row)
        chars += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(batch) == _BATCH_ROWS or chars >= _BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _parts(annotation: Any) -> tuple[Any, ...]:
    return tuple(a for a in get_args(annotation) if a is not type(None))


def _is_text(annotation: Any) -> bool:
    if annotation is str:
        return True
    if get_origin(annotation) is not None and str(get_origin(annotation)) == "typing.Literal":
        return True
    parts = _parts(annotation)
    return get_origin(annotation) is not tuple and bool(parts) and all(p is str for p in parts)


def _column_type(pa: Any, annotation: Any) -> Any:
    plain = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    if annotation in plain:
        return plain[annotation]
    parts = _parts(annotation)
    if get_origin(annotation) is tuple and parts[0] is str:
        return pa.list_(pa.string())
    if get_origin(annotation) is not tuple and len(parts) == 1 and parts[0] in plain:
        return plain[parts[0]]
    return pa.string()


def _to_row(record: Record, schema: Any) -> dict[str, Any]:
    row = record.model_dump(mode="json", include=set(schema.names))
    for name, value in row.items():
        column = schema.field(name).type
        if str(column) == "string" and value is not None and not isinstance(value, str):
            row[name] = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return row
