"""Which earlier signatures share a band with new ones: the candidates of near-duplicates.

The keys of all bands stand in sorted arrays, the newest small, the oldest large, and are looked up for many
signatures at once: several times as fast as a dictionary entry for each band of each signature, in a third of the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_GROWTH = 8  # an array is merged into the one before it unless that is so many times as large
_MOST_MARKS = 1 << 24  # bytes: signatures looked up at once times the signatures there are
_MOST_FOUND = 1 << 22  # shared bands gathered at once

_Keys = NDArray[np.uint64]
_Numbers = NDArray[np.int64]


class _Level(NamedTuple):
    keys: _Keys
    numbers: NDArray[np.int32]


class BandIndex:
    """Signatures by the keys of their bands."""

    def __init__(self, bands: int) -> None:
        self._salts = np.arange(1, bands + 1, dtype=np.uint64) * _MULTIPLIER
        self._levels: list[_Level] = []
        self._count = 0

    def add(self, signatures: NDArray[np.uint32]) -> Iterator[_Numbers]:
        """Enter signatures, a row each, and yield for each of them the numbers of earlier ones that share a band.

        Signatures are numbered in the order in which they are entered.
        """
        first, count = self._count, len(signatures)
        keys = self._keys(signatures)
        self._count += count
        numbers = np.repeat(np.arange(first, self._count, dtype=np.int32), len(self._salts))
        order = np.argsort(keys.ravel(), kind="stable")
        self._enter(_Level(keys.ravel()[order], numbers[order]))
        at_once = max(1, _MOST_MARKS // self._count)
        for start in range(0, count, at_once):
            yield from self._earlier(keys[start : start + at_once], first + start)

    def _keys(self, signatures: NDArray[np.uint32]) -> _Keys:
        halves = signatures.view(np.uint64).reshape(len(signatures), len(self._salts), -1)
        keys = np.broadcast_to(self._salts, halves.shape[:2])
        for n in range(halves.shape[2]):
            keys = (keys ^ halves[:, :, n]) * _MULTIPLIER
            keys ^= keys >> np.uint64(29)
        return keys

    def _enter(self, level: _Level) -> None:
        while self._levels and len(self._levels[-1].keys) <= _GROWTH * len(level.keys):
            before = self._levels.pop()
            keys = np.concatenate([before.keys, level.keys])
            order = np.argsort(keys, kind="stable")  # two sorted runs are merged
            level = _Level(keys[order], np.concatenate([before.numbers, level.numbers])[order])
        self._levels.append(level)

    def _earlier(self, keys: _Keys, first: int) -> Iterator[_Numbers]:
        """Mark what each signature shares a band with, and read off the marks before its own number."""
        count, bands = keys.shape
        marks = np.zeros((count, self._count), np.bool_)
        flat = marks.reshape(-1)
        order = np.argsort(keys.ravel(), kind="stable")
        wanted = keys.ravel()[order]
        rows = order // bands * self._count
        for level in self._levels:
            low = np.searchsorted(level.keys, wanted, "left")
            lengths = np.searchsorted(level.keys, wanted, "right") - low
            hit = np.flatnonzero(lengths)
            ends = np.cumsum(lengths[hit])
            begin = 0
            while begin < len(hit):
                before = int(ends[begin - 1]) if begin else 0
                end = max(begin + 1, int(np.searchsorted(ends, before + _MOST_FOUND)))
                part = hit[begin:end]
                runs = lengths[part]
                places = np.arange(int(runs.sum())) + np.repeat(low[part] - (np.cumsum(runs) - runs), runs)
                flat[np.repeat(rows[part], runs) + level.numbers[places]] = True
                begin = end
        for n in range(count):
            yield np.flatnonzero(marks[n, : first + n])
