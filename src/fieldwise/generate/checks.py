"""What a teacher has written, checked against its passage before anything is learned from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fieldwise.generate.pairs import Pair
from fieldwise.generate.rules import problem
from fieldwise.generate.wording import other_language, refuses
from fieldwise.records import Chunk
from fieldwise.support import content_stems, loses_negation, may_answer, unsupported, words_in

_NO_ANSWER = "\0"  # stands in no question
_REFERS = re.compile(
    r"\b(?:passages?|excerpts?|(?:the|this) (?:text|author)|mentioned|(?:above|given|following|provided) (?:text|context|list|table)|"
    r"according to the (?:text|document|section|table|list)|(?:the|this) (?:document|section) (?:say|state|mention|describe)s?)\b",
    re.I,
)
_CASE = re.compile(r"\b(?:this|that|these|those) (?:case|situation|process|procedure|rule|step|person|patient)\b", re.I)


class Dropped(NamedTuple):
    """Something a teacher wrote that is not used: which rule, and its words."""

    reason: str
    words: str


def checked_pairs(written: Sequence[Pair], chunk: Chunk) -> Iterator[Pair | Dropped]:
    """Yield every pair, quote and answer in the very words of the chunk, or the rule it breaks; repeats are dropped."""
    seen: list[set[str]] = []
    for pair in written:
        tidy = Pair(_one_line(pair.question), pair.answer.strip(), pair.kind, pair.quote.strip())
        found = _checked(tidy, chunk)
        if isinstance(found, str):
            yield Dropped(found, f"{tidy.question} | {tidy.answer} | {tidy.quote}"[:600])
        elif (stems := content_stems(found.question)) in seen:
            yield Dropped("question_repeated", tidy.question)
        else:
            seen.append(stems)
            yield found


def _checked(pair: Pair, chunk: Chunk) -> Pair | str:
    if refuses(pair.question) or refuses(pair.answer):
        return "refusal"
    quote = words_in(pair.quote, chunk.text)
    if quote is None:
        return "quote_not_in_chunk"
    answer = words_in(pair.answer, quote)
    if answer is None:
        return unsupported(pair.answer, quote) or "answer_not_in_quote"
    exact = pair._replace(quote=quote, answer=answer.strip(" ,;"))
    if loses_negation(exact.question, exact.answer, exact.quote):
        return "negation_lost"
    if _REFERS.search(exact.question) or _CASE.search(exact.question):
        return "question_refers_to_passage"
    stems = content_stems(exact.answer)
    if stems and stems <= content_stems(exact.question):
        return "question_gives_answer_away"
    if other_language(exact.question, chunk.text):
        return "language_differs"
    return problem(exact, chunk.text) or exact


def checked_unanswerable(written: Sequence[str], chunk: Chunk, near: Sequence[str]) -> Iterator[str | Dropped]:
    """Yield every question that none of the passages near it seems to answer, or the rule it breaks.

    It must be about the same things, or declining it would teach nothing.
    """
    for question in map(_one_line, written):
        unclear = problem(Pair(question, _NO_ANSWER, "unanswerable", _NO_ANSWER), _NO_ANSWER)
        stems = content_stems(question)
        if refuses(question):
            yield Dropped("refusal", question)
        elif unclear is not None:
            yield Dropped(unclear, question)
        elif other_language(question, chunk.text):
            yield Dropped("language_differs", question)
        elif _REFERS.search(question) or _CASE.search(question):
            yield Dropped("question_refers_to_passage", question)
        elif not stems & content_stems(f"{chunk.label}\n{chunk.text}"):
            yield Dropped("unanswerable_off_topic", question)
        elif may_answer(question, [chunk.text, *near]):
            yield Dropped("unanswerable_may_be_answered", question)
        else:
            yield question


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
