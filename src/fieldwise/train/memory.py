"""How much memory a training takes at its peak, and how long it takes, worked out before it begins.

Activations follow the training of Korthikanti et al. 2022 (arXiv:2205.05198, section 4): what autograd keeps of one layer
for the backward pass, added up operation by operation. Their 34 bytes per token and hidden unit are those of GPT-2 in
16 bit; here the sums are of the Llama family (RMSNorm, rotary positions, grouped keys, gated SiLU) as transformers and
PEFT run it. `tests/train/test_memory.py` compares them with what autograd really saves. Optimizer states follow ZeRO
(Rajbhandari et al. 2020, arXiv:1910.02054, section 3.1), four-bit weights QLoRA (Dettmers et al. 2023,
arXiv:2305.14314, section 3). `benchmarks/bench_memory.py` compares the whole with the measured peak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from fieldwise.train.hardware import Machine
from fieldwise.train.shape import Shape

_LIBRARIES = 0.68e9  # torch, transformers, TRL, PEFT and a small data set, resident on a CPU (measured)
_SLACK = 1.15  # of activations: what allocators hold back between tensors (measured)
_SLACK_OF_PAIRS = 1.5  # the same for padded pairs (measured once, nano-10m)
_CUDA_CONTEXT = 0.6e9  # kernels and libraries of torch on a GPU
_NF4_BYTES = 0.5 + 0.127 / 8  # QLoRA, section 3: 0.127 bits a weight for the doubly quantised scales
_STATISTICS = 24  # two scales of RMSNorm and the log-sums of attention, bytes per token and layer, about
_TILE_TOKENS, _TILE_WORDS = 4096, 32768  # TRL scores at most so many positions over so many words at once
_TILE_COPIES = 7  # float32 copies of a tile that the loss makes on its way back, where Triton does not do it in place

# Floating point operations a second that training reaches: per core of a CPU (measured with models of 5 to 35 million
# weights, docs/decisions.md), and for a GPU a tenth to four tenths of its peak.
_CPU_SPEED = {"bfloat16": 110e9, "float32": 60e9, "old": 20e9}  # old: no AVX-512
_GPU_SPEED = ((9, 0, 300e12), (8, 0, 100e12), (0, 0, 20e12))


@dataclass(frozen=True)
class MemoryPlan:
    """What a training does so that it fits, all settings filled in."""

    micro_batch: int
    accumulation: int
    max_length: int
    packing: bool
    activation_checkpointing: bool
    weights: Literal["float32", "bfloat16"]
    bfloat16: bool
    quantisation: Literal["none", "8bit", "4bit"]
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"]
    rank: int | None  # None trains all weights
    target_modules: str | tuple[str, ...] = "all-linear"
    device: Literal["cpu", "cuda"] = "cpu"
    reference: Literal["none", "precomputed", "beside"] = "none"  # the weights at the start, where the loss knows them
    unit: Literal["rows", "pairs", "replies"] = "rows"
    least_micro: int = 1  # what the loss compares within must be in memory at once
    workers: int = 1  # processes that share a step
    attention: str | None = None  # FlashAttention or our own, as transformers calls it: no mask, rows laid end to end
    backend: Literal["transformers", "unsloth"] = "transformers"

    @property
    def effective_batch(self) -> int:
        """Rows or pairs of one step of the optimizer."""
        return self.micro_batch * self.accumulation * self.workers


class Work(NamedTuple):
    """What is trained on: how much at once, and how much in all."""

    rows_at_once: int  # of the micro-batch; a preference pair counts two
    row_tokens: int  # the longest
    scored_tokens: int  # positions of a micro-batch that carry loss, at most
    tokens: int | None = None  # of the whole training, every epoch counted
    steps: int | None = None
    other_bytes: float = 0.0  # of models beside the one that is trained: a reward model


class Estimate(NamedTuple):
    """Bytes at the peak of a training, by what they are for."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    libraries: float
    merge: float  # the peak of merging behind the training, which may be the higher one

    @property
    def training(self) -> float:
        """The peak of the training itself."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.libraries

    @property
    def peak(self) -> float:
        """The most bytes at any one time."""
        return max(self.training, self.merge)


def estimate(shape: Shape, plan: MemoryPlan, work: Work) -> Estimate:
    """Return the bytes that a training takes; on a GPU those of its own memory."""
    trained = trained_parameters(shape, plan)
    frozen_bytes = _frozen_bytes(shape, plan)
    moments = {"adamw": 8, "adamw_8bit": 2, "paged_adamw_8bit": 2}[plan.optimizer]
    copies = 1 if plan.device == "cuda" else _TILE_COPIES
    number = 2 if plan.bfloat16 else 4
    tile = min(work.scored_tokens, _TILE_TOKENS) * min(shape.vocabulary, _TILE_WORDS)
    head = shape.vocabulary * shape.hidden
    logits = tile * (number + 4 * (copies if plan.device == "cpu" else 0)) + 8 * work.scored_tokens * shape.hidden
    logits += head * (number if plan.bfloat16 else 0) + (4 * head if plan.rank is None else 0)
    libraries = _LIBRARIES if plan.device == "cpu" else _CUDA_CONTEXT
    whole = 4.0 * shape.parameters  # merging adds the update to float32 weights on the CPU
    kept = frozen_bytes if plan.device == "cpu" else 0.0
    return Estimate(
        weights=frozen_bytes + (4.0 * trained if plan.rank is not None else 0.0) + work.other_bytes,
        gradients=4.0 * trained,
        optimizer=float(moments * trained),
        activations=activations(shape, plan, work),
        logits=logits,
        libraries=libraries,
        merge=_LIBRARIES + kept + whole + shape.file_bytes + 4 * head if plan.device == "cpu" else 0.0,
    )


def trained_parameters(shape: Shape, plan: MemoryPlan) -> int:
    """Return how many weights are trained: of an adapter, rank times inputs and outputs of each module (arXiv:2106.09685).

    A layer of 256 inputs and 768 outputs has 16 * (256 + 768) = 16384 at rank 16.
    """
    if plan.rank is None:
        return shape.parameters
    return sum(plan.rank * (layer.inputs + layer.outputs) for layer in shape.targets(plan.target_modules))


def activations(shape: Shape, plan: MemoryPlan, work: Work) -> float:
    """Return the bytes autograd keeps of a micro-batch, with what the backward pass of one layer needs besides.

    With checkpointing only the input of each layer is kept, and one layer at a time is computed again (Chen et al.
    2016, arXiv:1604.06174).
    """
    tokens = work.rows_at_once * work.row_tokens
    layer = layer_bytes(shape, plan, work)
    # behind one layer: the gradients of its widest tensors, and of the stream between layers
    transient = tokens * (4 * (4 if not plan.bfloat16 else 2) * shape.intermediate + 16 * shape.hidden)
    stream = 4.0 * shape.hidden * tokens
    is_end_to_end = plan.packing or (plan.attention is not None and plan.unit == "rows")
    slack = _SLACK if is_end_to_end else _SLACK_OF_PAIRS
    if plan.reference == "beside":  # a forward pass of the same rows while those of the policy are kept
        transient += tokens * (2 * (2 if plan.bfloat16 else 4) * shape.intermediate + 8 * shape.hidden)
    if plan.activation_checkpointing:
        return slack * (shape.layers * stream + layer + transient)
    return slack * (shape.layers * layer + 2 * stream + transient)


def layer_bytes(shape: Shape, plan: MemoryPlan, work: Work) -> float:
    """Return the bytes autograd keeps of one layer, for rows that are packed or padded and so have a mask.

    The mask is of all that is packed, or of each row; every layer keeps it; FlashAttention and our own have none. Autocast keeps a copy of float32 weights in
    bfloat16 as well.
    """
    rows, length = work.rows_at_once, work.row_tokens
    number = 2 if plan.bfloat16 else 4
    mask = number * (rows * length) ** 2 if plan.packing else number * rows * length**2
    if plan.attention is not None:
        mask = 0
    cast = 0.0
    if plan.bfloat16 and plan.weights == "float32" and plan.quantisation == "none":
        cast = 2.0 * shape.linear_parameters / shape.layers
    elif plan.quantisation != "none":  # one matrix at a time is turned back into numbers
        cast = 4.0 * max((layer.outputs * layer.inputs for layer in shape.linear), default=0) / shape.layers
    return rows * length * token_bytes(shape, plan, is_masked=plan.attention is None) + mask + cast


def token_bytes(shape: Shape, plan: MemoryPlan, *, is_masked: bool) -> int:
    """Return the bytes autograd keeps of one token in one layer.

    With h hidden units, f in the gated layer, q and k the widths of queries and keys, in float32: 16 h + 16 f + 8 q +
    8 k for an adapter, and 8 h more if all weights are trained (the normed input of each norm). In bfloat16 by autocast
    18 h + 8 f + 6 q + 4 k, since each projection casts its input for itself; 26 h + 8 f + 4 q + 4 k for all weights. An
    adapter adds its own intermediate values. Under a mask keys and values are repeated for every head.

    Worked: h = q = 256, f = 768, k = 128, rank 16 in 7 modules, float32, no mask: 4096 + 12288 + 2048 + 1024 + 448
    + 24 = 19928 bytes.
    """
    h, f, q = shape.hidden, shape.intermediate, shape.query_width
    keys = shape.query_width if is_masked else shape.key_width
    if plan.rank is None:
        kept = 26 * h + 8 * f + 4 * q + 4 * keys if plan.bfloat16 else 24 * h + 16 * f + 8 * q + 8 * keys
        return kept + _STATISTICS
    kept = 18 * h + 8 * f + 6 * q + 4 * keys if plan.bfloat16 else 16 * h + 16 * f + 8 * q + 8 * keys
    modules = len(shape.targets(plan.target_modules)) // shape.layers
    return kept + plan.rank * modules * (2 if plan.bfloat16 else 4) + _STATISTICS


def seconds(shape: Shape, plan: MemoryPlan, work: Work, machine: Machine, cores: int) -> float | None:
    """Return about how long the training takes on an idle machine, right within a factor of two or so; `cores` are those of one process.

    Floating point operations of a token: 2 for each weight forward and 4 backward, 2 less where weights are frozen, 2
    more with checkpointing, and 12 for each layer, hidden unit and position of the row for attention (PaLM,
    arXiv:2204.02311, appendix B).
    """
    if work.tokens is None:
        return None
    again = 2 if plan.activation_checkpointing else 0
    seen = work.row_tokens * (work.rows_at_once if plan.packing and plan.attention is None else 1)
    attention = (12 + 2 * again) * shape.layers * shape.query_width * seen
    scored = min(1.0, work.scored_tokens / (work.rows_at_once * work.row_tokens)) * shape.vocabulary * shape.hidden
    a_token = ((6 if plan.rank is None else 4) + again) * shape.linear_parameters + 6 * scored + attention
    if plan.device == "cuda":
        capability = min(gpu.capability for gpu in machine.gpus)
        speed = next(speed for major, minor, speed in _GPU_SPEED if capability >= (major, minor))
    else:
        old = not {"AVX-512", "NEON"} & set(machine.features)
        speed = cores * _CPU_SPEED["bfloat16" if plan.bfloat16 else "old" if old else "float32"]
    return work.tokens * a_token / (speed * plan.workers)


def _frozen_bytes(shape: Shape, plan: MemoryPlan) -> float:
    number = 2.0 if plan.weights == "bfloat16" and plan.rank is not None else 4.0
    if plan.quantisation == "none" or plan.rank is None:
        return number * shape.parameters
    quantised = _NF4_BYTES if plan.quantisation == "4bit" else 1.0
    return quantised * shape.linear_parameters + number * (shape.parameters - shape.linear_parameters)
