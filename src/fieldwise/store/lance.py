"""A database of points in LanceDB, on this disk or in an object store, for `points.PointStore`.

Terms are made here, by the language of each document, and indexed as they are; LanceDB ranks by BM25. Rows that came
since the index was last brought up to date are looked at one by one, so every so many changes it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.extras import require
from fieldwise.retrieve.lexical import HEADER_WEIGHT
from fieldwise.store.database import Kind, Row
from fieldwise.store.filters import BUILT_IN, And, Eq, Exists, FieldType, Filter, Not, Or, Range, as_day
from fieldwise.store.points import PointStore
from fieldwise.store.protocol import FieldValue
from fieldwise.store.words import terms_in

_CHANGES_BETWEEN_TIDYING = 100
_FOLDED_AWAY = timedelta(minutes=10)  # older states of tables; a search takes far less
_KEYS = {"document": "document_id", "chunk": "id"}
_LISTS = {"groups", "heading"}
_BOUNDS = {"at_least": ">=", "at_most": "<=", "above": ">", "below": "<"}
_SIGNS = {"gte": ">=", "lte": "<=", "gt": ">", "lt": "<"}


class LanceStore(PointStore):
    """A store below a name in a database of LanceDB; `database` is what `lancedb.connect` returns."""

    def __init__(
        self, database: Any, name: str, *, dimensions: int = 384, language: str = "english", writes: bool = True
    ) -> None:
        super().__init__(LancePoints(database, name), dimensions=dimensions, language=language, writes=writes)


def open_lance(place: str, name: str = "fieldwise", **more: Any) -> LanceStore:
    """Open a store at a place: a folder, or an address such as s3://bucket/path."""
    lancedb = require("lancedb", extra="lancedb", to="keep a store in LanceDB")
    return LanceStore(lancedb.connect(place, read_consistency_interval=timedelta(0)), name, **more)


