"""Texts as hashed words and as sorted sets of hashed shingles, by which duplicates are found and compared.

Words and shingles are compared by 64 bits of hash: among a hundred million of them one collision is to be expected with
probability 3e-4, and it would move a similarity in its third decimal place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.shingles import WORD

_MAX_KNOWN_WORDS = 1_000_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits spread: the golden ratio times 2^64
_SIGN = re.compile(r"[-\u2212<>\u2264\u2265\u2260\u00b1](?:(?<![-\u2212])|(?<!\w[-\u2212])(?=\d))")  # "-5" is not "5"
_EXACT = re.compile(rf"{_SIGN.pattern}|{WORD.pattern}")
_SIGNS = frozenset("-\u2212<>\u2264\u2265\u2260\u00b1")
_BLANK = ord(" ")
_TO_BLANKS = bytes(code if chr(code).isalnum() or chr(code) == "_" else _BLANK for code in range(128)) + bytes(128)
_PIECE = 1 << 16  # bytes whose words are numbered together; powers of so many stay in the cache
_BASE = 0xD1342543DE82EF95  # odd
_WORD_SLOT_BITS = 20
_SLOTS = 1 << 16
_MAX_IN_SLOTS = 1 << 11

Hashes = NDArray[np.uint64]
_Places = NDArray[np.int64]


class HashedText(NamedTuple):
    """The words of a text in order, and the same with the signs that turn them round, each as 64 bits."""

    exact: Hashes
    words: Hashes


class WordHasher:
    """Hashes the words of texts; the same word has the same hash on every machine."""

    def __init__(self) -> None:
        self._by_word: dict[str, int] = {}
        self._plain = _PlainWords()

    def hash_texts(self, texts: Sequence[str]) -> list[HashedText]:
        """Return the words of each of some texts, case folded; texts in ASCII without signs are done together."""
        folded = [text.casefold() for text in texts]
        is_plain = [text.isascii() and _SIGN.search(text) is None for text in folded]
        plain = self._plain.hash_texts([text.encode() for text, plain in zip(folded, is_plain, strict=True) if plain])
        return [
            HashedText(own := next(plain), own) if plain_one else self._other(text)
            for text, plain_one in zip(folded, is_plain, strict=True)
        ]

    def _other(self, text: str) -> HashedText:
        tokens = _EXACT.findall(text)
        by_word = self._by_word
        if len(by_word) > _MAX_KNOWN_WORDS:
            by_word.clear()
        for word in set(tokens).difference(by_word):
            by_word[word] = _hash_word(word.encode("utf-8", "surrogatepass"))
        exact = np.fromiter(map(by_word.__getitem__, tokens), np.uint64, len(tokens))
        if _SIGNS.isdisjoint(tokens):
            return HashedText(exact, exact)
        return HashedText(exact, exact[[token not in _SIGNS for token in tokens]])


class _PlainWords:
    """Words of ASCII texts, found and looked up for many texts at once, without making a string of each.

    A word is known by its bytes as a polynomial modulo 2^64, which leads to a slot with the number of the word.
    """

    def __init__(self) -> None:
        steps = np.full(_PIECE, _BASE, np.uint64)
        steps[0] = 1
        self._powers = np.cumprod(steps, dtype=np.uint64)
        steps[1:] = pow(_BASE, -1, 1 << 64)
        self._inverses = np.cumprod(steps, dtype=np.uint64)
        self._clear()

    def _clear(self) -> None:
        self._slots = np.zeros(1 << _WORD_SLOT_BITS, np.int32)
        self._numbers: dict[int, int] = {}
        self._keys, self._hashes = np.zeros(1 << 12, np.uint64), np.zeros(1 << 12, np.uint64)

    def hash_texts(self, texts: Sequence[bytes]) -> Iterator[Hashes]:
        """Yield the words of each of some texts in lower case."""
        if len(self._numbers) > _MAX_KNOWN_WORDS:
            self._clear()
        joined = b" ".join([*texts, b""]).translate(_TO_BLANKS)
        starts, ends, keys = self._find(joined)
        hashes = self._look_up(keys, starts, ends, joined)
        borders = np.cumsum([0, *(len(text) + 1 for text in texts)])
        for first, last in pairwise(np.searchsorted(starts, borders).tolist()):
            yield hashes[first:last]

    def _find(self, joined: bytes) -> tuple[_Places, _Places, Hashes]:
        """Return where the words of some bytes start and end, and their keys."""
        found: list[tuple[_Places, _Places, Hashes]] = [
            (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint64))
        ]
        every = np.frombuffer(joined, np.uint8)
        at = 0
        while at < len(joined):
            blank = joined.rfind(b" ", at, at + _PIECE)
            if blank < 0:  # a word longer than a piece
                blank = joined.index(b" ", at + _PIECE)
                key = np.frombuffer(hashlib.blake2b(joined[at:blank], digest_size=8).digest(), np.uint64)
                found.append((np.array([at]), np.array([blank]), key))
            else:
                found.append(self._find_in(every[at : blank + 1], at))
            at = blank + 1
        starts, ends, keys = (np.concatenate(column) for column in zip(*found, strict=True))
        return starts, ends, keys

    def _find_in(self, piece: NDArray[np.uint8], offset: int) -> tuple[_Places, _Places, Hashes]:
        is_letter = np.zeros(len(piece) + 1, np.bool_)
        np.not_equal(piece, _BLANK, out=is_letter[1:])
        edges = np.flatnonzero(is_letter[1:] != is_letter[:-1])
        starts, ends = edges[::2], edges[1::2]  # the last byte is a blank
        sums = np.zeros(len(piece) + 1, np.uint64)
        np.cumsum(piece * self._powers[: len(piece)], out=sums[1:])
        keys = (sums[ends] - sums[starts]) * self._inverses[starts]
        return starts + offset, ends + offset, keys

    def _look_up(self, keys: Hashes, starts: _Places, ends: _Places, joined: bytes) -> Hashes:
        slots = (keys * _MULTIPLIER >> np.uint64(64 - _WORD_SLOT_BITS)).view(np.int64)
        numbers = self._slots[slots]
        unknown = np.flatnonzero(self._keys[numbers] != keys)
        if len(unknown):
            new, first, inverse = np.unique(keys[unknown], return_index=True, return_inverse=True)
            at = unknown[first]
            given = [
                self._number(key, joined, start, end)
                for key, start, end in zip(new.tolist(), starts[at].tolist(), ends[at].tolist(), strict=True)
            ]
            numbers[unknown] = np.array(given, np.int32)[inverse]
            self._slots[slots[unknown]] = numbers[unknown]
        return self._hashes[numbers]

    def _number(self, key: int, joined: bytes, start: int, end: int) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            if number == len(self._keys):
                self._keys = np.concatenate([self._keys, np.zeros_like(self._keys)])
                self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._keys[number], self._hashes[number] = key, _hash_word(joined[start:end])
        return number


def _hash_word(word: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")


def shingle_sets(texts: Sequence[Hashes], size: int) -> list[Hashes]:
    """Return the distinct shingles of `size` words of each of some texts, hashed and in order.

    A shorter text is one shingle.
    """
    sets = [_one_shingle(words) if len(words) < size else words for words in texts]
    long = [n for n, words in enumerate(texts) if len(words) >= size]
    if not long:
        return sets
    words = np.concatenate([texts[n] for n in long])
    hashed = np.zeros(len(words) - size + 1, np.uint64)
    for n in range(size):
        hashed *= _MULTIPLIER
        hashed += words[n : n + len(hashed)]
    ends = np.cumsum([len(texts[n]) for n in long])
    starts = ends - [len(texts[n]) for n in long]
    for start, end in zip(starts.tolist(), (ends - size + 1).tolist(), strict=True):
        hashed[start:end].sort()
    is_new = np.ones(len(hashed), np.bool_)
    np.not_equal(hashed[1:], hashed[:-1], out=is_new[1:])
    is_new[starts] = True
    for n in range(1, size):  # runs that reach into the next text
        is_new[ends[:-1] - n] = False
    borders = np.cumsum([0, *np.add.reduceat(is_new, starts, dtype=np.int64).tolist()]).tolist()
    distinct = hashed[is_new]
    for n, (start, end) in zip(long, pairwise(borders), strict=True):
        sets[n] = distinct[start:end]
    return sets


def _one_shingle(words: Hashes) -> Hashes:
    shingle = np.zeros(1, np.uint64)
    for word in words:
        shingle = shingle * _MULTIPLIER + word
    return shingle


class Comparer:
    """Jaccard similarities of one set of hashes with each of some others.

    A set is laid out in slots by the upper bits of its hashes, so that a member of another set is found by one look.
    """

    def __init__(self) -> None:
        self._empty = (np.arange(_SLOTS, dtype=np.uint64) ^ np.uint64(1)) << np.uint64(48)  # what would not stand there
        self._slots = self._empty.copy()

    def similarities(self, own: Hashes, others: Sequence[Hashes]) -> list[float]:
        """Return them in order; sets are sorted and without repeats."""
        if not others:
            return []
        sizes = np.fromiter(map(len, others), np.int64, len(others))
        is_shared = self._in(own, np.concatenate(others))
        shared = np.add.reduceat(is_shared, np.cumsum(sizes) - sizes, dtype=np.int64)
        similarities: list[float] = (shared / (len(own) + sizes - shared)).tolist()
        return similarities

    def _in(self, own: Hashes, every: Hashes) -> NDArray[np.bool_]:
        """Tell which of some hashes are in a set."""
        found: NDArray[np.bool_]
        if len(own) > _MAX_IN_SLOTS:
            found = own[np.minimum(np.searchsorted(own, every), len(own) - 1)] == every
            return found
        at = _slots_of(own)
        self._slots[at] = own
        found = self._slots.take(_slots_of(every), mode="clip") == every
        for lost in own[self._slots[at] != own].tolist():  # another took its slot
            found |= every == np.uint64(lost)
        self._slots[at] = self._empty[at]
        return found


def _slots_of(hashes: Hashes) -> NDArray[np.int64]:
    slots: NDArray[np.int64] = (hashes >> np.uint64(48)).view(np.int64)
    return slots
