"""Filters: what is too odd to teach, with the value and the limit."""

from __future__ import annotations

import random

import pytest
from prepare_files import document

from fieldwise.prepare.filters import (
    duplicate_char_share,
    duplicate_ngram_share,
    duplicate_share,
    judge,
    measure_document,
    top_ngram_share,
)
from fieldwise.prepare.settings import FilterSettings


def words(n: int, seed: int = 0) -> str:
    chance = random.Random(seed)
    return " ".join("".join(chance.choices("abcdefghij", k=5)) for _ in range(n))


def lines(n: int) -> list[str]:
    return [words(8, seed) for seed in range(n)]


def verdict(text: str, **limits: object) -> tuple[str, str] | None:
    return judge(measure_document(document(text)), FilterSettings.model_validate(limits))


def test_shares_are_those_counted_by_hand() -> None:
    assert duplicate_share(["a", "b", "a", "a"]) == 0.5
    assert duplicate_char_share(["abc", "d", "abc", "e"]) == 0.375
    assert top_ngram_share("to be or not to be".split(), 2) == 8 / 13
    assert duplicate_ngram_share("a b c d a b c e".split(), 3) == 0.375
    assert top_ngram_share(["one"], 2) == duplicate_ngram_share(["one"], 5) == 0.0


ODD = {
    "repeated lines": ("\n".join(lines(10) + lines(10) + lines(5)), "repetition"),
    "repeated paragraphs": ("\n\n".join(lines(10) + lines(10) + lines(5)), "repetition"),
    "one run of words": (" ".join(f"buy now {w}" for w in words(80).split()), "repetition"),
    "runs of words": (" ".join(w for n in range(12) for w in (words(20, 99), words(8, n))), "repetition"),
    "signs": (words(100) + " #" * 30, "symbols"),
    "digits": (" ".join(f"{n:05d}a" for n in range(150)), "digits"),
    "no letters": (words(60) + " " + " ".join(f"-{n}-" for n in range(10, 99)), "few_words_with_letters"),
    "ellipsis": ("\n".join(f"{line} …" for line in lines(20)), "ellipsis_lines"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_documents_are_left_out_with_value_and_limit(name: str) -> None:
    text, reason = ODD[name]
    limits = {"max_symbols": 1.0} if reason == "ellipsis_lines" else {}
    found = verdict(text, **limits)
    assert found is not None and found[0] == reason
    assert "prepare.filters." in found[1] and "%" in found[1]


def test_the_message_holds_what_was_measured_and_the_key() -> None:
    found = verdict("\n".join(lines(10) + lines(10) + lines(5)))
    assert found == (
        "repetition",
        "lines that repeat an earlier line: 60.0%; prepare.filters.max_duplicate_lines is 50.0%.",
    )


def test_limits_of_gopher_can_be_set() -> None:
    text = " ".join(w for n in range(6) for w in (words(6, 99), words(30, n)))
    assert verdict(text) is None
    found = verdict(text, max_duplicate_ngram_chars=[0.1] * 6)
    assert found is not None and found[1].endswith("prepare.filters.max_duplicate_ngram_chars.0 is 10.0%.")


def test_bullets_and_length_are_limited_on_request() -> None:
    checklist = "\n".join(f"- {line}" for line in lines(20))
    assert verdict(checklist) is None
    assert verdict(checklist, max_bullet_lines=0.9) is not None
    assert verdict(words(30), min_words=50) == ("too_few_words", "words: 30; prepare.filters.min_words is 50.")
    assert verdict(words(30), max_words=20) is not None


def test_tables_and_short_texts_are_not_judged_by_repetition() -> None:
    rows = "\n".join("| yes | 1 | 0 | yes |" for _ in range(60))
    assert verdict(f"| a | b | c | d |\n| --- | --- | --- | --- |\n{rows}\n\n{words(120)}") is None
    assert verdict("yes yes yes yes") is None
    assert verdict("") is None
