"""How much two texts share: words, runs of words, subsequences. ROUGE as rouge-score has it, BLEU by sacrebleu itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from fieldwise.extras import installed_version, require
from fieldwise.records import Record


class Overlap(NamedTuple):
    """Shares of what was said that is known, and of what is known that was said."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.precision * self.recall / (self.precision + self.recall) if self.precision else 0.0


NOTHING = Overlap(0.0, 0.0)


def shared(said: Sequence[object], known: Sequence[object]) -> Overlap:
    """Overlap of two bags, each element as often as it stands in both."""
    common = sum((Counter(said) & Counter(known)).values())
    return Overlap(common / len(said), common / len(known)) if common else NOTHING


def _words(text: str) -> list[str]:
    """The words as rouge-score cuts them, without stemming."""
    return re.findall(r"[a-z0-9]+", text.lower())


def rouge_n(said: str, known: str, n: int) -> float:
    """F-measure of the runs of n words that both hold (Lin 2004).

    "the cat sat" and "the cat ran": runs of two are (the cat, cat sat) and (the cat, cat ran), F 1/2.

    >>> rouge_n("the cat sat", "the cat ran", 2)
    0.5
    """
    runs = [list(zip(*(words[k:] for k in range(n)), strict=False)) for words in (_words(said), _words(known))]
    return shared(*runs).f1


def rouge_l(said: str, known: str) -> float:
    """F-measure of the longest common subsequence of words (Lin 2004).

    >>> round(rouge_l("cat the sat", "the cat sat"), 3)
    0.667
    """
    a, b = _words(said), _words(known)
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return Overlap(row[-1] / len(a), row[-1] / len(b)).f1 if row[-1] else 0.0


@cache
def _bleu(*, is_sentence: bool) -> Any:
    """A scorer of sacrebleu; None where it is not installed."""
    if installed_version("sacrebleu") is None:
        return None
    return require("sacrebleu.metrics", extra="eval", to="compute BLEU").BLEU(effective_order=is_sentence)


def sentence_bleu(said: str, known: Sequence[str]) -> float | None:
    """BLEU of one answer against all known ones, between 0 and 1; None where sacrebleu is not installed.

    Orders longer than the answer are left out ("eff:yes" of the signature): most answers have fewer than four words.
    """
    scorer = _bleu(is_sentence=True)
    if scorer is None:
        return None
    return min(1.0, max(0.0, float(scorer.sentence_score(said, list(known)).score) / 100))


class CorpusBleu(Record):
    """BLEU over all answers at once, between 0 and 1, with the signature that makes it comparable (Post 2018)."""

    value: float
    signature: str


def corpus_bleu(said: Sequence[str], known: Sequence[Sequence[str]]) -> CorpusBleu | None:
    """BLEU of all answers together, as papers report it; None where sacrebleu is not installed or nothing was said."""
    scorer = _bleu(is_sentence=False)
    if scorer is None or not said:
        return None
    most = max(len(k) for k in known)
    references = [[k[n] if n < len(k) else None for k in known] for n in range(most)]
    value = float(scorer.corpus_score(list(said), references).score) / 100
    return CorpusBleu(value=min(1.0, value), signature=str(scorer.get_signature()))
