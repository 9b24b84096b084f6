"""What readings of twenty examples of each kind have shown, and is left out since (docs/decisions.md)."""

import random

import pytest
from kinds_material import CHUNKS, chunk, material

from fieldwise.generate.compare import _of_table, lower_label, reason_in
from fieldwise.generate.examples import Asked
from fieldwise.generate.negatives import is_specific
from fieldwise.generate.pairs import Pair
from fieldwise.generate.sections import Section, read_section
from fieldwise.generate.tasks import _CASE, _central, _leads
from fieldwise.generate.tasks import _of_table as _extracted


def _section(text: str) -> Section:
    return read_section(chunk("read.md", "Read", text))


def test_a_lead_in_that_a_heading_was_joined_to_leads_no_list() -> None:
    joined = "Tests\n\nWe pay for the tests listed below Approved tests:\n\n- SAT\n- ACT\n\nThat is all we pay for."
    assert _section(joined).listings == ()
    assert _section(joined.replace("listed below Approved tests", "of a list")).listings != ()


def test_a_sentence_cut_behind_an_abbreviation_is_shown_nowhere() -> None:
    text = "Training\n\nThe training explains the law of the U.K. Bribery Act is broader than that of others. Staff must take part in it."
    assert all(not s.startswith("Bribery") for s in _section(text).sentences)


def test_balances_are_not_compared_with_what_moves_them() -> None:
    rows = "Shares\n\n| Item | 2019 | 2018 |\n| --- | --- | --- |\n| Outstanding at start | 90 | 80 |\n| Granted | 12 | 11 |\n"
    shares = chunk("s.md", "Shares", rows)
    given = material([shares, *CHUNKS], kinds=["comparison"])
    (table,) = read_section(shares).tables
    asked = [d.question for seed in range(5) for d in _of_table(shares, table, given, random.Random(seed))]
    assert asked and not any("Outstanding" in q and "Granted" in q for q in asked)


@pytest.mark.parametrize(
    ("question", "answer", "kind"),
    [
        ("What is Foreign Corrupt Practices Act?", "an excellent resource", "definition"),
        ("What can lead to high levels of fats in the liver?", "Reduced function of this organ", "subject"),
        ("What will affect your payments, so you’ll want to think before applying?", "Using Top-Up", "subject"),
        ("What is meant by GitHub does not support any other?", "of account recovery", "definition"),
        ("By whom can minor damage to the liver be repaired?", "the body", "agent"),
    ],
)
def test_a_question_that_says_too_little_is_asked_among_no_near_misses(question: str, answer: str, kind: str) -> None:
    home = CHUNKS[0]
    assert not is_specific(Asked(Pair(question, answer, kind, answer), home, "train"))
    assert is_specific(
        Asked(Pair("Who signs the fridge log every evening?", "the charge nurse", "subject", "x"), home, "train")
    )


@pytest.mark.parametrize(
    "sentence",
    [
        "Some people get hurt because they are not in shape.",
        "The hereditary form is caused by genetic mutations, and its signs become apparent within months.",
        "Find out if you can get benefits for illnesses we believe were caused by Agent Orange because you served.",
        "A member shall not be liable merely because of the membership interest in the company.",
    ],
)
def test_a_reason_of_nobody_in_particular_is_not_asked_for(sentence: str) -> None:
    assert reason_in(sentence, sentence, random.Random(1)) is None


def test_a_lead_in_without_a_verb_or_a_bearer_makes_no_sentence() -> None:
    assert _leads("Care settings may include") and _leads("Each entry needs")
    assert not _leads("For our Legitimate Interest") and not _leads("You have a")


def test_the_corner_of_a_table_that_tells_of_its_figures_names_no_row() -> None:
    rows = (
        "Sales\n\n| (in thousands) | 2019 | Change |\n| --- | --- | --- |\n| Services | 59 | 8 |\n| Goods | 12 | 3 |\n"
    )
    (table,) = read_section(chunk("s.md", "Sales", rows)).tables
    found = list(_extracted(table, "Sales", random.Random(1)))
    assert found and all("item" in str(f.value) and "in_thousands" not in str(f.value) for f in found)


def test_a_summary_sends_nobody_on_and_takes_nothing_that_is_taken_back() -> None:
    said = [
        "The plan covers the cost of school for people who served.",
        "Find out if the plan covers the cost of school for people like you.",
        "Most of the cost of school is paid by the plan for people who served.",
        "However, the plan pays no cost of school for people who left early.",
        "The plan is also open to people who pay the cost of school themselves.",
        "The cost of school is paid to people who served when they send the form.",
    ]
    parts = _central([chunk("p.md", "Plan", "Plan\n\n" + " ".join(said))])
    assert [p.said for p in parts] == [said[0], said[5]]


def test_a_label_with_capitals_of_its_own_keeps_them() -> None:
    assert (lower_label("Useful Lives"), lower_label("Age"), lower_label("EMEA")) == ("Useful Lives", "age", "EMEA")


def test_a_list_within_a_condition_is_no_case_of_its_own() -> None:
    listed = "If you’re wounded, injured, or fall ill while serving, you'll be sent to the board."
    assert _CASE.match(listed) is None and _CASE.match("If the alarm rings, call the desk.") is not None
    assert not _leads("Approved admissions tests for professional programs")
