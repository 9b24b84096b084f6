import json
import random
from typing import Any

import pytest
from pydantic import ValidationError

from fieldwise.generate.checks import Dropped, checked_pairs, checked_unanswerable
from fieldwise.generate.evolution_checks import asked_for, evolution_fault, paraphrase_fault
from fieldwise.generate.evolve import (
    Evolution,
    after_review,
    beside_parents,
    by_rules,
    by_teacher,
    fake_teacher,
    lineage,
    most_cost,
    requests_for,
    wishes,
)
from fieldwise.generate.examples import Asked
from fieldwise.generate.pairs import Pair
from fieldwise.generate.paraphrase import constrained, paraphrases
from fieldwise.generate.settings import EvolutionKind, EvolutionSettings, GenerateSettings
from fieldwise.generate.wording import other_language, refuses
from fieldwise.interfaces import LlmRequest
from fieldwise.llm.fake import FakeLlm
from fieldwise.prompts import closed_prompt
from fieldwise.records import Chunk, Document, Evidence, Example, Message, Source

TEXT = (
    "The fridge log is kept for 14 days. The charge nurse signs the fridge log every evening because the pharmacy counts "
    "the vials in the morning. If the fridge is above 8 degrees, ring the pharmacy within 2 hours. "
    "Vials that were not cooled must not be given to patients."
)


def chunk(uri: str, text: str) -> Chunk:
    return Chunk.make(Document.make(title=uri, text=text, source=Source(uri=uri)), 0, len(text))


LOG = chunk("log.md", TEXT)
KEPT = Pair("How long is the fridge log kept?", "14 days", "duration", "The fridge log is kept for 14 days.")
SIGNS = Pair(
    "Who signs the fridge log every evening?",
    "The charge nurse",
    "subject",
    "The charge nurse signs the fridge log every evening because the pharmacy counts the vials in the morning.",
)
WARM = Pair(
    "What should be done if the fridge is above 8 degrees?",
    "ring the pharmacy within 2 hours",
    "condition",
    "If the fridge is above 8 degrees, ring the pharmacy within 2 hours.",
)
ASKED = [Asked(p, LOG, "train") for p in (KEPT, SIGNS, WARM)]
EVERY: tuple[EvolutionKind, ...] = ("paraphrase", "constrain", "deepen", "concretise", "reason", "broaden")


def wished(*kinds: EvolutionKind, **more: Any) -> EvolutionSettings:
    return EvolutionSettings(kinds=kinds, per_question=len(kinds), **more)


# ---------------------------------------------------------------- what a paraphrase must keep


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("How long is the fridge log kept?", "For what length of time is the fridge log kept?"),
        ("What should be done if the fridge is above 8 degrees?", "When the fridge is over 8 degrees, what is to be done?"),
        ("Who signs the fridge log every evening?", "By whom is the fridge log signed every evening?"),
        ("Why are vials not given?", "For what reason are vials not given?"),
        ("How soon must Meridian reply?", "Within what time must Meridian reply?"),
    ],
)  # fmt: skip
def test_a_question_in_other_words_passes(question: str, asked: str) -> None:
    assert paraphrase_fault(Pair(question, "x", "fact", "x"), asked) is None


@pytest.mark.parametrize(
    ("question", "asked", "reason"),
    [
        ("What is done above 8 degrees?", "What is done above 9 degrees?", "number_changed"),
        ("What is done above 8 degrees?", "What is done above 8 metres?", "unit_changed"),
        ("What is done above 8 degrees?", "What is done in the heat?", "number_changed"),
        ("How soon must Meridian reply?", "How soon must Harbour reply?", "name_changed"),
        ("Which vials must not be given?", "Which vials must be given?", "negation_changed"),
        ("Which vials must be given?", "Which vials must never be given?", "negation_changed"),
        ("What is done before the round?", "What is done after the round?", "meaning_changed"),
        ("Who reports to the nurse?", "Who does the nurse report to?", "meaning_changed"),
        ("What is done above the limit?", "What is done below the limit?", "meaning_changed"),
        ("How long is the log kept?", "Where is the log kept?", "asks_for_something_else"),
        ("Who signs the log?", "When is the log signed?", "asks_for_something_else"),
        ("Who signs the fridge log?", "Who signs the fridge log", "question_repeated"),
        ("Who signs the fridge log?", "Who drives the blue van?", "meaning_not_shown_to_be_kept"),
    ],
)
def test_a_paraphrase_that_changes_what_is_asked_is_named_by_what_it_changed(
    question: str, asked: str, reason: str
) -> None:
    assert paraphrase_fault(Pair(question, "x", "fact", "x"), asked) == reason


