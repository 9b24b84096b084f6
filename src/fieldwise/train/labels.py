"""Conversations as token ids with the labels of what the assistant says; every other token carries no loss."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.engine.template import chat_messages, knows_tools, without_control
from fieldwise.errors import ModelError
from fieldwise.progress import say
from fieldwise.prompts import joined, same_passages
from fieldwise.records import Conversation, Example

IGNORED = -100  # PyTorch's cross-entropy leaves this label out
_MARKER = re.compile(r"\{%-?\s*generation\b")


class Labelled(NamedTuple):
    """Token ids, and for each the id to learn or IGNORED."""

    ids: list[int]
    labels: list[int]


def messages(conversation: Conversation, tokenizer: Any) -> list[dict[str, Any]]:
    """Return the messages as the engines render them: a control token in a document is broken up here too."""
    control = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return chat_messages(without_control(conversation, control))


def token_count(tokenizer: Any, said: list[dict[str, Any]]) -> int:
    """Return the number of tokens of a rendered conversation."""
    return len(_render(tokenizer, said))


def reply_ids(tokenizer: Any, prompt: list[dict[str, Any]], reply: str) -> tuple[list[int], list[int]]:
    """Return the ids of a prompt as an engine asks it and of a reply to it, up to and with its end token.

    Raises ModelError for a template whose prompt is no beginning of the reply.
    """
    asked = _render(tokenizer, prompt, prompt=True)
    whole = _render(tokenizer, [*prompt, {"role": "assistant", "content": reply}])
    if whole[: len(asked)] != asked:
        raise _renders_otherwise()
    said = whole[len(asked) :]
    return asked, said[: said.index(tokenizer.eos_token_id) + 1] if tokenizer.eos_token_id in said else said


def label(tokenizer: Any, said: list[dict[str, Any]], tools: Sequence[dict[str, JsonValue]] = ()) -> Labelled:
    """Return ids and labels: what the assistant says, its end token included, and the calls of tools.

    A template with generation markers says itself what that is. For others it is what a reply adds to the prompt
    before it, up to the end token; a template whose prompt is no beginning of the reply is refused.
    """
    if _MARKER.search(tokenizer.get_chat_template()):
        rendered = tokenizer.apply_chat_template(
            said, tools=list(tools) or None, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = list(rendered["input_ids"]), list(rendered["assistant_masks"])
    else:
        ids = _render(tokenizer, said, tools=tools)
        mask = _mask_by_prefix(tokenizer, said, ids, tools)
    if not any(mask):
        raise ModelError(
            "no token of an example carries loss",
            where="chat template",
            fix="Put {% generation %} ... {% endgeneration %} around what the assistant says, its end token included.",
        )
    return Labelled(ids, [token if marked else IGNORED for token, marked in zip(ids, mask, strict=True)])


def labelled_rows(
    examples: Sequence[Example], tokenizer: Any, max_length: int, called: str = "examples"
) -> tuple[list[dict[str, list[int]]], int]:
    """Return the rows that fit whole and the number of examples that do not; a trainer would cut them without a word.

    Questions over the same passages share a row, so that these are read once; those with tools stand alone. Calls of
    tools that the base's template does not show are left out too.
    """
    rows: list[dict[str, list[int]]] = []
    usable, dropped = _shown_by(tokenizer, examples)
    waiting = [_Group(group) for group in same_passages([e.conversation for e in usable if not e.tools])]
    waiting = [*waiting, *(_Group([e.conversation], e.tools) for e in usable if e.tools)][::-1]
    too_long = 0
    while waiting:
        group, tools = waiting.pop()
        row = label(tokenizer, messages(joined(group), tokenizer), tools)
        if len(row.ids) <= max_length:
            rows.append({"input_ids": row.ids, "labels": row.labels})
        elif len(group) > 1:
            half = len(group) // 2
            waiting += [_Group(group[half:]), _Group(group[:half])]
        else:
            too_long += 1
    if too_long:
        say(f"  {too_long} of {len(examples)} {called} are longer than {max_length} tokens and were left out")
    return rows, dropped + too_long


class _Group(NamedTuple):
    """Conversations that share a row, and the tools they may call."""

    conversations: Sequence[Conversation]
    tools: tuple[dict[str, JsonValue], ...] = ()


def _shown_by(tokenizer: Any, examples: Sequence[Example]) -> tuple[Sequence[Example], int]:
    """The examples that the template can show whole, and how many it cannot: it may know no tools."""
    if not any(e.tools or any(m.tool_calls for m in e.conversation) for e in examples):
        return examples, 0
    if knows_tools(tokenizer.get_chat_template(), special_tokens=tokenizer.special_tokens_map):
        return examples, 0
    kept = [e for e in examples if not e.tools and not any(m.tool_calls for m in e.conversation)]
    say(f"  {len(examples) - len(kept)} of {len(examples)} examples have tools, which the base's chat template does not show; they were left out")  # fmt: skip
    return kept, len(examples) - len(kept)


def _render(
    tokenizer: Any, said: list[dict[str, Any]], *, prompt: bool = False, tools: Sequence[dict[str, JsonValue]] = ()
) -> list[int]:
    found = tokenizer.apply_chat_template(
        said, tools=list(tools) or None, tokenize=True, return_dict=True, add_generation_prompt=prompt
    )
    return list(found["input_ids"])


def _mask_by_prefix(
    tokenizer: Any, said: list[dict[str, Any]], ids: list[int], tools: Sequence[dict[str, JsonValue]]
) -> list[int]:
    mask = [0] * len(ids)
    for place, message in enumerate(said):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, said[:place], prompt=True, tools=tools)
        reply = _render(tokenizer, said[: place + 1], tools=tools)
        if ids[: len(prompt)] != prompt or ids[: len(reply)] != reply:
            raise _renders_otherwise()
        end = next((n + 1 for n in range(len(prompt), len(reply)) if ids[n] == tokenizer.eos_token_id), len(reply))
        mask[len(prompt) : end] = [1] * (end - len(prompt))
    return mask


def _renders_otherwise() -> ModelError:
    return ModelError(
        "the chat template renders a reply in another way than the prompt before it",
        where="chat template",
        fix="Put {% generation %} ... {% endgeneration %} around what the assistant says, its end token included.",
    )
