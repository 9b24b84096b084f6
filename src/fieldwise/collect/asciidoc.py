"""AsciiDoc: headings, lists and tables kept, markup of links, pictures and emphasis reduced to its text."""

from __future__ import annotations

import re
from pathlib import Path

from fieldwise.collect.builder import TextBuilder, printable
from fieldwise.collect.line_blocks import LineBlocks
from fieldwise.decode import decode
from fieldwise.records import Document, Source

_HEADING = re.compile(r"(={1,6}|#{1,6})\s+(\S.*?)(?:\s+\1)?\s*")
_ATTRIBUTE = re.compile(r":(!?[\w-]+!?):(?:\s+(.*))?")
_BLOCK_ATTRIBUTES = re.compile(r"\[[^\]\n]*(?:\[[^\]]*\])?[^\]\n]*\]\s*")
_CAPTION = re.compile(r"\.([^\s.].*)")
_ITEM = re.compile(r"(\s*)(\*{1,6}|-|\.{1,6}|\d{1,9}[.)]|<(?:\d{1,3}|\.)>)\s+(\S.*)")
_TERM = re.compile(r"\s*(\S.*?)(?::{2,4}|;;)(?:\s+(.*))?")
_VERBATIM = re.compile(r"-{4,}|\.{4,}|\+{4,}|`{3,}.*")
_COMMENT_BLOCK = re.compile(r"/{4,}")
_TABLE = re.compile(r"[|,:!]={3,}")
_DROPPED_LINE = re.compile(
    r"={4,}|\*{4,}|_{4,}|--|<{3,}|'{3,}|\+|//(?!/).*|toc::\[.*\]|(?:if|ifn|ife|end)(?:def|val|if)::.*"
)
# every repeat within a line is bounded: no text makes a search long
_MACRO = re.compile(r"\b(image|video|audio)::?[^\s\[\]]{0,300}\[([^\[\]\n]{0,300})\]")
_INCLUDE = re.compile(r"include::\S+\[.*\]")
_URL_LINK = re.compile(r"(?:link:)?\b((?:https?|ftp|irc)://[^\s\[\]<>]{1,1000})\[([^\[\]\n]{0,300})\]")
_OTHER_LINK = re.compile(r"\b(?:link|xref|mailto):[^\s\[\]]{0,1000}\[([^\[\]\n]{0,300})\]")
_REFERENCE = re.compile(r"<<[^,<>\n]{1,200}(?:,\s{0,9}([^<>\n]{1,300}))?>>")
_FOOTNOTE = re.compile(r"\bfootnote(?:ref)?:[\w-]{0,100}\[([^\[\]\n]{0,2000})\]")
_INLINE_MACRO = re.compile(r"\b(?:kbd|btn|menu|pass|stem|latexmath|asciimath):[^\s\[\]]{0,100}\[([^\[\]\n]{0,500})\]")
_ANCHOR = re.compile(
    r"\[\[[^\[\]\n]{1,200}\]\]|\banchor:[^\s\[]{1,100}\[[^\[\]\n]{0,200}\]|\[[.#][\w.#%-]{1,100}\](?=[*_`#])"
)
_VALUE = re.compile(r"\{([\w-]{1,60})\}")
_DOUBLE = re.compile(r"(\*\*|__|``|##|\+\+)(?=\S)([^\n]{1,1000}?)(?<=\S)\1")
_SINGLE = re.compile(r"(?<![\w\\*_`#+])([*_`#+])(?=\S)([^\n]{1,1000}?)(?<=\S)\1(?!\w)")
_RAISED = re.compile(r"(?<=\w)[\^~](\S{1,40}?)[\^~]")
_CELL = re.compile(r"(?:(?:^|(?<=\s))(?:(?:\d+(?:\.\d+)?|\.\d+)[+*])?[<^>]?(?:\.[<^>])?[a-z]?)?(?<!\\)\|")
_ESCAPE = re.compile(r"\\(?=[*_`#+\[{<|:])")
_COLUMNS = re.compile(r"cols\s*=\s*\"?([^\"\]]+)\"?")
_MAX_COLUMNS = 100


def read_asciidoc(path: Path, source: Source) -> Document:
    """Return an AsciiDoc file as a document; files it includes are left out and noted."""
    decoded = decode(path.read_bytes())
    builder = TextBuilder()
    if decoded.note:
        builder.note(decoded.note)
    _Blocks(builder).add(printable(decoded.text).split("\n"))
    return builder.document(source)


