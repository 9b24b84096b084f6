"""Convert a folder of Hugging Face weights to GGUF, in 32 or 16 bits.

llama.cpp's own converter knows tokenizers by a hash and so refuses every one that was trained here; this one reads
what the tokenizer does from tokenizer.json. What it does not know it refuses: an unknown architecture, kind of
rotary embedding, pre-tokenizer or tensor is an error and never a guess, and `parity.check` proves the result.

Layouts and keys follow gguf-py 0.19 and the model definitions of llama.cpp.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.files import atomic, read_json
from fieldwise.release.gguf_metadata import Architecture, architecture_of, write_metadata
from fieldwise.release.gguf_vocabulary import write_vocabulary
from fieldwise.release.safetensors_reader import StoredTensor, stored_tensors

# gguf-py also knows names of mixtures of experts and the like, which would be written and then not be computed
_PARTS = frozenset(
    {
        "token_embd",
        "output",
        "output_norm",
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "attn_q_norm",
        "attn_k_norm",
        "post_attention_norm",
        "ffn_norm",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
        "post_ffw_norm",
    }
)


class GgufInfo(NamedTuple):
    """What was written."""

    path: Path
    architecture: str
    dtype: str
    tensors: int
    parameters: int
    bytes: int
    vocabulary_size: int
    context_tokens: int
    pre_tokenizer: str


class _Planned(NamedTuple):
    name: str
    source: StoredTensor
    is_half: bool


def convert(folder: Path, out: Path, *, dtype: Literal["f32", "f16"] = "f32", name: str = "fieldwise") -> GgufInfo:
    """Write the weights of `folder` as one GGUF file and return what it holds.

    Tensor after tensor is read, changed and written, so that memory stays at the size of the largest. `name` is
    what the file calls itself. The same folder gives the same bytes. Raises ModelError for what is not known.
    """
    gguf = require("gguf", extra="gguf", to="write GGUF files")
    if not (folder / "config.json").is_file():
        raise ModelError("the folder has no config.json", where=folder, fix="Name a folder saved with save_pretrained.")
    config = read_json(folder / "config.json")
    architecture = architecture_of(config, folder)
    planned = _plan(gguf, folder, architecture, dtype)
    with atomic(out) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture.gguf_name)
        writer.add_name(name)
        factors = write_metadata(writer, config, architecture, where=folder)
        writer.add_file_type(gguf.LlamaFileType.ALL_F32 if dtype == "f32" else gguf.LlamaFileType.MOSTLY_F16)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        pre_tokenizer = write_vocabulary(writer, folder, config)
        try:
            _write_tensors(gguf, writer, planned, architecture, factors)
        finally:
            writer.close()
    return GgufInfo(
        path=out,
        architecture=architecture.gguf_name,
        dtype=dtype,
        tensors=len(planned) + (factors is not None),
        parameters=sum(math.prod(plan.source.shape) for plan in planned),
        bytes=out.stat().st_size,
        vocabulary_size=architecture.vocabulary_size,
        context_tokens=architecture.context_tokens,
        pre_tokenizer=pre_tokenizer,
    )


def _plan(gguf: Any, folder: Path, architecture: Architecture, dtype: str) -> list[_Planned]:
    """Give every stored tensor its GGUF name, in the order of llama.cpp's layers."""
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.gguf_name)
    names = gguf.get_tensor_name_map(kind, architecture.layers)
    planned = []
    for tensor in stored_tensors(folder):
        if "rotary_emb" in tensor.name or (architecture.is_tied and tensor.name == "lm_head.weight"):
            continue
        name = names.get_name(tensor.name, try_suffixes=(".weight", ".bias"))
        if name is None or name.split(".")[-2] not in _PARTS:
            raise ModelError(
                "a tensor has no place in GGUF",
                where=tensor.path,
                found=tensor.name,
                fix=f"The weights are not a plain {architecture.hf_name}: merge adapters first, or convert them with llama.cpp's own script.",
            )
        planned.append(_Planned(name, tensor, is_half=dtype == "f16" and len(tensor.shape) > 1))
    _require_whole(folder, architecture, {plan.name for plan in planned})
    return sorted(planned, key=lambda plan: _place(plan.name))


def _require_whole(folder: Path, architecture: Architecture, found: set[str]) -> None:
    needed = {"token_embd.weight", "output_norm.weight"} | {
        f"blk.{n}.{part}.weight"
        for n in range(architecture.layers)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down")
    }
    if not architecture.is_tied:
        needed.add("output.weight")
    if missing := sorted(needed - found):
        raise ModelError(
            "tensors are missing from the weights",
            where=folder,
            found=", ".join(missing[:3]),
            fix="Fetch or merge the weights again.",
        )


def _place(name: str) -> tuple[int, int, str]:
    parts = name.split(".")
    return (1, int(parts[1]), name) if parts[0] == "blk" else (0 if name.startswith("token_embd") else 2, 0, name)


def _write_tensors(
    gguf: Any, writer: Any, planned: list[_Planned], architecture: Architecture, factors: NDArray[np.float32] | None
) -> None:
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    for plan in planned:
        stored = np.dtype(np.float16 if plan.is_half else np.float32)
        writer.add_tensor_info(plan.name, plan.source.shape, stored, math.prod(plan.source.shape) * stored.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for plan in planned:
        numbers = architecture.reshaped(plan.source.name, plan.source.read())
        writer.write_tensor_data(_halved(plan, numbers) if plan.is_half else np.ascontiguousarray(numbers))


def _halved(plan: _Planned, numbers: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(numbers.astype(np.float16))
    if not np.isfinite(half).all():
        raise ModelError(
            "a tensor does not fit into 16 bits",
            where=plan.source.path,
            found=f"{plan.source.name}: {float(np.abs(numbers).max()):.3g}",
            fix="Convert with dtype f32.",
        )
    return half
