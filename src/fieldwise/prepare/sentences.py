"""Where sentences end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# a full stop, or its like, perhaps with closing quotes, then a blank and something that can begin a sentence;
# the sign itself stands before the choice, since only then does the search pass over all other letters at once
_END = re.compile(
    r"[.!?…。\uff01\uff1f:;](?:(?<=[.!?…])[\"'”\u2019»)\]]*\s+(?=[\"'“\u2018«(\[]?[^\W_a-z]|[-•*] )|(?<=[。\uff01\uff1f])\s*|(?<=[.!?:;])\n+)"
)
_KNOWN = """dr mr mrs ms prof st no nos vs etc fig figs eq cf al approx dept inc ltd co corp jr sr art sec ch para pp vol ed eds
rev gen col sgt capt lt hon pres gov e.g i.e a.m p.m u.s u.k jan feb mar apr jun jul aug sept sep oct nov dec
bzw z.b d.h nr abs str usw evtl ggf inkl min max tel ext ref"""
_ABBREVIATIONS = frozenset(_KNOWN.split())
_MAX_WORD_CHARS = 23
_WORD_BACKWARDS = re.compile(r"[^\W_][\w.]*")


class Piece(NamedTuple):
    """A span of a text."""

    start: int
    end: int


def split_sentences(text: str, start: int, end: int) -> Iterator[Piece]:
    """Yield the sentences of `text[start:end]`, without the blanks between them."""
    begin = start
    for match in _END.finditer(text, start, end):
        stop = match.end()
        if text[match.start()] == "." and _is_abbreviation(text, begin, match.start()):
            continue
        piece = _trimmed(text, begin, stop)
        if piece is not None:
            yield piece
        begin = stop
    if (rest := _trimmed(text, begin, end)) is not None:
        yield rest


def _is_abbreviation(text: str, begin: int, full_stop: int) -> bool:
    """Whether the word before a full stop is known to end in one; it is read backwards, from the full stop."""
    window = text[max(begin, full_stop - _MAX_WORD_CHARS) : full_stop]
    word = window.rpartition(" ")[2]
    if not word.isalpha():  # nearly every word is, and needs no search
        match = _WORD_BACKWARDS.match(window[::-1])
        if match is None:
            return False
        word = match[0].rstrip("._")[::-1]
    return word.casefold() in _ABBREVIATIONS or (len(word) == 1 and word.isupper())


def _trimmed(text: str, start: int, end: int) -> Piece | None:
    inner = text[start:end].rstrip()
    end = start + len(inner)
    start = end - len(inner.lstrip())
    return Piece(start, end) if end > start else None
