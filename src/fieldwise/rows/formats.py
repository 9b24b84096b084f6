"""Which format the columns of a data set speak, and each row as one thing to train on.

A format is a line in FORMATS. Columns are matched by name; where two columns could be the same field, or two formats
fit and neither reads more of the columns, nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.prompts import asked_of, cited_numbers, closed_prompt, grounded_prompt, is_declined
from fieldwise.records import Conversation, Message, ToolCall

FormatName = Literal[
    "examples", "chat", "sharegpt", "preference", "kto", "alpaca", "prompt-completion", "question-answer"
]


class RowFault(Exception):
    """Why a row cannot be trained on; `code` groups equal faults, the text is for people and holds no value."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


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


@dataclass(frozen=True)
class Schema:
    """The format found, the column of each field, and the columns that are not used."""

    format: Format
    columns: dict[str, str]
    unused: tuple[str, ...]
    kind_column: str | None

    def explain(self) -> str:
        """Return one line that says what was found and from which columns."""
        used = ", ".join(f if f == c else f"{f} (column {c})" for f, c in self.columns.items())
        rest = f"; not used: {', '.join(self.unused)}" if self.unused else ""
        return _whole(f"{self.format.name}, from the columns {used}{rest}")

    def item(self, values: Mapping[str, Any]) -> Item:
        """Return a row as an item; raises RowFault when it cannot be one."""
        item = self.format.item({field: values.get(column) for field, column in self.columns.items()})
        if self.kind_column is None:
            return item
        kind = values.get(self.kind_column)
        return Item(**{**vars(item), "kind": None if kind is None else _whole(str(kind))[:60]})


# ---------------------------------------------------------------- values of a row


def _whole(text: str) -> str:
    """The text with half signs spelt out, so that it can be printed."""
    return text.encode("utf-8", "backslashreplace").decode()


def _checked(text: str, field: str) -> str:
    """The text; half a sign, as JSON may write it, is in no tokenizer's alphabet."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RowFault("half_sign", f"{field} holds half a sign (a lone surrogate such as \\ud83d)") from None
    return text


def _text(row: Mapping[str, Any], field: str, *, needed: bool = True) -> str:
    value = row.get(field)
    if value is None:
        if needed:
            raise RowFault("null", f"{field} is null")
        return ""
    if isinstance(value, dict | list):
        raise RowFault("not_text", f"{field} is not a text")
    text = _checked(str(value), field)
    if needed and not text.strip():
        raise RowFault("empty", f"{field} is empty")
    return text


def _ask(text: str, *, system: str = "") -> Conversation:
    user = Message(role="user", content=text)
    return (Message(role="system", content=system), user) if system.strip() else (user,)


def _reply(prompt: Conversation, text: str) -> Conversation:
    return (*prompt, Message(role="assistant", content=text))


_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "function": "tool", "observation": "tool", "tool_call": "function_call"}  # fmt: skip


def _messages(value: Any, field: str) -> Conversation:
    """The messages of a list, or of a list written as JSON text; chat and ShareGPT keys alike."""
    if value is None:
        raise RowFault("null", f"{field} is null")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise RowFault("not_messages", f"{field} is a text and no list of messages") from None
    if not isinstance(value, list):
        raise RowFault("not_messages", f"{field} is no list of messages")
    if not value:
        raise RowFault("empty", f"{field} is empty")
    return tuple(_message(item, field) for item in value)


def _message(item: Any, field: str) -> Message:
    if not isinstance(item, dict):
        raise RowFault("not_messages", f"{field} holds something that is no message")
    role = str(item.get("role", item.get("from", ""))).casefold()
    role = _ROLES.get(role, role)
    content = item.get("content", item.get("value"))
    calls = _calls(item, role, content, field)
    if role == "function_call":
        return Message(role="assistant", content="", tool_calls=calls)
    if role not in ("system", "user", "assistant", "tool"):
        raise RowFault("unknown_role", f"{field} holds a role that is none of system, user, assistant, tool")
    if content is None and calls:
        content = ""
    if content is None:
        raise RowFault("null", f"a message of {field} says null")
    if not isinstance(content, str):
        raise RowFault("not_text", f"a message of {field} is not a text")
    if role == "assistant" and not content.strip() and not calls:
        raise RowFault("empty", f"a reply in {field} is empty")
    return Message(role=role, content=_checked(content, field), tool_calls=calls)


def _calls(item: Mapping[str, Any], role: str, content: Any, field: str) -> tuple[ToolCall, ...]:
    """The calls of a message: OpenAI's `tool_calls` or `function_call`, or ShareGPT's role function_call with JSON."""
    found = content if role == "function_call" else item.get("tool_calls") or item.get("function_call")
    if not found:
        return ()
    if role not in ("assistant", "function_call"):
        raise RowFault("tool_calls", f"a message of {field} that is no reply calls a tool")
    found = _from_json(found)
    return tuple(_call(call, field) for call in (found if isinstance(found, list) else [found]))


def _call(value: Any, field: str) -> ToolCall:
    value = _from_json(value)
    inner = value.get("function", value) if isinstance(value, dict) else None
    arguments = _from_json(inner.get("arguments") or {}) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not isinstance(arguments, dict):
        raise RowFault("tool_calls", f"a call of a tool in {field} is not a name with arguments as JSON")
    _checked(json.dumps(arguments, ensure_ascii=False), field)
    return ToolCall(name=_checked(inner["name"], field), arguments=arguments)


def _from_json(value: Any) -> Any:
    """A value, or what a text of JSON stands for; None for a text that is none."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (json.JSONDecodeError, RecursionError):
        return None


