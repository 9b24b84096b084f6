"""Figures of one ranking, by hand: nDCG, recall, reciprocal rank, and characters of evidence found.

Gains are the grades themselves and the discount of rank r is log2(r + 1), as in trec_eval's `ndcg_cut` and in BEIR
(Jarvelin and Kekalainen 2002). A ranking is a list of ids, best first; an id that comes again is not counted again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fieldwise.ranking.judged import Span


def ndcg(ranking: Sequence[str], relevant: Mapping[str, int], k: int = 10) -> float:
    """Return the discounted gain of the first k over that of the best possible order.

    Grades 3 and 2, the second found first and the other third: (2 / 1 + 3 / 2) / (3 / 1 + 2 / log2(3)) = 3.5 / 4.262.

    >>> round(ndcg(["b", "x", "a"], {"a": 3, "b": 2}), 4)
    0.8212
    """
    best = _gain(sorted((g for g in relevant.values() if g > 0), reverse=True)[:k])
    return _gain(max(0, relevant.get(i, 0)) for i in _once(ranking)[:k]) / best if best else 0.0


def recall(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Return the share of the relevant that stands among the first k.

    >>> recall(["b", "x", "a"], {"a": 1, "b": 1}, 2)
    0.5
    """
    wanted = {i for i, grade in relevant.items() if grade > 0}
    return len(wanted & set(_once(ranking)[:k])) / len(wanted) if wanted else 0.0


def reciprocal_rank(ranking: Sequence[str], relevant: Mapping[str, int], k: int = 10) -> float:
    """Return 1 over the rank of the first relevant among the first k; 0 if there is none.

    >>> reciprocal_rank(["x", "b", "a"], {"a": 1, "b": 1})
    0.5
    """
    return next((1 / rank for rank, i in enumerate(_once(ranking)[:k], 1) if relevant.get(i, 0) > 0), 0.0)


class SpanScore(NamedTuple):
    """Share of the shown characters that are evidence, of the evidence that is shown, and their harmonic mean."""

    precision: float
    recall: float
    f1: float


def span_score(shown: Sequence[Span], evidence: Sequence[Span]) -> SpanScore:
    """Compare shown and wanted characters, each counted once (as LegalBench-RAG does, arXiv 2408.10343).

    100 characters are shown, 20 wanted, 10 of them shown: precision 0.1, recall 0.5, F1 2 * 0.05 / 0.6.

    >>> [round(x, 4) for x in span_score([Span("d", 0, 100)], [Span("d", 90, 110)])]
    [0.1, 0.5, 0.1667]
    """
    seen, wanted = _joined(shown), _joined(evidence)
    both = sum(max(0, min(a.end, b.end) - max(a.start, b.start)) for a in seen for b in wanted if a[0] == b[0])
    if not both:
        return SpanScore(0.0, 0.0, 0.0)
    precision, found = both / sum(s.end - s.start for s in seen), both / sum(s.end - s.start for s in wanted)
    return SpanScore(precision, found, 2 * precision * found / (precision + found))


def _gain(grades: Iterable[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))


def _once(ranking: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(ranking))


def _joined(spans: Sequence[Span]) -> list[Span]:
    """The same characters in spans that do not overlap."""
    made: list[Span] = []
    for span in sorted(s for s in spans if s.end > s.start):
        if made and made[-1].document_id == span.document_id and span.start <= made[-1].end:
            made[-1] = made[-1]._replace(end=max(made[-1].end, span.end))
        else:
            made.append(span)
    return made
