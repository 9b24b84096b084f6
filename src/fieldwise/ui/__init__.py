"""The web pages the service shows: plain files, read once, no build step.

In: nothing. Out: `assets()`, the files by name. Imports ground only.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fieldwise.hashing import sha256_bytes

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """One file of the pages."""

    content: bytes
    media_type: str
    etag: str


@lru_cache(maxsize=1)
def assets() -> dict[str, Asset]:
    """Return every file of the pages by its name."""
    files = sorted(p for p in (Path(__file__).parent / "static").iterdir() if p.suffix in _MEDIA_TYPES)
    contents = {path: path.read_bytes() for path in files}
    return {
        path.name: Asset(content, _MEDIA_TYPES[path.suffix], f'"{sha256_bytes(content)[:16]}"')
        for path, content in contents.items()
    }
