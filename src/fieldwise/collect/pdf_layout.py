"""The layout of a PDF page: characters to segments, segments to lines in reading order, lines to blocks.

Coordinates are PDF points from the lower left corner, as pdfium gives them.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from fieldwise.extras import require

_HYPHENS = {0x02, 0xFFFE}  # pdfium's marks for a hyphen at a line end
_BLANKS = {0x20, 0xA0, 0x09, 0x2002, 0x2003, 0x2009, 0x202F, 0x3000}
_GAP_EMS = 1.25  # a wider gap ends a segment: another column or cell
_SAME_LINE_EMS = 0.4
_RAISED_EMS = 0.6
_TOUCHING_EMS = 0.15
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


@dataclass(frozen=True)
class Line:
    """Segments on one baseline, left to right."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The words of the line, wide gaps kept as blanks."""
        parts = [self.segments[0].text]
        for before, segment in zip(self.segments, self.segments[1:], strict=False):
            parts.append(segment.text if segment.x0 - before.x1 < _TOUCHING_EMS * before.size else f" {segment.text}")
        return "".join(parts)

    @property
    def x0(self) -> float:
        """Left edge, in points."""
        return self.segments[0].x0

    @property
    def x1(self) -> float:
        """Right edge, in points."""
        return max(s.x1 for s in self.segments)

    @property
    def y(self) -> float:
        """Height of the line on the page, in points."""
        return self.segments[0].y

    @property
    def size(self) -> float:
        """Font size of most of the line, in points."""
        return max(self.segments, key=lambda s: len(s.text)).size

    @property
    def is_bold(self) -> bool:
        """Whether all of it is bold."""
        return all(s.is_bold for s in self.segments)


class PageChars(NamedTuple):
    """What stands on a page: its segments in the order of the file, and whether their places can be trusted."""

    segments: list[Segment]
    has_layout: bool


# ---------------------------------------------------------------- characters to segments


class _Run:
    """A segment in the making."""

    def __init__(self, char: str, box: tuple[float, float], y: float, size: float, is_bold: bool) -> None:
        self.chars, self.x0, self.x1, self.y, self.size, self.is_bold = [char], box[0], box[1], y, size, is_bold

    def segment(self, last_is_bold: bool) -> Segment:
        return Segment("".join(self.chars), self.x0, self.x1, self.y, self.size, self.is_bold and last_is_bold)


def read_segments(textpage: Any) -> PageChars:
    """Return the segments of a page from pdfium's text page; right-to-left and turned text has no usable layout."""
    raw: Any = require("pypdfium2.raw", extra="documents", to="read PDF files")
    handle, total = textpage.raw, textpage.count_chars()
    left, right, low, high, x, y = (ctypes.c_double() for _ in range(6))
    segments: list[Segment] = []
    run: _Run | None = None
    pending = ""
    last = odd = seen = 0
    for n in range(total):
        code = raw.FPDFText_GetUnicode(handle, n)
        if code in (0x0A, 0x0D):
            if run is not None:
                segments.append(run.segment(_is_bold(raw, handle, last)))
            run, pending = None, ""
            continue
        if code in _BLANKS or code == 0:
            pending = " "
            continue
        char = "-" if code in _HYPHENS else chr(code)
        raw.FPDFText_GetCharBox(handle, n, left, right, low, high)
        raw.FPDFText_GetCharOrigin(handle, n, x, y)
        seen += 1
        odd += 0x590 <= code <= 0x8FF or 0xFB1D <= code <= 0xFDFF or 0xFE70 <= code <= 0xFEFC
        if run is not None and (
            abs(y.value - run.y) > _SAME_LINE_EMS * run.size
            or not -run.size < left.value - run.x1 < _GAP_EMS * run.size
        ):
            segments.append(run.segment(_is_bold(raw, handle, last)))
            run = None
        if run is None:
            size, turned = _size(raw, handle, n)
            odd += turned
            run = _Run(char, (left.value, right.value), y.value, size, _is_bold(raw, handle, n))
        else:
            run.chars.append(pending + char)
            run.x1 = max(run.x1, right.value)
        pending, last = "", n
    if run is not None:
        segments.append(run.segment(_is_bold(raw, handle, last)))
    return PageChars(segments, odd <= 0.2 * max(seen, 1))


def _size(raw: Any, handle: Any, n: int) -> tuple[float, bool]:
    """Size of a character in points as it appears, and whether it is turned by a quarter or stands on its head."""
    matrix = raw.FS_MATRIX()
    raw.FPDFText_GetMatrix(handle, n, matrix)
    size = raw.FPDFText_GetFontSize(handle, n) * math.hypot(matrix.c, matrix.d)
    return (size if 1 <= size <= 300 else 10.0), matrix.a < abs(matrix.b)


def _is_bold(raw: Any, handle: Any, n: int) -> bool:
    """By weight or, since the standard fonts have none, by the name of the font."""
    if raw.FPDFText_GetFontWeight(handle, n) >= 600:
        return True
    name = ctypes.create_string_buffer(128)
    raw.FPDFText_GetFontInfo(handle, n, name, 128, ctypes.c_int())
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
    best: tuple[int, float] | None = None
    for step in range(35, 66):
        x = page_width * step / 100
        crossing = sum(s.x0 < x - 3 and s.x1 > x + 3 for s in segments)
        if (
            best is None
            or crossing < best[0]
            or (crossing == best[0] and abs(x - page_width / 2) < abs(best[1] - page_width / 2))
        ):
            best = (crossing, x)
    if best is None or best[0] > _MAX_CROSSING_SHARE * len(segments):
        return None
    x = best[1]
    for side in ([s for s in segments if s.x1 <= x + 3], [s for s in segments if s.x0 >= x - 3]):
        prose = [s for s in side if len(s.text) >= _MIN_PROSE_CHARS and s.x1 - s.x0 >= _MIN_COLUMN_SHARE * page_width]
        if len(prose) < _MIN_COLUMN_LINES or sum(len(s.text) for s in prose) < _MIN_PROSE_SHARE * sum(
            len(s.text) for s in side
        ):
            return None
    return x
