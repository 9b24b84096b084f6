"""The embedded store: a catalogue, and beside it a lexical index and vector segments that are made from it.

One process writes, any number read. A change counts once the catalogue has committed it; then it is published to the
lexical index, and from there on searches see it, in both legs at once. What was not published before a crash is
published when the store is next opened for writing.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, RunError
from fieldwise.records import Document
from fieldwise.store import vectors as v
from fieldwise.store.asked import checked_query
from fieldwise.store.catalogue import FILE, Catalogue
from fieldwise.store.lock import locked
from fieldwise.store.originals import gone, quote_of, unknown
from fieldwise.store.protocol import (
    DEFAULT_TENANT,
    Candidates,
    Entry,
    Identity,
    QueryVector,
    Quote,
    Scope,
    Stats,
    StoredChunk,
    StoredDocument,
)
from fieldwise.store.search import View, by_vector, by_words, checked_vector
from fieldwise.store.upkeep import DEFAULTS, StoreSettings, is_due, loose_rows, optimised, sealed
from fieldwise.store.views import ATTEMPTS, Views
from fieldwise.store.words import State

__all__ = ["LocalStore", "StoreSettings"]

_PUBLISH_SECONDS = 5.0


class LocalStore:
    """A store in a folder; implements `protocol.ChunkStore` for many threads."""

    def __init__(
        self, folder: Path, *, writes: bool, language: str = "english", settings: StoreSettings = DEFAULTS
    ) -> None:
        self.folder, self.writes, self.settings = folder, writes, settings
        self._lock = threading.RLock()
        self._batches, self._published_at = 0, time.monotonic()
        self._writer_lock = locked(folder) if writes else None
        try:
            self.catalogue = Catalogue(folder, writes=writes, language=language)
            self.views = Views(folder, self.catalogue, self._lock, writes=writes)
            if writes:
                self.views.repair()
                self.publish()
                self._seal_if_due()  # segments that were missing or damaged are made again
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, folder: Path, *, language: str = "english", settings: StoreSettings = DEFAULTS) -> LocalStore:
        """Open a store for writing and reading; made if it is not there.

        `language` is the stemmer of documents that do not say theirs; it is fixed when the store is made.
        """
        return cls(folder, writes=True, language=language, settings=settings)

    @classmethod
    def rebuild(cls, folder: Path, *, settings: StoreSettings = DEFAULTS) -> LocalStore:
        """Open a store for writing with everything beside the catalogue made anew."""
        if not (folder / FILE).exists():
            raise DatasetError("there is no document store", where=folder, fix="Name the folder of a store.")
        with locked(folder):
            for name in ("words", "vectors"):
                shutil.rmtree(folder / name, ignore_errors=True)
        return cls.open(folder, settings=settings)

    @classmethod
    def read(cls, folder: Path, *, settings: StoreSettings = DEFAULTS) -> LocalStore:
        """Open a store for reading, beside a process that may be writing."""
        return cls(folder, writes=False, settings=settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release files and locks; what was put is kept whether or not this is called."""
        with self._lock:
            if hasattr(self, "views"):
                self.views.close()
            if hasattr(self, "catalogue"):
                self.catalogue.close()
            if self._writer_lock is not None:
                self._writer_lock.close()
                self._writer_lock = None

    # ------------------------------------------------------------ changing

    @property
    def generation(self) -> int:
        """The number of the last change that searches see."""
        return self.views.current().generation

    def put(self, entry: Entry, *, keeps_earlier: bool = False) -> int:
        """Add a document or a new version of it in one transaction; see `ChunkStore.put`."""
        with self._lock:
            self.put_if_new(entry, keeps_earlier=keeps_earlier)
            with self.catalogue.reading() as db:
                return db.generation

    def put_if_new(self, entry: Entry, *, keeps_earlier: bool = False) -> bool:
        """Do the same and tell whether anything changed."""
        self._require_writer()
        with self._lock:
            is_new = self.catalogue.put(entry, keeps_earlier=keeps_earlier)
            if is_new:
                self._publish_when_due()
        return is_new

    def delete(self, uri: str, tenant: str = DEFAULT_TENANT) -> bool:
        """Remove every version of a document from the catalogue and from every search at once."""
        return self.delete_all([uri], tenant) == 1

    def delete_all(self, uris: Iterable[str], tenant: str = DEFAULT_TENANT) -> int:
        """Remove documents, each in its own transaction, then all from every search at once; returns how many there were."""
        self._require_writer()
        with self._lock:
            try:
                return sum(self.catalogue.delete(uri, tenant) for uri in uris)
            finally:
                self.publish()

    def add_vectors(self, model: str, keys: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Add vectors of a model, maybe not the one in use yet, for chunks by their keys."""
        self._require_writer()
        with self._lock:
            self.catalogue.add_vectors(model, keys, vectors)
            self._publish_when_due()

    def without_vector(self, model: str, count: int = 256) -> list[StoredChunk]:
        """Return some of the chunks that a model has not embedded yet; for whoever keeps the store, not for readers."""
        with self.catalogue.reading() as db:
            return db.without_vector(model, count)

    def activate(self, model: str) -> None:
        """Make searches use another model once every chunk has its vector."""
        self._require_writer()
        with self._lock:
            self.catalogue.activate(model)
            self.publish()

    def uris(self, tenant: str = DEFAULT_TENANT) -> list[str]:
        """Return the uris of a tenant's documents; for whoever keeps the store, not for readers."""
        with self.catalogue.reading() as db:
            return db.uris(tenant)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Publish what is put within every few seconds and at the end, not after each document.

        Every document is kept from its own commit on, whatever becomes of the batch. Deletions are published at once.
        """
        self._require_writer()
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1
            if not self._batches:
                self.publish()
                if loose_rows(self.views.current()) > self.settings.flat_rows and v.can_make_graphs():
                    self.optimise()

    def publish(self) -> None:
        """Let searches see all that is committed."""
        self._require_writer()
        with self._lock:
            words = self.views.words()
            with self.catalogue.reading() as db:
                target = State(db.generation, db.mark(db.generation) or "")
                state = words.state or State(0, "new")
                if state == target:
                    return
                try:
                    removed = db.removed(state.generation, target.generation)
                    words.apply(removed, db.words(state.generation, target.generation), target)
                except (ValueError, OSError) as error:
                    raise RunError(
                        "what was stored could not be added to the lexical index",
                        where=self.folder,
                        found=str(error)[:200],
                        fix="Nothing is lost: open the store again for writing when the disk can be written.",
                    ) from error
            self._published_at = time.monotonic()
            self.catalogue.prune(target.generation)
            self._seal_if_due()

    def optimise(self) -> None:
        """Write all vectors into few segments, with a graph for those that are many, and drop what was deleted."""
        self._require_writer()
        with self._lock:
            self.publish()
            view = self.views.current()
            if view.model is not None:
                files, alive = self.views.files(view.model), self.views.alive(view)
                self._publish_segments(view, optimised(view, view.model, files, alive, self.settings))

    def _publish_when_due(self) -> None:
        if not self._batches or time.monotonic() - self._published_at > _PUBLISH_SECONDS:
            self.publish()

    def _seal_if_due(self) -> None:
        view = self.views.current()
        if view.model is not None and is_due(view, self.settings):
            files = self.views.files(view.model)
            self._publish_segments(view, sealed(view, files, self.views.alive(view), self.settings))

    def _publish_segments(self, view: View, segments: Sequence[v.Segment]) -> None:
        assert view.model is not None
        with self.catalogue.reading() as db:
            mark = db.mark(view.generation) or ""
        self.views.files(view.model).publish(segments, view.generation, mark)
        self.views.current()

    def _require_writer(self) -> None:
        if not self.writes:
            raise RunError("the store is open for reading only", where=self.folder, fix="Open it with LocalStore.open.")

    # ------------------------------------------------------------ searching

    def candidates(self, query: str, vector: QueryVector | None, scope: Scope, count: int) -> Candidates:
        """Return the best chunks of each leg; see `ChunkStore.candidates`."""
        query = checked_query(query, count)
        for _ in range(ATTEMPTS):
            view = self.views.current()
            with self.catalogue.reading() as db:
                if db.pruned > view.generation:  # published and pruned in this very moment: look again
                    continue
                unit = None if vector is None else checked_vector(vector, view.model, self.folder)
                allowed = self.views.allowed(db, view, scope)
            if allowed is None or not query or not len(allowed.documents):
                return Candidates({}, {}, view.generation)
            lexical = by_words(view, query, allowed, count)
            dense = {} if unit is None else by_vector(view, unit, allowed, count, lexical)
            return Candidates(lexical, dense, view.generation)
        raise RunError(
            "the lexical index is behind the catalogue", where=self.folder, fix="Open the store for writing."
        )

    def fetch(self, keys: Sequence[int], identity: Identity) -> list[StoredChunk]:
        """Return chunks by key, as far as they are there for this identity now."""
        with self.catalogue.reading() as db:
            return db.chunks(keys, identity)

    def quote(self, document_id: str, start: int, end: int, identity: Identity) -> Quote:
        """Return words of the stored original; see `ChunkStore.quote`."""
        document, version = self._document(document_id, identity)
        return quote_of(document, version, start, end)

    def around(self, key: int, reach: int, identity: Identity) -> list[StoredChunk]:
        """Return a chunk with its neighbours; see `ChunkStore.around`."""
        with self.catalogue.reading() as db:
            return db.around(key, reach, identity)

    def vectors_of(self, keys: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return the vectors of chunks, of the model that searches use."""
        with self.catalogue.reading() as db:
            if db.model is None:
                return {}
            found, vectors = db.vectors_of(db.model, keys)
        return dict(zip(found.tolist(), vectors, strict=True))

    def describe(self, document_id: str, identity: Identity) -> StoredDocument:
        """Return what is known of a document; see `ChunkStore.describe`."""
        with self.catalogue.reading() as db:
            found = db.documents(identity, 0, 1, document_id)
        if not found:
            self._document(document_id, identity)  # raises, and tells what has gone from what never was
            raise gone(document_id, "replace")  # it came back between the two looks
        return found[0]

    def documents(self, identity: Identity, after: int = 0, count: int = 100) -> list[StoredDocument]:
        """Return documents by key; see `ChunkStore.documents`."""
        if not identity.groups:
            return []
        with self.catalogue.reading() as db:
            return db.documents(identity, after, count)

    def count_for(self, identity: Identity) -> tuple[int, int]:
        """Return how many documents and chunks are there for an identity."""
        with self.catalogue.reading() as db:
            return db.count_for(identity)

    def groups(self, tenant: str = DEFAULT_TENANT) -> list[str]:
        """Return every access group that documents of a tenant name; for whoever keeps the store, not for readers."""
        with self.catalogue.reading() as db:
            return db.groups(tenant)

    def groups_of(self, uri: str, tenant: str = DEFAULT_TENANT) -> list[frozenset[str]]:
        """Return the access groups of what is there of a document; for whoever keeps the store, not for readers."""
        with self.catalogue.reading() as db:
            return db.groups_of(tenant, uri)

    def versions(self, uri: str, tenant: str = DEFAULT_TENANT) -> list[StoredDocument]:
        """Return what is there of a document, the latest last, with all its groups; for whoever keeps the store."""
        with self.catalogue.reading() as db:
            groups = frozenset[str]().union(*db.groups_of(tenant, uri))
            return db.documents(Identity(tenant, groups), 0, 2**31, uri=uri)

    def files_of(self, uri: str, tenant: str = DEFAULT_TENANT) -> list[str]:
        """Return the SHA-256 of the files a document was read from; for whoever keeps the store."""
        with self.catalogue.reading() as db:
            return db.files_of(tenant, uri)

    def count_of_file(self, sha256: str) -> int:
        """Return how many documents were read from a file of this SHA-256; for whoever keeps the store."""
        with self.catalogue.reading() as db:
            return db.live_of(sha256)

    def original(self, document_id: str, identity: Identity) -> Document:
        """Return a document with its text and structure."""
        return self._document(document_id, identity)[0]

    def _document(self, document_id: str, identity: Identity) -> tuple[Document, int]:
        with self.catalogue.reading() as db:
            found = db.document(document_id, identity)
            farewell = None if found else db.farewell(document_id, identity)
        if found:
            return found
        if farewell:
            raise gone(document_id, *farewell)
        raise unknown(document_id)

    def stats(self) -> Stats:
        """Return how much there is."""
        view = self.views.current()
        with self.catalogue.reading() as db:
            documents, chunks, vectors = db.counts(view.model)
            generation = db.generation
        return Stats(
            generation=generation,
            published=view.generation,
            documents=documents,
            chunks=chunks,
            vectors=vectors,
            model=view.model.fingerprint if view.model else "",
            segments=len(view.listed.segments),
            words_segments=view.searcher.num_segments,
        )

    def faults(self) -> list[str]:
        """Return what is wrong, in words; nothing for a store that holds together. Reads all of it."""
        with self.catalogue.reading() as db:
            found = list(db.faults())
        view, stats = self.views.current(), self.stats()
        indexed = int(self.views.words().searcher.num_docs) - 1  # one is the marker of the generation
        if stats.published < stats.generation:
            found.append(f"searches see change {stats.published} of {stats.generation}: open the store for writing")
        elif indexed != stats.chunks:
            found.append(f"the lexical index holds {indexed} chunks, the catalogue {stats.chunks}: rebuild the store")
        if view.model is not None:
            segments = [*view.listed.segments, *([view.tail] if view.tail is not None else [])]
            alive = self.views.alive(view)
            count = sum(int(alive[segment.keys].sum()) for segment in segments)
            if stats.published == stats.generation and count != stats.vectors:
                found.append(f"the segments hold {count} vectors, the catalogue {stats.vectors}: rebuild the store")
            if stats.vectors < stats.chunks:
                found.append(f"{stats.chunks - stats.vectors} chunks have no vector of {view.model.fingerprint}")
        return found
