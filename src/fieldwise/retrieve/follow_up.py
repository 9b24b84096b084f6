"""What is searched for a question that goes on from earlier ones: "And children?" finds nothing by itself.

The words of a search are only searched with: nothing of them is shown to the model that answers, and no answer is made
from them. A model that words them has little time and room; where it fails, the earlier questions lend their words, and
the answer says why.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from pydantic import BaseModel, Field

from fieldwise.errors import ModelError, ServiceError
from fieldwise.interfaces import Engine, LlmClient, LlmRequest, Sampling
from fieldwise.prompts import follow_up_prompt, is_declined, without_marks
from fieldwise.records import Conversation, Searched
from fieldwise.support import content_stems

How = Literal["joined", "carried", "model", "endpoint"]
MOST_CHARS = 400
MOST_TOKENS = 48
_FEW_WORDS = 6
_MOST_CARRIED = 12
_TURNS_BACK = 3
_TURNS_SHOWN = 6
_TURN_CHARS = 500
_SHARE = 0.5  # of the words of a wording that the conversation must hold
_POINTS_BACK = re.compile(
    r"\b(?:it|its|they|them|their|theirs|that|this|these|those|he|him|his|she|her|hers|there|one|ones|"
    r"the (?:same|former|latter|other|others|first|second)|such|either|neither|both)\b",
    re.IGNORECASE,
)
_BEGINS_ON = re.compile(
    r"(?:and|or|but|so|then|also|what about|how about|what if|otherwise|why not|even|only|except|same for)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_][\w'’-]*")


class Condense(Protocol):
    """Words the search for the last question of a conversation."""

    def __call__(self, conversation: Conversation, is_cancelled: Callable[[], bool], /) -> Searched:
        """Return what is searched, and who worded it; never raises for a model that fails."""
        ...


def joined(conversation: Conversation, is_cancelled: Callable[[], bool] = lambda: False) -> Searched:
    """Return the last question; one of fewer than six words with the question before it."""
    asked = _asked(conversation)
    if len(asked) > 1 and len(asked[-1].split()) < _FEW_WORDS:
        return Searched(query=f"{asked[-2]} {asked[-1]}", by="joined")
    return Searched(query=asked[-1] if asked else "", by="question")


def carried(conversation: Conversation, is_cancelled: Callable[[], bool] = lambda: False) -> Searched:
    """Return the last question with the words of the earlier turns that it leans on, if it leans on them.

    It does if it points back (it, they, that one), begins as one that goes on (and, what about), or is short. It then
    takes what the nearest questions before it are about, and a short answer between them: names, figures, subjects.
    """
    asked = _asked(conversation)
    question = asked[-1] if asked else ""
    if len(asked) < 2 or not leans_back(question):
        return Searched(query=question, by="question")
    lent = list(_lent(conversation, question))
    if not lent:
        return Searched(query=question, by="question")
    return Searched(query=" ".join((question, *lent))[: max(MOST_CHARS, len(question))], by="carried")


def leans_back(question: str) -> bool:
    """Tell whether a question can only be understood with what stood before it.

    >>> leans_back("And children?"), leans_back("When must visitors of the ward leave the building?")
    (True, False)
    """
    question = question.strip()
    return bool(len(question.split()) < _FEW_WORDS or _BEGINS_ON.match(question) or _POINTS_BACK.search(question))


class Wording(BaseModel):
    """The reply of an endpoint that words a search."""

    query: str = Field(min_length=1, max_length=MOST_CHARS)


class ByModel:
    """Lets the engine that answers word the search, for at most so many seconds and tokens."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds

    def __call__(self, conversation: Conversation, is_cancelled: Callable[[], bool], /) -> Searched:
        """Return the wording of the model, or the carried one with the reason."""
        if len(_asked(conversation)) < 2:
            return joined(conversation)
        until = time.monotonic() + self._seconds
        try:
            prompt = self._engine.render(follow_up_prompt(_recent(conversation)))
            if len(prompt) + MOST_TOKENS > self._engine.context_tokens:
                return _instead(conversation, "the conversation is longer than the model's context")
            sampling = Sampling(max_tokens=MOST_TOKENS)
            is_over = False

            def stops() -> bool:
                nonlocal is_over
                is_over = is_over or time.monotonic() > until
                return is_over or is_cancelled()

            text = "".join(piece.text for piece in self._engine.stream(prompt, sampling, stops))
        except ModelError as error:
            return _instead(conversation, f"the model could not word it: {error.what}")
        if is_over:
            return _instead(conversation, f"the model took longer than {self._seconds:g} s")
        return _checked(conversation, text, self._engine.model_id)


