"""The report of documents as one HTML file: counts, pictures, and the items behind each count.

It asks nothing of any other place, runs no script and holds no time, so that a run repeated ends in the same bytes.
Names of files, addresses, licences and searches are other people's words and are escaped; findings of personal data
are counted, never shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fieldwise.page.frame import contents, whole
from fieldwise.page.look import STYLE
from fieldwise.page.markup import escape, foreign, label, section, table
from fieldwise.prepare.lengths import Bin, Lengths
from fieldwise.prepare.report import (
    EXACT,
    KEPT,
    Cluster,
    DocumentRow,
    DocumentsReport,
    Group,
    Member,
    PersonalFound,
    Place,
)
from fieldwise.prepare.report_pictures import STYLE as PICTURE_STYLE
from fieldwise.prepare.report_pictures import bar, flow, histogram
from fieldwise.prepare.report_text import documents
from fieldwise.records import Rejection

MOST_ITEMS, MOST_DOCUMENTS, MOST_NAMES, MOST_MEMBERS, MOST_TABLES = 100, 500, 25, 20, 10
_OWN_STYLE = """
.facts { grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1.5rem 2.25rem; align-items: start; }
.barred td { white-space: nowrap; width: 1%; }
.barred tbody th { min-width: 7rem; }
.barred :is(td, th):not(:first-child) { padding-left: .4rem; }
thead th { overflow-wrap: normal; white-space: nowrap; }
.dropped tbody th, .listing tbody th, .slim tbody th { font-weight: 400; min-width: 8.5rem; }
.listing tbody th { min-width: 11rem; }
.dropped td { width: 68%; min-width: 10rem; }
h3 + .scroller caption, #documents caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.listing td { white-space: nowrap; }
.found-kinds { display: inline-block; min-width: 12rem; white-space: normal; }
code { font-family: var(--mono); font-size: .92em; overflow-wrap: normal; }
details { margin-top: .5rem; font-size: .92rem; }
summary { cursor: pointer; color: var(--accent); }
details .scroller { margin-top: .5rem; }
.members { list-style: none; padding: 0; margin-top: .35rem; }
.members li { padding: .15rem 0; }
@media (max-width: 640px) {
  .bar { width: 4.5rem; height: auto; }
  .barred tbody th { min-width: 5rem; }
  .barred :is(td, th) { padding-right: .5rem; }
  thead th { white-space: normal; }
}
@media print {
  details { display: none; }
  .columns { grid-template-columns: 1fr 1fr; gap: 3mm 8mm; }
  thead th { white-space: normal; }
  section > p { break-after: avoid; break-inside: avoid; }
  .dropped td, .dropped tbody th, .listing tbody th, .slim tbody th, .found-kinds { min-width: 0; }
  .listing td { white-space: normal; overflow-wrap: normal; }
  .listing { font-size: 7.5pt; }
}
""" + "".join(f".r{n} tr > :nth-child({n}) {{ text-align: right; }}\n" for n in range(2, 10))
_UNSEEN = '<span class="unseen">{}</span>'


def page(report: DocumentsReport) -> str:
    """Return the whole file."""
    parts = [
        _flow(report),
        _lengths(report),
        _what_they_are(report),
        _duplicates(report),
        _personal_data(report),
        _pages(report),
        _tables(report),
        _all(report),
        _method(),
    ]
    body = "\n".join(part for part in parts if part)
    return whole("Report of documents", _head(report, body), body, STYLE + PICTURE_STYLE + _OWN_STYLE)


def _head(report: DocumentsReport, body: str) -> str:
    facts = [
        ("Found", f"{report.found:,}"),
        ("Not read", f"{sum(report.not_read.values()):,}"),
        ("Left out", f"{sum(report.left_out.values()):,}"),
        ("Kept", f"<b>{report.kept:,}</b>"),
        ("Chunks", f"{report.chunk_tokens.count:,}"),
        ("Tokens", f"{report.chunk_tokens.total:,}"),
    ]
    told = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    told += f'<div class="wide"><dt>Hash of the documents as read (SHA-256)</dt><dd class="hash">{escape(report.documents_sha256)}</dd></div>'
    return (
        '<header>\n<p class="kicker">Fieldwise</p>\n<h1>Report of documents</h1>\n'
        f'<dl class="facts">{told}</dl>\n{contents(body)}\n</header>'
    )


# ---------------------------------------------------------------- what became of them


def _flow(report: DocumentsReport) -> str:
    picture = (
        "<figure><figcaption><b>From found to kept</b>each reason takes its piece off the end</figcaption>"
        f"{flow('picture-flow', report.found, report.not_read, report.left_out)}</figure>"
    )
    rows = [
        [f"<code>{escape(reason)}</code>", f"{count:,}", what]
        for what, counts in (("not read", report.not_read), ("left out", report.left_out))
        for reason, count in counts.items()
    ]
    reasons = (
        table("Reasons", ["Reason", "items", "What happened"], rows, "barred r2")
        if rows
        else "<p>Everything that was found is kept.</p>"
    )
    return section(
        "flow",
        "What came in and what is kept",
        f"<p>{report.found:,} files, folders and addresses were found; {report.read:,} could be read, {report.kept:,} go on to the next stage. "
        "What could not be read was dropped by collect, what is left out by prepare.</p>",
        f'<div class="columns">{picture}<div>{reasons}</div></div>',
        _dropped("What could not be read", report.not_read, report.items_not_read, "1_documents/rejected.jsonl"),
        _dropped("What was left out", report.left_out, report.items_left_out, "2_chunks/rejected.jsonl"),
    )


def _dropped(caption: str, reasons: Mapping[str, int], items: Sequence[Rejection], file: str) -> str:
    """One table, reason by reason, with what is to be said of each item."""
    rows = []
    for reason in reasons:
        told = [r for r in items if r.reason == reason][:MOST_ITEMS]
        marked = f'<span class="note"><code>{escape(reason)}</code></span>'
        rows += [[label(r.item) + marked, foreign(r.detail, "span")] for r in told]
    if not rows:
        return ""
    listed = table(f"{caption}, by reason", ["Item and reason", "Why, and what to do"], rows, "dropped")
    return f"<h3>{caption}</h3>\n{listed}\n{_more(len(items) - len(rows), file)}"


def _more(rest: int, where: str = "report.json") -> str:
    return f'<p class="hint">{rest:,} more stand in <code>{where}</code>.</p>' if rest > 0 else ""


# ---------------------------------------------------------------- lengths


def _lengths(report: DocumentsReport) -> str:
    rows = [
        ["documents", *_spread(report.document_tokens)],
        ["chunks", *_spread(report.chunk_tokens)],
    ]
    kinds = ", ".join(f"{count:,} {escape(kind)}" for kind, count in report.chunk_kinds.items())
    repeated = f" {report.repeated_chunks:,} repeat the words of another." if report.repeated_chunks else ""
    return section(
        "lengths",
        "Lengths",
        f"<p>Tokens are those of the base model's tokenizer, of what is kept. Chunks: {kinds}.{repeated}</p>",
        '<div class="pictures">'
        + _histogram(
            "documents", "Documents by length", "each step about twice the one before", report.document_tokens.histogram
        )
        + _histogram("chunks", "Chunks by length", "all steps of one size", report.chunk_tokens.histogram)
        + "</div>",
        table(
            "Lengths in tokens",
            [_UNSEEN.format("Of what"), "number", "total", "smallest", "5&nbsp;%", "median", "95&nbsp;%", "largest"],
            rows,
            "numbers r2 r3 r4 r5 r6 r7 r8",
        ),
    )


def _spread(lengths: Lengths) -> list[str]:
    told = (
        lengths.count,
        lengths.total,
        lengths.smallest,
        lengths.p5,
        lengths.p50,
        lengths.p95,
        lengths.largest,
    )
    return [f"{value:,}" for value in told]


def _histogram(name: str, title: str, note: str, bins: Sequence[Bin]) -> str:
    rows = [[f"{b.start:,} to {b.end - 1:,}", f"{b.count:,}"] for b in bins]
    return (
        f"<figure><figcaption><b>{title}</b>{note}</figcaption>{histogram(f'picture-{name}', title, bins)}"
        f"<details><summary>The numbers of this picture</summary>{table(title, ['Tokens', 'Number'], rows, 'r2')}</details></figure>"
    )


# ---------------------------------------------------------------- what they are


def _what_they_are(report: DocumentsReport) -> str:
    places = report.sources[:MOST_NAMES]
    rows = [[_place(p), f"{p.found:,}", f"{p.read:,}", f"{p.kept:,}", p.way] for p in places]
    sources = table("Sources", ["From", "found", "read", "kept", "Way"], rows, "barred r2 r3 r4")
    return section(
        "kinds",
        "Kinds, languages, licences, sources",
        '<p class="hint">Of what was read; the strong part of a bar is kept. Files stand under the folder they lie in below their source, '
        "what was fetched under its host, what a search found under its words.</p>",
        '<div class="columns">'
        + _groups("Kinds of files", "Kind", report.kinds)
        + _groups("Languages", "Language", report.languages)
        + _groups("Licences", "Licence", report.licences)
        + f"<div>{sources}{_more(len(report.sources) - len(rows))}</div></div>",
    )


def _groups(caption: str, heading: str, groups: Sequence[Group]) -> str:
    most = max((g.read for g in groups), default=0)
    rows = [[label(g.name), f"{g.read:,}", f"{g.kept:,}", bar(g.kept, g.read, most)] for g in groups[:MOST_NAMES]]
    header = [heading, "read", "kept", _UNSEEN.format("Picture")]
    return f"<div>{table(caption, header, rows, 'barred r2 r3')}{_more(len(groups) - len(rows))}</div>"


def _place(place: Place) -> str:
    if place.way == "folder":
        return label(f"{place.name}/") if place.name else "the source itself"
    return f"“{label(place.name)}”" if place.way == "search" else label(place.name)


# ---------------------------------------------------------------- duplicates


def _duplicates(report: DocumentsReport) -> str:
    if not report.clusters:
        return section("duplicates", "Duplicates", "<p>No document repeats another.</p>")
    chosen = report.clusters[:MOST_ITEMS]
    items = "\n".join(_cluster(cluster) for cluster in chosen)
    return section(
        "duplicates",
        "Duplicates",
        "<p>Documents of one cluster stay on one side of every split, so that no question is asked about what training has read.</p>",
        f'<ul class="counts"><li><b>{report.exact_duplicates:,}</b> exact</li><li><b>{report.near_duplicates:,}</b> near</li><li><b>{len(report.clusters):,}</b> cluster{"s" if len(report.clusters) != 1 else ""}</li></ul>',
        f'<ol class="items">\n{items}\n</ol>',
        _more(len(report.clusters) - len(chosen)),
    )


def _cluster(cluster: Cluster) -> str:
    kind = {"exact": "exact", "near": "near", "both": "exact and near"}[cluster.kind]
    shown = cluster.members[:MOST_MEMBERS]
    members = "".join(f"<li>{_member(member)}</li>" for member in shown)
    return (
        f'<li class="item"><p class="item-head"><b>{documents(len(cluster.members))}</b> <span>{kind}</span></p>'
        f'<ul class="members">{members}</ul>{_more(len(cluster.members) - len(shown))}</li>'
    )


def _member(member: Member) -> str:
    told = "kept" if member.outcome == KEPT else "left out"
    if member.copy_of is not None and member.similarity is not None:
        same = "the same text as" if member.outcome == EXACT else f"{member.similarity:.0%} the same as"
        told += f"; {same} {label(member.copy_of)}"
    return f'{label(member.uri)} <span class="note">{told}</span>'


# ---------------------------------------------------------------- personal data


def _personal_data(report: DocumentsReport) -> str:
    if not report.personal_data:
        return section("personal-data", "Personal data", "<p>None was found.</p>")
    most = max(k.findings for k in report.personal_data)
    kinds = [
        [escape(k.kind), f"{k.findings:,}", f"{k.documents:,}", bar(k.findings, 0, most), escape(k.action)]
        for k in report.personal_data
    ]
    holding = sorted((row for row in report.documents if row.personal_data), key=lambda r: (-_findings(r), r.uri))
    chosen = holding[:MOST_ITEMS]
    rows = [[label(r.uri), f"{_findings(r):,}", _found(r.personal_data), _outcome(r)] for r in chosen]
    return section(
        "personal-data",
        "Personal data",
        f"<p>Found in {len(holding):,} of {documents(report.read)}: what kind, how often, on which pages. The words themselves stand in no report.</p>",
        table("By kind", ["Kind", "found", "documents", _UNSEEN.format("Picture"), "Action"], kinds, "barred r2 r3"),
        "<h3>By document</h3>",
        table(
            "Documents with personal data, the most on top",
            ["Document", "found", "Kinds", "Outcome"],
            rows,
            "listing r2",
        ),
        _more(len(holding) - len(rows), "personal_data.json"),
    )


def _findings(row: DocumentRow) -> int:
    return sum(found.findings for found in row.personal_data.values())


def _found(kinds: Mapping[str, PersonalFound]) -> str:
    parts = []
    for kind, found in kinds.items():
        pages = f" ({_page_word(found.pages)} {ranges(found.pages)})" if found.pages else ""
        parts.append(f"{found.findings:,} {escape(kind)}{pages}")
    return f'<span class="found-kinds">{", ".join(parts)}</span>'


# ---------------------------------------------------------------- pages and tables


def _pages(report: DocumentsReport) -> str:
    told = f"{report.pages:,} pages in {documents(sum(r.pages > 0 for r in report.documents))}"
    scans = report.not_read.get("no_text_layer", 0)
    scanned = (
        f" {scans:,} file{' is a scan' if scans == 1 else 's are scans'} throughout and could not be read."
        if scans
        else ""
    )
    holding = [row for row in report.documents if row.pages_without_text]
    if not holding:
        return section("pages", "Pages without text", f"<p>{told}; every one gave text.{scanned}</p>")
    total = sum(report.pages_without_text.values())
    reasons = ", ".join(f"{count:,} {escape(reason)}" for reason, count in report.pages_without_text.items())
    rows = [[label(r.uri), f"{r.pages:,}", _gaps(r.pages_without_text)] for r in holding[:MOST_ITEMS]]
    return section(
        "pages",
        "Pages without text",
        f"<p>{told}; {total:,} of them gave no text ({reasons}).{scanned} What stands there is not learnt; a program for text recognition (OCR) can add it.</p>",
        table("Documents with pages without text", ["Document", "pages", "Without text"], rows, "slim r2"),
        _more(len(holding) - len(rows)),
    )


def _gaps(pages_of: Mapping[str, Sequence[int]]) -> str:
    return "; ".join(f"{escape(why)}: {_page_word(pages)} {ranges(pages)}" for why, pages in pages_of.items())


def _tables(report: DocumentsReport) -> str:
    holding = sorted((row for row in report.documents if row.tables), key=lambda r: (-r.tables, r.uri))
    if not holding:
        return section("tables", "Tables", "<p>No table was found.</p>")
    most = holding[0].tables
    rows = [[label(r.uri), f"{r.tables:,}", bar(r.tables, 0, most), escape(r.kind)] for r in holding[:MOST_TABLES]]
    return section(
        "tables",
        "Tables",
        f"<p>{report.tables:,} table{'s' if report.tables != 1 else ''} in {documents(len(holding))}; {report.chunk_kinds.get('table', 0):,} chunks hold rows of tables.</p>",
        table("Documents with tables, the most on top", ["Document", "tables", _UNSEEN.format("Picture"), "Kind"], rows, "barred slim r2"),
        _more(len(holding) - len(rows)),
    )  # fmt: skip


# ---------------------------------------------------------------- all documents


def _all(report: DocumentsReport) -> str:
    rows = [
        [
            label(r.uri),
            escape(r.kind),
            escape(r.language),
            f"{r.pages:,}" if r.pages else "-",
            f"{r.tokens:,}",
            f"{r.chunks:,}",
            f"{r.tables:,}",
            f"{_findings(r):,}",
            f"{r.notes:,}",
            _outcome(r),
        ]
        for r in report.documents[:MOST_DOCUMENTS]
    ]
    header = ["Document", "Kind", "Language", "pages", "tokens", "chunks", "tables", "personal", "notes", "Outcome"]
    return section(
        "documents",
        "All documents that were read",
        '<p class="hint">Notes are what the reader left out or mended; they stand in <code>1_documents/provenance.json</code>.</p>',
        table("All documents that were read, by name", header, rows, "listing r4 r5 r6 r7 r8 r9"),
        _more(len(report.documents) - len(rows)),
    )


def _outcome(row: DocumentRow) -> str:
    return "kept" if row.outcome == KEPT else f"left out: <code>{escape(row.outcome)}</code>"


def _page_word(pages: Sequence[int]) -> str:
    return "page" if len(pages) == 1 else "pages"


def ranges(numbers: Sequence[int]) -> str:
    """Return page numbers with runs drawn together.

    >>> ranges([1, 2, 3, 7, 9, 10])
    '1–3, 7, 9–10'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("–".join(map(str, run)) for run in runs)


# ---------------------------------------------------------------- how it was counted


def _method() -> str:
    told = [
        ("Found", "Files, links that lead nowhere, folders that cannot be opened, and addresses."),
        ("Tokens of a document", "The sum over its chunks: chunks do not overlap, and between two of them stand blanks alone."),
        ("Exact duplicate", "The same letters, digits and signs of size in the same order. The first by name stays."),
        ("Near duplicate", "Jaccard similarity of word shingles, from <code>prepare.duplicates.near_threshold</code> on. What is shown is the most similar earlier document."),
        ("Page without text", "What the reader of PDF files says of it, or a page or slide with nothing but blanks."),
        ("Personal data", "Counted in the cleaned text before anything is masked; names that stand alone may be missed."),
    ]  # fmt: skip
    items = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in told)
    return section("method", "How it was counted", f'<dl class="methods">{items}</dl>')
