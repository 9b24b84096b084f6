import random
from pathlib import Path

import pytest

from fieldwise.generate.pairs import Pair
from fieldwise.generate.rules import from_lists, from_sentence, from_table, pairs_of_chunk, problem
from fieldwise.records import Chunk, Document, Source


def asked(sentence: str) -> dict[str, str]:
    return {p.question: p.answer for p in from_sentence(sentence, random.Random(0))}


def only(sentence: str, kind: str) -> list[tuple[str, str]]:
    return [(p.question, p.answer) for p in from_sentence(sentence, random.Random(0)) if p.kind == kind]


@pytest.mark.parametrize(
    ("sentence", "kind", "answer", "words"),
    [
        ("A grey tag means that the pump is out of order.", "definition", "the pump is out of order", "grey tag"),
        (
            "If the display shows more than 8 degrees, ring the helpdesk.",
            "condition",
            "ring the helpdesk",
            "if the display shows more than 8 degrees",
        ),
        ("The charge nurse must sign the log within 2 hours.", "deadline", "2 hours", "charge nurse sign the log"),
        ("Weights are repeated every 3 days.", "frequency", "every 3 days", "How often are Weights repeated"),
        ("The fridge log is kept for 14 days.", "duration", "14 days", "fridge log kept"),
        ("The pharmacy opens at 08:00.", "time", "08:00", "the pharmacy open"),
        ("Used sharps are stored in yellow bins.", "place", "in yellow bins", "Where are Used sharps stored"),
        ("The list is signed by the ward manager.", "agent", "the ward manager", "By whom is the list signed"),
        ("The duty manager must check every room.", "duty", "check every room", "What must the duty manager do"),
        ("The duty manager must check every room.", "subject", "The duty manager", "Who must check every room"),
        (
            "The side gate closes at night because deer come in.",
            "reason",
            "deer come in",
            "Why does the side gate close at night",
        ),
        ("Ring the Estates helpdesk (4945) about leaks.", "contact", "4945", "Estates helpdesk"),
        (
            "Gil Marchbanks, deputy chief pharmacist, keeps the list.",
            "person",
            "Gil Marchbanks",
            "Who is the deputy chief pharmacist",
        ),
    ],
)
def test_each_shape_gives_its_question_and_the_words_of_the_source(
    sentence: str, kind: str, answer: str, words: str
) -> None:
    found = only(sentence, kind)
    assert [a for _, a in found] == [answer]
    assert words in found[0][0]


@pytest.mark.parametrize(
    "sentence",
    ["It is kept for 14 days.", "They must sign.", "Is it open?", 'He said "no.', "Yes.", "*PHA-06, 5 August 2024*"],
)
def test_what_is_not_clear_on_its_own_gives_no_question_but_perhaps_a_gap(sentence: str) -> None:
    assert [p for p in from_sentence(sentence, random.Random(0)) if p.kind != "gap"] == []


def test_every_cell_of_a_table_is_asked_by_row_and_column() -> None:
    table = "| Box | Colour | Where |\n| --- | --- | --- |\n| Anaphylaxis | Yellow | Resuscitation trolley |\n| Eclampsia | Turquoise | - |"
    pairs = list(from_table(table, "Boxes", random.Random(0)))
    assert {p.answer for p in pairs} == {"Yellow", "Turquoise", "Resuscitation trolley"}
    assert "Where is Anaphylaxis?" in {p.question for p in pairs} or "Where is the Anaphylaxis box?" in {
        p.question for p in pairs
    }
    assert all(p.answer in p.quote for p in pairs)


def test_numbered_steps_are_asked_by_their_lead_in() -> None:
    text = "If the display shows more than 8 degrees:\n\n1. Close the door.\n2. Ring the helpdesk.\n"
    assert [(p.question, p.answer) for p in from_lists(text, random.Random(0))] == [
        ("What is step 1 if the display shows more than 8 degrees?", "Close the door"),
        ("What is step 2 if the display shows more than 8 degrees?", "Ring the helpdesk"),
    ]


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (Pair("How long is the log kept?", "14 days", "duration", "The log is kept for 14 days"), None),
        (
            Pair("How long is the log kept?", "15 days", "duration", "The log is kept for 14 days"),
            "answer_not_in_quote",
        ),
        (Pair("How long is the log kept?", "14 days", "duration", "Kept for 14 days elsewhere"), "quote_not_in_chunk"),
        (
            Pair("Is the log kept for 14 days?", "14 days", "duration", "The log is kept for 14 days"),
            "question_gives_answer_away",
        ),
        (Pair("Log?", "14 days", "duration", "The log is kept for 14 days"), "question_length"),
        (Pair("How long is it kept?", "14 days", "duration", "The log is kept for 14 days"), "question_unclear"),
    ],
)
def test_checks_name_what_is_wrong(pair: Pair, reason: str | None) -> None:
    assert problem(pair, "The log is kept for 14 days, they say.") == reason


def test_every_answer_of_a_real_handbook_page_stands_in_its_quote_and_its_chunk() -> None:
    text = Path("examples/documents/healthcare/medication-storage.md").read_text()
    document = Document.make(title="Storing medicines", text=text, source=Source(uri="m.md"))
    pairs = pairs_of_chunk(Chunk.make(document, 0, len(text)), random.Random(0))
    assert len(pairs) >= 25
    assert all(p.answer in p.quote and p.quote in text for p in pairs)
    assert len({p.question.casefold() for p in pairs}) == len(pairs)
    assert sum(p.kind == "gap" for p in pairs) <= len(pairs) / 2


def test_the_same_seed_gives_the_same_pairs() -> None:
    document = Document.make(
        title="T", text="The log is kept for 14 days. The nurse must sign.", source=Source(uri="m")
    )
    chunk = Chunk.make(document, 0, len(document.text))
    assert pairs_of_chunk(chunk, random.Random(5)) == pairs_of_chunk(chunk, random.Random(5))


def test_more_than_one_answer_is_never_given_for_one_question() -> None:
    found = asked("The charge nurse must sign the log within 2 hours.")
    assert len(found) == len(set(found))


@pytest.mark.parametrize("end", [".", ";", ",", "; and", ";and", ", and then", "; or", ", then"])
def test_what_joins_a_step_to_the_next_is_no_part_of_it(end: str) -> None:
    text = f"Before the visit:\n\n1. Wash and dry your hands{end}\n2. Put on an apron."
    found = [p for p in from_lists(text, random.Random(0))]
    assert [p.answer for p in found] == ["Wash and dry your hands", "Put on an apron"]
    assert all(problem(p, text) is None for p in found)


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        ("Protein needs increase because wounds heal slowly.", "Why is it that Protein needs increase?"),
        ("Staff costs vary because agency shifts are dear.", "Why is it that staff costs vary?"),
        ("The ward needs a porter because beds are moved.", "Why does the ward need a porter?"),
    ],
)
def test_a_noun_is_not_taken_for_the_verb_of_the_sentence(sentence: str, question: str) -> None:
    assert [q for q, _ in only(sentence, "reason")] == [question]
