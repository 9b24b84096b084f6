"""Runs of words of a text, by which near-duplicates are found among documents and among rows."""

from __future__ import annotations

import re

_NO_BLANK_SCRIPTS = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # each sign of them counts as a word
WORD = re.compile(rf"[{_NO_BLANK_SCRIPTS}]|[^\W{_NO_BLANK_SCRIPTS}]+")


def shingles(text: str, words: int) -> frozenset[str]:
    """Return the runs of `words` words of a text; a shorter text is one shingle.

    >>> sorted(shingles("To be, or not", 3))
    ['be or not', 'to be or']
    """
    tokens = WORD.findall(text.casefold())
    return frozenset(" ".join(tokens[n : n + words]) for n in range(max(1, len(tokens) - words + 1)))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the share of two sets' members that are in both.

    >>> jaccard(frozenset("abc"), frozenset("bcd"))
    0.5
    """
    union = len(first | second)
    return len(first & second) / union if union else 1.0
