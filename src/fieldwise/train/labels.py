"""Conversations as token ids with the labels of what the assistant says; every other token carries no loss."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fieldwise.engine.template import without_control
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
    return [{"role": m.role, "content": m.content} for m in without_control(conversation, control)]


def token_count(tokenizer: Any, said: list[dict[str, Any]]) -> int:
    """Return the number of tokens of a rendered conversation."""
    return len(_render(tokenizer, said))


def label(tokenizer: Any, said: list[dict[str, Any]]) -> Labelled:
    """Return ids and labels: what the assistant says, its end token included.

    A template with generation markers says itself what that is. For others it is what a reply adds to the prompt
    before it, up to the end token; a template whose prompt is no beginning of the reply is refused.
    """
    if _MARKER.search(tokenizer.get_chat_template()):
        rendered = tokenizer.apply_chat_template(
            said, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = list(rendered["input_ids"]), list(rendered["assistant_masks"])
    else:
        ids = _render(tokenizer, said)
        mask = _mask_by_prefix(tokenizer, said, ids)
    if not any(mask):
        raise ModelError(
            "no token of an example carries loss",
            where="chat template",
            fix="Put {% generation %} ... {% endgeneration %} around what the assistant says, its end token included.",
        )
    return Labelled(ids, [token if marked else IGNORED for token, marked in zip(ids, mask, strict=True)])


def labelled_rows(
    examples: Sequence[Example], tokenizer: Any, max_length: int
) -> tuple[list[dict[str, list[int]]], int]:
    """Return the rows that fit whole and the number of examples that do not; a trainer would cut them without a word.

    Questions over the same passages share a row, so that these are read once.
    """
    rows: list[dict[str, list[int]]] = []
    dropped = 0
    waiting = same_passages([e.conversation for e in examples])[::-1]
    while waiting:
        group = waiting.pop()
        row = label(tokenizer, messages(joined(group), tokenizer))
        if len(row.ids) <= max_length:
            rows.append({"input_ids": row.ids, "labels": row.labels})
        elif len(group) > 1:
            half = len(group) // 2
            waiting += [group[half:], group[:half]]
        else:
            dropped += 1
    if dropped:
        say(f"  {dropped} of {len(examples)} examples are longer than {max_length} tokens and were left out")
    return rows, dropped


def _render(tokenizer: Any, said: list[dict[str, Any]], *, prompt: bool = False) -> list[int]:
    found = tokenizer.apply_chat_template(said, tokenize=True, return_dict=True, add_generation_prompt=prompt)
    return list(found["input_ids"])


def _mask_by_prefix(tokenizer: Any, said: list[dict[str, Any]], ids: list[int]) -> list[int]:
    mask = [0] * len(ids)
    for place, message in enumerate(said):
        if message["role"] != "assistant":
            continue
        prompt, reply = _render(tokenizer, said[:place], prompt=True), _render(tokenizer, said[: place + 1])
        if ids[: len(prompt)] != prompt or ids[: len(reply)] != reply:
            raise ModelError(
                "the chat template renders a reply in another way than the prompt before it",
                where="chat template",
                fix="Put {% generation %} ... {% endgeneration %} around what the assistant says, its end token included.",
            )
        end = next((n + 1 for n in range(len(prompt), len(reply)) if ids[n] == tokenizer.eos_token_id), len(reply))
        mask[len(prompt) : end] = [1] * (end - len(prompt))
    return mask
