"""What a sweep found: one row a point, intervals, and paired differences to the recipe's own value."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, JsonValue

from fieldwise.errors import FieldwiseError
from fieldwise.evaluate.baseline import Measured, measured_systems, read_measured, same_questions
from fieldwise.evaluate.metrics import METRICS
from fieldwise.evaluate.report import compare, summarise
from fieldwise.evaluate.statistics import holm
from fieldwise.evaluate.table import cell
from fieldwise.files import read_json
from fieldwise.records import Difference, Interval, Record
from fieldwise.run import RunFolder
from fieldwise.sweep.grid import Grid
from fieldwise.sweep.running import Ran

DEFAULT_METRICS = ("overall_f1", "token_f1", "bits_per_byte")
_PREFERRED = ("rag_tuned", "preference", "sft")


class Row(Record):
    """One point of a sweep."""

    name: str
    run: str
    values: dict[str, JsonValue]
    is_own: bool
    error: str | None = None
    training: dict[str, float] = Field(default_factory=dict, description="last figures of the trainings")
    seconds: float | None = Field(None, description="the training took when it was made")
    selected: str | None = None
    selection: dict[str, JsonValue] = Field(default_factory=dict, description="what 4c chose by: metric, items, scores")
    figures: dict[str, Interval] = Field(default_factory=dict)
    differences: dict[str, Difference] = Field(
        default_factory=dict, description="to the recipe's own value on the same questions; positive is better"
    )


class Sweep(Record):
    """The table of a sweep."""

    name: str
    keys: tuple[str, ...]
    system: str | None = Field(None, description="None without stage 4d")
    metrics: tuple[str, ...]
    questions: int | None = None
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether a point could not be finished."""
        return any(row.error is not None for row in self.rows)


