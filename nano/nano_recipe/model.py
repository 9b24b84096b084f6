"""The network: a plain Llama, written out so that it trains fast on a CPU, and its export for everyone else.

RMSNorm before attention and feed-forward, rotary positions (theta 10000, rotate-half), grouped-query
attention, SwiGLU, tied embeddings, no biases. `export` writes the folder that transformers, PEFT,
llama.cpp converters and vLLM read.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_QUERIES = 128  # at once; 64 and 256 were no faster in rows of 256 and 512


@dataclass(frozen=True)
class Shape:
    """Sizes of one network; matrix dimensions are multiples of 256 so that K-quants fit."""

    layers: int
    hidden: int = 256
    feed_forward: int = 768
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = 8192
    context: int = 1024
    head_dim: int = 64
    epsilon: float = 1e-5
    theta: float = 10000.0


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention, (rows, heads, positions, width) with fewer heads of keys and values.

    On a CPU a block of queries meets the keys up to its end as one product of matrices: compiled, forward and backward
    take 24 ms where PyTorch's fused kernel takes 76 (a layer, 4096 positions in rows of 512, one thread;
    benchmarks/bench_attention.py).
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    rows, heads, length, width = q.shape
    together, groups = heads // k.shape[1], rows * k.shape[1]
    q = (q * width**-0.5).reshape(groups, together, length, width)
    k, v = k.reshape(groups, length, width), v.reshape(groups, length, width)
    read = []
    for begin in range(0, length, _QUERIES):
        end = min(begin + _QUERIES, length)
        asked = q[:, :, begin:end].reshape(groups, together * (end - begin), width)
        scores = torch.bmm(asked, k[:, :end].transpose(1, 2)).view(groups, together, end - begin, end)
        hidden = torch.arange(end, device=q.device) > torch.arange(begin, end, device=q.device)[:, None]
        chosen = torch.softmax(scores.float().masked_fill(hidden, float("-inf")), -1).to(v.dtype)
        found = torch.bmm(chosen.view(groups, together * (end - begin), end), v[:, :end])
        read.append(found.view(rows, heads, end - begin, width))
    return torch.cat(read, 2)


class Block(nn.Module):
    """Attention and feed-forward with their norms."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.norm1, self.norm2 = nn.Parameter(torch.ones(shape.hidden)), nn.Parameter(torch.ones(shape.hidden))
        self.q, self.k, self.v = (nn.Parameter(torch.empty(n, shape.hidden)) for n in (width, kv, kv))
        self.o = nn.Parameter(torch.empty(shape.hidden, width))
        self.gate, self.up = (nn.Parameter(torch.empty(shape.feed_forward, shape.hidden)) for _ in range(2))
        self.down = nn.Parameter(torch.empty(shape.hidden, shape.feed_forward))
        spread = 1 / math.sqrt(shape.hidden)
        for matrix in (self.q, self.k, self.v, self.gate, self.up):
            nn.init.normal_(matrix, 0, spread)
        for matrix in (self.o, self.down):
            nn.init.normal_(matrix, 0, 1 / math.sqrt(matrix.shape[1]) / math.sqrt(2 * shape.layers))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        s = self.shape
        batch, length, _ = x.shape
        y = F.rms_norm(x, (s.hidden,), self.norm1, s.epsilon)
        mixed = F.linear(y, torch.cat((self.q, self.k, self.v))).view(
            batch, length, s.heads + 2 * s.kv_heads, s.head_dim
        )
        rotated, v = mixed[:, :, : s.heads + s.kv_heads], mixed[:, :, s.heads + s.kv_heads :]
        a, b = rotated.float().chunk(2, -1)
        rotated = torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(mixed.dtype)
        q, k = rotated[:, :, : s.heads].transpose(1, 2), rotated[:, :, s.heads :].transpose(1, 2)
        y = _attention(q, k, v.transpose(1, 2)).transpose(1, 2).reshape(batch, length, s.heads * s.head_dim)
        x = x + F.linear(y, self.o)
        gate, up = F.linear(F.rms_norm(x, (s.hidden,), self.norm2, s.epsilon), torch.cat((self.gate, self.up))).chunk(
            2, -1
        )
        return x + F.linear(F.silu(gate) * up, self.down)


class Nano(nn.Module):
    """The whole network; `forward` returns the last hidden states, `logits` the scores of the next token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.empty(shape.vocabulary, shape.hidden))
        nn.init.normal_(self.embedding, 0, 0.02)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        angles = torch.arange(shape.context).float()[:, None] * shape.theta ** (
            -torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
        )
        self.register_buffer("cos", angles.cos()[:, None], persistent=False)
        self.register_buffer("sin", angles.sin()[:, None], persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x = F.embedding(ids, self.embedding)
        for block in self.blocks:
            x = block(x, self.cos[:length], self.sin[:length])
        return F.rms_norm(x, (self.shape.hidden,), self.norm, self.shape.epsilon)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embedding)


_NAMES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
}


def hub_names(shape: Shape) -> dict[str, str]:
    """Our parameter names -> the names of a Llama checkpoint."""
    names = {"embedding": "model.embed_tokens.weight", "norm": "model.norm.weight"}
    for layer in range(shape.layers):
        names |= {f"blocks.{layer}.{ours}": f"model.layers.{layer}.{theirs}.weight" for ours, theirs in _NAMES.items()}
    return names


def config_json(shape: Shape, pad: int, end: int) -> dict[str, object]:
    """The config.json of the exported folder."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.theta,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def export(model: Nano, folder: Path, pad: int, end: int) -> None:
    """Write config.json and model.safetensors (bf16)."""
    folder.mkdir(parents=True, exist_ok=True)
    state = dict(model.named_parameters())
    save_file(
        {
            theirs: state[ours].detach().to(torch.bfloat16).contiguous()
            for ours, theirs in hub_names(model.shape).items()
        },
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "config.json").write_text(json.dumps(config_json(model.shape, pad, end), indent=2) + "\n")
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": False, "eos_token_id": end, "pad_token_id": pad}, indent=2) + "\n"
    )


def load_exported(folder: Path) -> Nano:
    """Read an exported folder back as float32, for evaluation and for continuing."""
    config = json.loads((folder / "config.json").read_text())
    shape = Shape(
        config["num_hidden_layers"],
        config["hidden_size"],
        config["intermediate_size"],
        config["num_attention_heads"],
        config["num_key_value_heads"],
        config["vocab_size"],
        config["max_position_embeddings"],
    )
    model = Nano(shape)
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({ours: weights[theirs].float() for ours, theirs in hub_names(shape).items()})
    return model
