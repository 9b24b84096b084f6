"""Words of a text looked up all at once, without making a string of each: several times as fast as a dictionary.

A word is known by a key of 64 bits: its characters as the coefficients of a polynomial modulo 2^64. That two of a
million words share a key has a probability of 3e-8.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BASE = 0xD1342543DE82EF95  # odd
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SLOT_BITS = 20
_PIECE = 1 << 14  # characters whose words are keyed together; powers of so many stay in the cache

Keys = NDArray[np.uint64]
Places = NDArray[np.int64]


def _powers_of(base: int) -> Keys:
    steps = np.full(_PIECE, base, np.uint64)
    steps[0] = 1
    powers: Keys = np.cumprod(steps, dtype=np.uint64)
    return powers


_POWERS, _INVERSES = _powers_of(_BASE), _powers_of(pow(_BASE, -1, 1 << 64))


def characters(text: str) -> NDArray[Any]:
    """Return the characters of a text as numbers, one each."""
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def word_keys(codes: NDArray[Any], starts: Places, ends: Places) -> Keys:
    """Return the keys of words, given by where they start and end among characters, in order and apart."""
    keys = np.empty(len(starts), np.uint64)
    at = 0
    while at < len(starts):
        begin = starts[at]
        stop = int(np.searchsorted(ends, begin + _PIECE, "right"))
        if stop == at:  # a word longer than a piece
            digest = hashlib.blake2b(codes[begin : ends[at]].tobytes(), digest_size=8).digest()
            stop, keys[at] = at + 1, int.from_bytes(digest, "little")
        else:
            piece = codes[begin : ends[stop - 1]]
            sums = np.zeros(len(piece) + 1, np.uint64)
            np.cumsum(piece * _POWERS[: len(piece)], out=sums[1:])
            first = starts[at:stop] - begin
            keys[at:stop] = (sums[ends[at:stop] - begin] - sums[first]) * _INVERSES[first]
        at = stop
    return keys


class WordTable:
    """Numbers words in the order in which they are first seen, from 1.

    The number of a word stands in a slot found by its key; of words that share a slot the first one has it, the
    others are found by a dictionary.
    """

    def __init__(self) -> None:
        self._slots = np.zeros(1 << _SLOT_BITS, np.int32)
        self._numbers: dict[int, int] = {}
        self._keys = np.zeros(1 << 12, np.uint64)

    def __len__(self) -> int:
        """How many words are known."""
        return len(self._numbers)

    def numbers(self, keys: Keys) -> tuple[NDArray[np.int32], list[int]]:
        """Return the numbers of words by their keys, and where those stand that are seen for the first time."""
        slots = (keys * _MULTIPLIER >> np.uint64(64 - _SLOT_BITS)).view(np.int64)
        numbers: NDArray[np.int32] = self._slots[slots]
        unsure = np.flatnonzero((self._keys[numbers] != keys) | (numbers == 0))
        if not len(unsure):
            return numbers, []
        new: list[int] = []
        known = self._numbers
        for n, key, slot in zip(unsure.tolist(), keys[unsure].tolist(), slots[unsure].tolist(), strict=True):
            number = known.get(key)
            if number is None:
                number = known[key] = len(known) + 1
                new.append(n)
                if number == len(self._keys):
                    self._keys = np.concatenate([self._keys, np.zeros_like(self._keys)])
                self._keys[number] = key
                if self._slots[slot] == 0:
                    self._slots[slot] = number
            numbers[n] = number
        return numbers, new


class Values:
    """What is known of each word of a table, by its number."""

    def __init__(self, kind: Any) -> None:
        self._values = np.zeros(1 << 12, kind)
        self._count = 1

    def extend(self, values: Any) -> None:
        """Add what is known of words seen for the first time, in order."""
        while self._count + len(values) > len(self._values):
            self._values = np.concatenate([self._values, np.zeros_like(self._values)])
        self._values[self._count : self._count + len(values)] = values
        self._count += len(values)

    def of(self, numbers: NDArray[np.int32]) -> NDArray[Any]:
        """Return them for some words."""
        return self._values[numbers]
