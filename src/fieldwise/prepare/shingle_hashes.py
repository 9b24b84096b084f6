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

from fieldwise.prepare.word_table import Values, WordTable, word_keys
from fieldwise.shingles import WORD

_MAX_KNOWN_WORDS = 1_000_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits spread: the golden ratio times 2^64
_SIGN = re.compile(r"[-\u2212<>\u2264\u2265\u2260\u00b1](?:(?<![-\u2212])|(?<!\w[-\u2212])(?=\d))")  # "-5" is not "5"
_EXACT = re.compile(rf"{_SIGN.pattern}|{WORD.pattern}")
_SIGNS = frozenset("-\u2212<>\u2264\u2265\u2260\u00b1")
_BLANK = ord(" ")
_TO_BLANKS = bytes(code if chr(code).isalnum() or chr(code) == "_" else _BLANK for code in range(128)) + bytes(128)
_SLOTS = 1 << 16
_MAX_IN_SLOTS = 1 << 11

Hashes = NDArray[np.uint64]


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
    """Words of ASCII texts, found and hashed for many texts at once."""

    def __init__(self) -> None:
        self._table, self._hashes = WordTable(), Values(np.uint64)

    def hash_texts(self, texts: Sequence[bytes]) -> Iterator[Hashes]:
        """Yield the words of each of some texts in lower case."""
        if len(self._table) > _MAX_KNOWN_WORDS:
            self._table, self._hashes = WordTable(), Values(np.uint64)
        joined = b" ".join([*texts, b""]).translate(_TO_BLANKS)
        codes = np.frombuffer(joined, np.uint8)
        is_letter = np.zeros(len(codes) + 1, np.bool_)
        np.not_equal(codes, _BLANK, out=is_letter[1:])
        edges = np.flatnonzero(is_letter[1:] != is_letter[:-1])
        starts, ends = edges[::2], edges[1::2]  # the last byte is a blank
        numbers, new = self._table.numbers(word_keys(codes, starts, ends))
        self._hashes.extend([_hash_word(joined[starts[n] : ends[n]]) for n in new])
        hashes = self._hashes.of(numbers)
        borders = np.cumsum([0, *(len(text) + 1 for text in texts)])
        for first, last in pairwise(np.searchsorted(starts, borders).tolist()):
            yield hashes[first:last]


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
