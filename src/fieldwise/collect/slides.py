"""Presentations: a slide is a page, its title a heading; notes for the speaker are left out, they are often private."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fieldwise.collect.archive import Package, local_name
from fieldwise.collect.builder import TextBuilder
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

_TITLES = {"title", "ctrTitle"}
_LEFT_OUT = {"dt", "ftr", "sldNum", "hdr"}
_BODIES = {"body", "obj", ""}


def read_slides(path: Path, source: Source) -> Document:
    """Return a .pptx file as a document; hidden slides are left out."""
    with Package(path) as package:
        main = package.main_part("ppt/presentation.xml")
        root = package.xml(main)
        if root is None:
            raise DocumentError(
                "the file holds no presentation",
                reason="broken",
                found=main,
                fix="Save it again from the program that made it.",
            )
        links = package.relations(main)
        builder = TextBuilder()
        for number, entry in enumerate(root.iterfind("{*}sldIdLst/{*}sldId"), 1):
            link = next((links[v] for k, v in entry.attrib.items() if k.endswith("}id") and v in links), None)
            slide = package.xml(link.target) if link is not None else None
            if slide is None:
                builder.note(f"slide {number} is missing from the file")
            elif slide.get("show") in ("0", "false"):
                builder.note(f"slide {number} is hidden and left out")
            else:
                builder.page(number)
                _add_slide(builder, slide)
        if package.has_part("ppt/comments"):
            builder.note("comments are left out")
        return builder.document(source, package.title())


def _add_slide(builder: TextBuilder, slide: Any) -> None:
    tree = slide.find("{*}cSld/{*}spTree")
    shapes = list(_shapes(tree)) if tree is not None else []
    titles = [s for s in shapes if _placeholder(s) in _TITLES]
    for shape in titles:
        builder.heading(" ".join(_paragraph_text(p) for p in shape.iter("{*}p")), 1)
    for shape in shapes:
        if local_name(shape) == "graphicFrame":
            for table in shape.iter("{*}tbl"):
                builder.table(_rows(table))
        elif shape not in titles:
            _add_text(builder, shape)


def _shapes(tree: Any) -> Iterator[Any]:
    """Shapes in order, those inside groups as well; of alternatives only the first."""
    for child in tree:
        name = local_name(child)
        if name in ("sp", "graphicFrame", "cxnSp"):
            yield child
        elif name in ("grpSp", "Choice"):
            yield from _shapes(child)
        elif name == "AlternateContent":
            yield from _shapes(child[:1])


def _placeholder(shape: Any) -> str | None:
    """Type of the placeholder a shape fills, "" for the general one, None for a free shape."""
    mark = shape.find("{*}nvSpPr/{*}nvPr/{*}ph")
    return None if mark is None else str(mark.get("type") or "")


def _add_text(builder: TextBuilder, shape: Any) -> None:
    kind = _placeholder(shape)
    body = shape.find("{*}txBody")
    if body is None or kind in _LEFT_OUT:
        return
    paragraphs = [p for p in body.iterfind("{*}p") if _paragraph_text(p).strip()]
    is_list = kind in _BODIES and len(paragraphs) > 1
    for paragraph in paragraphs:
        properties = paragraph.find("{*}pPr")
        level = (
            int(properties.get("lvl") or 0)
            if properties is not None and (properties.get("lvl") or "0").isdigit()
            else 0
        )
        marks = {local_name(e) for e in properties} if properties is not None else set()
        if (is_list and "buNone" not in marks) or marks & {"buChar", "buAutoNum"}:
            builder.item(_paragraph_text(paragraph), "-", min(level, 4))
        else:
            builder.paragraph(_paragraph_text(paragraph))


def _paragraph_text(paragraph: Any) -> str:
    return "".join("\n" if local_name(e) == "br" else e.text or "" for e in paragraph.iter("{*}t", "{*}br"))


def _rows(table: Any) -> list[list[str]]:
    """The texts of a table; a cell merged downwards says in every row what holds for it."""
    rows: list[list[str]] = []
    for row in table.iterfind("{*}tr"):
        above = rows[-1] if rows else []
        cells = enumerate(row.iterfind("{*}tc"))
        rows.append([above[n] if _is_merged(cell) and n < len(above) else _cell_text(cell) for n, cell in cells])
    return rows


def _is_merged(cell: Any) -> bool:
    return cell.get("vMerge") in ("1", "true")


def _cell_text(cell: Any) -> str:
    return "\n".join(_paragraph_text(p) for p in cell.iter("{*}p"))
