"""The language of a document, offline."""

from __future__ import annotations

import re
from typing import Any

from fieldwise.extras import require

_MIN_LETTERS = 20
_MAX_CHARS = 4000
_NOT_PROSE = re.compile(r"^\|.*$|https?://\S+|\S+@\S+|[\d_|#*<>]+", re.MULTILINE)


def detect_language(text: str) -> str | None:
    """Return the ISO 639-1 code of the language most of a text is in; None if there is too little text to tell."""
    sample = _NOT_PROSE.sub(" ", text[: 4 * _MAX_CHARS])
    if sum(c.isalpha() for c in sample) < _MIN_LETTERS:
        sample = text
    sample = " ".join(sample.split())[:_MAX_CHARS]
    if sum(c.isalpha() for c in sample) < _MIN_LETTERS:
        return None
    py3langid: Any = require("py3langid", extra="documents", to="detect the language")
    language, _ = py3langid.classify(sample)
    return str(language)