def _tools(row: Mapping[str, Any]) -> tuple[dict[str, JsonValue], ...]:
    """The tools of a row, each with `function` around its name, description and parameters."""
    value = _from_json(row.get("tools")) if row.get("tools") not in (None, "") else []
    found = [_from_json(tool) for tool in value] if isinstance(value, list) else [value]
    inner = [tool.get("function", tool) if isinstance(tool, dict) else None for tool in found]
    if not all(isinstance(tool, dict) and isinstance(tool.get("name"), str) for tool in inner):
        raise RowFault("tools", "tools is no list of declarations, each with a name")
    _checked(json.dumps(inner, ensure_ascii=False), "tools")
    return tuple({"type": "function", "function": tool} for tool in inner)


def call_text(call: ToolCall) -> str:
    """A call as JSON."""
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)


def _chat_item(conversation: Conversation, **more: Any) -> Item:
    asked = "\n".join(m.content for m in conversation if m.role in ("user", "tool"))
    replies = [m for m in conversation if m.role == "assistant"]
    said = "\n".join("\n".join(p for p in (m.content, *map(call_text, m.tool_calls)) if p) for m in replies)
    return Item((conversation,), asked, said, **more)


# ---------------------------------------------------------------- rows of each format


def _chat(row: Mapping[str, Any]) -> Item:
    return _chat_item(_messages(row["messages"], "messages"), tools=_tools(row))


def _sharegpt(row: Mapping[str, Any]) -> Item:
    conversation = _messages(row["conversations"], "conversations")
    system = _text(row, "system", needed=False)
    if system.strip() and conversation[0].role != "system":
        conversation = (Message(role="system", content=system), *conversation)
    return _chat_item(conversation, tools=_tools(row))


def _examples(row: Mapping[str, Any]) -> Item:
    conversation = _messages(row["conversation"], "conversation")
    question, answer = _text(row, "question"), _text(row, "answer")
    context = _chat_item(conversation).asked.replace(question, "").strip()
    passages = (asked_of(conversation[:-1]) or ("", ()))[1]
    return Item(
        (conversation,), question, answer, context=context, question=question, passages=passages, tools=_tools(row)
    )


def _alpaca(row: Mapping[str, Any]) -> Item:
    asked, given, said = _text(row, "instruction"), _text(row, "input", needed=False), _text(row, "output")
    full = f"{asked}\n\n{given}" if given.strip() else asked
    prompt = _ask(full, system=_text(row, "system", needed=False))
    return Item((_reply(prompt, said),), full, said, question=asked, given=given if given.strip() else "")


def _prompt_completion(row: Mapping[str, Any]) -> Item:
    prompt, asked = _prompt(row["prompt"])
    said = _side(row["completion"], "completion")
    return Item((_reply(prompt, said),), asked, said)


