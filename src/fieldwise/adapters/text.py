"""Adapters as people read them in a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

from fieldwise.adapters.difference import AdapterDifference, ModuleChange
from fieldwise.adapters.lineage import Taught
from fieldwise.adapters.registry import Entry, MergedAdapter
from fieldwise.evaluate.table import cell
from fieldwise.records import Interval

T = TypeVar("T")
_LISTED = "overall_f1"
_SHOWN = ("exact_match", "token_f1", "overall_f1", "bits_per_byte", "abstention", "false_decline")


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Align rows of text; the first row is the header."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def listing(entries: Sequence[Entry]) -> str:
    """One line an adapter; the figure is F1 with declines over passages, else without."""
    if not entries:
        return "No adapter stands in these runs."
    rows = [["id", "run", "name", "method", "rank/alpha", "trained on", "data", "F1 with declines", "status"]]
    for e in entries:
        rows.append(
            [
                e.id,
                e.run,
                e.name,
                e.method,
                f"{e.lora.rank}/{e.lora.alpha:g}" if e.lora else "-",
                f"{e.examples} examples" if e.examples else f"{len(e.parents)} adapters",
                e.data or "-",
                cell(headline(e)),
                ", ".join(e.status),
            ]
        )
    return columns(rows)


def headline(entry: Entry, metric: str = _LISTED) -> Interval | None:
    """The figure of an adapter's systems with passages, else of those without."""
    for figures in sorted(entry.metrics.items(), key=lambda f: not f[0].startswith("rag_")):
        if metric in figures[1]:
            return figures[1][metric]
    return None


def details(entry: Entry, seen: Taught, dependents: Sequence[str], merge: MergedAdapter | None) -> str:
    """Everything about one adapter."""
    lora = entry.lora
    lines = [
        f"{entry.id}  {entry.run}:{entry.name}  {', '.join(entry.status)}",
        f"method     {entry.method}",
        f"base       {entry.base} ({entry.base_sha256[:12]})",
        *(f"stands on  {parent}" for parent in entry.parents if merge is None),
        f"update     {lora.variant}, rank {lora.rank}, alpha {lora.alpha:g}, {', '.join(lora.targets)}" if lora else "",
        f"recipe     {entry.recipe_hash[:12]}",
    ]
    if merge is not None:
        lines += [f"part       {p.weight:+g} x {' + '.join((*p.chain, p.adapter))}" for p in merge.parts]
        lines.append(f"error      {merge.error:.2%} of the exact weighted sum (Frobenius)")
        if merge.weights is not None:
            lines.append(
                f"weights    {merge.weights}, {merge.weights_dtype}, rounding {merge.weights_rounding or 0:.2%}"
            )
    if entry.data is not None:
        lines.append(f"data       {entry.data}")
    kinds = ", ".join(f"{n} {kind}" for kind, n in seen.kinds.items())
    lines.append(
        f"taught     {seen.examples} examples of {len(seen.documents)} documents" + (f": {kinds}" if kinds else "")
    )
    if seen.found < seen.examples:
        lines.append(f"           {seen.examples - seen.found} of them are no longer held by these runs")
    lines += [f"           {question}" for question in seen.sample]
    if entry.training:
        lines.append("training   " + ", ".join(f"{k} {v:.3f}" for k, v in entry.training.items()))
    if entry.selection is not None:
        lines.append(
            f"choice     {entry.selection.metric} {entry.selection.score:.3f} on {entry.selection.items} items"
        )
    lines += [f"needed by  {reason}" for reason in dependents]
    text = "\n".join(line for line in lines if line)
    return f"{text}\n\n{figures(entry)}" if entry.metrics else f"{text}\nNot measured: stage 4d has no report of it."


def figures(entry: Entry) -> str:
    """The measured figures with their intervals, one row a metric."""
    shown = [m for m in _SHOWN if any(m in f and f[m].value is not None for f in entry.metrics.values())]
    rows = [["", *entry.metrics]]
    rows += [[m, *(cell(f.get(m)) for f in entry.metrics.values())] for m in shown]
    return columns(rows)


# ---------------------------------------------------------------- difference


