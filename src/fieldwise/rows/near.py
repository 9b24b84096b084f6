"""Texts that are nearly the same, by their MinHash signatures, whose agreement estimates the similarity.

Prepare compares the shingles themselves. Rows of one template make thousands of candidates each, and that took
four minutes for 5,458 of them; the estimate is right to about 0.04.
"""

from __future__ import annotations

from collections.abc import Iterable
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
        made.update(sorted(shingles(text, SHINGLE_WORDS)))
        return Signature(made, np.asarray(made.digest(), np.uint32))

    def alike(self, signature: Signature) -> list[int]:
        """Return the numbers of the inserted texts that are nearly the same."""
        candidates = np.asarray(sorted(self._index.query(signature.hash))[:_MAX_CANDIDATES], np.int64)
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


def near_groups(texts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the group of each named text, the name of its first member; nearly equal texts share a group.

    `texts` are (name, text); a chain of near-duplicates is one group, though its ends differ.
    """
    finder, names = NearFinder(), list[str]()
    parents: dict[str, str] = {}
    order: dict[str, int] = {}
    exact: dict[str, str] = {}

    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    def join(first: str, second: str) -> None:
        earlier, later = sorted((root(first), root(second)), key=order.__getitem__)
        parents[later] = earlier

    for name, text in texts:
        if name in parents:
            raise AssertionError(f"{name} stands twice")
        parents[name], order[name] = name, len(order)
        plain = " ".join(text.casefold().split())
        if plain in exact:
            join(exact[plain], name)
            continue
        exact[plain] = name
        signature = finder.signature(text)
        found = finder.alike(signature)
        for number in found:
            join(names[number], name)
        if len(found) < _ENOUGH_ALIKE:
            finder.insert(signature)
            names.append(name)
    return {name: root(name) for name in parents}
