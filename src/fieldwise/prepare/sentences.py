"""Where sentences end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# a full stop, or its like, perhaps with closing quotes, then a blank and something that can begin a sentence
_END = re.compile(r"[.!?…][\"'”\u2019»)\]]*\s+(?=[\"'“\u2018«(\[]?[^\W_a-z]|[-•*] )|[。\uff01\uff1f]\s*|[.!?:;]\n+")
_KNOWN = """dr mr mrs ms prof st no nos vs etc fig figs eq cf al approx dept inc ltd co corp jr sr art sec ch para pp vol ed eds
rev gen col sgt capt lt hon pres gov e.g i.e a.m p.m u.s u.k jan feb mar apr jun jul aug sept sep oct nov dec
bzw z.b d.h nr abs str usw evtl ggf inkl min max tel ext ref"""
_ABBREVIATIONS = frozenset(_KNOWN.split())
_LAST_WORD = re.compile(r"([^\W_](?:[\w.]*[^\W_])?)\.\s*$")


class Piece(NamedTuple):
    """A span of a text."""

    start: int
    end: int


def split_sentences(text: str, start: int, end: int) -> Iterator[Piece]:
    """Yield the sentences of `text[start:end]`, without the blanks between them."""
    begin = start
    for match in _END.finditer(text, start, end):
        if _is_abbreviation(text, begin, match.start() + 1):
            continue
        piece = _trimmed(text, begin, match.end())
        if piece is not None:
            yield piece
        begin = match.end()
    if (rest := _trimmed(text, begin, end)) is not None:
        yield rest


def _is_abbreviation(text: str, begin: int, stop: int) -> bool:
    word = _LAST_WORD.search(text[max(begin, stop - 24) : stop])
    if word is None:
        return False
    return word[1].casefold() in _ABBREVIATIONS or (len(word[1]) == 1 and word[1].isupper())


def _trimmed(text: str, start: int, end: int) -> Piece | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Piece(start, end) if end > start else None
