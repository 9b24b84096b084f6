"""Which files of a data set are which split."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fieldwise.collect.rows import SUFFIXES
from fieldwise.errors import DatasetError

_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


class Splits(NamedTuple):
    """The files of each split, and files of rows that belong to none and are not read."""

    files: dict[str, list[Path]]
    left_out: list[Path]


def find_splits(path: Path) -> Splits:
    """Return the files of a data set: one file is one split `all`, in a folder the names of the files say the split.

    `train.jsonl` and `train-00000-of-00002.parquet` are both train. Raises DatasetError when there is nothing to read.
    """
    if path.is_file():
        return Splits({_split_of(path) or "all": [path]}, [])
    if not path.is_dir():
        raise DatasetError("the data set is not there", where=path, fix="Name a file of rows, or a folder of them.")
    rows = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)
    files: dict[str, list[Path]] = {}
    for file in rows:
        if split := _split_of(file):
            files.setdefault(split, []).append(file)
    if not files and len(rows) == 1:
        return Splits({"all": rows}, [])
    if not files:
        raise DatasetError(
            "the folder does not say which file is what",
            where=path,
            found=", ".join(p.name for p in rows[:6]) or "no file of rows",
            fix="Name the files train, validation and test (such as train.jsonl), or name one file.",
        )
    ordered: dict[str, list[Path]] = {
        split: files[split] for split in ("train", "validation", "test") if split in files
    }
    return Splits(ordered, [p for p in rows if _split_of(p) is None])


def _split_of(path: Path) -> str | None:
    stem = path.name.casefold().split(".")[0]
    return _SPLIT_NAMES.get(stem) or _SPLIT_NAMES.get(stem.split("-")[0].split("_")[0])
