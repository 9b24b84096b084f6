"""Filters as typed nodes. They are compiled to SQL for the allowed chunks, which are known before anything is ranked.

Logic is two-valued: a comparison with a field that a document does not have is false, and its `Not` is true. A field
with several values equals a value if one of them does.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError

Scalar = str | int | float | bool | date
FieldType = Literal["text", "texts", "number", "truth", "date"]

MAX_NODES = 500
_MAX_DEPTH = 40
_MAX_INTEGER = 2**53  # beyond it, whole numbers and floats no longer compare exactly


@dataclass(frozen=True)
class Eq:
    """The field has this value."""

    field: str
    value: Scalar


@dataclass(frozen=True)
class In:
    """The field has one of these values; none of none."""

    field: str
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if isinstance(self.values, list):
            object.__setattr__(self, "values", tuple(self.values))


@dataclass(frozen=True)
class Range:
    """The field lies between the bounds that are given."""

    field: str
    at_least: Scalar | None = None
    at_most: Scalar | None = None
    above: Scalar | None = None
    below: Scalar | None = None


@dataclass(frozen=True)
class Exists:
    """The field has a value."""

    field: str


@dataclass(frozen=True)
class And:
    """Every part holds; true without parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """One of the parts holds; false without parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter = Eq | In | Range | Exists | And | Or | Not

# field -> (type, SQL expression over documents `d` and chunks `c`)
DOCUMENT_FIELDS: dict[str, tuple[FieldType, str]] = {
    "document": ("text", "d.id"),
    "uri": ("text", "d.uri"),
    "title": ("text", "d.title"),
    "language": ("text", "d.language"),
    "licence": ("text", "d.licence"),
    "version": ("number", "d.version"),
    "valid_from": ("date", "d.valid_from"),
    "valid_until": ("date", "d.valid_until"),
}
CHUNK_FIELDS: dict[str, tuple[FieldType, str]] = {
    "chunk": ("text", "c.id"),
    "page": ("number", "c.page"),
    "kind": ("text", "c.kind"),
    "tokens": ("number", "c.tokens"),
    "heading": ("texts", "c.heading_path"),
}
BUILT_IN = {**DOCUMENT_FIELDS, **CHUNK_FIELDS}
_BOUNDS = {"at_least": ">=", "at_most": "<=", "above": ">", "below": "<"}


class Condition(NamedTuple):
    """SQL with its parameters; `is_of_chunks` if it needs the table of chunks."""

    sql: str
    parameters: tuple[str | int | float, ...]
    is_of_chunks: bool


def compile_filter(wanted: Filter, own_fields: Mapping[str, FieldType]) -> Condition:
    """Return the condition that a filter stands for; `own_fields` are those the documents of the tenant bring.

    Raises DatasetError for an unknown field (with the nearest name), a value of a wrong type, and a filter too large.

    >>> compile_filter(Eq("licence", "MIT"), {}).sql
    'COALESCE(d.licence = ?, 0)'
    """
    _check_size(wanted)
    return _compile(wanted, own_fields)


def _compile(node: Filter, own: Mapping[str, FieldType]) -> Condition:
    if isinstance(node, And | Or):
        parts = [_compile(part, own) for part in node.parts]
        word, empty = (" AND ", "1") if isinstance(node, And) else (" OR ", "0")
        sql = "(" + word.join(part.sql for part in parts) + ")" if parts else empty
        return Condition(sql, tuple(p for c in parts for p in c.parameters), any(c.is_of_chunks for c in parts))
    if isinstance(node, Not):
        part = _compile(node.part, own)
        return Condition(f"NOT {part.sql}", part.parameters, part.is_of_chunks)
    kind = _type_of(node.field, own)
    comparison, parameters = _comparison(node, kind)
    if node.field not in BUILT_IN:
        column = "number" if kind in ("number", "truth") else "text"
        sql = f"d.number IN (SELECT document FROM facets WHERE name = ? AND {comparison.format(column)})"
        return Condition(sql, (node.field, *parameters), False)
    column, is_of_chunks = BUILT_IN[node.field][1], node.field in CHUNK_FIELDS
    if kind == "texts":
        sql = f"EXISTS (SELECT 1 FROM json_each({column}) WHERE {comparison.format('value')})"
    else:
        sql = f"COALESCE({comparison.format(column)}, 0)"
    return Condition(sql, parameters, is_of_chunks)


def _comparison(node: Eq | In | Range | Exists, kind: FieldType) -> tuple[str, tuple[str | int | float, ...]]:
    """The comparison with {0} for what is compared."""
    if isinstance(node, Exists):
        return "{0} IS NOT NULL", ()
    if isinstance(node, Eq):
        return "{0} = ?", (_value(node.field, node.value, kind),)
    if isinstance(node, In):
        if isinstance(node.values, str) or not isinstance(node.values, tuple | list):
            raise DatasetError(
                f"the filter `in` on {node.field!r} needs a list of values", found=repr(node.values)[:80]
            )
        values = [_value(node.field, value, kind) for value in node.values]
        return "{0} IN (SELECT value FROM json_each(?))", (json.dumps(values),)
    if kind == "truth":
        raise DatasetError(f"the field {node.field!r} is true or false and has no range", fix="Use eq.")
    given = [(sign, value) for name, sign in _BOUNDS.items() if (value := getattr(node, name)) is not None]
    if not given:
        raise DatasetError(f"the range on {node.field!r} has no bound", fix="Give at_least, at_most, above or below.")
    sql = " AND ".join(f"{{0}} {sign} ?" for sign, _ in given)
    return sql, tuple(_value(node.field, value, kind) for _, value in given)


def _type_of(field: str, own: Mapping[str, FieldType]) -> FieldType:
    if field in BUILT_IN:
        return BUILT_IN[field][0]
    if field in own:
        return own[field]
    known = sorted({*BUILT_IN, *own})
    near = difflib.get_close_matches(str(field), known, 1, 0.5)
    raise DatasetError(
        "the filter names a field that no document has",
        found=repr(field)[:80],
        fix=f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known)}.",
    )


def _value(field: str, value: object, kind: FieldType) -> str | int | float:
    if kind == "truth" and isinstance(value, bool):
        return int(value)
    if kind == "number" and is_number(value):
        return value  # type: ignore[return-value]
    if kind in ("text", "texts") and isinstance(value, str):
        return storable(value, f"the filter on {field!r}")
    if kind == "date":
        day = as_day(value)
        if day is not None:
            return day
    wanted = {"truth": "true or false", "number": "a number", "date": "a day such as 2026-01-31"}.get(kind, "a text")
    raise DatasetError(f"the field {field!r} is compared with {wanted}", found=repr(value)[:80])


def is_number(value: object) -> bool:
    """Tell whether a value is a number that can be stored and compared exactly."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and (isinstance(value, float) or abs(value) <= _MAX_INTEGER)