def _question_answer(row: Mapping[str, Any]) -> Item:
    question, answer = _text(row, "question"), _text(row, "answer")
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
        value = [_text(row, "context", needed=False)]
    return tuple(p for passage in value if (p := _checked(str(passage), "context")).strip())


def _prompt(value: Any) -> tuple[Conversation, str]:
    if isinstance(value, list) or {"role", "content"} <= _keys(value):
        prompt = _messages(value, "prompt")
        return prompt, "\n".join(m.content for m in prompt if m.role != "system")
    asked = _text({"prompt": value}, "prompt")
    return _ask(asked), asked


def _side(value: Any, field: str) -> str:
    """The reply of a side: a text, or messages of which the last is the reply."""
    return _messages(value, field)[-1].content if isinstance(value, list) else _text({field: value}, field)


def _preference(row: Mapping[str, Any]) -> Item:
    if row.get("prompt") is not None:
        prompt, asked = _prompt(row["prompt"])
    elif isinstance(row["chosen"], list) and isinstance(row["rejected"], list):
        prompt = _messages(row["chosen"], "chosen")[:-1]
        if not prompt or prompt != _messages(row["rejected"], "rejected")[:-1]:
            raise RowFault("no_shared_prompt", "chosen and rejected do not begin with the same messages")
        asked = "\n".join(m.content for m in prompt if m.role != "system")
    else:
        raise RowFault("null", "prompt is null")
    chosen, rejected = _side(row["chosen"], "chosen"), _side(row["rejected"], "rejected")
    return Item((_reply(prompt, chosen), _reply(prompt, rejected)), asked, chosen, rejected=rejected)


_TRUTHS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}


def _truth(value: Any) -> bool | None:
    return _TRUTHS.get(str(value).strip().casefold())


def _kto(row: Mapping[str, Any]) -> Item:
    item = _prompt_completion(row)
    if row.get("label") is None:
        raise RowFault("null", "label is null")
    label = _truth(row["label"])
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
MAP = "--map"
FIELDS = tuple(sorted({name for f in FORMATS for name in f.fields} | {"kind"}))
"""Every field a column can be mapped to."""
KINDS = ("kind", "category", "task", "type", "label")
_SHAREGPT_KEYS = {"from", "value"}


# ---------------------------------------------------------------- finding the format


def parse_map(pairs: Sequence[str]) -> dict[str, str]:
    """Return `field=column` pairs as a mapping from field to column.

    >>> parse_map(["question=frage"])
    {'question': 'frage'}
    """
    found: dict[str, str] = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        field, column = field.strip(), column.strip()
        if not equals or not column or field not in FIELDS or field in found:
            what = "a field is mapped twice" if field in found else "this is no mapping of a field to a column"
            raise DatasetError(
                what,
                where=MAP,
                found=pair,
                fix=f"Write field=column, such as question=frage; fields: {', '.join(FIELDS)}.",
            )
        found[field] = column
    return found


