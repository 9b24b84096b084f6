"""Texts that are nearly the same, by their MinHash signatures, whose agreement estimates the similarity.

Prepare compares the shingles themselves. Rows of one template make thousands of candidates each, and that took
four minutes for 5,458 of them; the estimate is right to about 0.04.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.extras import require
from fieldwise.shingles import shingles

THRESHOLD, SHINGLE_WORDS = 0.7, 3  # as prepare.duplicates at its default
_PERMUTATIONS, _BANDS, _SEED = 128, 32, 42
_MAX_CANDIDATES = 1000


class Signature(NamedTuple):
    """The MinHash of a text, for the index and as numbers."""

    hash: Any
    digest: NDArray[np.uint32]


class NearFinder:
    """Compares texts with those inserted before; the first that is inserted is number 0."""

    def __init__(self) -> None:
        self._rensa: Any = require("rensa", extra="documents", to="find near-duplicates")
        self._index: Any = self._rensa.RMinHashLSH(threshold=THRESHOLD, num_perm=_PERMUTATIONS, num_bands=_BANDS)
        self._count = 0
        self._signatures: NDArray[np.uint32] = np.zeros((1024, _PERMUTATIONS), np.uint32)

    def signature(self, text: str) -> Signature:
        """Return what a text is compared by."""
        made: Any = self._rensa.RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        made.update(list(shingles(text, SHINGLE_WORDS)))  # their order changes no minimum
        return Signature(made, np.asarray(made.digest(), np.uint32))

    def alike(self, signature: Signature) -> list[int]:
        """Return the numbers of the inserted texts that are nearly the same."""
        found = self._index.query(signature.hash)
        if not found:
            return []
        candidates = np.asarray(sorted(found)[:_MAX_CANDIDATES], np.int64)
        same = (self._signatures[candidates] == signature.digest).mean(axis=1) >= THRESHOLD
        return [int(n) for n in candidates[same]]

    def insert(self, signature: Signature) -> int:
        """Keep a text to compare others with; returns its number."""
        number = self._count
        if number == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.zeros_like(self._signatures)])
        self._signatures[number] = signature.digest
        self._count += 1
        self._index.insert(number, signature.hash)
        return number


_ENOUGH_ALIKE = 32
"""A text that is like so many is not kept to compare with: what is like it is like one of them."""


class NearGroups:
    """Puts named texts that are nearly the same into one group; a chain of them is one, though its ends differ."""

    def __init__(self) -> None:
        self._finder, self._inserted = NearFinder(), list[str]()
        self._parents: dict[str, str] = {}
        self._exact: dict[str, str] = {}

    def add(self, name: str, text: str) -> None:
        """Add a text and join it with those it is like."""
        self._parents[name] = name
        plain = _plain(text)
        if plain in self._exact:
            self.join(self._exact[plain], name)
            return
        self._exact[plain] = name
        signature = self._finder.signature(text)
        found = self._finder.alike(signature)
        for number in found:
            self.join(self._inserted[number], name)
        if len(found) < _ENOUGH_ALIKE:
            self._finder.insert(signature)
            self._inserted.append(name)

    def join(self, first: str, second: str) -> None:
        """Put two texts into one group for another reason."""
        self._parents[self.group(second)] = self.group(first)

    def group(self, name: str) -> str:
        """Return the name that stands for a text's group."""
        while self._parents[name] != name:
            self._parents[name] = self._parents[self._parents[name]]
            name = self._parents[name]
        return name

    def like(self, text: str) -> set[str]:
        """Return the groups that hold a text nearly the same as this one, which is not added."""
        found = {self._inserted[n] for n in self._finder.alike(self._finder.signature(text))}
        if (same := self._exact.get(_plain(text))) is not None:
            found.add(same)
        return {self.group(name) for name in found}


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