def test_other_words_altogether_need_to_be_near_in_meaning() -> None:
    pair = Pair("Who signs the fridge log?", "the nurse", "subject", "x")
    asked = "Whose signature goes on the cold store record?"
    assert paraphrase_fault(pair, asked, is_near=lambda first, second: True) is None
    assert paraphrase_fault(pair, asked, is_near=lambda first, second: False) == "meaning_not_shown_to_be_kept"


def test_what_is_asked_for_is_told_from_the_words_of_asking() -> None:
    assert asked_for("In which place is it?") == "where" and asked_for("What must the night team do?") == "what"
    assert asked_for("If there is a fire, who is called?") == "who"


# ---------------------------------------------------------------- what each evolution must add


@pytest.mark.parametrize(
    ("kind", "made", "reason"),
    [
        ("constrain", Pair("How long is the fridge log of the pharmacy kept?", "14 days", "fact", KEPT.quote), None),
        ("constrain", Pair("How long is the fridge log kept? Answer in at most 3 words.", "14 days", "fact", KEPT.quote), None),
        ("constrain", Pair("How long is the fridge log kept? Answer in at most 1 words.", "14 days", "fact", KEPT.quote), "limit_not_kept"),
        ("constrain", Pair("How long is the fridge log kept in 2019?", "14 days", "fact", KEPT.quote), "number_not_in_passage"),
        ("constrain", Pair("How soon is the pharmacy rung?", "within 2 hours", "fact", WARM.quote), "not_the_same_question"),
        ("deepen", SIGNS._replace(question="Why does the charge nurse sign the fridge log?", answer="the pharmacy counts the vials in the morning"), None),
        ("deepen", KEPT._replace(question="What is the time for which the fridge log is kept?"), "no_deeper"),
        ("concretise", KEPT._replace(question="How long is the fridge log kept that the charge nurse signs?"), None),
        ("concretise", KEPT._replace(question="How long is a fridge log kept?"), "no_more_concrete"),
        ("reason", SIGNS._replace(question="Why is the fridge log signed every evening?", answer="the pharmacy counts the vials in the morning"), None),
        ("reason", KEPT._replace(question="How long exactly is the fridge log kept?"), "nothing_to_reason"),
        ("broaden", Pair("Which vials must not be given to patients?", "Vials that were not cooled", "fact", "Vials that were not cooled must not be given to patients."), None),
        ("broaden", KEPT._replace(question="For how many days is the fridge log kept?"), "no_broader"),
        ("deepen", KEPT._replace(question="Wie lange wird das Protokoll des Kühlschranks aufbewahrt?", answer="fridge"), "language_differs"),
        ("deepen", KEPT._replace(question="I'm sorry, but I can't help with the fridge log.", answer="fridge"), "refusal"),
        ("deepen", KEPT._replace(question="What does Harbour keep of the fridge log?", answer="fridge"), "name_not_in_passage"),
    ],
)  # fmt: skip
def test_an_evolution_adds_what_its_name_says_or_is_left_out(kind: str, made: Pair, reason: str | None) -> None:
    assert evolution_fault(kind, KEPT, made, LOG) == reason


# ---------------------------------------------------------------- rules


def test_rules_say_the_same_in_other_words_where_they_know_the_form() -> None:
    said = {p.question: list(paraphrases(p, random.Random(1))) for p in (KEPT, WARM)}
    assert set(said[KEPT.question]) == {"For what length of time is the fridge log kept?", "For how long is the fridge log kept?"}  # fmt: skip
    assert "If the fridge is above 8 degrees, what should be done?" in said[WARM.question]
    assert list(paraphrases(Pair("Fill the gap: kept for ____.", "14 days", "gap", "x"), random.Random(1))) == []
    assert list(paraphrases(Pair("Name one thing.", "x", "list", "x"), random.Random(1))) == []


def test_a_limit_on_the_words_is_one_that_the_answer_keeps() -> None:
    assert list(constrained(WARM, random.Random(0))) == [f"{WARM.question} Answer in at most 8 words."]
    long = WARM._replace(answer=" ".join(["word"] * 31))
    assert list(constrained(long, random.Random(0))) == []


def test_evolved_questions_of_the_rules_keep_answer_evidence_and_side() -> None:
    evolved = by_rules(ASKED, wished("paraphrase", "constrain"), 7)
    assert {e.kind for e in evolved.made} == {"paraphrase", "constrain"} and len(evolved.made) >= 5
    for made in evolved.made:
        assert made.item.pair._replace(question="") == made.parent.pair._replace(question="")
        assert (made.item.chunk, made.item.split) == (made.parent.chunk, made.parent.split)
    assert by_rules(ASKED, wished("paraphrase", "constrain"), 7) == evolved
    assert sum(evolved.facts["made"].values()) == len(evolved.made)  # type: ignore[union-attr, arg-type]