def told_difference(found: AdapterDifference, *, every: bool) -> str:
    """What differs between two adapters."""
    first, second = found.first, found.second
    lines = [
        f"first      {first.id}  {first.run}:{first.name}",
        f"second     {second.id}  {second.run}:{second.name}",
        "",
    ]
    lines += [f"{c.key}: {c.first} -> {c.second}"[:160] for c in found.settings] or ["the same settings"]
    data = found.data
    versions = "the same data" if data.first == data.second else f"data {data.first} -> {data.second}"
    lines += [
        "",
        f"{versions}: {data.common} examples in common, {data.only_first} only in the first, {data.only_second} only in the second",
        "",
    ]
    if found.no_metrics is not None:
        lines.append(f"Figures are not compared: {found.no_metrics}")
    else:
        rows = [["second less first", "systems", "difference", "p (Holm)"]]
        for c in found.metrics:
            d, systems = c.difference, (c.first_system, c.second_system)
            named = systems[0] if len(set(systems)) == 1 else " -> ".join(systems)
            rows.append(
                [c.metric, named, f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}] n={d.n}", f"{d.p_adjusted:.2g}"]
            )
        lines.append(columns(rows))
    lines.append("")
    if found.no_weights is not None:
        lines.append(f"Weights are not compared: {found.no_weights}")
    else:
        below = ", with what was merged into the bases before" if found.is_chained else ""
        lines += [f"Frobenius norms of the updates{below}", _changes(found.weights, every=every)]
    return "\n".join(lines)


def _changes(modules: Sequence[ModuleChange], *, every: bool) -> str:
    if every:
        rows = [["module", "first", "second", "difference", "cosine"]]
        for m in modules:
            cosine = "-" if m.cosine is None else f"{m.cosine:+.3f}"
            rows.append([m.module, f"{m.first:.4g}", f"{m.second:.4g}", f"{m.difference:.4g}", cosine])
        return columns(rows)
    rows = [["module", "count", "first", "second", "difference", "largest in"]]
    for kind, group in _by_kind({m.module: m for m in modules}).items():
        largest = max(group, key=lambda m: m.difference)
        norms = [sum(getattr(m, side) ** 2 for m in group) ** 0.5 for side in ("first", "second", "difference")]
        rows.append([kind, str(len(group)), *(f"{n:.4g}" for n in norms), largest.module])
    return columns(rows) + "\nOne line a kind of module, norms over its layers; --all shows each."


def _by_kind(modules: Mapping[str, T]) -> dict[str, list[T]]:
    kinds: dict[str, list[T]] = {}
    for name, value in modules.items():
        kinds.setdefault(name.rpartition(".")[2], []).append(value)
    return kinds


# ---------------------------------------------------------------- merges


def told_merge(record: MergedAdapter, place: str, *, every: bool, was_there: bool) -> str:
    """What was merged, how far it lies from the exact sum, and how to use it."""
    parts = [[f"{p.weight:+g}", " + ".join((*p.chain, p.adapter))] for p in record.parts]
    lines = [
        f"{record.id}  {record.name}: {record.method} of {len(record.parts)}, rank {record.rank}"
        + (", was there already" if was_there else ""),
        *("  ".join(p) for p in parts),
        "",
        "Relative error against the exact weighted sum (Frobenius)",
        _errors(record.errors, record.error, every=every),
        "",
        f"Adapter:   {place}/{record.path}  (PEFT loads it on {record.base})",
    ]
    if record.method == "linear" and record.error > 0.1:
        lines.insert(1, "  Means of factors of separate trainings mix what does not belong together: cat is exact.")
    if record.weights is not None:
        lines.append(
            f"Weights:   {place}/{record.weights}  ({record.weights_dtype}; rounding took {record.weights_rounding or 0:.2%} of the update)"
        )
    return "\n".join(lines)


def _errors(errors: Mapping[str, float], overall: float, *, every: bool) -> str:
    rows = [["module", "error"]] if every else [["module", "median", "largest", "in"]]
    if every:
        rows += [[m, f"{e:.6f}"] for m, e in errors.items()]
    else:
        for kind, names in _by_kind({m: m for m in errors}).items():
            worst = max(names, key=lambda m: errors[m])
            median = statistics.median(errors[m] for m in names)
            rows.append([kind, f"{median:.6f}", f"{errors[worst]:.6f}", worst])
    rows.append(["all", f"{overall:.6f}", *([] if every else ["", ""])])
    return columns(rows)


def told_methods(found: Mapping[str, float | str]) -> str:
    """The error of every method side by side."""
    rows = [["method", "error against the exact weighted sum (Frobenius)"]]
    rows += [[m, e if isinstance(e, str) else f"{e:.6f}"] for m, e in found.items()]
    return columns(rows)
