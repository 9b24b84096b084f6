"""XML files by a declared mapping: what each element is stands in the recipe, since XML does not say it.

Elements are named without their namespace. One that is not mapped is looked through: its own words are paragraphs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldwise.collect.builder import TextBuilder, one_line
from fieldwise.errors import DocumentError
from fieldwise.extras import require
from fieldwise.records import Document, Source

_ENTITY = re.compile(rb"<\0?!\0?E\0?N\0?T\0?I\0?T\0?Y")
_FIX = "Save it again from the program that made it."


def read_xml(path: Path, source: Source, elements: Mapping[str, str]) -> Document:
    """Return an XML file as a document; `elements` says of which role each is, see `collect.xml.elements`.

    Raises DocumentError: `broken`; `xml_entities` for a file that declares entities.
    """
    etree: Any = require("lxml.etree", extra="documents", to="read XML files")
    content = path.read_bytes()
    if _ENTITY.search(content):
        raise DocumentError(
            "it declares entities, which can be built to harm a reader", reason="xml_entities", fix="Do not trust it."
        )
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise DocumentError("the file is damaged", reason="broken", found=str(error)[:120], fix=_FIX) from error
    writer = _Writer(elements)
    writer.write(root)
    writer.end_block()
    return writer.builder.document(source, writer.title)


class _Writer:
    """Goes through the elements in order and writes what they are."""

    def __init__(self, elements: Mapping[str, str]) -> None:
        self.builder = TextBuilder()
        self.title = ""
        self._elements = elements
        self._depth = 0
        self._labels: list[str] = []
        self._words: list[str] = []

    def write(self, element: Any) -> None:
        """Write an element with all it holds; what follows it is the caller's."""
        role = self._elements.get(_name(element), "")
        if role == "skip":
            return
        if role in ("title", "heading", "paragraph", "item", "label", "table"):
            self.end_block()
        if role == "title":
            self.title = self.title or self._without_skipped(element)
            self.builder.heading(self._without_skipped(element), 1)
        elif role == "label":
            self._labels.append(self._without_skipped(element))
        elif role == "heading":
            self.builder.heading(self._labelled(self._without_skipped(element)), max(1, self._depth + bool(self.title)))
        elif role == "item":
            self.builder.item(self._labelled(self._without_skipped(element)))
        elif role == "table":
            self.builder.table(self._rows(element))
        else:
            if role == "section":
                self.end_block()
            self._depth += role == "section"
            self._look_through(element)
            self._depth -= role == "section"
            if role in ("section", "paragraph"):
                self.end_block()

    def end_block(self) -> None:
        """Write the words since the last block as a paragraph, after the labels before them."""
        text = one_line("".join(self._words))
        self._words = []
        if text:
            self.builder.paragraph(self._labelled(text))

    def _look_through(self, element: Any) -> None:
        self._words.append(element.text or "")
        for child in element:
            if isinstance(child.tag, str):
                self.write(child)
            self._words.append(child.tail or "")

    def _labelled(self, text: str) -> str:
        labels, self._labels = self._labels, []
        return " ".join([*labels, text])

    def _rows(self, table: Any) -> list[list[str]]:
        rows = [part for part in table.iter() if self._role(part) == "row"]
        return [[self._without_skipped(cell) for cell in row.iter() if self._role(cell) == "cell"] for row in rows]

    def _without_skipped(self, element: Any) -> str:
        parts = [element.text or ""]
        for child in element:
            if isinstance(child.tag, str) and self._role(child) != "skip":
                parts.append(self._without_skipped(child))
            parts.append(child.tail or "")
        return one_line("".join(parts))

    def _role(self, element: Any) -> str:
        return self._elements.get(_name(element), "")


def _name(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
