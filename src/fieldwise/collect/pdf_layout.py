"""The layout of a PDF page: characters to segments, segments to lines in reading order, lines to blocks.

Coordinates are PDF points from the lower left corner, as pdfium gives them.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fieldwise.collect.pdf_calls import address_of, char_boxes, function
from fieldwise.extras import require

_BLANKS = " \xa0\t\u2002\u2003\u2009\u202f\u3000\x00"
_WORD = re.compile(f"[^\r\n{_BLANKS}]+")
_LINE_END = re.compile("[\r\n]")
_HYPHENS = str.maketrans({"\x02": "-", "\ufffe": "-"})  # pdfium's marks for a hyphen at a line end
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_GAP_EMS = 1.25  # a wider gap ends a segment: another column or cell
_SAME_LINE_EMS = 0.4
_RAISED_EMS = 0.6
_TOUCHING_EMS = 0.15
_MAX_CHAR_EMS = 1.6  # a word that is wider for its letters has gaps within
_MIN_COLUMN_LINES = 8
_MIN_COLUMN_SHARE = 0.2
_MAX_CROSSING_SHARE = 0.3
_MIN_PROSE_CHARS = 18
_MIN_PROSE_SHARE = 0.6


class Segment(NamedTuple):
    """A run of text without wide gaps."""

    text: str
    x0: float
    x1: float
    y: float  # of the baseline
    size: float
    is_bold: bool


class Line:
    """Segments on one baseline, left to right."""

    __slots__ = ("is_bold", "segments", "size", "text", "x0", "x1", "y")

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self.segments = segments
        first = segments[0]
        self.x0, self.y = first.x0, first.y
        """Left edge and height on the page, in points."""
        if len(segments) == 1:
            self.text, self.x1, self.size, self.is_bold = first.text, first.x1, first.size, first.is_bold
            return
        parts = [first.text]
        for before, segment in pairwise(segments):
            parts.append(segment.text if segment.x0 - before.x1 < _TOUCHING_EMS * before.size else f" {segment.text}")
        self.text = "".join(parts)
        """The words of the line, wide gaps kept as blanks."""
        self.x1 = max(s.x1 for s in segments)
        """Right edge, in points."""
        self.size = max(segments, key=lambda s: len(s.text)).size
        """Font size of most of the line, in points."""
        self.is_bold = all(s.is_bold for s in segments)
        """Whether all of it is bold."""


class Word(NamedTuple):
    """Characters without blanks between them; `bottom` and `top` are those of their font."""

    text: str
    start: int
    x0: float
    x1: float
    bottom: float
    top: float


class PageChars(NamedTuple):
    """What stands on a page: its segments in the order of the file, their words, and whether the places can be trusted."""

    segments: list[Segment]
    words: list[Word]
    has_layout: bool


# ---------------------------------------------------------------- characters to segments


class _Run:
    """A segment in the making."""

    __slots__ = ("bottom", "is_bold", "last", "parts", "size", "x0", "x1", "y")

    def __init__(self, page: _Handle, word: Word) -> None:
        self.parts, self.last, self.x0, self.x1, self.bottom, _ = [word.text], *word[1:]
        self.y, self.size, self.is_bold = page.baseline(word.start), page.size(word.start), page.is_bold(word.start)


def read_segments(textpage: Any, fonts: dict[int, bool]) -> PageChars:
    """Return the segments of a page from pdfium's text page; right-to-left and turned text has no usable layout.

    `fonts` remembers which fonts of the file are bold, by their address.
    """
    page = _Handle(address_of(textpage.raw), fonts)
    text = _text(textpage, page.address)
    words = _words(text, page.address)
    line_ends = [match.start() for match in _LINE_END.finditer(text)]
    line_ends.append(len(text))
    segments: list[Segment] = []
    run: _Run | None = None
    end = at = 0
    for word in words:
        letters, start, x0, x1, bottom, _ = word
        begins_line = line_ends[at] < start
        while line_ends[at] < start:
            at += 1
        if run is not None:
            size = run.size
            if (
                not begins_line
                and -size < x0 - run.x1 < _GAP_EMS * size
                and -_SAME_LINE_EMS * size <= bottom - run.bottom <= _SAME_LINE_EMS * size
            ):
                if start > end:
                    run.parts.append(" ")
                run.parts.append(letters)
                run.x1, run.last, end = max(run.x1, x1), start, start + len(letters)
                continue
            segments.append(page.segment(run))
        run, end = _Run(page, word), start + len(letters)
    if run is not None:
        segments.append(page.segment(run))
    odd = page.turned + len(_RIGHT_TO_LEFT.findall(text))
    return PageChars(segments, words, odd <= 0.2 * max(sum([len(word.text) for word in words]), 1))


def _text(textpage: Any, handle: int) -> str:
    """The characters of a page, each in its place: what pdfium gives at once leaves out those without a code."""
    total = textpage.count_chars()
    text = str(textpage.get_text_range()) if total else ""
    if len(text) != total:
        unicode = function("FPDFText_GetUnicode")
        text = "".join([chr(min(unicode(handle, n), 0x10FFFF)) for n in range(total)])
    return text


def _words(text: str, handle: int) -> list[Word]:
    spans = [match.span() for match in _WORD.finditer(text)]
    if not spans:
        return []
    boxes = char_boxes(handle, [start for start, _ in spans] + [end - 1 for _, end in spans])
    first, last = boxes[: len(spans)], boxes[len(spans) :]
    widths = (last[:, 2] - first[:, 0]) / np.array([end - start for start, end in spans])
    heights = np.maximum(first[:, 3] - first[:, 1], 1.0)
    apart = (
        (widths <= 0)
        | (widths > _MAX_CHAR_EMS * heights)
        | (np.abs(last[:, 1] - first[:, 1]) > _SAME_LINE_EMS * heights)
    )
    words: list[Word] = []
    letters = text.translate(_HYPHENS)
    for (start, end), (x0, bottom, _, top), x1, is_apart in zip(
        spans, first.tolist(), last[:, 2].tolist(), apart.tolist(), strict=True
    ):
        if is_apart and end - start > 1:
            words += _letters(letters, start, end, handle)
        else:
            words.append(Word(letters[start:end], start, x0, x1, bottom, top))
    return words


def _letters(text: str, start: int, end: int, handle: int) -> Iterator[Word]:
    """Each letter of a word for itself: they stand apart, one above the other or from right to left."""
    for n, (x0, bottom, x1, top) in enumerate(char_boxes(handle, range(start, end)).tolist(), start):
        yield Word(text[n], n, x0, x1, bottom, top)


class _Handle:
    """What pdfium tells of single characters of a page, by their number."""

    def __init__(self, address: int, fonts: dict[int, bool]) -> None:
        self.address, self._fonts = address, fonts
        self.turned = 0
        self._point, self._matrix = (ctypes.c_double * 2)(), (ctypes.c_float * 6)()
        self._x, self._y = ctypes.addressof(self._point), ctypes.addressof(self._point) + 8
        self._matrix_at = ctypes.addressof(self._matrix)
        names = ("GetCharOrigin", "GetMatrix", "GetFontSize", "GetTextObject")
        self._origin_of, self._matrix_of, self._size_of, self._object_of = (function(f"FPDFText_{n}") for n in names)
        self._font_of = function("FPDFTextObj_GetFont")

    def baseline(self, n: int) -> float:
        self._origin_of(self.address, n, self._x, self._y)
        return self._point[1]

    def size(self, n: int) -> float:
        """Size in points as it appears; characters turned by a quarter or on their heads are counted."""
        self._matrix_of(self.address, n, self._matrix_at)
        a, b, c, d = self._matrix[:4]
        self.turned += a < abs(b)
        size = float(self._size_of(self.address, n)) * math.hypot(c, d)
        return size if 1 <= size <= 300 else 10.0

    def is_bold(self, n: int) -> bool:
        found = self._object_of(self.address, n)
        font = self._font_of(found) if found else None
        if not font:
            return False
        if font not in self._fonts:
            self._fonts[font] = _is_bold_font(font)
        return self._fonts[font]

    def segment(self, run: _Run) -> Segment:
        is_bold = run.is_bold and self.is_bold(run.last)
        return Segment("".join(run.parts), run.x0, run.x1, run.y, run.size, is_bold)


def _is_bold_font(font: int) -> bool:
    """By weight or, since the standard fonts have none, by the name of the font."""
    raw: Any = require("pypdfium2.raw", extra="documents", to="read PDF files")
    pointer = ctypes.cast(font, raw.FPDF_FONT)
    if raw.FPDFFont_GetWeight(pointer) >= 600:
        return True
    name = ctypes.create_string_buffer(128)
    raw.FPDFFont_GetBaseFontName(pointer, name, 128)
    lowered = name.value.lower()
    return any(word in lowered for word in (b"bold", b"black", b"heavy", b"semibold")) or lowered.endswith(
        (b"-bd", b",bd")
    )


# ---------------------------------------------------------------- segments to lines


def reading_order(segments: list[Segment], page_width: float) -> list[Line]:
    """Return the lines of a page as they are read: from top to bottom, two columns of prose one after the other."""
    gutter = _find_gutter(segments, page_width)
    if gutter is None:
        return _lines(segments)
    lines: list[Line] = []
    across: list[Segment] = []
    left: list[Segment] = []
    right: list[Segment] = []
    for segment in sorted(segments, key=lambda s: -s.y):
        if segment.x0 < gutter - 3 and segment.x1 > gutter + 3:
            lines += _lines(left) + _lines(right)
            left, right = [], []
            across.append(segment)
        else:
            lines += _lines(across)
            across = []
            (left if segment.x1 <= gutter + 3 else right).append(segment)
    return lines + _lines(across) + _lines(left) + _lines(right)


def _lines(segments: list[Segment]) -> list[Line]:
    lines: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda s: -s.y):
        if lines and _is_same_line(lines[-1][0], segment):
            lines[-1].append(segment)
        else:
            lines.append([segment])
    return [Line(tuple(sorted(line, key=lambda s: s.x0))) for line in lines]


def _is_same_line(first: Segment, second: Segment) -> bool:
    """Letters set smaller may stand higher or lower: they are marks of footnotes."""
    small, large = sorted((first.size, second.size))
    return abs(first.y - second.y) <= (_RAISED_EMS if small < 0.8 * large else _SAME_LINE_EMS) * large


def _find_gutter(segments: list[Segment], page_width: float) -> float | None:
    """The middle of the blank strip between two columns of prose, or None; short cells of a table are no prose."""
    if len(segments) < 2 * _MIN_COLUMN_LINES:
        return None
    places = page_width * np.arange(35, 66) / 100
    lefts, rights = np.array([s.x0 for s in segments]), np.array([s.x1 for s in segments])
    crossing = ((lefts < places[:, None] - 3) & (rights > places[:, None] + 3)).sum(axis=1)
    fewest = int(crossing.min())
    if fewest > _MAX_CROSSING_SHARE * len(segments):
        return None
    free = places[crossing == fewest]
    x = float(free[np.argmin(np.abs(free - page_width / 2))])
    for side in ([s for s in segments if s.x1 <= x + 3], [s for s in segments if s.x0 >= x - 3]):
        prose = [s for s in side if len(s.text) >= _MIN_PROSE_CHARS and s.x1 - s.x0 >= _MIN_COLUMN_SHARE * page_width]
        if len(prose) < _MIN_COLUMN_LINES or sum(len(s.text) for s in prose) < _MIN_PROSE_SHARE * sum(
            len(s.text) for s in side
        ):
            return None
    return x
