"""Gathers the report of documents while the stage goes along: one row a document, then all counts from the rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from fieldwise.prepare.lengths import Lengths
from fieldwise.prepare.quality import Quality
from fieldwise.prepare.redaction import KindCount
from fieldwise.prepare.report import (
    EXACT,
    KEPT,
    Cluster,
    DocumentRow,
    DocumentsReport,
    Group,
    Member,
    PersonalFound,
    PersonalKind,
    Place,
    Way,
    counted,
)
from fieldwise.records import Chunk, Document, Rejection

_KINDS = {
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/epub+zip": "epub",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "message/rfc822": "mail",
    "application/vnd.ms-outlook": "mail",
}  # the part behind the / says it for the others: html, markdown, plain, csv
_PAGE_NOTE = re.compile(r"page (\d+) (has no text layer|has a text layer that cannot be read|is damaged and left out)")
_PAGE_REASONS = {
    "has no text layer": "no text layer",
    "has a text layer that cannot be read": "text layer that cannot be read",
    "is damaged and left out": "damaged",
}
_WEB = re.compile(r"(?:sitemap: )?(https?://.*)", re.IGNORECASE)
_NO_ADDRESS = "not an address"


class Twin(NamedTuple):
    """The earlier document that one repeats most closely; the similarity is 1 where it is the same text."""

    uri: str
    similarity: float


class Survey:
    """Rows of the documents in the order of their names."""

    def __init__(self, actions: Mapping[str, str]) -> None:
        self._actions = actions
        self._rows: list[DocumentRow] = []

    def add(
        self,
        source: Document,
        language: str | None,
        chunks: Sequence[Chunk],
        found: Mapping[str, KindCount],
        outcome: str,
        twin: Twin | None,
    ) -> None:
        """Note a document as it was read, what became of it, and its chunks, which count only if it is kept."""
        gaps = pages_without_text(source)
        way, place = origin_of(source.source.uri, source.source.query)
        row = DocumentRow(
            id=source.id,
            uri=source.source.uri,
            kind=_kind(source.source.media_type),
            bytes=source.source.bytes,
            way=way,
            place=place,
            licence=source.source.licence,
            language=language or "unknown",
            pages=len(source.pages),
            pages_without_text=gaps,
            tables=len(source.tables),
            tokens=sum(chunk.tokens for chunk in chunks),
            chunks=len(chunks),
            personal_data={k: PersonalFound(findings=c.findings, pages=c.pages) for k, c in sorted(found.items())},
            notes=sum(_PAGE_NOTE.fullmatch(note) is None for note in source.notes),
            outcome=outcome,
            copy_of=twin.uri if twin else None,
            similarity=round(twin.similarity, 4) if twin else None,
        )
        self._rows.append(row)

    def report(
        self,
        not_read: Sequence[Rejection],
        left_out: Sequence[Rejection],
        groups: Mapping[str, str],
        quality: Quality,
        documents_sha256: str,
    ) -> DocumentsReport:
        """Return the whole report; `groups` names for each document the first of those it repeats."""
        rows = self._rows
        kept = [row for row in rows if row.outcome == KEPT]
        return DocumentsReport(
            documents_sha256=documents_sha256,
            found=len(not_read) + len(rows),
            not_read=counted(r.reason for r in not_read),
            read=len(rows),
            left_out=counted(r.reason for r in left_out),
            kept=len(kept),
            kinds=_groups(rows, lambda row: row.kind),
            languages=_groups(rows, lambda row: row.language),
            licences=_groups(rows, lambda row: row.licence or "none stated"),
            sources=_places(rows, not_read),
            document_tokens=Lengths.of((row.tokens for row in kept), by_ratio=True),
            chunk_tokens=Lengths.of(quality.token_counts),
            chunk_kinds=dict(sorted(quality.kinds.items())),
            repeated_chunks=sum(n - 1 for n in quality.chunk_texts.values()),
            exact_duplicates=sum(row.outcome == EXACT for row in rows),
            near_duplicates=sum(row.copy_of is not None and row.outcome != EXACT for row in rows),
            clusters=_clusters(rows, groups),
            personal_data=self._personal_data(),
            pages=sum(row.pages for row in rows),
            pages_without_text=_gap_counts(rows),
            tables=sum(row.tables for row in rows),
            items_not_read=tuple(not_read),
            items_left_out=tuple(left_out),
            documents=tuple(rows),
        )

    def _personal_data(self) -> tuple[PersonalKind, ...]:
        findings: Counter[str] = Counter()
        documents: Counter[str] = Counter()
        for row in self._rows:
            for kind, found in row.personal_data.items():
                findings[kind] += found.findings
                documents[kind] += 1
        return tuple(
            PersonalKind(kind=kind, action=self._actions[kind], findings=findings[kind], documents=documents[kind])
            for kind in counted(findings)
        )


# ---------------------------------------------------------------- one document


def pages_without_text(document: Document) -> dict[str, tuple[int, ...]]:
    """Return the pages that gave no text, by reason: what the reader noted of them, and pages that are blank."""
    found: dict[str, list[int]] = {}
    noted: set[int] = set()
    for note in document.notes:
        if match := _PAGE_NOTE.fullmatch(note):
            found.setdefault(_PAGE_REASONS[match[2]], []).append(int(match[1]))
            noted.add(int(match[1]))
    blank = [p.number for p in document.pages if p.number not in noted and not document.text[p.start : p.end].strip()]
    return {reason: tuple(pages) for reason, pages in sorted({**found, **({"blank": blank} if blank else {})}.items())}


def origin_of(uri: str, query: str | None, reason: str = "") -> tuple[Way, str]:
    """Return how something came in, and from where: the search, the host, or the folder below the source.

    >>> origin_of("rules/2024/visits.pdf", None), origin_of("https://a.example/x", None), origin_of("visits.pdf", None)
    (('folder', 'rules'), ('web', 'a.example'), ('folder', ''))
    """
    if query is not None:
        return "search", query
    if address := _WEB.fullmatch(uri):
        try:
            return "web", urlsplit(address[1]).netloc or _NO_ADDRESS
        except ValueError:
            return "web", _NO_ADDRESS
    if reason == "bad_url":
        return "web", _NO_ADDRESS
    return "folder", uri.partition("/")[0] if "/" in uri else ""


def _kind(media_type: str) -> str:
    return _KINDS.get(media_type) or media_type.rpartition("/")[2] or "unknown"


# ---------------------------------------------------------------- all documents


def _groups(rows: Iterable[DocumentRow], name_of: Callable[[DocumentRow], str]) -> tuple[Group, ...]:
    read: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for row in rows:
        read[name_of(row)] += 1
        kept[name_of(row)] += row.outcome == KEPT
    return tuple(Group(name=name, read=read[name], kept=kept[name]) for name in counted(read))


def _places(rows: Iterable[DocumentRow], not_read: Iterable[Rejection]) -> tuple[Place, ...]:
    found: Counter[tuple[Way, str]] = Counter()
    read: Counter[tuple[Way, str]] = Counter()
    kept: Counter[tuple[Way, str]] = Counter()
    for row in rows:
        origin = (row.way, row.place)
        found[origin] += 1
        read[origin] += 1
        kept[origin] += row.outcome == KEPT
    found.update(origin_of(r.item, r.query, r.reason) for r in not_read)
    ordered = sorted(found, key=lambda origin: (("folder", "web", "search").index(origin[0]), -found[origin], origin))
    return tuple(Place(way=o[0], name=o[1], found=found[o], read=read[o], kept=kept[o]) for o in ordered)


def _clusters(rows: Iterable[DocumentRow], groups: Mapping[str, str]) -> tuple[Cluster, ...]:
    sizes = Counter(groups.values())
    members: dict[str, list[Member]] = {}
    for row in rows:
        first = groups.get(row.id)
        if first is not None and sizes[first] > 1:
            member = Member(uri=row.uri, outcome=row.outcome, copy_of=row.copy_of, similarity=row.similarity)
            members.setdefault(first, []).append(member)
    made = [Cluster(kind=_cluster_kind(found), members=tuple(found)) for found in members.values()]
    return tuple(sorted(made, key=lambda c: (-len(c.members), c.members[0].uri)))


def _cluster_kind(members: Iterable[Member]) -> Literal["exact", "near", "both"]:
    exact = {m.outcome == EXACT for m in members if m.copy_of is not None}
    return "both" if len(exact) > 1 else "exact" if exact == {True} else "near"


def _gap_counts(rows: Iterable[DocumentRow]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update({reason: len(pages) for reason, pages in row.pages_without_text.items()})
    return counted(counts)
