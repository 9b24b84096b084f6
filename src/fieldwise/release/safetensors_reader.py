"""Read the tensors of a folder of safetensors files one at a time, as 32-bit floats, without PyTorch.

The format: eight bytes with the length of a JSON header, the header (type, shape and offsets of every tensor),
then the numbers. NumPy has no bfloat16, so those are widened by hand, which is exact.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import ModelError

_FIX = "The download or the merge may be incomplete: make the folder again."
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_MOST_HEADER_BYTES = 100_000_000


class StoredTensor(NamedTuple):
    """Where a tensor stands and what it is."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    path: Path
    offset: int

    def read(self) -> NDArray[np.float32]:
        """Return the numbers as 32-bit floats; raises ModelError when one is infinite or not a number."""
        count = math.prod(self.shape)
        stored = np.dtype({"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}[self.dtype])
        raw = np.fromfile(self.path, dtype=stored, count=count, offset=self.offset)
        numbers = _widened(raw) if self.dtype == "BF16" else raw.astype(np.float32, copy=False)
        if not np.isfinite(numbers).all():
            raise ModelError(
                "a tensor holds numbers that are infinite or not numbers",
                where=self.path,
                found=self.name,
                fix="Training went wrong: lower the learning rate and train again.",
            )
        return numbers.reshape(self.shape)


def stored_tensors(folder: Path) -> list[StoredTensor]:
    """Return every tensor of the safetensors files of a folder, by name."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            "the folder has no safetensors file", where=folder, fix="Name a folder saved with save_pretrained."
        )
    found = {tensor.name: tensor for path in files for tensor in _tensors_of(path)}
    return [found[name] for name in sorted(found)]


def _widened(bfloats: NDArray[np.uint16]) -> NDArray[np.float32]:
    # a bfloat16 is the upper half of a float32
    return (bfloats.astype(np.uint32) << 16).view(np.float32)


def _tensors_of(path: Path) -> list[StoredTensor]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
            raise ModelError("not a safetensors file", where=path, found=f"{size} bytes", fix=_FIX)
        try:
            header = json.loads(stream.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ModelError("not a safetensors file", where=path, found=str(error), fix=_FIX) from error
    tensors = []
    for name, entry in header.items():
        if name != "__metadata__":
            tensors.append(_tensor(path, name, entry, start=8 + length, size=size))
    return tensors


def _tensor(path: Path, name: str, entry: dict[str, object], *, start: int, size: int) -> StoredTensor:
    dtype, shape, offsets = str(entry.get("dtype")), entry.get("shape"), entry.get("data_offsets")
    if dtype not in _BYTES:
        raise ModelError(
            "a tensor has a type that cannot be converted",
            where=path,
            found=f"{name}: {dtype}",
            fix=f"Save the weights as one of {', '.join(_BYTES)}; quantised weights must be dequantised first.",
        )
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise ModelError("not a safetensors file", where=path, found=name, fix=_FIX)
    begin, end = int(offsets[0]), int(offsets[1])
    whole = tuple(int(n) for n in shape)
    if end - begin != math.prod(whole) * _BYTES[dtype] or start + end > size:
        raise ModelError(
            "the safetensors file is cut off",
            where=path,
            found=f"{name} ends at byte {start + end} of {size}",
            fix=_FIX,
        )
    return StoredTensor(name, whole, dtype, path, start + begin)