class LancePoints:
    """Three tables below a name; implements `database.Points`."""

    def __init__(self, database: Any, name: str) -> None:
        self._arrow = require("pyarrow", extra="lancedb", to="keep a store in LanceDB")
        self._query = require("lancedb.query", extra="lancedb", to="keep a store in LanceDB")
        self._database = database
        self._names: dict[str, str] = {part: f"{name}_{part}" for part in ("chunks", "documents", "state")}
        self._tables: dict[str, Any] = {}
        self._changes = 0
        self.conditions = LanceConditions()

    def _table(self, part: str) -> Any:
        if part not in self._tables:
            self._tables[part] = self._database.open_table(self._names[part])
        return self._tables[part]

    def state(self) -> dict[str, Any] | None:
        """Return the state; None where there is no store."""
        if self._names["state"] not in self._database.table_names(limit=10_000):
            return None
        rows = self._table("state").search().limit(1).to_list()
        return json.loads(rows[0]["state"]) if rows else None

    def create(self, dimensions: int) -> None:
        """Make the tables; the state comes last, so that a store that was begun is begun again."""
        a = self._arrow
        text, number, texts = a.string(), a.int64(), a.list_(a.string())
        shared = {"number": number, "id": text, "tenant": text, "uri": text, "title": text, "language": text, "licence": text, "version": number, "groups": texts, "added": number, "removed": number, "fields": text, "valid_from": text, "valid_until": text, "kind": text}  # fmt: skip
        chunks = {"document": number, "document_id": text, "valid_from_day": number, "valid_until_day": number, "chunk": text, "page": number, "tokens": number, "heading": texts, "body": text, "header": text, "vector": a.list_(a.float32(), dimensions)}  # fmt: skip
        documents = {"structure": text, "text": text, "content": text, "chunks": number, "characters": number}
        for part, columns in (
            ("chunks", shared | chunks),
            ("documents", shared | documents),
            ("state", {"state": text}),
        ):
            made = self._database.create_table(
                self._names[part], schema=a.schema(list(columns.items())), mode="overwrite"
            )
            self._tables[part] = made
        self._index()

    def _index(self) -> None:
        settings = {"with_position": False, "base_tokenizer": "whitespace", "stem": False, "lower_case": False, "remove_stop_words": False, "ascii_folding": False}  # fmt: skip
        for column in ("body", "header"):
            self._table("chunks").create_fts_index(column, replace=True, **settings)

    def write_state(self, state: dict[str, Any]) -> None:
        """Write the state: one version of its table."""
        rows = self._arrow.table({"state": [json.dumps(state)]})
        self._tables["state"] = self._database.create_table(self._names["state"], rows, mode="overwrite")
        self._changes += 1
        if self._changes % _CHANGES_BETWEEN_TIDYING == 0:
            self.tidy()

    def tidy(self) -> None:
        """Bring the indexes up to date, join small files, and drop old states of the tables."""
        for part in ("chunks", "documents"):
            self._table(part).optimize(cleanup_older_than=_FOLDED_AWAY)

    def add(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows."""
        if not rows:
            return
        table = self._table(kind)
        if kind == "chunks":
            self._widen(table, rows[0].payload)
        names = set(table.schema.names)
        values = []
        for row in rows:
            value = {name: v for name, v in row.payload.items() if name in names} | {"number": row.number}
            if kind == "chunks":
                value |= {
                    "body": _coded(row.language, terms_in(row.language, row.body)),
                    "header": _coded(row.language, terms_in(row.language, row.header)),
                    "vector": None if row.vector is None else row.vector.tolist(),
                }
            values.append(value)
        numbers = [row.number for row in rows]
        table.delete(f"number >= {min(numbers)} AND number <= {max(numbers)}")  # of a change that failed halfway
        table.add(self._arrow.Table.from_pylist(values, schema=table.schema))

    def _widen(self, table: Any, payload: Mapping[str, Any]) -> None:
        """Make a column for each field that no document has brought before."""
        a, known = self._arrow, set(table.schema.names)
        new = []
        for name, value in payload.items():
            if name.startswith("own_") and name not in known:
                kinds: list[tuple[type, Any]] = [(bool, a.bool_()), (int, a.float64()), (float, a.float64()), (list, a.list_(a.string()))]  # fmt: skip
                new.append(a.field(name, next((kind for made, kind in kinds if isinstance(value, made)), a.string())))
        if new:
            table.add_columns(new)

    def change(self, kind: Kind, payload: Mapping[str, Any], where: Any) -> None:
        """Set columns of rows."""
        if self._table(kind).count_rows(where):
            self._table(kind).update(where=where, values=dict(payload))

    def remove(self, kind: Kind, where: Any) -> None:
        """Delete rows; their words leave the disk when the table is next tidied."""
        if self._table(kind).count_rows(where):
            self._table(kind).delete(where)

    def scroll(self, kind: Kind, where: Any, most: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield numbers and rows in the order of numbers."""
        table = self._table(kind)
        count = table.count_rows(where)
        if not count:
            return
        found = table.search().where(where).select(["number"]).limit(count).to_arrow()["number"].to_pylist()
        wanted = sorted(found)[:most]
        columns = [n for n in table.schema.names if n not in ("vector", "body", "header")]
        for begin in range(0, len(wanted), 500):
            part = wanted[begin : begin + 500]
            rows = table.search().where(self.conditions.numbered(part)).select(columns).limit(len(part)).to_list()
            for row in sorted(rows, key=lambda row: row["number"]):
                yield int(row["number"]), row

    def count(self, kind: Kind, where: Any, *, embedded: bool = False) -> int:
        """Return how many rows there are."""
        return int(self._table(kind).count_rows(f"({where}) AND vector IS NOT NULL" if embedded else where))

    def by_words(self, terms: Mapping[str, Sequence[str]], where: Any, count: int) -> dict[int, float]:
        """Return the best chunks by BM25."""
        words = " ".join(_coded(name, found) for name, found in terms.items())
        asked = self._query.MultiMatchQuery(words, ["body", "header"], boosts=[1.0, HEADER_WEIGHT])
        search = self._table("chunks").search(asked, query_type="fts").where(where, prefilter=True)
        rows = search.select(["number", "_score"]).limit(count).to_list()
        return {int(row["number"]): float(row["_score"]) for row in rows}

    def by_vector(self, unit: NDArray[np.float32], where: Any, count: int) -> dict[int, float]:
        """Return the nearest chunks."""
        search = self._table("chunks").search(unit, vector_column_name="vector").distance_type("cosine")
        search = search.where(f"({where}) AND vector IS NOT NULL", prefilter=True)
        rows = search.select(["number", "_distance"]).limit(count).to_list()
        return {int(row["number"]): 1 - float(row["_distance"]) for row in rows}

    def vectors(self, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return vectors of chunks."""
        where = f"{self.conditions.numbered(numbers)} AND vector IS NOT NULL"
        rows = self._table("chunks").search().where(where).select(["number", "vector"]).limit(len(numbers)).to_list()
        return {int(row["number"]): np.array(row["vector"], np.float32) for row in rows}

    def close(self) -> None:
        """Let go of the tables."""
        self._tables.clear()


class LanceConditions:
    """Makes conditions as SQL; implements `database.Conditions`. What is not there compares false, its `Not` true."""

    def all(self, *parts: str) -> str:
        """Every part holds."""
        return "(" + " AND ".join(parts) + ")" if parts else "true"

    def any(self, *parts: str) -> str:
        """One of the parts holds."""
        return "(" + " OR ".join(parts) + ")" if parts else "false"

    def text(self, key: str, values: Sequence[str], *, is_list: bool | None = None) -> str:
        """The column has one of these texts, or is a list with one of them."""
        if not values:
            return "false"
        listed = ", ".join(map(_quoted, values))
        if is_list or (is_list is None and key in _LISTS):
            return f"COALESCE(array_has_any({key}, make_array({listed})), false)"
        return f"COALESCE({key} IN ({listed}), false)"

    def number(self, key: str, **bounds: float) -> str:
        """The column is a number within bounds."""
        return self.all(*(f"COALESCE({key} {_SIGNS[sign]} {value!r}, false)" for sign, value in bounds.items()))

    def numbered(self, numbers: Sequence[int]) -> str:
        """The row has one of these numbers."""
        return f"number IN ({', '.join(str(int(n)) for n in numbers)})" if numbers else "false"

    def empty(self, key: str) -> str:
        """The column has no value."""
        return f"{key} IS NULL"

    def payload_of(self, fields: Mapping[str, FieldValue]) -> dict[str, Any]:
        """Return the fields of a document as they stand in columns."""
        return {_column(name): list(v) if isinstance(v, tuple) else v for name, v in fields.items()}

    def of(self, node: Filter, types: Mapping[str, FieldType]) -> str:
        """Return the condition of a filter that `compile_filter` has found to be sound."""
        if isinstance(node, And):
            return self.all(*(self.of(part, types) for part in node.parts))
        if isinstance(node, Or):
            return self.any(*(self.of(part, types) for part in node.parts))
        if isinstance(node, Not):
            return f"(NOT {self.of(node.part, types)})"
        kind, key = types[node.field], _column(node.field)
        if isinstance(node, Exists):
            return f"COALESCE(array_length({key}) > 0, false)" if kind == "texts" else f"({key} IS NOT NULL)"
        if kind == "date":
            key = f"{key}_day"
        if isinstance(node, Range):
            given = [(sign, getattr(node, name)) for name, sign in _BOUNDS.items() if getattr(node, name) is not None]
            if kind == "texts":
                return self._any_between(key, [(sign, str(value)) for sign, value in given])
            return self.all(*(f"COALESCE({key} {sign} {_literal(kind, value)}, false)" for sign, value in given))
        values = [node.value] if isinstance(node, Eq) else list(node.values)
        if kind == "texts":
            return self.text(key, [str(v) for v in values], is_list=True)
        listed = ", ".join(_literal(kind, v) for v in values)
        return f"COALESCE({key} IN ({listed}), false)" if values else "false"

    def _any_between(self, key: str, bounds: list[tuple[str, str]]) -> str:
        from fieldwise.errors import DatasetError

        raise DatasetError(
            "a store in LanceDB has no ranges over lists of texts", where="range", found=f"{len(bounds)} bounds on {key}",
            fix="Use eq or in.",
        )  # fmt: skip


def _column(name: str) -> str:
    return _KEYS.get(name, name) if name in BUILT_IN else f"own_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literal(kind: FieldType, value: Any) -> str:
    if kind == "date":
        return str(date.fromisoformat(str(as_day(value))).toordinal())
    if kind == "truth":
        return "true" if value else "false"
    return repr(value) if kind == "number" else _quoted(str(value))


def _coded(name: str, terms: Sequence[str]) -> str:
    """Terms of a language as words that nothing can take apart."""
    return " ".join(hashlib.sha256(f"{name}\0{term}".encode()).hexdigest()[:12] for term in terms)
