"""Which files of a data set belong to which split.

A data set is a file, a folder whose files or folders are named after the splits, a folder as `save_to_disk` of the
`datasets` library leaves it, a copy of a repository of the Hugging Face hub, or a run folder, whose examples it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.errors import DatasetError
from fieldwise.rows.reading import SUFFIXES

ORDER = ("train", "validation", "test")
ALL = "all"
"""The split of rows that no name puts on a side."""
_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
EXAMPLES = "3_examples"
_DICT, _STATE = "dataset_dict.json", "state.json"
_NO_ROWS = {_DICT, _STATE, "dataset_info.json", "dataset_infos.json"}


class Splits(NamedTuple):
    """The files of each split, and files of rows that belong to none and are not read."""

    files: dict[str, list[Path]]
    left_out: list[Path]


def find_splits(path: Path) -> Splits:
    """Return the files of a data set: one file is one split `all`, in a folder names say the split.

    `train.jsonl`, `train-00000-of-00002.parquet` and `train/part-1.csv` are all train. Raises DatasetError when there
    is nothing to read.
    """
    if path.is_file():
        return Splits({_split_of(path) or ALL: [path]}, [])
    if not path.is_dir():
        raise DatasetError("the data set is not there", where=path, fix="Name a file of rows, or a folder of them.")
    if (path / EXAMPLES).is_dir():
        return find_splits(path / EXAMPLES)
    if (path / _STATE).is_file():
        return Splits({_split_of(path) or ALL: _saved_files(path)}, [])
    if (path / _DICT).is_file():
        return _saved_splits(path)
    rows = _row_files(path)
    files: dict[str, list[Path]] = {}
    for file in rows:
        if split := _split_of(file):
            files.setdefault(split, []).append(file)
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        if (split := _split_of(folder)) and (found := _row_files(folder)):
            files.setdefault(split, []).extend(found)
    if not files and len(rows) == 1:
        return Splits({ALL: rows}, [])
    if not files and not rows and (path / "data").is_dir():
        return find_splits(path / "data")  # as the hub lays out what is uploaded to it
    if not files:
        raise DatasetError(
            "the folder does not say which file is what",
            where=path,
            found=", ".join(p.name for p in rows[:6]) or "no file of rows",
            fix="Name the files train, validation and test (such as train.jsonl), or name one file.",
        )
    return Splits({split: files[split] for split in ORDER if split in files}, [p for p in rows if _split_of(p) is None])


def _row_files(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES and p.name not in _NO_ROWS
    )


def _split_of(path: Path) -> str | None:
    stem = path.name.casefold().split(".")[0]
    return _NAMES.get(stem) or _NAMES.get(stem.split("-")[0].split("_")[0])


# ---------------------------------------------------------------- folders of save_to_disk


def _saved_splits(path: Path) -> Splits:
    names = _listed(path / _DICT, "splits")
    files: dict[str, list[Path]] = {}
    left_out: list[Path] = []
    for name in names:
        saved = _saved_files(path / name)
        split = _split_of(Path(name))
        if split is None and len(names) == 1:
            return Splits({ALL: saved}, [])
        if split is None:
            left_out += saved
        else:
            files.setdefault(split, []).extend(saved)
    if not files:
        raise DatasetError(
            "no split of the data set is called train, validation or test",
            where=path,
            found=", ".join(names) or "no split",
            fix=f"Name the folder of one of them, such as {path / names[0] if names else path}.",
        )
    return Splits({split: files[split] for split in ORDER if split in files}, left_out)


def _saved_files(folder: Path) -> list[Path]:
    files = [folder / str(entry.get("filename")) for entry in _listed(folder / _STATE, "_data_files")]
    if missing := next((f for f in files if not f.is_file()), None):
        raise DatasetError("a file of the data set is not there", where=missing, fix="Save or copy the set again.")
    return files


def _listed(path: Path, key: str) -> list[Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        found = value[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            "the data set is not whole", where=path, found=repr(error)[:120], fix="Save or copy the set again."
        ) from error
    return found if isinstance(found, list) else []
