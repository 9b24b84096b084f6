"""Answerers over an engine: with passages and citations, or from the weights alone.

A citation is more than the model's mark: the answer must stand in the cited passage, word for word after
blanks and case are evened out, and the quote is the sentence of the stored document that holds it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from fieldwise.errors import ModelError
from fieldwise.interfaces import Engine, FinishReason, Generation, Retriever, Sampling
from fieldwise.prompts import cited_numbers, closed_prompt, grounded_prompt, is_declined, without_marks
from fieldwise.records import NOT_STATED, Answer, Chunk, Citation, Conversation, RetrievedPassage, Timings
from fieldwise.retrieve.decline import DeclineRule, similarity
from fieldwise.retrieve.index import passage_text
from fieldwise.retrieve.settings import RetrieveSettings

_BATCH = 64
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True)
class StreamedText:
    """New text of a reply that is being written."""

    text: str


class ClosedAnswerer:
    """Answers from what the weights know, without passages."""

    def __init__(self, name: str, engine: Engine, sampling: Sampling) -> None:
        self.name, self.engine, self.sampling = name, engine, sampling

    def answer_all(self, conversations: Sequence[Conversation], known: Sequence[str | None] = ()) -> Iterator[Answer]:
        """Yield one answer for each conversation, in order."""
        for begin in range(0, len(conversations), _BATCH):
            group = conversations[begin : begin + _BATCH]
            answers = _known(group, known[begin : begin + _BATCH])
            began = time.monotonic()
            prompts = [self.engine.render(closed_prompt(_question(c))) for c in group]
            rated = [_fitting_answer(self.engine, p, a) for p, a in zip(prompts, answers, strict=True)]
            replies = self.engine.generate(prompts, self.sampling, rated=rated)
            seconds = (time.monotonic() - began) / len(group)
            for reply, answer in zip(replies, answers, strict=True):
                yield _closed_answer(reply, self.name, seconds, _bits(reply.ratings, answer))


class GroundedAnswerer:
    """Searches, shows the passages to the model, and ties its answer to their words."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        retriever: Retriever,
        settings: RetrieveSettings,
        sampling: Sampling,
        decline: DeclineRule | None = None,
    ) -> None:
        self.name, self.engine, self.retriever, self.settings, self.sampling, self.decline = (
            name,
            engine,
            retriever,
            settings,
            sampling,
            decline,
        )

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
            packed = [self.pack(c) for c in group]
            found = time.monotonic()
            rated = [
                [declining, *_fitting_answer(self.engine, prompt, a)]
                for (_, prompt), a in zip(packed, answers, strict=True)
            ]
            replies = self.engine.generate([prompt for _, prompt in packed], self.sampling, rated=rated)
            done = time.monotonic()
            timings = Timings(
                retrieve_seconds=(found - began) / len(group),
                generate_seconds=(done - found) / len(group),
                total_seconds=(done - began) / len(group),
            )
            for (passages, _), reply, answer in zip(packed, replies, answers, strict=True):
                logprob = reply.ratings[0] if reply.ratings else None
                doubt = self._doubt(logprob, passages)
                made = grounded_answer(
                    reply.text,
                    passages,
                    self.name,
                    timings=timings,
                    finish_reason=reply.finish_reason,
                    prompt_tokens=reply.prompt_tokens,
                    completion_tokens=len(reply.token_ids),
                    doubt=doubt,
                    known_bits=_bits(reply.ratings[1:], answer),
                )
                yield (held_back(made) if self._is_too_doubtful(doubt) else made), logprob

    def _doubt(self, logprob: float | None, passages: Sequence[RetrievedPassage]) -> float | None:
        if self.decline is None or logprob is None:
            return None
        return self.decline.doubt(logprob, similarity(passages))

    def _is_too_doubtful(self, doubt: float | None) -> bool:
        return self.decline is not None and doubt is not None and doubt >= self.decline.threshold

    def stream(
        self,
        conversation: Conversation,
        sampling: Sampling | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[RetrievedPassage, ...] | StreamedText | Answer]:
        """Yield the passages, then the reply as it is written, then the whole answer with its citations."""
        began = time.monotonic()
        passages, prompt = self.pack(conversation)
        found = time.monotonic()
        yield passages
        text, tokens, first, doubt = "", 0, None, None
        finish: FinishReason = "stop"
        rated = [self.engine.reply_tokens(NOT_STATED)] if self.decline is not None else []
        pieces = self.engine.stream(prompt, sampling or self.sampling, is_cancelled, rated=rated)
        for piece in pieces:
            if first is None:
                first = time.monotonic() - began
                doubt = self._doubt(piece.ratings[0] if piece.ratings else None, passages)
                if self._is_too_doubtful(doubt):  # before a word is shown: nothing has to be taken back
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
        yield grounded_answer(
            text,
            passages,
            self.name,
            timings=timings,
            finish_reason=finish,
            prompt_tokens=len(prompt),
            completion_tokens=tokens,
            doubt=doubt,
        )

    def pack(self, conversation: Conversation) -> tuple[tuple[RetrievedPassage, ...], list[int]]:
        """Return the passages that fit the context and the prompt that shows them; fewer passages rather than cut ones.

        Raises ModelError when not even the question fits.
        """
        question = _question(conversation)
        found = self.retriever.search(_query(conversation), self.settings.top_k)
        passages, prompt = self._fitting(question, found)
        while found and not passages:  # the first is larger than the context: it must not keep the others out
            found = found[1:]
            passages, prompt = self._fitting(question, found)
        if len(prompt) >= self.engine.context_tokens:
            raise ModelError(
                "the question is longer than the model's context",
                found=f"{len(prompt)} tokens, the context holds {self.engine.context_tokens}",
                fix="Ask a shorter question.",
            )
        return tuple(passages), prompt

    def _fitting(self, question: str, passages: list[RetrievedPassage]) -> tuple[list[RetrievedPassage], list[int]]:
        """The passages without as many of the last ones as it takes to fit, and their prompt."""
        budget = int(self.engine.context_tokens * self.settings.context_share)
        while True:
            prompt = self.engine.render(grounded_prompt(question, [passage_text(p.chunk) for p in passages]))
            if len(prompt) <= budget or not passages:
                return passages, prompt
            passages = passages[:-1]