def as_day(value: object) -> str | None:
    """Return a day as YYYY-MM-DD, or None if the value is none."""
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, date):
        return None
    return f"{value.year:04d}-{value.month:02d}-{value.day:02d}"


def storable(text: str, where: str) -> str:
    """Return a text that can be stored and compared; raises DatasetError for half characters and character 0."""
    if "\0" in text:
        raise DatasetError("the text holds the character 0", where=where, found=repr(text[:40]))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(
            "the text is not valid Unicode", where=where, found=repr(text[error.start : error.start + 1])
        ) from error
    return text


def _check_size(wanted: Filter) -> None:
    count, level = 0, [wanted]
    for _ in range(_MAX_DEPTH):
        count += len(level)
        following: list[Filter] = []
        for node in level:
            if not isinstance(node, Eq | In | Range | Exists | And | Or | Not):
                raise DatasetError(
                    "a filter is made of Eq, In, Range, Exists, And, Or and Not", found=type(node).__name__
                )
            following += node.parts if isinstance(node, And | Or) else [node.part] if isinstance(node, Not) else []
        level = following
        if not level and count <= MAX_NODES:
            return
    raise DatasetError(
        f"the filter is too large: more than {MAX_NODES} parts or {_MAX_DEPTH} levels", fix="Use `in` with a list."
    )


# ---------------------------------------------------------------- as JSON


def parse_filter(value: JsonValue) -> Filter:
    """Return the filter of a JSON value: {"and": [...]}, {"or": [...]}, {"not": {...}} or a comparison of a field.

    >>> parse_filter({"not": {"field": "year", "range": {"at_least": 2020}}})
    Not(part=Range(field='year', at_least=2020, at_most=None, above=None, below=None))
    >>> parse_filter({"field": "licence", "in": ["MIT", "CC0"]})
    In(field='licence', values=('MIT', 'CC0'))
    """
    return _parse(value, 0)


def _parse(value: JsonValue, depth: int) -> Filter:
    if depth >= _MAX_DEPTH:
        raise DatasetError(f"the filter has more than {_MAX_DEPTH} levels")
    if not isinstance(value, dict):
        raise _unreadable(value)
    match value:
        case {"and": list(parts)} if len(value) == 1:
            return And(tuple(_parse(part, depth + 1) for part in parts))
        case {"or": list(parts)} if len(value) == 1:
            return Or(tuple(_parse(part, depth + 1) for part in parts))
        case {"not": dict(part)} if len(value) == 1:
            return Not(_parse(part, depth + 1))
        case {"field": str(field), "eq": str() | int() | float() | bool() as wanted} if len(value) == 2:
            return Eq(field, wanted)
        case {"field": str(field), "in": list(values)} if len(value) == 2:
            return In(field, tuple(_scalar(v) for v in values))
        case {"field": str(field), "exists": True} if len(value) == 2:
            return Exists(field)
        case {"field": str(field), "exists": False} if len(value) == 2:
            return Not(Exists(field))
        case {"field": str(field), "range": dict(bounds)} if len(value) == 2 and bounds and not {*bounds} - {*_BOUNDS}:
            return Range(field, **{name: _scalar(bound) for name, bound in bounds.items()})
    raise _unreadable(value)


def _scalar(value: JsonValue) -> Scalar:
    if not isinstance(value, str | int | float):
        raise _unreadable(value)
    return value


def _unreadable(value: JsonValue) -> DatasetError:
    return DatasetError(
        "this is no filter",
        found=json.dumps(value)[:120],
        fix='Write {"field": "licence", "eq": "MIT"}, with in, range (at_least, at_most, above, below) or exists '
        'in place of eq; join with {"and": [...]}, {"or": [...]} and {"not": {...}}.',
    )
