"""Words of a stored original, and what is told of one that is not there; the same for every store."""

from __future__ import annotations

from fieldwise.errors import DatasetError
from fieldwise.records import Document
from fieldwise.store.protocol import GoneError, Quote


def quote_of(document: Document, version: int, start: int, end: int) -> Quote:
    """Return the words between two positions; raises DatasetError for a span that is not within the document."""
    if not 0 <= start < end <= len(document.text):
        raise DatasetError(
            "the span is not within the document",
            where=document.source.uri,
            found=f"{start} to {end} of {len(document.text)} characters",
        )
    return Quote(
        document.text[start:end],
        start,
        end,
        document.id,
        document.source.uri,
        document.title,
        version,
        document.page_at(start),
    )


def unknown(document_id: str) -> DatasetError:
    """Return the error that says that a document was never there, as far as who asks may know."""
    return DatasetError("there is no such document", found=document_id, fix="Take the id from a search.")


def gone(document_id: str, kind: str, generation: int | None = None) -> GoneError:
    """Return the error that says what became of a document, `kind` being how it went: delete or replace."""
    return GoneError(
        "the document was deleted" if kind == "delete" else "the document was replaced by a newer version",
        found=document_id if generation is None else f"{document_id} until generation {generation}",
        fix="Search again: passages change with the documents.",
    )
