"""Whether what an answer claims stands in the passages it cites: claim by claim, by rules and without a model.

A claim is a sentence or a line. It stands if its figures with their units, dates and names are all in the cited
passages, most of its other words too, and the sentence it comes closest to is negated as it is. Similarity of
embeddings is no part of it: it hardly sees a changed number or a "not" (docs/decisions.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from fieldwise.prompts import cited_numbers, without_marks
from fieldwise.records import Answer
from fieldwise.support import content_stems, is_negated, unsupported

LEAST_COVERAGE = 0.7
"""Share of the content words of a claim that its evidence must hold."""
_CLAIM_END = re.compile(r"(?<=[.!?;])(?=\s+(?!\[\d))|\n+|(?<=\])(?=\s+[A-Z])")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_PLAIN_START = re.compile(r"^[A-Z][a-z]+(?:s|ing|ed|ly)(?= [a-z])")  # "Guests are ...": a word, hardly a name


class CitedClaim(NamedTuple):
    """One claim of an answer, without marks, and the passages it cites."""

    text: str
    passages: tuple[str, ...]


class Claim(NamedTuple):
    """One claim of an answer, without marks, and the rule it breaks; empty if it stands."""

    text: str
    problem: str


def claims(answer: Answer) -> Iterator[Claim]:
    """Yield every claim of an answer with the rule it breaks."""
    for text, passages in cited_claims(answer):
        yield Claim(text, _problem(text, "\n".join(passages)))


def cited_claims(answer: Answer) -> Iterator[CitedClaim]:
    """Yield every claim of an answer; a claim without a mark is held against the marks that follow in its paragraph."""
    for paragraph in re.split(r"\n\s*\n", answer.text):
        pieces = [p for p in _CLAIM_END.split(paragraph) if p and without_marks(p).strip()]
        marks: tuple[int, ...] = ()
        found = []
        for piece in reversed(pieces):
            marks = tuple(cited_numbers(piece)) or marks
            evidence = tuple(answer.passages[m - 1].chunk.text for m in marks if 0 < m <= len(answer.passages))
            found.append(CitedClaim(" ".join(without_marks(piece).split()), evidence))
        yield from reversed(found)


def _problem(claim: str, evidence: str) -> str:
    if not evidence:
        return "not_cited"
    plain = _PLAIN_START.sub(lambda m: m.group(0).lower(), claim)
    if (broken := unsupported(plain, evidence)) is not None:
        return broken
    words = content_stems(claim)
    if len(words & content_stems(evidence)) < LEAST_COVERAGE * len(words):
        return "words_not_in_evidence"
    sentences = [s for s in _SENTENCE_END.split(evidence) if s.strip()]
    shared = [len(words & content_stems(s)) for s in sentences]
    nearest = [s for s, n in zip(sentences, shared, strict=True) if n == max(shared)]
    if words and all(is_negated(s) != is_negated(claim) for s in nearest):
        return "negation_differs"
    return ""
