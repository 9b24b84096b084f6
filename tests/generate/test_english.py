import pytest

from fieldwise.generate.english import Clause, base_form, parse, question, sentences


@pytest.mark.parametrize(
    ("sentence", "clause"),
    [
        ("The pharmacy opens at 08:00", Clause("The pharmacy", "does", "open at 08:00")),
        ("Champions wear a teal lanyard", Clause("Champions", "do", "wear a teal lanyard")),
        (
            "The charge nurse must sign the log within 2 hours",
            Clause("The charge nurse", "must", "sign the log within 2 hours"),
        ),
        ("Used sharps are kept in yellow bins", Clause("Used sharps", "are", "kept in yellow bins")),
        ("It opens at 08:00", None),
        ("Then the ward closes", None),
        ("The nurse who leads must sign", None),
        ("Of the five, two are kept", None),
        ("Short", None),
    ],
)
def test_plain_statements_are_taken_apart_and_unsafe_ones_left(sentence: str, clause: Clause | None) -> None:
    assert parse(sentence) == clause


def test_a_question_is_put_together() -> None:
    assert (
        question("How soon", Clause("The nurse", "must", ""), "sign the log") == "How soon must the nurse sign the log?"
    )
    assert question("Where", Clause("PHA-06", "is", ""), "kept") == "Where is PHA-06 kept?"


@pytest.mark.parametrize(
    ("verb", "base"),
    [("opens", "open"), ("carries", "carry"), ("goes", "go"), ("washes", "wash"), ("news", None), ("bus", None)],
)
def test_third_person_forms(verb: str, base: str | None) -> None:
    assert base_form(verb) == base


def test_sentences_keep_their_place_and_abbreviations_do_not_end_one() -> None:
    text = "Dr. Osei leads it. Ask Mrs. Hale, e.g. by phone.\nNext line"
    found = sentences(text)
    assert [s.text for s in found] == ["Dr. Osei leads it.", "Ask Mrs. Hale, e.g. by phone.", "Next line"]
    assert all(text[s.start : s.end] == s.text for s in found)