def find_schema(rows: Sequence[Mapping[str, Any]], mapped: Mapping[str, str], where: Path, option: str = MAP) -> Schema:
    """Return the schema of a data set from its first rows; raises DatasetError when none or more than one fits.

    `option` is what the user names columns with: a flag, or a key of the recipe.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if missing := [column for column in mapped.values() if column not in columns]:
        raise DatasetError(
            f"the column {missing[0]!r} of {option} is not there",
            where=where,
            found=", ".join(columns),
            fix="Name one of these columns.",
        )
    kind_column = mapped.get("kind")
    wanted = {field: column for field, column in mapped.items() if field != "kind"}
    fitting = [
        (fmt, candidates)
        for fmt in FORMATS
        if set(wanted) <= set(fmt.fields)
        and (candidates := _candidates(fmt, columns, wanted)) is not None
        and _values_fit(fmt, candidates, rows)
    ]
    best = _widest(fitting)
    if not best:
        raise DatasetError(
            "the columns fit no format", where=where, found=", ".join(columns), fix=_how_to_map(wanted, option)
        )
    fields = {field: names for _, candidates in best for field, names in candidates.items()}
    if len(best) > 1 or any(len(names) > 1 for names in fields.values()):
        raise _ambiguous(best, where, option)
    fmt, candidates = best[0]
    taken = {field: names[0] for field, names in candidates.items() if names}
    rest = [c for c in columns if c not in taken.values()]
    kind_column = kind_column or next((c for c in rest if c.casefold() in KINDS), None)
    return Schema(fmt, taken, tuple(c for c in rest if c != kind_column), kind_column)


_Candidates = dict[str, list[str]]


def _candidates(fmt: Format, columns: Sequence[str], wanted: Mapping[str, str]) -> _Candidates | None:
    """The columns that could be each field; None when a needed field has none."""
    found: _Candidates = {}
    for name, field in fmt.fields.items():
        if name in wanted:
            found[name] = [wanted[name]]
            continue
        free = [c for c in columns if c not in wanted.values()]
        found[name] = [c for c in free if c.strip().casefold() in field.names]
        if field.is_needed and not found[name]:
            return None
    return found


def _values_fit(fmt: Format, candidates: _Candidates, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Names alone do not tell ShareGPT from chat, nor a KTO label from a topic: the values of the first rows do."""
    if fmt.name in ("chat", "sharegpt"):
        field = next(iter(fmt.fields))
        return (fmt.name == "sharegpt") == any(
            _keys(row.get(column)) >= _SHAREGPT_KEYS for row in rows for column in candidates[field]
        )
    if fmt.name == "kto":
        labels = [v for row in rows if (v := row.get(candidates["label"][0])) is not None]
        return any(_truth(v) is not None for v in labels)
    return True


def _keys(value: Any) -> set[str]:
    """The keys of the first message of a list, also of one written as JSON text."""
    if isinstance(value, str):
        if not value.startswith("["):
            return set()
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return set()
    return set(value[0]) if isinstance(value, list) and value and isinstance(value[0], dict) else set()


def _widest(fitting: list[tuple[Format, _Candidates]]) -> list[tuple[Format, _Candidates]]:
    """The formats whose columns are not all read, with others, by another one; of equal sets the first."""
    used = [frozenset(c for names in candidates.values() for c in names) for _, candidates in fitting]
    return [
        entry
        for n, entry in enumerate(fitting)
        if not any(used[n] < other or (used[n] == other and k < n) for k, other in enumerate(used) if k != n)
    ]


def _written(option: str, columns: Mapping[str, str]) -> str:
    """A mapping as the user would write it."""
    if option.startswith("--"):
        return " ".join(f"{option} {field}={column}" for field, column in columns.items())
    return f"{option}: {{{', '.join(f'{field}: {column}' for field, column in columns.items())}}}"


def _ambiguous(best: list[tuple[Format, _Candidates]], where: Path, option: str) -> DatasetError:
    candidates = best[0][1]
    doubled = next(((f, names) for f, names in candidates.items() if len(names) > 1), None)
    if len(best) == 1 and doubled is not None:
        field, names = doubled
        return DatasetError(
            f"more than one column could be the {field}",
            where=where,
            found=" and ".join(names),
            fix=f"Say which with {' or '.join(_written(option, {field: name}) for name in names)}.",
        )
    told = " and ".join(f"{f.name} ({', '.join(c for names in found.values() for c in names)})" for f, found in best)
    hints = [_written(option, {field: found[field][0]}) for _, found in best for field in [_telling(found, best)]]
    return DatasetError(
        "the columns fit more than one format", where=where, found=told, fix=f"Say which with {' or '.join(hints)}."
    )


def _telling(found: _Candidates, best: list[tuple[Format, _Candidates]]) -> str:
    """A field that only this format has, else its first."""
    others = [set(f.fields) for f, candidates in best if candidates is not found]
    return next(
        (name for name, names in found.items() if names and not any(name in o for o in others)), next(iter(found))
    )


def _how_to_map(wanted: Mapping[str, str], option: str) -> str:
    shapes = "; ".join(
        f"{f.name}: {', '.join(n if field.is_needed else f'[{n}]' for n, field in f.fields.items())}"
        for f in FORMATS[1:]
    )
    if wanted:
        return f"Map every field the format needs. Formats: {shapes}."
    return (
        f"Name the columns, such as {_written(option, {'question': 'frage', 'answer': 'antwort'})}. Formats: {shapes}."
    )
