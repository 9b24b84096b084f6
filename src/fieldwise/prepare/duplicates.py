"""Exact and near duplicates among documents.

Exact: the same letters, digits and signs of size in the same order. Near: MinHash over word shingles finds candidates
(Broder 1997), the Jaccard similarity of the shingle sets decides. With 128 permutations in 32 bands of 4 rows
a pair of similarity s becomes a candidate with probability 1 - (1 - s^4)^32: 0.87 at 0.5, 0.9998 at 0.7.

Texts made from a template give hundreds of candidates each. Of these the ones of too different a size cannot be near,
those whose signatures agree in too few places are passed over (one near pair in 36 at the threshold itself, one in
a million a tenth above it), and of each group that is known already one near member is enough.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.extras import require
from fieldwise.prepare.bands import BandIndex
from fieldwise.prepare.settings import DuplicateSettings
from fieldwise.prepare.shingle_hashes import Comparer, Hashes, WordHasher, shingle_sets

AT_ONCE = 512
"""How many documents are best added in one call."""

_PERMUTATIONS = 128
_SEED = 42
_DEVIATIONS = 2
_COMPARED = 32  # candidates compared before it is seen which groups are found
_MAX_KEPT_BYTES = 256_000_000
_LANES = np.uint64(0x0101010101010101)

_Signatures = NDArray[np.uint32]
_Numbers = NDArray[np.int64]


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
        self._index = BandIndex(32 if threshold >= 0.5 else 64)
        deviation = math.sqrt(threshold * (1 - threshold) / _PERMUTATIONS)
        self._least_agreeing = _PERMUTATIONS * (threshold - _DEVIATIONS * deviation)
        self._hasher = WordHasher()
        self._comparer = Comparer()
        self._signatures = np.zeros((256, _PERMUTATIONS), np.uint16)  # the lower half of each place tells as much
        self._sizes = np.zeros(256, np.int64)
        self._places = np.zeros(256, np.int64)
        self._ids: list[str] = []
        self._kept: dict[int, Hashes] = {}
        self._kept_bytes = 0
        self._by_hash: dict[bytes, str] = {}
        self._groups = _Groups()

    def add(self, identifier: str, text: str) -> Verdict:
        """Compare a document with the earlier ones and put it in the group of those it repeats."""
        return self.add_all([(identifier, text)])[0]

    def add_all(self, documents: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Add documents one after the other; for hundreds in one call that is several times as fast, with the same result."""
        exact: list[str | None] = []
        new: list[tuple[str, Hashes]] = []
        for (identifier, _), hashed in zip(
            documents, self._hasher.hash_texts([text for _, text in documents]), strict=True
        ):
            first = self._by_hash.setdefault(hashlib.sha256(hashed.exact.tobytes()).digest(), identifier)
            exact.append(None if first == identifier else first)
            if first == identifier:
                new.append((identifier, hashed.words))
        candidates = self._enter(new) if new else iter(())
        verdicts: list[Verdict] = []
        for (identifier, _), first_of_it in zip(documents, exact, strict=True):
            self._groups.add(identifier)
            if first_of_it is not None:
                self._groups.join(first_of_it, identifier)
                verdicts.append(Verdict(first_of_it))
            else:
                number, earlier = next(candidates)
                self._places[number] = self._groups.place(identifier)
                near = self._near(number, earlier)
                for pair in near:
                    self._groups.join(pair.first, identifier)
                verdicts.append(Verdict(None, tuple(near)))
        return verdicts

    def _enter(self, documents: Sequence[tuple[str, Hashes]]) -> Iterator[tuple[int, _Numbers]]:
        """Number documents, given by their words, and yield the candidates of each among the earlier ones."""
        first = len(self._ids)
        sets = shingle_sets([words for _, words in documents], self._settings.shingle_words)
        offsets = [0, *np.cumsum([len(own) for own in sets]).tolist()]
        matrix: Any = self._rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            np.concatenate(sets), offsets, _PERMUTATIONS, _SEED
        )
        signatures = np.array(matrix.to_rows(), np.uint32)
        while first + len(documents) > len(self._sizes):
            self._signatures = np.concatenate([self._signatures, np.zeros_like(self._signatures)])
            self._sizes = np.concatenate([self._sizes, np.zeros_like(self._sizes)])
            self._places = np.concatenate([self._places, np.zeros_like(self._places)])
        self._signatures[first : first + len(documents)] = signatures & 0xFFFF
        for number, ((identifier, _), own) in enumerate(zip(documents, sets, strict=True), first):
            self._sizes[number] = len(own)
            self._ids.append(identifier)
            self._keep(number, own)
        return zip(count(first), self._index.add(signatures), strict=False)

    def _near(self, number: int, candidates: _Numbers) -> list[NearPair]:
        """Return the earlier documents one nearly repeats, of each group the one most like it."""
        waiting = self._likely(number, candidates)
        best: dict[int, NearPair] = {}
        while len(waiting):
            at_once = waiting[:_COMPARED].tolist()
            waiting = waiting[_COMPARED:]
            similarities = self._comparer.similarities(
                self._shingles_of(number), [self._shingles_of(n) for n in at_once]
            )
            found = []
            for n, similarity in zip(at_once, similarities, strict=True):
                if similarity >= self._settings.near_threshold:
                    group = self._groups.of(self._ids[n])
                    if group not in best or similarity > best[group].similarity:
                        found += [group] if group not in best else []
                        best[group] = NearPair(self._ids[n], self._ids[number], similarity)
            if len(waiting) and found:
                groups = self._groups.of_places[self._places[waiting]]
                for group in found:
                    waiting, groups = waiting[groups != group], groups[groups != group]
        return sorted(best.values(), key=lambda pair: self._groups.place(pair.first))

    def _likely(self, number: int, candidates: _Numbers) -> _Numbers:
        """Those of some candidates that may be near by size and signature, the ones that agree in most places first."""
        if not len(candidates):
            return candidates
        size, sizes = self._sizes[number], self._sizes[candidates]
        candidates = candidates[np.minimum(sizes, size) / np.maximum(sizes, size) >= self._settings.near_threshold]
        equal = (self._signatures[candidates] == self._signatures[number]).view(np.uint64)
        agreeing = (equal.sum(axis=1) * _LANES >> np.uint64(56)).astype(np.int16)  # a byte of each sum holds 16 at most
        enough = agreeing >= self._least_agreeing
        order = np.argsort(-agreeing[enough], kind="stable")
        likely: _Numbers = candidates[enough][order]
        return likely

    def _shingles_of(self, number: int) -> Hashes:
        found = self._kept.get(number)
        if found is None:
            (hashed,) = self._hasher.hash_texts([self._text_of(self._ids[number])])
            (found,) = shingle_sets([hashed.words], self._settings.shingle_words)
            self._keep(number, found)
        return found

    def _keep(self, number: int, hashes: Hashes) -> None:
        """The shingles made last stay in memory; those of others are made anew from their text."""
        self._kept[number] = hashes
        self._kept_bytes += hashes.nbytes
        while self._kept_bytes > _MAX_KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.pop(next(iter(self._kept))).nbytes

    def join(self, first: str, second: str) -> None:
        """Put two documents that were added into one group, for another reason than their words."""
        self._groups.join(first, second)

    def groups(self) -> dict[str, str]:
        """Return the group of every document: the id of its first member."""
        return self._groups.first_members()


class _Groups:
    """Which documents belong together, by their place in the order of all; of two groups that join the smaller goes."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._members: dict[int, list[int]] = {}
        self.of_places = np.zeros(256, np.int64)
        """The group of the document at each place."""

    def add(self, identifier: str) -> None:
        place = self._places.setdefault(identifier, len(self._places))
        if place == len(self.of_places):
            self.of_places = np.concatenate([self.of_places, np.zeros_like(self.of_places)])
        self.of_places[place] = place
        self._members[place] = [place]

    def place(self, identifier: str) -> int:
        return self._places[identifier]

    def of(self, identifier: str) -> int:
        return int(self.of_places[self._places[identifier]])

    def join(self, first: str, second: str) -> None:
        groups = {self.of(first), self.of(second)}
        if len(groups) == 1:
            return
        small, large = sorted(groups, key=lambda group: len(self._members[group]))
        moved = self._members.pop(small)
        self.of_places[moved] = large
        self._members[large] += moved

    def first_members(self) -> dict[str, str]:
        identifiers = list(self._places)
        first = {group: identifiers[min(members)] for group, members in self._members.items()}
        return {identifier: first[int(self.of_places[place])] for identifier, place in self._places.items()}
