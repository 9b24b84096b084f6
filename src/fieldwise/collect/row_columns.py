"""Which columns of a data set are the text, the title, the date, the licence and the name of a document.

What the recipe names is taken. Without it columns are told by their names, the text also by being the only text there
is; where two columns could be the same, nothing is guessed.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldwise.collect.settings import RowColumns
from fieldwise.errors import DatasetError

PEEK_ROWS = 100
_NAMES = {
    "text": ("text", "content", "contents", "body", "document", "article", "passage", "full_text", "fulltext", "page_content", "raw_content", "context", "abstract"),
    "title": ("title", "headline", "heading", "subject"),
    "date": ("date", "published", "published_at", "publication_date", "created", "created_at", "timestamp"),
    "licence": ("licence", "license"),
    "id": ("id", "_id", "doc_id", "docid", "document_id", "uuid"),
}  # fmt: skip
_OTHER_NAMES = {name for field, names in _NAMES.items() if field != "text" for name in names}
_SHOWN_COLUMNS = 30
_MISSING = object()


@dataclass(frozen=True)
class Columns:
    """The column of each field; `guessed` are the fields whose column the recipe does not name."""

    text: tuple[str, ...]
    title: str | None
    date: str | None
    licence: str | None
    id: str | None
    guessed: tuple[str, ...]
    unused: tuple[str, ...]

    def explain(self) -> str:
        """Return one line that says what is taken from where."""
        named = {"text": " and ".join(self.text), "title": self.title, "date": self.date, "licence": self.licence, "name": self.id}  # fmt: skip
        used = ", ".join(f"{field} from {column}" for field, column in named.items() if column)
        how = " (guessed; collect.sources.N.columns names others)" if self.guessed else ""
        rest = f"; not used: {', '.join(self.unused[:_SHOWN_COLUMNS])}" if self.unused else ""
        return f"{used}{how}{rest}"


def value_at(row: Mapping[str, Any], column: str) -> Any:
    """Return a value by its column; `a.b` is b inside of a, unless a column is called so; None where there is none."""
    value = _at(row, column)
    return None if value is _MISSING else value


def as_text(value: Any) -> str | None:
    """Return what a value says: numbers and dates as they are written, a list joined; None if it is no text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        parts = [as_text(item) for item in value]
        return None if None in parts else "\n\n".join(part for part in parts if part)
    return None


def find_columns(rows: Sequence[Mapping[str, Any]], wanted: RowColumns, where: str) -> Columns:
    """Return the columns of a data set from its first rows.

    Raises DatasetError for a column that is not there and where more than one could be meant, with the choices.
    """
    there = list(dict.fromkeys(name for row in rows for name in row))
    named = [*wanted.text, *(c for c in (wanted.title, wanted.date, wanted.licence, wanted.id) if c is not None)]
    if missing := [column for column in named if all(_at(row, column) is _MISSING for row in rows)]:
        raise DatasetError(
            f"the column {missing[0]!r} is not there",
            where=where,
            found=_listed(there),
            fix="Name one of these in columns.",
        )
    text = wanted.text or (_guess_text(rows, there, named, where),)
    found: dict[str, str | None] = {field: getattr(wanted, field) for field in ("title", "date", "licence", "id")}
    if not wanted.are_named:
        found = {field: _guess(rows, field, [c for c in there if c not in text], where) for field in found}
    taken = {*text, *(c for c in found.values() if c is not None)}
    guessed = [*(() if wanted.text else ("text",)), *(f for f, c in found.items() if c and getattr(wanted, f) is None)]
    unused = [c for c in there if c not in taken and not any(t.startswith(f"{c}.") for t in taken)]
    return Columns(tuple(text), **found, guessed=tuple(guessed), unused=tuple(unused))


def _at(row: Mapping[str, Any], column: str) -> Any:
    if column in row:
        return row[column]
    outer, dot, inner = column.partition(".")
    inside = row.get(outer) if dot else None
    return _at(inside, inner) if isinstance(inside, dict) else _MISSING


def _guess_text(rows: Sequence[Mapping[str, Any]], there: Sequence[str], named: Sequence[str], where: str) -> str:
    free = [c for c in there if c not in named]
    texts = [c for c in free if _is_texts(rows, c)]
    by_name = [c for c in texts if c.strip().casefold() in _NAMES["text"]]
    best = by_name or [c for c in texts if c.strip().casefold() not in _OTHER_NAMES]
    if len(best) == 1:
        return best[0]
    choices = best or free
    example = f"columns: {{text: {choices[0]}}}" if choices else "columns: {text: NAME}"
    both = f", or {{text: [{choices[0]}, {choices[1]}]}} for one after the other" if len(choices) > 1 else ""
    raise DatasetError(
        "more than one column could be the text" if best else "no column could be the text",
        where=where,
        found=_listed(choices),
        fix=f"Say which: {example}{both}.",
    )


def _guess(rows: Sequence[Mapping[str, Any]], field: str, free: Sequence[str], where: str) -> str | None:
    fitting = [c for c in free if c.strip().casefold() in _NAMES[field]]
    if field == "id":
        fitting = [c for c in fitting if _tells_apart(rows, c)]
    if len(fitting) > 1:
        raise DatasetError(
            f"more than one column could be the {field}",
            where=where,
            found=_listed(fitting),
            fix=f"Say which: columns: {{text: ..., {field}: {fitting[0]}}}. What is not named there is not used.",
        )
    return fitting[0] if fitting else None


def _is_texts(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Text or lists of text in every row that has a value; figures and dates are no text to read."""
    values = [v for row in rows if (v := row.get(column)) is not None]
    return bool(values) and all(
        isinstance(v, str) or (isinstance(v, list) and v and all(isinstance(part, str) for part in v)) for v in values
    ) and not all(isinstance(v, str) and _is_figure(v) for v in values)  # fmt: skip


def _is_figure(text: str) -> bool:
    """What a CSV file holds is all text; a number or a date in figures is none."""
    return not any(character.isalpha() for character in text)


def _tells_apart(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    values = [as_text(row.get(column)) for row in rows]
    return all(values) and len(set(values)) == len(values)


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - _SHOWN_COLUMNS} more" if len(columns) > _SHOWN_COLUMNS else ""
    return ", ".join(columns[:_SHOWN_COLUMNS]) + more or "no columns"
