"""Content hashes: the same content has the same id on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path

_BLOCK_BYTES = 1 << 20
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no blanks, so that equal values give equal text."""
    return _CANONICAL.encode(value)


def sha256_text(text: str) -> str:
    """Return the hexadecimal SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_bytes(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def content_id(prefix: str, *parts: object) -> str:
    """Return a short id made from content, such as `chk_3f9a0c51d2e47b18`.

    64 bits: among a million items the chance of any collision is about 3e-8.
    """
    items = ",".join([_encoded(part) for part in parts])  # as canonical_json of the list has it, in half the time
    return f"{prefix}_{sha256_text(f'[{items}]')[:16]}"


def _encoded(part: object) -> str:
    if type(part) is str:
        return _quoted(part)
    return repr(part) if type(part) is int else canonical_json(part)


def sha256_of_files(paths: Iterable[Path], root: Path) -> str:
    """Return one hash over names (relative to `root`) and contents of files."""
    lines = sorted(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}" for path in paths)
    return sha256_text("\n".join(lines))
