"""Markdown: headings, lists and tables kept, markup of links, pictures and emphasis reduced to its text."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import NamedTuple

from fieldwise.collect.builder import TextBuilder, printable
from fieldwise.collect.line_blocks import LineBlocks
from fieldwise.decode import decode
from fieldwise.records import Document, Source

_HEADING = re.compile(r" {0,3}(#{1,6})(?:\s+(.*?))?\s*#*\s*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)\s*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$")
_RULE = re.compile(r" {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$")
_TABLE_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_DEFINITION = re.compile(r" {0,3}\[[^\]]+\]:\s+\S+")
_KEY_LINE = re.compile(r"[\"']?[\w-][\w .-]*[\"']?\s*:(?:\s.*)?")
_TITLE_LINE = re.compile(r"title\s*:\s*(.+)", re.IGNORECASE)
_QUOTE = re.compile(r"^ {0,3}(?:> ?)+")
_CODE = re.compile(r"(`+)(.+?)\1")
_IMAGE = re.compile(r"!\[([^\]]*)\](?:\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+[\"'][^)]*)?\)|\[[^\]]*\])")
_LINK = re.compile(r"\[((?:[^\[\]\\]|\\.)+)\](?:\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+[\"'][^)]*)?\)|\[[^\]]*\])")
_AUTOLINK = re.compile(r"<((?:https?|mailto|ftp):[^>\s]+|[\w.+-]+@[\w.-]+)>")
_TAG = re.compile(r"</?[A-Za-z][\w-]*(?:\s[^<>]*)?/?>")
_BLOCK_TAG = re.compile(
    r"(?:(?<!\s)\s+)?(?:</?(?:br|p|div|tr|li|[uo]l|table|h[1-6]|summary|details|d[dlt])\b[^<>]*>\s*)+", re.IGNORECASE
)
_CELL_TAG = re.compile(r"</t[dh]>", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_STRONG = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_EMPHASIS = re.compile(r"(?<![\w*\\])(\*|_)(?=[^\s*_])(.+?)(?<=[^\s*_\\])\1(?![\w*])")
_CELL_END = re.compile(r"(?<!\\)\|")
_CELL_MARKUP = re.compile(r"[\[<*_`]")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


class _FrontMatter(NamedTuple):
    title: str
    body: str


def read_markdown(path: Path, source: Source) -> Document:
    """Return a Markdown file as a document; front matter gives the title and is left out."""
    decoded = decode(path.read_bytes())
    builder = TextBuilder()
    if decoded.note:
        builder.note(decoded.note)
    front = _split_front_matter(printable(decoded.text))
    _Blocks(builder).add(_COMMENT.sub("", front.body).split("\n"))
    return builder.document(source, front.title)


def plain_inline(text: str) -> str:
    """Return a line of Markdown as the text a reader sees.

    >>> plain_inline("See **[the rules](rules.md)** and `PH-22`.")
    'See the rules and PH-22.'
    """
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[2].strip() if match.re is _CODE else match[1])
        return f"\0{len(kept) - 1}\0"

    text = _CODE.sub(keep, text)
    text = _ESCAPE.sub(keep, text)
    text = _AUTOLINK.sub(r"\1", text)
    text = _CELL_TAG.sub(" ", _BLOCK_TAG.sub("\n", _IMAGE.sub(r"\1", text)).strip("\n"))
    text = _TAG.sub("", text)
    text = _LINK.sub(r"\1", text)
    for pattern in (_STRONG, _EMPHASIS):
        text = pattern.sub(r"\2", text)
    return re.sub(r"\0(\d+)\0", lambda match: kept[int(match[1])], html.unescape(text))


def _split_front_matter(text: str) -> _FrontMatter:
    """A rule that opens the page is no front matter: keys begin on the very next line."""
    lines = text.lstrip("\n").split("\n")
    first = next((line for line in lines[1:] if not line.startswith("#")), "")
    if lines[0].strip() == "---" and _KEY_LINE.fullmatch(first.rstrip()):
        for end, line in enumerate(lines[1:200], 1):
            if line.strip() in ("---", "..."):
                titles = (
                    match[1].strip().strip("\"'")
                    for line in lines[1:end]
                    if (match := _TITLE_LINE.fullmatch(line.rstrip()))
                )
                return _FrontMatter(next(titles, ""), "\n".join(lines[end + 1 :]))
    return _FrontMatter("", text)


class _Blocks(LineBlocks):
    """What the lines of Markdown mean."""

    def _take(self, lines: list[str], at: int) -> int:
        """Handle the block or line at `at`; return where to go on."""
        line = lines[at] = _QUOTE.sub("", lines[at]).expandtabs(4)
        if (fence := _FENCE.match(line)) is not None:
            return self._code(lines, at + 1, fence[1])
        if (
            "|" in line
            and at + 1 < len(lines)
            and "-" in lines[at + 1]
            and _TABLE_RULE.match(_QUOTE.sub("", lines[at + 1]))
            and not self._item
        ):
            return self._table(lines, at)
        if (heading := _HEADING.match(line)) is not None:
            self._flush()
            self._builder.heading(plain_inline(heading[2] or ""), len(heading[1]))
        elif self._paragraph and not self._item and (rule := _SETEXT.match(line)) is not None:
            text, self._paragraph = " ".join(self._paragraph), []
            self._builder.heading(plain_inline(text), 1 if rule[1][0] == "=" else 2)
        elif not line.strip() or _RULE.match(line) or (_DEFINITION.match(line) and not self._paragraph):
            self._flush()
        elif (item := _ITEM.match(line)) is not None:
            self._flush()
            self._mark = "-" if item[2] in "-*+" else item[2].replace(")", ".")
            self._depth = min(len(item[1]) // 2, 4)
            self._item = [item[3]]
        else:
            (self._item or self._paragraph).append(line.rstrip("\\").strip())
        return at + 1

    def _code(self, lines: list[str], at: int, fence: str) -> int:
        self._flush()
        end = next((n for n in range(at, len(lines)) if lines[n].strip().startswith(fence)), len(lines))
        self._builder.paragraph("\n".join(lines[at:end]))
        return end + 1

    def _table(self, lines: list[str], at: int) -> int:
        self._flush()
        end = at
        while end < len(lines) and "|" in lines[end] and lines[end].strip():
            end += 1
        rows = [_cells_as_text(_QUOTE.sub("", line).strip()) for line in lines[at:end]]
        columns = rows[1].strip("|").count("|") + 1
        self._builder.table_text("\n".join(rows), rows=len(rows) - 1, columns=columns)
        return end

    def _plain(self, text: str) -> str:
        return plain_inline(text)


def _cells_as_text(row: str) -> str:
    """A table row as it stands, the markup inside its cells reduced to text."""
    return "|".join(_cell_as_text(cell) for cell in _CELL_END.split(row)) if _CELL_MARKUP.search(row) else row


def _cell_as_text(cell: str) -> str:
    text = _TAG.sub(" ", _LINK.sub(r"\1", _IMAGE.sub(r"\1", _CODE.sub(r"\2", cell))))
    return _EMPHASIS.sub(r"\2", _STRONG.sub(r"\2", text))
