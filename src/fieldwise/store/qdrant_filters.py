"""Filters of a store as conditions of Qdrant, with the same meaning: what is not there compares false, its `Not` true."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Never

from fieldwise.errors import DatasetError
from fieldwise.store.filters import BUILT_IN, And, Eq, Exists, FieldType, Filter, Not, Or, Range, as_day
from fieldwise.store.protocol import FieldValue

_BOUNDS = {"at_least": "gte", "at_most": "lte", "above": "gt", "below": "lt"}
_KEYS = {"document": "document_id", "chunk": "id"}


class QdrantConditions:
    """Makes conditions; implements `database.Conditions`. `models` is `qdrant_client.models`."""

    def __init__(self, models: Any) -> None:
        self._models = models

    def all(self, *parts: Any) -> Any:
        """Every part holds; true without parts."""
        return self._models.Filter(must=list(parts)) if parts else self._models.Filter(must_not=[self._none])

    def any(self, *parts: Any) -> Any:
        """One of the parts holds; false without parts."""
        return self._models.Filter(should=list(parts)) if parts else self._models.Filter(must=[self._none])

    @property
    def _none(self) -> Any:
        return self._models.HasIdCondition(has_id=[])

    def text(self, key: str, values: Sequence[str]) -> Any:
        """The field has one of these texts."""
        return self._models.FieldCondition(key=key, match=self._models.MatchAny(any=list(values)))

    def number(self, key: str, **bounds: float) -> Any:
        """The field is a number within bounds: gte, gt, lte, lt."""
        return self._models.FieldCondition(key=key, range=self._models.Range(**bounds))

    def numbered(self, numbers: Sequence[int]) -> Any:
        """The point has one of these ids."""
        return self._models.HasIdCondition(has_id=list(numbers))

    def empty(self, key: str) -> Any:
        """The field has no value."""
        return self._models.IsEmptyCondition(is_empty=self._models.PayloadField(key=key))

    def payload_of(self, fields: Mapping[str, FieldValue]) -> dict[str, Any]:
        """Return the fields of a document as they stand in the payload, under names that no path can take apart."""
        return {_key(name): list(v) if isinstance(v, tuple) else v for name, v in fields.items()}

    def of(self, node: Filter, types: Mapping[str, FieldType]) -> Any:
        """Return the condition of a filter that `compile_filter` has found to be sound."""
        if isinstance(node, And):
            return self.all(*(self.of(part, types) for part in node.parts))
        if isinstance(node, Or):
            return self.any(*(self.of(part, types) for part in node.parts))
        if isinstance(node, Not):
            return self._models.Filter(must_not=[self.of(node.part, types)])
        kind, key = types[node.field], _key(node.field)
        if kind == "date" and not isinstance(node, Exists):
            key = f"{key}_day"
        if isinstance(node, Exists):
            return self._models.Filter(must_not=[self.empty(key)])
        if isinstance(node, Range):
            given = {sign: getattr(node, name) for name, sign in _BOUNDS.items() if getattr(node, name) is not None}
            if kind in ("text", "texts"):
                _refuse(node.field)
            return self.number(key, **{sign: _number(kind, value) for sign, value in given.items()})
        values = [node.value] if isinstance(node, Eq) else list(node.values)
        if kind in ("text", "texts"):
            return self.text(key, [str(v) for v in values]) if values else self.any()
        if kind == "truth":
            match = self._models.MatchValue
            return self.any(*(self._models.FieldCondition(key=key, match=match(value=v)) for v in values))
        numbers = [_number(kind, v) for v in values]
        return self.any(*(self.number(key, gte=n, lte=n) for n in numbers))


def _key(name: str) -> str:
    if name in BUILT_IN:
        return _KEYS.get(name, name)
    return f"own_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _number(kind: FieldType, value: Any) -> float:
    return date.fromisoformat(str(as_day(value))).toordinal() if kind == "date" else value


def _refuse(field: str) -> Never:
    raise DatasetError(
        f"a store on Qdrant has no ranges over texts, and {field!r} is one",
        where="range",
        fix="Use eq or in, or keep what is compared as a number.",
    )
