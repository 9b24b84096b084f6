from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from tiny_models import make_tiny_llama

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.errors import ModelError
from fieldwise.interfaces import Sampling
from fieldwise.release.gguf import convert
from fieldwise.release.gguf_file import read_gguf
from fieldwise.release.quantise import quantise, quantise_rows, tensor_types
from fieldwise.release.settings import Quantisation

KINDS: tuple[Quantisation, ...] = get_args(Quantisation)
# SHA-256 (first 16 digits) of what llama.cpp's quantize_q2_K, ..., quantize_q8_0 write for `known_numbers`
REFERENCE = {
    "Q2_K": "3734a76fd976916b",
    "Q3_K": "6883d24ff644a04b",
    "Q4_K": "559444efe6387656",
    "Q5_K": "6fac7c5e9522d615",
    "Q6_K": "9e24177979a2638f",
    "Q4_0": "154d15803fc594a7",
    "Q5_0": "926a791c67a3eb7c",
    "Q5_1": "2919025656af4eea",
    "Q8_0": "f87e2c3bad2f4b12",
}
# root mean square error over that of the numbers themselves
ERRORS = {
    "Q2_K": 0.5,
    "Q3_K": 0.2,
    "Q4_K": 0.1,
    "Q5_K": 0.05,
    "Q6_K": 0.03,
    "Q4_0": 0.13,
    "Q5_0": 0.07,
    "Q5_1": 0.06,
    "Q8_0": 0.01,
}


def known_numbers(rows: int = 8, columns: int = 512) -> np.ndarray:
    """Numbers between -1 and 1 from integer arithmetic, the same on every machine."""
    mixed = (np.arange(rows * columns, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(12345)) % np.uint64(2**32)
    return ((mixed.astype(np.float64) / 2**31 - 1) ** 3).astype(np.float32).reshape(rows, columns)


@pytest.fixture(scope="session")
def odd_file(odd_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(odd_weights, tmp_path_factory.mktemp("gguf") / "odd-f32.gguf").path


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other machines may round differently")
@pytest.mark.parametrize("name", REFERENCE)
def test_blocks_are_those_of_llama_cpp_byte_for_byte(name: str) -> None:
    assert hashlib.sha256(quantise_rows(known_numbers(), name).tobytes()).hexdigest()[:16] == REFERENCE[name]


@pytest.mark.parametrize("name", ERRORS)
def test_blocks_read_by_another_implementation_come_near_the_numbers(name: str) -> None:
    import gguf

    numbers = known_numbers()
    back = gguf.quants.dequantize(quantise_rows(numbers, name), gguf.GGMLQuantizationType[name])
    error = np.sqrt(((back - numbers) ** 2).mean() / (numbers**2).mean())
    assert 0 < error < ERRORS[name]


# with two layers the first eighth is none and the last begins at layer 1, whose value and down projections are finer
@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("q2_k", {"Q2_K": 8, "Q3_K": 6, "Q6_K": 1, "F32": 5}),
        ("q3_k_s", {"Q3_K": 14, "Q6_K": 1, "F32": 5}),
        ("q4_0", {"Q4_0": 14, "Q6_K": 1, "F32": 5}),
        ("q4_k_m", {"Q4_K": 12, "Q6_K": 3, "F32": 5}),
        ("q5_0", {"Q5_0": 14, "Q6_K": 1, "F32": 5}),
        ("q5_k_m", {"Q5_K": 12, "Q6_K": 3, "F32": 5}),
        ("q6_k", {"Q6_K": 15, "F32": 5}),
        ("q8_0", {"Q8_0": 15, "F32": 5}),
    ],
)
def test_tensors_get_the_types_llama_cpp_gives_them(
    gguf_file: Path, tmp_path: Path, kind: Quantisation, types: dict[str, int]
) -> None:
    info = quantise(gguf_file, tmp_path / "a.gguf", kind, threads=1)
    assert info.tensor_types == types == tensor_types(info.path)
    assert (info.actual, info.fallbacks, info.warning()) == (kind, (), None)
    assert info.bytes == info.path.stat().st_size < 0.35 * gguf_file.stat().st_size


