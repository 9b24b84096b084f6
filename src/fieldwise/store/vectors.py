"""The vectors of a store as segments: int8 numbers in files that are mapped, not read, and a graph for large ones.

A segment is a folder that is written under a temporary name, synced and renamed, and never changed. `segments.json`
lists the segments and the generation they reach; what came later is taken from the catalogue. A vector keeps its own
scale, so that a cosine is right to about 0.001; the catalogue keeps 16 bits a number, from which segments are made again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, MissingExtra, RunError
from fieldwise.extras import require
from fieldwise.files import raise_if_full, read_json, stamp_of, sync, write_json
from fieldwise.hashing import sha256_text

LOG = logging.getLogger(__name__)
FORMAT = 1
LIST = "segments.json"
_MANIFEST, _CODES, _SCALES, _KEYS, _GRAPH = "segment.json", "codes.npy", "scales.npy", "keys.npy", "graph.usearch"
_BLOCK_ROWS = 1024  # a block of float32 stays in the cache of a core
_GRAPH_SHARE = 0.2  # of a segment that must be allowed for its graph to be worth asking
_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 16, 128, 128

Mask = NDArray[np.bool_]


class Segment(NamedTuple):
    """Vectors with their keys, ascending; `graph` is None where looking at every vector is fast enough."""

    name: str
    keys: NDArray[np.int64]
    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    graph: Any = None

    def scores(self, query: NDArray[np.float32], rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return the cosine of rows (default: all) to a query."""
        count = len(self.keys) if rows is None else len(rows)
        found = np.empty(count, np.float32)
        block = np.empty((min(_BLOCK_ROWS, max(count, 1)), self.codes.shape[1]), np.float32)
        for begin in range(0, count, _BLOCK_ROWS):
            end = min(begin + _BLOCK_ROWS, count)
            np.copyto(block[: end - begin], self.codes[begin:end] if rows is None else self.codes[rows[begin:end]])
            np.dot(block[: end - begin], query, out=found[begin:end])
        return found * (self.scales if rows is None else self.scales[rows])

    def nearest(self, query: NDArray[np.float32], allowed: Mask | None, count: int) -> dict[int, float]:
        """Return the nearest allowed keys with their cosines."""
        rows = None if allowed is None else np.flatnonzero(allowed[self.keys])
        if rows is not None and len(rows) == len(self.keys):
            rows = allowed = None
        share = 1.0 if rows is None else len(rows) / max(len(self.keys), 1)
        if self.graph is not None and share >= _GRAPH_SHARE:
            found = self._by_graph(query, allowed, count, share)
            if found is not None:
                return found
        if rows is not None and share > 0.6:  # in one piece is faster than row by row
            scores = self.scores(query)[rows]
        else:
            scores = self.scores(query, rows)
        best = _best(scores, count)
        chosen = best if rows is None else rows[best]
        return dict(zip(self.keys[chosen].tolist(), scores[best].tolist(), strict=True))

    def _by_graph(
        self, query: NDArray[np.float32], allowed: Mask | None, count: int, share: float
    ) -> dict[int, float] | None:
        """Ask the graph for more than is wanted and keep what is allowed; None if that was not enough."""
        wanted = count if allowed is None else int(1.5 * count / share) + 10
        wanted = min(wanted, len(self.keys))
        keys = np.asarray(self.graph.search(_codes(query[None])[0][0], wanted).keys, dtype=np.int64)
        rows = np.searchsorted(self.keys, keys)
        if allowed is not None:
            rows = rows[allowed[keys]]
        if len(rows) < min(count, wanted):
            return None
        scores = self.scores(query, rows)
        best = _best(scores, count)
        return dict(zip(self.keys[rows[best]].tolist(), scores[best].tolist(), strict=True))

    def scores_of(self, query: NDArray[np.float32], keys: NDArray[np.int64]) -> dict[int, float]:
        """Return the cosines of those keys that are here."""
        if not len(self.keys) or not len(keys):
            return {}
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        rows = rows[self.keys[rows] == keys]
        return dict(zip(self.keys[rows].tolist(), self.scores(query, rows).tolist(), strict=True))


