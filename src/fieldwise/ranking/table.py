"""Retrieval reports for a terminal."""

from __future__ import annotations

from fieldwise.evaluate.table import need
from fieldwise.ranking.gates import shown
from fieldwise.ranking.measure import HEADLINE, RetrievalReport
from fieldwise.ranking.tune import Tuned


def plain(report: RetrievalReport, verdict: str | None) -> str:
    """Figures with intervals, slices, the change to the last run, and the gate if one was asked for."""
    what = f"{report.name}{f' {report.split}' if report.split else ''}"
    lines = [
        f"{what}: {report.queries} questions over {report.passages} passages, judged by {report.level}",
        f"settings: {', '.join(f'{k} {v}' for k, v in report.settings.items())}",
        *(f"note: {note}" for note in report.notes),
        "",
    ]
    wide = max(map(len, report.figures))
    for name, figure in report.figures.items():
        told = f" (first {report.shown} passages)" if name.startswith("span_") else ""
        change = report.differences.get(name)
        against = (
            f"   last run {shown(change)}, {change.changed} changed" if change and change.value is not None else ""
        )
        lines.append(f"  {name:{wide}}  {shown(figure)}{told}{against}")
    latency = report.latency
    lines.append(f"  {'latency':{wide}}  p50 {latency.p50:.1f} ms, p95 {latency.p95:.1f} ms, n={latency.n}")
    if report.slices:
        lines += ["", f"  {'by slice':32} {'n':>5}  " + "  ".join(f"{f:22}" for f in HEADLINE)]
        for name, figures in report.slices.items():
            cells = [_cell(figures[f].value, figures[f].low, figures[f].high) for f in HEADLINE]
            lines.append(f"  {name:32} {figures[HEADLINE[0]].n:>5}  " + "  ".join(f"{c:22}" for c in cells))
    if verdict is not None:
        lines += ["", f"Gate: {verdict}"]
        lines += [f"  {g.verdict:12} {g.requirement}: {g.found}{need(g)}" for g in report.gates]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: float | None, low: float | None, high: float | None) -> str:
    return "not scored" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def plain_tuning(tuned: Tuned) -> str:
    """The choice, its proof, and what to write into the recipe."""
    lines = [f"{tuned.name}: chosen on {tuned.fitted_on} questions, proven on {tuned.held_out} others", ""]
    lines += ["  dense_weight  candidates  nDCG@10 where it was chosen"]
    rows = [*tuned.best, *(() if tuned.current in tuned.best else (tuned.current,))]
    for row in rows:
        word = "chosen" if row == tuned.chosen else ""
        word += (", " if word else "") + "current" if row == tuned.current else ""
        lines.append(f"  {row.dense_weight:12g}  {row.candidates:10}  {row.ndcg:.4f}  {word}".rstrip())
    lines += [
        "",
        f"held out: current {shown(tuned.held_out_current)}",
        f"          chosen  {shown(tuned.held_out_chosen)}",
        f"          chosen minus current {shown(tuned.difference)}",
        "",
    ]
    if tuned.lines:
        return "\n".join([*lines, "Write into the recipe:", "", tuned.lines])
    same = tuned.chosen == tuned.current
    reason = "the current settings are the best" if same else "the interval of the difference reaches 0"
    return "\n".join([*lines, f"Nothing to change: {reason}."])
