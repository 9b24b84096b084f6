import json

import pytest
from kinds_material import CASES, CHUNKS, material

from fieldwise.errors import ServiceError
from fieldwise.generate.kind_teacher import Lessons, ask, drafts_of, fake_teacher, lesson_of, requests_for, taught_kinds
from fieldwise.generate.kinds import make_further
from fieldwise.generate.settings import GenerateSettings
from fieldwise.generate.teacher import estimate
from fieldwise.generate.tools import read_tools
from fieldwise.interfaces import LlmRequest
from fieldwise.llm.fake import FakeLlm
from fieldwise.prompts import ANSWER_STYLE
from fieldwise.records import Example, Rejection

FRIDGE = next(c for c in CHUNKS if c.text == CASES)
LOG = "The fridge log is kept for 14 days."
SIGNED = "The fridge log is signed by the charge nurse because two medicines were spoiled last winter."
KINDS = ["summary", "extraction", "instruction", "comparison", "explanation", "multi_turn", "tool_call"]
LESSON = {
    "multi_turn": [
        {"question": "How long is the fridge log kept?", "answer": "14 days", "quote": LOG},
        {"question": "And who signs it?", "answer": "the charge nurse", "quote": SIGNED},
    ],
    "summary": [{"text": "The fridge log is kept for 14 days.", "quote": LOG}],
    "extraction": {
        "task": "Extract what is said of the log.",
        "facts": [
            {"name": "kept for", "meaning": "how long", "value": "14 days", "quote": LOG},
            {"name": "paper size", "meaning": "size of its paper", "value": None, "quote": ""},
        ],
    },
    "instruction": {
        "task": "List what is done in which case.",
        "form": "steps",
        "lines": [
            {"text": "close the door", "quote": "close the door."},
            {"text": "call the estates desk", "quote": "call the estates desk."},
        ],
    },
    "comparison": {
        "question": "Compare the cases of the display and of the alarm.",
        "parts": [
            {"name": "display", "answer": "close the door", "quote": "If the display shows more than eight degrees, close the door."},
            {"name": "alarm", "answer": "call the estates desk", "quote": "If the alarm rings, call the estates desk."},
        ],
    },
    "explanation": {"question": "Why is the fridge log signed?", "answer": "because two medicines were spoiled last winter", "quote": SIGNED},
    "tool_call": {"request": "Book ward Elm for 2031-04-18.", "tool": "book_bed", "arguments": [{"name": "ward", "value": '"Elm"'}, {"name": "date", "value": "2031-04-18"}]},
}  # fmt: skip
TOOLS = [{"name": "book_bed", "description": "Reserve a bed.", "parameters": {"type": "object", "properties": {"ward": {"type": "string"}, "date": {"type": "string"}}, "required": ["ward", "date"]}}]  # fmt: skip


@pytest.fixture
def tools_file(tmp_path):
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(TOOLS))
    return path


def taught(tools_file, lesson: dict | str) -> tuple[dict[str, Example], list[Rejection]]:
    """What becomes of a reply about one chunk; all others get an empty one."""
    given = material(kinds=KINDS, tools=str(tools_file), teacher="fake", grounded_share=0)
    tools = read_tools(tools_file)

    def respond(request: LlmRequest) -> str:
        if request.label != FRIDGE.id:
            return "{}"
        return lesson if isinstance(lesson, str) else json.dumps(lesson)

    lessons = ask(given.chunks, given.settings, tools, FakeLlm(respond))
    empty = material([], {}, kinds=KINDS, tools=str(tools_file))  # no rule makes anything
    written = list(drafts_of(lessons, given, tools, 7))
    found = make_further(type(given)((), (), given.sides, given.maker, empty.settings), [], tools, 7, written)
    return {e.kind: e for e in found.examples}, found.rejected


