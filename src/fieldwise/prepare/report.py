"""The report of documents as a record: what came in, what became of each item, what the documents are.

Nothing in it is the word of a document: names of files and addresses, kinds, counts and pages alone. No stage reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import ValidationError

from fieldwise.errors import RunError
from fieldwise.files import read_json
from fieldwise.prepare.lengths import Lengths
from fieldwise.records import Record, Rejection
from fieldwise.run import RunFolder

REPORT, PAGE = "2_chunks/report.json", "2_chunks/report.html"
KEPT, EXACT = "kept", "exact_duplicate"
Way = Literal["folder", "web", "search"]


class Group(Record):
    """How many of the documents that were read have something in common, such as a language, and how many are kept."""

    name: str
    read: int
    kept: int


class Place(Record):
    """What became of all that came from one folder below a source, one host of the web, or one search."""

    way: Way
    name: str
    found: int
    read: int
    kept: int


class PersonalKind(Record):
    """One kind of personal data in all documents that were read."""

    kind: str
    action: str
    findings: int
    documents: int


class PersonalFound(Record):
    """One kind of personal data in one document: how often, and on which pages where there are pages."""

    findings: int
    pages: tuple[int, ...] = ()


class DocumentRow(Record):
    """One document that was read; `outcome` is "kept" or the reason why it was left out."""

    id: str
    uri: str
    kind: str
    bytes: int
    way: Way
    place: str
    licence: str | None
    language: str
    pages: int
    pages_without_text: dict[str, tuple[int, ...]]
    tables: int
    tokens: int
    chunks: int
    personal_data: dict[str, PersonalFound]
    notes: int
    outcome: str
    copy_of: str | None = None
    similarity: float | None = None


class Member(Record):
    """A document of a cluster; `copy_of` names the earlier one it repeats, with similarity 1 word for word."""

    uri: str
    outcome: str
    copy_of: str | None
    similarity: float | None


class Cluster(Record):
    """Documents that repeat one another, the first by name on top."""

    kind: Literal["exact", "near", "both"]
    members: tuple[Member, ...]


class DocumentsReport(Record):
    """All of it. `found` is `read` and what `not_read` counts by reason; `read` is `kept` and what `left_out` counts."""

    documents_sha256: str
    found: int
    not_read: dict[str, int]
    read: int
    left_out: dict[str, int]
    kept: int
    kinds: tuple[Group, ...]
    languages: tuple[Group, ...]
    licences: tuple[Group, ...]
    sources: tuple[Place, ...]
    document_tokens: Lengths
    chunk_tokens: Lengths
    chunk_kinds: dict[str, int]
    repeated_chunks: int
    exact_duplicates: int
    near_duplicates: int
    clusters: tuple[Cluster, ...]
    personal_data: tuple[PersonalKind, ...]
    pages: int
    pages_without_text: dict[str, int]
    tables: int
    items_not_read: tuple[Rejection, ...]
    items_left_out: tuple[Rejection, ...]
    documents: tuple[DocumentRow, ...]


def read_report(run: RunFolder) -> DocumentsReport:
    """Return the report of a run; raises DatasetError where prepare has not run, RunError for another file."""
    path = run.require(REPORT, made_by="prepare")
    try:
        return DocumentsReport.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise RunError(
            "not a report of documents that this version reads",
            where=path,
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            fix=f"Make it anew: fieldwise prepare --run {run.path}",
        ) from error


def counted(names: Iterable[str] | Counter[str]) -> dict[str, int]:
    """Return how often each name stands there, or is counted already, the most frequent first, equal ones by name."""
    return dict(sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0])))
