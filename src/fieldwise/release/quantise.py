"""Quantise a GGUF file with the functions of llama.cpp, tensor by tensor, without a compiler.

Which tensor gets which type follows `llama-quant.cpp` for dense models: the output (or the embedding tied to it)
is kept finer, and in the mixed types `_m` so are the value and down projections of the first and last eighth of
the layers and of every third between. Without an importance matrix. The types in the report are read back from
the written file: where a row does not divide into blocks of 256, llama.cpp takes another type than the file's name says.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.engine.llama_library import load
from fieldwise.engine.threads import thread_count
from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.files import atomic
from fieldwise.release.gguf_file import GgufFile, GgufTensor, read_gguf
from fieldwise.release.settings import Quantisation

# kind -> (type of most tensors, number of the file type in llama.h)
_KINDS: dict[Quantisation, tuple[str, int]] = {
    "q4_0": ("Q4_0", 2),
    "q8_0": ("Q8_0", 7),
    "q5_0": ("Q5_0", 8),
    "q2_k": ("Q2_K", 10),
    "q3_k_s": ("Q3_K", 11),
    "q4_k_m": ("Q4_K", 15),
    "q5_k_m": ("Q5_K", 17),
    "q6_k": ("Q6_K", 18),
}
_FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9}
_FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_BLOCK = {
    "Q2_K": 256,
    "Q3_K": 256,
    "Q4_K": 256,
    "Q5_K": 256,
    "Q6_K": 256,
    "Q4_0": 32,
    "Q5_0": 32,
    "Q5_1": 32,
    "Q8_0": 32,
}
_FULL = ("F32", "F16")
_ALIGNMENT = 32
_CHUNK_WEIGHTS = 1 << 20
_LAYER = re.compile(r"blk\.(\d+)\.")


class Fallback(NamedTuple):
    """A tensor whose rows do not divide into the blocks of the type it should have had."""

    tensor: str
    row_length: int
    wanted: str
    found: str


class QuantisedInfo(NamedTuple):
    """What was written; `actual` is the kind asked for, or another name when tensors had to fall back."""

    path: Path
    requested: Quantisation
    actual: str
    tensor_types: dict[str, int]
    bytes: int
    fallbacks: tuple[Fallback, ...]

    def warning(self) -> str | None:
        """Return what the user should know about fallbacks, or None."""
        if not self.fallbacks:
            return None
        first = self.fallbacks[0]
        return (
            f"{len(self.fallbacks)} of {sum(self.tensor_types.values())} tensors could not be {self.requested}: rows of {first.row_length} numbers do not divide into "
            f"blocks of {_BLOCK[first.wanted]}, so they are {first.found} instead of {first.wanted}. The file is {self.actual}; choose q8_0 or weights whose sizes are multiples of 256."
        )


class _Shape(NamedTuple):
    """What decides about the types of a model's tensors."""

    layers: int
    query_heads_per_kv_head: int
    is_tied: bool


def quantise(source: Path, out: Path, kind: Quantisation, *, threads: int = 0) -> QuantisedInfo:
    """Write `source` (f32 or f16) quantised as `kind`; memory stays at the size of the largest tensor.

    The blocks are those llama.cpp writes, whatever the number of threads. Raises ModelError for a file that is
    quantised already or cannot be read.
    """
    load()
    file = read_gguf(source)
    shape = _shape_of(file)
    types = {tensor.name: _type_of(tensor, kind, shape) for tensor in file.tensors}
    dominant = _dominant(file, types, kind)
    with atomic(out) as temporary, temporary.open("wb") as stream:
        _write(
            stream,
            file,
            types,
            file_type=_KINDS[kind][1] if dominant == kind else _FILE_TYPES[dominant],
            threads=thread_count(threads),
        )
    ideal = {tensor.name: _ideal_type(tensor, kind, shape) for tensor in file.tensors}
    written = read_gguf(out).tensors
    fallbacks = tuple(
        Fallback(t.name, t.row_length, wanted, t.type_name)
        for t in written
        if (wanted := ideal[t.name]) is not None and wanted != t.type_name
    )
    actual = kind if not fallbacks else f"{dominant.lower()}_mixed"
    return QuantisedInfo(out, kind, actual, dict(Counter(t.type_name for t in written)), out.stat().st_size, fallbacks)


def tensor_types(path: Path) -> dict[str, int]:
    """Return how many tensors of each type a GGUF file holds."""
    return dict(Counter(tensor.type_name for tensor in read_gguf(path).tensors))


def quantise_rows(rows: NDArray[Any], type_name: str) -> NDArray[np.uint8]:
    """Return rows of numbers in the blocks of a ggml type, such as "Q4_K", one row of bytes each."""
    library = load()
    number = _type_number(type_name)
    source = np.ascontiguousarray(rows, dtype=np.float32)
    row_bytes = int(library.ggml_row_size(number, source.shape[1]))
    blocks = np.empty((source.shape[0], row_bytes), dtype=np.uint8)
    written = library.ggml_quantize_chunk(
        number, source.ctypes.data, blocks.ctypes.data, 0, source.shape[0], source.shape[1], None
    )
    if written != blocks.nbytes:
        raise ModelError(
            "llama.cpp did not quantise all rows",
            found=f"{written} of {blocks.nbytes} bytes",
            fix="Run the stage again; if it stays, report it.",
        )
    return blocks


# ---------------------------------------------------------------- which type


