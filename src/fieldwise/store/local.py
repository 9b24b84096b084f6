"""The embedded store: a catalogue, and beside it a lexical index and vector segments that are made from it.

One process writes, any number read. A change counts once the catalogue has committed it; then it is published to the
lexical index, and from there on searches see it, in both legs at once. What was not published before a crash is
published when the store is next opened for writing.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, RunError
from fieldwise.files import raise_if_full
from fieldwise.records import Document
from fieldwise.store import vectors as v
from fieldwise.store.catalogue import FILE, Catalogue
from fieldwise.store.filters import compile_filter
from fieldwise.store.protocol import (
    DEFAULT_TENANT,
    Candidates,
    Entry,
    GoneError,
    Identity,
    QueryVector,
    Quote,
    Scope,
    Stats,
    StoredChunk,
    StoredDocument,
)
from fieldwise.store.search import Allowed, View, by_vector, by_words, checked_vector, mask_of_documents
from fieldwise.store.snapshot import Model, Snapshot
from fieldwise.store.words import State, WordIndex

LOG = logging.getLogger(__name__)
MAX_QUERY_CHARS = 4000
_PUBLISH_SECONDS = 5.0
_MAX_SMALL_SEGMENTS = 8
_LARGEST_DEAD_SHARE = 0.3
_CACHED_SCOPES = 64
_ATTEMPTS = 8


@dataclass(frozen=True)
class StoreSettings:
    """How an embedded store keeps its vectors."""

    flat_rows: int = 50_000  # up to this many vectors, looking at each of them is fast enough
    seal_rows: int = 4_096  # vectors that wait in the catalogue before they become a segment


class _Newer(Exception):
    """Another process has published since; read again."""


class LocalStore:
    """A store in a folder; implements `protocol.ChunkStore` for many threads."""

    def __init__(
        self, folder: Path, *, writes: bool, language: str = "english", settings: StoreSettings = StoreSettings()
    ) -> None:
        self.folder, self.writes, self.settings = folder, writes, settings
        self._lock = threading.RLock()
        self._view: View | None = None
        self._words: WordIndex | None = None
        self._words_stamp: tuple[int, ...] | None = None
        self._scopes: OrderedDict[object, Allowed] = OrderedDict()
        self._batches, self._published_at = 0, time.monotonic()
        self._writer_lock = _locked(folder) if writes else None
        try:
            self.catalogue = Catalogue(folder, writes=writes, language=language)
            if writes:
                self._repair()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, folder: Path, *, language: str = "english", settings: StoreSettings = StoreSettings()) -> LocalStore:
        """Open a store for writing and reading; made if it is not there.

        `language` is the stemmer of documents that do not say theirs; it is fixed when the store is made.
        """
        return cls(folder, writes=True, language=language, settings=settings)

    @classmethod
    def rebuild(cls, folder: Path, *, settings: StoreSettings = StoreSettings()) -> LocalStore:
        """Open a store for writing with everything beside the catalogue made anew."""
        if not (folder / FILE).exists():
            raise DatasetError("there is no document store", where=folder, fix="Name the folder of a store.")
        with _locked(folder):
            for name in ("words", "vectors"):
                shutil.rmtree(folder / name, ignore_errors=True)
        return cls.open(folder, settings=settings)

    @classmethod
    def read(cls, folder: Path, *, settings: StoreSettings = StoreSettings()) -> LocalStore:
        """Open a store for reading, beside a process that may be writing."""
        return cls(folder, writes=False, settings=settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release files and locks; what was put is kept whether or not this is called."""
        with self._lock:
            if self._words is not None:
                self._words.close()
            self._words = self._view = None
            if hasattr(self, "catalogue"):
                self.catalogue.close()
            if self._writer_lock is not None:
                self._writer_lock.close()
                self._writer_lock = None

    # ------------------------------------------------------------ changing

    @property
    def generation(self) -> int:
        """The number of the last change that searches see."""
        return self._current().generation

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
                if self._loose_rows() > self.settings.flat_rows and v.can_make_graphs():
                    self.optimise()

    def publish(self) -> None:
        """Let searches see all that is committed."""
        self._require_writer()
        with self._lock:
            words = self._words
            assert words is not None
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
            view = self._current()
            if view.tail is not None and len(view.tail.keys) >= self.settings.seal_rows:
                self._seal(view)

    def optimise(self) -> None:
        """Write all vectors into few segments, with a graph for those that are many, and drop what was deleted."""
        self._require_writer()
        with self._lock:
            self.publish()
            view = self._current()
            if view.model is None:
                return
            alive = self._alive(view)
            kept = [
                s for s in view.listed.segments if s.graph is not None and _dead_share(s, alive) <= _LARGEST_DEAD_SHARE
            ]
            loose = [s for s in view.listed.segments if all(s is not k for k in kept)]
            loose += [view.tail] if view.tail is not None else []
            keys, codes, scales = v.merged(loose, alive) if loose else _no_rows(view.model)
            files = self._files(view.model)
            for begin in range(0, len(keys), 4 * self.settings.flat_rows):
                part = slice(begin, begin + 4 * self.settings.flat_rows)
                graph = len(keys[part]) >= self.settings.flat_rows and v.can_make_graphs()
                kept.append(files.write(keys[part], codes[part], scales[part], graph=graph))
            self._publish_segments(view, kept)

    def _publish_when_due(self) -> None:
        if not self._batches or time.monotonic() - self._published_at > _PUBLISH_SECONDS:
            self.publish()

    def _seal(self, view: View) -> None:
        """Make a segment of the vectors that wait, together with small ones if these have become many."""
        assert view.model is not None
        assert view.tail is not None
        alive = self._alive(view)
        small = [s for s in view.listed.segments if s.graph is None and len(s.keys) < self.settings.flat_rows]
        kept, merging = list(view.listed.segments), [view.tail]
        if len(small) >= _MAX_SMALL_SEGMENTS:
            kept, merging = [s for s in kept if all(s is not m for m in small)], [*small, view.tail]
        keys, codes, scales = v.merged(merging, alive)
        if len(keys):
            kept.append(self._files(view.model).write(keys, codes, scales, graph=False))
        self._publish_segments(view, kept)

    def _publish_segments(self, view: View, segments: Sequence[v.Segment]) -> None:
        assert view.model is not None
        with self.catalogue.reading() as db:
            mark = db.mark(view.generation) or ""
        self._files(view.model).publish(segments, view.generation, mark)
        self._current()

    def _loose_rows(self) -> int:
        view = self._current()
        rows = sum(len(s.keys) for s in view.listed.segments if s.graph is None)
        return rows + (len(view.tail.keys) if view.tail is not None else 0)

    def _repair(self) -> None:
        """Make the lexical index anew if it is missing, damaged or of another history; publish what is not yet."""
        place = self.folder / "words"
        with self.catalogue.reading() as db:
            opened = WordIndex.open(place, db.language)
            if opened is None or not _is_of(db, opened.state):
                target = State(db.generation, db.mark(db.generation) or "")
                opened = WordIndex.build(place, db.language, db.words(0, target.generation), target)
        self._words, self._words_stamp = opened, _stamp(place / "words.json")
        self.publish()
        view = self._current()
        if view.tail is not None and len(view.tail.keys) >= self.settings.seal_rows:
            self._seal(view)  # segments that were missing or damaged are made again

    def _require_writer(self) -> None:
        if not self.writes:
            raise RunError("the store is open for reading only", where=self.folder, fix="Open it with LocalStore.open.")

    # ------------------------------------------------------------ searching

    def candidates(self, query: str, vector: QueryVector | None, scope: Scope, count: int) -> Candidates:
        """Return the best chunks of each leg; see `ChunkStore.candidates`."""
        if not isinstance(query, str) or count < 1:
            raise DatasetError("a search needs a text and how many hits are wanted", found=f"{query!r:.40}, {count}")
        query = query[:MAX_QUERY_CHARS].encode("utf-8", "replace").decode("utf-8").strip()
        for _ in range(_ATTEMPTS):
            view = self._current()
            with self.catalogue.reading() as db:
                if db.pruned > view.generation:  # published and pruned in this very moment: look again
                    continue
                unit = None if vector is None else checked_vector(vector, view.model, self.folder)
                allowed = self._allowed(db, view, scope)
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
        if not 0 <= start < end <= len(document.text):
            raise DatasetError(
                "the span is not within the document",
                where=document.source.uri,
                found=f"{start} to {end} of {len(document.text)} characters",
            )
        return Quote(
            document.text[start:end],
            start,
            end,
            document.id,
            document.source.uri,
            document.title,
            version,
            document.page_at(start),
        )

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
            raise self._gone("replace", document_id)  # it came back between the two looks
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
            gone = None if found else db.farewell(document_id, identity)
        if found:
            return found
        if gone:
            raise self._gone(gone[0], f"{document_id} until generation {gone[1]}")
        raise DatasetError("there is no such document", found=document_id, fix="Take the id from a search.")

    @staticmethod
    def _gone(kind: str, found: str) -> GoneError:
        return GoneError(
            "the document was deleted" if kind == "delete" else "the document was replaced by a newer version",
            found=found,
            fix="Search again: passages change with the documents.",
        )

    def stats(self) -> Stats:
        """Return how much there is."""
        view = self._current()
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
        view, stats = self._current(), self.stats()
        indexed = int(self._current_words().searcher.num_docs) - 1  # one is the marker of the generation
        if stats.published < stats.generation:
            found.append(f"searches see change {stats.published} of {stats.generation}: open the store for writing")
        elif indexed != stats.chunks:
            found.append(f"the lexical index holds {indexed} chunks, the catalogue {stats.chunks}: rebuild the store")
        if view.model is not None:
            segments = [*view.listed.segments, *([view.tail] if view.tail is not None else [])]
            alive = self._alive(view)
            count = sum(int(alive[segment.keys].sum()) for segment in segments)
            if stats.published == stats.generation and count != stats.vectors:
                found.append(f"the segments hold {count} vectors, the catalogue {stats.vectors}: rebuild the store")
            if stats.vectors < stats.chunks:
                found.append(f"{stats.chunks - stats.vectors} chunks have no vector of {view.model.fingerprint}")
        return found

    # ------------------------------------------------------------ what a search sees

    def _current(self) -> View:
        """The view of the last published generation, made anew if another process has published."""
        with self._lock:
            words = self._current_words()
            state = words.state
            assert state is not None
            view = self._view
            if (
                view is not None
                and view.words is words
                and view.generation == state.generation
                and (view.model is None or self._files(view.model).stamp == view.stamp)
            ):
                return view
            for _ in range(_ATTEMPTS):
                with suppress(_Newer), self.catalogue.reading() as db:
                    self._view = self._look(db, words, state.generation, view)
                    return self._view
        raise RunError(
            "the vector segments are newer than the catalogue",
            where=self.folder,
            fix="Open the store for writing once: what is beside the catalogue is made again.",
        )

    def _current_words(self) -> WordIndex:
        if self.writes:
            assert self._words is not None, "the store is closed"
            return self._words
        place = self.folder / "words"
        stamp = _stamp(place / "words.json")
        if self._words is not None and self._words.folder is not None and stamp == self._words_stamp:
            try:
                self._words.refresh()
            except (OSError, ValueError):  # its folder was replaced this very moment
                stamp = _stamp(place / "words.json")
            else:
                return self._words
        with self.catalogue.reading() as db:
            if self._words is None or stamp != self._words_stamp:
                opened = WordIndex.open(place, db.language)
                is_usable = opened is not None and _is_of(db, opened.state)
                self._words, self._words_stamp = (opened if is_usable else WordIndex(None, db.language)), stamp
            words = self._words
            assert words is not None
            if words.folder is None:  # in memory: kept up here, since nobody else does
                target = State(db.generation, db.mark(db.generation) or "")
                state = words.state or State(0, "new")
                if words.state is None or state.generation < target.generation:
                    removed = db.removed(state.generation, target.generation)
                    words.apply(removed, db.words(state.generation, target.generation), target)
        return words

    def _look(self, db: Snapshot, words: WordIndex, generation: int, before: View | None) -> View:
        known = before.chunk_documents if before is not None else np.zeros(1, np.int64)
        if db.last_chunk >= len(known):
            new = db.chunk_documents(len(known) - 1)
            grown = np.zeros(db.last_chunk + 1, np.int64)  # segments still hold keys of chunks that are gone
            grown[: len(known)] = known
            grown[new[:, 0]] = new[:, 1]
            known = grown
        model = db.model
        stamp: tuple[int, ...] = ()
        listed, tail = v.NOTHING, None
        if model is not None:
            files = self._files(model)
            stamp = files.stamp
            is_same = before is not None and before.model == model and before.stamp == stamp
            listed = before.listed if is_same and before is not None else v.NOTHING
            if not is_same:
                listed, stamp = self._open_segments(db, files)
            since, had = listed.generation, None
            if is_same and before is not None and before.generation <= generation:
                since, had = max(since, before.generation), before.tail
            tail = _tail(db, model, since, generation, had)
        return View(
            generation=generation,
            words=words,
            searcher=words.searcher,
            languages=tuple(db.languages(generation)),
            chunk_documents=known,
            documents=db.visible_documents(generation),
            model=model,
            listed=listed,
            stamp=stamp,
            tail=tail,
        )

    def _open_segments(self, db: Snapshot, files: v.SegmentFiles) -> tuple[v.Listed, tuple[int, ...]]:
        """The segments and the stamp of their list; none if they belong to another history."""
        for _ in range(_ATTEMPTS):
            stamp, listed = files.stamp, files.open()
            if files.stamp == stamp:  # else they were replaced while they were opened
                break
        if listed.generation > db.generation and not self.writes:  # a writer knows that the files cannot be newer
            raise _Newer
        return (listed if db.mark(listed.generation) == listed.mark else v.NOTHING), stamp

    def _files(self, model: Model) -> v.SegmentFiles:
        return v.SegmentFiles(self.folder / "vectors", model.fingerprint, model.dimensions)

    def _alive(self, view: View) -> v.Mask:
        return mask_of_documents(view, view.documents)

    def _allowed(self, db: Snapshot, view: View, scope: Scope) -> Allowed | None:
        """What a scope may find; None for an identity that may see nothing at all."""
        identity = scope.identity
        if not isinstance(identity, Identity) or not identity.groups or not identity.tenant:
            return None
        condition = None if scope.filter is None else compile_filter(scope.filter, db.own_fields(identity.tenant))
        key = (view.generation, identity, condition, scope.as_of)
        with self._lock:
            if key in self._scopes:
                self._scopes.move_to_end(key)
                return self._scopes[key]
        numbers = db.allowed(view.generation, identity, condition, scope.as_of)
        if condition is not None and condition.is_of_chunks:
            mask = np.zeros(len(view.chunk_documents), np.bool_)
            mask[numbers[numbers < len(mask)]] = True
            documents = np.unique(view.chunk_documents[mask])
        else:
            mask, documents = mask_of_documents(view, numbers), numbers
        total = int(self._alive(view).sum())
        allowed = Allowed(mask, documents, float(mask.sum()) / max(total, 1))
        with self._lock:
            self._scopes[key] = allowed
            while len(self._scopes) > _CACHED_SCOPES:
                self._scopes.popitem(last=False)
        return allowed


