import pytest

from fieldwise.generate.checks import Dropped, checked_pairs, checked_unanswerable
from fieldwise.generate.pairs import Pair
from fieldwise.records import Chunk, Document, Source
from fieldwise.support import loses_negation, may_answer, unsupported, words_in

TEXT = (
    "The charge nurse signs the “fridge log” within 2 hours.\n"
    "Insulin must not be frozen, and opened pens are kept for twenty-eight days.\n"
    "Report to Dr Hale by 5 August 2024."
)


def chunk(text: str = TEXT) -> Chunk:
    return Chunk.make(Document.make(title="Fridges", text=text, source=Source(uri="f.md")), 0, len(text))


def verdict(question: str, answer: str, quote: str) -> Pair | str:
    (found,) = checked_pairs([Pair(question, answer, "fact", quote)], chunk())
    return found.reason if isinstance(found, Dropped) else found


def test_quote_and_answer_come_out_in_the_very_words_of_the_source() -> None:
    found = verdict(
        "How soon does the charge nurse sign the log?",
        "Within 2 hours.",
        'the charge nurse  signs the "fridge log" within 2 hours',
    )
    assert found == Pair(
        "How soon does the charge nurse sign the log?",
        "within 2 hours",
        "fact",
        "The charge nurse signs the “fridge log” within 2 hours",
    )


NURSE = "The charge nurse signs the “fridge log” within 2 hours."
INSULIN = "Insulin must not be frozen, and opened pens are kept for twenty-eight days."


@pytest.mark.parametrize(
    ("question", "answer", "quote", "reason"),
    [
        ("Who signs the fridge log?", "the charge nurse", "The nurse in charge signs it.", "quote_not_in_chunk"),
        ("How soon is the log signed?", "within 3 hours", NURSE, "number_not_in_evidence"),
        ("How soon is the log signed?", "within 2 days", NURSE, "unit_not_in_evidence"),
        ("Who signs the fridge log?", "Nurse Baxter", NURSE, "name_not_in_evidence"),
        ("By when do staff report?", "by 6 August 2024", "Report to Dr Hale by 5 August 2024.", "date_not_in_evidence"),
        ("By when do staff report?", "by 5 April 2024", "Report to Dr Hale by 5 August 2024.", "date_not_in_evidence"),
        ("How is the log signed?", "not on paper", NURSE, "negation_differs"),
        ("Who signs the fridge log?", "the nurse who is in charge", NURSE, "answer_not_in_quote"),
        ("What must be done with insulin?", "be frozen", INSULIN, "negation_lost"),
        ("Who signs the fridge log, the charge nurse or a doctor?", "the charge nurse", NURSE, "question_gives_answer_away"),
        ("Does the nurse charge for the log?", "the charge nurse", NURSE, "question_gives_answer_away"),
        ("According to the text, who signs the log?", "the charge nurse", NURSE, "question_refers_to_passage"),
        ("Who must sign in this case?", "the charge nurse", NURSE, "question_refers_to_passage"),
        ("Who signs it every day?", "the charge nurse", NURSE, "question_unclear"),
        ("Who?", "the charge nurse", NURSE, "question_length"),
    ],
)  # fmt: skip
def test_each_rule_names_what_is_wrong(question: str, answer: str, quote: str, reason: str) -> None:
    assert verdict(question, answer, quote) == reason


def test_a_negation_of_another_clause_or_in_the_question_changes_nothing() -> None:
    assert isinstance(verdict("How long are opened insulin pens kept?", "twenty-eight days", INSULIN), Pair)
    assert isinstance(verdict("What must not be done with insulin?", "be frozen", INSULIN), Pair)
    assert not loses_negation("What must staff do?", "call the porter", "If the lift does not come, call the porter.")


def test_the_same_question_in_another_order_is_dropped() -> None:
    pair = Pair("Who signs the fridge log?", "the charge nurse", "person", NURSE)
    found = list(checked_pairs([pair, pair._replace(question="The fridge log is signed by whom?")], chunk()))
    assert [type(f).__name__ for f in found] == ["Pair", "Dropped"]
    assert found[1] == Dropped("question_repeated", "The fridge log is signed by whom?")


@pytest.mark.parametrize(
    ("answer", "evidence", "rule"),
    [
        ("2 hours", "within two hours", None),
        ("1500 patients", "1,500 patients a year", None),
        ("2 hours", "within 2 hour slots", None),
        ("5 mg", "5 ml", "unit_not_in_evidence"),
        ("1.5 litres", "15 litres", "number_not_in_evidence"),
    ],
)
def test_figures_are_compared_with_their_units(answer: str, evidence: str, rule: str | None) -> None:
    assert unsupported(answer, evidence) == rule


@pytest.mark.parametrize(
    ("words", "text", "found"),
    [
        ('say "stop"', "then say “stop”", "say “stop”"),
        ("14", "140 days", None),
        ("two - three", "two – three", "two – three"),
        ("", "anything", None),
        ("...", "anything", None),
    ],
)
def test_words_are_found_whatever_their_signs(words: str, text: str, found: str | None) -> None:
    assert words_in(words, text) == found


def unanswerable(question: str, *near: str) -> str:
    (found,) = checked_unanswerable([question], chunk(), near)
    return found.reason if isinstance(found, Dropped) else "kept"


def test_an_unanswerable_question_is_about_the_subject_and_has_no_answer_nearby() -> None:
    assert unanswerable("Who repairs the fridge alarm at weekends?") == "kept"
    assert unanswerable("Who signs the fridge log?") == "unanswerable_may_be_answered"
    near = "At weekends the fridge alarm is repaired by Estates."
    assert unanswerable("Who repairs the fridge alarm at weekends?", near) == "unanswerable_may_be_answered"
    assert unanswerable("Which planet is closest to the sun?") == "unanswerable_off_topic"
    assert unanswerable("Who signs it then?") in ("question_unclear", "unanswerable_may_be_answered")
    assert may_answer("What is it?", [])  # a question without any content may be answered by anything
