"""How much a training works on at once, and in all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fieldwise.train.memory import MemoryPlan, Work
from fieldwise.train.settings import DpoSettings, SftSettings


class Extent(NamedTuple):
    """How long the pairs are, in tokens."""

    longest: int  # prompt and answer together
    answer: int  # the longest answer
    mean: float  # of a pair: both answers, each behind its prompt


def sft_work(lengths: Sequence[int], scored: Sequence[int], settings: SftSettings, plan: MemoryPlan) -> Work:
    """Return how much a plan trains on at once, and in all, from the tokens of each row and those that carry loss."""
    total = sum(lengths)
    row = min(plan.max_length, total) if plan.packing else max(lengths)
    count = math.ceil(total / row) if plan.packing else len(lengths)
    # a packed row may hold more answers than the mean one, but not often twice as many
    at_once = plan.micro_batch * (max(max(scored), 2 * row * sum(scored) / total) if plan.packing else max(scored))
    steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.epochs * count / plan.effective_batch)
    tokens = steps * plan.effective_batch * (row if plan.packing else total / len(lengths))
    return Work(plan.micro_batch, row, min(int(at_once), plan.micro_batch * row), int(tokens), steps)


def dpo_work(extent: Extent, pairs: int, settings: DpoSettings, plan: MemoryPlan) -> Work:
    """Return how much a plan trains on at once, and in all; the reference reads every pair once more, without a backward pass."""
    steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.epochs * pairs / plan.effective_batch)
    seen = steps * plan.effective_batch + pairs / 3
    return Work(
        2 * plan.micro_batch, extent.longest, 2 * plan.micro_batch * extent.answer, int(seen * extent.mean), steps
    )
