"""Curves as SVG: what declining buys, and whether a doubt is worth its number."""

from __future__ import annotations

from collections.abc import Sequence

from fieldwise.evaluate.calibration import Bin, Calibration, Point
from fieldwise.evaluate.table import cell
from fieldwise.page.markup import escape, section

_SIDE, _LEFT, _TOP, _BELOW, _RIGHT = 220.0, 46.0, 10.0, 44.0, 14.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def calibration_section(found: Calibration, name: str) -> str:
    """Return the section about the doubt of a system, with both curves."""
    figures = [_figure("coverage", "Risk and coverage", _coverage_about(found), risk_coverage(found))]
    figures.append(_figure("reliability", "Reliability", _reliability_about(found), reliability(found)))
    return section(
        "doubt",
        "The doubt",
        f"<p>{escape(name)} gives each of {found.n} questions a doubt, the fitted probability that the documents do not answer it; "
        f"{found.unanswerable} are not answerable. What was held back because of it counts here as if it had been said.</p>",
        f'<div class="pictures">\n{"".join(figures)}\n</div>',
    )


def _figure(identifier: str, title: str, about: str, picture: str) -> str:
    return f'<figure id="curve-{identifier}"><figcaption><b>{title}</b>{about}</figcaption>{picture}</figure>'


def _coverage_about(found: Calibration) -> str:
    if found.aurc is None or found.aurc_random is None or found.aurc_best is None:
        return "nothing was answered"
    return (
        "share of what is answered that is wrong (1 - F1), were the questions of least doubt answered first; lower is better. "
        f"Area {escape(cell(found.aurc))}; in any order {found.aurc_random:.2f}, in the best order {found.aurc_best:.2f}. "
        "The diamond is the rule in use, the dashed line any order."
    )


def _reliability_about(found: Calibration) -> str:
    verdict = "no more than" if found.ece <= found.ece_by_chance else "more than"
    return (
        "questions of a like doubt, and how many of them the documents do not answer; the dashed line is a doubt that is right. "
        f"Expected error {found.ece:.3f}, {verdict} the {found.ece_by_chance:.3f} that chance alone would show."
    )


def risk_coverage(found: Calibration) -> str:
    """Return the curve of the share that is wrong over the share that is answered."""
    told = f"{len(found.curve)} points"
    if found.curve:
        told = "; ".join(_point_said(p) for p in _quarters(found.curve))
    line = _line(found.curve)
    random = "" if found.aurc_random is None else _segment(0.0, found.aurc_random, 1.0, found.aurc_random)
    mark = "" if found.served is None else _diamond(found.served.coverage, found.served.risk)
    return _frame("coverage", f"Risk by coverage: {told}", "questions answered", "wrong", f"{random}{line}{mark}")


def reliability(found: Calibration) -> str:
    """Return the share that is not answerable over the doubt, bin by bin, with intervals."""
    told = "; ".join(f"doubt {b.doubt:.2f}: {cell(b.unanswerable)} of {b.unanswerable.n}" for b in found.bins)
    marks = "".join(_whisker(b) for b in found.bins)
    return _frame("reliability", f"Reliability: {told}", "doubt", "not answerable", _segment(0, 0, 1, 1) + marks)


def _quarters(curve: Sequence[Point]) -> list[Point]:
    """The points nearest to each quarter of the coverage reached."""
    most = curve[-1].coverage
    return [min(curve, key=lambda p: abs(p.coverage - part * most)) for part in _TICKS[1:]]


def _point_said(point: Point) -> str:
    return f"{point.coverage:.0%} answered, {point.risk:.2f} wrong"


def _x(value: float) -> float:
    return _LEFT + _SIDE * min(1.0, max(0.0, value))


def _y(value: float) -> float:
    return _TOP + _SIDE * (1 - min(1.0, max(0.0, value)))


def _line(points: Sequence[Point]) -> str:
    if not points:
        return ""
    path = "L".join(f"{_x(p.coverage):.1f} {_y(p.risk):.1f}" for p in points)
    return f'<path class="interval" d="M{path}"/>'


def _segment(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="reference" d="M{_x(x1):.1f} {_y(y1):.1f}L{_x(x2):.1f} {_y(y2):.1f}"/>'


def _diamond(x: float, y: float) -> str:
    return f'<path class="baseline" d="M{_x(x):.1f} {_y(y) - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>'


def _whisker(part: Bin) -> str:
    figure, x = part.unanswerable, _x(part.doubt)
    if figure.value is None or figure.low is None or figure.high is None:
        return ""
    low, high = _y(figure.low), _y(figure.high)
    line = (
        f'<path class="interval" d="M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"/>'
    )
    return f'{line}<circle class="dot" cx="{x:.1f}" cy="{_y(figure.value):.1f}" r="4"/>'


def _frame(identifier: str, told: str, below: str, beside: str, body: str) -> str:
    """Axes from 0 to 1 both ways, with their names."""
    grid = "".join(
        f'<path class="grid" d="M{_x(t):g} {_y(0):g}V{_y(1):g}M{_x(0):g} {_y(t):g}H{_x(1):g}"/>'
        f'<text class="tick" x="{_x(t):g}" y="{_y(0) + 16:g}" text-anchor="middle">{t:g}</text>'
        f'<text class="tick" x="{_LEFT - 6:g}" y="{_y(t) + 4:g}" text-anchor="end">{t:g}</text>'
        for t in _TICKS
    )
    middle = _TOP + _SIDE / 2
    names = (
        f'<text x="{_LEFT + _SIDE / 2:g}" y="{_TOP + _SIDE + 36:g}" text-anchor="middle">{below}</text>'
        f'<text x="12" y="{middle:g}" text-anchor="middle" transform="rotate(-90 12 {middle:g})">{beside}</text>'
    )
    width, height = _LEFT + _SIDE + _RIGHT, _TOP + _SIDE + _BELOW
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="{identifier}-said">'
        f'<title id="{identifier}-said">{escape(told)}</title>{grid}{body}{names}</svg>'
    )
