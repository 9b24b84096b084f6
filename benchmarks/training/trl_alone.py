"""TRL as it comes, made to run on a CPU: 32-bit weights and arithmetic, padded batches of eight, activation checkpointing.

    python trl_alone.py BASE ROWS.jsonl OUT '{"max_steps": 6, ...}' '{"r": 16, ...}' [--best]

With --best it is set as well as its own options allow: packed rows, one at a time, bfloat16, no checkpointing.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import datasets
import peft
import trl

base, rows, out, options, lora = sys.argv[1:6]
read = [json.loads(line) for line in Path(rows).read_text(encoding="utf-8").splitlines()]
if "text" not in read[0]:
    read = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in read]
settings = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "logging_steps": 1}
if "--best" in sys.argv:
    best = {"bf16": True, "packing": True, "activation_checkpointing": False}
    settings |= {**best, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
trainer = trl.SFTTrainer(
    model=base,
    args=trl.SFTConfig(output_dir=out, **settings, **json.loads(options)),
    train_dataset=datasets.Dataset.from_list(read),
    peft_config=peft.LoraConfig(task_type="CAUSAL_LM", **json.loads(lora)),
)
trainer.train()
trainer.save_model(out)
