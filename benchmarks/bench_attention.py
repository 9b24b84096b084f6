"""Attention in blocks beside PyTorch's on a CPU: both passes, what a token of a row costs, and what oneDNN keeps of shapes.

    python benchmarks/bench_attention.py [--rounds 12] [--batches 61] [--json]

One thread, bfloat16, causal, keys shared by two or three heads. Distances are those of the gradients to the same in
64 bit, as a share of their norm. The last part trains an adapter of the embedded base on micro-batches of three to eight
conversations of 60 to 420 tokens, in a process of its own for each capacity of oneDNN's cache. The part `base_model` is
the attention that the base model itself is trained with (nano/nano_recipe/model.py), compiled, beside PyTorch's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import fieldwise  # sets the switches of the libraries below  # noqa: F401

HEADS = ((4, 2), (9, 3))
POSITIONS = (60, 120, 340, 512, 1024)
ROWS = (371, 742, 1024, 2048)
BLOCKS = (64, 128, 256)
CAPACITIES = (1024, 128, 64, 0)
WIDTH = 64


def passes(heads: int, groups: int, positions: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of both passes and distances of the gradients, of PyTorch's attention and of ours."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from fieldwise.train.blockwise import CausalAttention

    def theirs(*given: Any) -> Any:
        return scaled_dot_product_attention(*(t[None] for t in given), is_causal=True, enable_gqa=True)[0]

    def ours(*given: Any) -> Any:
        return CausalAttention.apply(*given, WIDTH**-0.5, [positions])

    torch.manual_seed(0)
    drawn = [torch.randn(n, positions, WIDTH).bfloat16() for n in (heads, groups, groups)]
    wanted = torch.randn(heads, positions, WIDTH).bfloat16()
    exact = [t.double().requires_grad_() for t in drawn]
    right = torch.autograd.grad(theirs(*exact), exact, wanted.double())
    found: dict[str, Any] = {}
    for name, attend in (("pytorch", theirs), ("blocks", ours)):
        times = []
        for _ in range(rounds):
            inputs = [t.clone().requires_grad_() for t in drawn]
            began = time.process_time()
            attend(*inputs).backward(wanted)
            times.append(time.process_time() - began)
        off = [float((a.grad.double() - b).norm() / b.norm()) for a, b in zip(inputs, right, strict=True)]
        found[name] = {"ms": round(1000 * median(times), 2), "distance": round(max(off), 4)}
    found["ratio"] = round(found["pytorch"]["ms"] / found["blocks"]["ms"], 2)
    return found


def base_model(rounds: int) -> dict[str, Any]:
    """Milliseconds of both passes of one layer over 4,096 positions, compiled, by the length of a row and of a block."""
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nano"))
    from nano_recipe import model

    def theirs(q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    found: dict[str, Any] = {}
    for length in (256, 512):
        drawn = [torch.randn(4096 // length, n, length, WIDTH).bfloat16().requires_grad_() for n in (4, 2, 2)]
        wanted = torch.randn_like(drawn[0])
        found[f"rows of {length}"] = {}
        for name, attend, block in (("pytorch", theirs, 0), *((f"blocks of {b}", model._attention, b) for b in BLOCKS)):
            torch._dynamo.reset()
            model._QUERIES = block
            compiled, times = torch.compile(attend, dynamic=False), []
            for n in range(rounds + 1):
                began = time.process_time()
                compiled(*drawn).backward(wanted)
                if n:  # the first is compiled
                    times.append(time.process_time() - began)
            found[f"rows of {length}"][name] = round(1000 * median(times), 1)
    return found


def adapted() -> tuple[Any, Callable[[list[int]], None]]:
    """The embedded base with an adapter as a training holds it, and a step over conversations of these lengths."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from fieldwise.engine.base_weights import resolve
    from fieldwise.train import blockwise, lean_lora

    blockwise.register()
    base = AutoModelForCausalLM.from_pretrained(resolve("fieldwise-nano").path, attn_implementation=blockwise.BLOCKWISE)
    model = get_peft_model(base.float(), LoraConfig(r=16, target_modules="all-linear")).train()
    lean_lora.lighten(model)

    def step(lengths: list[int]) -> None:
        ids = torch.randint(300, 8000, (1, sum(lengths)))
        places = torch.cat([torch.arange(n) for n in lengths])[None]
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.base_model.model.model(input_ids=ids, position_ids=places, use_cache=False).last_hidden_state
            scores = model.base_model.model.lm_head(hidden[0, -64:]).float()
        torch.nn.functional.cross_entropy(scores, ids[0, -64:]).backward()

    return model, step


def rows(rounds: int) -> dict[str, float]:
    """Milliseconds a token of a step over a row, by its length."""
    _, step = adapted()
    found = {}
    for length in ROWS:
        lengths = [*[340] * (length // 340), length % 340]
        times = []
        for _ in range(rounds):
            began = time.process_time()
            step(lengths)
            times.append(time.process_time() - began)
        found[str(length)] = round(1000 * median(times) / length, 3)
    return found


def grown(batches: int) -> dict[str, float]:
    """Memory held after the first and the last micro-batch, and tokens a processor second; run with a capacity set."""
    _, step = adapted()
    rng, begin, tokens, began = random.Random(0), 0.0, 0, time.process_time()
    for n in range(batches):
        lengths = [rng.randint(60, 420) for _ in range(rng.randint(3, 8))]
        step(lengths)
        tokens += sum(lengths)
        held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9
        begin = begin if n else held
    return {"first_gb": round(begin, 2), "last_gb": round(held, 2), "tokens_a_second": round(tokens / (time.process_time() - began))}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batches", type=int, default=61)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--grown", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    if given.grown:
        print(json.dumps(grown(given.batches)))
        return
    found: dict[str, Any] = {
        "passes": {f"{h} heads, {p} positions": passes(h, g, p, given.rounds) for h, g in HEADS for p in POSITIONS},
        "ms_a_token": rows(given.rounds),
        "base_model": base_model(given.rounds),
        "kept_shapes": {},
    }
    for capacity in CAPACITIES:
        own = {**os.environ, "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(capacity)}
        line = [sys.executable, __file__, "--grown", "--batches", str(given.batches)]
        done = subprocess.run(line, env=own, check=True, stdout=subprocess.PIPE, text=True)
        found["kept_shapes"][str(capacity)] = json.loads(done.stdout)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for part, table in found.items():
        print(part)
        for name, row in table.items():
            print(f"  {name:26} {json.dumps(row)}")


if __name__ == "__main__":
    main()
