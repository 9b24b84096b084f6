"""Mean loss of adapters over what the assistant says in rows that none of them has seen, in 32-bit arithmetic.

python judge.py BASE ROWS.jsonl '{"name": "adapter folder"}'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peft
import torch

from fieldwise.train.labels import IGNORED, label
from fieldwise.train.loading import load_model, load_tokenizer

base, rows, adapters = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
tokenizer = load_tokenizer(base)
labelled = [label(tokenizer, json.loads(line)["messages"]) for line in rows.read_text(encoding="utf-8").splitlines()]


def loss(model: Any) -> float:
    """Mean over the labelled tokens."""
    total, count = 0.0, 0
    for row in labelled:
        ids, labels = torch.tensor([row.ids]), torch.tensor(row.labels[1:])
        with torch.inference_mode():
            logits = model(ids).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))
        count += int((labels != IGNORED).sum())
    return total / count


found = {"base": loss(load_model(base).eval())}
for name, folder in adapters.items():
    found[name] = loss(peft.PeftModel.from_pretrained(load_model(base), folder).eval())
print(json.dumps(found))