def test_a_reply_becomes_an_example_of_every_kind(tools_file) -> None:
    examples, rejected = taught(tools_file, LESSON)
    assert rejected == []
    assert set(examples) == set(KINDS)
    assert [m.content for m in examples["multi_turn"].conversation if m.role == "user"][1] == "And who signs it?"
    assert json.loads(examples["extraction"].answer) == {"kept_for": "14 days", "paper_size": None}
    assert examples["instruction"].answer == "1. close the door\n2. call the estates desk"
    assert examples["comparison"].answer == "display: close the door; alarm: call the estates desk"
    assert examples["tool_call"].conversation[-1].tool_calls[0].arguments == {"ward": "Elm", "date": "2031-04-18"}
    for kind, example in examples.items():
        assert example.evidence or kind == "tool_call"


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("multi_turn", [{**LESSON["multi_turn"][0], "answer": "15 days"}, LESSON["multi_turn"][1]], "answer_not_in_quote"),
        ("summary", [{"text": "The log is kept for 30 days.", "quote": LOG}], "number_not_in_evidence"),
        ("summary", [{"text": "x", "quote": "Nobody wrote this."}], "quote_not_in_chunk"),
        ("extraction", {**LESSON["extraction"], "facts": LESSON["extraction"]["facts"][:1]}, "too_few_facts"),
        ("instruction", {**LESSON["instruction"], "lines": LESSON["instruction"]["lines"][:1]}, "too_few_lines"),
        ("comparison", {**LESSON["comparison"], "parts": LESSON["comparison"]["parts"][:1]}, "nothing_to_compare"),
        ("explanation", {**LESSON["explanation"], "question": "Why is it signed?"}, "question_unclear"),
        ("tool_call", {**LESSON["tool_call"], "tool": "fly"}, "tool_not_declared"),
        ("tool_call", {**LESSON["tool_call"], "request": "Book a bed."}, "argument_not_given"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_left_out_with_its_name(tools_file, kind: str, change, reason: str) -> None:
    examples, rejected = taught(tools_file, {kind: change})
    assert examples == {}
    assert [(r.item, r.reason, r.detail.split(":")[0]) for r in rejected] == [(FRIDGE.id, reason, kind)]


def test_a_reply_that_is_no_json_is_one_rejection(tools_file) -> None:
    _, rejected = taught(tools_file, "I would rather not.")
    assert [(r.item, r.reason) for r in rejected] == [(FRIDGE.id, "not_json")]


def test_the_teacher_is_told_the_answer_style_the_kinds_and_the_tools(tools_file) -> None:
    settings = GenerateSettings(
        kinds=["question_answer", "summary", "tool_call", "hard_negative"], tools=str(tools_file)
    )
    assert taught_kinds(settings) == ("summary", "tool_call")
    request = requests_for([FRIDGE], settings, read_tools(tools_file))[0]
    system, user = (m.content for m in request.conversation)
    assert ANSWER_STYLE in system and "book_bed" in system and "multi_turn" not in system
    assert CASES in user and user.endswith("Write: summary, tool_call.")
    assert request.schema is lesson_of(("summary", "tool_call"))
    assert requests_for([FRIDGE], GenerateSettings(), ()) == []


def test_the_estimate_counts_the_requests_for_further_kinds(tmp_path) -> None:
    endpoint = {"teacher": "openai", "endpoint": {"base_url": "http://127.0.0.1:1/v1", "model": "m"}}
    plain = estimate(CHUNKS, GenerateSettings.model_validate(endpoint), tmp_path)
    wide = GenerateSettings.model_validate({**endpoint, "kinds": ["question_answer", "summary"]})
    assert (plain["requests"], estimate(CHUNKS, wide, tmp_path)["requests"]) == (len(CHUNKS), 2 * len(CHUNKS))
    assert estimate(CHUNKS, wide, tmp_path)["tokens"] > plain["tokens"]


def test_the_fake_teacher_writes_conversations_that_pass(tools_file) -> None:
    given = material(kinds=["multi_turn"], teacher="fake")
    lessons = ask(given.chunks, given.settings, (), fake_teacher(given))
    assert isinstance(lessons, Lessons) and lessons.left == 0 and lessons.facts["requests"] == len(CHUNKS)
    found = make_further(given, [], (), 7, drafts_of(lessons, given, (), 7))
    assert any(m.content.startswith("And ") for e in found.examples for m in e.conversation if m.role == "user")
    assert issubclass(ServiceError, Exception)
