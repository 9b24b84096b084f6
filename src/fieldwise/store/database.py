"""What a database of vectors has to do to keep a store of points; see `points.PointStore` for what is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldwise.store.filters import FieldType, Filter
from fieldwise.store.protocol import FieldValue

Kind = Literal["chunks", "documents"]


class Row(NamedTuple):
    """A row to write: of a chunk with its words and maybe a vector, or of a document with neither."""

    number: int
    payload: dict[str, Any]
    language: str = ""
    body: str = ""
    header: str = ""
    vector: NDArray[np.float32] | None = None


class Conditions(Protocol):
    """Makes conditions in the database's own language."""

    def all(self, *parts: Any) -> Any:
        """Every part holds; true without parts."""
        ...

    def any(self, *parts: Any) -> Any:
        """One of the parts holds; false without parts."""
        ...

    def text(self, key: str, values: Sequence[str]) -> Any:
        """The field has one of these texts, or is a list with one of them."""
        ...

    def number(self, key: str, **bounds: float) -> Any:
        """The field is a number within bounds: gte, gt, lte, lt."""
        ...

    def numbered(self, numbers: Sequence[int]) -> Any:
        """The row has one of these numbers."""
        ...

    def empty(self, key: str) -> Any:
        """The field has no value."""
        ...

    def payload_of(self, fields: Mapping[str, FieldValue]) -> dict[str, Any]:
        """Return the fields of a document as they stand in a row."""
        ...

    def of(self, node: Filter, types: Mapping[str, FieldType]) -> Any:
        """Return the condition of a filter that `compile_filter` has found to be sound."""
        ...


class Points(Protocol):
    """A database that keeps rows of two kinds, chunks and documents, and one state."""

    @property
    def conditions(self) -> Conditions:
        """What makes conditions for it."""
        ...

    def state(self) -> dict[str, Any] | None:
        """Return the state; None where there is no store."""
        ...

    def create(self, dimensions: int) -> None:
        """Make what rows are kept in."""
        ...

    def write_state(self, state: dict[str, Any]) -> None:
        """Write the state in one step that cannot be torn."""
        ...

    def add(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows; those of the same numbers are replaced."""
        ...

    def change(self, kind: Kind, payload: Mapping[str, Any], where: Any) -> None:
        """Set parts of the payload of rows."""
        ...

    def remove(self, kind: Kind, where: Any) -> None:
        """Delete rows."""
        ...

    def scroll(self, kind: Kind, where: Any, most: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield numbers and payloads in the order of numbers."""
        ...

    def count(self, kind: Kind, where: Any, *, embedded: bool = False) -> int:
        """Return how many rows there are, or how many with a vector."""
        ...

    def by_words(self, terms: Mapping[str, Sequence[str]], where: Any, count: int) -> dict[int, float]:
        """Return the best chunks by BM25 for the terms of each language; only those with a term."""
        ...

    def by_vector(self, unit: NDArray[np.float32], where: Any, count: int) -> dict[int, float]:
        """Return the nearest chunks with their cosine."""
        ...

    def vectors(self, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return vectors of chunks."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...
