"""Small documents for the tests of stores."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.records import Chunk, Document, Source
from fieldwise.store.protocol import DEFAULT_TENANT, Entry, Identity, QueryVector, Scope

MODEL = "words-in-16-places/1"
DIMENSIONS = 16


def vector(text: str) -> NDArray[np.float32]:
    """A vector that is nearer the more words two texts share; every text has some direction."""
    values = np.full(DIMENSIONS, 0.05, np.float32)
    for word in text.lower().split():
        values[hashlib.md5(word.strip(".,").encode()).digest()[0] % DIMENSIONS] += 1
    return values / np.linalg.norm(values)


def entry(
    uri: str,
    texts: Sequence[str],
    groups: Sequence[str] = ("everyone",),
    *,
    language: str | None = None,
    licence: str | None = "MIT",
    embedded: bool = True,
    **more: Any,
) -> Entry:
    document = Document.make(title=uri, text="\n".join(texts), source=Source(uri=uri, licence=licence))
    document = document.model_copy(update={"language": language})
    chunks, start = [], 0
    for number, text in enumerate(texts):
        chunk = Chunk.make(document, start, start + len(text), heading_path=(f"part {number % 3}",), tokens=number)
        chunks.append(chunk)
        start += len(text) + 1
    vectors = np.stack([vector(t) for t in texts]) if embedded else None
    return Entry(document, chunks, groups, vectors=vectors, model=MODEL if embedded else "", **more)


def scope(*groups: str, tenant: str = DEFAULT_TENANT, **more: Any) -> Scope:
    return Scope(Identity(tenant, frozenset(groups)), **more)


EVERY = scope("everyone")


def asked(text: str) -> QueryVector:
    return QueryVector(MODEL, vector(text))


def found(store: Any, query: str, where: Scope = EVERY, count: int = 50) -> tuple[set[str], set[str]]:
    """The uris each leg finds."""
    hits = store.candidates(query, asked(query), where, count)
    names = {c.key: c.chunk.uri for c in store.fetch([*hits.lexical, *hits.dense], where.identity)}
    missing = ({*hits.lexical, *hits.dense}) - names.keys()
    assert not missing, "a search found what cannot be fetched"
    return {names[k] for k in hits.lexical}, {names[k] for k in hits.dense}
