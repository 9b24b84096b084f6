"""Tables of a PDF page: ruled ones by the cells their lines enclose, unruled ones by the alignment of their cells."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from fieldwise.collect.grid import without_empty
from fieldwise.collect.pdf_calls import address_of, function
from fieldwise.collect.pdf_layout import Line, Segment, Word
from fieldwise.extras import require

_THIN = 3.0
_STRAIGHT = 0.1  # points by which a line along the page may be off
_MIN_RULES = 2
_MIN_BOXES = 4
_MAX_PATHS = 3000  # a drawing, not a table; finding its cells would take minutes
_MAX_OBJECTS = 50_000
_MAX_POINTS = 400  # of one path
_MAX_DEPTH = 4
_PATH, _FORM = 2, 5  # kinds of objects of a page
_LINE, _MOVE = 0, 2  # kinds of parts of a path
MAX_EDGES = 200_000  # of one file; what has more is drawings, and must not run into the time limit for its tables
_SAME_LINE = 0.4  # times the height of a word
_TOUCHING = 0.15
_TALL = 0.8  # times the height of the tallest word of a cell
_KEPT_SHARE = 0.9
_MIN_ALIGNED_LINES = 4
_MIN_ALIGNED_COLUMNS = 3
_MAX_ALIGNED_COLUMNS = 14
_MIN_FIGURE_SHARE = 0.5
_MAX_CELL_WORDS = 8

_Box = tuple[float, float, float, float]


class FoundTable(NamedTuple):
    """A table and the box it stands in: left, bottom, right, top, in points from the lower left."""

    rows: list[list[str]]
    box: tuple[float, float, float, float]


class _Path(NamedTuple):
    """A path of a page: its address, the box it fills in the space it is drawn in, and the way from there to the page."""

    address: int
    box: _Box
    ways: tuple[tuple[float, ...], ...]


class RuledTables:
    """Finds the ruled tables of the pages of one file."""

    def __init__(self) -> None:
        self._edges = 0

    def find(self, page: Any, words: Sequence[Word]) -> list[FoundTable] | None:
        """Return the tables of a page, or None if its lines must do since the file holds drawings without end."""
        paths = _paths(address_of(page.raw))
        if not _could_rule(paths):
            return []
        edges = [edge for path in paths for edge in _edges(path)]
        self._edges += len(edges)
        return _find_ruled(edges, words) if self._edges <= MAX_EDGES else None


def _find_ruled(edges: list[dict[str, Any]], words: Sequence[Word]) -> list[FoundTable]:
    """The tables that lines and frames enclose; the text of a cell is the words within it."""
    plumber: Any = require("pdfplumber.table", extra="documents", to="find tables in PDF files")
    found = []
    for table in plumber.TableFinder(_Ruled(edges)).tables:
        x0, top, x1, bottom = table.bbox
        within = [w for w in words if x0 <= (w.x0 + w.x1) / 2 < x1 and -bottom <= (w.bottom + w.top) / 2 < -top]
        texts = without_empty([[_text_in(cell, within) for cell in row.cells] for row in table.rows])
        if len(texts) >= 2 and len(texts[0]) >= 2:  # those of one row or one column are frames, not tables
            found.append(FoundTable(texts, (x0, -bottom, x1, -top)))
    return found


class _Ruled(NamedTuple):
    """All that pdfplumber looks at of a page to find its tables; it counts downwards, so heights are negative."""

    edges: list[dict[str, Any]]


def _paths(page: int) -> list[_Path]:
    """The paths of a page, also those in forms; none if they are too many to be a table."""
    count, get = function("FPDFPage_CountObjects"), function("FPDFPage_GetObject")
    total = count(page)
    if total > _MAX_OBJECTS:
        return []
    found: list[_Path] = []
    for n in range(total):
        _gather(get(page, n), (), found)
        if len(found) > _MAX_PATHS:
            return []
    return found


def _gather(item: int, ways: tuple[tuple[float, ...], ...], found: list[_Path]) -> None:
    kind = function("FPDFPageObj_GetType")(item)
    if kind == _PATH:
        box = (ctypes.c_float * 4)()
        at = ctypes.addressof(box)
        if function("FPDFPageObj_GetBounds")(item, at, at + 4, at + 8, at + 12):
            found.append(_Path(item, _moved_box(tuple(box), ways), ways))
    elif kind == _FORM and len(ways) < _MAX_DEPTH:
        inside = (_matrix(item), *ways)
        for n in range(min(function("FPDFFormObj_CountObjects")(item), _MAX_OBJECTS)):
            _gather(function("FPDFFormObj_GetObject")(item, n), inside, found)
            if len(found) > _MAX_PATHS:
                return


def _matrix(item: int) -> tuple[float, ...]:
    matrix = (ctypes.c_float * 6)()
    function("FPDFPageObj_GetMatrix")(item, ctypes.addressof(matrix))
    return tuple(matrix)


def _moved(x: float, y: float, ways: tuple[tuple[float, ...], ...]) -> tuple[float, float]:
    for a, b, c, d, e, f in ways:
        x, y = a * x + c * y + e, b * x + d * y + f
    return x, y


def _moved_box(box: tuple[float, ...], ways: tuple[tuple[float, ...], ...]) -> _Box:
    left, low, right, high = box
    if ways:
        (x0, y0), (x1, y1) = _moved(left, low, ways), _moved(right, high, ways)
        left, low, right, high = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
    return left, low, right, high


def _could_rule(paths: Sequence[_Path]) -> bool:
    across = down = boxes = 0
    for address, (left, low, right, high), _ in paths:
        wide, tall = right - left, high - low
        across += tall <= _THIN and wide > 20
        down += wide <= _THIN and tall > 6
        boxes += wide > 15 and tall > 6 and wide < 600
        if wide > 60 and tall > 20 and wide < 600:  # a grid may be drawn as one path
            boxes += function("FPDFPath_CountSegments")(address) // 4
    return (across >= _MIN_RULES and down >= _MIN_RULES) or boxes >= _MIN_BOXES


def _edges(path: _Path) -> Iterator[dict[str, Any]]:
    """The straight lines of a path along the page or down it, in the words of pdfplumber."""
    left, low, right, high = path.box
    across, down = (low + high) / 2, (left + right) / 2
    if high - low <= _THIN and right - left <= _THIN:  # a dot, where the rules of a table drawn cell by cell meet
        yield _edge("h", left, right, across, across)
        yield _edge("v", down, down, low, high)
    elif high - low <= _THIN:
        yield _edge("h", left, right, across, across)
        yield _edge("v", left, left, low, high)
        yield _edge("v", right, right, low, high)
    elif right - left <= _THIN:
        yield _edge("v", down, down, low, high)
        yield _edge("h", left, right, low, low)
        yield _edge("h", left, right, high, high)
    else:
        for (x0, y0), (x1, y1) in _strokes(path):
            if abs(x0 - x1) < _STRAIGHT:
                yield _edge("v", x0, x0, min(y0, y1), max(y0, y1))
            elif abs(y0 - y1) < _STRAIGHT:
                yield _edge("h", min(x0, x1), max(x0, x1), y0, y0)


def _edge(orientation: str, x0: float, x1: float, low: float, high: float) -> dict[str, Any]:
    return {
        "object_type": "line",
        "orientation": orientation,
        "x0": x0,
        "x1": x1,
        "top": -high,
        "bottom": -low,
        "width": x1 - x0,
        "height": high - low,
    }


def _strokes(path: _Path) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    ways = (_matrix(path.address), *path.ways)
    point = (ctypes.c_float * 2)()
    at = ctypes.addressof(point)
    start = before = (0.0, 0.0)
    for n in range(min(function("FPDFPath_CountSegments")(path.address), _MAX_POINTS)):
        segment = function("FPDFPath_GetPathSegment")(path.address, n)
        function("FPDFPathSegment_GetPoint")(segment, at, at + 4)
        kind = function("FPDFPathSegment_GetType")(segment)
        here = _moved(point[0], point[1], ways)
        if kind == _MOVE:
            start = here
        elif kind == _LINE:
            yield before, here
        before = here
        if function("FPDFPathSegment_GetClose")(segment):
            yield here, start
            before = start


def _text_in(cell: _Box | None, words: Sequence[Word]) -> str:
    """The words whose middle lies in a cell, line by line."""
    if cell is None:
        return ""
    x0, top, x1, bottom = cell
    inside = [w for w in words if x0 <= (w.x0 + w.x1) / 2 < x1 and -bottom <= (w.bottom + w.top) / 2 < -top]
    tall = _TALL * max((w.top - w.bottom for w in inside), default=0.0)
    lines: list[list[Word]] = []
    for word in sorted((w for w in inside if w.top - w.bottom >= tall), key=lambda w: -w.bottom):
        if lines and lines[-1][0].bottom - word.bottom <= _SAME_LINE * (word.top - word.bottom):
            lines[-1].append(word)
        else:
            lines.append([word])
    for word in inside:  # set smaller, higher or lower: it belongs to the line nearest to it
        if word.top - word.bottom < tall:
            middle = word.bottom + word.top
            min(lines, key=lambda line: abs(line[0].bottom + line[0].top - middle)).append(word)
    return " ".join(_joined(sorted(line, key=lambda w: w.x0)) for line in lines)


def _joined(words: Sequence[Word]) -> str:
    parts = [words[0].text]
    for before, word in pairwise(words):
        is_next = word.start == before.start + len(before.text)
        touches = is_next and word.x0 - before.x1 < _TOUCHING * (word.top - word.bottom)
        parts.append(word.text if touches else f" {word.text}")
    return "".join(parts)


def segments_in(table: FoundTable, segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments a table takes the place of: none if it would lose words of theirs."""
    x0, y0, x1, y1 = table.box
    inside = [s for s in segments if x0 - 1 <= (s.x0 + s.x1) / 2 <= x1 + 1 and y0 - 2 <= s.y + s.size / 3 <= y1 + 2]
    there, here = (
        _letters(" ".join(cell for row in table.rows for cell in row)),
        _letters(" ".join(s.text for s in inside)),
    )
    lost = sum((here - there).values())
    return inside if inside and lost <= (1 - _KEPT_SHARE) * here.total() else []


