"""The data doctor's report for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fieldwise.data.doctor import Report
from fieldwise.data.rendering import Piece

_SAMPLE_TOKENS = 400
_LOSS_ON, _LOSS_OFF = "\033[7m", "\033[0m"
_PLAIN_ON, _PLAIN_OFF = "⟦", "⟧"


def plain(report: Report, *, colour: bool = False) -> str:
    """Return the report as text; tokens with loss are inverted with `colour`, else they stand in ⟦ ⟧."""
    return "\n".join([*_head(report), *_figures(report), "", *_sample(report, colour), "", *_verdict(report)])


def _head(report: Report) -> Iterator[str]:
    yield f"{report.path}, base {report.base}"
    yield f"version    {report.version}"
    explained = set(report.explanation.values())
    if len(explained) == 1:
        yield f"format     {_safe(explained.pop())}"
    else:
        yield from (f"format     {split}: {_safe(text)}" for split, text in report.explanation.items())


def _figures(report: Report) -> Iterator[str]:
    for split, counts in report.splits.items():
        broken = f", {counts['broken']:,} broken lines" if counts["broken"] else ""
        yield f"rows       {split} {counts['rows']:,}, usable {counts['used']:,}{broken}"
    yield from (f"broken     {b['file']}:{b['line']} {b['reason']}" for b in report.broken)
    if report.lengths:
        told = ", ".join(f"{name} {value:,.0f}" for name, value in report.lengths.items())
        yield f"tokens     {told}; limit {report.max_length}"
    for name, counts in (
        ("language", report.languages),
        ("kinds", report.kinds),
        ("labels", report.labels),
        ("personal", report.personal_data),
        ("look at", report.unsafe),
    ):
        if counts:
            usable = sum(c["used"] for c in report.splits.values())
            looked = sum(counts.values())
            of = f" (of {looked:,} rows looked at)" if name == "language" and looked < usable else ""
            yield f"{name:10} {_counted(counts)}{of}"
    for split, overlap in report.overlap.items():
        yield f"overlap    {overlap['share']:.1%} of the 8-word runs of {split} stand in train"
    for name, found in report.contamination.items():
        yield f"against    {name}: {len(found.seen):,} of {found.items:,} questions stand in the training rows"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{_safe(name)} {count:,}" for name, count in counts.items())


def _sample(report: Report, colour: bool) -> Iterator[str]:
    if report.sample_place is None:
        yield "No row can be shown: each holds personal data or cannot be rendered."
        return
    on, off = (_LOSS_ON, _LOSS_OFF) if colour else (_PLAIN_ON, _PLAIN_OFF)
    learnt = sum(p.carries_loss for p in report.sample)
    marked = "inverted" if colour else f"in {on} {off}"
    yield f"Row {report.sample_place} as training reads it; {learnt} of {len(report.sample)} tokens carry loss ({marked}):"
    yield marked_text(_middle_left_out(report.sample), on, off)


def marked_text(pieces: list[Piece], on: str, off: str) -> str:
    """Return tokens as text with `on` and `off` around each run that carries loss; signs that steer a terminal are shown."""
    text, inside = "", False
    for piece in pieces:
        if piece.carries_loss != inside:
            text += on if piece.carries_loss else off
            inside = piece.carries_loss
        text += _safe(piece.text)
    return text + (off if inside else "")


def _middle_left_out(pieces: list[Piece]) -> list[Piece]:
    if len(pieces) <= _SAMPLE_TOKENS:
        return pieces
    half = _SAMPLE_TOKENS // 2
    between = Piece(f"\n... {len(pieces) - 2 * half} tokens ...\n", False)
    return [*pieces[:half], between, *pieces[-half:]]


def _safe(text: str) -> str:
    return "".join(c if c == "\n" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _verdict(report: Report) -> Iterator[str]:
    for finding in report.findings:
        yield f"{finding.severity:8} {_safe(finding.what)}"
        if finding.places:
            more = f" and {finding.count - len(finding.places):,} more" if finding.count > len(finding.places) else ""
            yield f"{'':8} at {', '.join(finding.places)}{more}"
        yield f"{'':8} {finding.fix}"
    problems = sum(f.severity == "problem" for f in report.findings)
    if problems:
        yield f"\n{problems} problem{'s' if problems != 1 else ''} would spoil a run."
    else:
        yield "\nNothing found that would spoil a run."
