import json
from pathlib import Path
from typing import Any

import pytest

from fieldwise.data.conversion import convert_set
from fieldwise.data.doctor import examine
from fieldwise.data.rendering import Base
from fieldwise.data.targets import Target
from fieldwise.errors import DatasetError
from fieldwise.prompts import tools_prompt
from fieldwise.records import Conversation, Example, Message, ToolCall
from fieldwise.rows.formats import Item
from fieldwise.rows.items import ItemReader, Read
from fieldwise.tables import read_records, write_records

TOOL = {
    "type": "function",
    "function": {
        "name": "book_bed",
        "description": "Reserve a bed.",
        "parameters": {"type": "object", "properties": {"ward": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
CALL = ToolCall(name="book_bed", arguments={"ward": "Elm, <east>", "days": 3})
CALLED = (*tools_prompt("Reserve a bed on Elm, <east> for 3 days."), Message(role="assistant", content="", tool_calls=(CALL,)))  # fmt: skip
WITH_RESULT = (*CALLED, Message(role="tool", content='{"bed": 7}'), Message(role="assistant", content="Bed 7."))
TURNS = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="How long is the log kept?"),
    Message(role="assistant", content="14 days"),
    Message(role="user", content="And who signs it?"),
    Message(role="assistant", content="the nurse"),
)


def example(conversation: Conversation, n: int, tools: bool = True) -> Example:
    return Example.make(question=f"q{n}", answer="a", kind="tool_call", conversation=conversation, style="task", phase="tool_calls", tools=(TOOL,) if tools else ())  # fmt: skip


EXAMPLES = [example(CALLED, 1), example(WITH_RESULT, 2), example(TURNS, 3, tools=False)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_records(tmp_path / "rows.parquet", EXAMPLES, Example)
    return tmp_path / "rows.parquet"


def items(path: Path) -> list[Item]:
    read = list(ItemReader([path], {}))
    assert all(isinstance(r, Read) and isinstance(r.item, Item) for r in read), read
    return [r.item for r in read if isinstance(r, Read) and isinstance(r.item, Item)]


def convert(source: Path, to: Target, suffix: str) -> Path:
    out = source.with_name(f"out-{to}{suffix}")
    convert_set(source, to, out, {})
    return out


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize("to", ["chat", "sharegpt"])
def test_calls_and_turns_come_through_word_for_word(source: Path, to: Target, suffix: str) -> None:
    found = items(convert(source, to, suffix))
    assert [i.conversations[0] for i in found] == [CALLED, WITH_RESULT, TURNS]
    assert [i.tools for i in found] == [(TOOL,), (TOOL,), ()]


def test_calls_are_written_as_openai_and_llama_factory_write_them(source: Path) -> None:
    chat = json.loads(convert(source, "chat", ".jsonl").read_text().splitlines()[0])
    call = chat["messages"][-1]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("book_bed", CALL.arguments)
    assert json.loads(chat["tools"]) == [TOOL]
    shared = json.loads(convert(source, "sharegpt", ".jsonl").read_text().splitlines()[0])
    assert shared["conversations"][-1]["from"] == "function_call"
    assert json.loads(shared["conversations"][-1]["value"]) == {"name": "book_bed", "arguments": CALL.arguments}


@pytest.mark.parametrize("to", ["alpaca", "qa", "prompt-completion"])
def test_a_format_without_tools_leaves_such_rows_out(source: Path, to: Target) -> None:
    if to == "prompt-completion":
        done = convert_set(source, to, source.with_name("out.jsonl"), {})
        assert [row["reason"] for row in done.left_out] == ["tool_calls", "tool_calls"]
    else:
        with pytest.raises(DatasetError, match="tool_calls 2"):
            convert_set(source, to, source.with_name("out.jsonl"), {})


def test_the_doctor_passes_turns_and_calls(source: Path) -> None:
    found = [f.code for f in examine(convert(source, "chat", ".jsonl"), Base.named("fieldwise-nano"), {}).findings]
    assert not {"tool_calls", "tools", "no_loss", "tools_not_shown", "prompt_letters_differ", "template_refuses"} & set(found)  # fmt: skip


def test_tools_that_are_called_but_not_declared_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"messages": [{"role": "user", "content": f"Book {n}"}, {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "book", "arguments": "{}"}}]}]} for n in range(3)]  # fmt: skip
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert "tools_not_declared" in [f.code for f in examine(path, Base.named("fieldwise-nano"), {}).findings]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "a", "arguments": "{"}}]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": {}}}]},
        {"role": "user", "content": "x", "tool_calls": [{"function": {"name": "a"}}]},
        {"role": "function_call", "content": "not json"},
    ],
)
def test_a_call_that_is_none_is_a_fault_of_its_row(tmp_path: Path, message: dict[str, Any]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "x"}, message]}) + "\n")
    read = next(iter(ItemReader([path], {})))
    assert isinstance(read, Read) and getattr(read.item, "code", None) == "tool_calls"


def test_a_file_without_the_newer_columns_reads_as_before(tmp_path: Path) -> None:
    plain = Example.make(question="q?", answer="a", kind="duration", conversation=TURNS[:3])
    write_records(tmp_path / "old.parquet", [plain], Example, without=("phase", "tools"))
    write_records(tmp_path / "new.parquet", EXAMPLES, Example)
    assert list(read_records(tmp_path / "old.parquet", Example)) == [plain]
    assert list(read_records(tmp_path / "new.parquet", Example)) == EXAMPLES
    assert plain.id == Example.make(question="q?", answer="a", kind="duration", conversation=TURNS[:3], tools=()).id
    assert EXAMPLES[0].id != example(CALLED, 1, tools=False).id