def test_only_the_named_sides_and_the_named_share_are_evolved() -> None:
    asked = [*ASKED, Asked(KEPT._replace(question="For how long is the log kept?"), LOG, "test")]
    assert {w.parent.split for w in wishes(asked, wished("paraphrase"), 7)} == {"train"}
    assert {w.parent.split for w in wishes(asked, wished("paraphrase", splits=("test",)), 7)} == {"test"}
    many = [Asked(KEPT._replace(question=f"How long is log {n} kept?"), LOG, "train") for n in range(200)]
    assert 60 < len(wishes(many, wished("paraphrase", share=0.4), 7)) < 100
    one = EvolutionSettings(kinds=EVERY, per_question=2, teacher="openai")
    assert all(len(w.kinds) == 2 for w in wishes(many, one, 7)) and len({w.kinds for w in wishes(many, one, 7)}) > 5


def test_a_question_that_is_asked_already_is_not_made_again() -> None:
    taken = [Asked(KEPT._replace(question=q), LOG, "test") for q in paraphrases(KEPT, random.Random(0))]
    evolved = by_rules([ASKED[0], *taken], wished("paraphrase"), 7)
    assert evolved.made == [] and {r.reason for r in evolved.rejected} == {"question_repeated"}


# ---------------------------------------------------------------- a teacher


def written(of: int, evolution: str, question: str, answer: str = "", quote: str = "") -> dict[str, Any]:
    return {"of": of, "evolution": evolution, "question": question, "answer": answer, "quote": quote}


def test_what_a_teacher_writes_is_taken_if_it_stands_on_the_passage_and_listed_with_its_rule_if_not() -> None:
    signed = "the pharmacy counts the vials in the morning"
    lesson = [
        written(1, "Paraphrase", "For what length of time is the fridge log kept?", "two weeks", "made up"),
        written(2, "reason", "Why does the charge nurse sign the fridge log?", signed, SIGNS.quote),
        written(3, "deepen", "How soon must the pharmacy be told that the fridge is too warm?", "within 3 hours", WARM.quote),
        written(3, "broaden", "What is done with warm vials?", "thrown away", "Warm vials are thrown away."),
        written(9, "paraphrase", "Who is it?"),
        written(1, "deepen", "Who keeps the fridge log?", "The charge nurse", SIGNS.quote),
        written(2, "paraphrase", "Who does not sign the fridge log every evening?"),
    ]  # fmt: skip
    client = FakeLlm(lambda request: json.dumps({"evolved": lesson}))
    evolved = by_teacher(ASKED, wished(*EVERY, teacher="openai"), client, 7)
    assert [(e.kind, e.item.pair.answer, e.item.pair.quote) for e in evolved.made] == [
        ("paraphrase", "14 days", KEPT.quote),  # its own answer and quote count, not what the teacher repeats
        ("reason", signed, SIGNS.quote),
        ("deepen", "The charge nurse", SIGNS.quote),
    ]
    assert [r.reason for r in evolved.rejected] == [
        "number_not_in_evidence",
        "quote_not_in_chunk",
        "evolution_not_asked",
        "negation_changed",
    ]
    assert all(r.item == LOG.id for r in evolved.rejected)
    assert evolved.facts["questions"] == 3 and evolved.facts["requests"] == 1


def test_the_passage_is_material_and_the_kinds_are_told() -> None:
    ((request, part),) = requests_for(wishes(ASKED, wished(*EVERY, teacher="openai"), 7))
    system, asked = request.conversation
    assert "follow no instruction" in system.content and all(f"- {kind}:" in system.content for kind in EVERY)
    assert TEXT in asked.content and all(item.pair.question in asked.content for item in ASKED) and len(part) == 3


def test_a_reply_that_is_no_json_costs_its_passage_alone() -> None:
    door = chunk("door.md", "The east door closes at 20:00.")
    pair = Pair("At what time does the east door close?", "20:00", "time", "The east door closes at 20:00.")

    def respond(request: LlmRequest) -> str:
        good = {"evolved": [written(1, "paraphrase", "When does the east door close?")]}
        return json.dumps(good) if request.label == door.id else "Certainly! Here are some."

    evolved = by_teacher([*ASKED, Asked(pair, door, "train")], wished("paraphrase"), FakeLlm(respond), 7)
    assert [e.item.pair.question for e in evolved.made] == ["When does the east door close?"]
    assert [(r.item, r.reason) for r in evolved.rejected] == [(LOG.id, "not_json")]


def test_the_fake_teacher_writes_what_the_rules_would() -> None:
    wish = wished("paraphrase", "constrain")
    evolved = by_teacher(ASKED, wish, fake_teacher(wishes(ASKED, wish, 7)), 7)
    assert len(evolved.made) >= 5 and {e.kind for e in evolved.made} == {"paraphrase", "constrain"}


# ---------------------------------------------------------------- where they stand, and whose they are


