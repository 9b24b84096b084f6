"""How long things are: extremes, percentiles and a histogram whose borders are round numbers."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Self

from fieldwise.records import Record

_MOST_BINS = 12
_LEAST_EDGE = 10  # a border below says nothing about a document


class Bin(Record):
    """How many lengths are at least `start` and below `end`."""

    start: int
    end: int
    count: int


class Lengths(Record):
    """Lengths in tokens; percentiles are nearest ranks, 0 where nothing was measured."""

    count: int
    total: int
    smallest: int
    p5: int
    p50: int
    p95: int
    largest: int
    histogram: tuple[Bin, ...]

    @classmethod
    def of(cls, lengths: Iterable[int], *, by_ratio: bool = False) -> Self:
        """Measure lengths; `by_ratio` makes bins that grow (1, 2, 5, 10), for lengths of very different size."""
        counts = Counter(lengths)
        ordered = sorted(counts)
        number = sum(counts.values())
        smallest, largest = (ordered[0], ordered[-1]) if ordered else (0, 0)
        edges = growing_edges(smallest, largest) if by_ratio else even_edges(largest)
        return cls(
            count=number,
            total=sum(length * n for length, n in counts.items()),
            smallest=smallest,
            p5=_percentile(counts, ordered, 5),
            p50=_percentile(counts, ordered, 50),
            p95=_percentile(counts, ordered, 95),
            largest=largest,
            histogram=_histogram(counts, edges) if ordered else (),
        )


def even_edges(largest: int) -> list[int]:
    """Return the borders of at most twelve bins of one width, a round number, from 0 to above the largest length.

    >>> even_edges(219)
    [0, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220]
    """
    width = next(w for w in _round_numbers() if largest // w < _MOST_BINS)
    return list(range(0, largest + width + 1, width))[: largest // width + 2]


def growing_edges(smallest: int, largest: int) -> list[int]:
    """Return borders of the series 1, 2, 5, 10 around the lengths; the first is 0 where one is below 10.

    >>> growing_edges(30, 400)
    [20, 50, 100, 200, 500]
    """
    edges = [0]
    for number in _round_numbers():
        if edges[-1] > largest:
            break
        if number >= _LEAST_EDGE:
            edges.append(number)
    return edges[bisect_right(edges, smallest) - 1 :]


def _round_numbers() -> Iterable[int]:
    ten = 1
    while True:
        yield from (ten, 2 * ten, 5 * ten)
        ten *= 10


def _percentile(counts: Counter[int], ordered: Sequence[int], percent: int) -> int:
    """The smallest length that at least so many per cent of all do not exceed."""
    wanted, seen = sum(counts.values()) * percent, 0
    for length in ordered:
        seen += counts[length]
        if seen * 100 >= wanted:
            return length
    return 0


def _histogram(counts: Counter[int], edges: Sequence[int]) -> tuple[Bin, ...]:
    found: Counter[int] = Counter()
    for length, number in counts.items():
        found[bisect_right(edges, length) - 1] += number
    return tuple(Bin(start=edges[n], end=edges[n + 1], count=found[n]) for n in range(len(edges) - 1))
