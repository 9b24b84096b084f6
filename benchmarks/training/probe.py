"""Runs a training command in this process and notes, at each optimizer step, what it has cost and which tokens it has seen.

    python probe.py OUT.json PAD_ID MODULE_OR_FILE ARGUMENT...

The same for every trainer, whatever it logs: torch tells of each optimizer step, and the embedding of the ids that enter
the model. It adds a count of ids to each batch and no more. Times begin with the process, so the import of torch, which
comes a moment earlier here than the command would do it, is part of the start-up either way.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def processor_seconds() -> float:
    """User and system time of this process and of the children it has waited for."""
    return sum(os.times()[:4])


def main() -> None:
    out, pad, command, *arguments = Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    began = float(os.environ["PROBE_BEGAN"])
    found: dict[str, Any] = {"first_batch": None, "steps": []}
    seen = {"useful": 0, "computed": 0}
    forward = torch.nn.Embedding.forward

    def now() -> dict[str, float]:
        return {"processor": processor_seconds(), "clock": time.time() - began}

    def counted(self: Any, ids: Any) -> Any:
        if torch.is_grad_enabled() and self.training:
            if found["first_batch"] is None:
                found["first_batch"] = now()
            seen["computed"] += ids.numel()
            seen["useful"] += int((ids != pad).sum())
        return forward(self, ids)

    def stepped(*_: Any) -> None:
        found["steps"].append({**now(), **seen})
        out.write_text(json.dumps(found), encoding="utf-8")

    torch.nn.Embedding.forward = counted
    register_optimizer_step_post_hook(stepped)
    sys.argv = [command, *arguments]
    if command.endswith(".py"):
        runpy.run_path(command, run_name="__main__")
    else:
        runpy.run_module(command, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