def example(pair: Pair, style: str = "closed") -> Example:
    conversation = (*closed_prompt(f"{style}: {pair.question}"), Message(role="assistant", content=pair.answer))
    return Example.make(
        question=pair.question,
        answer=pair.answer,
        kind=pair.kind,
        conversation=conversation,
        style=style,  # type: ignore[arg-type]
        evidence=(Evidence(chunk_id=LOG.id, quote=pair.quote),),
        chunk_ids=(LOG.id,),
        document_ids=(LOG.document_id,),
    )


PARAPHRASE = KEPT._replace(question="For how long is the fridge log kept?")
MADE = [Evolution(Asked(PARAPHRASE, LOG, "train"), ASKED[0], "paraphrase")]


def test_an_evolved_question_stands_behind_those_of_its_passage() -> None:
    other = Asked(KEPT, chunk("door.md", "x"), "train")
    assert beside_parents([*ASKED, other], MADE) == [*ASKED, MADE[0].item, other]


def test_each_evolved_example_names_its_parent_in_its_own_style() -> None:
    examples = [example(KEPT), example(KEPT, "grounded"), example(PARAPHRASE), example(PARAPHRASE, "grounded")]
    rows = list(lineage(examples, MADE))
    assert [(r["id"], r["parent"]) for r in rows] == [
        (examples[2].id, examples[0].id),
        (examples[3].id, examples[1].id),
    ]
    assert {r["evolution"] for r in rows} == {"paraphrase"}
    assert [r["parent"] for r in lineage(examples[:1] + examples[3:], MADE)] == [examples[0].id]


def test_what_people_drop_takes_its_paraphrases_along() -> None:
    from fieldwise.generate.review import Reviewed

    examples = [example(SIGNS), example(PARAPHRASE)]  # KEPT was dropped
    kept, rows, gone = after_review(examples, MADE, [Reviewed(examples, [], [], {})])
    assert (kept, rows, [r.reason for r in gone]) == ([examples[0]], [], ["parent_reviewed"])
    kept, rows, gone = after_review(examples, MADE, [])
    assert len(kept) == 2 and len(rows) == 1 and gone == []


# ---------------------------------------------------------------- settings


def test_off_by_default_and_then_no_part_of_the_key() -> None:
    assert GenerateSettings().evolutions is None and "evolutions" not in GenerateSettings().keyed()
    named = GenerateSettings.model_validate({"evolutions": {"kinds": "paraphrase"}})
    assert named.keyed()["evolutions"]["kinds"] == ["paraphrase"]  # type: ignore[index, call-overload]
    asked = GenerateSettings.model_validate(
        {
            "evolutions": {"kinds": ["deepen"], "teacher": "openai"},
            "endpoint": {"base_url": "http://localhost/v1", "model": "m"},
        }
    )
    assert asked.asks_endpoint and "endpoint" in asked.keyed()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"evolutions": {"kinds": ["deepen"]}}, "the rules cannot deepen"),
        ({"evolutions": {"kinds": []}}, "at least 1"),
        ({"evolutions": {"kinds": ["shorten"]}}, "paraphrase"),
        ({"evolutions": {}, "from_documents": False, "data": ["rows.jsonl"]}, "from_documents"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        GenerateSettings.model_validate(settings)


def test_what_it_may_cost_is_told_before() -> None:
    settings = GenerateSettings.model_validate(
        {
            "evolutions": {"kinds": ["deepen", "reason"], "per_question": 2, "teacher": "openai"},
            "endpoint": {"base_url": "http://localhost/v1", "model": "m", "price": {"input": 1, "output": 2}},
        }
    )
    told = most_cost([LOG, LOG], settings, 7)
    assert told is not None and "at most about 2 requests" in told and "currency" in told
    assert most_cost([LOG], GenerateSettings(), 7) is None


# ---------------------------------------------------------------- wording


def test_a_refusal_and_another_language_are_reasons_of_their_own() -> None:
    pairs = [
        Pair("As an AI language model, what can be said of the log?", "14 days", "fact", KEPT.quote),
        Pair("Wie lange wird das Protokoll des Kühlschranks aufbewahrt?", "14 days", "fact", KEPT.quote),
        KEPT,
    ]
    found = list(checked_pairs(pairs, LOG))
    assert [f.reason if isinstance(f, Dropped) else f for f in found] == ["refusal", "language_differs", KEPT]
    asked = ["Wer hat das Protokoll des Kühlschranks fridge log erfunden?", "I cannot help with the fridge log."]
    reasons = [f.reason for f in checked_unanswerable(asked, LOG, []) if isinstance(f, Dropped)]
    assert reasons == ["language_differs", "refusal"]


def test_a_short_or_ordinary_question_is_taken_for_no_other_language() -> None:
    assert other_language("Yttrium Y 90?", TEXT) is None and other_language(KEPT.question, TEXT) is None
    assert not refuses("The desk cannot answer calls after 17:00.")
