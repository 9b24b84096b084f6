"""Pictures of the report of documents as SVG: what became of all that was found, and how long things are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fieldwise.page.markup import escape
from fieldwise.prepare.lengths import Bin

_WIDTH, _EDGE = 340.0, 1.0
_ROW, _TOP = 36.0, 4.0
_MOST_REASONS = 8
_PLOT_TOP, _PLOT_HEIGHT, _AXIS = 18.0, 120.0, 34.0
_MOST_TICKS = 8

STYLE = """
svg .whole { fill: var(--accent); }
svg .lost { fill: var(--warning); }
svg .soft { fill: var(--muted); opacity: .4; }
svg .figure { font-variant-numeric: tabular-nums; }
svg .major { font-weight: 650; }
svg .axis { stroke: var(--strong-line); }
.bar { vertical-align: -1px; }
@media (forced-colors: active) {
  svg .whole { fill: CanvasText; }
  svg .lost { fill: Highlight; }
  svg .soft { fill: GrayText; }
}
"""


class _Step(NamedTuple):
    label: str
    items: int
    before: int = 0
    is_lost: bool = False


def flow(identifier: str, found: int, not_read: Mapping[str, int], left_out: Mapping[str, int]) -> str:
    """Return a picture of the way from what was found to what is kept; each reason takes its piece off the end."""
    steps = [_Step("found", found)]
    for reasons, rest in ((not_read, "read"), (left_out, "kept")):
        at = found if rest == "read" else found - sum(not_read.values())
        for reason, count in _largest(reasons):
            at -= count
            steps.append(_Step(f"{'not read' if rest == 'read' else 'left out'}: {reason}", count, at, is_lost=True))
        steps.append(_Step(rest, at))
    told = "; ".join(f"{step.label} {step.items:,}" for step in steps)
    body = "".join(_flow_row(step, found, _TOP + _ROW * n) for n, step in enumerate(steps))
    return _svg(identifier, f"From found to kept: {told}", _TOP + _ROW * len(steps), body)


def _largest(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent reasons; the others as one, so that the picture keeps its size."""
    ordered = [*reasons.items()]
    if len(ordered) <= _MOST_REASONS:
        return ordered
    rest = ordered[_MOST_REASONS - 1 :]
    return [*ordered[: _MOST_REASONS - 1], (f"{len(rest)} other reasons", sum(count for _, count in rest))]


def _flow_row(step: _Step, found: int, top: float) -> str:
    room = _WIDTH - 2 * _EDGE
    left, width = _EDGE + room * step.before / max(1, found), room * step.items / max(1, found)
    weight = "" if step.is_lost else ' class="major"'
    lead = "− " if step.is_lost else ""
    return (
        f'<text x="{_EDGE:g}" y="{top + 14:g}"{weight}>{escape(step.label)}</text>'
        f'<text class="figure{"" if step.is_lost else " major"}" x="{_WIDTH - _EDGE:g}" y="{top + 14:g}" text-anchor="end">{lead}{step.items:,}</text>'
        f'<rect class="soft" x="{_EDGE:g}" y="{top + 24:g}" width="{room:g}" height="1"/>'
        + (_rect("lost" if step.is_lost else "whole", left, top + 20, max(1.5, width), 9) if step.items else "")
    )


def histogram(identifier: str, title: str, bins: Sequence[Bin]) -> str:
    """Return a picture of how many lengths fall between each two borders; the numbers stand above the columns."""
    height = _PLOT_TOP + _PLOT_HEIGHT + _AXIS
    told = "; ".join(f"{b.start:,} to {b.end - 1:,}: {b.count:,}" for b in bins)
    most = max((b.count for b in bins), default=0) or 1
    room = _WIDTH - 2 * _EDGE
    width = room / max(1, len(bins))
    base = _PLOT_TOP + _PLOT_HEIGHT
    parts = [f'<line class="axis" x1="{_EDGE:g}" x2="{_WIDTH - _EDGE:g}" y1="{base:g}" y2="{base:g}"/>']
    for n, b in enumerate(bins):
        left, tall = _EDGE + width * n, _PLOT_HEIGHT * b.count / most
        if b.count:
            tall = max(1.5, tall)
            parts.append(_rect("whole", left + 1, base - tall, width - 2, tall))
            parts.append(
                f'<text class="tick" x="{left + width / 2:.1f}" y="{base - tall - 4:.1f}" text-anchor="middle">{short(b.count)}</text>'
            )
    edges = [*(b.start for b in bins), *(b.end for b in bins[-1:])]
    every = max(1, -(-len(edges) // _MOST_TICKS))
    for n in range(0, len(edges), every):
        anchor = "start" if n == 0 else "end" if n == len(edges) - 1 else "middle"
        x = _EDGE + width * n
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base:g}" y2="{base + 4:g}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{base + 15:g}" text-anchor="{anchor}">{short(edges[n])}</text>'
        )
    parts.append(f'<text class="tick" x="{_WIDTH / 2:g}" y="{base + 30:g}" text-anchor="middle">tokens</text>')
    return _svg(identifier, f"{title}, tokens: number. {told}", height, "".join(parts))


def bar(kept: int, read: int, most: int) -> str:
    """Return a small bar for the eye only, its numbers stand beside it: kept in full, what was read besides it pale."""
    room = 116.0 / max(1, most)
    pale = _rect("soft", 2, 3, room * read, 8) if read else ""
    full = _rect("whole", 2, 3, room * kept, 8) if kept else ""
    return f'<svg class="bar" viewBox="0 0 120 14" width="120" height="14" aria-hidden="true">{pale}{full}</svg>'


def short(number: int) -> str:
    """Return a number that fits below a column.

    >>> [short(n) for n in (950, 2000, 12_345, 1_250_000)]
    ['950', '2k', '12k', '1.2M']
    """
    for size, sign in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            value = number / size
            return f"{value:.0f}{sign}" if value >= 10 or number % size == 0 else f"{value:.1f}{sign}"
    return str(number)


def _rect(name: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _svg(identifier: str, told: str, height: float, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-labelledby="{identifier}-said">'
        f'<title id="{identifier}-said">{escape(told)}</title>{body}</svg>'
    )
