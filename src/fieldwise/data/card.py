"""A data card: what a data set is, whose terms it stands under, how it was made and what was found in it, as Markdown.

The front matter is that of data sets on the Hugging Face hub, so that the card can stand as the README.md beside the rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise import __version__
from fieldwise.data.doctor import Report
from fieldwise.files import read_json
from fieldwise.records import Document
from fieldwise.tables import read_records

_SHOWN_KINDS = 20
_MADE_HERE = "3_examples/card.json"


class Origin(NamedTuple):
    """How the examples of a run were made, and the terms of the documents they were made from with how many have each."""

    facts: Mapping[str, Any]
    licences: Mapping[str, int]


def origin_of(path: Path) -> Origin | None:
    """Return where the examples of a run folder come from; None for any other place."""
    if not (path / _MADE_HERE).is_file():
        return None
    documents = path / "2_chunks/documents.parquet"
    read = read_records(documents, Document) if documents.is_file() else ()
    return Origin(read_json(path / _MADE_HERE), Counter(d.source.licence or "not stated" for d in read))


def data_card(report: Report, name: str, *, licence: str | None, origin: Origin | None) -> str:
    """Return the card of a data set that the doctor has looked at."""
    parts = [_front(report, licence), f"# {name}", "", *_what(report, licence), *_made(origin), *_found(report)]
    return "\n".join(parts) + "\n"


def _front(report: Report, licence: str | None) -> str:
    languages = [language for language in report.languages if len(language) == 2]
    lines = [f"license: {json.dumps(licence or 'other', ensure_ascii=False)}"]
    lines += ["language:", *(f"- {language}" for language in languages)] if languages else []
    return "\n".join(["---", *lines, "tags:", "- fieldwise", "---", ""])


def _what(report: Report, licence: str | None) -> Iterator[str]:
    yield f"Version `{report.version}`: the hash of what training reads of it. Format: {report.format}."
    yield f"Terms: {licence or 'not stated'}."
    yield from ("", "| split | rows | usable |", "| --- | --- | --- |")
    yield from (f"| {split} | {c['rows']:,} | {c['used']:,} |" for split, c in report.splits.items())
    yield ""
    if report.lengths:
        yield f"Tokens of a row with the tokenizer of {report.base}: {', '.join(f'{k} {v:,.0f}' for k, v in report.lengths.items())}."
    for told, counts in (("Languages", report.languages), ("Kinds", report.kinds), ("Labels", report.labels)):
        if counts:
            yield f"{told}: {_counted(counts)}."
    yield ""


def _made(origin: Origin | None) -> Iterator[str]:
    if origin is None:
        return
    facts, teacher = origin.facts, origin.facts.get("teacher")
    by = teacher.get("model") if isinstance(teacher, dict) else None
    yield from (
        "## How it was made",
        "",
        f"By Fieldwise {__version__} from {facts.get('chunks', 0):,} passages, {facts.get('chunks_covered', 0):,} of which gave an example; questions written by {by or 'rules'}.",
        f"Documents by split: {_counted(facts.get('documents', {}))}; near-duplicates stand on one side. Documents or questions on two sides: {len(facts.get('leakage', ()))}.",
        f"Terms of the documents: {_counted(origin.licences) or 'not known'}.",
    )
    if left_out := facts.get("rejected_by_rule"):
        yield f"Left out by the checks: {_counted(left_out)}."
    if judge := facts.get("judge"):
        yield f"Judged by {judge['model']}: {judge['right']} right, {judge['wrong']} wrong, {judge['cannot_tell']} it could not tell."
    yield from (f"Rows of `{name}`: terms {told.get('licence') or 'not stated'}." for name, told in facts.get("data", {}).items())  # fmt: skip
    yield from ("", "Rules and models make mistakes: read a sample before you rely on it (`fieldwise review`).", "")


def _found(report: Report) -> Iterator[str]:
    yield from ("## What was found in it", "")
    if not report.findings:
        yield "Nothing that would spoil a training."
    for finding in report.findings:
        at = f" At {', '.join(finding.places)}." if finding.places else ""
        yield f"- **{finding.severity}** {' '.join(finding.what.split())}.{at}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:_SHOWN_KINDS])