def require_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics to show; raises FieldwiseError for one that is not known."""
    unknown = [m for m in metrics if m not in METRICS]
    if unknown:
        raise FieldwiseError(
            "unknown metric", where="--metric", found=", ".join(unknown), fix=f"There are: {', '.join(METRICS)}."
        )
    return tuple(metrics) or DEFAULT_METRICS


def tabulate(
    grid: Grid, ran: Sequence[Ran], name: str, metrics: Sequence[str], system: str | None, *, is_measured: bool
) -> Sweep:
    """Put the points together, in the order of the grid."""
    by_name = {r.point.name: r for r in ran}
    rows = [_row(by_name[p.name]) for p in grid.points]
    notes: list[str] = []
    if not is_measured:
        notes.append(
            "No intervals: stage 4c keeps no single scores. Run the sweep to 4d for intervals and differences."
        )
        return Sweep(name=name, keys=grid.keys, metrics=tuple(metrics), rows=tuple(rows), notes=tuple(notes))
    reference = by_name[grid.own.name]
    if reference.error is not None:
        notes.append("The recipe's own value failed, so there are no differences to it.")
    chosen = system or _system([r.run for r in ran if r.error is None])
    samples = grid.own.recipe.evaluate.bootstrap_samples
    own = _measured(reference, chosen)
    rows = [_with_figures(row, _measured(by_name[row.name], chosen), own, metrics, samples) for row in rows]
    counts = {f.n for row in rows for f in row.figures.values()}
    if not grid.own.recipe.evaluate.questions:
        notes.append("Measured on the generated test split, which other settings of generate would change.")
    notes.append(
        "The best of several is chosen by its luck as well: measure the value you take on questions that did not choose it."
    )
    return Sweep(
        name=name,
        keys=grid.keys,
        system=chosen,
        metrics=tuple(metrics),
        questions=max(counts, default=None),
        rows=_adjusted(rows),
        notes=tuple(notes),
    )


def _system(runs: Sequence[RunFolder]) -> str:
    """The system nearest to the release that every finished point has measured."""
    common: set[str] = set.intersection(*(set(measured_systems(r)) for r in runs)) if runs else set()
    found = next((s for s in (*_PREFERRED, *sorted(common)) if s in common), None)
    return found or _PREFERRED[0]


def _row(ran: Ran) -> Row:
    manifest = ran.run.manifest("4b_train") if ran.error is None else None
    training: dict[str, float] = {}
    for method, facts in (manifest.facts if manifest is not None else {}).items():
        if isinstance(facts, dict):
            figures = {k: v for k, v in facts.items() if k in ("loss", "eval_loss", "margin")}
            training.update({f"{method} {k}": float(v) for k, v in figures.items() if isinstance(v, int | float)})
    selection = ran.run.path / "4_adapters/selected.json"
    chosen = read_json(selection) if ran.error is None and selection.is_file() else {}
    return Row(
        name=ran.point.name,
        run=str(ran.run.path),
        values=ran.point.values,
        is_own=ran.point.is_own,
        error=str(ran.error) if ran.error is not None else None,
        training=training,
        seconds=manifest.seconds if manifest is not None else None,
        selected=str(chosen["selected"]) if "selected" in chosen else None,
        selection={k: chosen[k] for k in ("metric", "items", "scores") if k in chosen},
    )


def _measured(ran: Ran, system: str) -> Measured | None:
    return read_measured(ran.run, system, ran.point.name) if ran.error is None else None


def _with_figures(
    row: Row, measured: Measured | None, own: Measured | None, metrics: Sequence[str], samples: int
) -> Row:
    if measured is None:
        return row
    items, seed = measured.baseline.items, measured.baseline.seed
    scored = {m: s for m in metrics if (s := measured.baseline.scored(m, range(len(items)))) is not None}
    figures = {m: summarise(s, measured.clusters, samples, seed) for m, s in scored.items()}
    differences: dict[str, Difference] = {}
    error = row.error
    if own is not None and not row.is_own:
        try:
            order = same_questions(items, own.baseline, own.baseline.run)
        except FieldwiseError as other:
            error = f"not compared: {other}"
        else:
            for metric, after in scored.items():
                before = own.baseline.scored(metric, order)
                if before is not None:
                    differences[metric] = compare(after, before, measured.clusters, samples, seed)
    return row.model_copy(update={"figures": figures, "differences": differences, "error": error})


def _adjusted(rows: Sequence[Row]) -> tuple[Row, ...]:
    """All differences of a sweep are one family (Holm): the more values are tried, the more must one stand out."""
    family = [(row.name, m, d.p) for row in rows for m, d in row.differences.items() if d.p is not None]
    adjusted = dict(zip([f[:2] for f in family], holm([p for *_, p in family]), strict=True))
    return tuple(
        row.model_copy(
            update={
                "differences": {
                    m: d.model_copy(update={"p_adjusted": adjusted.get((row.name, m))})
                    for m, d in row.differences.items()
                }
            }
        )
        for row in rows
    )


# ---------------------------------------------------------------- text


def plain(sweep: Sweep) -> str:
    """The table as people read it."""
    rows = [[*(_short(k, sweep.keys) for k in sweep.keys), *_titles(sweep)]]
    rows += [[*(str(row.values[k]) for k in sweep.keys), *_cells(row, sweep)] for row in sweep.rows]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    about = f"{sweep.name}: {len(sweep.rows)} points"
    if sweep.system is not None:
        about += f", {sweep.system} on {sweep.questions} questions; with 95 % intervals; ± is the paired difference to the recipe's own value (*), positive is better"
    failed = [f"{_named(row)}: {row.error}" for row in sweep.rows if row.error is not None]
    return "\n".join([about, "", *lines, "", *failed, *sweep.notes])


def _named(row: Row) -> str:
    return ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in row.values.items())


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a key, or as many as tell it from the others."""
    parts = key.split(".")
    for n in range(1, len(parts) + 1):
        short = ".".join(parts[-n:])
        if sum(k == short or k.endswith(f".{short}") for k in keys) == 1:
            return short
    return key


def _titles(sweep: Sweep) -> list[str]:
    names = _training_names(sweep)
    if sweep.system is None:
        return ["", *names, "taken", "score of 4c", "items", "seconds"]
    return ["", *names, *(t for m in sweep.metrics for t in (m, f"± {m}")), "p (Holm)", "seconds"]


def _training_names(sweep: Sweep) -> list[str]:
    return list(dict.fromkeys(k for row in sweep.rows for k in row.training if k.endswith("loss")))


def _cells(row: Row, sweep: Sweep) -> list[str]:
    trained = [f"{row.training[k]:.3f}" if k in row.training else "-" for k in _training_names(sweep)]
    mark = "*" if row.is_own else "failed" if row.error is not None and not row.figures else ""
    seconds = f"{row.seconds:.0f}" if row.seconds is not None else "-"
    if sweep.system is None:
        scores = row.selection.get("scores")
        score = scores.get(row.selected or "") if isinstance(scores, dict) else None
        shown = f"{score:.4f}" if isinstance(score, int | float) else "-"
        return [mark, *trained, row.selected or "-", shown, str(row.selection.get("items", "-")), seconds]
    cells = []
    for metric in sweep.metrics:
        d = row.differences.get(metric)
        cells += [cell(row.figures.get(metric)), "-" if d is None or d.value is None else _shown(d)]
    least = min((d.p_adjusted for d in row.differences.values() if d.p_adjusted is not None), default=None)
    return [mark, *trained, *cells, "-" if least is None else f"{least:.2g}", seconds]


def _shown(difference: Difference) -> str:
    return f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
