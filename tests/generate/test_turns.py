import random

import pytest
from kinds_material import chunk

from fieldwise.generate.pairs import Pair
from fieldwise.generate.rules import from_sentence
from fieldwise.generate.turns import follow_up


def pair_of(sentence: str, kind: str) -> Pair:
    return next(p for p in from_sentence(sentence, random.Random(0)) if p.kind == kind)


@pytest.mark.parametrize(
    ("subject", "pronoun"),
    [
        ("Sepsis", "it"),
        ("A virus", "it"),
        ("Arthritis", "it"),
        ("Gestational diabetes", "it"),
        ("The lens", "it"),
        ("Measles", "it"),
        ("The class", "it"),
        ("Weakness", "it"),
        ("Viruses", "they"),
        ("Gowns", "they"),
        ("Diagnoses", "they"),
        ("The menus", "they"),
        ("Nurses", "they"),
    ],
)
def test_a_word_in_s_is_many_only_where_it_is(subject: str, pronoun: str) -> None:
    first = pair_of(f"{subject} must be noted within 2 hours.", "deadline")
    second = pair_of(f"{subject} must be reported by the duty doctor.", "agent")
    asked = follow_up(first, second, chunk("ward.md", "Ward", f"{first.quote} {second.quote}"))
    assert asked == f"And by whom must {pronoun} be reported?"
