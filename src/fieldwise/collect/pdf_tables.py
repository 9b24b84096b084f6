"""Tables of a PDF page: ruled ones by pdfplumber, unruled ones by the alignment of their cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from fieldwise.collect.grid import without_empty
from fieldwise.collect.pdf_layout import Line, Segment
from fieldwise.extras import require

MAX_RULED_PAGES = (
    120  # at a quarter of a second each; a longer document must not run into the time limit for its tables
)
_THIN = 3.0
_MIN_RULES = 2
_MIN_BOXES = 4
_MAX_PATHS = 3000  # a drawing, not a table; finding its cells would take minutes
_KEPT_SHARE = 0.9
_MIN_ALIGNED_LINES = 4
_MIN_ALIGNED_COLUMNS = 3
_MAX_ALIGNED_COLUMNS = 14
_MIN_FIGURE_SHARE = 0.5
_MAX_CELL_WORDS = 8


class FoundTable(NamedTuple):
    """A table and the box it stands in: left, bottom, right, top, in points from the lower left."""

    rows: list[list[str]]
    box: tuple[float, float, float, float]


def has_rules(page: Any) -> bool:
    """Tell whether a page of pdfium holds lines that could rule a table."""
    raw: Any = require("pypdfium2.raw", extra="documents", to="read PDF files")
    across = down = boxes = 0
    for n, path in enumerate(page.get_objects(filter=[raw.FPDF_PAGEOBJ_PATH], max_depth=4)):
        if n > _MAX_PATHS:
            return False
        left, low, right, high = path.get_bounds()
        wide, tall = right - left, high - low
        across += tall <= _THIN and wide > 20
        down += wide <= _THIN and tall > 6
        boxes += wide > 15 and tall > 6 and wide < 600
        if wide > 60 and tall > 20:  # a grid may be drawn as one path
            boxes += raw.FPDFPath_CountSegments(path.raw) // 4 if wide < 600 else 0
    return (across >= _MIN_RULES and down >= _MIN_RULES) or boxes >= _MIN_BOXES


class RuledTables:
    """Opens a file with pdfplumber when the first page asks for it: 30 times slower than pdfium, so only then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._asked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def find(self, number: int) -> list[FoundTable] | None:
        """Return the ruled tables of a page, counted from 0, or None if they cannot be had and its lines must do."""
        plumber: Any = require("pdfplumber", extra="documents", to="read tables in PDF files")
        self._asked += 1
        if self._asked > MAX_RULED_PAGES:
            return None
        try:
            if self._file is None:
                self._file = plumber.open(self._path)
            return self._find(self._file.pages[number])
        except (
            plumber.utils.exceptions.PdfminerException,
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            ArithmeticError,
        ):
            return None  # pdfminer is less forgiving than pdfium; the text of the page is there all the same

    def _find(self, page: Any) -> list[FoundTable]:
        """Those of one row or one column are frames, not tables."""
        found = []
        for table in page.find_tables():
            rows = without_empty([[" ".join((cell or "").split()) for cell in row] for row in table.extract()])
            if len(rows) >= 2 and len(rows[0]) >= 2:
                x0, top, x1, bottom = table.bbox
                found.append(FoundTable(rows, (x0, page.height - bottom, x1, page.height - top)))
        page.close()
        return found


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
