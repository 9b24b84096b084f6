"""Documents for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fieldwise.collect.builder import TextBuilder
from fieldwise.records import Document, PageSpan, Source

PDF = "application/pdf"
EXAMPLES = Path(__file__).parents[2] / "examples" / "documents" / "healthcare"


def document(build: str, *, uri: str = "a.md", media_type: str = "text/markdown") -> Document:
    """A document from lines: `# ` heading, `| ` table row, `- ` item, blank line between blocks, `%` page break."""
    builder = TextBuilder()
    page = 1
    builder.page(page)
    for block in build.strip("\n").split("\n\n"):
        if block == "%":
            page += 1
            builder.page(page)
        elif block.startswith("#"):
            marks, _, text = block.partition(" ")
            builder.heading(text, len(marks))
        elif block.startswith("|"):
            rows = block.split("\n")
            builder.table_text(block, rows=len(rows) - 1, columns=rows[0].count("|") - 1)
        else:
            builder.paragraph(block)
    return builder.document(Source(uri=uri, media_type=media_type), "A title")


def raw_document(
    text: str, *, uri: str = "a.txt", media_type: str = "text/plain", pages: tuple[PageSpan, ...] = ()
) -> Document:
    """A document with exactly this text."""
    return Document.make(title="A title", text=text, source=Source(uri=uri, media_type=media_type), pages=pages)


def count_words(text: str) -> int:
    """A token is a word, so that sizes can be counted by hand."""
    return len(text.split())


def tokens_of(count: Callable[[str], int]) -> Callable[[str], Callable[[int, int], int]]:
    """What the chunker asks: for a text what counts the tokens of its spans."""
    return lambda text: lambda start, end: count(text[start:end])
