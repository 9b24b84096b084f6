"""The files of a split as items: the schema found from the first rows, and each row read by it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.rows.formats import Item
from fieldwise.rows.reading import Broken, Note, Row, read_rows
from fieldwise.rows.schema import MAP, Schema, find_schema
from fieldwise.rows.values import RowFault

_PEEK_ROWS = 100


class Read(NamedTuple):
    """A row with its values as they stand, and the item or why it is none."""

    file: Path
    number: int
    values: dict[str, Any]
    item: Item | RowFault


class Unread(NamedTuple):
    """A line that is no row."""

    file: Path
    number: int
    reason: str


class Guessed(NamedTuple):
    """A line whose encoding had to be guessed."""

    file: Path
    number: int
    text: str


class ItemReader:
    """Reads the files of one split; `schema` is known once the first row has come."""

    def __init__(self, files: Sequence[Path], mapped: Mapping[str, str], option: str = MAP) -> None:
        self.files, self._mapped, self._option = files, mapped, option
        self.schema: Schema | None = None

    def __iter__(self) -> Iterator[Read | Unread | Guessed]:
        for file in self.files:
            yield from self.read(file)

    def read(self, file: Path) -> Iterator[Read | Unread | Guessed]:
        """Yield what stands in one of the files; raises DatasetError when its format cannot be told."""
        found = read_rows(file)
        head: list[Row | Broken | Note] = []
        if self.schema is None:
            count = itertools.count(1)
            for read in found:
                head.append(read)
                if isinstance(read, Row) and next(count) == _PEEK_ROWS:
                    break
            if peeked := [read.values for read in head if isinstance(read, Row)]:
                self.schema = find_schema(peeked, self._mapped, file, self._option)
        for read in itertools.chain(head, found):
            if isinstance(read, Row):
                yield Read(file, read.number, read.values, self._item(read.values))
            elif isinstance(read, Note):
                yield Guessed(file, read.number, read.text)
            else:
                yield Unread(file, read.number, read.reason)

    def _item(self, values: Mapping[str, Any]) -> Item | RowFault:
        assert self.schema is not None
        try:
            return self.schema.item(values)
        except RowFault as fault:
            return fault
