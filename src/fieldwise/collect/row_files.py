"""The files of row sources on this machine, each with the name its rows are known by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fieldwise.collect.settings import CollectSettings, RowsSource
from fieldwise.collect.sources import (
    MAGIC,
    Entry,
    glob_files,
    place,
    require_fit,
    shown,
    split_pattern,
    with_unique_names,
)
from fieldwise.errors import DatasetError, DocumentError
from fieldwise.rows.reading import SUFFIXES


class RowFile(NamedTuple):
    """A file of rows: the source that names it, its path, and its name as it stands in the names of its rows."""

    source: RowsSource
    path: Path
    name: str


class RowFiles(NamedTuple):
    """The files of all row sources in the order of the recipe, and what of them cannot be read."""

    files: list[RowFile]
    refused: list[Entry]

    @property
    def paths(self) -> set[Path]:
        """All of them: none is a document itself."""
        return {file.path for file in self.files} | {entry.path for entry in self.refused}


def find_row_files(settings: CollectSettings) -> RowFiles:
    """Return the files of all row sources; raises DatasetError for a source that has none that can be read."""
    sources = [s for s in settings.row_sources if s.rows is not None]
    entries: list[Entry] = []
    for number, source in enumerate(sources):
        found = [_entry(number, root, path, named=named) for root, path, named in _files(source)]
        _require_one(source, found)
        entries += found
    named_apart = with_unique_names(entries)
    files = [RowFile(sources[e.source], e.path, shown(e.relative)) for e in named_apart if not e.reason]
    return RowFiles(files, [e for e in named_apart if e.reason])


def _entry(number: int, root: Path, path: Path, *, named: bool) -> Entry:
    entry = Entry(number, root.name, path.relative_to(root).as_posix(), path)
    try:
        require_fit(root, path, named=named)
    except DocumentError as error:
        return replace(entry, reason=error.reason, detail=str(error))
    return entry


def _require_one(source: RowsSource, found: list[Entry]) -> None:
    if all(entry.reason for entry in found):
        raise DatasetError(
            "no file of the source can be read",
            where=f"collect.sources: {source.label}",
            found=f"{shown(found[0].relative)}: {found[0].detail}",
        )


def _files(source: RowsSource) -> list[tuple[Path, Path, bool]]:
    """The files of a source with the folder their names count from, and whether the recipe names them one by one."""
    assert source.rows is not None
    path = place(source.rows)
    named = False
    if path is not None and path.is_dir():
        root = path.resolve()
        found = [p for p in glob_files(root, "**/*") if p.suffix.lower() in SUFFIXES and not _is_hidden(root, p)]
    elif path is not None and (path.exists() or path.is_symlink()):
        root, named = path.parent.resolve(), True
        found = [root / path.name]
    elif path is not None and MAGIC.search(source.rows):
        root, pattern = split_pattern(path)
        found = glob_files(root, pattern)
    else:
        raise DatasetError(
            "the file of rows is not there",
            where=f"collect.sources: {source.label}",
            fix="Check the spelling; places are relative to the recipe file.",
        )
    wrong = next((p for p in found if p.suffix.lower() not in SUFFIXES), None)
    if not found or wrong is not None:
        raise DatasetError(
            "the source holds no file of rows" if wrong is None else "this kind of file holds no rows",
            where=f"collect.sources: {source.label}",
            found=None if wrong is None else shown(wrong.name),
            fix=f"Name files that end in {', '.join(SUFFIXES)}.",
        )
    return [(root, p, named) for p in found]


def _is_hidden(root: Path, path: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
