"""Headings in text without markup: short numbered lines and short lines in capitals."""

from __future__ import annotations

import re

_MAX_CHARS = 90
_MAX_NAMED_CHARS = 160  # titles of items of annual reports are that long
_NUMBERED = re.compile(r"(?P<number>\d{1,3}(?:\.\d{1,3}){0,4})\.?\s+(?P<rest>\S.*)")
_NAMED = re.compile(
    r"(?:(?P<part>part|chapter|title|annex|appendix|schedule)|item|section|article|§)\s*(?-i:[IVXLC]+|\d+[A-Za-z]?|[A-Z])\b(?P<mark>\.|\s*[:\u2013\u2014-])?(?:\s+\S.*)?",
    re.IGNORECASE,
)
_ENDS_AS_SENTENCE = re.compile(r"[.;,?!…]$|:$")


def heading_level(line: str) -> int | None:
    """Return the level of a line that reads like a heading, or None.

    >>> [heading_level(s) for s in ("Item 1A. Risk Factors", "2.3 Storage", "VISITING HOURS", "Ring the bell twice.")]
    [2, 3, 2, None]
    """
    text = line.strip()
    is_sentence = bool(_ENDS_AS_SENTENCE.search(text)) or len(text) > _MAX_CHARS
    # "Item 5. Other matters." is a heading, "Section 5 applies to visitors." is not
    if (
        len(text) <= _MAX_NAMED_CHARS
        and (text[:1].isupper() or text[:1] == "§")
        and (match := _NAMED.fullmatch(text))
        and (match["mark"] or not is_sentence)
    ):
        return 1 if match["part"] else 2
    if len(text) < 2 or is_sentence:
        return None
    if (match := _NUMBERED.fullmatch(text)) and _opens_a_title(match["rest"]):
        return 2 + match["number"].count(".")
    return 2 if _is_capitals(text) else None


def _opens_a_title(text: str) -> bool:
    return text[0].isupper() and len(text.split()) <= 12 and any(c.isalpha() for c in text[1:])


def _is_capitals(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    return (
        len(letters) >= 4
        and all(not c.islower() for c in letters)
        and any(c.isupper() for c in letters)
        and len(text.split()) <= 12
    )
