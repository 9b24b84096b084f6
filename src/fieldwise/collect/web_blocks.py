"""An HTML tree, block by block, into a document's text."""

from __future__ import annotations

import re
from typing import Any

from fieldwise.collect.builder import TextBuilder, one_line
from fieldwise.collect.headings import heading_level

_HEADINGS = {f"h{n}": n for n in range(1, 7)}
_BLOCKS = {"p", "div", "section", "article", "main", "header", "body", "html", "blockquote", "figure", "figcaption", "address", "center", "form", "fieldset", "details", "summary", "tr", "td", "th", "tbody", "thead",
           "caption", "dd", "dt", "dl", "hr", "legend", "tfoot", "colgroup"}  # fmt: skip
_SKIPPED = {
    "script",
    "style",
    "noscript",
    "template",
    "head",
    "title",
    "meta",
    "link",
    "input",
    "textarea",
    "select",
    "button",
    "svg",
    "iframe",
    "object",
    "map",
    "video",
    "audio",
    "canvas",
}
_BOLD_TAGS = {"b", "strong"}
_BOLD_STYLE = re.compile(r"font-weight\s*:\s*(?:bold|[6-9]00)", re.IGNORECASE)
_MAX_BOLD_HEADING_CHARS = 120
_MAX_SPAN = 100
_LINE_BREAK = "\x02"


class HtmlBlocks:
    """Walks elements and hands blocks to the builder."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._inline: list[str] = []
        self._chars = self._bold_chars = 0
        self._guesses_headings = False

    def add(self, root: Any) -> None:
        """Add everything below an element; without h1 to h6, short bold or numbered lines count as headings."""
        self._guesses_headings = not any(True for _ in root.iter(*_HEADINGS))
        self._children(root, False)
        self._flush()

    def _children(self, element: Any, bold: bool) -> None:
        self._say(element.text, bold)
        for child in element:
            if isinstance(child.tag, str):
                self._element(
                    child, bold or child.tag in _BOLD_TAGS or bool(_BOLD_STYLE.search(child.get("style") or ""))
                )
            self._say(child.tail, bold)

    def _element(self, element: Any, bold: bool) -> None:
        tag = element.tag.rpartition(":")[2]
        if tag in _SKIPPED:
            return
        if tag in _HEADINGS:
            self._flush()
            self._builder.heading(element.text_content(), _HEADINGS[tag])
        elif tag == "br":
            self._inline.append(_LINE_BREAK)
        elif tag == "img" and _is_label(element):
            self._say(element.get("alt"), bold)
        elif tag in ("ul", "ol", "menu"):
            self._flush()
            self._list(element, 0)
        elif tag == "table":
            self._flush()
            self._table(element)
        elif tag == "pre":
            self._flush()
            self._builder.paragraph(element.text_content())
        elif tag == "dl":
            self._flush()
            self._definitions(element)
        elif tag in _BLOCKS or tag == "li":
            self._flush()
            self._children(element, bold)
            self._flush()
        else:
            self._children(element, bold)

    # ------------------------------------------------------------ text

    def _say(self, text: str | None, bold: bool) -> None:
        if text:
            self._inline.append(text)
            visible = len(text.strip())
            self._chars += visible
            self._bold_chars += visible if bold else 0

    def _flush(self) -> None:
        lines = [one_line(part) for part in "".join(self._inline).split(_LINE_BREAK)]
        text = "\n".join(lines).strip("\n")
        is_bold = 0 < self._chars == self._bold_chars
        self._inline, self._chars, self._bold_chars = [], 0, 0
        if not text.strip():
            return
        level = self._guessed_level(text, is_bold) if self._guesses_headings else None
        if level is not None:
            self._builder.heading(text, level)
        else:
            self._builder.paragraph(re.sub(r"\n{2,}", "\n\n", text))

    def _guessed_level(self, text: str, is_bold: bool) -> int | None:
        if "\n" in text:
            return None
        if (level := heading_level(text)) is not None:
            return level
        if (
            is_bold
            and len(text) <= _MAX_BOLD_HEADING_CHARS
            and text[-1] not in ".,;:"
            and text[0].isalnum()
            and any(c.isalpha() for c in text)
        ):
            return 3
        return None

    # ------------------------------------------------------------ lists

    def _list(self, element: Any, depth: int) -> None:
        number = int(element.get("start") or 1) if (element.get("start") or "1").isdigit() else 1
        for child in element:
            if not isinstance(child.tag, str):
                continue
            if child.tag in ("ul", "ol", "menu"):
                self._list(child, depth + 1)
            elif child.tag == "li":
                self._item(child, f"{number}." if element.tag == "ol" else "-", depth)
                number += 1
            else:
                self._element(child, False)
                self._flush()

    def _item(self, item: Any, mark: str, depth: int) -> None:
        """The item's own words on one line; lists and tables within it after that."""
        words: list[str] = []
        inner: list[Any] = []
        _gather(item, words, inner)
        self._builder.item("".join(words), mark, min(depth, 4))
        for element in inner:
            if element.tag == "table":
                self._table(element)
            else:
                self._list(element, depth + 1)

    def _definitions(self, element: Any) -> None:
        term = ""
        for child in element.iter("dt", "dd"):
            text = one_line(child.text_content())
            if child.tag == "dt":
                if term:
                    self._builder.paragraph(term)
                term = text
            elif text:
                self._builder.paragraph(f"{term}: {text}" if term else text)
                term = ""
        if term:
            self._builder.paragraph(term)

    # ------------------------------------------------------------ tables

    def _table(self, table: Any) -> None:
        rows = [row for row in table.iter("tr") if next(row.iterancestors("table"), None) is table]
        cells = [[cell for cell in row if cell.tag in ("td", "th")] for row in rows]
        caption = table.find("caption")
        if caption is not None:
            self._builder.paragraph(one_line(caption.text_content()))
        if _is_layout(table, cells):
            self._layout(cells)
        else:
            self._builder.table(_grid(cells))

    def _layout(self, cells: list[list[Any]]) -> None:
        """A single row of short cells, such as "Item 1." beside its title, is one line; else each cell stands for itself."""
        texts = [" ".join(_cell_words(cell).split()) for row in cells for cell in row]
        if (
            len([row for row in cells if any(one_line(c.text_content()) for c in row)]) == 1
            and max(map(len, texts)) <= _MAX_BOLD_HEADING_CHARS
        ):
            is_bold = all(_is_bold(cell) for row in cells for cell in row if one_line(cell.text_content()))
            self._say(" ".join(texts), is_bold)
            self._flush()
            return
        for row in cells:
            for cell in row:
                self._children(cell, False)
                self._flush()


