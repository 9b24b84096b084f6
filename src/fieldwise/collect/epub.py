"""EPUB books: the chapters in reading order, each an HTML page."""

from __future__ import annotations

import posixpath
from pathlib import Path
from urllib.parse import unquote

from fieldwise.collect.archive import Package
from fieldwise.collect.builder import TextBuilder
from fieldwise.collect.web import add_html
from fieldwise.decode import decode
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source


def read_epub(path: Path, source: Source) -> Document:
    """Return a book without copy protection as a document."""
    with Package(path) as package:
        if package.read("META-INF/rights.xml") is not None:
            raise DocumentError("the book is copy-protected", reason="encrypted", fix="Get a copy without protection.")
        container = package.xml("META-INF/container.xml")
        rootfile = next(container.iter("{*}rootfile"), None) if container is not None else None
        main = str(rootfile.get("full-path")) if rootfile is not None else ""
        book = package.xml(main)
        if book is None:
            raise DocumentError(
                "the file holds no book",
                reason="broken",
                found=main or None,
                fix="Save it again from the program that made it.",
            )
        places = {item.get("id"): item.get("href") for item in book.iter("{*}item")}
        builder = TextBuilder()
        for number, entry in enumerate(book.iter("{*}itemref"), 1):
            href = unquote(str(places.get(entry.get("idref")) or "")).partition("#")[0]
            page = package.read(posixpath.normpath(posixpath.join(posixpath.dirname(main), href))) if href else None
            if page is None:
                builder.note(f"chapter {number} is missing from the file")
            elif page.strip():
                add_html(builder, decode(page).text)
        title = next((e.text for e in book.iter("{http://purl.org/dc/elements/1.1/}title") if e.text), "")
        return builder.document(source, title)
