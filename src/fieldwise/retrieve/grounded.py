"""Answerers over an engine: with passages and citations, or from the weights alone.

A citation is more than the model's mark: the answer must stand in the cited passage, word for word after
blanks and case are evened out, and the quote is the sentence of the stored document that holds it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fieldwise.errors import ModelError
from fieldwise.interfaces import Engine, FinishReason, Generation, Retriever, Sampling, prompt_identity
from fieldwise.prompts import cited_numbers, closed_prompt, grounded_prompt, is_declined, without_marks
from fieldwise.records import (
    NOT_STATED,
    Answer,
    Conversation,
    RetrievedPassage,
    ScreenedPassage,
    Searched,
    Timings,
)
from fieldwise.retrieve.citing import cite
from fieldwise.retrieve.decline import DeclineRule, similarity
from fieldwise.retrieve.follow_up import Condense, joined
from fieldwise.retrieve.index import passage_text
from fieldwise.retrieve.once import Once
from fieldwise.retrieve.screen import Seen, screen, shown
from fieldwise.retrieve.settings import RetrieveSettings

_BATCH = 64
_MOST_DROPPED = 48  # as far as a search goes on for passages that give no orders
MakePrompt = Callable[[str, Sequence[str]], Conversation]
"""A question and the texts of passages in, the conversation that asks for an answer out."""


@dataclass(frozen=True)
class StreamedText:
    """New text of a reply that is being written."""

    text: str


class Packed(NamedTuple):
    """What was found for a question and how the model is asked about it."""

    passages: tuple[RetrievedPassage, ...]
    prompt: list[int]
    conversation: Conversation
    searched: Searched
    screened: tuple[ScreenedPassage, ...] = ()

    def noted(self, answer: Answer) -> Answer:
        """Return an answer that tells what was searched in place of its question, and what the screen saw."""
        searched = None if self.searched.by == "question" else self.searched
        if searched is None and not self.screened:
            return answer
        return answer.model_copy(update={"searched": searched, "screened": self.screened})


class _Screened(NamedTuple):
    passage: RetrievedPassage
    seen: Seen


class _Known(NamedTuple):
    """What a known answer would have cost: bits per byte (UTF-8), its tokens, and those the model would have said."""

    bits: float | None = None
    tokens: int | None = None
    hits: int | None = None


_NOT_RATED = _Known()


class ClosedAnswerer:
    """Answers from what the weights know, without passages."""

    def __init__(self, name: str, engine: Engine, sampling: Sampling, *, once: Once | None = None) -> None:
        self.name, self.engine, self.sampling = name, engine, sampling
        self.once = once or Once(keeps=False)

    def answer_all(self, conversations: Sequence[Conversation], known: Sequence[str | None] = ()) -> Iterator[Answer]:
        """Yield one answer for each conversation, in order."""
        for begin in range(0, len(conversations), _BATCH):
            group = conversations[begin : begin + _BATCH]
            answers = _known(group, known[begin : begin + _BATCH])
            began = time.monotonic()
            spared = self.once.spared_seconds
            prompts = [self._prompt(_question(c)) for c in group]
            spared = self.once.spared_seconds - spared
            rated = [_fitting_answer(self.engine, p, a) for p, a in zip(prompts, answers, strict=True)]
            replies = self.engine.generate(prompts, self.sampling, rated=rated)
            seconds = (time.monotonic() - began + spared) / len(group)
            for reply, answer, tokens in zip(replies, answers, rated, strict=True):
                yield _closed_answer(reply, self.name, seconds, _cost_of_known(reply, answer, tokens))

    def _prompt(self, question: str) -> list[int]:
        def make() -> list[int]:
            return self.engine.render(closed_prompt(question))

        identity = prompt_identity(self.engine)
        return self.once((identity, question), make) if identity else make()


class GroundedAnswerer:
    """Searches, shows the passages to the model, and ties its answer to their words.

    Answerers over one index and with equal settings may share a `once`: a question is then searched once for all of them,
    and its prompt made once for those of one tokenizer.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        retriever: Retriever,
        settings: RetrieveSettings,
        sampling: Sampling,
        decline: DeclineRule | None = None,
        *,
        condense: Condense = joined,
        unruled: str = "",
        once: Once | None = None,
    ) -> None:
        self.name, self.engine, self.retriever, self.settings, self.sampling, self.decline = (
            name,
            engine,
            retriever,
            settings,
            sampling,
            decline,
        )
        self.condense, self.unruled, self.once = condense, unruled, once or Once(keeps=False)

    def answer_all(self, conversations: Sequence[Conversation], known: Sequence[str | None] = ()) -> Iterator[Answer]:
        """Yield one answer for each conversation, in order."""
        for answer, _ in self.rated_answers(conversations, known):
            yield answer

    def rated_answers(
        self, conversations: Sequence[Conversation], known: Sequence[str | None] = ()
    ) -> Iterator[tuple[Answer, float | None]]:
        """Yield answers, each with the log-probability of declining instead; None where it could not be computed."""
        declining = self.engine.reply_tokens(NOT_STATED)
        for begin in range(0, len(conversations), _BATCH):
            group = conversations[begin : begin + _BATCH]
            answers = _known(group, known[begin : begin + _BATCH])
            began = time.monotonic()
            spared = self.once.spared_seconds
            packed = [self._shared(c) for c in group]
            spared, found = self.once.spared_seconds - spared, time.monotonic()
            rated = [
                [declining, *_fitting_answer(self.engine, prompt, a)]
                for (_, prompt, *_), a in zip(packed, answers, strict=True)
            ]
            replies = self.engine.generate([p.prompt for p in packed], self.sampling, rated=rated)
            done = time.monotonic()
            timings = Timings(
                retrieve_seconds=(found - began + spared) / len(group),
                generate_seconds=(done - found) / len(group),
                total_seconds=(done - began + spared) / len(group),
            )
            for asked, reply, answer, tokens in zip(packed, replies, answers, rated, strict=True):
                passages = asked.passages
                logprob = reply.ratings[0] if reply.ratings else None
                doubt = self.doubt(logprob, passages)
                made = grounded_answer(
                    reply.text,
                    passages,
                    self.name,
                    timings=_with_first_token(timings, reply),
                    finish_reason=reply.finish_reason,
                    prompt_tokens=reply.prompt_tokens,
                    completion_tokens=len(reply.token_ids),
                    doubt=doubt,
                    known=_cost_of_known(reply, answer, tokens, 1),
                )
                made = self.told(asked, made)
                yield (held_back(made) if self.is_too_doubtful(doubt) else made), logprob

    def _shared(self, conversation: Conversation) -> Packed:
        identity = prompt_identity(self.engine)
        if not identity:
            return self.packed(conversation)
        turns = tuple((m.role, m.content) for m in conversation)
        return self.once((identity, self.engine.context_tokens, turns), lambda: self.packed(conversation))

    def _searched(self, query: str, count: int) -> list[RetrievedPassage]:
        return self.once((query, count), lambda: self.retriever.search(query, count))

    def told(self, packed: Packed, answer: Answer) -> Answer:
        """Return an answer with what was searched, screened and not ruled, where there is something to tell."""
        answer = packed.noted(answer)
        return answer.model_copy(update={"unruled": self.unruled}) if self.unruled else answer

    def doubt(self, logprob: float | None, passages: Sequence[RetrievedPassage]) -> float | None:
        """Return the fitted probability that passages do not answer; None without a rule or a rating of declining."""
        if self.decline is None or logprob is None:
            return None
        return self.decline.doubt(logprob, similarity(passages))

    def is_too_doubtful(self, doubt: float | None) -> bool:
        """Tell whether the rule declines."""
        return self.decline is not None and doubt is not None and doubt >= self.decline.threshold

    def stream(
        self,
        conversation: Conversation,
        sampling: Sampling | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[RetrievedPassage, ...] | StreamedText | Answer]:
        """Yield the passages, then the reply as it is written, then the whole answer with its citations."""
        began = time.monotonic()
        packed = self.packed(conversation, is_cancelled=is_cancelled)
        passages, prompt = packed.passages, packed.prompt
        found = time.monotonic()
        yield passages
        text, tokens, first, doubt = "", 0, None, None
        finish: FinishReason = "stop"
        rated = [self.engine.reply_tokens(NOT_STATED)] if self.decline is not None else []
        pieces = self.engine.stream(prompt, sampling or self.sampling, is_cancelled, rated=rated)
        for piece in pieces:
            if first is None:
                first = time.monotonic() - began
                doubt = self.doubt(piece.ratings[0] if piece.ratings else None, passages)
                if self.is_too_doubtful(doubt):  # before a word is shown: nothing has to be taken back
                    text, finish = NOT_STATED, "stop"
                    yield StreamedText(text)
                    break
            text, tokens = text + piece.text, tokens + piece.tokens
            finish = piece.finish_reason or finish
            if piece.text:
                yield StreamedText(piece.text if text.strip() != piece.text.strip() else piece.text.lstrip())
        if isinstance(pieces, Generator):
            pieces.close()  # a reply that is held back frees its place at once
        done = time.monotonic()
        timings = Timings(
            retrieve_seconds=found - began,
            generate_seconds=done - found,
            first_token_seconds=first,
            total_seconds=done - began,
        )
        made = grounded_answer(
            text,
            passages,
            self.name,
            timings=timings,
            finish_reason=finish,
            prompt_tokens=len(prompt),
            completion_tokens=tokens,
            doubt=doubt,
        )
        yield self.told(packed, made)

    def packed(
        self,
        conversation: Conversation,
        make: MakePrompt = grounded_prompt,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Packed:
        """Search, screen, and make the prompt; fewer passages where they do not fit rather than cut ones.

        Raises ModelError when not even the question fits.
        """
        question, searched = _question(conversation), self.condense(conversation, is_cancelled)
        found, dropped = self._found(searched.query)
        kept, asked, prompt = self._fitting(question, found, make)
        while found and not kept:  # the first is larger than the context: it must not keep the others out
            found = found[1:]
            kept, asked, prompt = self._fitting(question, found, make)
        if len(prompt) >= self.engine.context_tokens:
            raise ModelError(
                "the question is longer than the model's context",
                found=f"{len(prompt)} tokens, the context holds {self.engine.context_tokens}",
                fix="Ask a shorter question.",
            )
        noted = [self._noted(one, mark) for mark, one in enumerate(kept, 1) if one.seen.signs]
        noted += [self._noted(one, None) for one in dropped]
        return Packed(tuple(one.passage for one in kept), prompt, asked, searched, tuple(noted))

    def plain_prompt(self, question: str, passages: Sequence[RetrievedPassage]) -> list[int]:
        """Return the prompt that asks for an answer in words over passages, as the rule of when to decline knows it."""
        return self.engine.render(asked_over(question, passages, self.settings))

    def _found(self, query: str) -> tuple[list[_Screened], list[_Screened]]:
        """The best passages, each looked at by the screen, and those it dropped; others take their places."""
        wanted, room = self.settings.top_k, 0
        while True:
            found = [_Screened(p, screen(passage_text(p.chunk))) for p in self._searched(query, wanted + room)]
            if self.settings.screen != "drop":
                return found, []
            refused = [one for one in found if one.seen.signs]
            if len(refused) <= room or len(found) < wanted + room or room >= _MOST_DROPPED:
                return [one for one in found if not one.seen.signs][:wanted], refused
            room = min(2 * len(refused), _MOST_DROPPED)

    def _fitting(
        self, question: str, found: list[_Screened], make: MakePrompt
    ) -> tuple[list[_Screened], Conversation, list[int]]:
        """The passages without as many of the last ones as it takes to fit, and their prompt, told and in tokens."""
        budget = int(self.engine.context_tokens * self.settings.context_share)
        while True:
            asked = make(question, [self._shown(one) for one in found])
            prompt = self.engine.render(asked)
            if len(prompt) <= budget or not found:
                return found, asked, prompt
            found = found[:-1]

    def _shown(self, one: _Screened) -> str:
        return _as_shown(one, self.settings)

    def _noted(self, one: _Screened, mark: int | None) -> ScreenedPassage:
        chunk = one.passage.chunk
        return ScreenedPassage(
            chunk_id=chunk.id,
            document_id=chunk.document_id,
            uri=chunk.uri,
            signs=one.seen.signs,
            action=self.settings.screen,
            mark=mark,
        )


def asked_over(question: str, passages: Sequence[RetrievedPassage], settings: RetrieveSettings) -> Conversation:
    """Return the conversation that asks for an answer in words over passages, as every answerer with these settings asks."""
    return grounded_prompt(question, shown_texts(passages, settings))


def shown_texts(passages: Sequence[RetrievedPassage], settings: RetrieveSettings) -> list[str]:
    """Return the texts of passages as a model is shown them."""
    return [_as_shown(_Screened(p, screen(passage_text(p.chunk))), settings) for p in passages]


def _as_shown(one: _Screened, settings: RetrieveSettings) -> str:
    text = passage_text(one.passage.chunk)
    return text if settings.screen == "keep" else shown(text, one.seen)


def _question(conversation: Conversation) -> str:
    return next((m.content for m in reversed(conversation) if m.role == "user"), "")


def _known(group: Sequence[Conversation], known: Sequence[str | None]) -> Sequence[str | None]:
    return known or [None] * len(group)


def _fitting_answer(engine: Engine, prompt: list[int], answer: str | None) -> list[list[int]]:
    """The tokens of a known answer, if there is one and it fits behind the prompt.

    One that does not fit must not keep the decline from being rated: what is declined would hang on the known answer.
    """
    tokens = engine.reply_tokens(answer) if answer else []
    return [tokens] if 0 < len(tokens) <= engine.context_tokens - len(prompt) else []


def _cost_of_known(reply: Generation, answer: str | None, rated: Sequence[list[int]], place: int = 0) -> _Known:
    """Of the reply rated at a place, where there is one."""
    if not answer or len(reply.ratings) <= place:
        return _NOT_RATED
    bits = -reply.ratings[place] / math.log(2) / len(answer.encode())
    hits = reply.rated_hits[place] if len(reply.rated_hits) > place else None
    return _Known(bits, len(rated[place]), hits)


def _with_first_token(timings: Timings, reply: Generation) -> Timings:
    """The times of an answer with that to its first token, what it waited for its passages included."""
    if reply.first_token_seconds is None:
        return timings
    return timings.model_copy(update={"first_token_seconds": timings.retrieve_seconds + reply.first_token_seconds})


def held_back(answer: Answer) -> Answer:
    """Return an answer declined because its passages are too doubtful; what was said stays readable beside it."""
    if answer.is_declined:
        return answer
    return answer.model_copy(
        update={
            "text": NOT_STATED,
            "answer": NOT_STATED,
            "is_declined": True,
            "citations": (),
            "withheld": answer.text,
            "finish_reason": "stop",
        }
    )


def _closed_answer(reply: Generation, name: str, seconds: float, known: _Known) -> Answer:
    text = reply.text.strip()
    return Answer(
        text=text,
        answer=without_marks(text),
        model=name,
        is_declined=is_declined(text),
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=len(reply.token_ids),
        known_bits=known.bits,
        known_tokens=known.tokens,
        known_hits=known.hits,
        timings=_with_first_token(Timings(generate_seconds=seconds, total_seconds=seconds), reply),
    )


def grounded_answer(
    text: str,
    passages: Sequence[RetrievedPassage],
    name: str,
    *,
    timings: Timings,
    finish_reason: FinishReason,
    prompt_tokens: int,
    completion_tokens: int,
    doubt: float | None = None,
    known: _Known = _NOT_RATED,
) -> Answer:
    """Build the answer of a reply: marks become citations, each checked against the stored words."""
    text = text.strip()
    answer, declined = without_marks(text), is_declined(text)
    citations = () if declined else tuple(cite(answer, cited_numbers(text), [p.chunk for p in passages]))
    return Answer(
        text=text,
        answer=answer,
        model=name,
        citations=citations,
        passages=tuple(passages),
        is_declined=declined,
        doubt=doubt,
        known_bits=known.bits,
        known_tokens=known.tokens,
        known_hits=known.hits,
        finish_reason=finish_reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        timings=timings,
    )
