"""What differs between two adapters: settings, data, figures question by question, and the weights, module by module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, JsonValue

from fieldwise.adapters.factors import read_updates
from fieldwise.adapters.methods import chained, differences
from fieldwise.adapters.registry import Entry, Held, Registry
from fieldwise.errors import FieldwiseError
from fieldwise.evaluate.baseline import Measured, read_measured, same_questions
from fieldwise.evaluate.report import compare
from fieldwise.evaluate.statistics import holm
from fieldwise.records import Difference, Record

_COMPARED = ("token_f1", "overall_f1", "bits_per_byte")
_SAMPLES = 2000


class Changed(Record):
    """One setting that differs; None where a side does not have it."""

    key: str
    first: JsonValue
    second: JsonValue


class DataChange(Record):
    """How what both were trained on differs; counts of examples or pairs by their content."""

    first: str | None
    second: str | None
    common: int
    only_first: int
    only_second: int


class Compared(Record):
    """A paired difference, second minus first, on the same questions; positive is better."""

    metric: str
    first_system: str
    second_system: str
    difference: Difference


class ModuleChange(Record):
    """Frobenius norms of both updates of a module and of their difference, and the cosine between them."""

    module: str
    first: float
    second: float
    difference: float
    cosine: float | None


class AdapterDifference(Record):
    """Everything that differs between two adapters."""

    first: Entry
    second: Entry
    settings: tuple[Changed, ...]
    data: DataChange
    metrics: tuple[Compared, ...] = ()
    no_metrics: str | None = Field(None, description="why no figures are compared")
    weights: tuple[ModuleChange, ...] = ()
    no_weights: str | None = Field(None, description="why no weights are compared")
    is_chained: bool = Field(False, description="weights count with what was merged into their bases before")


def difference(registry: Registry, first: Held, second: Held) -> AdapterDifference:
    """Compare two adapters; what cannot be compared is left out with its reason."""
    metrics, no_metrics = _metrics(first, second)
    weights, no_weights, is_chained = _weights(registry, first, second)
    seen, other = set(first.example_ids), set(second.example_ids)
    return AdapterDifference(
        first=first.entry,
        second=second.entry,
        settings=tuple(_changes(_settings(first), _settings(second), "")),
        data=DataChange(
            first=first.entry.data,
            second=second.entry.data,
            common=len(seen & other),
            only_first=len(seen - other),
            only_second=len(other - seen),
        ),
        metrics=metrics,
        no_metrics=no_metrics,
        weights=weights,
        no_weights=no_weights,
        is_chained=is_chained,
    )


def _settings(held: Held) -> dict[str, Any]:
    parts = held.manifest.parts
    return {k: parts.get(k) for k in ("seed", "settings", "libraries", "code")} | {"method": held.entry.method}


def _changes(first: Any, second: Any, path: str) -> Iterator[Changed]:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second}):
            yield from _changes(first.get(key), second.get(key), f"{path}.{key}" if path else key)
    elif first != second:
        yield Changed(key=path.removeprefix("settings."), first=first, second=second)


# ---------------------------------------------------------------- figures


def _metrics(first: Held, second: Held) -> tuple[tuple[Compared, ...], str | None]:
    pairs = _systems(first.entry, second.entry)
    if not pairs:
        return (), "they were not both measured in the same way"
    if not (first.entry.is_standing and second.entry.is_standing):
        return (), "the answers of a superseded adapter no longer stand in its run; its figures are in show"
    made: list[Compared] = []
    for one, other in pairs:
        try:
            before, after = (
                read_measured(first.run, one, first.entry.run),
                read_measured(second.run, other, second.entry.run),
            )
            made += _paired(before, after, one, other)
        except FieldwiseError as error:
            return (), str(error)
    adjusted = holm([c.difference.p if c.difference.p is not None else 1.0 for c in made])
    return tuple(
        c.model_copy(update={"difference": c.difference.model_copy(update={"p_adjusted": p})})
        for c, p in zip(made, adjusted, strict=True)
    ), None


def _systems(first: Entry, second: Entry) -> list[tuple[str, str]]:
    """Systems of both that are alike: with retrieval, or without."""
    pairs = []
    for with_passages in (True, False):
        one, other = (
            next((s for s in e.metrics if s.startswith("rag_") == with_passages), None) for e in (first, second)
        )
        if one is not None and other is not None:
            pairs.append((one, other))
    return pairs


def _paired(before: Measured, after: Measured, one: str, other: str) -> Iterator[Compared]:
    order = same_questions(after.baseline.items, before.baseline, before.baseline.run)
    for metric in _COMPARED:
        new = after.baseline.scored(metric, range(len(after.baseline.items)))
        old = before.baseline.scored(metric, order)
        if new is None or old is None:
            continue
        found = compare(new, old, after.clusters, _SAMPLES, after.baseline.seed)
        if found.value is not None:
            yield Compared(metric=metric, first_system=one, second_system=other, difference=found)


# ---------------------------------------------------------------- weights


def _weights(registry: Registry, first: Held, second: Held) -> tuple[tuple[ModuleChange, ...], str | None, bool]:
    same_base = first.entry.base_sha256 == second.entry.base_sha256
    if not same_base and first.entry.root_sha256 != second.entry.root_sha256:
        return (), "they stand on different bases", False
    try:
        sides = [
            chained([read_updates(h.files) for h in (registry.chain(held) if not same_base else [held])])
            for held in (first, second)
        ]
        found = differences(*sides)
    except FieldwiseError as error:
        return (), str(error), False
    return tuple(ModuleChange(**m._asdict()) for m in found), None, not same_base
