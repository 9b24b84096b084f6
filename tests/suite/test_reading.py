"""Suites as people write them, and promptfoo's."""

import json
from pathlib import Path

import pytest

from fieldwise.errors import DatasetError
from fieldwise.prompts import CLOSED_SYSTEM, GROUNDED_SYSTEM, closed_prompt, grounded_prompt
from fieldwise.suite.items import Check
from fieldwise.suite.reading import open_suite


def written(tmp_path: Path, text: str, name: str = "s.yaml") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


YAML = """
name: ward
version: 2
domain: healthcare
passages:
  desk: |
    The desk opens at 06:45.
    | a | b |
tools:
  book: {name: book, parameters: {type: object, properties: {ward: {type: string}}}}
items:
  - {id: a, question: When does the desk open, passages: [desk], answer: 06:45, aliases: [6:45], kind: time, difficulty: easy}
  - {id: b, question: What does it cost, passages: [desk, Written out here.], answer: null, lacks: [cost], system: Be brief.}
  - {id: c, prompt: Book a bed., tools: [book], checks: [{tool_call: [{name: book, arguments: {ward: [A]}}]}]}
  - {id: d, messages: [{role: user, content: Hi}], checks: [{icontains: hello}, {must_not_contain: [x]}], critical: must_not_contain}
  - {id: e, question: What is this, answer: no}
"""


def test_a_yaml_suite_says_what_is_sent_and_what_is_checked(tmp_path: Path) -> None:
    suite = open_suite(written(tmp_path, YAML))
    a, b, c, d, e = suite.items
    assert (suite.name, suite.version, {i.domain for i in suite.items}) == ("ward", "2", {"healthcare"})
    assert a.conversation == grounded_prompt("When does the desk open", ["The desk opens at 06:45.\n| a | b |"])
    assert a.checks == (Check(name="answer", value=["06:45", "6:45"]),)  # 6:45 is no number of minutes
    assert b.checks == (Check(name="must_decline"),)
    assert b.conversation[0].content == f"{GROUNDED_SYSTEM}\nBe brief." and len(b.passages) == 2
    assert c.tools[0]["function"]["name"] == "book" and c.tools[0]["type"] == "function"
    assert [x.is_critical for x in d.checks] == [False, True]
    assert e.conversation == closed_prompt("What is this") and e.conversation[0].content == CLOSED_SYSTEM
    assert e.checks[0].value == ["no"]  # and not false


def test_the_key_of_an_item_is_what_is_asked_alone(tmp_path: Path) -> None:
    first = open_suite(written(tmp_path, YAML))
    other = open_suite(written(tmp_path, YAML.replace("answer: 06:45", "answer: 07:00")))
    assert [i.key for i in first.items] == [i.key for i in other.items]
    assert first.sha256 != other.sha256
    asked = open_suite(written(tmp_path, YAML.replace("When does", "At what time does")))
    assert asked.items[0].key != first.items[0].key


