"""The report of documents for a terminal: one line a question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fieldwise.prepare.lengths import Lengths
from fieldwise.prepare.report import DocumentsReport, Group

_MOST_NAMES = 8
_WAYS = {"folder": "folders", "web": "web", "search": "search"}


def plain(report: DocumentsReport) -> str:
    """Return the report as lines with their names in one column."""
    return "\n".join(f"{name:10} {text}" for name, text in _lines(report))


def _lines(report: DocumentsReport) -> Iterator[tuple[str, str]]:
    yield (
        "documents",
        f"{report.found:,} found, {sum(report.not_read.values()):,} not read, {sum(report.left_out.values()):,} left out, {report.kept:,} kept",
    )
    if report.not_read:
        yield "not read", _counts(report.not_read)
    if report.left_out:
        yield "left out", _counts(report.left_out)
    yield "sources", _counts(_ways(report))
    yield "kinds", _groups(report.kinds)
    yield "languages", _groups(report.languages)
    yield "licences", _groups(report.licences)
    yield "chunks", f"{report.chunk_tokens.count:,} ({_counts(report.chunk_kinds)}), {_spread(report.chunk_tokens)}"
    yield "lengths", f"{report.document_tokens.count:,} documents, {_spread(report.document_tokens)}"
    yield "duplicates", _duplicates(report)
    yield "personal", _personal(report)
    yield "pages", _pages(report)
    with_tables = sum(row.tables > 0 for row in report.documents)
    yield "tables", f"{report.tables:,} in {documents(with_tables)}" if report.tables else "none found"


def documents(count: int) -> str:
    """Return a number of documents in words.

    >>> documents(1), documents(2000)
    ('1 document', '2,000 documents')
    """
    return f"{count:,} document{'s' if count != 1 else ''}"


def _ways(report: DocumentsReport) -> dict[str, int]:
    found: dict[str, int] = {}
    for place in report.sources:
        found[_WAYS[place.way]] = found.get(_WAYS[place.way], 0) + place.found
    return found


def _groups(groups: Iterable[Group]) -> str:
    return _counts({group.name: group.read for group in groups})


def _counts(counts: Mapping[str, int]) -> str:
    named = [f"{_safe(name)} {count:,}" for name, count in counts.items()]
    rest = len(named) - _MOST_NAMES
    return ", ".join(named[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _spread(lengths: Lengths) -> str:
    return (
        f"{lengths.total:,} tokens: smallest {lengths.smallest:,}, median {lengths.p50:,}, "
        f"p95 {lengths.p95:,}, largest {lengths.largest:,}"
    )


def _duplicates(report: DocumentsReport) -> str:
    if not report.clusters:
        return "none found"
    clusters = f"{len(report.clusters):,} cluster{'s' if len(report.clusters) != 1 else ''}"
    return f"{report.exact_duplicates:,} exact, {report.near_duplicates:,} near, in {clusters}"


def _personal(report: DocumentsReport) -> str:
    if not report.personal_data:
        return "none found"
    kinds = _counts({f"{k.kind} ({k.action})": k.findings for k in report.personal_data})
    return f"{kinds} in {documents(sum(bool(row.personal_data) for row in report.documents))}"


def _pages(report: DocumentsReport) -> str:
    if not report.pages:
        return "no document has pages"
    if not report.pages_without_text:
        return f"{report.pages:,}, all with text"
    without = sum(bool(row.pages_without_text) for row in report.documents)
    return f"{report.pages:,}; without text {_counts(report.pages_without_text)} in {documents(without)}"


def _safe(text: str) -> str:
    """A name that others gave, without signs that steer a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
