"""Plain text: blocks between blank lines, headings by simple rules."""

from __future__ import annotations

import re
from pathlib import Path

from fieldwise.collect.builder import TextBuilder, printable
from fieldwise.collect.headings import heading_level
from fieldwise.decode import decode
from fieldwise.records import Document, Source

_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_UNDERLINE = re.compile(r"[=\-~_*]{3,}")


def read_plain(path: Path, source: Source) -> Document:
    """Return a text file as a document."""
    decoded = decode(path.read_bytes())
    builder = TextBuilder()
    if decoded.note:
        builder.note(decoded.note)
    add_plain(builder, decoded.text)
    return builder.document(source)


def add_plain(builder: TextBuilder, text: str) -> None:
    """Add text block by block; a short numbered line, a line in capitals or an underlined line is a heading."""
    for block in _BLANK_LINES.split(printable(text)):
        lines = [line for line in block.split("\n") if line.strip()]
        if not lines:
            continue
        if len(lines) >= 2 and _UNDERLINE.fullmatch(lines[1].strip()) and len(lines[0]) <= 120:
            builder.heading(lines[0], 1 if lines[1].lstrip()[0] == "=" else 2)
            lines = lines[2:]
        elif (level := heading_level(lines[0])) is not None and (len(lines) == 1 or heading_level(lines[1]) is None):
            builder.heading(lines[0], level)
            lines = lines[1:]
        if lines:
            builder.paragraph("\n".join(lines))
