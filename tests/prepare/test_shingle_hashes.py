"""Hashed words and shingles, their comparison, and the bands by which candidates are found: each beside the plain way."""

from __future__ import annotations

import hashlib
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwise.prepare.bands import BandIndex
from fieldwise.prepare.duplicates import DuplicateFinder
from fieldwise.prepare.settings import DuplicateSettings
from fieldwise.prepare.shingle_hashes import Comparer, WordHasher, shingle_sets
from fieldwise.shingles import WORD, shingles


def word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def expected(text: str) -> list[int]:
    return [word_hash(word) for word in WORD.findall(text.casefold())]


TEXTS = st.lists(st.text("ab_9 .,\n\x00\x7fAÄß药-−≥5", max_size=60), max_size=12)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_words_hash_to_the_same_whether_looked_up_together_or_alone(texts: list[str]) -> None:
    hashed = WordHasher().hash_texts(texts)
    assert [own.words.tolist() for own in hashed] == [expected(text) for text in texts]


def test_words_longer_than_a_piece_and_texts_of_many_pieces_lose_nothing() -> None:
    chance = random.Random(5)
    many = " ".join(f"w{chance.randrange(9000)}" for _ in range(40_000))
    texts = [many, "x" * 200_000 + " end", "", "short", "y" * 65_535 + " z" * 9 + "q" * 65_536]
    hashed = WordHasher().hash_texts(texts)
    assert [own.words.tolist() for own in hashed] == [expected(text) for text in texts]


def test_words_that_share_a_slot_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldwise.prepare.word_table._SLOT_BITS", 2)
    texts = [" ".join(f"word{n % 40}" for n in range(start, start + 90)) for start in range(5)]
    hasher = WordHasher()
    for _ in range(2):
        assert [own.words.tolist() for own in hasher.hash_texts(texts)] == [expected(text) for text in texts]


def test_a_store_of_words_that_is_full_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldwise.prepare.shingle_hashes._MAX_KNOWN_WORDS", 3)
    hasher = WordHasher()
    for text in ("a b c d", "e f g h a", "ä b c d", "é f g h ä", "a b"):
        assert hasher.hash_texts([text])[0].words.tolist() == expected(text)


def test_signs_count_for_exact_repeats_alone() -> None:
    plain, signed = WordHasher().hash_texts(["keep at 5 degrees", "keep at -5 degrees"])
    assert plain.words.tolist() == signed.words.tolist() == plain.exact.tolist()
    assert signed.exact.tolist() == [word_hash(token) for token in ("keep", "at", "-", "5", "degrees")]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab ", max_size=40), min_size=1, max_size=8), st.integers(1, 4))
def test_sets_hold_each_shingle_once_and_none_of_two_texts(texts: list[str], size: int) -> None:
    words = [own.words for own in WordHasher().hash_texts(texts)]
    sets = shingle_sets(words, size)
    assert [len(own) for own in sets] == [len(shingles(text, size)) for text in texts]
    assert all(a < b for own in sets for a, b in pairwise(own.tolist()))
    alone = [shingle_sets([own], size)[0].tolist() for own in words]
    assert [own.tolist() for own in sets] == alone


@pytest.mark.parametrize("size", [1, 30, 2048, 2049, 9000])
def test_similarities_are_those_of_sets(size: int) -> None:
    chance = np.random.default_rng(size)

    def made(count: int) -> np.ndarray:
        values = chance.integers(0, 2**64, count, np.uint64)
        values[::7] &= np.uint64(0xFFFF00000000000F)  # few lower bits: some are in both
        values[::5] &= np.uint64(0x0003FFFFFFFFFFFF)  # few upper bits: some share a slot
        return np.unique(values)

    own = made(size)
    others = [own, *(np.unique(np.concatenate([own[:: n + 1], made(size)])) for n in range(4)), np.zeros(1, np.uint64)]
    truth = [len({*own.tolist()} & {*o.tolist()}) / len({*own.tolist()} | {*o.tolist()}) for o in others]
    comparer = Comparer()
    assert comparer.similarities(own, others) == truth
    assert comparer.similarities(others[1], [own]) == [truth[1]]  # nothing is left of the set before
    assert comparer.similarities(own, []) == []


@pytest.mark.parametrize("limits", [(1 << 24, 1 << 22), (40, 3)])
def test_bands_propose_the_earlier_signatures_that_share_one(
    limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldwise.prepare.bands._MOST_MARKS", limits[0])
    monkeypatch.setattr("fieldwise.prepare.bands._MOST_FOUND", limits[1])
    signatures = np.random.default_rng(3).integers(0, 3, (90, 16), np.uint32)
    index = BandIndex(4)
    found: list[list[int]] = []
    for start, end in pairwise([0, 1, 3, 40, 41, 90]):
        found += [numbers.tolist() for numbers in index.add(signatures[start:end])]
    bands = signatures.reshape(90, 4, 4)
    truth = [[m for m in range(n) if (bands[m] == bands[n]).all(axis=1).any()] for n in range(90)]
    assert found == truth
    assert sum(map(len, truth)) > 50


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc ä-5", max_size=40), min_size=1, max_size=12), st.integers(1, 12))
def test_adding_many_at_once_finds_what_adding_one_by_one_finds(texts: list[str], at_once: int) -> None:
    documents = {str(n): text for n, text in enumerate(texts)}
    single = DuplicateFinder(DuplicateSettings(near_threshold=0.5), documents.__getitem__)
    many = DuplicateFinder(DuplicateSettings(near_threshold=0.5), documents.__getitem__)
    one_by_one = [single.add(*document) for document in documents.items()]
    parts = [list(documents.items())[n : n + at_once] for n in range(0, len(documents), at_once)]
    assert [verdict for part in parts for verdict in many.add_all(part)] == one_by_one
    assert many.groups() == single.groups()
