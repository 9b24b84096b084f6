"""Scores of one answer. A metric is a function in this file and a line in METRICS.

`None` means "does not apply here" or "could not be judged"; it is counted apart and never as 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fieldwise.records import Answer, Question

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_PUNCTUATION = str.maketrans(
    dict.fromkeys(
        string.punctuation.replace(".", "")
        .replace(",", "")
        .replace(":", "")
        .replace("/", "")
        .replace("%", "")
        .replace("-", ""),
        " ",
    )
)


def normalise(text: str) -> str:
    """Even out what does not change an answer: case, articles, punctuation at the edges of words, blanks (as in SQuAD).

    An article that is all there is stays: a grade or a vitamin may be called A.

    >>> normalise("The Blue bins."), normalise("A.")
    ('blue bins', 'a')
    """
    plain = text.casefold().translate(_PUNCTUATION)
    words = _ARTICLES.sub(" ", plain).strip(" .,:;/-").split() or plain.split()
    return " ".join(w for w in (word.strip(".,:;/-") for word in words) if w)


def exact_match(answer: Answer, question: Question) -> float | None:
    """1 if the answer equals the known answer or an alias after normalising, else 0."""
    if question.answer is None:
        return None
    said = normalise(answer.answer)
    return float(any(said == normalise(known) for known in (question.answer, *question.aliases)))


def _f1(said: list[str], known: list[str]) -> float:
    shared = sum((Counter(said) & Counter(known)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(said), shared / len(known)
    return 2 * precision * recall / (precision + recall)


def token_f1(answer: Answer, question: Question) -> float | None:
    """Harmonic mean of word precision and recall against the best of known answer and aliases (SQuAD).

    Known "14 days", said "within 14 days": precision 2/3, recall 1, F1 0.8.
    """
    if question.answer is None:
        return None
    said = normalise(answer.answer).split()
    return max(_f1(said, normalise(known).split()) for known in (question.answer, *question.aliases))


def overall_f1(answer: Answer, question: Question) -> float | None:
    """Token F1 over all questions: one that the documents do not answer counts 1 if declined, else 0 (SQuAD 2.0).

    A system that declines everything is good at abstention and poor here; one that never declines, too.
    """
    if answer.is_declined or question.answer is None:
        return float(answer.is_declined and question.answer is None)
    return token_f1(answer, question)


def rouge_l(answer: Answer, question: Question) -> float | None:
    """F-measure of the longest common subsequence of words (Lin 2004), without stemming, best of the known answers.

    Known "the cat sat", said "cat the sat": longest common subsequence 2, F 2/3.
    """
    if question.answer is None:
        return None
    return max(_rouge_l(answer.answer, known) for known in (question.answer, *question.aliases))


def _rouge_l(said: str, known: str) -> float:
    a, b = re.findall(r"[a-z0-9]+", said.lower()), re.findall(r"[a-z0-9]+", known.lower())
    if not a or not b:
        return 0.0
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    common = row[-1]
    if not common:
        return 0.0
    precision, recall = common / len(a), common / len(b)
    return 2 * precision * recall / (precision + recall)


def bits_per_byte(answer: Answer, question: Question) -> float | None:
    """How surprised the model is by the known answer over what it was shown: -log2 of its probability over its bytes.

    Finer than what it says: it moves before the first choice does. Not scored where the system gives no probabilities.
    """
    return answer.known_bits if question.answer is not None else None


def groundedness(answer: Answer, question: Question) -> float | None:
    """1 if a verified citation holds the answer and every number of the answer stands in a quoted sentence, else 0.

    A declined answer makes no claim and is not scored; an answer without passages claims without evidence and gets 0.
    """
    del question
    if answer.is_declined:
        return None
    quotes = " ".join(c.quote for c in answer.citations if c.is_verified)
    numbers = set(_NUMBER.findall(answer.answer))
    return float(bool(quotes) and numbers <= set(_NUMBER.findall(quotes)))


def citation_match(answer: Answer, question: Question) -> float | None:
    """1 if a citation points to the document that answers the question, else 0; declined answers are not scored."""
    if question.document is None or answer.is_declined or not answer.passages:
        return None
    return float(any(c.uri == question.document for c in answer.citations))


def retrieval_hit(answer: Answer, question: Question) -> float | None:
    """1 if a passage shown to the model holds the known answer and stands in the right document, else 0."""
    if question.answer is None or question.document is None or not answer.passages:
        return None
    known = [normalise(k) for k in (question.answer, *question.aliases)]
    return float(
        any(
            p.chunk.uri == question.document and any(k in normalise(p.chunk.text) for k in known)
            for p in answer.passages
        )
    )


def abstention(answer: Answer, question: Question) -> float | None:
    """On questions that the documents do not answer: 1 if declined, else 0."""
    return float(answer.is_declined) if question.answer is None else None


def false_decline(answer: Answer, question: Question) -> float | None:
    """On questions that the documents answer: 1 if declined all the same, else 0."""
    return float(answer.is_declined) if question.answer is not None else None


def seconds(answer: Answer, question: Question) -> float | None:
    """Seconds for this answer, retrieval included; in a batch, its share."""
    del question
    return answer.timings.total_seconds


@dataclass(frozen=True)
class Metric:
    """A metric with its direction, whether its values are 0 and 1 only, and whether they lie between 0 and 1."""

    name: str
    score: Callable[[Answer, Question], float | None]
    better: Literal["higher", "lower"] = "higher"
    is_binary: bool = True
    title: str = ""
    is_bounded: bool = True


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("exact_match", exact_match, title="Exact match"),
        Metric("token_f1", token_f1, is_binary=False, title="Token F1"),
        Metric("overall_f1", overall_f1, is_binary=False, title="F1 with declines"),
        Metric("rouge_l", rouge_l, is_binary=False, title="ROUGE-L"),
        Metric("bits_per_byte", bits_per_byte, "lower", False, "Bits per byte, known answer", is_bounded=False),
        Metric("groundedness", groundedness, title="Grounded"),
        Metric("citation_match", citation_match, title="Cites right document"),
        Metric("retrieval_hit", retrieval_hit, title="Passage found"),
        Metric("abstention", abstention, title="Declines unanswerable"),
        Metric("false_decline", false_decline, better="lower", title="Declines answerable"),
        Metric("seconds", seconds, better="lower", is_binary=False, title="Seconds", is_bounded=False),
    )
}
