"""The files of row sources on this machine, each with the name its rows are known by."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fieldwise.collect.settings import CollectSettings, RowsSource
from fieldwise.collect.sources import MAGIC, Entry, glob_files, place, shown, split_pattern, with_unique_names
from fieldwise.errors import DatasetError
from fieldwise.rows.reading import SUFFIXES


class RowFile(NamedTuple):
    """A file of rows: the source that names it, its path, and its name as it stands in the names of its rows."""

    source: RowsSource
    path: Path
    name: str


def find_row_files(settings: CollectSettings) -> list[RowFile]:
    """Return the files of all row sources, in the order of the recipe; raises DatasetError for one that has none."""
    sources = [s for s in settings.row_sources if s.rows is not None]
    entries = [
        Entry(number, root.name, path.relative_to(root).as_posix(), path)
        for number, source in enumerate(sources)
        for root, path in _files(source)
    ]
    return [RowFile(sources[e.source], e.path, shown(e.relative)) for e in with_unique_names(entries)]


def _files(source: RowsSource) -> list[tuple[Path, Path]]:
    """The files of a source with the folder their names count from."""
    assert source.rows is not None
    path = place(source.rows)
    if path is not None and path.is_dir():
        root = path.resolve()
        found = [p for p in glob_files(root, "**/*") if p.suffix.lower() in SUFFIXES and not _is_hidden(root, p)]
    elif path is not None and path.is_file():
        root = path.parent.resolve()
        found = [root / path.name]
    elif path is not None and MAGIC.search(source.rows):
        root, pattern = split_pattern(path)
        found = [p for p in glob_files(root, pattern) if p.is_file()]
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
    return [(root, p) for p in found]


def _is_hidden(root: Path, path: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
