"""What splits share: the same prompt, near-duplicates, and runs of eight words.

Held-out rows are read before training rows, so that memory holds the runs of the small splits only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from fieldwise.hashing import sha256_text
from fieldwise.rows.near import NearFinder

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
        self._near = NearFinder()
        self._near_splits: list[str] = []
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
        is_held = split in ("validation", "test")
        if not is_held and not self._searched:  # nothing is held out that these could give away
            return
        grams = set(ngrams(f"{prompt}\n{answer}"))
        if is_held:
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
        signature = self._near.signature(text)
        others = {self._near_splits[n] for n in self._near.alike(signature)}
        if split not in others:  # a repeat need not be found again: what is like it is like the first as well
            self._near.insert(signature)
            self._near_splits.append(split)
        if split in others:
            self.near.append(place)
        if others - {split}:
            self.near_across.append(place)


def ngrams(text: str) -> Iterator[int]:
    """Yield a number for each run of eight words of a text, upper and lower case alike."""
    words = _WORD.findall(text.casefold())
    return map(hash, zip(*(words[k:] for k in range(NGRAM_WORDS)), strict=False))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
