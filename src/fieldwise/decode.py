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


_WIDENED = {"iso8859-1": "cp1252"}  # as browsers do: who says latin-1 means the table of Windows
_GOOD_PER_BAD = 20


class Decoded(NamedTuple):
    """A text and, when its table had to be guessed, a note that says so."""

    text: str
    note: str | None


def decode(content: bytes, declared: str | None = None) -> Decoded:
    """Decode by byte order mark, then as declared, then UTF-8, though damaged, then Windows-1252; never fails.

    >>> decode("Größe".encode("cp1252"))
    Decoded(text='Größe', note='not UTF-8: read as windows-1252')
    """
    for mark, marked in _MARKS:
        if content.startswith(mark):
            return Decoded(content.decode(marked, "replace"), None)
    for encoding in (_widened(declared), declared, "utf-8"):
        if encoding:
            try:
                return Decoded(content.decode(encoding), None)
            except (UnicodeDecodeError, LookupError):
                continue
    if (damaged := _damaged_utf8(content)) is not None:
        return damaged
    try:
        return Decoded(content.decode("cp1252"), "not UTF-8: read as windows-1252")
    except UnicodeDecodeError:
        return Decoded(content.decode("latin-1"), "not UTF-8: read as latin-1")


def _widened(declared: str | None) -> str | None:
    try:
        return _WIDENED.get(codecs.lookup(declared).name) if declared else None
    except LookupError:
        return None


def _damaged_utf8(content: bytes) -> Decoded | None:
    """Text that is UTF-8 but for a few bytes, such as a file cut within a character; None if it is not."""
    text = content.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if sum(not c.isascii() for c in text) - bad < _GOOD_PER_BAD * bad:
        return None
    return Decoded(text, f"damaged UTF-8: {bad} place{'s' if bad > 1 else ''} cannot be read")