def _tail(db: Snapshot, model: Model, since: int, until: int, had: v.Segment | None) -> v.Segment | None:
    """Vectors that are in no segment yet, with those that were read before."""
    keys, vectors = db.vectors(model, since, until)
    if not len(keys):
        return had
    new = v.in_memory(keys, vectors)
    if had is None:
        return new
    everything = np.ones(int(max(had.keys[-1], keys[-1])) + 1, np.bool_)
    return v.Segment("", *v.merged([had, new], everything))


def _no_rows(model: Model) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.float32]]:
    return np.zeros(0, np.int64), np.zeros((0, model.dimensions), np.int8), np.zeros(0, np.float32)


def _dead_share(segment: v.Segment, alive: v.Mask) -> float:
    return 1 - float(alive[segment.keys].sum()) / max(len(segment.keys), 1)


def _is_of(db: Snapshot, state: State | None) -> bool:
    """Whether an index was made from this very history, and what went since is still known."""
    return state is not None and db.mark(state.generation) == state.mark and state.generation >= db.pruned


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return (stat.st_mtime_ns, stat.st_ino, stat.st_size)


def _locked(folder: Path) -> IO[str]:
    """The lock of the one writer; it goes with the process."""
    path = folder / "writer.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise_if_full(error, path)
        raise RunError(
            "the store cannot be written",
            where=folder,
            found=error.strerror,
            fix="Check the rights of the folder and whether its disk is mounted read-only.",
        ) from error
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        stream.close()
        raise RunError(
            "another process writes to this store",
            where=folder / FILE,
            fix="Wait until it is done; to search meanwhile, open the store for reading.",
        ) from error
    return stream