def test_json_lines_of_several_tools_are_read(tmp_path: Path) -> None:
    rows = [
        {"question": "How long?", "answer": "14 days", "aliases": ["two weeks"], "document": "a.pdf", "quote": "..."},
        {"question": "What cost?", "answer": None},
        {"input": [{"role": "user", "content": "2 + 2"}], "ideal": "4"},
        {"input": "2 + 3", "target": ["5", "five"]},
        {"prompt": "2 + 4", "expected": "6", "id": "x"},
        {"prompt": "Reply in JSON", "checks": [{"json_valid": True}]},
    ]
    suite = open_suite(written(tmp_path, "\n".join(json.dumps(r) for r in rows), "mine.jsonl"))
    assert [i.id for i in suite.items] == ["0001", "0002", "0003", "0004", "x", "0006"]
    assert [c.value for i in suite.items for c in i.checks] == [
        ["14 days", "two weeks"],
        True,
        ["4"],
        ["5", "five"],
        ["6"],
        True,
    ]
    assert suite.items[2].conversation[0].content == "2 + 2" and suite.items[1].checks[0].name == "must_decline"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("answer: null, lacks: [cost]", "answer: null, lacks: [desk]"), "should lack"),
        (("{icontains: hello}", "{ikontains: hello}"), "unknown check"),
        (("{icontains: hello}", "{regex: '('}"), "not a pattern"),
        (("{icontains: hello}", "{contains: 4}"), "in quotes"),
        (("{icontains: hello}", "{json_valid: false}"), "takes no value"),
        (("{icontains: hello}", "{schema_valid: {type: objekt}}"), "not a JSON schema"),
        (("{icontains: hello}", "{schema_valid: {$ref: 'http://x.example/s'}}"), "nothing is fetched"),
        (("{icontains: hello}", "{tool_call: [{name: gone}]}"), "not offered"),
        (("{ward: [A]}", "{ward: A}"), "list of its allowed values"),
        (("tools: [book]", "tools: [look]"), "no such tool"),
        (("critical: must_not_contain", "critical: answer"), "does not have"),
        (("{id: e,", "{id: a,"), "ids stand twice"),
        (("question: What is this,", "question: ' ',"), "nothing is asked"),
        (("question: What is this, answer: no", "question: What"), "nothing is checked"),
        (("question: What is this,", "question: What, prompt: Why,"), "one of question, prompt"),
        (("question: What is this,", "frage: What,"), "frage"),
        (("difficulty: easy", "difficulty: tough"), "difficulty"),
        (("version: 2", "version: 2\nversion: 3"), "stands twice"),
        (("version: 2", "versoin: 2"), "unknown key"),
        (("domain: healthcare", "domain: &d healthcare\nabout: *d"), "aliases"),
        (("name: ward", "name: [ward"), "not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_suite_is_told_with_its_place(tmp_path: Path, change, says: str) -> None:
    assert change[0] in YAML
    path = written(tmp_path, YAML.replace(*change))
    with pytest.raises(DatasetError) as caught:
        open_suite(path)
    assert says in str(caught.value) and path in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("s.jsonl", "", "no item"),
        ("s.jsonl", '{"question": "a", "answer": "b"}\n{"question"', "s.jsonl:2"),
        ("s.jsonl", '["a"]', "expected a JSON object"),
        ("s.yaml", "[1, 2]", "expected a mapping"),
        ("s.yaml", "items: {}", "expected a list"),
        ("s.yaml", "items: []", "no item"),
        ("s.yaml", "[" * 5000, "not valid YAML"),
        ("s.csv", "a,b", "by its ending"),
    ],
)
def test_files_that_hold_no_suite(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        open_suite(written(tmp_path, text, name))


def test_a_file_that_is_no_text_and_a_name_that_is_none(tmp_path: Path) -> None:
    for name in ("s.yaml", "s.jsonl"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00bad")
        with pytest.raises(DatasetError, match="UTF-8"):
            open_suite(str(tmp_path / name))
    with pytest.raises(DatasetError, match="healthcare, legal, safety"):
        open_suite("helthcare")


# ---------------------------------------------------------------- promptfoo

PROMPTFOO = """
description: A configuration
providers: [openai:gpt-4o]
prompts:
  - 'Answer briefly: {{question}}'
  - file://chat.json
defaultTest:
  assert: [{type: not-icontains, value: as an AI}]
tests:
  - description: opening
    vars: {question: 'When does it "open"?'}
    assert: [{type: contains, value: '08:15'}, {type: regex, value: '\\d'}, {type: not-contains, value: closed}]
  - vars: {question: [one, two], lang: en}
    assert:
      - {type: icontains-any, value: 'yes, no'}
      - {type: contains-all, value: [a, '{{lang}}']}
      - {type: contains, value: ignored, weight: 0}
  - vars: {question: JSON please}
    assert: [{type: is-json, value: {type: object, required: [a]}}, {type: is-json}, {type: equals, value: {a: 1}}]
  - vars: {question: steal}
    assert: [{type: is-refusal}]
  - {description: judged, vars: {question: x}, assert: [{type: contains, value: a}, {type: llm-rubric, value: is kind}]}
  - {description: empty, vars: {other: x}, assert: [{type: contains, value: a}]}
"""


def test_a_promptfoo_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text(
        json.dumps([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "{{ question }}"}])
    )
    suite = open_suite(written(tmp_path, PROMPTFOO, "promptfooconfig.yaml"))
    by_id = {i.id: i for i in suite.items}
    assert len(suite.items) == 2 * (1 + 2 + 1 + 1)
    opening = by_id["opening / prompt 1"]
    assert opening.conversation[0].content == 'Answer briefly: When does it "open"?'
    assert [(c.name, c.value) for c in opening.checks] == [
        ("not_icontains", "as an AI"),
        ("contains", "08:15"),
        ("regex", "\\d"),
        ("not_contains", "closed"),
    ]
    chat = by_id["opening / prompt 2"].conversation
    assert [m.role for m in chat] == ["system", "user"] and chat[1].content == 'When does it "open"?'
    assert [(c.name, c.value) for c in by_id["test 2 / prompt 1"].checks][1:] == [
        ("icontains_any", ["yes", "no"]),
        ("contains", ["a", "en"]),
    ]
    assert by_id["test 2 / prompt 1 (2)"].asked.endswith("two")
    assert [c.name for c in by_id["test 3 / prompt 1"].checks][1:] == ["schema_valid", "json_valid", "json_equals"]
    assert by_id["test 4 / prompt 2"].checks[-1].name == "must_decline"
    assert {(s.id, s.reason) for s in suite.skipped if "prompt 1" in s.id} == {
        ("judged / prompt 1", "assertion llm-rubric"),
        ("empty / prompt 1", "the variable question has no value"),
    }


def test_a_configuration_reads_no_file_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "in").mkdir()
    path = written(
        tmp_path / "in", "prompts: ['file://../secret.txt']\ntests: [{assert: [{type: contains, value: a}]}]"
    )
    with pytest.raises(DatasetError, match="outside the folder"):
        open_suite(path)


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("{vars: {q: a}, threshold: 0.5, assert: [{type: contains, value: a}]}", "threshold"),
        ("{vars: {q: a}, options: {transform: x}, assert: [{type: contains, value: a}]}", "transforms"),
        ("{vars: {q: a}, assert: []}", "asserts nothing"),
        ("{vars: {q: a}, assert: [{type: javascript, value: a}]}", "javascript"),
        ("{vars: {q: a}, assert: [{type: contains, value: '{% if a %}'}]}", "more than variables"),
    ],
)
def test_a_test_that_cannot_be_judged_whole_is_left_out_and_named(tmp_path: Path, test: str, reason: str) -> None:
    good = "{vars: {q: a}, assert: [{type: contains, value: a}]}"
    suite = open_suite(written(tmp_path, f"prompts: ['{{{{q}}}}']\ntests:\n  - {test}\n  - {good}\n"))
    assert len(suite.items) == 1 and reason in suite.skipped[0].reason
