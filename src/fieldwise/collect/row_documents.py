"""Rows of data sets as documents, one after the other: each with its name, its hash and where it stands.

Nothing is held but what tells names apart: rows stream from their file into the table of documents, what is refused
into the list of rejections, and what is known of each into `rows.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.collect import media
from fieldwise.collect.archive import MAX_RATIO
from fieldwise.collect.builder import TextBuilder, one_line
from fieldwise.collect.names import title_from_name
from fieldwise.collect.plain import add_plain
from fieldwise.collect.row_columns import as_text, value_at
from fieldwise.collect.row_sets import RowSet
from fieldwise.collect.sources import shown
from fieldwise.errors import DatasetError, DocumentError
from fieldwise.hashing import sha256_text
from fieldwise.progress import say, track
from fieldwise.records import Document, Rejection, Source
from fieldwise.rows.reading import Broken, Note, Row

_MAX_ID_CHARS = 200
_MAX_FACT_CHARS = 300
_MARKUP = {"markdown": media.MARKDOWN, "html": media.HTML}

ReadText = Callable[[str, str], Document]
"""Reads a text of a media type as a file of that type would be read; raises DocumentError."""


class _Taken(NamedTuple):
    """A row as a document, and what stands in rows.jsonl of it."""

    document: Document
    entry: dict[str, JsonValue]


class RowCollector:
    """Turns row sets into documents; `counts` says how many of each set, `reasons` why others were refused."""

    def __init__(
        self,
        licence: str | None,
        max_text_bytes: int,
        max_unpacked_bytes: int,
        read_text: ReadText,
        taken: Path,
        refused: Path,
    ) -> None:
        self._licence, self._max_text_bytes, self._read_text = licence, max_text_bytes, read_text
        self._max_unpacked_bytes = max_unpacked_bytes
        self._taken_path, self._refused_path = taken, refused
        self._names: dict[bytes, int] = {}
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.first: Rejection | None = None

    def documents(self, sets: list[RowSet]) -> Iterator[Document]:
        """Yield the documents of all sets in their order.

        Raises DatasetError for a set of which no row can be used: that is a mistake in the recipe and not in a row.
        """
        with self._taken_path.open("w", encoding="utf-8") as taken, self._refused_path.open("w", encoding="utf-8") as refused:  # fmt: skip
            for rows in sets:
                say(f"   {rows.name}: {shown(rows.columns.explain())}")
                self._names.clear()
                self.first = None
                _ = rows.sha256  # of what stands there before its rows are read
                for item in self._read(rows):
                    if isinstance(item, Rejection):
                        self.reasons[item.reason] += 1
                        self.first = self.first or item
                        _write(refused, item.model_dump(mode="json"))
                    else:
                        self.counts[rows.name] += 1
                        _write(taken, item.entry)
                        yield item.document
                rows.require_unchanged()
                self._require_some(rows)

    def _require_some(self, rows: RowSet) -> None:
        if not self.counts[rows.name]:
            raise DatasetError(
                "no row could be used",
                where=f"collect.sources: {rows.source.label}",
                found=self.first.detail if self.first else "no rows",
                fix="Check which columns are taken: collect.sources.N.columns.",
            )

    def _read(self, rows: RowSet) -> Iterator[_Taken | Rejection]:
        """Yield each row as a document or as what was refused, until the limit of the source is reached."""
        notes: list[str] = []
        left = rows.source.limit
        room = self._most_bytes(rows)
        for item in track(rows.read(), "rows"):
            if isinstance(item, Note):
                notes.append(item.text)
                continue
            try:
                if isinstance(item, Broken):
                    raise DocumentError(
                        "the row is broken", reason="bad_row", found=item.reason, fix="Mend it or take it out."
                    )
                found = self._document(rows, item, tuple(notes))
            except DocumentError as error:
                where = f"{rows.unit.capitalize()} {item.number}"
                yield Rejection(
                    stage="collect", item=f"{rows.name}#{item.number}", reason=error.reason, detail=f"{where}: {error}"
                )
            else:
                yield found
                left = left and left - 1
                room -= found.document.source.bytes or 0
                if left == 0:
                    return
                if room < 0:
                    yield self._unpacks_too_much(rows, item.number)
                    return
            notes = []

    def _most_bytes(self, rows: RowSet) -> float:
        """How much text may come out of a file: a few kilobytes of Parquet can hold one text ten thousand times."""
        packed = rows.path.stat().st_size if rows.path is not None else math.inf
        return max(self._max_unpacked_bytes, MAX_RATIO * packed)

    def _unpacks_too_much(self, rows: RowSet, number: int) -> Rejection:
        error = DocumentError(
            f"the rows after {rows.unit} {number} are left out: the file unpacks to too much",
            reason="zip_bomb",
            found=f"more than {MAX_RATIO} times its size",
            fix="If you trust it, raise collect.max_unpacked_mb.",
        )
        return Rejection(stage="collect", item=rows.name, reason=error.reason, detail=str(error))

    # ------------------------------------------------------------ one row

    def _document(self, rows: RowSet, row: Row, notes: tuple[str, ...]) -> _Taken:
        columns, values = rows.columns, row.values
        text = self._text(rows, values)
        identifier = _fact(values, columns.id)
        uri = f"{rows.name}#{shown(identifier)[:_MAX_ID_CHARS] if identifier else row.number}"
        self._require_new(uri, rows, row)
        read = self._structured(rows, text)
        sha256 = _hash(values)
        date = _fact(values, columns.date)
        source = Source(
            uri=uri,
            media_type=rows.media_type,
            sha256=sha256,
            bytes=len(text.encode("utf-8", "replace")),
            licence=_fact(values, columns.licence) or self._licence or rows.licence,
            date=date,
        )
        title = _fact(values, columns.title) or read.title or f"{title_from_name(rows.name)}, {rows.unit} {row.number}"
        document = Document.make(
            title=title,
            text=read.text,
            source=source,
            pages=read.pages,
            headings=read.headings,
            tables=read.tables,
            notes=(*notes, *read.notes),
        )
        entry: dict[str, JsonValue] = {"uri": uri, "source": rows.name, rows.unit: row.number, "id": identifier, "sha256": sha256, "licence": source.licence, "date": date}  # fmt: skip
        return _Taken(document, entry)

    def _text(self, rows: RowSet, values: dict[str, Any]) -> str:
        parts: list[str] = []
        for column in rows.columns.text:
            part = as_text(value_at(values, column))
            if part is None:
                raise DocumentError(
                    f"the column {column!r} holds no text",
                    reason="not_text",
                    found=type(value_at(values, column)).__name__,
                    fix="Name a column of texts, or one inside of it, such as context.passages.",
                )
            parts.append(part)
        text = "\n\n".join(part for part in parts if part.strip())
        if not text.strip():
            raise DocumentError(
                "there is no text in it",
                reason="no_text",
                found=f"nothing in {' and '.join(rows.columns.text)}",
                fix="Fill it in, or take the row out.",
            )
        if len(text) > self._max_text_bytes:
            raise DocumentError(
                "the text is too large",
                reason="too_large",
                found=f"{len(text) / 1e6:.1f} million characters",
                fix="Split it, or raise collect.max_file_mb.",
            )
        return text

    def _require_new(self, uri: str, rows: RowSet, row: Row) -> None:
        """Names are kept as eight bytes each, so that millions of rows have room."""
        key = hashlib.sha256(uri.encode("utf-8", "replace")).digest()[:8]
        first = self._names.setdefault(key, row.number)
        if first != row.number:
            raise DocumentError(
                "another row has this name",
                reason="duplicate_id",
                found=f"{one_line(uri.partition('#')[2])[:80]} in {rows.unit} {first} as well",
                fix="Give each row a name of its own, or leave id out of columns: then the line is its name.",
            )

    def _structured(self, rows: RowSet, text: str) -> Document:
        if rows.source.markup in _MARKUP:
            return self._read_text(text, _MARKUP[rows.source.markup])
        builder = TextBuilder()
        add_plain(builder, text)
        read = builder.document(Source(uri=""))
        if not read.text:
            raise DocumentError(
                "there is no text in it", reason="no_text", found="control characters", fix="Take the row out."
            )
        return read


def _fact(values: dict[str, Any], column: str | None) -> str | None:
    """A short text of a row on one line; None where the column is not taken or holds none."""
    text = as_text(value_at(values, column)) if column is not None else None
    return one_line(text)[:_MAX_FACT_CHARS] or None if text else None


def _hash(values: dict[str, Any]) -> str:
    """The hash of all a row says, whatever the order of its columns."""
    return sha256_text(json.dumps(values, sort_keys=True, separators=(",", ":"), default=str))


def _write(stream: Any, entry: dict[str, JsonValue]) -> None:
    stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
