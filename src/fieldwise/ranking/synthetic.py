"""Questions that the rules teacher makes of the passages themselves: for collections that nobody has asked about yet."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fieldwise.generate.rules import pairs_of_chunk
from fieldwise.progress import track
from fieldwise.ranking.judged import JudgedQuery, JudgedSet
from fieldwise.records import Chunk

_OF_ONE_PASSAGE = 3
_MOST = 6000


def instead(fit: JudgedSet, held: JudgedSet, chunks: Sequence[Chunk], seed: int) -> tuple[JudgedSet, JudgedSet]:
    """Return made questions to learn from, and all judged ones to prove it on."""
    both = JudgedSet(held.name, held.kind, held.level, held.split, (*fit.queries, *held.queries), held.corpus)
    return make_questions(fit, chunks, seed), both


def make_questions(judged: JudgedSet, chunks: Sequence[Chunk], seed: int) -> JudgedSet:
    """Return at most 6,000 questions, three of a passage, judged as `judged` judges; none that two passages answer."""
    rng = random.Random(f"{seed}/synthetic")
    found: dict[str, JudgedQuery | None] = {}
    order = rng.sample(range(len(chunks)), len(chunks))
    for row in track(order, "making questions"):
        chunk = chunks[row]
        pairs = [p for p in pairs_of_chunk(chunk, rng, wide=True) if p.kind != "gap"]
        key = chunk.document_id if judged.level == "document" else chunk.id
        for pair in rng.sample(pairs, min(len(pairs), _OF_ONE_PASSAGE)):
            name = pair.question.casefold()
            made = JudgedQuery(f"s{len(found)}", pair.question, {key: 1}, kind=pair.kind, cluster=chunk.document_id)
            found[name] = None if name in found else made
        if len(found) >= _MOST:
            break
    queries = tuple(q for q in found.values() if q is not None)
    return JudgedSet(
        f"synthetic questions of {judged.name}", "questions", judged.level, "train", queries, judged.corpus
    )
