"""A row in another format: what each format makes of an item, and what of the item it cannot hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from fieldwise.hashing import canonical_json
from fieldwise.prompts import asked_of
from fieldwise.records import Conversation, Message
from fieldwise.rows.formats import Item
from fieldwise.rows.values import call_text

Target = Literal["chat", "alpaca", "sharegpt", "prompt-completion", "qa", "preference", "kto"]
TARGETS: tuple[Target, ...] = ("chat", "alpaca", "sharegpt", "prompt-completion", "qa", "preference", "kto")

SYSTEM = "the system message"
REJECTED = "the rejected reply"
LABEL = "the label"
BOUNDS = "where one passage ends and the next begins"
PAIRING = "which reply was rejected against which"


class Unheld(Exception):
    """A row that a format cannot hold; `code` groups equal reasons."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


class Source(NamedTuple):
    """An item with what else is known of its row."""

    place: str
    item: Item
    is_question: bool
    """The row gave question and context themselves: the prompt around them is ours."""
    more: dict[str, Any]
    """Columns that are carried along."""


class Made(NamedTuple):
    """A row of the target, with the place of the row it was made from and what was lost on the way."""

    place: str
    values: dict[str, Any]
    lost: tuple[str, ...]


def convert(sources: Sequence[Source], target: Target) -> tuple[list[Made], list[tuple[str, Unheld]]]:
    """Return the rows of the target, and for each row that it cannot hold the place and why."""
    if target == "preference" and any(s.item.label is not None for s in sources):
        return _paired(sources)
    made: list[Made] = []
    unheld: list[tuple[str, Unheld]] = []
    for source in sources:
        try:
            made += [Made(source.place, {**values, **source.more}, lost) for values, lost in _WRITERS[target](source)]
        except Unheld as reason:
            unheld.append((source.place, reason))
    return made, unheld


_Rows = Iterator[tuple[dict[str, Any], tuple[str, ...]]]


def _taught(item: Item) -> tuple[str, ...]:
    """What a format of single replies loses; raises Unheld for a reply that nobody should learn."""
    if item.label is False:
        raise Unheld("disliked", "labelled false: in this format the reply would be taught")
    return tuple(text for text, there in ((REJECTED, item.rejected is not None), (LABEL, item.label is not None)) if there)  # fmt: skip


def _one_turn(item: Item) -> tuple[str | None, str, str]:
    """System message, question and reply of a conversation that has no more."""
    conversation = item.conversations[0]
    roles = [m.role for m in conversation]
    if roles == ["user", "assistant"]:
        return None, conversation[0].content, conversation[1].content
    if roles == ["system", "user", "assistant"]:
        return conversation[0].content, conversation[1].content, conversation[2].content
    raise Unheld("many_turns", f"{len(conversation)} messages ({', '.join(roles[:6])}); this format holds one question and one reply")  # fmt: skip


def _ends_with_reply(item: Item) -> Conversation:
    conversation = item.conversations[0]
    if len(conversation) < 2 or conversation[-1].role != "assistant":
        raise Unheld("no_reply", "the last message is no reply of the assistant")
    return conversation


def _declared(item: Item) -> dict[str, Any]:
    """The tools of a row as JSON text: declarations are of no one type that a column could have."""
    return {"tools": json.dumps(list(item.tools), ensure_ascii=False)} if item.tools else {}


def _without_tools(item: Item) -> None:
    if item.tools or any(m.tool_calls for conversation in item.conversations for m in conversation):
        raise Unheld("tool_calls", "this format holds neither tools nor their calls; chat and sharegpt do")


def _chat(source: Source) -> _Rows:
    lost = _taught(source.item)
    yield {"messages": messages(source.item.conversations[0]), **_declared(source.item)}, lost


_SPEAKERS = {"user": "human", "assistant": "gpt"}