def _shape_of(file: GgufFile) -> _Shape:
    already = sorted({tensor.type_name for tensor in file.tensors} - set(_FULL))
    if already:
        raise ModelError(
            "the file is quantised already",
            where=file.path,
            found=", ".join(already),
            fix="Quantise the f32 file; quantising twice loses more.",
        )
    name = file.values.get("general.architecture")
    try:
        heads, kv_heads, layers = (
            int(file.values[f"{name}.{key}"])
            for key in ("attention.head_count", "attention.head_count_kv", "block_count")
        )
    except KeyError as error:
        raise ModelError(
            "the GGUF file does not say how it is built",
            where=file.path,
            found=f"no {error.args[0]}",
            fix="Convert the weights again.",
        ) from error
    return _Shape(layers, heads // kv_heads, all(tensor.name != "output.weight" for tensor in file.tensors))


def _type_of(tensor: GgufTensor, kind: Quantisation, model: _Shape) -> str | None:
    """Return the type a tensor is written in, after fallbacks; None: as it is."""
    ideal = _ideal_type(tensor, kind, model)
    if ideal is None:
        return None
    if tensor.row_length % 32 != 0:
        return "F16"
    if _is_output(tensor, model) and tensor.row_length % _BLOCK[_KINDS[kind][0]] != 0:
        return "Q8_0"
    return ideal if tensor.row_length % _BLOCK[ideal] == 0 else _FALLBACKS[ideal]


def _ideal_type(tensor: GgufTensor, kind: Quantisation, model: _Shape) -> str | None:
    """Return the type for rows of any length; None for tensors that are never quantised."""
    name = tensor.name
    if len(tensor.shape) < 2 or not name.endswith("weight") or "_norm.weight" in name or "ffn_gate_inp.weight" in name:
        return None
    default = _KINDS[kind][0]
    if _is_output(tensor, model):
        return default if default == "Q8_0" else "Q6_K"
    layer = _LAYER.match(name)
    part = name[layer.end() :] if layer else name
    is_finer = layer is not None and _gets_more_bits(int(layer.group(1)), model.layers)
    if kind in ("q4_k_m", "q5_k_m") and part in ("attn_v.weight", "ffn_down.weight") and is_finer:
        return "Q6_K"
    if kind == "q2_k" and part == "attn_v.weight":
        return "Q4_K" if model.query_heads_per_kv_head >= 4 else "Q3_K"
    if kind == "q2_k" and part in ("ffn_down.weight", "attn_output.weight"):
        return "Q3_K"
    return default


def _is_output(tensor: GgufTensor, model: _Shape) -> bool:
    return tensor.name == "output.weight" or (tensor.name == "token_embd.weight" and model.is_tied)


def _gets_more_bits(layer: int, layers: int) -> bool:
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _dominant(file: GgufFile, types: dict[str, str | None], kind: Quantisation) -> str:
    """Return the kind itself when its own type is used, else the type that holds most weights."""
    weights: Counter[str] = Counter()
    for tensor in file.tensors:
        written = types[tensor.name]
        if written is not None:
            weights[written] += int(np.prod(tensor.shape))
    return kind if not weights or _KINDS[kind][0] in weights else weights.most_common(1)[0][0]


# ---------------------------------------------------------------- writing


def _write(stream: IO[bytes], file: GgufFile, types: dict[str, str | None], *, file_type: int, threads: int) -> None:
    """Write the values of `file` unchanged but for the file type, then the tensors in their new types."""
    values = bytearray(file.raw_values)
    if "general.file_type" in file.places:
        begin, end = file.places["general.file_type"]
        values[begin:end] = struct.pack("<I", file_type)
    stream.write(b"GGUF" + struct.pack("<IQQ", 3, len(file.tensors), len(file.values)) + values)
    offset = 0
    for tensor in file.tensors:
        written = types[tensor.name] or tensor.type_name
        name = tensor.name.encode()
        stream.write(
            struct.pack("<Q", len(name))
            + name
            + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
        )
        stream.write(struct.pack("<IQ", _type_number(written), offset))
        offset += _padded(_bytes_in(tensor, written))
    stream.write(b"\0" * (_padded(stream.tell()) - stream.tell()))
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for tensor in file.tensors:
            content = _converted(tensor.read(), types[tensor.name] or tensor.type_name, tensor.type_name, pool)
            content.tofile(stream)
            stream.write(b"\0" * (_padded(content.nbytes) - content.nbytes))


def _converted(numbers: NDArray[Any], wanted: str, stored: str, pool: ThreadPoolExecutor) -> NDArray[Any]:
    if wanted == stored:
        return numbers
    if wanted == "F16":
        return numbers.astype(np.float16)
    rows = numbers.reshape(-1, numbers.shape[-1])
    step = max(1, _CHUNK_WEIGHTS // rows.shape[1])
    parts = [rows[start : start + step] for start in range(0, len(rows), step)]
    return np.concatenate(list(pool.map(lambda part: quantise_rows(part, wanted), parts)))


def _bytes_in(tensor: GgufTensor, type_name: str) -> int:
    return int(load().ggml_row_size(_type_number(type_name), tensor.row_length)) * int(np.prod(tensor.shape[:-1]))


def _type_number(name: str) -> int:
    return int(require("gguf", extra="gguf", to="write GGUF files").GGMLQuantizationType[name])


def _padded(size: int) -> int:
    return (size + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
