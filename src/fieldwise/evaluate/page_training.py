"""The parts of the report page about the training: its curves, and what each score is without questions it has seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fieldwise.evaluate.contamination import SHARE, WORDS
from fieldwise.evaluate.metrics import METRICS
from fieldwise.evaluate.report import EvalReport, Scored, summarise
from fieldwise.evaluate.table import cell, title
from fieldwise.page.markup import escape, section, table

_SMOOTHED = 5
_SHOWN = ("token_f1", "overall_f1")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BELOW, _RIGHT = 300.0, 170.0, 46.0, 10.0, 40.0, 14.0


class Curve(NamedTuple):
    """The loss of a training by step, and the loss on held-out examples where it was looked at."""

    name: str
    loss: Sequence[tuple[float, float]]
    held_out: Sequence[tuple[float, float]] = ()


def curve_of(name: str, points: object) -> Curve | None:
    """Return the curve of a training from what it kept; None where it kept no loss."""
    rows = [p for p in points if isinstance(p, dict)] if isinstance(points, list) else []
    loss = [(float(p["step"]), float(p["loss"])) for p in rows if "loss" in p and "step" in p]
    held = [(float(p["step"]), float(p["eval_loss"])) for p in rows if "eval_loss" in p and "step" in p]
    return Curve(name, loss, held) if loss else None


def curves_section(curves: Sequence[Curve]) -> str:
    """Return the section with a picture of each training; nothing where none is known."""
    if not curves:
        return ""
    figures = "".join(
        f"<figure><figcaption><b>{escape(c.name)}</b>{_about(c)}</figcaption>{_picture(n, c)}</figure>"
        for n, c in enumerate(curves)
    )
    return section(
        "training",
        "Training",
        f'<p class="hint">The thin line is the loss on the examples of each step, the bold one its mean over {_SMOOTHED} steps; '
        "dots are the loss on held-out examples.</p>",
        f'<div class="pictures">\n{figures}\n</div>',
    )


def _about(curve: Curve) -> str:
    means = _means([v for _, v in curve.loss])
    first = means[min(_SMOOTHED, len(means)) - 1]
    said = f"{int(curve.loss[-1][0])} steps, mean loss {first:.3g} to {means[-1]:.3g}"
    return said + (f"; held out {curve.held_out[-1][1]:.2f}" if curve.held_out else "")


def _picture(number: int, curve: Curve) -> str:
    every = [*curve.loss, *curve.held_out]
    last = max(x for x, _ in every)
    low, high = _range([y for _, y in every])

    def x(step: float) -> float:
        return _LEFT + _WIDTH * (step / last if last else 0.0)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - (value - low) / (high - low))

    ticks = [low + (high - low) * n / 4 for n in range(5)]
    digits = max(1, math.ceil(1 - math.log10((high - low) / 4)))  # so many that two ticks differ
    grid = "".join(
        f'<path class="grid" d="M{_LEFT:g} {y(t):.1f}h{_WIDTH:g}"/>'
        f'<text class="tick" x="{_LEFT - 6:g}" y="{y(t) + 4:.1f}" text-anchor="end">{t:.{digits}f}</text>'
        for t in ticks
    )
    steps = "".join(
        f'<text class="tick" x="{x(last * n / 4):.1f}" y="{_TOP + _HEIGHT + 16:g}" text-anchor="middle">{last * n / 4:.0f}</text>'
        for n in range(5)
    )
    line = "L".join(f"{x(s):.1f} {y(v):.1f}" for s, v in curve.loss)
    means = zip(curve.loss, _means([v for _, v in curve.loss]), strict=True)
    mean = "L".join(f"{x(s):.1f} {y(m):.1f}" for (s, _), m in means)
    dots = "".join(f'<circle class="dot" cx="{x(s):.1f}" cy="{y(v):.1f}" r="4"/>' for s, v in curve.held_out)
    told = f"{curve.name}: {_about(curve)}"
    width, height = _LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BELOW
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="training-{number}">'
        f'<title id="training-{number}">{escape(told)}</title>{grid}{steps}<path class="each" d="M{line}"/><path class="interval" d="M{mean}"/>{dots}'
        f'<text x="{_LEFT + _WIDTH / 2:g}" y="{_TOP + _HEIGHT + 34:g}" text-anchor="middle">step</text></svg>'
    )


def _means(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, five at most."""
    windows = (values[max(0, n - _SMOOTHED + 1) : n + 1] for n in range(len(values)))
    return [sum(w) / len(w) for w in windows]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or 0.1
    return (0.0 if 0 <= low < room else low - room), high + room


# ---------------------------------------------------------------- contamination


def contamination_section(
    report: EvalReport,
    touched: Sequence[bool] | None,
    scores: dict[str, dict[str, Scored]],
    clusters: Sequence[str],
    samples: int,
) -> str:
    """Return each score beside the same without the questions that training has nearly seen."""
    if touched is None:
        return ""
    count = sum(touched)
    rule = f"Questions of which one trained question holds {SHARE:.0%} of the runs of {WORDS} words or more"
    told = f"<p>{rule}: <b>{count}</b> of {len(touched)}. Paraphrases are not found by it.</p>"
    if not count:
        return section("contamination", "Contamination", told, "<p>So every score stands as it is.</p>")
    rows = []
    for system, by_metric in scores.items():
        row = [escape(title(report, system))]
        for metric in _SHOWN:
            scored = by_metric[metric]
            kept = tuple(None if t else v for t, v in zip(touched, scored.values, strict=True))
            for values in (scored, scored._replace(values=kept)):
                figure = summarise(values, clusters, samples, report.seed)
                value, blank, rest = cell(figure).partition(" ")
                row.append(f'{escape(value)}{blank}<span class="interval-text">{escape(rest)}</span>')
        rows.append(row)
    header = ['<span class="unseen">System</span>']
    for metric in _SHOWN:
        header += [escape(METRICS[metric].title), f"without the {count}"]
    return section(
        "contamination", "Contamination", told, table("Scores with and without them", header, rows, "numbers")
    )
