import json
import random

import pytest

from fieldwise.generate.forms import (
    Tool,
    broken_calls,
    broken_json,
    call_fault,
    call_text,
    is_broken_call,
    is_broken_json,
    is_json,
    tools_of,
    with_tools,
)
from fieldwise.records import Message, ToolCall
from fieldwise.serve.tool_calls import find_tool_calls
from fieldwise.suite.items import Item, Reply
from fieldwise.suite.json_checks import json_valid

ROW = '{"name": "Ada Brand", "beds": 14, "is_open": true}'
ITEM = Item(id="i", conversation=(Message(role="user", content="?"),), asked="?", checks=())


def is_valid_for_the_suites(text: str) -> bool:
    return json_valid(Reply(text=text), True, ITEM).value == 1.0


def test_broken_json_is_broken_for_the_suites_too_and_holds_the_same_values() -> None:
    found = list(broken_json(ROW, random.Random(0)))
    assert len(found) == 7
    for text in found:
        assert not is_valid_for_the_suites(text)
        assert is_broken_json(ROW, text)
    assert '{"name": "Ada Brand", "beds": 14, "is_open": true' in found
    assert "{'name': 'Ada Brand', 'beds': 14, 'is_open': true}" in found
    assert f"Here is the JSON:\n{ROW}" in found
    assert '{"name": "Ada Brand", "beds": 14, "is_open": true,}' in found


@pytest.mark.parametrize("text", ["14 days", '"text"', "14", "", "{", "[NaN]", f"{ROW} and more"])
def test_what_is_no_object_or_list_alone_is_no_json(text: str) -> None:
    assert not is_json(text)


def test_other_values_are_not_a_broken_form() -> None:
    assert not is_broken_json(ROW, ROW.replace("14", "15")[:-1])
    assert not is_broken_json(ROW, ROW) and not is_broken_json(ROW[:-1], ROW[:-2])


# ---------------------------------------------------------------- calls

BOOK = {
    "name": "book_room",
    "parameters": {
        "type": "object",
        "properties": {
            "room": {"type": "string"},
            "seats": {"type": "integer"},
            "floor": {"type": "string", "enum": ["ground", "first"]},
        },
        "required": ["room"],
    },
}
SYSTEM = f"You may call tools. <tools>\n{json.dumps({'type': 'function', 'function': BOOK})}\n</tools>"
TOOLS = tools_of((Message(role="system", content=SYSTEM),))
CALL = call_text(
    Message(
        role="assistant", content="", tool_calls=(ToolCall(name="book_room", arguments={"room": "4", "seats": 12}),)
    )
)


def test_tools_are_read_off_the_system_message_in_either_shape() -> None:
    assert (Tool("book_room", BOOK["parameters"]),) == TOOLS
    as_list = json.dumps([BOOK, {"name": "other", "parameters": {}}])
    assert [t.name for t in tools_of((Message(role="system", content=as_list),))] == ["book_room", "other"]
    assert tools_of((Message(role="system", content='{"no": "tool"}'), Message(role="user", content=SYSTEM))) == ()


def test_tools_beside_a_conversation_are_declared_in_its_system_message() -> None:
    asked = (Message(role="system", content="Be short."), Message(role="user", content="Book room 4."))
    shown = with_tools(asked, [{"type": "function", "function": BOOK}])
    assert shown[0].content.startswith("Be short.\n\n# Tools") and shown[1:] == asked[1:]
    assert tools_of(shown) == TOOLS == tools_of(with_tools(asked[1:], [BOOK]))
    assert with_tools(asked, ()) == asked


def test_a_call_is_written_as_serving_reads_it() -> None:
    assert find_tool_calls(CALL) == (ToolCall(name="book_room", arguments={"room": "4", "seats": 12}),)
    assert call_fault(CALL, TOOLS) is None


def call(**arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': 'book_room', 'arguments': arguments})}</tool_call>"


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("Room 4 is booked.", "not calls alone"),
        (f"I book it. {CALL}", "not calls alone"),
        (CALL.removesuffix("</tool_call>"), "not calls alone"),
        ("<tool_call>{name: book_room}</tool_call>", "no JSON of a name and arguments"),
        (CALL.replace("book_room", "book"), "unknown tool"),
        (call(seats=3), "missing argument"),
        (call(room="4", chairs=3), "unknown argument"),
        (call(room=4), "wrong type"),
        (call(room="4", seats="3"), "wrong type"),
        (call(room="4", seats=True), "wrong type"),
        (call(room="4", floor="third"), "value not allowed"),
        (call(room="4", floor="first"), None),
    ],
)
def test_what_is_wrong_with_a_call_is_named(reply: str, fault: str | None) -> None:
    assert call_fault(reply, TOOLS) == fault


def test_broken_calls_show_every_way_and_are_no_calls_to_serving_or_no_sound_ones() -> None:
    found = list(broken_calls(CALL, TOOLS, random.Random(0)))
    assert {call_fault(text, TOOLS) for text in found} == {
        "not calls alone",
        "no JSON of a name and arguments",
        "unknown tool",
        "missing argument",
        "wrong type",
    }
    assert all(is_broken_call(CALL, text, TOOLS) for text in found)


def test_one_of_two_calls_is_broken_and_the_other_stays() -> None:
    two = f"{CALL}\n{call(room='5')}"
    assert call_fault(two, TOOLS) is None
    found = list(broken_calls(two, TOOLS, random.Random(0)))
    assert all(is_broken_call(two, text, TOOLS) for text in found)
    assert any(text.startswith(CALL) for text in found) and any(text.endswith(call(room="5")) for text in found)


def test_a_sound_call_of_something_else_is_not_broken() -> None:
    assert not is_broken_call(CALL, CALL.replace('"4"', '"5"'), TOOLS)
    assert not is_broken_call("no call", CALL.replace("book_room", "book"), TOOLS)
