import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from fieldwise.evaluate import overlap
from fieldwise.evaluate.metrics import (
    COSTS,
    METRICS,
    exact_match,
    groundedness,
    normalise,
    overall_f1,
    rouge_l,
    token_f1,
)
from fieldwise.evaluate.overlap import corpus_bleu
from fieldwise.records import NOT_STATED, Answer, Chunk, Citation, Question, RetrievedPassage, Timings


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
        ("naïve café", "nai\u0308ve cafe\u0301", 1.0),  # one sign, or letter and accent
        ("12\u00a0mg", "12 mg", 1.0),
        ("cafe", "café", 0.0),
        ("STRASSE 5", "Straße 5", 1.0),
        ("10 m²", "10 m2", 0.0),
        ("🙂", "🙂", 1.0),
        ("日本語", "日本語", 1.0),
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


@pytest.mark.parametrize(
    ("said", "known", "precision", "recall"),
    [
        ("within 14 days", "14 days", 2 / 3, 1.0),
        ("14", "14 days", 1.0, 0.5),
        ("red", "14 days", 0.0, 0.0),
        ("", "x", 0, 0),
    ],
)
def test_token_precision_and_recall_by_hand(said: str, known: str, precision: float, recall: float) -> None:
    assert METRICS["token_precision"].score(answer(said), question(known)) == pytest.approx(precision)
    assert METRICS["token_recall"].score(answer(said), question(known)) == pytest.approx(recall)


def test_precision_and_recall_are_those_of_the_known_answer_that_fits_best() -> None:
    said, asked = answer("two weeks after the visit"), question("14 days", "two weeks")
    assert METRICS["token_precision"].score(said, asked) == pytest.approx(0.5)  # the article does not count
    assert METRICS["token_recall"].score(said, asked) == 1.0


@pytest.mark.parametrize(("metric", "value"), [("rouge_1", 2 / 3), ("rouge_2", 0.5)])
def test_rouge_of_runs_by_hand(metric: str, value: float) -> None:
    assert METRICS[metric].score(answer("the cat sat"), question("the cat ran")) == pytest.approx(value)


def test_rouge_equals_the_reference_library_on_random_text() -> None:
    rng = random.Random(3)
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    words = ["the", "ward", "a", "bin", "red", "blue", "14", "days", "within", "score", "of", "EWS-5", "e-mail", "it's"]
    for _ in range(300):
        said, known = (" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(2))
        expected = scorer.score(known, said)
        for ours, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
            found = METRICS[ours].score(answer(said), question(known))
            assert found == pytest.approx(expected[theirs].fmeasure), (ours, said, known)


def test_bleu_equals_the_reference_library_and_names_its_signature() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    rng = random.Random(5)
    words = ["the", "ward", "a", "bin", "red", "blue", "14", "days", "within", "score", "of", "EWS-5", "5.5", "it's"]
    said, known = [], []
    for _ in range(100):
        said.append(" ".join(rng.choices(words, k=rng.randint(1, 12))))
        known.append([" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(rng.randint(1, 3))])
        expected = sacrebleu.sentence_bleu(said[-1], known[-1]).score / 100
        assert METRICS["bleu"].score(answer(said[-1]), question(*known[-1])) == pytest.approx(min(1.0, expected))
    whole = corpus_bleu(said, [k[:1] for k in known])
    assert whole.value == pytest.approx(sacrebleu.corpus_bleu(said, [[k[0] for k in known]]).score / 100)
    assert whole.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert METRICS["bleu"].score(answer("14 days"), question("14 days")) == 1.0
    assert corpus_bleu(["a b", "c"], [["a b", "d"], ["c"]]).signature.startswith("nrefs:var")


def test_without_the_library_bleu_is_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_bleu", lambda **_: None)
    assert METRICS["bleu"].score(answer("14 days"), question("14 days")) is None
    assert overlap.corpus_bleu(["14 days"], [["14 days"]]) is None


def citation(uri: str, verified: bool) -> Citation:
    return Citation(
        mark=1, chunk_id="c", document_id="d", uri=uri, title="", start=0, end=1, quote="q", is_verified=verified
    )


@pytest.mark.parametrize(
    ("citations", "precision", "recall"),
    [
        ([("right.pdf", True), ("wrong.pdf", True)], 0.5, 1.0),
        ([("right.pdf", False)], 0.0, 0.0),
        ([("right.pdf", True)], 1.0, 1.0),
        ([], None, 0.0),
    ],
)
def test_citation_precision_and_recall_by_hand(
    citations: list[tuple[str, bool]], precision: float | None, recall: float
) -> None:
    said = cited("14 days", "Kept for 14 days.").model_copy(
        update={"citations": tuple(citation(*c) for c in citations)}
    )
    asked = question("14 days").model_copy(update={"document": "right.pdf"})
    assert METRICS["citation_precision"].score(said, asked) == precision
    assert METRICS["citation_recall"].score(said, asked) == recall
    assert METRICS["citation_recall"].score(answer("14 days"), asked) is None  # nothing to cite was shown
    assert METRICS["citation_recall"].score(said, question(None)) is None


def test_the_brier_score_by_hand() -> None:
    assert METRICS["brier"].score(answer("x", doubt=0.3), question("x")) == pytest.approx(0.09)
    assert METRICS["brier"].score(answer("x", doubt=0.3), question(None)) == pytest.approx(0.49)
    assert METRICS["brier"].score(answer("x"), question("x")) is None


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


def test_token_accuracy_by_hand() -> None:
    rated = answer("x", known_tokens=4, known_hits=3)
    assert METRICS["token_accuracy"].score(rated, question("14 days from then")) == 0.75
    assert METRICS["token_accuracy"].score(rated, question(None)) is None
    assert METRICS["token_accuracy"].score(answer("x", known_tokens=4), question("14 days")) is None


def test_tokens_a_second_by_hand() -> None:
    timed = answer("x", completion_tokens=12, timings=Timings(generate_seconds=0.5, total_seconds=2.0))
    assert METRICS["tokens_per_second"].score(timed, question("x")) == 24.0
    assert METRICS["tokens_per_second"].score(answer("x"), question("x")) is None


def test_first_token_and_what_an_answer_costs_by_hand() -> None:
    timed = answer("x", prompt_tokens=310, completion_tokens=12, timings=Timings(first_token_seconds=0.25))
    found = {n: METRICS[n].score(timed, question("x")) for n in ("first_token_seconds", *COSTS)}
    assert found == {"first_token_seconds": 0.25, "prompt_tokens": 310.0, "completion_tokens": 12.0}
    assert all(METRICS[n].score(answer("x"), question("x")) is None for n in found)  # nobody looked


@given(st.text(), st.text(min_size=1))
def test_scores_stay_between_nought_and_one(said: str, known: str) -> None:
    for name in ("exact_match", "token_f1", "token_precision", "token_recall", "rouge_1", "rouge_2", "rouge_l"):
        assert 0.0 <= METRICS[name].score(answer(said), question(known)) <= 1.0


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
