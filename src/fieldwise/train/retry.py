"""Memory that runs out in the middle of a training: once more with less at a time, then a message that says what to change."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable
from typing import TypeVar

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.train.hardware import Training
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.plan import smaller

T = TypeVar("T")
# besides what accelerate knows: oneDNN, when it gets no memory for its own buffers
_ALSO = ("could not create a memory object", "Cannot allocate memory", "std::bad_alloc")


def with_one_retry(train: Callable[[MemoryPlan], T], plan: MemoryPlan, training: Training) -> tuple[T, MemoryPlan]:
    """Train by a plan; when memory runs out, once more by the smaller one. Returns the plan it ended with as well.

    The effective batch stays, so that the model is the same but for rounding; checkpoints that the first try saved are
    gone on from.
    """
    try:
        return train(plan), plan
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        first = _line(error)
    # behind the handler: inside it the traceback would keep the model of the first try alive
    _let_go()
    again = smaller(plan)
    if again is None:
        raise _out_of_memory(training, plan, first)
    say(
        f"  {training}: memory ran out ({first}); once more with {_difference(plan, again)}, the effective batch as before"
    )
    try:
        return train(again), again
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        second = _line(error)
    _let_go()
    raise _out_of_memory(training, again, second)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if not isinstance(error, RuntimeError):
        return False
    accelerate = require("accelerate.utils.memory", extra="train", to="fine-tune")
    return bool(accelerate.should_reduce_batch_size(error)) or any(part in str(error) for part in _ALSO)


def _let_go() -> None:
    memory = require("accelerate.utils.memory", extra="train", to="fine-tune")
    gc.collect()
    memory.clear_device_cache()


def _out_of_memory(training: Training, plan: MemoryPlan, found: str) -> ModelError:
    settings = []
    if plan.micro_batch > 1:
        settings.append(f"train.{training}.micro_batch_size=1")
    if not plan.activation_checkpointing:
        settings.append("train.activation_checkpointing=true")
    settings.append(f"train.{training}.max_length={plan.max_length // 2}")
    if plan.rank is None:
        settings.append(f"train.{training}.method=lora")
    elif plan.device == "cuda" and plan.quantisation == "none":
        settings.append("train.quantisation=4bit")
    return ModelError(
        "memory ran out, also with less at a time",
        where=f"train.{training}",
        found=found,
        fix=f"The last checkpoint is kept. Set {', then '.join(settings)}, take a smaller base, or end other programs.",
    )


def _difference(before: MemoryPlan, after: MemoryPlan) -> str:
    if after.micro_batch < before.micro_batch:
        return f"micro_batch_size {after.micro_batch} instead of {before.micro_batch}"
    return "activation checkpointing"


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160].rstrip(".")
