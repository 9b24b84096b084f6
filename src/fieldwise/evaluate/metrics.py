"""Scores of one answer. A metric is a function in this file and a line in METRICS.

`None` means "does not apply here" or "could not be judged"; it is counted apart and never as 0.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal
from unicodedata import normalize

from fieldwise.claims import claims
from fieldwise.evaluate import overlap
from fieldwise.evaluate.overlap import Overlap, rouge_n, sentence_bleu, shared
from fieldwise.records import Answer, Citation, Question

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

    An article that is all there is stays: a grade or a vitamin may be called A. A letter with its accent is the same as one sign
    or as two (Unicode's canonical caseless matching, D145): which of the two a model writes hangs on its tokenizer.

    >>> normalise("The Blue bins."), normalise("A.")
    ('blue bins', 'a')
    """
    folded = normalize("NFD", text).casefold()
    plain = normalize("NFC", folded).translate(_PUNCTUATION)
    words = _ARTICLES.sub(" ", plain).strip(" .,:;/-").split() or plain.split()
    return " ".join(w for w in (word.strip(".,:;/-") for word in words) if w)


def exact_match(answer: Answer, question: Question) -> float | None:
    """1 if the answer equals the known answer or an alias after normalising, else 0."""
    if question.answer is None:
        return None
    said = normalise(answer.answer)
    return float(any(said == normalise(known) for known in (question.answer, *question.aliases)))


def _known(question: Question) -> tuple[str, ...]:
    assert question.answer is not None
    return (question.answer, *question.aliases)


def _tokens(answer: Answer, question: Question) -> Overlap:
    """Words shared with the known answer or alias that they fit best."""
    said = normalise(answer.answer).split()
    return max((shared(said, normalise(known).split()) for known in _known(question)), key=lambda o: o.f1)


def token_f1(answer: Answer, question: Question) -> float | None:
    """Harmonic mean of word precision and recall against the best of known answer and aliases (SQuAD).

    Known "14 days", said "within 14 days": precision 2/3, recall 1, F1 0.8.
    """
    return None if question.answer is None else _tokens(answer, question).f1


def token_precision(answer: Answer, question: Question) -> float | None:
    """Share of the words said that stand in the known answer: low where an answer says too much."""
    return None if question.answer is None else _tokens(answer, question).precision


def token_recall(answer: Answer, question: Question) -> float | None:
    """Share of the words of the known answer that were said: low where an answer leaves something out."""
    return None if question.answer is None else _tokens(answer, question).recall


def overall_f1(answer: Answer, question: Question) -> float | None:
    """Token F1 over all questions: one that the documents do not answer counts 1 if declined, else 0 (SQuAD 2.0).

    A system that declines everything is good at abstention and poor here; one that never declines, too.
    """
    if answer.is_declined or question.answer is None:
        return float(answer.is_declined and question.answer is None)
    return token_f1(answer, question)


def _rouge(answer: Answer, question: Question, score: Callable[[str, str], float]) -> float | None:
    if question.answer is None:
        return None
    return max(score(answer.answer, known) for known in _known(question))


def rouge_1(answer: Answer, question: Question) -> float | None:
    """F-measure of shared words (Lin 2004), without stemming, best of the known answers."""
    return _rouge(answer, question, partial(rouge_n, n=1))


def rouge_2(answer: Answer, question: Question) -> float | None:
    """F-measure of shared pairs of neighbouring words (Lin 2004); 0 where the known answer is a single word."""
    return _rouge(answer, question, partial(rouge_n, n=2))


def rouge_l(answer: Answer, question: Question) -> float | None:
    """F-measure of the longest common subsequence of words (Lin 2004), without stemming, best of the known answers.

    Known "the cat sat", said "cat the sat": longest common subsequence 2, F 2/3.
    """
    return _rouge(answer, question, overlap.rouge_l)


def bleu(answer: Answer, question: Question) -> float | None:
    """BLEU of this one answer against all known ones, by sacrebleu; not scored where that is not installed."""
    return None if question.answer is None else sentence_bleu(answer.answer, _known(question))


def in_batches(answer: Answer, question: Question) -> float | None:
    """Stands for a metric that needs an encoder: `fieldwise.evaluate.semantic` scores it where it is asked for."""
    del answer, question
    return None


def by_model(answer: Answer, question: Question) -> float | None:
    """Stands for the metric that needs an NLI model: `fieldwise.evaluate.entailment` scores it where one is named."""
    del answer, question
    return None


def by_judge(answer: Answer, question: Question) -> float | None:
    """Stands for what a judge says: `fieldwise gate --baseline` reads it where `fieldwise judge` was asked."""
    del answer, question
    return None


def bits_per_byte(answer: Answer, question: Question) -> float | None:
    """How surprised the model is by the known answer over what it was shown: -log2 of its probability over its bytes.

    Finer than what it says: it moves before the first choice does. Not scored where the system gives no probabilities.
    """
    return answer.known_bits if question.answer is not None else None


def token_accuracy(answer: Answer, question: Question) -> float | None:
    """Share of the tokens of the known answer that the model would have said next itself, each after those before it.

    Of 4 tokens 3 were the likeliest: 0.75. Not scored where the system gives no probabilities.
    """
    if question.answer is None or answer.known_hits is None or not answer.known_tokens:
        return None
    return answer.known_hits / answer.known_tokens


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