class ByEndpoint:
    """Lets an endpoint word the search; how long it may take stands with the endpoint."""

    def __init__(self, client: LlmClient) -> None:
        self._client = client

    def __call__(self, conversation: Conversation, is_cancelled: Callable[[], bool], /) -> Searched:
        """Return the wording of the endpoint, or the carried one with the reason."""
        if len(_asked(conversation)) < 2:
            return joined(conversation)
        request = LlmRequest(follow_up_prompt(_recent(conversation)), Wording, label="follow-up")
        try:
            reply = next(iter(self._client.ask_all([request])))
        except ServiceError as error:
            return _instead(conversation, f"the endpoint did not answer: {error.what}")
        if reply.problem or not isinstance(reply.value, Wording):
            return _instead(conversation, f"the endpoint gave no wording: {reply.problem or 'no JSON'}")
        return _checked(conversation, reply.value.query, self._client.name or "endpoint")


# ---------------------------------------------------------------- checks and words


def _checked(conversation: Conversation, text: str, by: str) -> Searched:
    """The wording of a model, if it is one: short, and of words that the conversation holds."""
    lines = [line.strip().strip("\"'`“”") for line in text.strip().splitlines() if line.strip()]
    words = " ".join(without_marks(lines[0]).split()) if lines else ""
    words = re.sub(r"^(?:search|query|question|search query)\s*:\s*", "", words, flags=re.IGNORECASE)
    if not words or is_declined(words):
        return _instead(conversation, "the model gave no wording")
    if len(words) > MOST_CHARS:
        return _instead(conversation, f"the model's wording is longer than {MOST_CHARS} characters")
    stems = content_stems(words)
    known = content_stems("\n".join(m.content for m in conversation))
    if not stems or len(stems & known) < _SHARE * len(stems):
        return _instead(conversation, "the model's wording is of words that the conversation does not hold")
    return Searched(query=words, by=by)


def _instead(conversation: Conversation, reason: str) -> Searched:
    return carried(conversation).model_copy(update={"reason": reason})


def _asked(conversation: Conversation) -> list[str]:
    return [m.content.strip() for m in conversation if m.role == "user" and m.content.strip()]


def _recent(conversation: Conversation) -> Conversation:
    turns = [m for m in conversation if m.role in ("user", "assistant") and m.content.strip()]
    return tuple(m.model_copy(update={"content": m.content.strip()[:_TURN_CHARS]}) for m in turns[-_TURNS_SHOWN:])


def _lent(conversation: Conversation, question: str) -> Iterator[str]:
    """Words of the turns before the question that it lacks, the nearest turns first, until one stands by itself."""
    turns = [m for m in conversation if m.role in ("user", "assistant") and m.content.strip()]
    place = max(n for n, m in enumerate(turns) if m.role == "user")
    had, count, questions = content_stems(question), 0, 0
    for turn in reversed(turns[:place]):
        text = without_marks(turn.content)
        if turn.role == "assistant":
            text = "" if is_declined(text) or len(text.split()) > _MOST_CARRIED or questions else text
        for word in _WORD.findall(text):
            stems = content_stems(word)
            if not stems or stems <= had or count == _MOST_CARRIED:
                continue
            had, count = had | stems, count + 1
            yield word
        if turn.role == "user":
            questions += 1
            if questions == _TURNS_BACK or not leans_back(turn.content):
                return
