"""A base's tokenizer and chat template, without its weights: what training sees of a conversation, and what serving does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.engine.base_weights import EMBEDDED, chat_template, resolve, special_tokens
from fieldwise.engine.template import knows_tools, render, render_marked, without_control
from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.records import Conversation

_MARKER = re.compile(r"\{%-?\s*generation\b")


class Piece(NamedTuple):
    """A token as text, and whether it carries loss."""

    text: str
    carries_loss: bool


class Rendered(NamedTuple):
    """A conversation as training reads it."""

    text: str
    spans: list[tuple[int, int]]
    """Characters that carry loss."""
    prompts: list[str]
    """What an engine would have been given before each reply."""

    @property
    def prompts_agree(self) -> bool:
        """Whether each prompt is, letter for letter, how the training text begins."""
        return all(self.text.startswith(p) for p in self.prompts)


class Base:
    """Renders and counts as the base itself does; `name` is what the user called it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        found = chat_template(folder)
        if found is None:
            raise ModelError(
                "the base model has no chat template",
                where=folder,
                fix="Use an instruct model, or put a chat_template.jinja into a copy of the folder.",
            )
        self.template = found
        self.has_markers = _MARKER.search(found) is not None
        self.special_tokens = special_tokens(folder)
        self.knows_tools = knows_tools(found, special_tokens=self.special_tokens)
        tokenizers: Any = require("tokenizers", extra="documents", to="count tokens")
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ModelError(
                "the tokenizer cannot be read",
                where=folder / "tokenizer.json",
                found=str(error)[:120],
                fix="Name a folder saved with save_pretrained, tokenizer included.",
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.control_tokens = [t.content for t in self._tokenizer.get_added_tokens_decoder().values() if t.special]
        longest_first = sorted(self.control_tokens, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def named(cls, model: str) -> Base:
        """Return the base of that name: the embedded one, a folder (its weights need not be there), or a hub id."""
        folder = Path(model).expanduser()
        if model != EMBEDDED and (folder / "tokenizer.json").is_file():
            return cls(model, folder)
        return cls(model, Path(resolve(model).path))

    def holds_control(self, text: str) -> bool:
        """Tell whether a control token stands in a text."""
        return self._control is not None and self._control.search(text) is not None

    def rendered(self, conversation: Conversation, tools: Sequence[dict[str, JsonValue]] = ()) -> Rendered:
        """Return a conversation as training reads it, with the characters that carry loss.

        Raises ModelError when the template refuses it.
        """
        is_plain = not any(m.tool_calls or self.holds_control(m.content) for m in conversation)
        safe = conversation if is_plain else without_control(conversation, self.control_tokens)
        declared: list[dict[str, object]] = [{**tool} for tool in tools]
        text, spans = render_marked(self.template, safe, tools=declared, special_tokens=self.special_tokens)
        places = [n for n, m in enumerate(safe) if m.role == "assistant" and n]
        if self.has_markers:
            places = places[-1:]
        prompts = [render(self.template, safe[:n], tools=declared, special_tokens=self.special_tokens) for n in places]
        if not self.has_markers:
            spans = self._spans_by_prefix(safe, text, places, prompts, declared)
        return Rendered(text, [(a, b) for a, b in spans if b > a], prompts)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        return [len(e.ids) for e in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def pieces(self, rendered: Rendered) -> list[Piece]:
        """Return the tokens of a rendered conversation, marked where they carry loss."""
        offsets = self._tokenizer.encode(rendered.text, add_special_tokens=False).offsets
        marked: list[Piece] = []
        shown = 0
        for start, end in offsets:
            carries = any(start < b and end > a for a, b in rendered.spans)
            marked.append(Piece(rendered.text[max(start, shown) : end], carries))
            shown = max(shown, end)  # tokens that are parts of one character name it each
        return marked

    def tokens_agree(self, rendered: Rendered) -> bool:
        """Tell whether the tokens of the last prompt are those the training row begins with."""
        if not rendered.prompts:
            return True
        prompt = self._tokenizer.encode(rendered.prompts[-1], add_special_tokens=False).ids
        whole = self._tokenizer.encode(rendered.text, add_special_tokens=False).ids
        return bool(whole[: len(prompt)] == prompt)

    def _spans_by_prefix(
        self,
        conversation: Conversation,
        text: str,
        places: Sequence[int],
        prompts: Sequence[str],
        tools: Sequence[dict[str, object]],
    ) -> list[tuple[int, int]]:
        """What each reply adds to the prompt before it, up to the end token: training labels the same."""
        spans = []
        end_token = self.special_tokens.get("eos_token", "")
        for place, prompt in zip(places, prompts, strict=True):
            so_far = render(
                self.template,
                conversation[: place + 1],
                tools=tools,
                special_tokens=self.special_tokens,
                add_generation_prompt=False,
            )
            if not text.startswith(prompt) or not text.startswith(so_far):
                continue
            end = text.find(end_token, len(prompt), len(so_far)) if end_token else -1
            spans.append((len(prompt), len(so_far) if end < 0 else end + len(end_token)))
        return spans
