"""What config.json says about a model, in the keys of GGUF: sizes, rotary embeddings, windows, soft caps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from fieldwise.errors import ModelError
from fieldwise.extras import require

_ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
}
_ACTIVATIONS = {
    "llama": {"silu"},
    "qwen2": {"silu"},
    "qwen3": {"silu"},
    "gemma": {"gelu_pytorch_tanh", "gelu"},
    "gemma2": {"gelu_pytorch_tanh"},
    "gemma3": {"gelu_pytorch_tanh"},
}
_CONVERT_ELSEWHERE = (
    "Convert the weights with llama.cpp's own script, or start from one of: " + ", ".join(_ARCHITECTURES) + "."
)
Config = dict[str, JsonValue]


class Architecture(NamedTuple):
    """What the conversion must know about a model."""

    hf_name: str
    gguf_name: str
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary_size: int
    context_tokens: int
    is_tied: bool

    @property
    def is_gemma(self) -> bool:
        """Gemma models store norm weights less one and scale by the size of a head."""
        return self.gguf_name.startswith("gemma")

    def reshaped(self, name: str, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a tensor as llama.cpp expects it.

        Llama models rotate neighbouring numbers there and halves in transformers, so the rows of the query and key
        projections change places. Gemma's norms are stored less one.
        """
        if self.gguf_name == "llama" and ".q_proj." in name:
            return _interleaved(numbers, self.heads)
        if self.gguf_name == "llama" and ".k_proj." in name:
            return _interleaved(numbers, self.kv_heads)
        if self.is_gemma and name.endswith("norm.weight"):
            return numbers + np.float32(1)
        return numbers