def _question(conversation: Conversation) -> str:
    return next((m.content for m in reversed(conversation) if m.role == "user"), "")


def _query(conversation: Conversation) -> str:
    """The last question; a short follow-up is searched together with the question before it."""
    asked = [m.content for m in conversation if m.role == "user"]
    if len(asked) > 1 and len(asked[-1].split()) < 6:
        return f"{asked[-2]} {asked[-1]}"
    return asked[-1] if asked else ""


def _known(group: Sequence[Conversation], known: Sequence[str | None]) -> Sequence[str | None]:
    return known or [None] * len(group)


def _fitting_answer(engine: Engine, prompt: list[int], answer: str | None) -> list[list[int]]:
    """The tokens of a known answer, if there is one and it fits behind the prompt.

    One that does not fit must not keep the decline from being rated: what is declined would hang on the known answer.
    """
    tokens = engine.reply_tokens(answer) if answer else []
    return [tokens] if 0 < len(tokens) <= engine.context_tokens - len(prompt) else []


def _bits(ratings: Sequence[float], answer: str | None) -> float | None:
    """Bits per byte (UTF-8) of a known answer with this log-probability."""
    if not answer or not ratings:
        return None
    return -ratings[0] / math.log(2) / len(answer.encode())


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


def _closed_answer(reply: Generation, name: str, seconds: float, known_bits: float | None) -> Answer:
    text = reply.text.strip()
    return Answer(
        text=text,
        answer=without_marks(text),
        model=name,
        is_declined=is_declined(text),
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=len(reply.token_ids),
        known_bits=known_bits,
        timings=Timings(generate_seconds=seconds, total_seconds=seconds),
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
    known_bits: float | None = None,
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
        known_bits=known_bits,
        finish_reason=finish_reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        timings=timings,
    )


def cite(answer: str, numbers: Sequence[int], chunks: Sequence[Chunk]) -> Iterator[Citation]:
    """Yield a citation for every mark that names a shown passage; without a mark, for the first passage that holds the answer."""
    marked = [n for n in numbers if 1 <= n <= len(chunks)]
    if not marked:
        marked = [n for n, chunk in enumerate(chunks, 1) if find_words(answer, chunk.text) is not None][:1]
    for number in marked:
        chunk = chunks[number - 1]
        found = find_words(answer, chunk.text)
        start, end = sentence_around(chunk.text, *found) if found else (0, min(len(chunk.text), 200))
        yield Citation(
            mark=number,
            chunk_id=chunk.id,
            document_id=chunk.document_id,
            uri=chunk.uri,
            title=chunk.title,
            heading_path=chunk.heading_path,
            page=chunk.page,
            start=chunk.start + start,
            end=chunk.start + end,
            quote=chunk.text[start:end],
            is_verified=found is not None,
        )


def find_words(words: str, text: str) -> tuple[int, int] | None:
    """Return where the words stand in the text, whatever the blanks and the case; None if they do not.

    >>> find_words("14  Days", "kept for 14 days.")
    (9, 16)
    """
    parts = words.strip().strip("\"'").rstrip(".").split()
    if not parts:
        return None
    before = r"(?<!\w)" if parts[0][0].isalnum() else ""
    after = r"(?!\w)" if parts[-1][-1].isalnum() else ""
    match = re.search(before + r"\s+".join(re.escape(p) for p in parts) + after, text, re.IGNORECASE)
    return match.span() if match else None


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span of the sentence or line that holds a span.

    >>> sentence_around("One. Two is 2. Three.", 9, 10)
    (5, 14)
    """
    left, right = 0, len(text)
    for match in _SENTENCE_END.finditer(text):
        if match.end() <= start:
            left = match.end()
        elif match.start() >= end:
            right = match.start()
            break
    return left, right
