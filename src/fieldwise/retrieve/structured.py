"""Answers from the documents as JSON of a schema, each text and number tied to the passage it stands in.

An engine that holds shapes writes nothing else than JSON that fits, or the sentence that declines. Another one is asked
at most three times, shown what was wrong; nothing of a reply is passed on before it fits. A model that declines so may
only be unused to JSON: the keys of a flat schema are then asked one by one in words. What the documents do not say is
declined, never made up: by the fitted rule, by the model, and when not one value stands in a passage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.claims import claims
from fieldwise.errors import ModelError
from fieldwise.interfaces import FinishReason, Sampling, holds_shapes
from fieldwise.prompts import is_declined, structured_prompt
from fieldwise.records import (
    NOT_STATED,
    Answer,
    Citation,
    Conversation,
    Message,
    RetrievedPassage,
    Timings,
)
from fieldwise.retrieve.answer_schema import AnswerSchema, leaves
from fieldwise.retrieve.by_field import MOST_TOKENS, can_fill, filled
from fieldwise.retrieve.citing import find_words, quote
from fieldwise.retrieve.grounded import GroundedAnswerer, Packed, StreamedText, held_back

TRIES = 3
_SHOWN_CHARS = 1000
Event = tuple[RetrievedPassage, ...] | StreamedText | Answer


class SchemaNotMet(ModelError):
    """The model wrote no JSON that fits the schema."""


class _Said(NamedTuple):
    """One reply of the model, or that it declined before it wrote one."""

    text: str
    finish: FinishReason
    tokens: int
    first: float | None
    value: JsonValue = None

    @property
    def is_interrupted(self) -> bool:
        """Whether somebody stopped it, or a fault did."""
        return self.finish in ("cancelled", "error")


class StructuredAnswerer:
    """Answers with JSON of a schema over what a grounded answerer finds."""

    def __init__(self, answerer: GroundedAnswerer, schema: AnswerSchema) -> None:
        self.answerer, self.schema = answerer, schema
        self.engine, self.is_held = answerer.engine, holds_shapes(answerer.engine)

    def stream(
        self,
        conversation: Conversation,
        sampling: Sampling | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[Event]:
        """Yield the passages, then the JSON in one piece once it is checked, then the answer with its citations.

        Raises SchemaNotMet when no reply fits.
        """
        began = time.monotonic()
        packed = self.answerer.packed(
            conversation, lambda question, texts: structured_prompt(question, texts, self.schema.text), is_cancelled
        )
        found = time.monotonic()
        yield packed.passages
        doubt = self._doubt(conversation, packed, is_cancelled)
        said = _Said(NOT_STATED, "stop", 0, None)
        if packed.passages and not self.answerer.is_too_doubtful(doubt):
            ask = self._held if self.is_held else self._tried
            said = ask(packed, sampling or self.answerer.sampling, is_cancelled)
            if said.value is None and not said.is_interrupted and can_fill(self.schema):
                said = self._by_field(conversation, packed, said, is_cancelled)
        made = self._answer(said, packed, doubt)
        done = time.monotonic()
        timings = Timings(
            retrieve_seconds=found - began,
            generate_seconds=done - found,
            first_token_seconds=None if said.first is None else said.first - began,
            total_seconds=done - began,
        )
        if made.finish_reason not in ("cancelled", "error"):
            yield StreamedText(made.text)
        yield self.answerer.told(packed, made.model_copy(update={"timings": timings}))

    def answer(self, conversation: Conversation) -> Answer:
        """Return the answer as a whole. Raises SchemaNotMet when no reply fits."""
        *_, answer = self.stream(conversation)
        assert isinstance(answer, Answer)
        return answer

    # ------------------------------------------------------------ asking

    def _doubt(self, conversation: Conversation, packed: Packed, is_cancelled: Callable[[], bool]) -> float | None:
        """The fitted doubt about the passages, rated behind the prompt that it was fitted with."""
        if self.answerer.decline is None or not packed.passages:
            return None
        question = next((m.content for m in reversed(conversation) if m.role == "user"), "")
        prompt = self.answerer.plain_prompt(question, packed.passages)
        rated = [self.engine.reply_tokens(NOT_STATED)]
        if len(prompt) >= self.engine.context_tokens:
            return None
        pieces = self.engine.stream(prompt, Sampling(max_tokens=1), is_cancelled, rated=rated)
        first = next(iter(pieces), None)
        if isinstance(pieces, Generator):
            pieces.close()
        return self.answerer.doubt(first.ratings[0] if first and first.ratings else None, packed.passages)

    def _held(self, packed: Packed, sampling: Sampling, is_cancelled: Callable[[], bool]) -> _Said:
        """One reply, which cannot but fit; only its end may be missing."""
        said = self._reply(packed.prompt, replace(sampling, shape=self.schema.shape(NOT_STATED)), is_cancelled)
        return said if said.is_interrupted else self._checked(said)

    def _tried(self, packed: Packed, sampling: Sampling, is_cancelled: Callable[[], bool]) -> _Said:
        """A reply that fits: the model is asked again, with what was wrong, a few times."""
        prompt, tokens, first = packed.prompt, 0, None
        for attempt in range(1, TRIES + 1):
            said = self._reply(prompt, sampling, is_cancelled)
            tokens, first = tokens + said.tokens, first or said.first
            said = said._replace(tokens=tokens, first=first)
            if said.is_interrupted:
                return said
            try:
                return self._checked(said)
            except SchemaNotMet as error:
                prompt = self.engine.render(_again(packed.conversation, said.text, str(error.found)))
                if attempt == TRIES or len(prompt) >= self.engine.context_tokens:
                    raise
        raise AssertionError("the last try returns or raises")

    def _by_field(
        self, conversation: Conversation, packed: Packed, said: _Said, is_cancelled: Callable[[], bool]
    ) -> _Said:
        """What the keys say when each is asked in words; the decline that was said where they say nothing."""
        question = next((m.content for m in reversed(conversation) if m.role == "user"), "")
        replies: list[_Said] = []

        def ask(asked: str) -> str:
            prompt = self.answerer.plain_prompt(asked, packed.passages)
            if len(prompt) >= self.engine.context_tokens or (replies and replies[-1].is_interrupted):
                return ""
            replies.append(self._reply(prompt, Sampling(max_tokens=MOST_TOKENS), is_cancelled))
            return replies[-1].text

        value = filled(self.schema, question, packed.passages, ask)
        tokens = said.tokens + sum(reply.tokens for reply in replies)
        if replies and replies[-1].is_interrupted:
            return replies[-1]._replace(tokens=tokens)
        text = said.text if value is None else json.dumps(value, ensure_ascii=False)
        return said._replace(text=text, tokens=tokens, value=value)

    def _reply(self, prompt: list[int], sampling: Sampling, is_cancelled: Callable[[], bool]) -> _Said:
        text, tokens, first = "", 0, None
        finish: FinishReason = "stop"
        for piece in self.engine.stream(prompt, sampling, is_cancelled):
            first = time.monotonic() if first is None else first
            text, tokens, finish = text + piece.text, tokens + piece.tokens, piece.finish_reason or finish
        return _Said(text.strip(), finish, tokens, first)

    def _checked(self, said: _Said) -> _Said:
        """A reply with its value, written as JSON is; one that declines has none. Raises SchemaNotMet."""
        if is_declined(said.text) and said.text:
            return said
        value, fault = self.schema.fitting(said.text)
        if fault:
            raise self._not_met(f"cut off after {said.tokens} tokens" if said.finish == "length" else fault)
        return said._replace(text=json.dumps(value, ensure_ascii=False), value=value, finish="stop")

    def _not_met(self, fault: str) -> SchemaNotMet:
        fix = (
            "Raise max_tokens, or make the schema smaller."
            if fault.startswith("cut off")
            else "Make the schema simpler, or install what holds replies to one: pip install 'fieldwise[gguf]'"
        )
        return SchemaNotMet("the model wrote no JSON that fits the schema", where="schema", found=fault, fix=fix)

    # ------------------------------------------------------------ the answer

    def _answer(self, said: _Said, packed: Packed, doubt: float | None) -> Answer:
        value = said.value
        text = NOT_STATED if value is None else said.text
        answer = Answer(
            text=text,
            answer=text,
            model=self.answerer.name,
            passages=packed.passages,
            is_declined=value is None,
            doubt=doubt,
            finish_reason=said.finish,
            prompt_tokens=len(packed.prompt),
            completion_tokens=said.tokens,
        )
        if value is None:
            return answer
        citations, missing, is_supported = _evidence(value, packed.passages, self.schema)
        if not is_supported:
            return held_back(answer)
        return answer.model_copy(update={"value": value, "citations": citations, "unsupported": missing})


def _again(asked: Conversation, reply: str, fault: str) -> Conversation:
    """Ask once more, with the reply and what was wrong with it."""
    wish = f"That cannot be used: {fault}. Reply with the JSON object alone, without any other word."
    shown = reply[:_SHOWN_CHARS] or "(nothing)"
    return (*asked, Message(role="assistant", content=shown), Message(role="user", content=wish))


def _evidence(
    value: JsonValue, passages: Sequence[RetrievedPassage], schema: AnswerSchema
) -> tuple[tuple[Citation, ...], tuple[str, ...], bool]:
    """Citations of the values that stand in passages, pointers of those that do not, and whether any of it is evidence.

    A value that is chosen from a list of the schema, true or false says nothing about what stands in a passage. Passages
    that hold more of the values come first, so that one record is not quoted from several places.
    """
    said = [(path, _words(leaf)) for path, leaf in leaves(value) if _words(leaf)]
    held = [sum(find_words(words, p.chunk.text) is not None for _, words in said) for p in passages]
    order = sorted(range(len(passages)), key=lambda n: (-held[n], n))
    citations: list[Citation] = []
    missing: list[str] = []
    is_any_near = False
    for path, words in said:
        number = next((n for n in order if find_words(words, passages[n].chunk.text) is not None), None)
        if number is not None:
            citations.append(quote(words, number + 1, passages[number].chunk, path))
        elif words not in schema.choices:
            missing.append(path)
            is_any_near = is_any_near or _is_claimed(words, passages)
    has_nothing = all(leaf is None or leaf == "" for _, leaf in leaves(value))
    is_supported = bool(citations) or is_any_near or (not missing and not has_nothing)
    return tuple(citations), tuple(missing), is_supported


def _words(leaf: JsonValue) -> str:
    if isinstance(leaf, bool) or leaf is None:
        return ""
    return leaf.strip() if isinstance(leaf, str) else json.dumps(leaf)


def _is_claimed(words: str, passages: Sequence[RetrievedPassage]) -> bool:
    """Whether passages support a text that says it in other words."""
    for passage in passages:
        answer = Answer(text=f"{words.rstrip('.')} [1].", answer=words, model="", passages=(passage,))
        found = list(claims(answer))
        if found and not any(claim.problem for claim in found):
            return True
    return False