class _Blocks(LineBlocks):
    """What the lines of AsciiDoc mean."""

    def __init__(self, builder: TextBuilder) -> None:
        super().__init__(builder)
        self._values: dict[str, str] = {"nbsp": " ", "amp": "&", "lt": "<", "gt": ">", "vbar": "|", "plus": "+", "empty": "", "sp": " "}  # fmt: skip
        self._attributes = ""

    def _take(self, lines: list[str], at: int) -> int:
        """Handle the block or line at `at`; return where to go on."""
        line = lines[at].rstrip()
        if _COMMENT_BLOCK.fullmatch(line):
            self._flush()
            return _end(lines, at, line) + 1
        if _VERBATIM.fullmatch(line):
            self._flush()
            end = _end(lines, at, line[:3] if line.startswith("`") else line)
            self._builder.paragraph("\n".join(lines[at + 1 : end]))
            return end + 1
        if _TABLE.fullmatch(line):
            end = _end(lines, at, line)
            self._table(lines[at + 1 : end], separator=line[0])
            return end + 1
        if line.startswith("|") and line.count("|") > 1:
            end = at
            while end < len(lines) and lines[end].startswith("|") and not _TABLE.fullmatch(lines[end].rstrip()):
                end += 1
            self._table(lines[at:end], separator="|")
            return end
        self._line(line)
        return at + 1

    def _line(self, line: str) -> None:
        if (heading := _HEADING.fullmatch(line)) is not None:
            self._flush()
            self._builder.heading(self._plain(heading[2]), len(heading[1]))
        elif (attribute := _ATTRIBUTE.fullmatch(line)) is not None and not self._paragraph:
            self._values[attribute[1].lower()] = attribute[2] or ""
        elif _INCLUDE.fullmatch(line):
            self._builder.note("files that it includes are left out")
        elif not line.strip() or _DROPPED_LINE.fullmatch(line):
            self._flush()
        elif not self._paragraph and _BLOCK_ATTRIBUTES.fullmatch(line):
            self._flush()
            self._attributes = line
        elif (item := _ITEM.fullmatch(line)) is not None:
            self._begin_item(item)
        elif not self._paragraph and (caption := _CAPTION.fullmatch(line)) is not None:
            self._flush()
            self._builder.paragraph(self._plain(caption[1]))
        elif (term := _TERM.fullmatch(line)) is not None and "::" in line and not _MACRO.match(line):
            self._flush()
            self._mark, self._depth, self._item = "-", 0, [f"{term[1]}: {term[2] or ''}"]
        else:
            (self._item or self._paragraph).append(line.removesuffix(" +").strip())

    def _begin_item(self, item: re.Match[str]) -> None:
        self._flush()
        marker = item[2]
        self._mark = marker.replace(")", ".") if marker[0].isdigit() else "-"
        self._depth = min(len(item[1]) // 2 + (len(marker) - 1 if marker[0] in "*." else 0), 4)
        self._item = [item[3]]

    def _table(self, lines: list[str], separator: str) -> None:
        """A table whose rows are lines, or whose cells each stand on a line of their own."""
        self._flush()
        rows = _rows(lines, separator)
        columns = _column_count(self._attributes) or (len(rows[0]) if rows else 0)
        self._attributes = ""
        rows = [row[:columns] if len(row) == columns + 1 and not row[-1] else row for row in rows]
        if any(len(row) != columns for row in rows) and columns > 1:
            cells = [cell for row in rows for cell in row]
            rows = [cells[n : n + columns] for n in range(0, len(cells), columns)]
        self._builder.table([[self._plain(cell) for cell in row] for row in rows])

    def _plain(self, text: str) -> str:
        """The text as a reader sees it."""
        text = _VALUE.sub(lambda m: self._values.get(m[1].lower(), m[0]), text)
        text = _ANCHOR.sub("", _MACRO.sub(lambda m: _first(m[2]), text))
        text = _URL_LINK.sub(lambda m: _first(m[2]) or m[1], text)
        text = _INLINE_MACRO.sub(r"\1", _OTHER_LINK.sub(lambda m: _first(m[1]), text))
        text = _FOOTNOTE.sub(r" (\1)", _REFERENCE.sub(lambda m: m[1] or "", text))
        for pattern in (_DOUBLE, _SINGLE):
            text = pattern.sub(r"\2", text)
        return _ESCAPE.sub("", _RAISED.sub(r"\1", text))


def _end(lines: list[str], at: int, delimiter: str) -> int:
    """Where the block that begins at `at` ends; one that is never closed goes on to the end."""
    return next((n for n in range(at + 1, len(lines)) if lines[n].rstrip() == delimiter), len(lines))


def _rows(lines: list[str], separator: str) -> list[list[str]]:
    """The cells of each line; words before the first of a line belong to the cell above."""
    rows: list[list[str]] = []
    for line in filter(str.strip, lines):
        if separator in ",:":
            rows.append([cell.strip().strip('"') for cell in line.split(separator)])
            continue
        before, *cells = _CELL.split(line.rstrip().replace("!", "|") if separator == "!" else line.rstrip())
        if before.strip() and rows:
            rows[-1][-1] = f"{rows[-1][-1]} {before.strip()}".strip()
        elif before.strip():
            cells = [before, *cells]
        if cells:
            rows.append([cell.strip() for cell in cells])
    return rows


def _column_count(attributes: str) -> int:
    """How many columns the attributes of a table name: `cols="1,2"` or `cols="3*"`; 0 where they do not say."""
    match = _COLUMNS.search(attributes)
    if match is None:
        return 0
    count = 0
    for column in match[1].split(","):
        times = re.match(r"\s*(\d{1,3})\*", column)
        count += int(times[1]) if times else 1
    return min(count, _MAX_COLUMNS)


def _first(attributes: str) -> str:
    """The words of a macro: what stands before its first named attribute."""
    return re.split(r",\s*[\w-]+\s*=|,", attributes, maxsplit=1)[0].strip().strip('"').removesuffix("^")
