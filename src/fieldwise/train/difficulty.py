"""How hard an example is for the base model: the mean loss of what the assistant says, before any training.

As in self-paced learning (Kumar, Packer and Koller, 2010) what the model finds likely already counts as easy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fieldwise.extras import require
from fieldwise.files import read_json, write_json
from fieldwise.hashing import content_id
from fieldwise.progress import track
from fieldwise.records import Example
from fieldwise.train.hardware import Device
from fieldwise.train.labels import IGNORED, label, messages
from fieldwise.train.loading import load_model, load_tokenizer


def base_losses(base: Path, examples: Sequence[Example], device: Device, memo: Path) -> dict[str, float]:
    """Return the loss of each example by its id, in nats a token of what the assistant says; read from `memo` if known.

    A row beyond the context of the base is cut at its beginning, so that what is said stays.
    """
    key = content_id("los", [e.id for e in examples])
    if memo.exists():
        known: Any = read_json(memo)
        if known.get("of") == key:
            return {str(name): float(value) for name, value in known["losses"].items()}
    torch = require("torch", extra="train", to="fine-tune")
    tokenizer, model = load_tokenizer(base), load_model(base)
    model.to(device.name).eval()
    longest = int(model.config.max_position_embeddings)
    losses: dict[str, float] = {}
    for example in track(examples, "difficulty for the base"):
        row = label(tokenizer, messages(example.conversation, tokenizer), example.tools)
        ids, labels = row.ids[-longest:], row.labels[-longest:]
        with (
            torch.no_grad(),
            torch.autocast(torch.device(device.name).type, dtype=torch.bfloat16, enabled=device.bfloat16),
        ):
            logits = model(torch.tensor([ids], device=device.name)).logits[0, :-1].float()
        wanted = torch.tensor(labels[1:], device=device.name)
        losses[example.id] = float(torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED))
    write_json(memo, {"of": key, "losses": {**losses}})
    return losses
