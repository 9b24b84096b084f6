"""Inside one of several processes that train together: which one it is, and whether what runs is what was asked for.

accelerate falls back without a word: started in its usual ways it may run one process, or plain DDP in the place of FSDP.
So each process proves at the first step that it is one of so many, over the right backend, on a device of its own, with
its share of the rows, and that its gradients are those of all the others; at the end, that its weights are too.

A process that trains alone never comes here: `here()` is None.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import JsonValue

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.progress import say

T = TypeVar("T")
Strategy = Literal["ddp", "fsdp2", "deepspeed"]
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
_KINDS = {  # what accelerate calls it
    ("ddp", "cpu"): "MULTI_CPU",
    ("ddp", "cuda"): "MULTI_GPU",
    ("fsdp2", "cuda"): "FSDP",
    ("deepspeed", "cuda"): "DEEPSPEED",
}


@dataclass(frozen=True)
class Processes:
    """What was asked for, and which of the processes this one is."""

    workers: int
    device: str  # cpu or cuda
    strategy: Strategy
    rank: int

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    @property
    def backend(self) -> str:
        """What the processes talk over."""
        return BACKENDS[self.device]

    @property
    def kind(self) -> str:
        """What accelerate must call the distribution."""
        return _KINDS[self.strategy, self.device] if self.workers > 1 else "NO"


class Found(NamedTuple):
    """What really runs, as torch and accelerate tell it."""

    workers: int
    backend: str
    kind: str
    accelerate_workers: int
    wrapper: str  # class of what the gradients go through
    devices: tuple[str, ...]  # of every process, with its machine


_here: Processes | None = None


def here() -> Processes | None:
    """Return which process this is; None for one that trains alone."""
    return _here


def is_first() -> bool:
    """Whether this process writes and speaks: one that trains alone does."""
    return _here is None or _here.is_first


def count() -> int:
    """Return how many processes train together; 1 for one that trains alone."""
    return 1 if _here is None else _here.workers


def local_rank() -> int:
    """Return the number of this process on its machine, which is that of its GPU; 0 for one that trains alone."""
    return 0 if _here is None else int(os.environ.get("LOCAL_RANK", "0"))


def join(processes: Processes) -> None:
    """Make this process one of several; all of them must come here."""
    global _here
    torch_distributed = require("torch.distributed", extra="train", to="train with several processes")
    _here = processes
    if processes.device == "cuda":
        require("torch", extra="train", to="train with several processes").cuda.set_device(local_rank())
    if processes.workers > 1 and not torch_distributed.is_initialized():
        torch_distributed.init_process_group(processes.backend)


def leave() -> None:
    """Be a process that trains alone again."""
    global _here
    torch_distributed = require("torch.distributed", extra="train", to="train with several processes")
    if _here is not None and torch_distributed.is_initialized():
        torch_distributed.destroy_process_group()
    _here = None


def options() -> dict[str, Any]:
    """Return what a trainer is told of the distribution; nothing in a process that trains alone."""
    if _here is None or _here.workers == 1:
        return {}
    told: dict[str, Any] = {"ddp_find_unused_parameters": False, "ddp_backend": _here.backend}
    if _here.strategy == "fsdp2":
        told["fsdp"] = True
        told["fsdp_config"] = {"version": 2, "state_dict_type": "FULL_STATE_DICT"}
    if _here.strategy == "deepspeed":
        told["deepspeed"] = {
            "zero_optimization": {"stage": 2},
            "bf16": {"enabled": "auto"},
            "gradient_clipping": "auto",
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
        }
    return told


def callbacks(trainer: Any) -> list[Any]:
    """Return what proves the distribution while a trainer runs; nothing in a process that trains alone."""
    return [] if _here is None or _here.workers == 1 else [_proof(trainer, _here)]


def is_sharded() -> bool:
    """Whether a process holds a part of the weights alone."""
    return _here is not None and _here.strategy != "ddp"


def agreed(found: Callable[[], T]) -> T:
    """Return what the first process finds, in every process: what one removes another must not look at."""
    if _here is None or _here.workers == 1:
        return found()
    torch_distributed = require("torch.distributed", extra="train", to="train with several processes")
    told: list[Any] = [found() if _here.is_first else None]
    torch_distributed.broadcast_object_list(told, src=0)
    value: T = told[0]
    return value


def wait() -> None:
    """Return once every process has come here; at once in one that trains alone."""
    if _here is not None and _here.workers > 1:
        require("torch.distributed", extra="train", to="train with several processes").barrier()


def account() -> dict[str, JsonValue]:
    """Return what stands in the record of a training about its processes; nothing for one."""
    if _here is None or _here.workers == 1:
        return {}
    return {"processes": {"workers": _here.workers, "backend": _here.backend, "distribution": _here.kind}}


def require_as_asked(asked: Processes, found: Found) -> None:
    """Raise ModelError if what runs is not what the recipe says."""
    wrapper = {"ddp": "DistributedDataParallel", "deepspeed": "DeepSpeedEngine"}.get(asked.strategy)
    for what, wanted, there in (
        ("processes", asked.workers, found.workers),
        ("backend", asked.backend, found.backend),
        ("distribution", asked.kind, found.kind),
        ("processes of accelerate", asked.workers, found.accelerate_workers),
        ("gradients go through", wrapper or found.wrapper, found.wrapper),
        ("kind of device", {asked.device}, {place.rpartition(" ")[2].partition(":")[0] for place in found.devices}),
    ):
        if wanted != there:
            raise _not_as_asked(f"{what}: {_told(there)} instead of {_told(wanted)}")
    if asked.device == "cuda" and len(set(found.devices)) < asked.workers:
        raise _not_as_asked(f"two processes on one GPU: {', '.join(found.devices)}")


def require_share(rows: int, at_once: int, batches: int, workers: int) -> None:
    """Raise ModelError unless a process is given its share of the rows: one that sees them all trains for itself.

    Ten rows, two at once, are five batches: three for each of two processes, the sixth made of rows seen before.
    """
    share = math.ceil(math.ceil(rows / at_once) / workers)
    if batches != share:
        raise _not_as_asked(f"a process is given {batches} batches of {rows} rows, {share} are its share")


def require_equal(what: str, digests: Iterable[str]) -> None:
    """Raise ModelError unless something is the same in every process."""
    seen = list(digests)
    odd = [rank for rank, digest in enumerate(seen) if digest != seen[0]]
    if odd:
        raise _not_as_asked(f"{what} of process {odd[0]} are not those of process 0")


def _told(value: object) -> str:
    return ", ".join(sorted(map(str, value))) if isinstance(value, set) else str(value)


def _not_as_asked(found: str) -> ModelError:
    return ModelError(
        "what runs is not the distribution that the recipe asks for",
        where="compute",
        found=found,
        fix="Nothing that rests on it is kept. Install the tested versions (constraints.txt), or set compute.backend=local.",
    )


def _proof(trainer: Any, asked: Processes) -> Any:
    transformers = require("transformers", extra="train", to="train with several processes")
    torch = require("torch", extra="train", to="train with several processes")
    whole = asked.strategy == "ddp"  # else each process holds its part

    def gathered(value: str) -> list[str]:
        every: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(every, value)
        return every

    def digest(numbers: Iterable[Any]) -> str:
        hashed = hashlib.sha256()
        for tensor in numbers:
            hashed.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        return hashed.hexdigest()

    def trained() -> list[Any]:
        return [p for p in trainer.model.parameters() if p.requires_grad]

    class Proof(transformers.TrainerCallback):  # type: ignore[name-defined,misc]
        """Looks at the distribution before the first step, at the gradients of the first, at the weights before each is saved."""

        is_proved = False

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            accelerator, distributed = trainer.accelerator, torch.distributed
            is_there = distributed.is_available() and distributed.is_initialized()
            place = f"{socket.gethostname()} {accelerator.device}"
            found = Found(
                distributed.get_world_size() if is_there else 1,
                distributed.get_backend() if is_there else "none",
                accelerator.distributed_type.name,
                accelerator.num_processes,
                type(trainer.model_wrapped).__name__,
                tuple(gathered(place)) if is_there else (place,),
            )
            require_as_asked(asked, found)
            rows, at_once = len(trainer.train_dataset), args.per_device_train_batch_size
            require_share(rows, at_once, len(trainer.callback_handler.train_dataloader), asked.workers)
            again = -rows % (at_once * asked.workers)
            if again:
                say(f"  {again} of {rows} rows are seen twice in an epoch, so that each process has as many")
            say(f"  {asked.workers} processes, {found.kind}, {found.backend}: {', '.join(found.devices)}")

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if whole and not self.is_proved:
                self.is_proved = True
                gradients = [p.grad for p in trained() if p.grad is not None]
                require_equal("the gradients", gathered(digest(gradients) if gradients else f"none {asked.rank}"))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if whole and control.should_save:  # what has drifted apart must not become a checkpoint
                require_equal("the weights", gathered(digest(trained())))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if whole:
                require_equal("the weights", gathered(digest(trained())))

    return Proof()