def _letters(text: str) -> Counter[str]:
    """Words may be broken differently by the two libraries; letters and digits may not."""
    return Counter(c for c in text if c.isalnum())


# ---------------------------------------------------------------- tables without rules


class AlignedTable(NamedTuple):
    """Lines from `first` up to, not including, `last` form the rows of a table."""

    first: int
    last: int
    rows: list[list[str]]


def find_aligned(lines: Sequence[Line]) -> list[AlignedTable]:
    """Return runs of lines whose segments stand in columns and are mostly figures."""
    found: list[AlignedTable] = []
    at = 0
    while at < len(lines):
        end = at
        while (
            end < len(lines)
            and len(lines[end].segments) >= 2
            and (end == at or 0 < lines[end - 1].y - lines[end].y < 3 * lines[end].size)
        ):
            end += 1
        table = _as_table(lines, at, end) if end - at >= _MIN_ALIGNED_LINES else None
        if table is not None:
            found.append(table)
        at = max(end, at + 1)
    return found


def _as_table(lines: Sequence[Line], first: int, last: int) -> AlignedTable | None:
    columns = _columns([s for line in lines[first:last] for s in line.segments])
    if not _MIN_ALIGNED_COLUMNS <= len(columns) <= _MAX_ALIGNED_COLUMNS:
        return None
    rows = []
    for line in lines[first:last]:
        row = [""] * len(columns)
        for segment in line.segments:
            n = next(n for n, (x0, x1) in enumerate(columns) if x0 <= segment.x0 <= x1)
            row[n] = f"{row[n]} {segment.text}".strip()
        rows.append(row)
    cells = [cell for row in rows[1:] for cell in row[1:] if cell]
    figures = sum(any(c.isdigit() for c in cell) for cell in cells)
    if not cells or figures < _MIN_FIGURE_SHARE * len(cells) or max(len(c.split()) for c in cells) > _MAX_CELL_WORDS:
        return None
    return AlignedTable(first, last, rows)


def _columns(segments: list[Segment]) -> list[tuple[float, float]]:
    """Merge the extents of the segments into the columns they form."""
    columns: list[tuple[float, float]] = []
    for segment in sorted(segments, key=lambda s: s.x0):
        if columns and segment.x0 <= columns[-1][1] + 1:
            columns[-1] = (columns[-1][0], max(columns[-1][1], segment.x1))
        else:
            columns.append((segment.x0, segment.x1))
    return columns
