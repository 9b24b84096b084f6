"""Retrieval reports for a terminal."""

from __future__ import annotations

from pathlib import Path

from fieldwise.evaluate.table import need
from fieldwise.ranking.gates import shown
from fieldwise.ranking.learn import Learnt
from fieldwise.ranking.measure import HEADLINE, RetrievalReport
from fieldwise.ranking.proof import Proof
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
    lines += ["  dense_weight  candidates  reranker        nDCG@10 where it was chosen"]
    rows = [*tuned.best, *(() if tuned.current in tuned.best else (tuned.current,))]
    for row in rows:
        word = ", ".join(n for n, r in (("chosen", tuned.chosen), ("current", tuned.current)) if r == row)
        reranker = "none" if row.rerank == "none" else f"{row.rerank} {row.rerank_weight:g}"
        lines.append(f"  {row.dense_weight:12g}  {row.candidates:10}  {reranker:14}  {row.ndcg:.4f}  {word}".rstrip())
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


def plain_training(proof: Proof, place: Path) -> str:
    """How a training went, its proof, and how to use the model."""
    training = proof.training
    lines = [
        f"{training.kind} from {training.base}: {training.questions} questions of {training.questions_of}, "
        f"{training.pairs} pairs, {training.steps} steps in {training.seconds:.0f} s",
        f"loss by tenths: {', '.join(f'{loss:.3f}' for loss in training.losses)}",
        *([f"left out as likely to be relevant: {training.false_negatives}"] if training.false_negatives else []),
        "",
        f"held out ({proof.held_out}): as it is    {shown(proof.held_out_current)}",
        f"              with model  {shown(proof.held_out_trained)}",
        f"              difference  {shown(proof.difference)}",
        *([f"elsewhere, vectors alone: difference {shown(proof.elsewhere)}"] if proof.elsewhere is not None else []),
        "",
    ]
    if not proof.is_better:
        return "\n".join([*lines, f"Not kept: {proof.reason}."])
    keys = ["rerank: cross-encoder", f"rerank_model: {place}"]
    if training.kind == "embedder":
        keys = [f"embedding_model: {place}"]
    return "\n".join([*lines, "Write into the recipe:", "", "retrieve:", *(f"  {key}" for key in keys)])


def plain_learning(learnt: Learnt, place: Path | None) -> str:
    """What was learnt, its proof, and how to use it."""
    weights = sorted(zip(learnt.model.features, learnt.model.weights, strict=True), key=lambda w: -abs(w[1]))
    lines = [
        f"{learnt.name}: learnt from {learnt.learnt_from} questions, proven on {learnt.held_out} others",
        "",
        *(f"  {name:16} {weight:+.3f}" for name, weight in weights),
        "",
        f"held out: as it is    {shown(learnt.held_out_current)}",
        f"          with model  {shown(learnt.held_out_learnt)}",
        f"          difference  {shown(learnt.difference)}",
        "",
    ]
    if place is None:
        return "\n".join([*lines, "Not kept: the interval of the difference reaches 0."])
    told = ["Write into the recipe:", "", "retrieve:", "  rerank: features", f"  rerank_model: {place}"]
    return "\n".join([*lines, *told])
