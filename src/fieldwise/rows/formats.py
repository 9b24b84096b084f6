"""The formats of data sets: the fields of each, and how a row of it becomes one thing to train on.

A format is a line in FORMATS; which one a data set speaks is found in `schema`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue

from fieldwise.prompts import asked_of, cited_numbers, closed_prompt, grounded_prompt, is_declined
from fieldwise.records import Conversation, Message
from fieldwise.rows.values import RowFault, call_text, checked, first_keys, messages_of, text_of, tools_of, truth_of

FormatName = Literal[
    "examples", "chat", "sharegpt", "preference", "kto", "alpaca", "prompt-completion", "question-answer"
]


@dataclass(frozen=True)
class Item:
    """What a row asks and what it teaches."""

    conversations: tuple[Conversation, ...]
    """One with its reply; of a preference pair the chosen and then the rejected one."""
    asked: str
    said: str
    context: str = ""
    rejected: str | None = None
    kind: str | None = None
    label: bool | None = None
    question: str = ""
    """The question or instruction alone, where the row tells it apart from what it is about."""
    passages: tuple[str, ...] = ()
    given: str = ""
    """What an instruction is about (Alpaca's input)."""
    tools: tuple[dict[str, JsonValue], ...] = ()
    """Tools that the model may call, declared in OpenAI's format."""

    @property
    def prompt(self) -> Conversation:
        """What is asked, without the reply."""
        return self.conversations[0][:-1]

    @property
    def reply(self) -> str:
        """What is taught: the last reply, of a preference pair the chosen one."""
        return self.conversations[0][-1].content

    @property
    def text(self) -> str:
        """Everything people wrote in the row."""
        return "\n".join(part for part in (self.context, self.asked, self.said, self.rejected) if part)


class Field(NamedTuple):
    """A field of a format and the names a column may have for it."""

    names: tuple[str, ...]
    is_needed: bool = True


class Format(NamedTuple):
    """A format: its fields, and how a row becomes an item."""

    name: FormatName
    fields: dict[str, Field]
    item: Callable[[Mapping[str, Any]], Item]


# ---------------------------------------------------------------- rows of each format


def _chat_item(conversation: Conversation, **more: Any) -> Item:
    asked = "\n".join(m.content for m in conversation if m.role in ("user", "tool"))
    replies = [m for m in conversation if m.role == "assistant"]
    said = "\n".join("\n".join(p for p in (m.content, *map(call_text, m.tool_calls)) if p) for m in replies)
    return Item((conversation,), asked, said, **more)


def _ask(text: str, *, system: str = "") -> Conversation:
    user = Message(role="user", content=text)
    return (Message(role="system", content=system), user) if system.strip() else (user,)


def _reply(prompt: Conversation, text: str) -> Conversation:
    return (*prompt, Message(role="assistant", content=text))


def _chat(row: Mapping[str, Any]) -> Item:
    return _chat_item(messages_of(row["messages"], "messages"), tools=tools_of(row))


def _sharegpt(row: Mapping[str, Any]) -> Item:
    conversation = messages_of(row["conversations"], "conversations")
    system = text_of(row, "system", needed=False)
    if system.strip() and conversation[0].role != "system":
        conversation = (Message(role="system", content=system), *conversation)
    return _chat_item(conversation, tools=tools_of(row))


def _examples(row: Mapping[str, Any]) -> Item:
    conversation = messages_of(row["conversation"], "conversation")
    question, answer = text_of(row, "question"), text_of(row, "answer")
    context = _chat_item(conversation).asked.replace(question, "").strip()
    passages = (asked_of(conversation[:-1]) or ("", ()))[1]
    return Item(
        (conversation,), question, answer, context=context, question=question, passages=passages, tools=tools_of(row)
    )


def _alpaca(row: Mapping[str, Any]) -> Item:
    asked, given, said = text_of(row, "instruction"), text_of(row, "input", needed=False), text_of(row, "output")
    full = f"{asked}\n\n{given}" if given.strip() else asked
    prompt = _ask(full, system=text_of(row, "system", needed=False))
    return Item((_reply(prompt, said),), full, said, question=asked, given=given if given.strip() else "")


def _prompt_completion(row: Mapping[str, Any]) -> Item:
    prompt, asked = _prompt(row["prompt"])
    said = _side(row["completion"], "completion")
    return Item((_reply(prompt, said),), asked, said)


def _question_answer(row: Mapping[str, Any]) -> Item:
    question, answer = text_of(row, "question"), text_of(row, "answer")
    passages = _passages(row)
    prompt = grounded_prompt(question, passages) if passages else closed_prompt(question)
    conversation = _reply(prompt, _cited(answer, passages))
    return Item((conversation,), question, answer, context="\n".join(passages), question=question, passages=passages)


def _cited(answer: str, passages: Sequence[str]) -> str:
    """The answer as the prompt over passages asks for it: with the number of the one passage whose words it is."""
    if cited_numbers(answer) or is_declined(answer):
        return answer
    words = answer.strip().rstrip(".").casefold()
    holding = [n for n, passage in enumerate(passages[:9], 1) if words in passage.casefold()]
    return f"{answer} [{holding[0]}]" if len(holding) == 1 else answer


def _passages(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The passages of a context: a text, a list of texts, or such a list written as JSON."""
    value = row.get("context")
    if isinstance(value, str) and (value == "[]" or value.startswith('["')):
        with suppress(json.JSONDecodeError):
            value = json.loads(value)
    if not isinstance(value, list):
        value = [text_of(row, "context", needed=False)]
    return tuple(p for passage in value if (p := checked(str(passage), "context")).strip())


def _prompt(value: Any) -> tuple[Conversation, str]:
    if isinstance(value, list) or {"role", "content"} <= first_keys(value):
        prompt = messages_of(value, "prompt")
        return prompt, "\n".join(m.content for m in prompt if m.role != "system")
    asked = text_of({"prompt": value}, "prompt")
    return _ask(asked), asked


def _side(value: Any, field: str) -> str:
    """The reply of a side: a text, or messages of which the last is the reply."""
    return messages_of(value, field)[-1].content if isinstance(value, list) else text_of({field: value}, field)


def _preference(row: Mapping[str, Any]) -> Item:
    if row.get("prompt") is not None:
        prompt, asked = _prompt(row["prompt"])
    elif isinstance(row["chosen"], list) and isinstance(row["rejected"], list):
        prompt = messages_of(row["chosen"], "chosen")[:-1]
        if not prompt or prompt != messages_of(row["rejected"], "rejected")[:-1]:
            raise RowFault("no_shared_prompt", "chosen and rejected do not begin with the same messages")
        asked = "\n".join(m.content for m in prompt if m.role != "system")
    else:
        raise RowFault("null", "prompt is null")
    chosen, rejected = _side(row["chosen"], "chosen"), _side(row["rejected"], "rejected")
    return Item((_reply(prompt, chosen), _reply(prompt, rejected)), asked, chosen, rejected=rejected)


def _kto(row: Mapping[str, Any]) -> Item:
    item = _prompt_completion(row)
    if row.get("label") is None:
        raise RowFault("null", "label is null")
    label = truth_of(row["label"])
    if label is None:
        raise RowFault("bad_label", "label is neither true nor false")
    return Item(item.conversations, item.asked, item.said, label=label)


_ASKING = ("prompt", "question", "instruction", "query")
FORMATS: tuple[Format, ...] = (
    Format(
        "examples",
        {
            "conversation": Field(("conversation",)),
            "question": Field(("question",)),
            "answer": Field(("answer",)),
            "tools": Field(("tools",), False),
        },
        _examples,
    ),
    Format(
        "chat",
        {"messages": Field(("messages", "conversations", "conversation")), "tools": Field(("tools",), False)},
        _chat,
    ),
    Format(
        "sharegpt",
        {
            "conversations": Field(("conversations", "conversation")),
            "system": Field(("system",), False),
            "tools": Field(("tools",), False),
        },
        _sharegpt,
    ),
    Format(
        "preference",
        {"prompt": Field(_ASKING, False), "chosen": Field(("chosen",)), "rejected": Field(("rejected",))},
        _preference,
    ),
    Format(
        "kto",
        {"prompt": Field(("prompt",)), "completion": Field(("completion", "response")), "label": Field(("label",))},
        _kto,
    ),
    Format(
        "alpaca",
        {
            "instruction": Field(("instruction",)),
            "input": Field(("input", "context"), False),
            "output": Field(("output", "response", "answer")),
            "system": Field(("system",), False),
        },
        _alpaca,
    ),
    Format(
        "prompt-completion",
        {"prompt": Field(("prompt",)), "completion": Field(("completion", "response", "output", "answer"))},
        _prompt_completion,
    ),
    Format(
        "question-answer",
        {
            "question": Field(("question", "query")),
            "context": Field(("context", "passage", "passages"), False),
            "answer": Field(("answer", "response", "output", "completion")),
        },
        _question_answer,
    ),
)
FIELDS = tuple(sorted({name for f in FORMATS for name in f.fields} | {"kind"}))
"""Every field a column can be mapped to."""
