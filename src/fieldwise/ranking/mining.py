"""Passages that do not answer a question, from far to near: what a cross-encoder learns to tell apart.

Random ones come from the whole collection, medium ones from ranks 11 to 50 of the search, hard ones from its first ten. A
passage that scores almost as a relevant one is likely to be relevant and not judged (a false negative), and so is one
with nearly the same words: both are left out (after Moreira et al., NV-Retriever, arXiv 2407.15831).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from fieldwise.errors import DatasetError
from fieldwise.progress import track
from fieldwise.ranking.judged import JudgedQuery, JudgedSet
from fieldwise.records import Chunk
from fieldwise.retrieve.index import passage_text
from fieldwise.retrieve.search import HybridRetriever, Legs, fuse

LEAST_QUESTIONS = 20
NEAR_SHARE = 0.95
"""Of the score of the weakest relevant passage: at or above it nothing is taken as a negative."""
_SAME_WORDS = 0.8
_HARD, _MEDIUM = 10, 50
_WORD = re.compile(r"\w+")


class Mined(NamedTuple):
    """A question with a passage that answers it and others that do not."""

    query: str
    positive: str
    random: tuple[str, ...]
    medium: tuple[str, ...]
    hard: tuple[str, ...]


class Mine(NamedTuple):
    """What was found, and how many passages were left out as likely to be relevant."""

    questions: list[Mined]
    false_negatives: int


def mine(judged: JudgedSet, retriever: HybridRetriever, *, most: int, seed: int) -> Mine:
    """Return negatives for at most `most` questions, drawn with the seed. Raises DatasetError if fewer than 20 are left."""
    rng = random.Random(f"{seed}/negatives")
    queries = [q for q in judged.queries if q.relevant]
    drawn = queries if len(queries) <= most else rng.sample(queries, most)
    places = _places(retriever.chunks, judged)
    texts = [passage_text(c) for c in retriever.chunks]
    found: list[Mined] = []
    dropped = 0
    for query in track(drawn, "searching, for negatives"):
        relevant = [row for key in query.relevant for row in places.get(key, ())]
        if not relevant:
            continue
        mined, left_out = _of_query(query, relevant, retriever, texts, rng)
        found.append(mined)
        dropped += left_out
    if len(found) < LEAST_QUESTIONS:
        raise DatasetError(
            "too few questions to train on",
            where=judged.name,
            found=f"{len(found)} of {len(judged.queries)} whose relevant passage is in the collection",
            fix=f"Give at least {LEAST_QUESTIONS}; some thousands are usual.",
        )
    return Mine(found, dropped)


def _places(chunks: Sequence[Chunk], judged: JudgedSet) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for row, chunk in enumerate(chunks):
        places.setdefault(chunk.document_id if judged.level == "document" else chunk.id, []).append(row)
    return places


def _of_query(
    query: JudgedQuery, relevant: list[int], retriever: HybridRetriever, texts: Sequence[str], rng: random.Random
) -> tuple[Mined, int]:
    legs = retriever.legs(query.text, _MEDIUM)
    fused = fuse(legs.lexical, legs.dense, retriever.settings.dense_weight)
    order = sorted(fused, key=lambda row: (-fused[row], row))[:_MEDIUM]
    near = _too_near(legs, relevant)
    known = [_words(texts[row]) for row in relevant]
    is_false = {row for row in order if row not in relevant and (near(row) or _repeats(texts[row], known))}
    hard, medium = (
        tuple(texts[row] for row in part if row not in relevant and row not in is_false)
        for part in (order[:_HARD], order[_HARD:])
    )
    apart = {*relevant, *order}
    far = [row for row in rng.sample(range(len(texts)), min(len(texts), 8)) if row not in apart]
    positive = next((row for row in order if row in relevant), relevant[0])
    return Mined(query.text, texts[positive], tuple(texts[row] for row in far), medium, hard), len(is_false)


class _TooNear(NamedTuple):
    scores: dict[int, float]
    limit: float

    def __call__(self, row: int) -> bool:
        return self.scores.get(row, 0.0) >= self.limit


def _too_near(legs: Legs, relevant: Sequence[int]) -> _TooNear:
    """By cosine, or by BM25 where there are no vectors; what the search has not found of the relevant sets no limit."""
    scores = legs.dense or legs.lexical
    known = [scores[row] for row in relevant if row in scores]
    return _TooNear(scores, NEAR_SHARE * min(known) if known else float("inf"))


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold()))


def _repeats(text: str, known: Sequence[frozenset[str]]) -> bool:
    words = _words(text)
    return any(len(words & other) >= _SAME_WORDS * max(1, len(words | other)) for other in known)
