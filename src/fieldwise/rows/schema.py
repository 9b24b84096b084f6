"""Which format the columns of a data set speak.

Columns are matched by name; where two columns could be the same field, or two formats fit and neither reads more of the
columns, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldwise.errors import DatasetError
from fieldwise.rows.formats import FIELDS, FORMATS, Format, Item
from fieldwise.rows.values import first_keys, truth_of, whole

MAP = "--map"
KINDS = ("kind", "category", "task", "type", "label")
_SHAREGPT_KEYS = {"from", "value"}


@dataclass(frozen=True)
class Schema:
    """The format found, the column of each field, and the columns that are not used."""

    format: Format
    columns: dict[str, str]
    unused: tuple[str, ...]
    kind_column: str | None

    def explain(self) -> str:
        """Return one line that says what was found and from which columns."""
        used = ", ".join(f if f == c else f"{f} (column {c})" for f, c in self.columns.items())
        rest = f"; not used: {', '.join(self.unused)}" if self.unused else ""
        return whole(f"{self.format.name}, from the columns {used}{rest}")

    def item(self, values: Mapping[str, Any]) -> Item:
        """Return a row as an item; raises RowFault when it cannot be one."""
        item = self.format.item({field: values.get(column) for field, column in self.columns.items()})
        if self.kind_column is None:
            return item
        kind = values.get(self.kind_column)
        return Item(**{**vars(item), "kind": None if kind is None else whole(str(kind))[:60]})


def parse_map(pairs: Sequence[str]) -> dict[str, str]:
    """Return `field=column` pairs as a mapping from field to column.

    >>> parse_map(["question=frage"])
    {'question': 'frage'}
    """
    found: dict[str, str] = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        field, column = field.strip(), column.strip()
        if not equals or not column or field not in FIELDS or field in found:
            what = "a field is mapped twice" if field in found else "this is no mapping of a field to a column"
            raise DatasetError(
                what,
                where=MAP,
                found=pair,
                fix=f"Write field=column, such as question=frage; fields: {', '.join(FIELDS)}.",
            )
        found[field] = column
    return found


def find_schema(rows: Sequence[Mapping[str, Any]], mapped: Mapping[str, str], where: Path, option: str = MAP) -> Schema:
    """Return the schema of a data set from its first rows; raises DatasetError when none or more than one fits.

    `option` is what the user names columns with: a flag, or a key of the recipe.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if missing := [column for column in mapped.values() if column not in columns]:
        raise DatasetError(
            f"the column {missing[0]!r} of {option} is not there",
            where=where,
            found=", ".join(columns),
            fix="Name one of these columns.",
        )
    kind_column = mapped.get("kind")
    wanted = {field: column for field, column in mapped.items() if field != "kind"}
    fitting = [
        (fmt, candidates)
        for fmt in FORMATS
        if set(wanted) <= set(fmt.fields)
        and (candidates := _candidates(fmt, columns, wanted)) is not None
        and _values_fit(fmt, candidates, rows)
    ]
    best = _widest(fitting)
    if not best:
        raise DatasetError(
            "the columns fit no format", where=where, found=", ".join(columns), fix=_how_to_map(wanted, option)
        )
    fields = {field: names for _, candidates in best for field, names in candidates.items()}
    if len(best) > 1 or any(len(names) > 1 for names in fields.values()):
        raise _ambiguous(best, where, option)
    fmt, candidates = best[0]
    taken = {field: names[0] for field, names in candidates.items() if names}
    rest = [c for c in columns if c not in taken.values()]
    kind_column = kind_column or next((c for c in rest if c.casefold() in KINDS), None)
    return Schema(fmt, taken, tuple(c for c in rest if c != kind_column), kind_column)


_Candidates = dict[str, list[str]]


def _candidates(fmt: Format, columns: Sequence[str], wanted: Mapping[str, str]) -> _Candidates | None:
    """The columns that could be each field; None when a needed field has none."""
    found: _Candidates = {}
    for name, field in fmt.fields.items():
        if name in wanted:
            found[name] = [wanted[name]]
            continue
        free = [c for c in columns if c not in wanted.values()]
        found[name] = [c for c in free if c.strip().casefold() in field.names]
        if field.is_needed and not found[name]:
            return None
    return found


def _values_fit(fmt: Format, candidates: _Candidates, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Names alone do not tell ShareGPT from chat, nor a KTO label from a topic: the values of the first rows do."""
    if fmt.name in ("chat", "sharegpt"):
        field = next(iter(fmt.fields))
        return (fmt.name == "sharegpt") == any(
            first_keys(row.get(column)) >= _SHAREGPT_KEYS for row in rows for column in candidates[field]
        )
    if fmt.name == "kto":
        labels = [v for row in rows if (v := row.get(candidates["label"][0])) is not None]
        return any(truth_of(v) is not None for v in labels)
    return True


def _widest(fitting: list[tuple[Format, _Candidates]]) -> list[tuple[Format, _Candidates]]:
    """The formats whose columns are not all read, with others, by another one; of equal sets the first."""
    used = [frozenset(c for names in candidates.values() for c in names) for _, candidates in fitting]
    return [
        entry
        for n, entry in enumerate(fitting)
        if not any(used[n] < other or (used[n] == other and k < n) for k, other in enumerate(used) if k != n)
    ]


def _written(option: str, columns: Mapping[str, str]) -> str:
    """A mapping as the user would write it."""
    if option.startswith("--"):
        return " ".join(f"{option} {field}={column}" for field, column in columns.items())
    return f"{option}: {{{', '.join(f'{field}: {column}' for field, column in columns.items())}}}"


def _ambiguous(best: list[tuple[Format, _Candidates]], where: Path, option: str) -> DatasetError:
    candidates = best[0][1]
    doubled = next(((f, names) for f, names in candidates.items() if len(names) > 1), None)
    if len(best) == 1 and doubled is not None:
        field, names = doubled
        return DatasetError(
            f"more than one column could be the {field}",
            where=where,
            found=" and ".join(names),
            fix=f"Say which with {' or '.join(_written(option, {field: name}) for name in names)}.",
        )
    told = " and ".join(f"{f.name} ({', '.join(c for names in found.values() for c in names)})" for f, found in best)
    hints = [_written(option, {field: found[field][0]}) for _, found in best for field in [_telling(found, best)]]
    return DatasetError(
        "the columns fit more than one format", where=where, found=told, fix=f"Say which with {' or '.join(hints)}."
    )


def _telling(found: _Candidates, best: list[tuple[Format, _Candidates]]) -> str:
    """A field that only this format has, else its first."""
    others = [set(f.fields) for f, candidates in best if candidates is not found]
    return next(
        (name for name, names in found.items() if names and not any(name in o for o in others)), next(iter(found))
    )


def _how_to_map(wanted: Mapping[str, str], option: str) -> str:
    shapes = "; ".join(
        f"{f.name}: {', '.join(n if field.is_needed else f'[{n}]' for n, field in f.fields.items())}"
        for f in FORMATS[1:]
    )
    if wanted:
        return f"Map every field the format needs. Formats: {shapes}."
    return (
        f"Name the columns, such as {_written(option, {'question': 'frage', 'answer': 'antwort'})}. Formats: {shapes}."
    )
