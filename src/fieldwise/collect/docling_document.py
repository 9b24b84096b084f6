"""What docling understood of a file as a Document: headings, lists, tables as Markdown, pages and offsets.

Nothing of docling is imported: its document is walked by the methods of docling-core, whose labels are words.
"""

from __future__ import annotations

from typing import Any

from fieldwise.collect.builder import TextBuilder
from fieldwise.collect.pdf import NO_TEXT_LAYER
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

_HEADINGS = ("title", "section_header")
_LISTS = ("list", "ordered_list")
_NO_TEXT = ("picture", "chart", "page_header", "page_footer", "empty_value")


def to_document(understood: Any, source: Source) -> Document:
    """Return a DoclingDocument as a document.

    The title of the file is the highest heading, sections stand below it. Headers and footers of pages and pictures
    are left out. Raises DocumentError with reason `no_text_layer` when no page holds text.
    """
    builder = TextBuilder()
    reached = 0
    title = ""
    has_title = any(_label(item) == "title" for item in understood.texts)
    with_text: set[int] = set()
    for item, _ in understood.iterate_items():
        label = _label(item)
        page = item.prov[0].page_no if getattr(item, "prov", None) else reached
        if page > reached:
            for number in range(reached + 1, page + 1):
                builder.page(number)
            reached = page
        before = builder.chars
        if label in _HEADINGS:
            title = title or (item.text if label == "title" else "")
            builder.heading(item.text, 1 if label == "title" else item.level + has_title)
        elif label == "list_item":
            builder.item(item.text, mark=item.marker if item.enumerated else "-", depth=_depth(item, understood))
        elif hasattr(getattr(item, "data", None), "grid"):
            builder.table(_rows(item.data.grid))
        elif label not in _NO_TEXT and (text := str(getattr(item, "text", ""))):
            builder.paragraph(text)
        if builder.chars > before:
            with_text.add(page)
    pages = sorted(understood.pages)
    for number in range(reached + 1, (pages[-1] if pages else 0) + 1):
        builder.page(number)
    if pages and not with_text:
        raise DocumentError(
            "no page has a text layer: it is a scan",
            reason="no_text_layer",
            found=f"{len(pages)} page{'s' if len(pages) != 1 else ''}",
            fix="Have it read by text recognition (fieldwise[ocr]), or supply the text.",
        )
    for number in pages:
        if number not in with_text:
            builder.note(f"page {number} {NO_TEXT_LAYER}")
    return builder.document(source, title)


def _label(item: Any) -> str:
    label = getattr(item, "label", "")
    return str(getattr(label, "value", label))


def _rows(grid: Any) -> list[list[str]]:
    """The cells of a table; one that spans several stands at its first place alone."""
    return [
        [
            cell.text if (cell.start_row_offset_idx, cell.start_col_offset_idx) == (row, column) else ""
            for column, cell in enumerate(cells)
        ]
        for row, cells in enumerate(grid)
    ]


def _depth(item: Any, understood: Any) -> int:
    """How many lists a list item stands in besides its own."""
    lists = 0
    parent = item.parent
    while parent is not None:
        group = parent.resolve(understood)
        lists += _label(group) in _LISTS
        parent = getattr(group, "parent", None)
    return max(0, lists - 1)
