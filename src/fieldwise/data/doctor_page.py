"""The data doctor's report as one HTML page: what was found with its cure, the figures, and rows as training reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fieldwise.data.doctor import Report
from fieldwise.data.findings import Finding
from fieldwise.data.rendering import Piece
from fieldwise.page.frame import contents, whole
from fieldwise.page.look import STYLE
from fieldwise.page.markup import escape, label, section, table

_SHOWN_TOKENS = 1200
_STYLE = (
    STYLE
    + """
.finding { border-left: 4px solid var(--line); padding: .1rem 0 .1rem .9rem; margin-top: 1rem; }
.finding.problem { border-color: var(--error); } .finding.warning { border-color: var(--warning); }
.finding p { margin-top: .2rem; max-width: 46rem; }
.severity { font-weight: 600; text-transform: capitalize; }
.problem .severity { color: var(--error); } .warning .severity { color: var(--warning); }
.tokens { background: var(--sunken); border-radius: 8px; padding: .8rem 1rem; margin-top: .6rem; font: .88rem/1.7 var(--mono); white-space: pre-wrap; }
.tokens mark { background: var(--accent-soft); color: var(--accent); border-bottom: 2px solid var(--accent); }
"""
)


def page(report: Report) -> str:
    """Return the whole page; the same report gives the same bytes."""
    problems = sum(f.severity == "problem" for f in report.findings)
    verdict = f"{problems} problem{'s' if problems != 1 else ''} would spoil a run" if problems else "Fit for training"
    body = "\n".join(
        [
            section("findings", "What was found", *(_findings(report.findings))),
            section("figures", "Figures", *_figures(report)),
            section("rows", "Rows as training reads them", *_rows(report)),
        ]
    )
    head = (
        f'<header><p class="kicker">Data doctor, base {escape(report.base)}</p><h1>{label(report.path)}: {verdict}</h1>'
        f'<p class="hash">{escape(report.version)}</p></header>\n{contents(body)}'
    )
    return whole(f"Data doctor: {report.path}", head, body, _STYLE)


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        yield "<p>Nothing found that would spoil a run.</p>"
    for finding in findings:
        places = ""
        if finding.places:
            more = f" and {finding.count - len(finding.places):,} more" if finding.count > len(finding.places) else ""
            places = f'<p class="hint">At {", ".join(label(p) for p in finding.places)}{more}.</p>'
        yield (
            f'<div class="finding {finding.severity}"><p><span class="severity">{finding.severity}</span>: '
            f"{escape(finding.what)}</p>{places}<p>{escape(finding.fix)}</p></div>"
        )


def _figures(report: Report) -> Iterator[str]:
    counts = [
        [escape(split), f"{c['rows']:,}", f"{c['used']:,}", f"{c['broken']:,}"] for split, c in report.splits.items()
    ]
    yield table("Rows of each split", ("split", "rows", "usable", "broken lines"), counts)
    if report.lengths:
        lengths = [[escape(name), f"{value:,.0f}"] for name, value in report.lengths.items()]
        yield table(f"Tokens of a row; the limit is {report.max_length:,}", ("", "tokens"), lengths)
    for title, found in (
        ("Languages", report.languages),
        ("Kinds", report.kinds),
        ("Labels", report.labels),
        ("Personal data, by kind", report.personal_data),
        ("Rows to look at: may be toxic or unsafe", report.unsafe),
    ):
        if found:
            yield _counted(title, found)
    if report.overlap:
        shares = [[escape(s), f"{o['share']:.1%}", f"{o['same_rows']:,}"] for s, o in report.overlap.items()]
        yield table("Held-out rows against training rows", ("split", "runs of 8 words in train", "rows held"), shares)
    if report.contamination:
        held = [
            [
                label(name),
                f"{c.items:,}",
                f"{len(c.same):,}",
                f"{len(c.by_ngrams):,}",
                "not compared" if c.near is None else f"{len(c.near):,}",
            ]
            for name, c in report.contamination.items()
        ]
        header = ("benchmark", "questions", "word for word", "by runs of 8 words", "in other words")
        yield table("Benchmarks against training rows", header, held)


def _counted(title: str, found: Mapping[str, int]) -> str:
    return table(title, ("", "rows"), [[label(name), f"{count:,}"] for name, count in found.items()])


def _rows(report: Report) -> Iterator[str]:
    if not report.samples:
        yield "<p>No row can be shown: each holds personal data or cannot be rendered.</p>"
        return
    yield "<p>With the template of the base; what is <mark>marked</mark> carries loss, all else is only read.</p>"
    for place, pieces in report.samples:
        learnt = sum(p.carries_loss for p in pieces)
        yield f"<h3>{label(place)}</h3>"
        yield f'<p class="hint">{learnt:,} of {len(pieces):,} tokens carry loss.</p>'
        yield f'<div class="tokens" dir="auto">{_marked(pieces)}</div>'


def _marked(pieces: Sequence[Piece]) -> str:
    shown = pieces
    if len(pieces) > _SHOWN_TOKENS:
        half = _SHOWN_TOKENS // 2
        gap = Piece(f"\n... {len(pieces) - 2 * half:,} tokens ...\n", False)
        shown = [*pieces[:half], gap, *pieces[-half:]]
    text, run, inside = "", "", False
    for piece in shown:
        if piece.carries_loss != inside:
            text += f"<mark>{escape(run)}</mark>" if inside else escape(run)
            run, inside = "", piece.carries_loss
        run += piece.text
    return text + (f"<mark>{escape(run)}</mark>" if inside else escape(run))
