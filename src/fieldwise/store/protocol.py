"""What a document store does, whatever keeps the data: one protocol, and the things that pass through it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError
from fieldwise.records import Chunk, Document
from fieldwise.store.filters import Filter

EVERYONE = "everyone"
"""The group a document names when every reader of its tenant may see it, and that every such reader carries."""
DEFAULT_TENANT = "default"

FieldValue = str | int | float | bool | tuple[str, ...]


class GoneError(DatasetError):
    """What was found a moment ago has been deleted or replaced."""


def as_groups(groups: object) -> frozenset[str]:
    """Return groups as a set; a single text, whose letters would otherwise become groups, is refused."""
    if isinstance(groups, str) or not isinstance(groups, Collection):
        raise DatasetError("groups must be a list of names", found=repr(groups)[:80], fix="Write ['name'].")
    for name in groups:
        if not isinstance(name, str) or not name.strip():
            raise DatasetError("a group must be a name", found=repr(name)[:80])
    return frozenset(groups)


@dataclass(frozen=True)
class Identity:
    """Who asks. Only documents of this tenant that name one of these groups exist for them; no groups, no documents."""

    tenant: str
    groups: frozenset[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", as_groups(self.groups))


NOBODY = Identity("", frozenset())


@dataclass(frozen=True)
class Scope:
    """What a search may find: for whom, under which filter, and what was valid on which day (None: on any)."""

    identity: Identity
    filter: Filter | None = None
    as_of: date | None = None


@dataclass(frozen=True, eq=False)
class Entry:
    """A document as it is put into a store: all of it becomes visible at once, or nothing.

    `valid_from` and `valid_until` are days, both included. `vectors` has a row a chunk, made by the model of that
    fingerprint. `fields` are what users filter by; a field keeps its type across the documents of a tenant.
    """

    document: Document
    chunks: Sequence[Chunk]
    groups: Collection[str]
    tenant: str = DEFAULT_TENANT
    valid_from: date | None = None
    valid_until: date | None = None
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    vectors: NDArray[np.float32] | None = None
    model: str = ""


class QueryVector(NamedTuple):
    """A question as a unit vector, and the fingerprint of the model that made it."""

    model: str
    values: NDArray[np.float32]


class Candidates(NamedTuple):
    """Scores of both legs by key, of one generation. Every key of `lexical` that has a vector is in `dense` as well.

    Keys are for `fetch` and mean nothing beyond the generation.
    """

    lexical: dict[int, float]
    dense: dict[int, float]
    generation: int


class StoredChunk(NamedTuple):
    """A chunk with what the store knows of its document."""

    key: int
    chunk: Chunk
    tenant: str
    version: int
    licence: str | None
    valid_from: date | None
    valid_until: date | None
    fields: dict[str, FieldValue]


class StoredDocument(NamedTuple):
    """What a store knows of a document, without its text; `groups` are those of its groups the asker has too.

    `key` orders the documents of a list and means nothing beyond the store.
    """

    key: int
    id: str
    uri: str
    title: str
    tenant: str
    version: int
    language: str | None
    licence: str | None
    valid_from: date | None
    valid_until: date | None
    fields: dict[str, FieldValue]
    groups: tuple[str, ...]
    chunks: int
    characters: int
    generation: int


class Quote(NamedTuple):
    """Words of a stored original, with the version they were taken from."""

    text: str
    start: int
    end: int
    document_id: str
    uri: str
    title: str
    version: int
    page: int | None


class Stats(NamedTuple):
    """How much a store holds, and whether what is derived from it is up to date."""

    generation: int
    published: int
    documents: int
    chunks: int
    vectors: int
    model: str
    segments: int
    words_segments: int


class ChunkStore(Protocol):
    """Documents in, scored chunks out; one writer, any number of readers.

    Every read sees one generation: both legs of a search agree on which documents exist.
    """

    @property
    def generation(self) -> int:
        """The number of the last change that searches see."""
        ...

    def put(self, entry: Entry, *, keeps_earlier: bool = False) -> int:
        """Add a document or a new version of it (same tenant and uri); returns the generation in which it is visible.

        Earlier versions go, unless `keeps_earlier`: then their validity ends the day before the new one begins.
        The same entry again changes nothing. Raises DatasetError for what cannot be stored, ModelError for vectors of
        another model.
        """
        ...

    def delete(self, uri: str, tenant: str = DEFAULT_TENANT) -> bool:
        """Remove every version of a document; false if there is none."""
        ...

    def candidates(self, query: str, vector: QueryVector | None, scope: Scope, count: int) -> Candidates:
        """Return the best `count` chunks of each leg within the scope, chosen before ranking.

        An empty query, and an identity without groups, find nothing. Raises DatasetError for a filter on unknown
        fields or of a wrong type, ModelError for a vector of another model.
        """
        ...

    def fetch(self, keys: Sequence[int], identity: Identity) -> list[StoredChunk]:
        """Return chunks by their keys, in order; those that are gone or not for this identity are left out."""
        ...

    def quote(self, document_id: str, start: int, end: int, identity: Identity) -> Quote:
        """Return words of the stored original, as a citation names them; offsets count characters of the document.

        Raises GoneError if the document was deleted or replaced, DatasetError if there is no such document for this
        identity or the span is outside of it.
        """
        ...

    def original(self, document_id: str, identity: Identity) -> Document:
        """Return a document with its text and structure; raises as `quote` does."""
        ...

    def around(self, key: int, reach: int, identity: Identity) -> list[StoredChunk]:
        """Return a chunk with up to `reach` chunks of its document on each side, in order; none if it is gone."""
        ...

    def vectors_of(self, keys: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return unit vectors of chunks that `candidates` has found, as far as there are any."""
        ...

    def describe(self, document_id: str, identity: Identity) -> StoredDocument:
        """Return what is known of a document; raises as `quote` does."""
        ...

    def documents(self, identity: Identity, after: int = 0, count: int = 100) -> list[StoredDocument]:
        """Return the documents that are there for an identity, by key, those beyond `after`."""
        ...

    def stats(self) -> Stats:
        """Return how much there is."""
        ...

    def close(self) -> None:
        """Release files and locks."""
        ...