def claims_supported(answer: Answer, question: Question) -> float | None:
    """Share of the claims that stand in the passages they cite (`fieldwise.claims`); declined: not scored.

    "Open from 9:00. Closed on Monday. [1]" over a passage that says only the first: 1/2.
    """
    del question
    if answer.is_declined:
        return None
    found = list(claims(answer))
    return sum(not c.problem for c in found) / len(found) if found else 0.0


def citation_match(answer: Answer, question: Question) -> float | None:
    """1 if a citation points to the document that answers the question, else 0; declined answers are not scored."""
    if question.document is None or answer.is_declined or not answer.passages:
        return None
    return float(any(c.uri == question.document for c in answer.citations))


def citation_precision(answer: Answer, question: Question) -> float | None:
    """Share of the citations whose quote stands in the document that answers the question; not scored without any.

    Two citations, one of the right document and verified, one of another: 1/2.
    """
    if question.document is None or not answer.citations:
        return None
    return sum(_is_right(c, question) for c in answer.citations) / len(answer.citations)


def citation_recall(answer: Answer, question: Question) -> float | None:
    """1 if the document that answers the question is cited with a quote that stands there, else 0.

    An answer that was declined gives no evidence and gets 0, unlike in `citation_match`.
    """
    if question.document is None or question.answer is None or not answer.passages:
        return None
    return float(any(_is_right(c, question) for c in answer.citations))


def _is_right(citation: Citation, question: Question) -> bool:
    return citation.is_verified and citation.uri == question.document


def brier(answer: Answer, question: Question) -> float | None:
    """Squared distance of the fitted doubt from what is so: 1 if the documents do not answer, else 0 (Brier 1950).

    Doubt 0.3 on a question with an answer: 0.09. Not scored without a fitted rule.
    """
    return None if answer.doubt is None else (answer.doubt - float(question.answer is None)) ** 2


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


def first_token_seconds(answer: Answer, question: Question) -> float | None:
    """Seconds until the first token can be said, retrieval included; in a batch, while the others of it are read too."""
    del question
    return answer.timings.first_token_seconds


def tokens_per_second(answer: Answer, question: Question) -> float | None:
    """Tokens said in a second of generating, the reading of the prompt included; in a batch, by its share of the time.

    The mean over a batch is its throughput. Not scored where no time is known.
    """
    del question
    taken = answer.timings.generate_seconds
    return answer.completion_tokens / taken if taken > 0 else None


def prompt_tokens(answer: Answer, question: Question) -> float | None:
    """Tokens read for this answer, passages included; not scored where nobody counted."""
    del question
    return float(answer.prompt_tokens) if answer.prompt_tokens > 0 else None


def completion_tokens(answer: Answer, question: Question) -> float | None:
    """Tokens said, by the model's own tokenizer; not scored where nobody counted, which shows in the prompt."""
    del question
    return float(answer.completion_tokens) if answer.prompt_tokens > 0 else None


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
        Metric("token_precision", token_precision, is_binary=False, title="Token precision"),
        Metric("token_recall", token_recall, is_binary=False, title="Token recall"),
        Metric("overall_f1", overall_f1, is_binary=False, title="F1 with declines"),
        Metric("rouge_1", rouge_1, is_binary=False, title="ROUGE-1"),
        Metric("rouge_2", rouge_2, is_binary=False, title="ROUGE-2"),
        Metric("rouge_l", rouge_l, is_binary=False, title="ROUGE-L"),
        Metric("bleu", bleu, is_binary=False, title="BLEU"),
        Metric("semantic_similarity", in_batches, is_binary=False, title="Semantic similarity (all-MiniLM-L6-v2)"),
        Metric("bert_score", in_batches, is_binary=False, title="BERTScore F1 (all-MiniLM-L6-v2)"),
        Metric("token_accuracy", token_accuracy, is_binary=False, title="Token accuracy, known answer"),
        Metric("bits_per_byte", bits_per_byte, "lower", False, "Bits per byte, known answer", is_bounded=False),
        Metric("groundedness", groundedness, title="Grounded"),
        Metric("claims_supported", claims_supported, is_binary=False, title="Claims supported"),
        Metric("claims_entailed", by_model, is_binary=False, title="Claims entailed (NLI)"),
        Metric("judged_right", by_judge, title="Right, by a judge"),
        Metric("citation_match", citation_match, title="Cites right document"),
        Metric("citation_precision", citation_precision, is_binary=False, title="Citation precision"),
        Metric("citation_recall", citation_recall, title="Citation recall"),
        Metric("retrieval_hit", retrieval_hit, title="Passage found"),
        Metric("abstention", abstention, title="Declines unanswerable"),
        Metric("false_decline", false_decline, better="lower", title="Declines answerable"),
        Metric("brier", brier, better="lower", is_binary=False, title="Brier score of the doubt"),
        Metric("prompt_tokens", prompt_tokens, "lower", False, "Tokens read", is_bounded=False),
        Metric("completion_tokens", completion_tokens, "lower", False, "Tokens said", is_bounded=False),
        Metric("seconds", seconds, better="lower", is_binary=False, title="Seconds", is_bounded=False),
        Metric(
            "first_token_seconds",
            first_token_seconds,
            better="lower",
            is_binary=False,
            title="Seconds to the first token",
            is_bounded=False,
        ),
        Metric("tokens_per_second", tokens_per_second, is_binary=False, title="Tokens a second", is_bounded=False),
    )
}
TIMES = ("seconds", "first_token_seconds", "tokens_per_second")
"""What no rerun repeats: measured and printed, but part of nothing that is hashed."""
COSTS = ("prompt_tokens", "completion_tokens")
"""What answers cost: shown beside the figures, in no family of differences, since fewer tokens are no better answers."""
