"""Names made from the names of files: for the copy in the run folder, and as a title."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_UNSAFE = re.compile(r"[^\w.-]+")
_MAX_NAME_BYTES = 120
_MAX_TITLE_CHARS = 300


def safe_name(uri: str) -> str:
    """Return a file name that no file system and no shell trips over; the ending is kept.

    >>> safe_name("letters/Größe & Maß (2).pdf")
    'Größe_Maß_2_.pdf'
    """
    name = _UNSAFE.sub("_", PurePosixPath(uri).name).lstrip(".-") or "file"
    stem, dot, ending = name.rpartition(".")
    ending = f"{dot}{ending}"[:16] if stem else ""
    stem = stem or name
    while len((stem + ending).encode()) > _MAX_NAME_BYTES:
        stem = stem[:-1]
    return stem + ending


def title_from_name(uri: str) -> str:
    """Return a title made from a file name.

    >>> title_from_name("2024/visitor-rules_v2.pdf")
    'Visitor rules v2'
    """
    words = " ".join(re.sub(r"[-_]+", " ", PurePosixPath(uri).stem).split()) or uri
    return (words[0].upper() + words[1:])[:_MAX_TITLE_CHARS]
