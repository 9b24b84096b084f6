"""Exact and near duplicates among documents.

Exact: the same letters, digits and signs of size in the same order. Near: MinHash over word shingles finds candidates
(Broder 1997), the Jaccard similarity of the shingle sets decides. With 128 permutations in 32 bands of 4 rows
a pair of similarity s becomes a candidate with probability 1 - (1 - s^4)^32: 0.87 at 0.5, 0.9998 at 0.7.

Texts made from a template give hundreds of candidates each. Of these the ones of too different a size cannot be near,
those whose signatures agree in too few places are passed over (one near pair in 36 at the threshold itself, one in
a million a tenth above it), and of each group that is known already one near member is enough.

Shingles are compared by 64 bits of hash: among a hundred million of them one collision is to be expected with
probability 3e-4, and it would move a similarity in its third decimal place.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.extras import require
from fieldwise.hashing import sha256_text
from fieldwise.prepare.settings import DuplicateSettings
from fieldwise.shingles import WORD

_PERMUTATIONS = 128
_SEED = 42
_DEVIATIONS = 2
_AT_ONCE = 32  # candidates compared before it is seen which groups are found
_MAX_KNOWN_WORDS = 1_000_000
_MAX_KEPT_BYTES = 256_000_000
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, its bits spread: the golden ratio times 2^64
_SIGN = re.compile(r"[-\u2212<>\u2264\u2265\u2260\u00b1](?:(?<![-\u2212])|(?<!\w[-\u2212])(?=\d))")  # "-5" is not "5"
_EXACT = re.compile(rf"{_SIGN.pattern}|{WORD.pattern}")
_SIGNS = frozenset("-\u2212<>\u2264\u2265\u2260\u00b1")
_TO_BLANKS = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}

_Hashes = NDArray[np.uint64]
_Signature = NDArray[np.uint32]


class NearPair(NamedTuple):
    """Two documents, the earlier first, and the Jaccard similarity of their shingles."""

    first: str
    second: str
    similarity: float


class Verdict(NamedTuple):
    """What is known of a document when it is added: the document it repeats exactly, or those it nearly repeats."""

    exact: str | None
    near: tuple[NearPair, ...] = ()


class DuplicateFinder:
    """Compares each document with those before it; `text_of` returns the text of an earlier one by its id."""

    def __init__(self, settings: DuplicateSettings, text_of: Callable[[str], str]) -> None:
        self._settings = settings
        self._text_of = text_of
        self._rensa: Any = require("rensa", extra="documents", to="find near-duplicates")
        threshold = settings.near_threshold
        bands = 32 if threshold >= 0.5 else 64
        self._band_salts = np.arange(1, bands + 1, dtype=np.uint64) * np.uint64(_MULTIPLIER)
        self._index: dict[int, list[int]] = {}
        deviation = math.sqrt(threshold * (1 - threshold) / _PERMUTATIONS)
        self._least_agreeing = _PERMUTATIONS * (threshold - _DEVIATIONS * deviation)
        self._hashes_of_words = _WordHashes()
        self._signatures = np.zeros((256, _PERMUTATIONS), np.uint32)
        self._sizes = np.zeros(256, np.int64)
        self._ids: list[str] = []
        self._kept: dict[int, _Hashes] = {}
        self._kept_bytes = 0
        self._by_hash: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._order: dict[str, int] = {}

    def add(self, identifier: str, text: str) -> Verdict:
        """Compare a document with the earlier ones and put it in the group of those it repeats."""
        self._parents[identifier] = identifier
        self._order[identifier] = len(self._order)
        tokens = _exact_tokens(text)
        key = sha256_text(" ".join(tokens))
        if key in self._by_hash:
            self._join(self._by_hash[key], identifier)
            return Verdict(self._by_hash[key])
        self._by_hash[key] = identifier
        near = self._compare(identifier, self._hashed(tokens))
        for pair in near:
            self._join(pair.first, identifier)
        return Verdict(None, tuple(near))

    def _compare(self, identifier: str, own: _Hashes) -> list[NearPair]:
        """Return the earlier documents a new one nearly repeats, of each group the one most like it, and take it in."""
        matrix: Any = self._rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            own, [0, len(own)], _PERMUTATIONS, _SEED
        )
        signature = np.array(matrix.to_rows()[0], np.uint32)
        number = len(self._ids)
        best: dict[str, NearPair] = {}
        waiting = self._likely(signature, len(own), self._proposed(signature, number))
        while waiting:
            at_once, waiting, known = waiting[:_AT_ONCE], waiting[_AT_ONCE:], len(best)
            similarities = _jaccards(own, [self._shingles_of(n) for n in at_once])
            for n, similarity in zip(at_once, similarities, strict=True):
                if similarity >= self._settings.near_threshold:
                    root = self._root(self._ids[n])
                    if root not in best or similarity > best[root].similarity:
                        best[root] = NearPair(self._ids[n], identifier, similarity)
            if len(best) > known:
                waiting = [n for n in waiting if self._root(self._ids[n]) not in best]
        self._take_in(identifier, signature, own)
        return sorted(best.values(), key=lambda pair: self._order[pair.first])

    def _proposed(self, signature: _Signature, number: int) -> list[int]:
        """The documents that share a band with a new one, which is entered under each of its bands."""
        halves = signature.view(np.uint64).reshape(len(self._band_salts), -1)
        keys = self._band_salts.copy()
        for column in halves.T:
            keys = (keys ^ column) * np.uint64(_MULTIPLIER)
            keys ^= keys >> np.uint64(29)
        proposed: set[int] = set()
        for key in keys.tolist():
            numbers = self._index.setdefault(key, [])
            proposed.update(numbers)
            numbers.append(number)
        return sorted(proposed)

    def _likely(self, signature: _Signature, size: int, proposed: list[int]) -> list[int]:
        """Those of them that may be near by size and signature, the ones that agree in most places first."""
        candidates = np.array(proposed, np.int64)
        sizes = self._sizes[candidates]
        ratio = np.minimum(sizes, size) / np.maximum(sizes, size)
        candidates = candidates[ratio >= self._settings.near_threshold]
        agreeing = (self._signatures[candidates] == signature).sum(axis=1)
        enough = agreeing >= self._least_agreeing
        order = np.argsort(-agreeing[enough], kind="stable")
        likely: list[int] = candidates[enough][order].tolist()
        return likely

    def _take_in(self, identifier: str, signature: _Signature, own: _Hashes) -> None:
        number = len(self._ids)
        if number == len(self._sizes):
            self._signatures = np.concatenate([self._signatures, np.zeros_like(self._signatures)])
            self._sizes = np.concatenate([self._sizes, np.zeros_like(self._sizes)])
        self._signatures[number], self._sizes[number] = signature, len(own)
        self._ids.append(identifier)
        self._keep(number, own)

    def _hashed(self, tokens: Sequence[str]) -> _Hashes:
        """The distinct shingles of a text, hashed, in order."""
        words = [token for token in tokens if token not in _SIGNS]
        hashes = np.fromiter(map(self._hashes_of_words.__getitem__, words), np.uint64, len(words))
        size = max(1, min(self._settings.shingle_words, len(words)))
        shingled = np.zeros(max(1, len(words) - size + 1), np.uint64)
        for n in range(size if words else 0):
            shingled = shingled * np.uint64(_MULTIPLIER) + hashes[n : n + len(shingled)]
        shingled.sort()
        return shingled[np.concatenate(([True], shingled[1:] != shingled[:-1]))]

    def _shingles_of(self, number: int) -> _Hashes:
        found = self._kept.get(number)
        if found is None:
            found = self._hashed(_exact_tokens(self._text_of(self._ids[number])))
            self._keep(number, found)
        return found

    def _keep(self, number: int, hashes: _Hashes) -> None:
        """The shingles made last stay in memory; those of others are made anew from their text."""
        self._kept[number] = hashes
        self._kept_bytes += hashes.nbytes
        while self._kept_bytes > _MAX_KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.pop(next(iter(self._kept))).nbytes

    def groups(self) -> dict[str, str]:
        """Return the group of every document: the id of its first member."""
        return {identifier: self._root(identifier) for identifier in self._parents}

    def _root(self, identifier: str) -> str:
        while self._parents[identifier] != identifier:
            identifier = self._parents[identifier]
        return identifier

    def _join(self, first: str, second: str) -> None:
        earlier, later = sorted((self._root(first), self._root(second)), key=self._order.__getitem__)
        self._parents[later] = earlier


class _WordHashes(dict[str, int]):
    """64 bits of hash for each word, the same on every machine; each word is hashed once."""

    def __missing__(self, word: str) -> int:
        if len(self) > _MAX_KNOWN_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return self.setdefault(word, int.from_bytes(digest, "little"))


def _exact_tokens(text: str) -> list[str]:
    """The words of a text and the signs that turn them round."""
    folded = text.casefold()
    if folded.isascii() and _SIGN.search(folded) is None:
        return folded.translate(_TO_BLANKS).split()  # the same, four times as fast
    return _EXACT.findall(folded)


def _jaccards(own: _Hashes, others: Sequence[_Hashes]) -> list[float]:
    """The similarity of one sorted set of hashes with each of some others."""
    if not others:
        return []
    every = np.concatenate(others)
    places = np.minimum(np.searchsorted(own, every), len(own) - 1)
    starts = np.cumsum([0, *(len(other) for other in others[:-1])])
    shared = np.add.reduceat((own[places] == every).astype(np.int64), starts)
    return [int(s) / (len(own) + len(other) - int(s)) for s, other in zip(shared, others, strict=True)]
