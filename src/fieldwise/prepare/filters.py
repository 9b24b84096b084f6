"""Which documents are too odd to teach: measures of length, repetition, signs and digits, each with its limit.

Measures are those of Gopher (Rae et al., "Scaling Language Models", 2021, arXiv:2112.11446, appendix A, table A1), and
so are limits where the settings do not say otherwise; why most are wider stands there. Tables are not measured: rows
of equal words, signs and digits are what they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fieldwise.prepare.settings import FilterSettings
from fieldwise.records import Document

TOP_NGRAMS = (2, 3, 4)
DUPLICATE_NGRAMS = (5, 6, 7, 8, 9, 10)
_MIN_WORDS = 100
"""Texts with fewer words are not judged by repetition, symbols or lines: a single repeat would pass every limit."""

_BLANK_LINE = re.compile(r"\n\s*\n")
_BULLETS = ("-", "*", "•", "◦", "▪", "‣", "–")
_ELLIPSIS = ("...", "…")


class Verdict(NamedTuple):
    """Why a document is left out, with the measured value and the limit."""

    reason: str
    detail: str


def measure_document(document: Document) -> dict[str, float]:
    """Return the measures of a document by the name of the setting that limits each; shares are from 0 to 1."""
    text = _without_tables(document)
    words = text.split()
    measures: dict[str, float] = {"min_words": len(document.text.split())}
    measures["max_words"] = measures["min_words"]
    if len(words) < _MIN_WORDS:
        return measures
    lines = [line for raw in text.split("\n") if (line := raw.strip())]
    paragraphs = [block for raw in _BLANK_LINE.split(text) if (block := raw.strip())]
    signs = sum(map(len, words))
    measures |= {
        "max_duplicate_lines": duplicate_share(lines),
        "max_duplicate_line_chars": duplicate_char_share(lines),
        "max_duplicate_paragraphs": duplicate_share(paragraphs),
        "max_duplicate_paragraph_chars": duplicate_char_share(paragraphs),
        "max_symbols": (text.count("#") + text.count("…") + text.count("...")) / len(words),
        "max_digits": sum(map(str.isdigit, text)) / signs,
        "min_words_with_letters": sum(any(map(str.isalpha, word)) for word in words) / len(words),
        "max_ellipsis_lines": sum(line.endswith(_ELLIPSIS) for line in lines) / len(lines),
        "max_bullet_lines": sum(line.startswith(_BULLETS) for line in lines) / len(lines),
    }
    for n in TOP_NGRAMS:
        measures[f"max_top_{n}gram_chars"] = top_ngram_share(words, n)
    shares = _duplicate_ngram_shares(words)
    return measures | {f"max_duplicate_{n}gram_chars": share for n, share in shares.items()}


def judge(measures: dict[str, float], settings: FilterSettings) -> Verdict | None:
    """Return the first limit a document does not keep, or None."""
    for name, value in measures.items():
        limit = _limit(name, settings)
        if limit is None or (value >= limit if name.startswith("min_") else value <= limit):
            continue
        key = name if hasattr(settings, name) else f"{_list_key(name)[0]}.{_list_key(name)[1]}"
        found = f"{value:.0f}" if name in ("min_words", "max_words") else f"{value:.1%}"
        wanted = f"{limit:.0f}" if name in ("min_words", "max_words") else f"{limit:.1%}"
        return Verdict(_reason(name), f"{_ABOUT[_family(name)]}: {found}; prepare.filters.{key} is {wanted}.")
    return None


def _limit(name: str, settings: FilterSettings) -> float | None:
    if hasattr(settings, name):
        value: float | None = getattr(settings, name)
        return value
    key, place = _list_key(name)
    limits: tuple[float, ...] = getattr(settings, key)
    return limits[place]


def _list_key(name: str) -> tuple[str, int]:
    n = int(re.findall(r"\d+", name)[0])
    if name.startswith("max_top_"):
        return "max_top_ngram_chars", TOP_NGRAMS.index(n)
    return "max_duplicate_ngram_chars", DUPLICATE_NGRAMS.index(n)


def _family(name: str) -> str:
    return re.sub(r"\d+gram", "ngram", name)


def _reason(name: str) -> str:
    if name in ("min_words", "max_words"):
        return "too_few_words" if name == "min_words" else "too_many_words"
    return {
        "max_symbols": "symbols",
        "max_digits": "digits",
        "min_words_with_letters": "few_words_with_letters",
        "max_ellipsis_lines": "ellipsis_lines",
        "max_bullet_lines": "bullet_lines",
    }.get(name, "repetition")


_ABOUT = {
    "min_words": "words",
    "max_words": "words",
    "max_duplicate_lines": "lines that repeat an earlier line",
    "max_duplicate_line_chars": "characters in lines that repeat an earlier line",
    "max_duplicate_paragraphs": "paragraphs that repeat an earlier paragraph",
    "max_duplicate_paragraph_chars": "characters in paragraphs that repeat an earlier one",
    "max_top_ngram_chars": "characters in the most frequent run of words",
    "max_duplicate_ngram_chars": "characters in runs of words that repeat an earlier run",
    "max_symbols": "signs # and … for each word",
    "max_digits": "digits among all signs",
    "min_words_with_letters": "words with a letter",
    "max_ellipsis_lines": "lines that end in an ellipsis",
    "max_bullet_lines": "lines that begin with a bullet",
}


# ---------------------------------------------------------------- measures


def duplicate_share(items: Sequence[str]) -> float:
    """Return the share of items that stood before.

    >>> duplicate_share(["a", "b", "a", "a"])
    0.5
    """
    return 1 - len(set(items)) / len(items) if items else 0.0


def duplicate_char_share(items: Sequence[str]) -> float:
    """Return the share of characters in items that stood before.

    >>> duplicate_char_share(["abc", "d", "abc", "e"])
    0.375
    """
    total = sum(map(len, items))
    return 1 - sum(map(len, set(items))) / total if total else 0.0


def top_ngram_share(words: Sequence[str], n: int) -> float:
    """Return the share of characters in the most frequent run of n words; of equally frequent ones the longest.

    >>> top_ngram_share("to be or not to be".split(), 2)
    0.6153846153846154
    """
    counts = Counter(zip(*(words[k:] for k in range(n)), strict=False))
    most = max(counts.values(), default=0)
    if most < 2:
        return 0.0
    longest = max(sum(map(len, gram)) for gram, count in counts.items() if count == most)
    return min(1.0, longest * most / sum(map(len, words)))


def duplicate_ngram_share(words: Sequence[str], n: int) -> float:
    """Return the share of characters in runs of n words that stood before, no character counted twice.

    >>> duplicate_ngram_share("a b c d a b c e".split(), 3)
    0.375
    """
    seen: set[tuple[str, ...]] = set()
    at = repeated = 0
    grams = list(zip(*(words[k:] for k in range(n)), strict=False))
    while at < len(grams):
        if grams[at] in seen:
            repeated += sum(map(len, grams[at]))
            at += n
        else:
            seen.add(grams[at])
            at += 1
    return repeated / sum(map(len, words))


def _duplicate_ngram_shares(words: Sequence[str]) -> dict[int, float]:
    """Shares for every length; where runs of five hardly repeat, longer ones cannot, and are not counted."""
    shares: dict[int, float] = {}
    for n in DUPLICATE_NGRAMS:
        shares[n] = duplicate_ngram_share(words, n)
        if shares[n] == 0:
            break
    return shares


def _without_tables(document: Document) -> str:
    parts, at = [], 0
    for table in sorted(document.tables, key=lambda t: t.start):
        parts.append(document.text[at : table.start])
        at = max(at, table.end)
    return "".join([*parts, document.text[at:]])
