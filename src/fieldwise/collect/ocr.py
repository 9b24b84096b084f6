"""Text recognition (OCR) by RapidOCR: a picture of a page to lines, with how sure the recogniser is of them.

The models (PP-OCRv6 small, Apache-2.0) come within the wheel of rapidocr, so nothing is fetched. They are loaded once a
process and compute on one thread, so that a page gives the same text whatever the machine has to offer.
"""

from __future__ import annotations

import functools
import statistics
from typing import Any, NamedTuple

from fieldwise.collect.builder import TextBuilder, one_line
from fieldwise.collect.heartbeat import beat
from fieldwise.collect.pdf_blocks import split_blocks
from fieldwise.collect.pdf_layout import Segment, reading_order
from fieldwise.collect.pdf_tables import find_aligned
from fieldwise.errors import MissingExtra
from fieldwise.extras import require

MAX_SIDE_PIXELS = 2000
"""Longest side of a page as it is recognised; the library would shrink larger ones to this."""
LOW_CONFIDENCE = 0.9
"""Below it a page is listed as one to check, and looked at from its other sides. Ten pages of the examples have 0.99,
upside down 0.67; letters of 4 pixels 0.95 with some wrong, smaller ones 0.85 with most words wrong."""
_SIZE_OF_BOX = 0.7  # boxes are drawn around ascenders, descenders and a margin
_TALL = 1.5
_MEMORY_WORDS = ("bad_alloc", "allocate memory", "Insufficient memory")
_MAX_RATIO = 2


class Recognised(NamedTuple):
    """The lines of a page, in pixels from its lower left corner, and the mean confidence over its characters."""

    segments: list[Segment]
    width: int
    confidence: float
    is_turned: bool

    @property
    def chars(self) -> int:
        """How many characters were found."""
        return sum(len(segment.text) for segment in self.segments)

    @property
    def _worth(self) -> float:
        return self.confidence * self.chars


def recognise(picture: Any) -> Recognised:
    """Return what stands on a picture (of PIL). One that reads badly or sideways is turned and the best way is kept."""
    picture = _shrunk(picture.convert("RGB"))
    upright = _read(picture)
    if not upright.segments or (upright.confidence >= LOW_CONFIDENCE and not upright.is_turned):
        return upright
    turns = (90, 270) if upright.is_turned else (180, 90, 270)
    others = [_read(picture.rotate(degrees, expand=True)) for degrees in turns]
    straight = [read for read in (upright, *others) if not read.is_turned]
    return max(straight or [upright], key=lambda read: read._worth)


def add_page(builder: TextBuilder, number: int, page: Recognised) -> None:
    """Add a page to a document: paragraphs and figures in columns, no headings, since sizes of boxes only hint at them."""
    builder.page(number, confidence=round(page.confidence, 3))
    lines = reading_order(page.segments, page.width)
    at = 0
    for table in find_aligned(lines):
        _add_paragraphs(builder, lines[at : table.first])
        builder.table(table.rows)
        at = table.last
    _add_paragraphs(builder, lines[at:])


def add_notes(builder: TextBuilder, confidences: dict[int, float]) -> None:
    """Note which pages were recognised and which of them are to be checked."""
    if not confidences:
        return
    mean = statistics.fmean(confidences.values())
    builder.note(f"{_pages(list(confidences))} read by OCR, mean confidence {mean:.2f}")
    low = {number: c for number, c in confidences.items() if c < LOW_CONFIDENCE}
    if low:
        each = ", ".join(f"{number} ({confidence:.2f})" for number, confidence in low.items())
        builder.note(f"OCR is unsure of page{'s' if len(low) > 1 else ''} {each}: compare with the original")


def _add_paragraphs(builder: TextBuilder, lines: list[Any]) -> None:
    for block in split_blocks(lines):
        builder.paragraph(block.text)


def _read(picture: Any) -> Recognised:
    np: Any = require("numpy", extra="ocr", to="recognise text")
    beat()
    picture = _padded(picture)
    pixels = np.asarray(picture)[:, :, ::-1]  # the models were trained on BGR
    try:
        found = _engine()(np.ascontiguousarray(pixels))
    except Exception as error:
        if any(word in str(error) for word in _MEMORY_WORDS):
            raise MemoryError from error  # as one of its own: a file is not broken because memory ran out
        raise
    width, height = picture.size
    if found.txts is None or found.boxes is None:
        return Recognised([], width, 0.0, False)
    rows = [
        (box, one_line(text), score) for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
    ]
    rows = [row for row in rows if row[1]]
    chars = sum(len(text) for _, text, _ in rows)
    if not chars:
        return Recognised([], width, 0.0, False)
    tall = sum(len(text) for box, text, _ in rows if _height(box) > _TALL * _width(box))
    # one size for the page: boxes differ by their letters, and a new size would begin a new paragraph
    size = _SIZE_OF_BOX * statistics.median(min(_height(box), _width(box)) for box, _, _ in rows)
    segments = [_segment(box, text, size, height) for box, text, _ in rows]
    confidence = sum(float(score) * len(text) for _, text, score in rows) / chars
    return Recognised(segments, width, confidence, tall > chars / 2)


def _shrunk(picture: Any) -> Any:
    """The library shrinks as well, but holds what it was given meanwhile, several times over."""
    factor = MAX_SIDE_PIXELS / max(picture.size)
    return picture if factor >= 1 else picture.resize([max(1, round(side * factor)) for side in picture.size])


def _padded(picture: Any) -> Any:
    """A strip on a white sheet: the library blows pictures up until the shorter side is long enough, letters and all."""
    width, height = picture.size
    least = max(width, height) // _MAX_RATIO
    if min(width, height) >= least:
        return picture
    sheet = require("PIL.Image", extra="ocr", to="read pictures").new(
        "RGB", (max(width, least), max(height, least)), "white"
    )
    sheet.paste(picture, (0, 0))
    return sheet


def _segment(box: Any, text: str, size: float, height: int) -> Segment:
    xs, ys = [float(point[0]) for point in box], [float(point[1]) for point in box]
    return Segment(text, min(xs), max(xs), height - sum(ys) / 4, size, False)


def _height(box: Any) -> float:
    return float(max(point[1] for point in box) - min(point[1] for point in box))


def _width(box: Any) -> float:
    return float(max(point[0] for point in box) - min(point[0] for point in box))


@functools.cache
def _engine() -> Any:
    """The recogniser, loaded once a process.

    Its classifier of direction is left out: on upright pages it turns lines over that are only slightly askew, and the
    line is lost. Pages that lie on their side or head are turned as a whole instead.
    """
    to = "read scanned pages and pictures"
    require("onnxruntime", extra="ocr", to=to)
    try:
        cv2: Any = require("cv2", extra="ocr", to=to)
        rapidocr: Any = require("rapidocr", extra="ocr", to=to)
    except ImportError as error:
        raise MissingExtra(
            f"text recognition does not start: {error}",
            fix="Mend the installation (pip install --force-reinstall opencv-python-headless), or set collect.ocr to off.",
        ) from error
    cv2.setNumThreads(1)
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.max_side_len": MAX_SIDE_PIXELS,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _pages(numbers: list[int]) -> str:
    """Page numbers with runs drawn together.

    >>> _pages([1, 2, 3, 7]), _pages([4])
    ('pages 1-3, 7 were', 'page 4 was')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    told = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"page {told} was" if len(numbers) == 1 else f"pages {told} were"
