"""Passages wider than what was found: with the chunks beside them, or their whole section, word for word as stored."""

from __future__ import annotations

from collections.abc import Sequence

from fieldwise.records import Chunk
from fieldwise.store.options import SearchOptions
from fieldwise.store.protocol import ChunkStore, GoneError, Identity, StoredChunk

_SECTION_REACH = 40


def widened(
    store: ChunkStore, found: StoredChunk, options: SearchOptions, identity: Identity, shown: Sequence[Chunk]
) -> Chunk:
    """Return the chunk with what stands around it; its id stays, its span and text are those of the wider passage.

    What is `shown` already is not shown twice. Raises GoneError if the document has gone meanwhile.
    """
    reach = options.neighbours if options.expand == "neighbours" else _SECTION_REACH
    around = store.around(found.key, reach, identity)
    place = next((n for n, other in enumerate(around) if other.key == found.key), None)
    if place is None:
        raise GoneError("the document has gone", found=found.chunk.document_id, fix="Search again.")
    first, last = _span(around, place, options, shown)
    if first == last:
        return found.chunk
    begin, end = around[first].chunk, around[last].chunk
    text = store.quote(found.chunk.document_id, begin.start, end.end, identity).text
    tokens = sum(other.chunk.tokens for other in around[first : last + 1])
    update = {"start": begin.start, "end": end.end, "text": text, "page": begin.page, "tokens": tokens}
    return found.chunk.model_copy(update=update)


def is_within(chunk: Chunk, shown: Sequence[Chunk]) -> bool:
    """Tell whether one of these passages holds the words of a chunk."""
    return any(w.document_id == chunk.document_id and w.start <= chunk.start and chunk.end <= w.end for w in shown)


def _span(around: Sequence[StoredChunk], place: int, options: SearchOptions, shown: Sequence[Chunk]) -> tuple[int, int]:
    """Grow to both sides by turns while it fits and belongs together."""
    first = last = place
    path = around[place].chunk.heading_path
    is_open = [True, True]
    while any(is_open):
        for side, step in ((1, 1), (0, -1)):
            at = (last if side else first) + step
            if not is_open[side]:
                continue
            fits = 0 <= at < len(around) and not is_within(around[at].chunk, shown)
            fits = fits and (options.expand == "neighbours" or around[at].chunk.heading_path == path)
            if fits:
                low, high = min(first, at), max(last, at)
                fits = around[high].chunk.end - around[low].chunk.start <= options.expand_chars
            if fits:
                first, last = min(first, at), max(last, at)
            else:
                is_open[side] = False
    return first, last
