"""What people are shown of the examples of a run to review them: one item a pair, with the passage that proves it."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fieldwise.errors import DatasetError
from fieldwise.files import atomic
from fieldwise.generate.review import COLUMNS, guarded
from fieldwise.hashing import content_id
from fieldwise.records import Chunk, Example
from fieldwise.run import RunFolder
from fieldwise.tables import read_records

SPLITS = ("train", "validation", "test")


class ReviewItem(NamedTuple):
    """A pair to look at: an example that stands for all its wordings, and the chunk of its evidence."""

    example: Example
    chunk: Chunk | None
    wordings: int

    @property
    def quote(self) -> str:
        """The words that prove the answer."""
        return self.example.evidence[0].quote if self.example.evidence else ""


class Review(NamedTuple):
    """Everything there is to look at, and the version of the examples it belongs to."""

    name: str
    version: str
    items: list[ReviewItem]
    left: int


def open_review(run: RunFolder, splits: Sequence[str] = SPLITS, sample: int | None = None, seed: int = 0) -> Review:
    """Read the examples of a run, a random sample of the pairs if so many are asked for.

    Raises DatasetError where none have been made.
    """
    examples = [
        e
        for split in SPLITS
        if split in splits
        for e in read_records(run.require(f"3_examples/{split}.parquet", "generate"), Example)
    ]
    if not examples:
        raise DatasetError("there is no example to review", where=run.path / "3_examples", fix="Choose other splits.")
    chunks = {c.id: c for c in read_records(run.require("2_chunks/chunks.parquet", "prepare"), Chunk)}
    groups: dict[tuple[str, str, str], list[Example]] = {}
    for example in examples:
        evidence = example.evidence[0].chunk_id if example.evidence else example.id
        groups.setdefault((example.question, example.answer, evidence), []).append(example)
    items = [_item(group, chunks) for group in groups.values()]
    left = 0
    if sample is not None and sample < len(items):
        left = len(items) - sample
        chosen = set(random.Random(f"{seed}/review").sample(range(len(items)), sample))
        items = [item for n, item in enumerate(items) if n in chosen]
    return Review(run.path.name, content_id("rev", sorted(e.id for e in examples)), items, left)


def _item(group: Sequence[Example], chunks: dict[str, Chunk]) -> ReviewItem:
    first = next((e for e in group if e.style == "closed"), group[0])
    shown = first.evidence[0].chunk_id if first.evidence else next(iter(first.chunk_ids), "")
    return ReviewItem(first, chunks.get(shown), len(group))


def write_sheet(path: Path, review: Review) -> None:
    """Write the sheet as CSV for a spreadsheet; a file that stands there is kept, since it may hold decisions."""
    if path.exists():
        raise DatasetError("a file stands here", where=path, fix="Name a new file: decisions may be in this one.")
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for item in review.items:
            e = item.example
            cells = (e.id, e.split, e.kind, e.style, e.question, e.answer, item.quote, "", "", "", "")
            writer.writerow([guarded(c) for c in cells])
