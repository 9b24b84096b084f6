import random

import pytest

from fieldwise.generate.doubts import doubt
from fieldwise.generate.general import with_subject
from fieldwise.generate.pairs import Pair
from fieldwise.generate.rules import judged_pairs, pairs_of_chunk
from fieldwise.records import Chunk, Document, Source


def chunk(text: str) -> Chunk:
    return Chunk.make(Document.make(title="T", text=text, source=Source(uri="m")), 0, len(text))


def asked(text: str) -> dict[str, str]:
    return {p.question: p.answer for p in pairs_of_chunk(chunk(text), random.Random(0)) if p.kind != "gap"}


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("If needed, the dose is changed by the pharmacist.", "condition_without_clause"),
        ("Once inside the cupboard, the box is locked by the porter.", "condition_without_clause"),
        ("When a claim, an inquest or a request is known, the manager places a hold.", "condition_without_clause"),
        ("Before any clean task: opening a line, dressing a wound, drawing up a drug.", "condition_without_clause"),
        ("After contact with body fluid, even through gloves.", "condition_broken"),
        ("If the rash is on the face, an eye, or the mouth, ring the doctor.", "condition_broken"),
        ("If such a form is missing, the clerk prints another one.", "question_unclear"),
        ("If the list is complete, the table below shows the figures of the ward.", "points_elsewhere"),
        ("A health care provider may prescribe tablets for a week.", "subject_vague"),
        ("The pigment may spread into the skin around the cut.", "subject_vague"),
        ("Symptoms may include fever, cough and a rash.", "no_deed"),
        ("The lifts will close the doors by themselves.", "question_open"),
        ("Ward fever is a rare disease.", "says_nothing"),
        ("Care of burns may include the following: - Creams. - Gauze.", "sentence_broken"),
        ("Biologic therapy Biologic therapy is a treatment with living cells.", "sentence_broken"),
        ("Spare keys are kept in the lodge, the office, and the boiler room.", "answer_incomplete"),
        ("Duty teams come from the county and are trained for four days.", "question_garbled"),
        ("After about 6 to 8 weeks, you should see fewer leaks.", "question_unclear"),
        ("If the doctor shrugs it off, for example, ask for another one.", "condition_broken"),
        ("If you have weak bones, though, ask the doctor for these tablets.", "answer_unclear"),
        ("Odd cells are found in the blood of people with this fever.", "answer_unclear"),
        ("Cream will protect the skin, and powder can hide the marks.", "two_statements"),
        ("If you think you may have it, ring the nurse in charge.", "question_unclear"),
        ("If you have any symptoms, ring the nurse in charge.", "question_general"),
        ("Ward fever does not seem to spread if the windows are open.", "condition_broken"),
        ("After a brief delay, the doors of the ward close again.", "question_open"),
        ("If a broken lift door, the porter comes at once.", "condition_without_clause"),
        ("Some of the symptoms may spread into the skin around the cut.", "subject_vague"),
        ("The most common forms must be stored in the lodge.", "subject_vague"),
        ("The blood test can show how much iron the patient has.", "subject_vague"),
        ("People may lose their way in the long corridor.", "subject_vague"),
        ("Visitors may want to think about the stairs.", "no_deed"),
        ("In this test, the porter waits for 20 minutes.", "question_unclear"),
        ("The remaining 25 percent of the beds are kept free for the night.", "question_unclear"),
        ("About 30 percent of cases are seen by the night nurse.", "question_unclear"),
        ("The ward kettle is one of the most common things in the ward.", "says_nothing"),
        ("Ward fever is a type of fever.", "says_nothing"),
        ("Nurses may suspect ward fever if.", "question_garbled"),
        ("Hearing loops A hearing loop is a wire under the carpet.", "question_garbled"),
        ("Rarely does the lift stop between two floors.", "question_garbled"),
        ("Figure A shows the lift between two floors.", "points_elsewhere"),
        ("A vest may prevent cold nights or lessen its effects.", "two_statements"),
        ("The warm vest of the ward can prevent colds and is not sold.", "two_statements"),
    ],
)
def test_each_doubt_has_its_name(sentence: str, reason: str) -> None:
    assert reason in {fault for _, fault in judged_pairs(chunk(sentence), random.Random(0), wide=True)}


