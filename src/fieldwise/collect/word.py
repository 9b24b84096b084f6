"""Word documents: paragraphs, headings, lists and tables in order; headers, footers and deleted text left out.

The parts are read as XML by local name and not with python-docx: that also reads the strict variant of the
format, text inside insertions and content controls, and automatic numbers, which the libraries leave out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.collect.archive import Package, attribute, local_name
from fieldwise.collect.builder import TextBuilder
from fieldwise.collect.word_numbering import Numbering
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

_SKIPPED = {
    "del",
    "moveFrom",
    "delText",
    "instrText",
    "Fallback",
    "pPr",
    "rPr",
    "tblPr",
    "tcPr",
    "trPr",
    "sectPr",
    "sdtPr",
    "sdtEndPr",
}
_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_FORMULAS = {"f": "({})/({})", "sSup": "{}^{}", "sSub": "{}_{}", "sSubSup": "{}_{}^{}", "d": "({})"}
_OPERANDS = {"num", "den", "e", "sub", "sup"}
_SYMBOLS = {  # what the fonts that are no alphabets show for a code
    "symbol": dict(zip(b"abgdezhqiklmnxprstfcywDFGLPQSWXY", "αβγδεζηθικλμνξπρστφχψωΔΦΓΛΠΘΣΩΞΨ", strict=True))
    | {0xA2: "′", 0xA3: "≤", 0xA5: "∞", 0xAC: "←", 0xAD: "↑", 0xAE: "→", 0xAF: "↓", 0xB0: "°", 0xB1: "±", 0xB2: "″"}
    | {0xB3: "≥", 0xB4: "×", 0xB7: "•", 0xB8: "÷", 0xB9: "≠", 0xBA: "≡", 0xBB: "≈", 0xD6: "√", 0xD7: "⋅", 0xE5: "∑"},
    "wingdings": {0x6F: "☐", 0xA8: "☐", 0xE0: "→", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑"},
}
_HEADING_NAME = re.compile(r"(?:heading|überschrift|titre|título|titolo|kop)\s*(\d)")
_NOTE_PARTS = ("footnotes.xml", "endnotes.xml")


class _Style(NamedTuple):
    name: str
    level: int | None
    number: tuple[str | None, int]
    is_title: bool


_NO_STYLE = _Style("", None, (None, 0), False)


def read_word(path: Path, source: Source) -> Document:
    """Return a .docx file as a document."""
    with Package(path) as package:
        main = package.main_part("word/document.xml")
        root = package.xml(main)
        body = next(iter(root.iter("{*}body")), None) if root is not None else None
        if body is None:
            raise DocumentError(
                "the file holds no document body",
                reason="broken",
                found=main,
                fix="Save it again from the program that made it.",
            )
        folder = main.rpartition("/")[0]
        builder = TextBuilder()
        _Body(
            builder,
            _read_styles(package.xml(f"{folder}/styles.xml")),
            Numbering(package.xml(f"{folder}/numbering.xml")),
        ).add(body)
        if any(
            package.read(f"{folder}/{part}") and body.find(".//{*}" + part[:-5] + "Reference") is not None
            for part in _NOTE_PARTS
        ):
            builder.note("footnotes are left out")
        if package.has_part(f"{folder}/comments"):
            builder.note("comments are left out")
        return builder.document(source, package.title())


def _text(element: Any) -> str:
    """The text of runs below an element, without deletions and without text boxes."""
    parts: list[str] = []
    for child in element:
        name = local_name(child)
        if name == "t":
            parts.append(child.text or "")
        elif name == "sym":
            parts.append(_symbol(child))
        elif name in _BREAKS:
            parts.append(_BREAKS[name])
        elif name == "rad":
            parts.append("{}√({})".format(*(_operand(child, part) for part in ("deg", "e"))))
        elif name == "nary":
            sign = attribute(child.find("{*}naryPr/{*}chr")) or "∫"
            bounds = [(mark, _operand(child, part)) for mark, part in (("_", "sub"), ("^", "sup"))]
            limits = "".join(f"{mark}({text})" for mark, text in bounds if text)
            parts.append(f"{sign}{limits} {_operand(child, 'e')}")
        elif name in _FORMULAS:
            parts.append(_formula(name, [_text(part) for part in child if local_name(part) in _OPERANDS]))
        elif name not in _SKIPPED and name not in ("txbxContent", "tbl"):
            parts.append(_text(child))
    return "".join(parts)


def _operand(formula: Any, name: str) -> str:
    part = formula.find("{*}" + name)
    return _text(part).strip() if part is not None else ""


def _symbol(element: Any) -> str:
    """An inserted symbol: a comparison that goes missing turns a rule into its opposite."""
    try:
        code = int(attribute(element, "char") or "", 16) & 0xFF
    except ValueError:
        return ""
    return _SYMBOLS.get((attribute(element, "font") or "").lower(), {}).get(code, "")


def _formula(kind: str, operands: list[str]) -> str:
    """A fraction or power on one line: what stood above and below must not run together."""
    shape = _FORMULAS[kind]
    return shape.format(*operands) if shape.count("{}") == len(operands) else " ".join(operands)


def _read_styles(root: Any) -> dict[str, _Style]:
    """Styles by id; what a style does not say comes from the one it is based on."""
    raw = {attribute(s, "styleId") or "": s for s in (root.iter("{*}style") if root is not None else ())}
    resolved: dict[str, _Style] = {}

    def resolve(style_id: str, depth: int = 0) -> _Style:
        if style_id in resolved:
            return resolved[style_id]
        style = raw.get(style_id)
        if style is None or depth > 20:
            return _NO_STYLE
        name = (attribute(style.find("{*}name")) or style_id).lower()
        base = resolve(attribute(style.find("{*}basedOn")) or "", depth + 1)
        properties = style.find("{*}pPr")
        level = _outline_level(properties)
        if (match := _HEADING_NAME.match(name)) is not None:
            level = int(match[1])
        number = _number(properties)
        found = _Style(
            name,
            level if level is not None else base.level,
            number if number[0] is not None else base.number,
            name in ("title", "titel", "titre") or base.is_title,
        )
        resolved[style_id] = found
        return found

    for style_id in raw:
        resolve(style_id)
    return resolved


def _outline_level(properties: Any) -> int | None:
    value = attribute(properties.find("{*}outlineLvl")) if properties is not None else None
    return int(value) + 1 if value is not None and value.isdigit() and int(value) < 9 else None


def _number(properties: Any) -> tuple[str | None, int]:
    """Id and level of the numbering a paragraph or style takes part in."""
    number = properties.find("{*}numPr") if properties is not None else None
    if number is None:
        return None, 0
    level = attribute(number.find("{*}ilvl"))
    return attribute(number.find("{*}numId")), int(level) if level is not None and level.isdigit() else 0


class _Body:
    """Walks the body and hands blocks to the builder."""

    def __init__(self, builder: TextBuilder, styles: dict[str, _Style], numbering: Numbering) -> None:
        self._builder, self._styles, self._numbering = builder, styles, numbering

    def add(self, body: Any) -> None:
        for child in body:
            name = local_name(child)
            if name == "p":
                self._paragraph(child)
            elif name == "tbl":
                self._table(child)
            elif name not in _SKIPPED:
                self.add(child)

    def _paragraph(self, paragraph: Any) -> None:
        text = _text(paragraph).strip("\n")
        if text.strip():
            self._add_text(text, paragraph.find("{*}pPr"))
        for box in self._boxes(paragraph):
            self.add(box)

    def _add_text(self, text: str, properties: Any) -> None:
        style = self._styles.get(
            attribute(properties.find("{*}pStyle")) or "" if properties is not None else "", _NO_STYLE
        )
        own = _outline_level(properties)
        level = style.level if own is None else own
        number, depth = _number(properties)
        if number is None:
            number, depth = style.number[0], style.number[1] if style.level is None else style.level - 1
        mark = self._numbering.mark(number, depth) if number is not None else None
        if style.is_title or level is not None:
            self._builder.heading(
                f"{mark} {text}" if mark and mark != "-" else text, 1 if style.is_title else level or 1
            )
        elif mark is not None:
            self._builder.item(text, mark, min(depth, 4))
        elif style.name.startswith(("list bullet", "list number")):
            self._builder.item(text, "-")
        else:
            self._builder.paragraph(text.replace("\t", " "))

    def _boxes(self, paragraph: Any) -> Iterator[Any]:
        """Text boxes anchored in a paragraph, each once: the older copy kept for old programs is passed over."""
        for box in paragraph.iter("{*}txbxContent"):
            above = [local_name(a) for a in box.iterancestors()]
            if "Fallback" not in above and above.count("txbxContent") == 0:
                yield box

    def _table(self, table: Any) -> None:
        rows = [
            [self._cell(cell) for cell in _cells(row)]
            for row in table.iter("{*}tr")
            if next(row.iterancestors("{*}tbl"), None) is table
        ]
        spans = [
            [_span(cell) for cell in _cells(row)]
            for row in table.iter("{*}tr")
            if next(row.iterancestors("{*}tbl"), None) is table
        ]
        wide = [
            [text for texts, n in zip(row, widths, strict=True) for text in (texts, *[""] * (n - 1))]
            for row, widths in zip(rows, spans, strict=True)
        ]
        if all(len([c for c in row if c.strip()]) <= 1 for row in wide):  # a frame around text, not a table
            for row in wide:
                for cell in row:
                    self._builder.paragraph(cell)
        else:
            _fill_merged(wide, table)
            self._builder.table(wide)

    def _cell(self, cell: Any) -> str:
        return "\n".join(t for p in cell.iter("{*}p") if (t := _text(p).strip()))


def _cells(row: Any) -> list[Any]:
    return [c for c in row.iter("{*}tc") if next(c.iterancestors("{*}tr"), None) is row]


def _span(cell: Any) -> int:
    value = attribute(cell.find("{*}tcPr/{*}gridSpan"))
    return min(int(value), 60) if value is not None and value.isdigit() and int(value) > 0 else 1


def _fill_merged(rows: list[list[str]], table: Any) -> None:
    """Repeat the text of cells merged downwards, so that every row says all that holds for it."""
    at = 0
    for row in table.iter("{*}tr"):
        if next(row.iterancestors("{*}tbl"), None) is not table:
            continue
        column = 0
        for cell in _cells(row):
            merge = cell.find("{*}tcPr/{*}vMerge")
            if merge is not None and attribute(merge) != "restart" and at > 0 and column < len(rows[at - 1]):
                rows[at][column] = rows[at - 1][column]
            column += _span(cell)
        at += 1
