"""The loop that trains small encoders: AdamW, warm-up and linear decay, bfloat16 arithmetic where the machine has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.machine import has_bfloat16, usable_cores
from fieldwise.progress import track
from fieldwise.retrieve.cross_encoder import silent

_WARM_UP = 0.1
_DECAY = 0.01
_LONGEST_STEP = 1.0
_SHOWN = 10


class Trained(NamedTuple):
    """How a training went."""

    steps: int
    losses: tuple[float, ...]
    seconds: float


def load(kind: str, folder: object, **given: Any) -> tuple[Any, Any]:
    """Return a model by the class of transformers named, and its tokenizer; nothing is downloaded."""
    transformers = require("transformers", extra="train", to="train a model of the search")
    torch = require("torch", extra="train", to="train a model of the search")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        with silent(transformers):
            model = getattr(transformers, kind).from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, **given
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            "the weights to start from cannot be read",
            where=folder,
            found=str(error).splitlines()[0][:160],
            fix="Name a folder with weights and tokenizer with --base, or leave it out for all-MiniLM-L6-v2.",
        ) from error
    return model, tokenizer


def save(model: Any, folder: Path) -> None:
    """Write weights and configuration, as float32 from the CPU."""
    with silent(require("transformers", extra="train", to="train a model of the search")):
        model.to("cpu").save_pretrained(folder)


def fit(model: Any, batches: Sequence[Any], loss_of: Callable[[Any, str], Any], *, rate: float, label: str) -> Trained:
    """Train on the batches in their order; `loss_of` gives the loss of one on a device.

    Raises ModelError if the loss is no number: the weights are spoilt then.
    """
    torch = require("torch", extra="train", to="train a model of the search")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, usable_cores()))
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=_DECAY)
    warm = max(1, round(_WARM_UP * len(batches)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min((n + 1) / warm, (len(batches) - n) / max(1, len(batches) - warm))
    )
    bfloat16 = torch.cuda.is_bf16_supported() if device == "cuda" else has_bfloat16()
    losses: list[float] = []
    began = time.perf_counter()
    try:
        for batch in track(batches, label):
            with torch.autocast(device, torch.bfloat16) if bfloat16 else nullcontext():
                loss = loss_of(batch, device)
            losses.append(float(loss.detach()))
            if losses[-1] != losses[-1]:
                raise ModelError("the loss is no number", found=f"step {len(losses)}", fix="Lower --learning-rate.")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), _LONGEST_STEP)
            optimizer.step()
            schedule.step()
    finally:
        torch.set_num_threads(threads)
    model.eval()
    return Trained(len(losses), _tenths(losses), round(time.perf_counter() - began, 1))


def _tenths(losses: Sequence[float]) -> tuple[float, ...]:
    edges = [round(len(losses) * n / _SHOWN) for n in range(_SHOWN + 1)]
    parts = [losses[a:b] for a, b in pairwise(edges) if b > a]
    return tuple(round(sum(part) / len(part), 4) for part in parts)
