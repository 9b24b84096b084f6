"""Exact causal attention on a CPU, conversation by conversation and in blocks of positions, for training.

Rows that are packed hold several conversations that must not see each other. PyTorch's kernel for a CPU then takes a mask
over all that is packed, computes what the mask hides as well, and its backward pass reaches a sixth of the speed of a
matrix product. Here each conversation is its own product of matrices, and a block of queries meets the keys before it
alone. Scores and sums are in float32 whatever the inputs are; nothing quadratic is kept for the backward pass, which
computes the probabilities again from the logarithm of their sum (Dao et al. 2022, FlashAttention, arXiv:2205.14135,
section 3.1 and appendix B.4; the blocks of keys are not split, since a row of a CPU's cache holds them).

Registered with transformers as the attention `blockwise`. Where a mask is more than causal - padding on the left, keys
from a cache - PyTorch's own attention is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from fieldwise.train.hardware import BLOCKWISE

_BLOCK = 128  # queries at once; 64 and 256 were no faster at 60 to 1024 positions


class CausalAttention(Function):
    """Softmax of scaled scores over the positions up to one's own, times values; `pieces` are lengths that sum to all positions.

    Queries are (heads, positions, width), keys and values (key heads, positions, width); query heads that share keys are
    next to each other, as everywhere in transformers. The result has the shape of the queries.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, pieces: Sequence[int]) -> Tensor:
        """Return what each position reads."""
        groups, (heads, positions, width) = key.shape[0], query.shape
        query = query.reshape(groups, heads // groups, positions, width)
        read = torch.empty_like(query)
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        for first, begin, end in _blocks(pieces):
            scores = _scores(query, key, scale, first, begin, end)
            most = scores.amax(-1, keepdim=True)
            total = scores.sub_(most).exp_().sum(-1, keepdim=True)
            found = torch.bmm(scores.div_(total).to(value.dtype), value[:, first:end])
            read[:, :, begin:end] = found.view_as(read[:, :, begin:end])
            sums[:, :, begin:end] = total.log_().add_(most).view_as(sums[:, :, begin:end])
        ctx.save_for_backward(query, key, value, read, sums)
        ctx.scale, ctx.pieces = scale, tuple(pieces)
        return read.view(heads, positions, width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of queries, keys and values: dS = P * (dO V^T - rowsum(dO * O))."""
        query, key, value, read, sums = ctx.saved_tensors
        wanted = gradients[0].reshape(query.shape)
        expected = torch.linalg.vecdot(wanted.float(), read.float())
        to_query = torch.empty_like(query)
        to_key, to_value = (torch.zeros_like(t, dtype=torch.float32) for t in (key, value))
        for first, begin, end in _blocks(ctx.pieces):
            groups, heads, _, width = query.shape
            rows = (groups, heads * (end - begin))
            scores = _scores(query, key, ctx.scale, first, begin, end)
            chosen = scores.sub_(sums[:, :, begin:end].reshape(*rows, 1)).exp_().to(value.dtype)
            of_read = wanted[:, :, begin:end].reshape(*rows, width)
            to_value[:, first:end] += torch.bmm(chosen.transpose(1, 2), of_read)
            of_scores = torch.bmm(of_read, value[:, first:end].transpose(1, 2))
            of_scores = of_scores.sub_(expected[:, :, begin:end].reshape(*rows, 1)).mul_(chosen)
            to_query[:, :, begin:end] = torch.bmm(of_scores, key[:, first:end]).view_as(to_query[:, :, begin:end])
            asked = query[:, :, begin:end].reshape(*rows, width)
            to_key[:, first:end] += torch.bmm(of_scores.transpose(1, 2), asked)
        shape = (query.shape[0] * query.shape[1], *query.shape[2:])
        to_query, to_key = to_query.mul_(ctx.scale).view(shape), to_key.mul_(ctx.scale)
        return to_query, to_key.to(key.dtype), to_value.to(value.dtype), None, None


def _blocks(pieces: Sequence[int]) -> list[tuple[int, int, int]]:
    """Where the keys of each block of queries begin, and where the block itself begins and ends."""
    found, first = [], 0
    for length in pieces:
        for begin in range(first, first + length, _BLOCK):
            found.append((first, begin, min(begin + _BLOCK, first + length)))
        first += length
    return found


def _scores(query: Tensor, key: Tensor, scale: float, first: int, begin: int, end: int) -> Tensor:
    """Scores of a block, (key heads, query heads that share them times positions, keys), hidden keys at minus infinity."""
    groups, heads, _, width = query.shape
    asked = query[:, :, begin:end].float().mul(scale).reshape(groups, heads * (end - begin), width)
    scores = torch.bmm(asked, key[:, first:end].float().transpose(1, 2))
    hidden = torch.full((end - begin, end - begin), float("-inf")).triu_(1)
    scores.view(groups, heads, end - begin, end - first)[..., begin - first :].add_(hidden)
    return scores


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What a layer of transformers calls: (batch, heads, positions, width) in, (batch, positions, heads, width) out."""
    rows, heads, positions, width = query.shape
    if attention_mask is not None or dropout or positions != key.shape[2] or value.shape[3] != width:
        read, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return read, None
    pieces = _pieces(rows, positions, options.get("cu_seq_lens_q"), options.get("position_ids"))
    if torch.is_autocast_enabled(query.device.type):
        narrow = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(narrow), key.to(narrow), value.to(narrow)
    scale = width**-0.5 if scaling is None else scaling
    query, key, value = (t.transpose(0, 1).reshape(t.shape[1], rows * positions, width) for t in (query, key, value))
    with torch.autocast("cpu", enabled=False):
        read = CausalAttention.apply(query, key, value, scale, pieces)  # type: ignore[no-untyped-call]
    return read.view(heads, rows, positions, width).permute(1, 2, 0, 3).contiguous(), None


def _pieces(rows: int, positions: int, ends: Tensor | None, places: Tensor | None) -> list[int]:
    """Lengths of the conversations that lie end to end: as a collator tells them, or wherever positions begin anew."""
    if ends is None and places is not None and places.dim() == 2:
        starts = places.expand(rows, positions) == 0
        starts = starts.index_fill(1, torch.tensor([0]), True).reshape(-1).nonzero().flatten()
        return [b - a for a, b in pairwise([*starts.tolist(), rows * positions])]
    return [positions] * rows if ends is None else [b - a for a, b in pairwise(ends.tolist())]


def _mask(
    *, batch_size: int, q_length: int, kv_length: int, attention_mask: Tensor | None = None, **options: Any
) -> Tensor | None:
    """No mask where nothing but order hides keys; padding behind a row hides none from what stands before it."""
    is_behind = attention_mask is None or bool((attention_mask[:, :-1] >= attention_mask[:, 1:]).all())
    if q_length == kv_length and is_behind:
        return None
    made: Tensor | None = sdpa_mask(
        batch_size=batch_size, q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, **options
    )
    return made


def register() -> None:
    """Make the attention known to transformers; more than once does no harm."""
    ALL_ATTENTION_FUNCTIONS.register(BLOCKWISE, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(BLOCKWISE, _mask)
