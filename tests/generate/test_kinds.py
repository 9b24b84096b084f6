import json
import random
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from kinds_material import ALSO, CASES, CHUNKS, chunk, material

from fieldwise.generate.draft_checks import fault_of
from fieldwise.generate.drafts import Draft, Quote
from fieldwise.generate.kinds import _MAKERS, kind_of, limited, make_further, told_of, tools_of
from fieldwise.generate.split import leakage
from fieldwise.generate.tools import call_draft, read_tools
from fieldwise.prompts import (
    ANSWER_STYLE,
    EXTRACTION_SYSTEM,
    GROUNDED_SYSTEM,
    QUOTED_SYSTEM,
    TOOLS_SYSTEM,
    cited_numbers,
    is_declined,
)
from fieldwise.records import Chunk, Document, Example, Message, Source, ToolCall

RULES = ["summary", "extraction", "instruction", "comparison", "explanation", "multi_turn", "hard_negative"]


@cache
def made(kind: str, **settings) -> list[Example]:
    found = make_further(material(kinds=[kind], **settings), [], (), 7)
    assert found.examples, found.rejected
    return found.examples


@cache
def drafts(kind: str) -> tuple[Draft, object]:
    given = material(kinds=[kind], unanswerable_share=0)
    return next(d for d in _MAKERS[kind](given, random.Random(3)) if fault_of(d, given) is None), given


# ---------------------------------------------------------------- every kind


@pytest.mark.parametrize("kind", RULES)
def test_every_example_carries_its_evidence_chunks_difficulty_and_phase(kind: str) -> None:
    texts = {c.id: c.text for c in CHUNKS}
    for example in made(kind):
        assert all(e.quote in texts[e.chunk_id] for e in example.evidence)
        assert example.evidence or is_declined(example.answer)
        assert {e.chunk_id for e in example.evidence} <= set(example.chunk_ids)
        assert 0 < example.difficulty <= 1
        assert example.phase == {"multi_turn": "multi_turn", "hard_negative": "hard_negatives"}.get(kind, "single_turn")
        assert example.conversation[0].role == "system" and example.conversation[-1].role == "assistant"


@pytest.mark.parametrize("kind", [k for k in RULES if k != "extraction"])
def test_every_mark_points_to_the_passage_with_the_evidence(kind: str) -> None:
    texts = {c.id: c.text for c in CHUNKS}
    for example in made(kind):
        listed = re.split(r"\n\n(?=\[\d\] )", example.conversation[1].content.removeprefix("Passages:\n"))
        for reply in (m for m in example.conversation if m.role == "assistant"):
            for number in cited_numbers(reply.content):
                shown = listed[number - 1].rpartition("\n\nQuestion: ")[0] or listed[number - 1]
                assert any(e.quote in shown and e.quote in texts[e.chunk_id] for e in example.evidence)


