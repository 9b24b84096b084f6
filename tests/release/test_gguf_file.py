from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from fieldwise.errors import ModelError
from fieldwise.release.gguf_file import read_gguf


def test_the_header_is_that_of_the_reference_reader(gguf_file: Path) -> None:
    import gguf

    reference = gguf.GGUFReader(gguf_file)
    file = read_gguf(gguf_file)
    assert {tensor.name: (tensor.shape, tensor.type_name, tensor.offset, tensor.bytes) for tensor in file.tensors} == {
        tensor.name: (
            tuple(int(n) for n in reversed(tensor.shape)),
            tensor.tensor_type.name,
            int(tensor.data_offset),
            int(tensor.n_bytes),
        )
        for tensor in reference.tensors
    }
    for name, value in file.values.items():
        field = reference.fields[name]
        assert value == (len(field.data) if field.types[0] == gguf.GGUFValueType.ARRAY else field.contents())
    for ours, theirs in zip(file.tensors, reference.tensors, strict=True):
        assert np.array_equal(ours.read(), theirs.data)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.002, 0.01, 0.5, 0.999])
def test_a_file_cut_off_anywhere_is_refused(gguf_file: Path, tmp_path: Path, share: float) -> None:
    content = gguf_file.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        read_gguf(tmp_path / "cut.gguf")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"GGML", "not a GGUF"),
        (4, struct.pack("<I", 2), "version"),
        (16, struct.pack("<Q", 10**12), "header"),
        (24, struct.pack("<Q", 2**62), "header"),
    ],
)
def test_a_damaged_header_is_refused(gguf_file: Path, tmp_path: Path, place: int, value: bytes, message: str) -> None:
    content = bytearray(gguf_file.read_bytes())
    content[place : place + len(value)] = value
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_gguf(tmp_path / "bad.gguf")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.gguf.*not there"):
        read_gguf(tmp_path / "none.gguf")
