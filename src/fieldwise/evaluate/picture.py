"""Pictures of intervals as SVG: a dot for the figure, a line for its interval, words beside each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fieldwise.evaluate.table import cell
from fieldwise.page.markup import escape
from fieldwise.records import Interval

_WIDTH, _ROW, _TOP, _AXIS, _EDGE = 340.0, 36.0, 6.0, 24.0, 8.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Row(NamedTuple):
    """One line of a picture."""

    label: str
    figure: Interval | None
    is_baseline: bool = False
    is_released: bool = False


def intervals(identifier: str, title: str, rows: Sequence[Row]) -> str:
    """Return a picture of figures from 0 to 1, or to the next whole number above all intervals.

    A diamond marks the baseline, a dashed line its value in every row.
    """
    top = _most(rows)
    height = _TOP + _ROW * len(rows) + _AXIS
    told = "; ".join(f"{_label(row)} {cell(row.figure)}" for row in rows)
    body = "".join(_row(row, _TOP + _ROW * n, top) for n, row in enumerate(rows))
    baseline = next((row.figure for row in rows if row.is_baseline), None)
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-labelledby="{identifier}-said">'
        f'<title id="{identifier}-said">{escape(f"{title}: {told}")}</title>'
        f"{_axis(len(rows), baseline, top)}{body}</svg>"
    )


def _most(rows: Sequence[Row]) -> float:
    found = (v for row in rows if row.figure is not None for v in (row.figure.value, row.figure.high) if v is not None)
    return float(max(1, math.ceil(max(found, default=1.0))))


def whisker(figure: Interval) -> str:
    """Return a small picture of one figure between 0 and 1, for the eye only: its numbers stand beside it."""
    if figure.value is None:
        return ""
    return (
        '<svg class="whisker" viewBox="0 0 120 16" width="120" height="16" aria-hidden="true">'
        f'<line class="grid" x1="4" x2="116" y1="8" y2="8"/>{_mark(figure, 4.0, 112.0, 8.0, 1.0)}</svg>'
    )


def _label(row: Row) -> str:
    return row.label + (" (baseline)" if row.is_baseline else "")


def _x(value: float, left: float, width: float, top: float) -> float:
    return left + width * min(1.0, max(0.0, value / top))


def _row(row: Row, y: float, top: float) -> str:
    weight = ' class="released"' if row.is_released else ""
    return (
        f'<text x="{_EDGE:g}" y="{y + 14:g}"{weight}>{escape(_label(row))}</text>'
        f'<text class="figure" x="{_WIDTH - _EDGE:g}" y="{y + 14:g}" text-anchor="end">{escape(cell(row.figure))}</text>'
        + (_mark(row.figure, _EDGE, _WIDTH - 2 * _EDGE, y + 25, top, row.is_baseline) if row.figure else "")
    )


def _mark(figure: Interval, left: float, width: float, y: float, top: float, is_baseline: bool = False) -> str:
    if figure.value is None:
        return ""
    x, line = _x(figure.value, left, width, top), ""
    if figure.low is not None and figure.high is not None:
        a, b = _x(figure.low, left, width, top), _x(figure.high, left, width, top)
        line = f'<path class="interval" d="M{a:.1f} {y:g}H{b:.1f}M{a:.1f} {y - 4:g}v8M{b:.1f} {y - 4:g}v8"/>'
    if is_baseline:
        return f'{line}<path class="baseline" d="M{x:.1f} {y - 5.5:g}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>'
    return f'{line}<circle class="dot" cx="{x:.1f}" cy="{y:g}" r="4"/>'


def _axis(rows: int, baseline: Interval | None, top: float) -> str:
    """Short lines behind each row's interval, so that none crosses a word, and the numbers below."""
    left, width = _EDGE, _WIDTH - 2 * _EDGE
    bands = [_TOP + _ROW * n + 18 for n in range(rows)]

    def lines(value: float, name: str) -> str:
        x = _x(value, left, width, top)
        return f'<path class="{name}" d="{"".join(f"M{x:.1f} {y:g}v14" for y in bands)}"/>'

    ticks = [top * tick for tick in _TICKS]
    grid = "".join(lines(tick, "grid") for tick in ticks)
    numbers = "".join(
        f'<text class="tick" x="{_x(tick, left, width, top):.1f}" y="{_TOP + _ROW * rows + 14:g}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks
    )
    if baseline is None or baseline.value is None:
        return grid + numbers
    return grid + numbers + lines(baseline.value, "reference")
