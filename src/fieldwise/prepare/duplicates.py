"""Exact and near duplicates among documents.

Exact: the same letters, digits and signs of size in the same order. Near: MinHash over word shingles finds candidates
(Broder 1997), the Jaccard similarity of the shingle sets decides. With 128 permutations in 32 bands of 4 rows
a pair of similarity s becomes a candidate with probability 1 - (1 - s^4)^32: 0.87 at 0.5, 0.9998 at 0.7.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from fieldwise.extras import require
from fieldwise.hashing import sha256_text
from fieldwise.prepare.settings import DuplicateSettings
from fieldwise.shingles import WORD, jaccard, shingles

_PERMUTATIONS = 128
_SEED = 42
_EXACT = re.compile(rf"(?<!\w)[-\u2212](?=\d)|[<>\u2264\u2265\u2260\u00b1]|{WORD.pattern}")  # "-5" is not "5"


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
        self._rensa: Any = require("rensa", extra="documents", to="find near-duplicates")
        bands = 32 if settings.near_threshold >= 0.5 else 64
        self._index: Any = self._rensa.RMinHashLSH(
            threshold=settings.near_threshold, num_perm=_PERMUTATIONS, num_bands=bands
        )
        self._ids: list[str] = []
        self._by_hash: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._order: dict[str, int] = {}
        self._shingles_of = functools.lru_cache(maxsize=256)(
            lambda identifier: shingles(text_of(identifier), settings.shingle_words)
        )

    def add(self, identifier: str, text: str) -> Verdict:
        """Compare a document with the earlier ones and put it in the group of those it repeats."""
        self._parents[identifier] = identifier
        self._order[identifier] = len(self._order)
        key = sha256_text(" ".join(_EXACT.findall(text.casefold())))
        if key in self._by_hash:
            self._join(self._by_hash[key], identifier)
            return Verdict(self._by_hash[key])
        self._by_hash[key] = identifier
        own = shingles(text, self._settings.shingle_words)
        signature: Any = self._rensa.RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        signature.update(sorted(own))
        near = [
            NearPair(other, identifier, similarity)
            for n in sorted(self._index.query(signature))
            if (similarity := jaccard(own, self._shingles_of(other := self._ids[n]))) >= self._settings.near_threshold
        ]
        self._index.insert(len(self._ids), signature)
        self._ids.append(identifier)
        for pair in near:
            self._join(pair.first, identifier)
        return Verdict(None, tuple(near))

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
