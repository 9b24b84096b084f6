"""Read the header of a GGUF file: its values, and where its tensors stand. Quick, and strict about sizes.

The format (version 3, little endian): magic, version, counts; then the values, each with key and type; then name,
shape, type and offset of every tensor; then, from an aligned place on, the tensors.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import ModelError
from fieldwise.extras import require

_MAGIC, _VERSION, _ALIGNMENT = b"GGUF", 3, 32
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_FIX = "The file is incomplete or damaged: convert or download it again."


class GgufTensor(NamedTuple):
    """A tensor of a GGUF file; GGUF names the length of a row first, `shape` names it last, as NumPy does."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    path: Path
    offset: int
    bytes: int

    @property
    def row_length(self) -> int:
        """Numbers in a row."""
        return self.shape[-1]

    def read(self) -> NDArray[Any]:
        """Return the tensor, mapped from the file: numbers for F32 and F16, else bytes."""
        if self.type_name in ("F32", "F16"):
            return np.memmap(
                self.path,
                dtype="<f4" if self.type_name == "F32" else "<f2",
                mode="r",
                offset=self.offset,
                shape=self.shape,
            )
        return np.memmap(self.path, dtype=np.uint8, mode="r", offset=self.offset, shape=(self.bytes,))


class GgufFile(NamedTuple):
    """The header of a GGUF file; `places` holds where each value stands, for copying and patching."""

    path: Path
    values: dict[str, Any]
    places: dict[str, tuple[int, int]]
    raw_values: bytes
    tensors: list[GgufTensor]


def read_gguf(path: Path) -> GgufFile:
    """Read the header; arrays are counted, not read. Raises ModelError for a file that is cut off or damaged."""
    if not path.is_file():
        raise ModelError("the GGUF file is not there", where=path, fix="Convert the weights first.")
    with path.open("rb") as stream:
        if path.stat().st_size < 24 or stream.read(4) != _MAGIC:
            raise ModelError("not a GGUF file", where=path, fix="Name a .gguf file.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _parse(content, path)
            except (struct.error, UnicodeDecodeError, KeyError, IndexError, OverflowError) as error:
                raise ModelError(
                    "the header of the GGUF file cannot be read", where=path, found=str(error)[:100], fix=_FIX
                ) from error


def _parse(content: mmap.mmap, path: Path) -> GgufFile:
    version, tensor_count, value_count = struct.unpack_from("<IQQ", content, 4)
    if version != _VERSION:
        raise ModelError(
            "this version of GGUF cannot be read", where=path, found=version, fix=f"Write it as version {_VERSION}."
        )
    cursor = start = 24
    values: dict[str, Any] = {}
    places: dict[str, tuple[int, int]] = {}
    for _ in range(value_count):
        key, place = _string(content, cursor)
        kind = struct.unpack_from("<I", content, place)[0]
        values[key], cursor = _value(content, place + 4, kind)
        places[key] = (place + 4 - start, cursor - start)
    raw = content[start:cursor]
    infos = []
    for _ in range(tensor_count):
        name, cursor = _string(content, cursor)
        rank = struct.unpack_from("<I", content, cursor)[0]
        shape = struct.unpack_from(f"<{rank}Q", content, cursor + 4)
        kind, offset = struct.unpack_from("<IQ", content, cursor + 4 + 8 * rank)
        cursor += 16 + 8 * rank
        infos.append((name, tuple(reversed(shape)), kind, offset))
    alignment = int(values.get("general.alignment", _ALIGNMENT))
    data = (cursor + alignment - 1) // alignment * alignment
    return GgufFile(path, values, places, raw, [_tensor(path, len(content), data, *info) for info in infos])


def _tensor(path: Path, size: int, data: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> GgufTensor:
    gguf = require("gguf", extra="gguf", to="read GGUF files")
    quantisation = gguf.GGMLQuantizationType(kind) if kind in set(gguf.GGMLQuantizationType) else None
    if quantisation is None:
        raise ModelError("a tensor has an unknown type", where=path, found=f"{name}: {kind}", fix=_FIX)
    block, block_bytes = gguf.GGML_QUANT_SIZES[quantisation]
    length = math.prod(shape) // block * block_bytes
    if data + offset + length > size:
        raise ModelError(
            "the GGUF file is cut off",
            where=path,
            found=f"{name} ends at byte {data + offset + length} of {size}",
            fix=_FIX,
        )
    return GgufTensor(name, shape, quantisation.name, path, data + offset, length)


def _string(content: mmap.mmap, cursor: int) -> tuple[str, int]:
    length = struct.unpack_from("<Q", content, cursor)[0]
    end = cursor + 8 + length
    if end > len(content):
        raise struct.error("a text reaches past the end")
    return content[cursor + 8 : end].decode("utf-8"), end


def _value(content: mmap.mmap, cursor: int, kind: int) -> tuple[Any, int]:
    if kind == _STRING:
        return _string(content, cursor)
    if kind != _ARRAY:
        pattern = _SCALARS[kind]
        return struct.unpack_from(pattern, content, cursor)[0], cursor + struct.calcsize(pattern)
    item, count = struct.unpack_from("<IQ", content, cursor)
    cursor += 12
    if item == _STRING:
        for _ in range(count):
            cursor += 8 + int.from_bytes(content[cursor : cursor + 8], "little")
            if cursor > len(content):
                raise struct.error("a list reaches past the end")
        return count, cursor
    return count, cursor + count * struct.calcsize(_SCALARS[item])
