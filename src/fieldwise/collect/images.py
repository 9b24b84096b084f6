"""Pictures of pages: PNG, JPEG and TIFF files, read by text recognition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fieldwise.collect.builder import TextBuilder
from fieldwise.collect.ocr import add_notes, add_page, recognise
from fieldwise.collect.pdf import MIN_PAGE_CHARS
from fieldwise.errors import DocumentError
from fieldwise.extras import require
from fieldwise.records import Document, Source

_WHITE = (255, 255, 255)


def read_image(path: Path, source: Source) -> Document:
    """Return a picture as a document; each picture of a TIFF file is a page.

    Raises DocumentError: `broken`, `too_large`, or `no_text` when none is found.
    """
    pil: Any = require("PIL.Image", extra="ocr", to="read pictures")
    builder = TextBuilder()
    confidences: dict[int, float] = {}
    try:
        with pil.open(path) as picture:
            for number in range(1, getattr(picture, "n_frames", 1) + 1):
                picture.seek(number - 1)
                page = recognise(_on_white(picture, pil))
                if page.chars < MIN_PAGE_CHARS:
                    builder.page(number)
                    builder.note(f"OCR finds no text on page {number}")
                    continue
                add_page(builder, number, page)
                confidences[number] = page.confidence
    except pil.DecompressionBombError as error:
        raise DocumentError(
            "the picture is too large", reason="too_large", found=str(error)[:120], fix="Save it smaller."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise DocumentError(
            "the picture is damaged", reason="broken", found=str(error)[:120], fix="Save it again, or get it again."
        ) from error
    if not confidences:
        raise DocumentError(
            "OCR finds no text in the picture",
            reason="no_text",
            fix="Leave it out with collect.exclude, or supply the text.",
        )
    add_notes(builder, confidences)
    return builder.document(source)


def _on_white(picture: Any, pil: Any) -> Any:
    """The picture as it is meant to be seen: turned as the camera noted, what is transparent on white."""
    turned = require("PIL.ImageOps", extra="ocr", to="read pictures").exif_transpose(picture)
    if turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info:
        above = turned.convert("RGBA")
        below = pil.new("RGBA", above.size, (*_WHITE, 255))
        below.alpha_composite(above)
        return below.convert("RGB")
    if turned.mode.startswith("I;16"):  # grey of 16 bits, which a plain conversion would cut off at white
        np: Any = require("numpy", extra="ocr", to="read pictures")
        return pil.fromarray((np.asarray(turned) >> 8).astype("uint8")).convert("RGB")
    return turned.convert("RGB")
