"""The dimensions of a model, read from its configuration and the headers of its safetensors files.

Nothing is loaded, so that what a training needs is known before torch is.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.errors import ModelError

_EMBEDDINGS = frozenset(("embed_tokens", "wte", "wpe", "word_embeddings", "embed_in", "embedding", "embeddings"))
_HEADS = frozenset(("lm_head", "embed_out", "score"))
_INSIDE_LAYERS = re.compile(r"\.\d+\.")
# Decoders that hand queries, keys and values to the attention as they are; others may add terms of their own.
_PLAIN = frozenset(("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite", "phi3", "olmo2"))
_LONGEST_HEADER_BYTES = 100_000_000  # the limit of the format


class Linear(NamedTuple):
    """One linear layer inside the stack, by its whole name."""

    name: str
    outputs: int
    inputs: int

    @property
    def module(self) -> str:
        """The last part of the name, which recipes use."""
        return self.name.rpartition(".")[2]


class Shape(NamedTuple):
    """What the memory and the time of a training depend on."""

    hidden: int
    intermediate: int
    layers: int
    query_width: int  # heads times the width of one
    key_width: int  # the same for keys, and again for values
    vocabulary: int
    context: int
    parameters: int
    linear: tuple[Linear, ...]
    file_bytes: int
    is_only_causal: bool = False  # the attention: no window, cap, sink or dropout beside it

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers inside the stack: those that can be quantised."""
        return sum(layer.outputs * layer.inputs for layer in self.linear)

    def targets(self, wanted: str | tuple[str, ...]) -> tuple[Linear, ...]:
        """Return the linear layers that `lora.target_modules` names, as PEFT matches them."""
        if wanted == "all-linear":
            return self.linear
        if isinstance(wanted, str):
            return tuple(layer for layer in self.linear if re.fullmatch(wanted, layer.name))
        return tuple(layer for layer in self.linear if any(f".{layer.name}".endswith(f".{name}") for name in wanted))


def read_shape(folder: Path) -> Shape | None:
    """Return the dimensions of a causal language model; None for an architecture whose configuration names others."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text: Mapping[str, Any] = config.get("text_config") or config
    files = sorted(folder.glob("*.safetensors"))
    tensors = {name: shape for file in files for name, shape in tensor_shapes(file).items()}
    hidden, layers = _first(text, "hidden_size", "n_embd", "d_model"), _first(text, "num_hidden_layers", "n_layer")
    heads, vocabulary = _first(text, "num_attention_heads", "n_head"), _first(text, "vocab_size")
    if not (hidden and layers and heads and vocabulary and tensors):
        return None
    linear = tuple(
        Linear(name.removesuffix(".weight"), shape[0], shape[1])
        for name, shape in sorted(tensors.items())
        if name.endswith(".weight") and len(shape) == 2 and _is_linear(name)
    )
    width = _first(text, "head_dim") or hidden // heads
    return Shape(
        hidden=hidden,
        intermediate=_first(text, "intermediate_size", "n_inner", "ffn_dim") or 4 * hidden,
        layers=layers,
        query_width=heads * width,
        key_width=(_first(text, "num_key_value_heads") or heads) * width,
        vocabulary=vocabulary,
        context=_first(text, "max_position_embeddings", "n_positions") or 2048,
        parameters=sum(_product(shape) for shape in tensors.values()),
        linear=linear,
        file_bytes=sum(file.stat().st_size for file in files),
        is_only_causal=is_only_causal(config),
    )


def is_only_causal(config: Mapping[str, Any]) -> bool:
    """Say whether a position reads all positions up to its own and nothing else is done to the scores."""
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    others = ("attn_logit_softcapping", "attention_chunk_size", "attention_dropout")
    return (
        config.get("model_type") in _PLAIN
        and set(config.get("layer_types") or ("full_attention",)) == {"full_attention"}
        and not window
        and not any(config.get(name) for name in others)
    )


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a safetensors file, from its header alone."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _LONGEST_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            "not a whole safetensors file",
            where=file,
            found=str(error),
            fix="The download may be incomplete: fetch the model again.",
        ) from error


def _is_linear(name: str) -> bool:
    parts = set(name.split("."))
    return bool(_INSIDE_LAYERS.search(name)) and not parts & (_EMBEDDINGS | _HEADS)


def _first(config: Mapping[str, Any], *names: str) -> int:
    return next((config[name] for name in names if isinstance(config.get(name), int)), 0)


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
