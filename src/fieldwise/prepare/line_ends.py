"""Line ends that come from the width of a page: paragraphs of PDF and plain text become running text again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

from fieldwise.prepare.edits import Edit
from fieldwise.records import Document

WRAPPED_TYPES = {"application/pdf", "text/plain", "message/rfc822"}
_ITEM = re.compile(r"\s*(?:[-*•\u2013]|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,4})[.)])\s+\S")
_FIELD = re.compile(r"[A-Z][\w-]{0,20}: ")
_SENTENCE_END = re.compile(r"[.!?:;…][\"'”\u2019)\]]*\s*$")
_HYPHEN = re.compile(r"([^\W\d_]{2,})([-\u2010\u00ad])$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_NO_BLANK_SCRIPTS = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
_COMPOUND_HEADS = {
    "self",
    "non",
    "well",
    "high",
    "low",
    "long",
    "short",
    "half",
    "ex",
    "all",
    "cross",
    "pre",
    "post",
    "co",
    "part",
    "full",
    "on",
    "off",
    "over",
    "under",
}
_FULL_SHARE = 0.6
_MIN_FULL_CHARS = 25


def join_lines(document: Document, *, joins_words: bool = True) -> list[Edit]:
    """Return the edits that join wrapped lines; list items, headings, tables and short lines keep their ends."""
    if document.source.media_type not in WRAPPED_TYPES:
        return []
    text = _Wrapped(document)
    within = [edit for a, b in text.neighbours() if (edit := text.join(a, b, joins_words)) is not None]
    across = [edit for n in range(len(document.pages) - 1) if (edit := text.join_pages(n, joins_words)) is not None]
    return within + across


class _Wrapped:
    """A document as lines, with what is usual in it."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._text = document.text
        self._fixed = sorted(
            [(h.start, h.end) for h in document.headings] + [(t.start, t.end) for t in document.tables]
        )
        self._lines = list(self._split())
        self._full = max(_MIN_FULL_CHARS, _FULL_SHARE * _usual_length([end - start for start, end in self._lines]))

    def _split(self) -> Iterator[tuple[int, int]]:
        """Lines that are neither heading nor table."""
        fixed = iter([*self._fixed, (len(self._text) + 1, len(self._text) + 1)])
        next_start, next_end = next(fixed)
        at = 0
        for line in self._text.split("\n"):
            start, end = at, at + len(line)
            at = end + 1
            while start >= next_end and next_end <= len(self._text):
                next_start, next_end = next(fixed)
            if line.strip() and not (start < next_end and next_start < end):
                yield start, end

    def neighbours(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Pairs of lines with nothing but one line end between them."""
        for a, b in zip(self._lines, self._lines[1:], strict=False):
            if b[0] == a[1] + 1:
                yield a, b

    @cached_property
    def _words(self) -> Counter[str]:
        return Counter(word.casefold() for word in _WORD.findall(self._text))

    def join(self, a: tuple[int, int], b: tuple[int, int], joins_words: bool) -> Edit | None:
        """The edit that joins two lines of a paragraph, or None if the line end means something."""
        first, second = self._text[a[0] : a[1]], self._text[b[0] : b[1]]
        if _ITEM.match(second) or _FIELD.match(second):
            return None
        if not (len(first) >= self._full or second.lstrip()[0].islower()):
            return None
        return self._edit(a[1], b[1] - len(second.lstrip()), joins_words)

    def join_pages(self, n: int, joins_words: bool) -> Edit | None:
        """The edit that joins a paragraph cut by the end of a page: it has no full stop and goes on in lower case."""
        page, following = self._document.pages[n], self._document.pages[n + 1]
        end, start = page.end, following.start
        if (
            page.start == page.end
            or following.start == following.end
            or self._text[end:start].strip()
            or not self._text[start].islower()
        ):
            return None
        if any(s < start + 1 and end - 1 < e for s, e in self._fixed) or _SENTENCE_END.search(
            self._text[max(page.start, end - 10) : end]
        ):
            return None
        return self._edit(end, start, joins_words)

    def _edit(self, end: int, start: int, joins_words: bool) -> Edit:
        begin = max(0, end - 60)
        hyphen = _HYPHEN.search(self._text[begin:end])
        tail = _WORD.match(self._text[start : start + 60].lstrip()) if hyphen else None
        if hyphen is not None and tail is not None:
            if joins_words and self._is_one_word(hyphen[1], tail[0].split("-")[0], hyphen[2]):
                return Edit(end - 1, start, "")
            return Edit(end, start, "")
        if end > 0 and _NO_BLANK_SCRIPTS.match(self._text[end - 1]) and _NO_BLANK_SCRIPTS.match(self._text[start]):
            return Edit(end, start, "")
        is_compound = (
            self._text[end - 1] == "-" and end > 1 and self._text[end - 2].isalnum() and self._text[start].isalnum()
        )
        return Edit(end, start, "" if is_compound else " ")

    def _is_one_word(self, head: str, tail: str, mark: str) -> bool:
        """Whether a hyphen at a line end only breaks a word: the rest of the document is asked first."""
        if mark == "\u00ad":
            return True
        if not tail[0].islower():
            return False
        joined, hyphenated = self._words[(head + tail).casefold()], self._words[f"{head}-{tail}".casefold()]
        if joined or hyphenated:
            return joined >= hyphenated
        return head.casefold() not in _COMPOUND_HEADS


def _usual_length(lengths: list[int]) -> int:
    """The length of the line in which the middle character of a text stands, lines ordered by length."""
    half, passed = sum(lengths) / 2, 0
    for length in sorted(lengths):
        passed += length
        if passed >= half:
            return length
    return 0
