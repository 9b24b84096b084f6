"""Answerers over an engine: with passages and citations, or from the weights alone.

A citation is more than the model's mark: the answer must stand in the cited passage, word for word after
blanks and case are evened out, and the quote is the sentence of the stored document that holds it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fieldwise.errors import ModelError
from fieldwise.interfaces import Engine, FinishReason, Generation, Retriever, Sampling
from fieldwise.prompts import cited_numbers, closed_prompt, grounded_prompt, is_declined, without_marks
from fieldwise.records import Answer, Chunk, Citation, Conversation, RetrievedPassage, Timings
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

    def answer_all(self, conversations: Sequence[Conversation]) -> Iterator[Answer]:
        """Yield one answer for each conversation, in order."""
        for begin in range(0, len(conversations), _BATCH):
            group = conversations[begin : begin + _BATCH]
            began = time.monotonic()
            prompts = [self.engine.render(closed_prompt(_question(c))) for c in group]
            replies = self.engine.generate(prompts, self.sampling)
            seconds = (time.monotonic() - began) / len(group)
            for reply in replies:
                yield _closed_answer(reply, self.name, seconds)


class GroundedAnswerer:
    """Searches, shows the passages to the model, and ties its answer to their words."""

    def __init__(
        self, name: str, engine: Engine, retriever: Retriever, settings: RetrieveSettings, sampling: Sampling
    ) -> None:
        self.name, self.engine, self.retriever, self.settings, self.sampling = (
            name,
            engine,
            retriever,
            settings,
            sampling,
        )

    def answer_all(self, conversations: Sequence[Conversation]) -> Iterator[Answer]:
        """Yield one answer for each conversation, in order."""
        for begin in range(0, len(conversations), _BATCH):
            group = conversations[begin : begin + _BATCH]
            began = time.monotonic()
            packed = [self.pack(c) for c in group]
            found = time.monotonic()
            replies = self.engine.generate([prompt for _, prompt in packed], self.sampling)
            done = time.monotonic()
            timings = Timings(
                retrieve_seconds=(found - began) / len(group),
                generate_seconds=(done - found) / len(group),
                total_seconds=(done - began) / len(group),
            )
            for (passages, _), reply in zip(packed, replies, strict=True):
                yield grounded_answer(
                    reply.text,
                    passages,
                    self.name,
                    timings=timings,
                    finish_reason=reply.finish_reason,
                    prompt_tokens=reply.prompt_tokens,
                    completion_tokens=len(reply.token_ids),
                )

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
        text, tokens, first = "", 0, None
        finish: FinishReason = "stop"
        for piece in self.engine.stream(prompt, sampling or self.sampling, is_cancelled):
            if first is None:
                first = time.monotonic() - began
            text, tokens = text + piece.text, tokens + piece.tokens
            finish = piece.finish_reason or finish
            if piece.text:
                yield StreamedText(piece.text if text.strip() != piece.text.strip() else piece.text.lstrip())
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


def _closed_answer(reply: Generation, name: str, seconds: float) -> Answer:
    text = reply.text.strip()
    return Answer(
        text=text,
        answer=without_marks(text),
        model=name,
        is_declined=is_declined(text),
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=len(reply.token_ids),
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
