import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from fieldwise.evaluate.metrics import METRICS, exact_match, groundedness, normalise, overall_f1, rouge_l, token_f1
from fieldwise.records import NOT_STATED, Answer, Chunk, Citation, Question, RetrievedPassage


def answer(text: str, **fields) -> Answer:
    return Answer(text=text, answer=text, model="m", **fields)


def question(known: str | None, *aliases: str) -> Question:
    return Question(id="q", question="?", answer=known, aliases=aliases)


@pytest.mark.parametrize(
    ("said", "known", "value"),
    [
        ("14 days", "14 days", 1.0),
        ("Within 14 Days.", "14 days", 0.0),
        ("the blue bin", "Blue bin", 1.0),
        ("08:30", "8:30", 0.0),
        ("5.5 mg", "55 mg", 0.0),
        ("25 %", "25%", 0.0),
        ("", "14 days", 0.0),
        ("A.", "A", 1.0),
        ("B", "A", 0.0),
        ("", "A", 0.0),
    ],
)
def test_exact_match_by_hand(said: str, known: str, value: float) -> None:
    assert exact_match(answer(said), question(known)) == value


def test_an_alias_counts_as_the_answer() -> None:
    assert exact_match(answer("two weeks"), question("14 days", "two weeks")) == 1.0


@pytest.mark.parametrize(
    ("said", "known", "value"),
    [
        ("within 14 days", "14 days", 0.8),
        ("14 days", "14 days", 1.0),
        ("red", "14 days", 0.0),
        ("a a b", "a b b", 2 * (2 / 2) * (1 / 2) / (2 / 2 + 1 / 2)),
        ("days 14", "14 days", 1.0),
    ],
)
def test_token_f1_by_hand(said: str, known: str, value: float) -> None:
    # "a" is an article and does not count: "b" against "b b" has precision 1, recall 1/2.
    assert token_f1(answer(said), question(known)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("declined", "known", "value"),
    [(True, None, 1.0), (False, None, 0.0), (True, "14 days", 0.0), (False, "14 days", 0.8)],
)
def test_f1_with_declines_counts_every_question_by_hand(declined: bool, known: str | None, value: float) -> None:
    said = answer("within 14 days", is_declined=declined)
    assert overall_f1(said, question(known)) == pytest.approx(value)


def test_rouge_l_by_hand() -> None:
    assert rouge_l(answer("cat the sat"), question("the cat sat")) == pytest.approx(2 / 3)


def test_rouge_l_equals_the_reference_library_on_random_text() -> None:
    rng = random.Random(3)
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    words = ["the", "ward", "a", "bin", "red", "blue", "14", "days", "within", "score", "of", "EWS-5", "e-mail", "it's"]
    for _ in range(300):
        said, known = (" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(2))
        assert rouge_l(answer(said), question(known)) == pytest.approx(scorer.score(known, said)["rougeL"].fmeasure)


def cited(said: str, quote: str, *, verified: bool = True) -> Answer:
    chunk = Chunk(id="c", document_id="d", uri="u", title="", start=0, end=len(quote), text=quote)
    citation = Citation(
        mark=1,
        chunk_id="c",
        document_id="d",
        uri="u",
        title="",
        start=0,
        end=len(quote),
        quote=quote,
        is_verified=verified,
    )
    return answer(said, citations=(citation,), passages=(RetrievedPassage(chunk=chunk, score=1.0),))


@pytest.mark.parametrize(
    ("said", "quote", "verified", "value"),
    [
        ("14 days", "Kept for 14 days.", True, 1.0),
        ("14 days", "Kept for 14 days.", False, 0.0),
        ("15 days", "Kept for 14 days.", True, 0.0),
        ("red bins", "Use red bins 3 times.", True, 1.0),
    ],
)
def test_grounded_means_a_verified_quote_with_every_number(said: str, quote: str, verified: bool, value: float) -> None:
    assert groundedness(cited(said, quote, verified=verified), question("x")) == value


def test_an_answer_without_passages_is_not_grounded_and_a_declined_one_makes_no_claim() -> None:
    assert groundedness(answer("14 days"), question("x")) == 0.0
    assert groundedness(answer(NOT_STATED, is_declined=True), question("x")) is None


def test_declining_is_right_only_where_the_documents_are_silent() -> None:
    declined = answer(NOT_STATED, is_declined=True)
    assert METRICS["abstention"].score(declined, question(None)) == 1.0
    assert METRICS["abstention"].score(declined, question("x")) is None
    assert METRICS["false_decline"].score(declined, question("x")) == 1.0
    assert METRICS["false_decline"].score(answer("x"), question("x")) == 0.0


@given(st.text(), st.text(min_size=1))
def test_scores_stay_between_nought_and_one(said: str, known: str) -> None:
    for name in ("exact_match", "token_f1", "rouge_l"):
        assert 0.0 <= METRICS[name].score(answer(said), question(known)) <= 1.0


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