def in_memory(keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> Segment:
    """Return vectors that are in no file yet as a segment."""
    codes, scales = _codes(vectors)
    return Segment("", keys, codes, scales)


class Listed(NamedTuple):
    """The segments in use and the state of the catalogue they reach."""

    generation: int
    mark: str
    segments: tuple[Segment, ...]


NOTHING = Listed(0, "new", ())


class SegmentFiles:
    """The segments of one model below a folder."""

    def __init__(self, place: Path, model: str, dimensions: int) -> None:
        self.folder = place / sha256_text(model)[:16]
        self.model, self.dimensions = model, dimensions

    @property
    def stamp(self) -> tuple[int, ...]:
        """Changes whenever the list of segments does."""
        return stamp_of(self.folder / LIST)

    def open(self) -> Listed:
        """Return the segments; none, of generation 0, if there are none or one of them is damaged.

        Raises RunError for files of a newer version.
        """
        try:
            description = read_json(self.folder / LIST)
        except (OSError, DatasetError):
            return NOTHING
        if int(str(description.get("format", 0))) > FORMAT:
            raise RunError(
                "the vector segments were made by a newer version of Fieldwise",
                where=self.folder / LIST,
                found=f"format {description['format']}, this version knows {FORMAT}",
                fix="Upgrade Fieldwise, or delete this folder: the segments are made again from the catalogue.",
            )
        try:
            names = description["segments"]
            assert isinstance(names, list)
            generation, mark = int(str(description["generation"])), str(description["mark"])
            return Listed(generation, mark, tuple(self._open(str(name)) for name in names))
        except (OSError, ValueError, KeyError, AssertionError, DatasetError) as error:
            LOG.warning("vector segments in %s cannot be used: %s", self.folder, error)
            return NOTHING

    def _open(self, name: str) -> Segment:
        folder = self.folder / name
        manifest = read_json(folder / _MANIFEST)
        files = manifest["bytes"]
        assert isinstance(files, dict)
        for file, wanted in files.items():
            found = (folder / file).stat().st_size
            if found != wanted:
                raise DatasetError("a segment is not whole", where=folder / file, found=f"{found} of {wanted} bytes")
        keys = np.load(folder / _KEYS, allow_pickle=False)
        codes = np.load(folder / _CODES, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        scales = np.load(folder / _SCALES, allow_pickle=False)
        if codes.shape != (len(keys), self.dimensions) or len(scales) != len(keys) or codes.dtype != np.int8:
            raise DatasetError("a segment does not fit its model", where=folder, found=f"shape {codes.shape}")
        return Segment(name, keys, codes, scales, _open_graph(folder / _GRAPH) if _GRAPH in files else None)

    def write(
        self, keys: NDArray[np.int64], codes: NDArray[np.int8], scales: NDArray[np.float32], *, graph: bool
    ) -> Segment:
        """Write a segment, whole or not at all; it counts only once it is listed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = sha256_text(json.dumps([len(keys), int(keys[0]), int(keys[-1]), int(keys.sum()), graph]))[:12]
        name = f"seg-{int(keys[-1]):012d}-{digest}"
        temporary = self.folder / f".tmp-{name}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            for file, values in ((_KEYS, keys), (_CODES, codes), (_SCALES, scales)):
                np.save(temporary / file, values)
            if graph:
                _make_graph(keys, codes).save(str(temporary / _GRAPH))
            sizes = {p.name: p.stat().st_size for p in sorted(temporary.iterdir())}
            for file in sizes:
                sync(temporary / file)
            write_json(
                temporary / _MANIFEST, {"format": FORMAT, "model": self.model, "rows": len(keys), "bytes": sizes}
            )
            target = self.folder / name
            if target.exists():  # not listed: left by a process that was killed
                shutil.rmtree(target)
            temporary.rename(target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise_if_full(error, self.folder)
            raise
        return self._open(name)

    def publish(self, segments: Sequence[Segment], generation: int, mark: str) -> None:
        """Make these the segments; folders that are no longer listed go."""
        write_json(
            self.folder / LIST,
            {
                "format": FORMAT,
                "model": self.model,
                "generation": generation,
                "mark": mark,
                "segments": [segment.name for segment in segments],
            },
        )
        names = {segment.name for segment in segments}
        for folder in self.folder.iterdir():
            if folder.is_dir() and folder.name not in names:
                shutil.rmtree(folder, ignore_errors=True)


def merged(segments: Sequence[Segment], alive: Mask) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.float32]]:
    """Return keys, codes and scales of what is alive in several segments, by key."""
    rows = [np.flatnonzero(alive[segment.keys]) for segment in segments]
    keys = np.concatenate([s.keys[r] for s, r in zip(segments, rows, strict=True)])
    codes = np.concatenate([s.codes[r] for s, r in zip(segments, rows, strict=True)])
    scales = np.concatenate([s.scales[r] for s, r in zip(segments, rows, strict=True)])
    order = np.argsort(keys, kind="stable")
    return keys[order], codes[order], scales[order]


def can_make_graphs() -> bool:
    """Tell whether the library for graphs is installed."""
    try:
        _usearch()
    except MissingExtra:
        return False
    return True


def _usearch() -> Any:
    return require("usearch.index", extra="rag", to="search many vectors by a graph")


def _open_graph(path: Path) -> Any:
    if not can_make_graphs():
        return None  # every vector is looked at instead
    try:
        return _usearch().Index.restore(str(path), view=True)
    except RuntimeError as error:
        raise DatasetError("a graph of vectors cannot be read", where=path, found=str(error)[:120]) from error


def _make_graph(keys: NDArray[np.int64], codes: NDArray[np.int8]) -> Any:
    graph = _usearch().Index(
        ndim=codes.shape[1],
        metric="cos",
        dtype="i8",
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=_EXPANSION_SEARCH,
    )
    graph.add(keys.astype(np.uint64), np.ascontiguousarray(codes), threads=1)  # one thread: the same graph every time
    return graph


def _codes(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers from -127 to 127 and what to multiply them by."""
    if not len(vectors):
        return np.zeros(vectors.shape, np.int8), np.zeros(0, np.float32)
    scales = (np.abs(vectors).max(axis=1) / 127).astype(np.float32)
    return np.rint(vectors / scales[:, None]).astype(np.int8), scales


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rows of the highest scores, best first, equal ones in order."""
    if len(scores) > count:
        threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
        rows = np.flatnonzero(scores >= threshold)
    else:
        rows = np.arange(len(scores))
    return rows[np.argsort(-scores[rows], kind="stable")][:count]
