"""Functions of pdfium that are called for every word of a page: with plain addresses, twice as fast as with objects."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.extras import require

_INT, _FLOAT, _DOUBLE, _ADDRESS = ctypes.c_int, ctypes.c_float, ctypes.c_double, ctypes.c_void_p
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "FPDFText_GetUnicode": (ctypes.c_uint, _ADDRESS, _INT),
    "FPDFText_GetLooseCharBox": (_INT, _ADDRESS, _INT, _ADDRESS),
    "FPDFText_GetCharBox": (_INT, _ADDRESS, _INT, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS),
    "FPDFText_GetCharOrigin": (_INT, _ADDRESS, _INT, _ADDRESS, _ADDRESS),
    "FPDFText_GetFontSize": (_DOUBLE, _ADDRESS, _INT),
    "FPDFText_GetMatrix": (_INT, _ADDRESS, _INT, _ADDRESS),
    "FPDFText_GetTextObject": (_ADDRESS, _ADDRESS, _INT),
    "FPDFTextObj_GetFont": (_ADDRESS, _ADDRESS),
    "FPDFPage_CountObjects": (_INT, _ADDRESS),
    "FPDFPage_GetObject": (_ADDRESS, _ADDRESS, _INT),
    "FPDFFormObj_CountObjects": (_INT, _ADDRESS),
    "FPDFFormObj_GetObject": (_ADDRESS, _ADDRESS, ctypes.c_ulong),
    "FPDFPageObj_GetType": (_INT, _ADDRESS),
    "FPDFPageObj_GetBounds": (_INT, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS),
    "FPDFPageObj_GetMatrix": (_INT, _ADDRESS, _ADDRESS),
    "FPDFPath_CountSegments": (_INT, _ADDRESS),
    "FPDFPath_GetPathSegment": (_ADDRESS, _ADDRESS, _INT),
    "FPDFPathSegment_GetPoint": (_INT, _ADDRESS, _ADDRESS, _ADDRESS),
    "FPDFPathSegment_GetType": (_INT, _ADDRESS),
    "FPDFPathSegment_GetClose": (_INT, _ADDRESS),
}


@functools.cache
def function(name: str) -> Callable[..., Any]:
    """Return a function of pdfium that takes whole numbers as addresses."""
    raw: Any = require("pypdfium2.raw", extra="documents", to="read PDF files")
    address = address_of(getattr(raw, name))
    return ctypes.PYFUNCTYPE(*_PROTOTYPES[name])(address)


def address_of(handle: Any) -> int:
    """Return the address a handle of pypdfium2 stands for."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def char_boxes(textpage: int, chars: Sequence[int]) -> NDArray[np.float64]:
    """Return left, bottom, right and top of characters, by the advance and the height of their font.

    Where the font knows no advance, by what is drawn.
    """
    raw = np.zeros((len(chars), 4), np.float32)
    first = raw.ctypes.data
    call = function("FPDFText_GetLooseCharBox")
    for _ in map(call, repeat(textpage), chars, range(first, first + 16 * len(chars), 16)):
        pass
    boxes: NDArray[np.float64] = raw[:, [0, 3, 2, 1]].astype(np.float64)
    tight = np.zeros(4)
    at = tight.ctypes.data
    for n in np.flatnonzero(boxes[:, 2] - boxes[:, 0] <= 0).tolist():
        function("FPDFText_GetCharBox")(textpage, chars[n], at, at + 8, at + 16, at + 24)
        boxes[n] = tight[0], tight[2], tight[1], tight[3]
    return boxes