def _is_label(picture: Any) -> bool:
    """Whether a picture stands for the words of a link."""
    link = next(picture.iterancestors("a"), None)
    return link is not None and not link.text_content().strip()


def _is_bold(cell: Any) -> bool:
    return cell.tag == "th" or any(
        e.tag in _BOLD_TAGS or _BOLD_STYLE.search(e.get("style") or "") for e in cell.iter() if isinstance(e.tag, str)
    )


def _gather(element: Any, words: list[str], inner: list[Any]) -> None:
    words.append(element.text or "")
    for child in element:
        if isinstance(child.tag, str) and child.tag not in _SKIPPED:
            if child.tag in ("ul", "ol", "menu", "table"):
                inner.append(child)
            else:
                blank = " " if child.tag in _BLOCKS or child.tag == "br" else ""
                words.append(blank)
                _gather(child, words, inner)
                words.append(blank)
        words.append(child.tail or "")


def _is_layout(table: Any, cells: list[list[Any]]) -> bool:
    """Tables that only place things on the page: announced as such, of one row or one column, or holding blocks."""
    if table.get("role") in ("presentation", "none") or table.find(".//table") is not None:
        return True
    filled = [sum(bool(one_line(c.text_content())) for c in row) for row in cells]
    filled = [n for n in filled if n]
    if table.find(".//th") is not None and len(filled) > 1:
        return False
    return len(filled) <= 1 or max(filled) <= 1 or any(True for _ in table.iter(*_HEADINGS))


def _grid(cells: list[list[Any]]) -> list[list[str]]:
    """Rows of texts: a cell that spans rows is repeated in each, one that spans columns stands in the first."""
    rows: list[list[str]] = []
    pending: dict[int, tuple[int, str]] = {}  # column -> rows still to fill, text
    for row in cells:
        texts: list[str] = []

        def fill(texts: list[str] = texts) -> None:
            while len(texts) in pending:
                left, text = pending.pop(len(texts))
                if left > 1:
                    pending[len(texts)] = (left - 1, text)
                texts.append(text)

        for cell in row:
            fill()
            text = " ".join(_cell_words(cell).split())
            down, across = _whole(cell.get("rowspan")), _whole(cell.get("colspan"))
            for n in range(across):
                if down > 1:
                    pending[len(texts)] = (down - 1, text if n == 0 else "")
                texts.append(text if n == 0 else "")
        fill()
        rows.append(texts)
    return rows


def _cell_words(cell: Any) -> str:
    words: list[str] = []
    inner: list[Any] = []
    _gather(cell, words, inner)
    return " ".join(["".join(words), *(one_line(e.text_content()) for e in inner)])


def _whole(text: str | None) -> int:
    return min(int(text), _MAX_SPAN) if text is not None and text.isdigit() and int(text) > 0 else 1
