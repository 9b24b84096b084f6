"""How much a training works on at once, and in all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fieldwise.train.memory import MemoryPlan, Work
from fieldwise.train.settings import PreferenceSettings, RewardSettings, RlSettings, RowsSettings


class Extent(NamedTuple):
    """How long the pairs are, in tokens, or the replies where each stands alone."""

    longest: int  # prompt and answer together
    answer: int  # the longest answer
    mean: float  # of a pair: both answers, each behind its prompt; of a reply: that and its prompt


def sft_work(lengths: Sequence[int], scored: Sequence[int], settings: RowsSettings, plan: MemoryPlan) -> Work:
    """Return how much a plan trains on at once, and in all, from the tokens of each row and those that carry loss."""
    total = sum(lengths)
    row = min(plan.max_length, total) if plan.packing else max(lengths)
    count = math.ceil(total / row) if plan.packing else len(lengths)
    # a packed row may hold more answers than the mean one, but not often twice as many
    at_once = plan.micro_batch * (max(max(scored), 2 * row * sum(scored) / total) if plan.packing else max(scored))
    steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.epochs * count / plan.effective_batch)
    tokens = steps * plan.effective_batch * (row if plan.packing else total / len(lengths))
    return Work(plan.micro_batch, row, min(int(at_once), plan.micro_batch * row), int(tokens), steps)


def preference_work(extent: Extent, count: int, settings: PreferenceSettings, plan: MemoryPlan) -> Work:
    """Return how much a plan trains on at once, and in all, from `count` pairs, or replies for KTO.

    A pass without a backward one counts a third: the reference reads everything once beforehand, or in every step; KTO
    reads each prompt with another's reply as well, for its estimate of KL.
    """
    steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.epochs * count / plan.effective_batch)
    trained = steps * plan.effective_batch
    is_kto = settings.method == "kto"
    scored = {"none": 0, "precomputed": count, "beside": trained}[plan.reference]
    seen = trained + (scored * (2 if is_kto else 1) + (trained if is_kto else 0)) / 3
    rows = plan.micro_batch * (1 if is_kto else 2)
    return Work(rows, extent.longest, rows * extent.answer, int(seen * extent.mean), steps)


def reward_work(lengths: Sequence[int], settings: RewardSettings, plan: MemoryPlan) -> Work:
    """Return how much a plan trains on at once, and in all, from the tokens of each side of each pair; none is scored."""
    pairs = len(lengths) // 2
    steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.epochs * pairs / plan.effective_batch)
    tokens = steps * plan.effective_batch * 2 * sum(lengths) / len(lengths)
    return Work(2 * plan.micro_batch, max(lengths), 2 * plan.micro_batch, int(tokens), steps)


def rl_work(lengths: Sequence[int], settings: RlSettings, plan: MemoryPlan, other_bytes: float = 0.0) -> Work:
    """Return how much a plan learns from at once, and in all, from the tokens of each prompt; drawing is not counted.

    `other_bytes` are those of a reward model. The reference reads every reply as well.
    """
    passes = settings.ppo.epochs + 1 if settings.method == "ppo" else 2
    steps = rl_steps(settings, len(lengths))
    tokens = steps * plan.effective_batch * (sum(lengths) / len(lengths) + settings.max_new_tokens) * passes
    longest = max(lengths) + settings.max_new_tokens
    return Work(plan.micro_batch, longest, plan.micro_batch * settings.max_new_tokens, int(tokens), steps, other_bytes)


def rl_steps(settings: RlSettings, prompts: int) -> int:
    """Return the number of steps: PPO draws one reply to each prompt of an epoch, the others some."""
    replies = prompts * (1 if settings.method == "ppo" else settings.generations)
    return settings.max_steps if settings.max_steps > 0 else math.ceil(settings.epochs * replies / settings.batch_size)
