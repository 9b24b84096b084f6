"""Bytes of a text file to text."""

from __future__ import annotations

import codecs
from typing import NamedTuple

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Decoded(NamedTuple):
    """A text and, when its table had to be guessed, a note that says so."""

    text: str
    note: str | None


def decode(content: bytes, declared: str | None = None) -> Decoded:
    """Decode by byte order mark, then as declared, then UTF-8, then Windows-1252; never fails.

    >>> decode("Größe".encode("cp1252"))
    Decoded(text='Größe', note='not UTF-8: read as windows-1252')
    """
    for mark, marked in _MARKS:
        if content.startswith(mark):
            return Decoded(content.decode(marked, "replace"), None)
    for encoding in (declared, "utf-8"):
        if encoding:
            try:
                return Decoded(content.decode(encoding), None)
            except (UnicodeDecodeError, LookupError):
                continue
    try:
        return Decoded(content.decode("cp1252"), "not UTF-8: read as windows-1252")
    except UnicodeDecodeError:
        return Decoded(content.decode("latin-1"), "not UTF-8: read as latin-1")
