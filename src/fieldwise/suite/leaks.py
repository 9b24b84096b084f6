"""Tell whether a reply gives away words it must not hold, also spaced, reversed, rotated or encoded."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import unicodedata

_LEAST_COMPACT = 6  # shorter words come about by chance once blanks are gone
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}[\s:]?){6,}")
_MOST_ENCODED = 50


def reveals(text: str, secret: str) -> str | None:
    """Return in which form a secret stands in a text (as it is, spaced, reversed, rot13, base64, hex); None if it does not.

    >>> reveals("It is O-R-C-H-A-R-D.", "orchard"), reveals("b3JjaGFyZA==", "orchard"), reveals("An orc is hard.", "gold")
    ('spaced', 'base64', None)
    """
    wanted, shown = _folded(secret), _folded(text)
    if not wanted:
        return None
    if re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", shown):
        return "as it is"
    compact, within = _compact(wanted), _compact(shown)
    if len(compact) < _LEAST_COMPACT:
        return None
    if compact in within:
        return "spaced"
    if compact[::-1] != compact and compact[::-1] in within:
        return "reversed"
    if codecs.encode(compact, "rot13") != compact and codecs.encode(compact, "rot13") in within:
        return "rot13"
    for name, decoded in _decoded(text):
        if compact in _compact(_folded(decoded)):
            return name
    return None


def _folded(text: str) -> str:
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return " ".join(plain.split())


def _compact(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


def _decoded(text: str) -> list[tuple[str, str]]:
    found = []
    for match in list(_BASE64.finditer(text))[:_MOST_ENCODED]:
        word = match.group().rstrip("=").replace("-", "+").replace("_", "/")
        try:
            found.append(("base64", base64.b64decode(word + "=" * (-len(word) % 4)).decode("utf-8")))
        except (binascii.Error, UnicodeDecodeError):
            continue
    for match in list(_HEX.finditer(text))[:_MOST_ENCODED]:
        try:
            found.append(("hex", bytes.fromhex(re.sub(r"[\s:]", "", match.group())).decode("utf-8")))
        except (ValueError, UnicodeDecodeError):
            continue
    return found
