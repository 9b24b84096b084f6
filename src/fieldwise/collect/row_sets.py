"""The row sources of a recipe, opened: where their rows come from, and which column says what.

Opening peeks at the first rows and raises for columns that are not clear, before any document is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from pydantic import JsonValue

from fieldwise.collect.row_columns import PEEK_ROWS, Columns, find_columns
from fieldwise.collect.row_files import find_row_files
from fieldwise.collect.settings import CollectSettings, RowsSource
from fieldwise.errors import DatasetError
from fieldwise.hashing import sha256_file
from fieldwise.rows.reading import Broken, Read, Row, read_rows

_KINDS = {
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
    ".json": "application/json",
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".arrow": "application/vnd.apache.arrow",
}
HUB_KIND = _KINDS[".arrow"]
_LINED = {".jsonl", ".ndjson", ".csv", ".tsv"}


@dataclass(frozen=True)
class RowSet:
    """Rows of one file or data set: a name for their uris, what they are counted in, and how to read them."""

    source: RowsSource
    name: str
    media_type: str
    unit: str
    columns: Columns
    read: Callable[[], Iterator[Read]]
    licence: str | None = None
    path: Path | None = None
    commit: str | None = None

    @cached_property
    def sha256(self) -> str | None:
        """The hash of the file when it was first asked for; None for a data set of the hub."""
        return sha256_file(self.path) if self.path is not None else None

    def require_unchanged(self) -> None:
        """Raise DatasetError if the file has changed since it was hashed: its rows would be of two contents."""
        if self.path is not None and sha256_file(self.path) != self.sha256:
            raise DatasetError(
                "the file changed while its rows were read",
                where=f"collect.sources: {self.source.label}",
                found=self.name,
                fix="Wait until nobody writes to it and run again.",
            )

    def provenance(self) -> dict[str, JsonValue]:
        """Return what is on record of the whole: its hash or commit, and which columns were taken."""
        columns: dict[str, JsonValue] = {"text": list(self.columns.text)}
        columns |= {f: c for f in ("title", "date", "licence", "id") if (c := getattr(self.columns, f)) is not None}
        found: dict[str, JsonValue] = {"media_type": self.media_type, "columns": columns, "guessed": list(self.columns.guessed)}  # fmt: skip
        if self.path is not None:
            return {**found, "sha256": self.sha256, "bytes": self.path.stat().st_size}
        asked = self.source.revision
        return {**found, "dataset": self.source.dataset, "revision": asked, "commit": self.commit}


def open_row_sets(settings: CollectSettings) -> list[RowSet]:
    """Return all row sources of a recipe, files first, each with its columns.

    Raises DatasetError for one that is not there, holds no rows, or whose columns are not clear.
    """
    opened = open_row_files(settings)
    for source in settings.row_sources:
        if source.dataset is not None:
            from fieldwise.collect.hub_rows import open_hub_rows

            hub = open_hub_rows(source)
            columns = _columns(hub.read(), source, f"collect.sources: {source.label}")
            opened.append(
                RowSet(source, hub.name, HUB_KIND, "row", columns, hub.read, licence=hub.licence, commit=hub.commit)
            )
    return opened


def open_row_files(settings: CollectSettings) -> list[RowSet]:
    """Return the row sources that are files of this machine; nothing is fetched. Raises as `open_row_sets` does."""
    max_row_bytes = int(settings.max_file_mb * 1e6)
    opened: list[RowSet] = []
    for file in find_row_files(settings).files:
        read = _reader(file.path, max_row_bytes, settings)
        columns = _columns(read(), file.source, f"collect.sources: {file.source.label}: {file.name}")
        suffix = file.path.suffix.lower()
        opened.append(
            RowSet(
                file.source,
                file.name,
                _KINDS[suffix],
                "line" if suffix in _LINED else "row",
                columns,
                read,
                path=file.path,
            )
        )
    return opened


def row_fingerprint(settings: CollectSettings) -> list[JsonValue]:
    """Return what row sources hold now: the hash of each file; of a data set of the hub, what would be asked for."""
    lines: list[JsonValue] = []
    for file in find_row_files(settings).files:
        try:
            content = sha256_file(file.path)
        except OSError:
            content = "unreadable"
        lines.append(["rows", file.name, content, file.source.keyed()])
    lines += [["dataset", s.keyed()] for s in settings.row_sources if s.dataset is not None]
    return lines


def _reader(path: Path, max_row_bytes: int, settings: CollectSettings) -> Callable[[], Iterator[Read]]:
    if path.suffix.lower() == ".json" and path.stat().st_size > settings.max_file_mb * 1e6:
        raise DatasetError(
            "a JSON file is read whole, and this one is too large",
            where=path,
            found=f"{path.stat().st_size / 1e6:.1f} MB, at most {settings.max_file_mb:g} MB are read",
            fix="Write one object a line and call it .jsonl: that is read line by line; or raise collect.max_file_mb.",
        )
    return lambda: read_rows(path, max_row_bytes)


def _columns(read: Iterator[Read], source: RowsSource, where: str) -> Columns:
    first: list[Read] = list(islice((item for item in read if isinstance(item, Row | Broken)), PEEK_ROWS))
    rows = [item.values for item in first if isinstance(item, Row)]
    if not rows:
        broken = next((item for item in first if isinstance(item, Broken)), None)
        raise DatasetError(
            "there are no rows",
            where=where,
            found=f"line {broken.number}: {broken.reason}" if broken is not None else None,
            fix="Check that it is the right file, or take the source out.",
        )
    return find_columns(rows, source.columns, where)
