"""What splits share: the same prompt, near-duplicates, and runs of eight words.

Held-out rows are read before training rows, so that memory holds the runs of the small splits only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.extras import require
from fieldwise.hashing import sha256_text
from fieldwise.prepare.duplicates import shingles
from fieldwise.prepare.settings import DuplicateSettings

NGRAM_WORDS = 8
SAME_SHARE = 0.8
"""A held-out row of which so large a share of runs stands in training says nothing about what was learnt."""
_WORD = re.compile(r"\w+")


class NgramOverlap(NamedTuple):
    """How much of a held-out split stands in the training rows; rows without eight words in a row are not counted."""

    ngrams: int
    found: int
    rows: int
    same_rows: list[str]

    @property
    def share(self) -> float:
        """The share of the split's runs of words that training holds."""
        return self.found / self.ngrams if self.ngrams else 0.0


class Overlap:
    """Compares rows as they come; call `add` for held-out splits before `train`."""

    def __init__(self) -> None:
        self._by_text: dict[str, str] = {}
        self._near = _NearFinder()
        self._prompts: dict[str, set[str]] = {}
        self._answers: dict[str, set[str]] = {}
        self._held: dict[str, dict[str, frozenset[int]]] = {}
        self._searched: set[int] = set()
        self._found: set[int] = set()
        self.exact: list[str] = []
        self.near: list[str] = []
        self.shared_prompts: list[str] = []
        self.near_across: list[str] = []
        self.contradictions: list[str] = []

    def add(self, split: str, place: str, prompt: str, answer: str, text: str) -> None:
        """Compare a row with those before it."""
        self._add_prompt(split, place, prompt, answer)
        self._add_text(split, place, text)
        grams = set(ngrams(f"{prompt}\n{answer}"))
        if split in ("validation", "test"):
            self._held.setdefault(split, {})[place] = frozenset(grams)
            self._searched |= grams
        elif split == "train":
            self._found |= grams & self._searched

    def ngram_overlap(self) -> dict[str, NgramOverlap]:
        """Return, for each held-out split, what of it stands in the training rows."""
        result = {}
        for split, held in self._held.items():
            known = {place: grams for place, grams in held.items() if grams}
            every = frozenset[int]().union(*known.values())
            same = [p for p, grams in known.items() if len(grams & self._found) >= SAME_SHARE * len(grams)]
            result[split] = NgramOverlap(len(every), len(every & self._found), len(known), same)
        return result

    def _add_prompt(self, split: str, place: str, prompt: str, answer: str) -> None:
        key = sha256_text(_plain(prompt))
        splits = self._prompts.setdefault(key, set())
        if splits - {split}:
            self.shared_prompts.append(place)
        splits.add(split)
        answers = self._answers.setdefault(key, set())
        answers.add(sha256_text(_plain(answer))[:16])
        if len(answers) > 1:
            self.contradictions.append(place)

    def _add_text(self, split: str, place: str, text: str) -> None:
        key = sha256_text(_plain(text))
        if (earlier := self._by_text.get(key)) is not None:
            (self.exact if earlier == split else self.near_across).append(place)
            return
        self._by_text[key] = split
        others = self._near.add(split, text)
        if split in others:
            self.near.append(place)
        if others - {split}:
            self.near_across.append(place)


class _NearFinder:
    """Finds texts that are nearly the same by their MinHash signatures, whose agreement estimates the similarity.

    Prepare compares the shingles themselves. Rows of one template make thousands of candidates each, and that took
    four minutes for 5,458 of them; the estimate is right to about 0.04.
    """

    _PERMUTATIONS, _BANDS, _SEED = 128, 32, 42
    _MAX_CANDIDATES = 1000

    def __init__(self) -> None:
        self._rensa: Any = require("rensa", extra="documents", to="find near-duplicates")
        self._settings = DuplicateSettings()
        self._index: Any = self._rensa.RMinHashLSH(
            threshold=self._settings.near_threshold, num_perm=self._PERMUTATIONS, num_bands=self._BANDS
        )
        self._splits: list[str] = []
        self._signatures: NDArray[np.uint32] = np.zeros((1024, self._PERMUTATIONS), np.uint32)

    def add(self, split: str, text: str) -> set[str]:
        """Return the splits that hold a text nearly the same as this one."""
        signature: Any = self._rensa.RMinHash(num_perm=self._PERMUTATIONS, seed=self._SEED)
        signature.update(sorted(shingles(text, self._settings.shingle_words)))
        own = np.asarray(signature.digest(), np.uint32)
        candidates = np.asarray(sorted(self._index.query(signature))[: self._MAX_CANDIDATES], np.int64)
        alike = (self._signatures[candidates] == own).mean(axis=1) >= self._settings.near_threshold
        found = {self._splits[n] for n in candidates[alike]}
        if split not in found:  # a repeat need not be found again: what is like it is like the first as well
            self._insert(split, signature, own)
        return found

    def _insert(self, split: str, signature: Any, own: NDArray[np.uint32]) -> None:
        number = len(self._splits)
        if number == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.zeros_like(self._signatures)])
        self._signatures[number] = own
        self._splits.append(split)
        self._index.insert(number, signature)


def ngrams(text: str) -> Iterator[int]:
    """Yield a number for each run of eight words of a text, upper and lower case alike."""
    words = _WORD.findall(text.casefold())
    return map(hash, zip(*(words[k:] for k in range(NGRAM_WORDS)), strict=False))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