@pytest.mark.parametrize(
    ("kind", "types", "actual"),
    [
        ("q2_k", {"Q4_0": 14, "Q8_0": 1, "F32": 5}, "q4_0_mixed"),
        ("q4_0", {"Q4_0": 14, "Q8_0": 1, "F32": 5}, "q4_0_mixed"),
        ("q4_k_m", {"Q5_0": 12, "Q8_0": 3, "F32": 5}, "q5_0_mixed"),
        ("q5_k_m", {"Q5_1": 12, "Q8_0": 3, "F32": 5}, "q5_1_mixed"),
        ("q6_k", {"Q8_0": 15, "F32": 5}, "q8_0_mixed"),
        ("q8_0", {"Q8_0": 15, "F32": 5}, "q8_0"),
    ],
)
def test_rows_that_do_not_divide_by_256_fall_back_and_say_so(
    odd_file: Path, tmp_path: Path, kind: Quantisation, types: dict[str, int], actual: str
) -> None:
    info = quantise(odd_file, tmp_path / "a.gguf", kind, threads=1)
    assert (info.tensor_types, info.actual) == (types, actual)
    fallen = {"q4_0": 1, "q8_0": 0}.get(kind, 15)
    assert len(info.fallbacks) == fallen
    assert (info.warning() is None) == (fallen == 0)
    if fallen == 15:
        assert f"15 of 20 tensors could not be {kind}" in str(info.warning())
        assert info.fallbacks[0].row_length in (192, 544)


def test_rows_that_do_not_divide_by_32_are_kept_in_16_bits(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model", hidden=80, ffn=96, heads=2, kv_heads=1, head_dim=32)
    info = quantise(convert(folder, tmp_path / "a.gguf").path, tmp_path / "b.gguf", "q8_0", threads=1)
    # rows of 80 numbers in the embedding and five projections of each layer; 64 in attn_output, 96 in ffn_down
    assert info.tensor_types == {"F16": 1 + 2 * 5, "Q8_0": 2 * 2, "F32": 5}
    assert {fallback.row_length for fallback in info.fallbacks} == {80}


def test_an_output_of_its_own_is_finer_than_the_embedding(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model", tied=False, heads=8, kv_heads=2)
    info = quantise(convert(folder, tmp_path / "a.gguf").path, tmp_path / "b.gguf", "q2_k", threads=1)
    types = {tensor.name: tensor.type_name for tensor in read_gguf(info.path).tensors}
    assert (types["output.weight"], types["token_embd.weight"]) == ("Q6_K", "Q2_K")
    assert types["blk.0.attn_v.weight"] == "Q4_K"  # four query heads share a value head


def test_more_threads_write_the_same_bytes(gguf_file: Path, tmp_path: Path) -> None:
    one = quantise(gguf_file, tmp_path / "one.gguf", "q4_k_m", threads=1)
    three = quantise(gguf_file, tmp_path / "three.gguf", "q4_k_m", threads=3)
    assert one.path.read_bytes() == three.path.read_bytes()


def test_everything_but_the_tensors_is_copied(gguf_file: Path, tmp_path: Path) -> None:
    before = read_gguf(gguf_file)
    after = read_gguf(quantise(gguf_file, tmp_path / "a.gguf", "q4_k_m", threads=1).path)
    assert after.values == {**before.values, "general.file_type": 15}
    assert len(after.raw_values) == len(before.raw_values)
    assert sum(a != b for a, b in zip(after.raw_values, before.raw_values, strict=True)) == 1
    norms = [tensor.name for tensor in before.tensors if len(tensor.shape) == 1]
    theirs, ours = ({tensor.name: tensor for tensor in file.tensors} for file in (before, after))
    assert all(np.array_equal(theirs[name].read(), ours[name].read()) for name in norms)


def test_the_file_type_of_a_fallback_is_that_of_most_weights(odd_file: Path, tmp_path: Path) -> None:
    assert (
        read_gguf(quantise(odd_file, tmp_path / "a.gguf", "q4_k_m", threads=1).path).values["general.file_type"] == 8
    )  # q5_0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_loads_and_answers(gguf_file: Path, tmp_path: Path, kind: Quantisation) -> None:
    with LlamaCppEngine(quantise(gguf_file, tmp_path / "a.gguf", kind, threads=1).path, threads=1) as engine:
        reply = engine.generate([engine.tokenize("The tenant")], Sampling(max_tokens=6))[0]
    assert len(reply.token_ids) == 6


def test_the_half_precision_file_can_be_quantised_too(weights: Path, gguf_file: Path, tmp_path: Path) -> None:
    half = convert(weights, tmp_path / "f16.gguf", dtype="f16").path
    info = quantise(half, tmp_path / "a.gguf", "q8_0", threads=1)
    assert info.tensor_types == quantise(gguf_file, tmp_path / "b.gguf", "q8_0", threads=1).tensor_types


def test_a_quantised_file_is_not_quantised_again(gguf_file: Path, tmp_path: Path) -> None:
    once = quantise(gguf_file, tmp_path / "a.gguf", "q8_0", threads=1).path
    with pytest.raises(ModelError, match=r"quantised already.*Q8_0"):
        quantise(once, tmp_path / "b.gguf", "q4_0", threads=1)
    assert not (tmp_path / "b.gguf").exists()
