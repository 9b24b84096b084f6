"""Read the Markdown sources of the example documents into blocks."""

from __future__ import annotations

import datetime as dt
import html
import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOSPITAL = "Thornquill General Hospital"
INLINE = re.compile(r"\*\*(.+?)\*\*|\*(.+?)\*|`(.+?)`")


@dataclass
class Block:
    """One block of a page: heading, para, bullets, numbers, quote or table."""

    kind: str
    text: str = ""
    level: int = 0
    items: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class Page:
    """One source: its head, its Markdown body and the parsed blocks."""

    head: dict[str, str]
    body: str
    blocks: list[Block]

    @property
    def date(self) -> dt.datetime:
        """The fixed date that goes into document properties."""
        return dt.datetime.fromisoformat(self.head["date"])


def need(module: str) -> Any:
    """Import a module of the ``examples`` extra, or say which extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SystemExit(f"{module} is missing; install it with: pip install fieldwise[examples]") from error


def listed(lines: list[str], mark: str) -> list[str]:
    """The items of a list whose lines may be wrapped."""
    return [" ".join(item.split()) for item in re.split(mark, "\n" + "\n".join(lines))[1:]]


def parse_blocks(body: str) -> list[Block]:
    """Split the small Markdown subset used here into blocks."""
    blocks: list[Block] = []
    for chunk in re.split(r"\n\s*\n", body.strip()):
        lines = [line.strip() for line in chunk.splitlines()]
        first, joined = lines[0], " ".join(lines)
        if match := re.match(r"(#+) (.+)", first):
            blocks.append(Block("heading", match[2], len(match[1])))
        elif first.startswith("|"):
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            blocks.append(Block("table", rows=[rows[0], *rows[2:]]))
        elif first.startswith("> "):
            blocks.append(Block("quote", " ".join(line.lstrip("> ") for line in lines)))
        elif first.startswith("- "):
            blocks.append(Block("bullets", items=listed(lines, r"\n- ")))
        elif first.startswith("1. "):
            blocks.append(Block("numbers", items=listed(lines, r"\n\d+\. ")))
        else:
            blocks.append(Block("para", joined))
    return blocks


def read_page(path: Path) -> Page:
    """Read one source file."""
    _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
    pairs = (line.split(":", 1) for line in head.splitlines() if line.strip())
    return Page({key.strip(): value.strip() for key, value in pairs}, body.strip() + "\n", parse_blocks(body))


def spans(text: str) -> list[tuple[str, str]]:
    """Split a text into (style, words) runs; style is b, i, code or empty."""
    runs: list[tuple[str, str]] = []
    at = 0
    for match in INLINE.finditer(text):
        runs.append(("", text[at : match.start()]))
        runs.append(("b", match[1]) if match[1] else ("i", match[2]) if match[2] else ("code", match[3]))
        at = match.end()
    runs.append(("", text[at:]))
    return [run for run in runs if run[1]]


def tagged(text: str, code: tuple[str, str] = ("<code>", "</code>")) -> str:
    """The text with <b>, <i> and code tags, escaped for HTML and for reportlab."""
    marks = {"": ("", ""), "b": ("<b>", "</b>"), "i": ("<i>", "</i>"), "code": code}
    return "".join(marks[style][0] + html.escape(words, quote=False) + marks[style][1] for style, words in spans(text))
