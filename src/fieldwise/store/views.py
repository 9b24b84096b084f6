"""What searches of an embedded store see: the view of the last published generation, and what a scope may find in it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np

from fieldwise.errors import RunError
from fieldwise.files import stamp_of
from fieldwise.store import vectors as v
from fieldwise.store.asked import sees_nothing
from fieldwise.store.catalogue import Catalogue
from fieldwise.store.filters import compile_filter
from fieldwise.store.protocol import Scope
from fieldwise.store.search import Allowed, View, mask_of_documents
from fieldwise.store.snapshot import Model, Snapshot
from fieldwise.store.words import State, WordIndex

ATTEMPTS = 8
_CACHED_SCOPES = 64


class _Newer(Exception):
    """Another process has published since; read again."""


class Views:
    """The views of one process: made when they are asked for, anew once there is a newer generation."""

    def __init__(self, folder: Path, catalogue: Catalogue, lock: threading.RLock, *, writes: bool) -> None:
        self.folder, self.catalogue, self.writes = folder, catalogue, writes
        self._lock = lock
        self._view: View | None = None
        self._words: WordIndex | None = None
        self._words_stamp: tuple[int, ...] | None = None
        self._scopes: OrderedDict[object, Allowed] = OrderedDict()

    def repair(self) -> None:
        """Make the lexical index anew if it is missing, damaged or of another history; for the writer."""
        place = self.folder / "words"
        with self.catalogue.reading() as db:
            opened = WordIndex.open(place, db.language)
            if opened is None or not _is_of(db, opened.state):
                target = State(db.generation, db.mark(db.generation) or "")
                opened = WordIndex.build(place, db.language, db.words(0, target.generation), target)
        self._words, self._words_stamp = opened, stamp_of(place / "words.json")

    def close(self) -> None:
        """Release the lexical index."""
        if self._words is not None:
            self._words.close()
        self._words = self._view = None

    def current(self) -> View:
        """Return the view of the last published generation, made anew if another process has published."""
        with self._lock:
            words = self.words()
            state = words.state
            assert state is not None
            view = self._view
            if (
                view is not None
                and view.words is words
                and view.generation == state.generation
                and (view.model is None or self.files(view.model).stamp == view.stamp)
            ):
                return view
            for _ in range(ATTEMPTS):
                with suppress(_Newer), self.catalogue.reading() as db:
                    self._view = self._look(db, words, state.generation, view)
                    return self._view
        raise RunError(
            "the vector segments are newer than the catalogue",
            where=self.folder,
            fix="Open the store for writing once: what is beside the catalogue is made again.",
        )

    def words(self) -> WordIndex:
        """Return the lexical index; a reader that finds none it can use has one of its own in memory."""
        if self.writes:
            assert self._words is not None, "the store is closed"
            return self._words
        place = self.folder / "words"
        stamp = stamp_of(place / "words.json")
        if self._words is not None and self._words.folder is not None and stamp == self._words_stamp:
            try:
                self._words.refresh()
            except (OSError, ValueError):  # its folder was replaced this very moment
                stamp = stamp_of(place / "words.json")
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
            files = self.files(model)
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
        for _ in range(ATTEMPTS):
            stamp, listed = files.stamp, files.open()
            if files.stamp == stamp:  # else they were replaced while they were opened
                break
        if listed.generation > db.generation and not self.writes:  # a writer knows that the files cannot be newer
            raise _Newer
        return (listed if db.mark(listed.generation) == listed.mark else v.NOTHING), stamp

    def files(self, model: Model) -> v.SegmentFiles:
        """Return where the segments of a model are."""
        return v.SegmentFiles(self.folder / "vectors", model.fingerprint, model.dimensions)

    def alive(self, view: View) -> v.Mask:
        """Return which chunks are there in a view, by key."""
        return mask_of_documents(view, view.documents)

    def allowed(self, db: Snapshot, view: View, scope: Scope) -> Allowed | None:
        """Return what a scope may find; None for an identity that may see nothing at all."""
        identity = scope.identity
        if sees_nothing(identity):
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
        total = int(self.alive(view).sum())
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


def _is_of(db: Snapshot, state: State | None) -> bool:
    """Whether an index was made from this very history, and what went since is still known."""
    return state is not None and db.mark(state.generation) == state.mark and state.generation >= db.pruned