@pytest.mark.parametrize(
    "pair",
    [
        Pair("What should be done if the display is dark?", "ring the helpdesk", "condition", "If the display is dark, ring the helpdesk"),
        Pair("What must the duty manager do?", "check every room", "duty", "The duty manager must check every room"),
        Pair("Who may order blood at night?", "The nurse in charge", "subject", "The nurse in charge may order blood at night"),
        Pair("What is a grey tag?", "a sign that the pump is broken", "definition", "A grey tag is a sign that the pump is broken"),
        Pair("Where are used sharps stored?", "in yellow bins", "place", "Used sharps are stored in yellow bins"),
        Pair("What happens if a guest arrives after 14:00?", "the desk rings the ward", "condition", "If a guest arrives after 14:00, the desk rings the ward"),
    ],
)  # fmt: skip
def test_nothing_speaks_against_a_plain_pair(pair: Pair) -> None:
    assert doubt(pair) is None


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("A swap is valid when both people have confirmed it.", "When is a swap valid?", "when both people have confirmed it"),
        ("Ward 5 is entered only if the officer is there.", "In which case is Ward 5 entered?", "only if the officer is there"),
        ("Care does not change because somebody complained.", "Why does Care not change?", "somebody complained"),
        ("Ward fever is caused by a small mite.", "What is Ward fever caused by?", "a small mite"),
        ("Students may write in the record of the day.", "Who may write in the record of the day?", "Students"),
        ("Burst pipes are the most common cause of wet files.", "What is the most common cause of wet files?", "Burst pipes"),
        ("If you hold a yellow pass, you must show it at the lodge.", "What should be done if you hold a yellow pass?", "you must show it at the lodge"),
        ("The staff at the lodge can open the barrier.", "Who can open the barrier?", "The staff at the lodge"),
        ("Broken chairs are repaired by the sun.", "What are Broken chairs repaired by?", "the sun"),
    ],
)  # fmt: skip
def test_shapes_that_were_asked_wrongly_are_asked_rightly(sentence: str, question: str, answer: str) -> None:
    assert asked(sentence)[question] == answer


@pytest.mark.parametrize(
    "sentence",
    [
        "Machines are switched on 45 minutes before the session so that tests are done when the first guest comes.",
        "Trials are done to find out if new drugs are safe.",
        "More than one case has been reported since the ward was opened in 1991.",
        "Researchers hope islet care will help people at home.",
        "No one knows what causes the noise in the lift.",
        "The outlook for people with ward fever depends on the number of scars.",
        "The imaging your doctor uses depends on the part of your body.",
    ],
)
def test_sentences_with_a_second_clause_are_not_taken_for_one(sentence: str) -> None:
    assert [p for p in asked(sentence) if p.startswith(("When", "In which case", "Who", "How", "What"))] == []


def test_one_item_of_a_list_is_not_given_as_the_whole() -> None:
    found = asked("The trolley of the ward holds:\n\n- gloves\n- masks\n")
    assert found == {'Name one thing that stands under "The trolley of the ward holds".': "gloves"}


def test_a_year_before_a_quarter_is_no_span_of_seconds() -> None:
    pairs = pairs_of_chunk(chunk("The loss of the fiscal 2019 second quarter was small."), random.Random(0))
    assert [p for p in pairs if p.kind == "gap"] == []


def test_a_question_that_does_not_speak_of_its_document_begins_with_its_title() -> None:
    text = "Follow-up includes a yearly look at the eyes. Cohen fever causes cold hands. Cohen fever can raise the number of calls."
    made = Chunk.make(Document.make(title="Cohen fever", text=text, source=Source(uri="m")), 0, len(text))

    def questions(named: bool) -> set[str]:
        return {p.question for p in pairs_of_chunk(made, random.Random(0), wide=True, named=named)}

    begin = "What does Follow-up include?"
    assert begin in questions(named=False) and f"Cohen fever: {begin}" in questions(named=True)
    assert questions(named=False) - {begin} == questions(named=True) - {f"Cohen fever: {begin}"}


@pytest.mark.parametrize(
    ("pair", "title"),
    [
        (Pair("What raises calls?", "Cohen fever", "subject", ""), "Cohen fever"),  # would give the answer away
        (Pair("How long does it last?", "a week", "duration", ""), "Treatment of the disease"),  # names nothing
        (Pair("How long does it last?", "a week", "duration", ""), "All " + "very " * 12 + "long titles"),
    ],
)
def test_a_title_that_would_not_help_is_left_away(pair: Pair, title: str) -> None:
    assert with_subject(pair, title) == pair
