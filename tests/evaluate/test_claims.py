"""Claims against the passages they cite, on worked examples."""

import pytest

from fieldwise.claims import claims
from fieldwise.evaluate.metrics import claims_supported
from fieldwise.records import NOT_STATED, Answer, Chunk, Question, RetrievedPassage

WARD = (
    "Visitors are welcome from 14:00 to 18:30. Flowers must not be brought to the intensive care ward. "
    "Mr Osei signs the visitor log on 3 March. Doses above 250 mg need a second signature."
)
KITCHEN = "The kitchen closes at 19:00. Allergies are written on the blue card."


def passage(rank: int, text: str) -> RetrievedPassage:
    chunk = Chunk(
        id=f"chk_{rank}", document_id="doc_a", uri="a.md", title="A", start=0, end=len(text), text=text, tokens=9
    )
    return RetrievedPassage(chunk=chunk, score=1.0)


def said(text: str, *, is_declined: bool = False) -> Answer:
    passages = (passage(1, WARD), passage(2, KITCHEN))
    return Answer(text=text, answer=text, model="m", passages=passages, is_declined=is_declined)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("Visitors are welcome from 14:00 to 18:30 [1].", [""]),
        ("18:30 [1]", [""]),
        ("Visitors are welcome until 19:30. [1]", ["number_not_in_evidence"]),
        ("The kitchen closes at 19:00 [1].", ["number_not_in_evidence"]),  # it stands in the other passage
        ("The kitchen closes at 19:00 [2].", [""]),
        ("Doses above 250 g need a second signature [1].", ["unit_not_in_evidence"]),
        ("Mr Adu signs the visitor log [1].", ["name_not_in_evidence"]),
        ("Mr Osei signs the visitor log on 3 May [1].", ["date_not_in_evidence"]),
        ("Flowers must be brought to the intensive care ward [1].", ["negation_differs"]),
        ("Flowers must not be brought to the intensive care ward [1].", [""]),
        ("Dogs and cats sleep in the garden shed [1].", ["words_not_in_evidence"]),
        ("Guests are welcome from 14:00 to 18:30 [1].", [""]),  # a word in place of another is no wrong name
        ("Adu signs the visitor log on 3 March [1].", ["name_not_in_evidence"]),
        ("The kitchen closes at 19:00.", ["not_cited"]),
        ("The kitchen closes at 19:00 [7].", ["not_cited"]),
        ("Visitors are welcome from 14:00. Dogs are welcome too. [1]", ["", "words_not_in_evidence"]),
        ("- visitors from 14:00 [1]\n- kitchen closes at 19:00 [2]", ["", ""]),
    ],
)
def test_a_claim_stands_or_breaks_a_rule_that_is_named(text: str, problems: list[str]) -> None:
    assert [c.problem for c in claims(said(text))] == problems


def test_the_score_is_the_share_of_claims_that_stand() -> None:
    question = Question(id="q", question="?", answer="x")
    assert claims_supported(said("Visitors are welcome from 14:00. Dogs are welcome too. [1]"), question) == 0.5
    assert claims_supported(said(""), question) == 0.0
    assert claims_supported(said(NOT_STATED, is_declined=True), question) is None
