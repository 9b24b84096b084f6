"""Keeping the vector segments of an embedded store few, and free of what was deleted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldwise.store import vectors as v
from fieldwise.store.search import View
from fieldwise.store.snapshot import Model

_MAX_SMALL_SEGMENTS = 8
_LARGEST_DEAD_SHARE = 0.3


@dataclass(frozen=True)
class StoreSettings:
    """How an embedded store keeps its vectors."""

    flat_rows: int = 50_000  # up to this many vectors, looking at each of them is fast enough
    seal_rows: int = 4_096  # vectors that wait in the catalogue before they become a segment


DEFAULTS = StoreSettings()


def is_due(view: View, settings: StoreSettings) -> bool:
    """Return whether enough vectors wait to become a segment."""
    return view.tail is not None and len(view.tail.keys) >= settings.seal_rows


def loose_rows(view: View) -> int:
    """Return how many vectors are in no graph."""
    rows = sum(len(s.keys) for s in view.listed.segments if s.graph is None)
    return rows + (len(view.tail.keys) if view.tail is not None else 0)


def sealed(view: View, files: v.SegmentFiles, alive: v.Mask, settings: StoreSettings) -> list[v.Segment]:
    """Make a segment of the vectors that wait, together with small ones if these have become many; returns all."""
    assert view.tail is not None
    small = [s for s in view.listed.segments if s.graph is None and len(s.keys) < settings.flat_rows]
    kept, merging = list(view.listed.segments), [view.tail]
    if len(small) >= _MAX_SMALL_SEGMENTS:
        kept, merging = [s for s in kept if all(s is not m for m in small)], [*small, view.tail]
    keys, codes, scales = v.merged(merging, alive)
    if len(keys):
        kept.append(files.write(keys, codes, scales, graph=False))
    return kept


def optimised(
    view: View, model: Model, files: v.SegmentFiles, alive: v.Mask, settings: StoreSettings
) -> list[v.Segment]:
    """Write all vectors into few segments, with a graph for those that are many; returns the segments."""
    kept = [s for s in view.listed.segments if s.graph is not None and _dead_share(s, alive) <= _LARGEST_DEAD_SHARE]
    loose = [s for s in view.listed.segments if all(s is not k for k in kept)]
    loose += [view.tail] if view.tail is not None else []
    keys, codes, scales = v.merged(loose, alive) if loose else _no_rows(model)
    for begin in range(0, len(keys), 4 * settings.flat_rows):
        part = slice(begin, begin + 4 * settings.flat_rows)
        graph = len(keys[part]) >= settings.flat_rows and v.can_make_graphs()
        kept.append(files.write(keys[part], codes[part], scales[part], graph=graph))
    return kept


def _no_rows(model: Model) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.float32]]:
    return np.zeros(0, np.int64), np.zeros((0, model.dimensions), np.int8), np.zeros(0, np.float32)


def _dead_share(segment: v.Segment, alive: v.Mask) -> float:
    return 1 - float(alive[segment.keys].sum()) / max(len(segment.keys), 1)