def _sharegpt(source: Source) -> _Rows:
    lost = _taught(source.item)
    turns: list[dict[str, str]] = []
    for message in source.item.conversations[0]:
        if message.content or not message.tool_calls:
            turns.append({"from": _SPEAKERS.get(message.role, message.role), "value": message.content})
        calls = [call_text(call) for call in message.tool_calls]
        if calls:
            turns.append({"from": "function_call", "value": calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]"})
    yield {"conversations": turns, **_declared(source.item)}, lost


def _prompt_completion(source: Source) -> _Rows:
    lost = _taught(source.item)
    _without_tools(source.item)
    conversation = _ends_with_reply(source.item)
    yield {"prompt": conversation[:-1], "completion": conversation[-1].content}, lost


def _alpaca(source: Source) -> _Rows:
    item = source.item
    lost = _taught(item)
    _without_tools(item)
    system, asked, reply = _one_turn(item)
    if source.is_question:
        told = "\n\n".join(item.passages)
        yield {"instruction": item.question, "input": told, "output": item.said}, (*lost, *_bounds(item.passages))
    else:
        instruction = item.question if item.given else asked
        more = {} if system is None else {"system": system}
        yield {"instruction": instruction, "input": item.given, "output": reply, **more}, lost


def _bounds(passages: Sequence[str]) -> tuple[str, ...]:
    return (BOUNDS,) if len(passages) > 1 else ()


def _question_answer(source: Source) -> _Rows:
    item = source.item
    lost = _taught(item)
    _without_tools(item)
    system, asked, reply = _one_turn(item)
    passages: Sequence[str]
    if known := asked_of(item.prompt):
        question, passages = known
    elif item.given:
        question, passages = item.question, (item.given,)
    else:
        question, passages = asked, ()
    if system is not None and known is None:
        lost = (*lost, SYSTEM)
    if not all(p.strip() for p in passages):
        raise Unheld("empty_passage", "a passage is empty")
    answer = item.said if source.is_question else reply
    yield {"question": question, "context": tuple(passages), "answer": answer}, lost


def _preference(source: Source) -> _Rows:
    item = source.item
    if item.rejected is None:
        raise Unheld("no_rejected", "there is no rejected reply")
    yield {"prompt": item.prompt, "chosen": item.reply, "rejected": item.rejected}, ()


def _kto(source: Source) -> _Rows:
    item = source.item
    if item.rejected is not None:
        for reply, label in ((item.reply, True), (item.rejected, False)):
            yield {"prompt": item.prompt, "completion": reply, "label": label}, (PAIRING,)
    elif item.label is not None:
        yield {"prompt": _ends_with_reply(item)[:-1], "completion": item.reply, "label": item.label}, ()
    else:
        raise Unheld("no_label", "there is neither a label nor a rejected reply")


def _paired(sources: Sequence[Source]) -> tuple[list[Made], list[tuple[str, Unheld]]]:
    """Labelled replies as pairs: of each prompt the first liked one against the first that is not, and so on."""
    by_prompt: dict[str, tuple[list[Source], list[Source]]] = {}
    for source in sources:
        key = canonical_json(messages(source.item.prompt))
        by_prompt.setdefault(key, ([], []))[0 if source.item.label else 1].append(source)
    made: list[Made] = []
    unheld: list[tuple[str, Unheld]] = []
    for liked, disliked in by_prompt.values():
        for good, bad in zip(liked, disliked, strict=False):
            values = {"prompt": good.item.prompt, "chosen": good.item.reply, "rejected": bad.item.reply}
            made.append(Made(good.place, {**values, **good.more}, ()))
        count = min(len(liked), len(disliked))
        told = Unheld("no_counterpart", "no reply of the other label to the same prompt")
        unheld += [(source.place, told) for source in (*liked[count:], *disliked[count:])]
    return made, unheld


_WRITERS: dict[Target, Callable[[Source], _Rows]] = {
    "chat": _chat,
    "sharegpt": _sharegpt,
    "prompt-completion": _prompt_completion,
    "alpaca": _alpaca,
    "qa": _question_answer,
    "preference": _preference,
    "kto": _kto,
}


# ---------------------------------------------------------------- one type for each column


def messages(conversation: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages as data sets write them; the arguments of a call are JSON text, as in OpenAI's format."""
    return [_message(m) for m in conversation]


def _message(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        plain["tool_calls"] = [
            {"type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments, ensure_ascii=False)}}
            for c in message.tool_calls
        ]
    return plain


def settled(made: Sequence[Made]) -> list[dict[str, Any]]:
    """Return the rows with one type in each column: a prompt is text where all are one question, else messages."""
    prompts = [row.values["prompt"] for row in made if "prompt" in row.values]
    as_text = all([m.role for m in prompt] == ["user"] for prompt in prompts)
    contexts = [row.values["context"] for row in made if isinstance(row.values.get("context"), tuple)]
    # a text that looks like a JSON list would be read as one
    has_one = all(len(context) <= 1 and not "".join(context).startswith(('["', "[]")) for context in contexts)

    def value(name: str, found: Any) -> Any:
        if name == "prompt":
            return found[0].content if as_text else messages(found)
        if name == "context" and isinstance(found, tuple):
            return "".join(found) if has_one else list(found)
        return found

    unused = set() if any(contexts) else {"context"}
    return [{n: value(n, found) for n, found in row.values.items() if n not in unused} for row in made]