def architecture_of(config: Config, where: Path) -> Architecture:
    """Read the sizes of a model; raises ModelError for one whose computation llama.cpp would do differently."""
    names = config.get("architectures")
    hf_name = str(names[0]) if isinstance(names, list) and names else ""
    if hf_name not in _ARCHITECTURES:
        raise ModelError(
            "this architecture cannot be converted",
            where=where / "config.json",
            found=hf_name or "no architectures entry",
            fix=_CONVERT_ELSEWHERE,
        )
    gguf_name = _ARCHITECTURES[hf_name]
    heads = _number(config, "num_attention_heads", where)
    hidden = _number(config, "hidden_size", where)
    head_size = _number(config, "head_dim", where, default=hidden // heads)
    architecture = Architecture(
        hf_name=hf_name,
        gguf_name=gguf_name,
        layers=_number(config, "num_hidden_layers", where),
        heads=heads,
        kv_heads=_number(config, "num_key_value_heads", where, default=heads),
        head_size=head_size,
        vocabulary_size=_number(config, "vocab_size", where),
        context_tokens=_context(config, gguf_name, where),
        is_tied=bool(config.get("tie_word_embeddings", gguf_name.startswith("gemma"))),
    )
    _require_same_computation(config, architecture, where)
    return architecture


def write_metadata(
    writer: Any, config: Config, architecture: Architecture, *, where: Path
) -> NDArray[np.float32] | None:
    """Write the sizes; returns the rotary factors of Llama 3, which GGUF keeps as a tensor, or None."""
    writer.add_block_count(architecture.layers)
    writer.add_context_length(architecture.context_tokens)
    writer.add_embedding_length(_number(config, "hidden_size", where))
    writer.add_feed_forward_length(_number(config, "intermediate_size", where))
    writer.add_head_count(architecture.heads)
    writer.add_head_count_kv(architecture.kv_heads)
    writer.add_key_length(architecture.head_size)
    writer.add_value_length(architecture.head_size)
    writer.add_layer_norm_rms_eps(float(str(config.get("rms_norm_eps", 1e-6))))
    if architecture.gguf_name == "llama":
        writer.add_rope_dimension_count(architecture.head_size)
        writer.add_vocab_size(architecture.vocabulary_size)
    if architecture.gguf_name in ("gemma2", "gemma3"):
        _write_windows(writer, config, architecture, where)
    return _write_rope(writer, config, architecture, where)


def _interleaved(numbers: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    rows = numbers.shape[0]
    return numbers.reshape(heads, 2, rows // heads // 2, *numbers.shape[1:]).swapaxes(1, 2).reshape(numbers.shape)


def _number(config: Config, key: str, where: Path, *, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or value <= 0:
        raise ModelError(
            "expected a positive whole number",
            where=f"{where / 'config.json'}: {key}",
            found=value,
            fix="Use a folder saved by transformers.",
        )
    return value


def _context(config: Config, gguf_name: str, where: Path) -> int:
    """The context; no longer than a sliding window that llama.cpp would not slide."""
    context = _number(config, "max_position_embeddings", where)
    window = config.get("sliding_window")
    slides = isinstance(window, int) and (
        config.get("use_sliding_window", True) if gguf_name.startswith("qwen") else True
    )
    return min(context, int(str(window))) if slides and not gguf_name.startswith("gemma") else context


def _require_same_computation(config: Config, architecture: Architecture, where: Path) -> None:
    problems = {
        "hidden_act": (config.get("hidden_activation") or config.get("hidden_act") or "silu")
        not in _ACTIVATIONS[architecture.gguf_name],
        "partial_rotary_factor": config.get("partial_rotary_factor", 1.0) not in (None, 1, 1.0),
        "query_pre_attn_scalar": architecture.is_gemma
        and config.get("query_pre_attn_scalar") not in (None, architecture.head_size, float(architecture.head_size)),
        "attention_bias": architecture.is_gemma and bool(config.get("attention_bias")),
        "use_bidirectional_attention": bool(config.get("use_bidirectional_attention")),
    }
    for key in (key for key, is_wrong in problems.items() if is_wrong):
        raise ModelError(
            "llama.cpp computes this model differently",
            where=f"{where / 'config.json'}: {key}",
            found=config.get(key) or config.get("hidden_activation"),
            fix=_CONVERT_ELSEWHERE,
        )


def _write_windows(writer: Any, config: Config, architecture: Architecture, where: Path) -> None:
    for key, write in (
        ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
        ("final_logit_softcapping", writer.add_final_logit_softcapping),
    ):
        if config.get(key) is not None:
            write(float(str(config[key])))
    writer.add_sliding_window(_number(config, "sliding_window", where))
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        slides = [kind == "sliding_attention" for kind in kinds]
        every = slides.index(False) + 1 if False in slides else architecture.layers + 1
        if slides != [(n + 1) % every != 0 for n in range(architecture.layers)]:
            raise ModelError(
                "the layers with a sliding window follow no simple pattern",
                where=f"{where / 'config.json'}: layer_types",
                found=str(kinds)[:80],
                fix=_CONVERT_ELSEWHERE,
            )
        writer.add_sliding_window_pattern(every)


def _write_rope(writer: Any, config: Config, architecture: Architecture, where: Path) -> NDArray[np.float32] | None:
    """Write the rotary embedding: from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling`."""
    rope, sliding = _rope_of(config)
    base = float(str(rope.get("rope_theta", 10000.0)))
    writer.add_rope_freq_base(base)
    if sliding is not None:
        if sliding.get("rope_type", "default") != "default":
            raise ModelError(
                "this rotary embedding cannot be converted",
                where=f"{where / 'config.json'}: rope_parameters",
                found=sliding.get("rope_type"),
                fix=_CONVERT_ELSEWHERE,
            )
        writer.add_rope_freq_base_swa(float(str(sliding.get("rope_theta", 10000.0))))
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    if kind == "default":
        return None
    if kind == "llama3":
        return _llama3_factors(rope, base, architecture.head_size, where)
    scaling = require("gguf", extra="gguf", to="write GGUF files").RopeScalingType
    unknown = (
        set(rope)
        - {"rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"}
        - {key for key, value in rope.items() if value is None}
    )
    if kind not in ("linear", "yarn") or unknown:
        raise ModelError(
            "this rotary embedding cannot be converted",
            where=f"{where / 'config.json'}: rope_parameters",
            found=f"{kind} {sorted(unknown) or ''}".strip(),
            fix=_CONVERT_ELSEWHERE,
        )
    writer.add_rope_scaling_type(scaling.LINEAR if kind == "linear" else scaling.YARN)
    writer.add_rope_scaling_factor(_rope_number(rope, "factor", where))
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(int(_rope_number(rope, "original_max_position_embeddings", where)))
    return None


def _rope_of(config: Config) -> tuple[Config, Config | None]:
    """Return the rotary settings of the global layers, and of the sliding ones where they have their own."""
    stored = config.get("rope_parameters")
    if isinstance(stored, dict) and isinstance(stored.get("full_attention"), dict):
        whole, sliding = stored["full_attention"], stored.get("sliding_attention")
        return dict(whole) if isinstance(whole, dict) else {}, dict(sliding) if isinstance(sliding, dict) else None
    scaling = config.get("rope_scaling")
    rope: Config = dict(scaling) if isinstance(scaling, dict) else {}
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    if isinstance(stored, dict):
        rope = {**rope, **stored}
    local = config.get("rope_local_base_freq")
    return rope, None if local is None else {"rope_theta": local}


def _rope_number(rope: Config, key: str, where: Path) -> float:
    value = rope.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(
            "expected a number",
            where=f"{where / 'config.json'}: rope_parameters.{key}",
            found=value,
            fix="Use a folder saved by transformers.",
        )
    return float(value)


def _llama3_factors(rope: Config, base: float, head_size: int, where: Path) -> NDArray[np.float32]:
    """The divisors of the rotary frequencies: 1 for short wavelengths, `factor` for long ones, smooth between.

    As in `_compute_llama3_parameters` of transformers.
    """
    factor, low, high, original = (
        _rope_number(rope, key, where)
        for key in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    wavelengths = 2 * np.pi * base ** (np.arange(0, head_size, 2, dtype=np.float64) / head_size)
    smooth = (original / wavelengths - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    factors = np.where(wavelengths < original / high, 1.0, np.where(wavelengths > original / low, factor, between))
    return factors.astype(np.float32)