def test_the_same_seed_makes_the_same_examples_and_another_one_others() -> None:
    first, again, other = (make_further(material(kinds=RULES), [], (), seed).examples for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_the_prompts_of_all_kinds_hold_the_one_answer_style() -> None:
    for system in (GROUNDED_SYSTEM, QUOTED_SYSTEM, EXTRACTION_SYSTEM, TOOLS_SYSTEM):
        assert ANSWER_STYLE in system
    systems = {e.conversation[0].content for e in make_further(material(kinds=RULES), [], (), 7).examples}
    assert systems == {GROUNDED_SYSTEM, QUOTED_SYSTEM, EXTRACTION_SYSTEM}


def test_a_question_stays_on_one_side_of_the_split() -> None:
    twin = chunk("twin.md", "Cold store", CHUNKS[1].text)
    sides = {c.document_id: "train" for c in CHUNKS} | {twin.document_id: "test"}
    found = make_further(material([*CHUNKS, twin], sides, kinds=["summary", "instruction", "explanation"]), [], (), 7)
    assert leakage(found.examples, {}) == []
    assert "question_on_two_sides" in {r.reason for r in found.rejected}


# ---------------------------------------------------------------- each kind


def test_a_summary_is_sentences_of_its_section_and_shorter() -> None:
    for example in made("summary"):
        text = next(c.text for c in CHUNKS if c.id == example.chunk_ids[0])
        assert len(example.answer.split()) < 0.75 * len(text.split())
        assert all(e.quote in example.answer for e in example.evidence)


def test_an_extraction_fits_the_schema_that_its_prompt_shows() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for example in made("extraction"):
        user = example.conversation[1].content
        schema = json.loads(user.partition("\n\nSchema:\n")[2].partition("\n\nQuestion: ")[0])
        jsonschema.validate(json.loads(example.conversation[-1].content), schema)
        assert user.endswith(f"\n\nQuestion: {example.question}")


def test_rows_of_tables_forms_and_facts_of_sentences_are_extracted() -> None:
    said = [json.loads(e.answer) for e in made("extraction")]
    assert {"box": "Allergy", "colour": "Yellow", "where": "Trolley"} in said or any(
        {"box": "Allergy", "colour": "Yellow", "where": "Trolley"} in v.get("rows", []) for v in said
    )
    assert any(v.get("issued_by") == "Ines Corvo" and v["valid_until"] == "3 May 2031" for v in said)
    assert any("14 days" in v.values() or "20:00" in v.values() for v in said)


def test_a_property_that_the_passage_says_nothing_about_is_null() -> None:
    values = [json.loads(e.answer) for seed in range(6) for e in make_further(material(kinds=["extraction"]), [], (), seed).examples]  # fmt: skip
    assert any(None in v.values() for v in values)


def test_procedures_become_steps_cases_a_list_and_lists_a_sentence() -> None:
    answers = [e.answer for e in made("instruction")]
    assert any(a.startswith("1. Close the door behind you.\n2. Turn the red key") for a in answers)
    assert any("- If the alarm rings: call the estates desk" in a for a in answers)
    assert any(
        a.startswith("Each entry needs: the date and time;") and "; and the running balance" in a for a in answers
    )


def test_rows_are_compared_by_what_their_column_says() -> None:
    answers = {e.answer for e in made("comparison")}
    assert any(re.fullmatch(r"(Low sugar|Allergy|Potassium): \w[\w ]*; (Low sugar|Allergy|Potassium): \w[\w ]*", a) for a in answers)  # fmt: skip


def test_a_stated_reason_is_asked_for() -> None:
    found = {e.answer: e.question for e in made("explanation")}
    assert "fridge log" in found["because two medicines were spoiled last winter"]


def test_a_follow_up_needs_the_turn_before_it() -> None:
    for example in made("multi_turn", unanswerable_share=0):
        asked = [m.content for m in example.conversation if m.role == "user"]
        assert len(asked) >= 2 and "Passages:" not in "".join(asked[1:])
        assert any(a.startswith("And ") or re.search(r"\b(?:it|they|them)\b", a) for a in asked[1:])
        said = [m.content for m in example.conversation if m.role == "assistant"]
        assert len(set(said)) == len(said)


def test_a_conversation_may_end_with_a_question_that_nothing_answers() -> None:
    first, second = two_chunks("Cold store", CASES, ALSO)
    pages = [first, second, *CHUNKS[4:6]]
    alone = material(
        pages, kinds=["multi_turn"], unanswerable_share=0.99, distractors=0
    )  # the other chunk is not shown
    found = make_further(alone, [], (), 3).examples
    missed = [e for e in found if is_declined(e.answer)]
    assert missed
    for example in missed:
        first_asked, *_, last_asked = [m.content for m in example.conversation if m.role == "user"]
        assert ("bag" in first_asked) is not ("bag" in last_asked)  # one chunk is shown, the other is asked for
        assert len(example.evidence) == sum(m.role == "user" for m in example.conversation) - 1


def two_chunks(title: str, one: str, other: str) -> list[Chunk]:
    document = Document.make(title=title, text=f"{one}\n\n{other}", source=Source(uri=f"{title}.md"))
    spans = (0, len(one)), (len(one) + 2, len(document.text))
    return [Chunk.make(document, a, b, heading_path=(document.text[a:b].split("\n")[0],)) for a, b in spans]


def test_near_misses_hold_no_answer_and_the_reply_quotes_its_sentence() -> None:
    texts = {c.id: c.text for c in CHUNKS}
    for example in made("hard_negative", unanswerable_share=0):
        quote = example.evidence[0].quote
        assert example.conversation[-1].content.endswith(f'"{quote}"')
        assert len(example.chunk_ids) >= 3
        assert all(example.answer.casefold() not in texts[i].casefold() for i in example.chunk_ids[1:])


def test_without_the_passage_that_answers_the_right_reply_declines() -> None:
    declined = [e for e in made("hard_negative", unanswerable_share=0.9) if is_declined(e.answer)]
    assert declined
    for example in declined:
        assert example.evidence == () and len(example.chunk_ids) >= 2


# ---------------------------------------------------------------- checks

BROKEN = [
    ("summary", lambda d: replace(d, answer=f"{d.answer} It costs 900 euros."), "number_not_in_evidence"),
    ("summary", lambda d: replace(d, quotes=(Quote(d.home, "What nobody wrote."),)), "quote_not_in_chunk"),
    ("extraction", lambda d: said(d, "The log is kept."), "not_json"),
    ("extraction", lambda d: said(d, '{"other": "x"}'), "schema_not_met"),
    ("extraction", lambda d: said(d, d.answer.replace("Yellow", "Purple").replace("14 days", "15 days").replace("Orange", "Mauve").replace("Brown", "Mauve")), "value_not_in_evidence"),
    ("instruction", lambda d: replace(d, answer=f"{d.answer}\n- wear green gloves beneath silver umbrellas outdoors"), "not_in_words_of_source"),
    ("comparison", lambda d: replace(d, answer="Allergy: Yellow; Potassium: Yellow"), "both_alike"),
    ("comparison", lambda d: replace(d, answer="Allergy: Mauve; Potassium: Brown"), "answer_not_in_quote"),
    ("explanation", lambda d: replace(d, answer="because nobody was on duty there"), "answer_not_in_quote"),
    ("multi_turn", lambda d: replace(d, conversation=d.conversation[:3]), "wrong_mark|too_few_turns"),
    ("multi_turn", lambda d: asked_again(d), "no_follow_up"),
    ("hard_negative", lambda d: replace(d, shown=d.shown[:2]), "wrong_mark|too_few_near_misses"),
    ("hard_negative", lambda d: said(d, f"{d.answer} [9]"), "wrong_mark"),
    ("hard_negative", lambda d: replace(d, answer="I cannot help with that"), "refusal"),
]  # fmt: skip


def said(draft: Draft, text: str) -> Draft:
    return replace(draft, answer=text, conversation=(*draft.conversation[:-1], Message(role="assistant", content=text)))


def asked_again(draft: Draft) -> Draft:
    turns = list(draft.conversation)
    users = [n for n, m in enumerate(turns) if m.role == "user"][1:]
    for n, place in enumerate(users):
        turns[place] = Message(role="user", content=f"Which colour has box number {n}?")
    return replace(draft, conversation=tuple(turns))


@pytest.mark.parametrize(("kind", "change", "reason"), BROKEN)
def test_a_broken_draft_is_left_out_with_the_rule_it_breaks(kind: str, change, reason: str) -> None:
    draft, given = drafts(kind)
    assert fault_of(draft, given) is None
    assert re.fullmatch(reason, str(fault_of(change(draft), given)))


# ---------------------------------------------------------------- limits


def plain(kind: str, count: int, split: str = "train") -> list[Example]:
    return [
        Example.make(
            question=f"{kind} {n}?", answer="x", kind=kind, split=split,
            conversation=(Message(role="user", content=f"{kind} {n}"), Message(role="assistant", content="x")),
        )
        for n in range(count)
    ]  # fmt: skip


def test_a_maximum_and_a_share_are_kept_and_counted() -> None:
    every = [*plain("duration", 60), *plain("summary", 60), *plain("tool_call", 50)]
    kept, over = limited(every, {"question_answer": None, "summary": 0.25, "tool_call": 20}, 1)
    counts = {k: sum(kind_of(e) == k for e in kept) for k in ("question_answer", "summary", "tool_call")}
    assert counts["question_answer"] == 60 and counts["tool_call"] == 20
    assert counts["summary"] / len(kept) <= 0.25 and counts["summary"] == 26
    assert over == {"summary": 34, "tool_call": 30}
    assert [e.id for e in kept] == [e.id for e in every if e in kept]


def test_where_every_kind_has_a_share_the_largest_is_taken_whole() -> None:
    kept, _ = limited([*plain("duration", 40), *plain("summary", 40)], {"question_answer": 0.8, "summary": 0.2}, 1)
    assert sum(kind_of(e) == "question_answer" for e in kept) == 40
    assert sum(kind_of(e) == "summary" for e in kept) == 10


def test_a_kind_that_is_not_named_is_left_out() -> None:
    kept, over = limited([*plain("duration", 3), *plain("summary", 2)], {"summary": None}, 1)
    assert {e.kind for e in kept} == {"summary"} and over == {"question_answer": 3}


def test_the_card_counts_kinds_phases_and_rules() -> None:
    found = make_further(material(kinds=["multi_turn", "summary"]), [], (), 7)
    found.leave_out("summary", "chk_1", "answer_length", "x")
    facts = told_of(found, [*found.examples, *plain("duration", 2)])
    assert facts["kinds_made"]["question_answer"] == 2 and facts["kinds_made"]["multi_turn"] >= 2
    assert sum(facts["phases"].values()) == len(found.examples) + 2
    assert facts["kinds_left_out"]["summary"]["answer_length"] >= 1


# ---------------------------------------------------------------- tools

TOOLS = [
    {"type": "function", "function": {"name": "book_bed", "description": "Reserve a bed on a ward.", "parameters": {"type": "object", "properties": {"ward": {"type": "string"}, "date": {"type": "string", "format": "date"}, "single": {"type": "boolean"}}, "required": ["ward", "date"]}}},
    {"name": "order_test", "description": "Orders a test for a patient.", "parameters": {"type": "object", "properties": {"patient_id": {"type": "string"}, "test": {"type": "string", "enum": ["potassium", "vitamin_d"]}, "amount": {"type": "integer", "minimum": 2, "maximum": 5}}, "required": ["patient_id", "test", "amount"]}},
]  # fmt: skip


@pytest.fixture(scope="module")
def tools_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tools") / "tools.json"
    path.write_text(json.dumps(TOOLS))
    return path


@pytest.fixture(scope="module")
def tool_calls(tools_file: Path) -> list[Example]:
    given = material(kinds=["tool_call"], tools=str(tools_file))
    tools = tools_of(given.settings)
    every = [e for seed in range(6) for e in make_further(given, [], tools, seed).examples]
    return list({e.id: e for e in every}.values())


def test_a_call_is_valid_and_every_value_was_given(tool_calls: list[Example]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    calls = [(e, c) for e in tool_calls for c in e.conversation[-1].tool_calls]
    assert {c.name for _, c in calls} == {"book_bed", "order_test"}
    for example, call in calls:
        declared = {t["function"]["name"]: t["function"]["parameters"] for t in example.tools}
        jsonschema.validate(call.arguments, declared[call.name])
        for value in call.arguments.values():
            if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
                assert value.replace("_", " ") in example.question.replace("_", " ")
        assert example.phase == "tool_calls" and example.style == "task"


def test_a_missing_value_is_asked_for_and_where_no_tool_fits_the_passages_answer(tool_calls: list[Example]) -> None:
    spoken = [e for e in tool_calls if not e.conversation[-1].tool_calls]
    asking = [e for e in spoken if e.answer.startswith("Which ")]
    answered = [e for e in spoken if e.evidence]
    assert asking and answered and all(e.tools for e in spoken)
    for example in asking:
        label = example.answer.removeprefix("Which ").rstrip("?")
        assert f"{label} " not in f"{example.question.casefold()} ".replace(f"a {label} ", "").replace("a test for", "")
    for example in answered:
        assert cited_numbers(example.conversation[-1].content) and "Passages:" in example.conversation[1].content


def test_a_wrong_call_is_left_out(tools_file: Path) -> None:
    given = material(kinds=["tool_call"], tools=str(tools_file))
    tools = read_tools(tools_file)
    right = {"patient_id": "P-1", "test": "potassium", "amount": 3}

    def fault(request: str, name: str, arguments: dict) -> str | None:
        return fault_of(call_draft(CHUNKS[0], request, ToolCall(name=name, arguments=arguments), (), (), tools), given)

    request = "Order a test for a patient: patient id P-1, test potassium and amount 3."
    assert fault(request, "order_test", right) is None
    assert fault(request, "order_tests", right) == "tool_not_declared"
    assert fault(request, "order_test", {**right, "amount": 9}) == "arguments_not_valid"
    assert fault(request, "order_test", {**right, "note": "x"}) == "argument_not_declared"
    assert fault(request, "order_test", {**right, "patient_id": "P-2"}) == "argument_not_given"
