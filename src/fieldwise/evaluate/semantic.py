"""Closeness in meaning by the embedded encoder: cosine of whole texts, and BERTScore token by token.

Both are on the scale of all-MiniLM-L6-v2, last layer, without idf and without rescaling: figures of another encoder,
such as BERTScore on roberta-large, cannot be set beside them. Neither sees a changed number or a "not" well: they
stand beside exact measures, never in place of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldwise.records import Answer, Question

if TYPE_CHECKING:
    from fieldwise.retrieve.embed import MiniLmEmbedder

States = NDArray[np.float32]
Measure = Callable[[States, States], float]

SEMANTIC = ("semantic_similarity", "bert_score")


def semantic_scores(answers: Sequence[Answer], questions: Sequence[Question]) -> dict[str, tuple[float | None, ...]]:
    """Score every answer against the known answer or alias it is closest to; None on questions without an answer."""
    from fieldwise.retrieve.embed import MiniLmEmbedder

    known = [() if q.answer is None else (q.answer, *q.aliases) for q in questions]
    said = [a.answer if k else "" for a, k in zip(answers, known, strict=True)]
    states = _states(MiniLmEmbedder(), [*said, *(text for texts in known for text in texts)])

    def best(measure: Measure) -> tuple[float | None, ...]:
        return tuple(
            max(measure(states[text], states[other]) for other in others) if others else None
            for text, others in zip(said, known, strict=True)
        )

    return {"semantic_similarity": best(cosine), "bert_score": best(bert_score_f1)}


def _states(embedder: MiniLmEmbedder, texts: Sequence[str]) -> dict[str, States]:
    unique = list(dict.fromkeys(texts))
    return dict(zip(unique, embedder.encode_tokens(unique), strict=True))


def cosine(said: States, known: States) -> float:
    """Cosine of the mean-pooled texts, negative ones as 0; 0 for an empty text."""
    if min(len(said), len(known)) <= 2:  # [CLS] and [SEP] alone
        return 0.0
    a, b = said.mean(0), known.mean(0)
    return float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), 0.0, 1.0))


def bert_score_f1(said: States, known: States) -> float:
    """BERTScore F1 (Zhang et al. 2020, eq. 1): every token takes its nearest of the other side; [CLS], [SEP] left out.

    Two tokens against one that equals the first and is orthogonal to the second: precision 1/2, recall 1, F1 2/3.
    """
    if min(len(said), len(known)) <= 2:
        return 0.0
    a, b = (x[1:-1] / np.linalg.norm(x[1:-1], axis=1, keepdims=True) for x in (said, known))
    near = a @ b.T
    precision, recall = float(near.max(1).mean()), float(near.max(0).mean())
    total = precision + recall
    return float(np.clip(2 * precision * recall / total, 0.0, 1.0)) if total > 0 else 0.0
