"""Compound files (MS-CFB), the file system within a file that Outlook and older Office programs write.

A chain of sectors that runs in a circle or out of the file ends the reading: nothing here trusts a number of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from fieldwise.errors import DocumentError

SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HEADER = struct.Struct("<30xHH14xI4xII4xI4x")
_ENTRY = struct.Struct("<64sHBxIII36xII4x")
_ENTRY_BYTES = 128
_FIRST_DIFAT = 0x4C
_NUMBERS_IN_HEADER = 109
_END = 0xFFFFFFFA  # from here on numbers are marks, not sectors
_STORAGE, _STREAM, _ROOT = 1, 2, 5


class _Entry(NamedTuple):
    name: str
    kind: int
    left: int
    right: int
    child: int
    start: int
    size: int


class CompoundFile:
    """The streams of a compound file by the storage they lie in; raises DocumentError for one that is damaged."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        try:
            shift, mini_shift, first_entry, self._cutoff, first_mini, difat = _HEADER.unpack_from(content)
        except struct.error as error:
            raise _damaged("no header") from error
        if not content.startswith(SIGNATURE) or shift not in (9, 12) or mini_shift >= shift:
            raise _damaged("a header of another kind")
        self._bytes, self._mini_bytes = 1 << shift, 1 << mini_shift
        self._fat = self._numbers(b"".join(self._sector(n) for n in self._fat_sectors(difat)))
        self._entries = list(self._read_entries(self._chain(first_entry)))
        if not self._entries or self._entries[0].kind != _ROOT:
            raise _damaged("no directory")
        self._mini_fat = self._numbers(self._chain(first_mini))
        self._mini = self._chain(self._entries[0].start)

    def streams(self, storage: int = 0) -> dict[str, bytes]:
        """Return the streams of a storage by name; that of the file itself is 0."""
        return {e.name: self._stream(e) for _, e in self._children(storage) if e.kind == _STREAM}

    def storages(self, storage: int = 0) -> dict[str, int]:
        """Return the storages within a storage by name."""
        return {e.name: number for number, e in self._children(storage) if e.kind == _STORAGE}

    def _children(self, storage: int) -> Iterator[tuple[int, _Entry]]:
        waiting, seen = [self._entries[storage].child], set[int]()
        while waiting:
            number = waiting.pop()
            if number >= len(self._entries) or number in seen:
                continue
            seen.add(number)
            entry = self._entries[number]
            waiting += [entry.right, entry.left]
            yield number, entry

    def _stream(self, entry: _Entry) -> bytes:
        if entry.size >= self._cutoff:
            return self._chain(entry.start)[: entry.size]
        parts = [
            self._mini[n * self._mini_bytes : (n + 1) * self._mini_bytes] for n in _walk(self._mini_fat, entry.start)
        ]
        return b"".join(parts)[: entry.size]

    # ------------------------------------------------------------ sectors

    def _sector(self, number: int) -> bytes:
        start = (number + 1) * self._bytes
        return self._content[start : start + self._bytes]

    def _chain(self, start: int) -> bytes:
        return b"".join(self._sector(number) for number in _walk(self._fat, start))

    def _fat_sectors(self, difat: int) -> list[int]:
        head = self._content[_FIRST_DIFAT : _FIRST_DIFAT + 4 * _NUMBERS_IN_HEADER]
        numbers, seen = self._numbers(head), set[int]()
        while difat < _END and difat not in seen:
            seen.add(difat)
            *more, difat = self._numbers(self._sector(difat)) or [_END]
            numbers += more
        return list(dict.fromkeys(n for n in numbers if n < _END))

    @staticmethod
    def _numbers(content: bytes) -> list[int]:
        return list(struct.unpack(f"<{len(content) // 4}I", content[: len(content) // 4 * 4]))

    @staticmethod
    def _read_entries(content: bytes) -> Iterator[_Entry]:
        for at in range(0, len(content) - _ENTRY_BYTES + 1, _ENTRY_BYTES):
            name, length, kind, left, right, child, start, size = _ENTRY.unpack_from(content, at)
            yield _Entry(
                name[: max(0, length - 2)].decode("utf-16-le", "replace"), kind, left, right, child, start, size
            )


def _walk(table: list[int], start: int) -> Iterator[int]:
    """The numbers of a chain, at most as many as there are."""
    number = start
    for _ in range(len(table)):
        if number >= len(table):
            return
        yield number
        number = table[number]
    if number < len(table):
        raise _damaged("a chain in a circle")


def _damaged(found: str) -> DocumentError:
    return DocumentError(
        "the file is damaged", reason="broken", found=found, fix="Save it again from the program that made it."
    )
