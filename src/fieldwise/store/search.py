"""Both legs of a search over one generation, limited to what a scope allows before anything is cut off."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import ModelError
from fieldwise.store import vectors as v
from fieldwise.store.entries import as_unit, other_model
from fieldwise.store.protocol import QueryVector
from fieldwise.store.snapshot import Model
from fieldwise.store.words import WordIndex

_MOST_SURPLUS = 2000  # hits beyond which limiting the query is faster than dropping what is not allowed


class Allowed(NamedTuple):
    """What a scope may find: by chunk, and the documents these are of."""

    chunks: v.Mask
    documents: NDArray[np.int64]
    share: float


class View(NamedTuple):
    """All that a search needs of one generation."""

    generation: int
    words: WordIndex
    searcher: Any
    languages: tuple[str | None, ...]
    chunk_documents: NDArray[np.int64]  # document of every chunk by key, 0 where there is none
    documents: NDArray[np.int64]
    model: Model | None
    listed: v.Listed
    stamp: tuple[int, ...]
    tail: v.Segment | None


def by_words(view: View, query: str, allowed: Allowed, count: int) -> dict[int, float]:
    """Return the best allowed chunks by BM25: what is not allowed is dropped before anything is cut off."""
    words, wanted = view.words, count
    asked = words.query(query, view.languages)
    if asked is None or not allowed.share:
        return {}
    if allowed.share < 1:
        wanted = math.ceil(1.5 * count / allowed.share) + 20
        if wanted > _MOST_SURPLUS:
            asked, wanted = words.within(asked, allowed.documents.tolist()), 2 * count
    while True:
        found = words.search(view.searcher, asked, wanted)
        is_known = found.keys < len(allowed.chunks)
        keep = np.zeros(len(found.keys), np.bool_)
        keep[is_known] = allowed.chunks[found.keys[is_known]]
        if keep.sum() >= count or len(found.keys) < wanted:
            return dict(zip(found.keys[keep][:count].tolist(), found.scores[keep][:count].tolist(), strict=True))
        wanted *= 8


def by_vector(
    view: View, query: NDArray[np.float32], allowed: Allowed, count: int, also: dict[int, float]
) -> dict[int, float]:
    """Return the nearest allowed chunks by cosine, and the cosine of those the other leg found."""
    segments = [*view.listed.segments, *([view.tail] if view.tail is not None else [])]
    found: dict[int, float] = {}
    for segment in segments:
        found.update(segment.nearest(query, allowed.chunks, count))
    best = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:count]
    scores = dict(best)
    missing = np.array(sorted(also.keys() - scores.keys()), dtype=np.int64)
    for segment in segments:
        scores.update(segment.scores_of(query, missing))
    return scores


def checked_vector(vector: QueryVector, model: Model | None, where: Path) -> NDArray[np.float32] | None:
    """Return the vector with length 1; None if the store has no vectors to compare it with."""
    if model is None:
        return None
    if vector.model != model.fingerprint:
        raise other_model(model.fingerprint, vector.model, where)
    values = np.asarray(vector.values, dtype=np.float32)
    if values.shape != (model.dimensions,):
        raise ModelError(
            f"vectors of {model.fingerprint} have {model.dimensions} numbers", found=f"shape {values.shape}"
        )
    return as_unit(values)


def mask_of_documents(view: View, documents: NDArray[np.int64]) -> v.Mask:
    """Return which chunks are of these documents, by key."""
    largest = max(int(view.chunk_documents.max(initial=0)), int(documents.max(initial=0)))
    mask = np.zeros(largest + 1, np.bool_)
    mask[documents] = True
    mask[0] = False
    return mask[view.chunk_documents]
