"""Duplicates, near-duplicates, languages and the counting of tokens."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fieldwise.errors import ModelError
from fieldwise.prepare.duplicates import DuplicateFinder
from fieldwise.prepare.language import detect_language
from fieldwise.prepare.settings import DuplicateSettings
from fieldwise.prepare.tokens import TokenCounter
from fieldwise.shingles import jaccard, shingles

WORDS = [f"word{n}" for n in range(400)]


def text(seed: int, length: int = 300) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def changed(original: str, share: float, seed: int = 7) -> str:
    """The text with a share of its words replaced."""
    chance = random.Random(seed)
    return " ".join(f"new{chance.randrange(99)}" if chance.random() < share else word for word in original.split())


def finder(texts: dict[str, str], threshold: float = 0.7) -> DuplicateFinder:
    return DuplicateFinder(DuplicateSettings(near_threshold=threshold), texts.__getitem__)


def test_the_same_words_in_other_dress_are_an_exact_duplicate() -> None:
    texts = {"a": "Ring the Bell -- twice!", "b": "ring the bell, twice", "c": "ring the bell once"}
    seen = finder(texts)
    assert [seen.add(name, words).exact for name, words in texts.items()] == [None, "a", None]
    assert seen.groups() == {"a": "a", "b": "a", "c": "c"}


@pytest.mark.parametrize(
    ("one", "other"), [("keep at -5 degrees", "keep at 5 degrees"), ("if ≥ 7 call", "if ≤ 7 call")]
)
def test_a_sign_that_turns_a_rule_round_makes_another_document(one: str, other: str) -> None:
    texts = {"a": one, "b": other}
    seen = finder(texts)
    assert [seen.add(name, words).exact for name, words in texts.items()] == [None, None]


def test_nearly_equal_documents_share_a_group_and_different_ones_do_not() -> None:
    texts = {
        "a": text(1),
        "b": text(2),
        "a2": changed(text(1), 0.03),
        "c": text(3),
        "a3": changed(text(1), 0.03, seed=8),
    }
    seen = finder(texts)
    near = {name: [(p.first, p.second) for p in seen.add(name, words).near] for name, words in texts.items()}
    assert near["a2"] == [("a", "a2")]
    assert ("a", "a3") in near["a3"]
    assert seen.groups() == {"a": "a", "b": "b", "a2": "a", "c": "c", "a3": "a"}


def test_planted_copies_are_found_and_their_similarity_is_the_true_one() -> None:
    texts: dict[str, str] = {}
    for n in range(60):
        texts[f"{n:02d}"] = text(n)
        texts[f"{n:02d} copy"] = changed(text(n), 0.04)
    seen = finder(texts, threshold=0.6)
    pairs = {pair.second: pair for name, words in texts.items() for pair in seen.add(name, words).near}
    truth = {f"{n:02d} copy": jaccard(shingles(text(n), 3), shingles(texts[f"{n:02d} copy"], 3)) for n in range(60)}
    assert {name: pair.similarity for name, pair in pairs.items()} == {name: s for name, s in truth.items() if s >= 0.6}
    assert len(pairs) > 50


def test_texts_from_templates_fall_into_their_groups_with_one_pair_for_each_text() -> None:
    texts = {f"{f}{n:02d}": changed(text(f), 0.01 + 0.005 * (n % 3), seed=n) for f in range(4) for n in range(40)}
    seen = finder(texts)
    pairs = [pair for name, words in texts.items() for pair in seen.add(name, words).near]
    assert seen.groups() == {name: f"{name[0]}00" for name in texts}
    assert len(pairs) == len(texts) - 4
    sets = {name: shingles(words, 3) for name, words in texts.items()}
    assert all(pair.similarity == jaccard(sets[pair.first], sets[pair.second]) >= 0.7 for pair in pairs)
    most_alike = {
        second: max(jaccard(sets[first], sets[second]) for first in texts if first < second)
        for second in (p.second for p in pairs)
    }
    assert sum(most_alike[pair.second] - pair.similarity < 0.05 for pair in pairs) > 0.9 * len(pairs)


def test_shingles_that_are_no_longer_kept_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldwise.prepare.duplicates._MAX_KEPT_BYTES", 100)
    texts = {f"{n}": text(n) for n in range(5)} | {"2 copy": changed(text(2), 0.03)}
    seen = finder(texts)
    near = [pair for name, words in texts.items() for pair in seen.add(name, words).near]
    assert [(pair.first, pair.second) for pair in near] == [("2", "2 copy")]


def test_scripts_without_blanks_are_compared_sign_by_sign() -> None:
    text = "".join(f"第{n}病房的护士长每天早上检查药柜的温度，并把结果写在本子里。" for n in range(1, 9))
    assert jaccard(shingles(text, 3), shingles(text.replace("早上", "晚上"), 3)) > 0.7
    assert shingles("Größe 5, 药柜 b", 9) == {"grösse 5 药 柜 b"}


def test_similarity_is_counted_as_jaccard_says() -> None:
    assert jaccard(shingles("a b c d", 3), shingles("a b c e", 3)) == pytest.approx(1 / 3)
    assert shingles("Two words", 3) == {"two words"}
    assert jaccard(frozenset(), frozenset()) == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abc ", min_size=1, max_size=30), min_size=1, max_size=8))
def test_groups_hold_every_document_and_name_their_first_member(parts: list[str]) -> None:
    texts = {str(n): part for n, part in enumerate(parts)}
    seen = finder(texts)
    for name, words in texts.items():
        seen.add(name, words)
    groups = seen.groups()
    assert list(groups) == list(texts)
    assert all(groups[group] == group and int(group) <= int(member) for member, group in groups.items())


@pytest.mark.parametrize(
    ("sample", "language"),
    [
        ("The nurse in charge may start isolation without asking anybody.", "en"),
        ("Die Pflegekraft darf die Isolierung beginnen, ohne jemanden zu fragen.", "de"),
        ("L'infirmière peut commencer l'isolement sans demander à personne.", "fr"),
        ("| 12 | 13 |\n| --- | --- |\n| 1 | 2 |", None),
        ("", None),
    ],
)
def test_the_language_of_a_text_is_told_or_left_open(sample: str, language: str | None) -> None:
    assert detect_language(sample) == language


def test_counting_word_by_word_gives_what_the_tokenizer_gives(tokenizer_path: Path) -> None:
    counter = TokenCounter.from_file(tokenizer_path)
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    for sample in (
        "",
        "word",
        " leading",
        "Two  blanks\n\n- and a list\n  - deeper",
        "Größe 36,5 °C (bleep 210).\n| a | b |",
        "x" * 500 + " end",
    ):
        wanted = len(tokenizer.encode(sample).ids)
        for _ in range(2):  # words learned, and known
            assert (counter.count(sample), counter.spans(sample)(0, len(sample))) == (wanted, wanted), sample


@settings(max_examples=150, deadline=None)
@given(st.text("ab  \n\t.ÄÅß药\xa0\ud800", max_size=60), st.data())
def test_spans_are_counted_as_texts_of_their_own_and_sum_up_before_a_space(text: str, data: st.DataObject) -> None:
    counter = TokenCounter(lambda texts: [sum(map(ord, text)) for text in texts])
    for _ in range(2):  # words learned, and known
        count = counter.spans(text)
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, len(text)))
        assert count(start, end) == sum(map(ord, text[start:end]))
        assert counter.count(text[start:end]) == count(start, end)


def test_what_is_known_of_words_is_forgotten_when_it_grows_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldwise.prepare.tokens._MAX_REMEMBERED_WORDS", 5)
    asked: list[str] = []

    def encode(texts: list[str]) -> list[int]:
        asked.extend(texts)
        return [len(text) for text in texts]

    counter = TokenCounter(encode)
    for sample in ("a b c d e f g", "a b c", "a b c"):
        assert counter.spans(sample)(0, len(sample)) == len(sample)
    assert asked.count(" b") == 2
    for sample in ("a b c d e f g", "a b c", "a b c"):
        assert counter.count(sample) == len(sample)
    assert asked.count(" b") == 4


def test_a_file_that_is_no_tokenizer_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json: the tokenizer cannot be read"):
        TokenCounter.from_file(tmp_path / "tokenizer.json")
