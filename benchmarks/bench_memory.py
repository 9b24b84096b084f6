"""The estimate of memory before a training beside its measured peak, each training in a process of its own.

    python benchmarks/bench_memory.py [--only NAME] [--json]

The embedded base and random weights of other shapes, two steps each with everything a real training does: loading,
checkpoints, merging. The ratio is estimate / peak resident memory (VmHWM of Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fieldwise.train.session import Session

NANO = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 10, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 8192}  # fmt: skip
WIDE = {"hidden_size": 512, "intermediate_size": 1280, "num_hidden_layers": 6, "num_attention_heads": 8,
        "num_key_value_heads": 4, "vocab_size": 32000}  # fmt: skip
SMOL = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "nano-10m sft 1 x 1024": {"shape": None, "training": "sft", "micro": 1, "length": 1024},
    "nano-10m sft 4 x 1024": {"shape": None, "training": "sft", "micro": 4, "length": 1024},
    "nano-10m sft 4 x 1024 float32": {
        "shape": None,
        "training": "sft",
        "micro": 4,
        "length": 1024,
        "precision": "float32",
    },
    "nano-10m sft 4 x 1024 checkpointing": {
        "shape": None,
        "training": "sft",
        "micro": 4,
        "length": 1024,
        "again": True,
    },
    "nano-10m dpo 4 pairs": {"shape": None, "training": "preference", "micro": 4, "length": 768},
    "21m, 32000 words, sft 2 x 1024": {"shape": WIDE, "training": "sft", "micro": 2, "length": 1024},
    "21m, 32000 words, dpo 8 pairs": {"shape": WIDE, "training": "preference", "micro": 8, "length": 768},
    "135m sft 1 x 1024": {"shape": SMOL, "training": "sft", "micro": 1, "length": 1024},
    "135m sft 1 x 1024 checkpointing": {"shape": SMOL, "training": "sft", "micro": 1, "length": 1024, "again": True},
}


def make(folder: Path, shape: dict[str, int]) -> None:
    """Random weights of a shape, with tokenizer and template of the embedded base."""
    import transformers

    import fieldwise  # noqa: F401
    from fieldwise.engine.base_weights import resolve

    base = Path(resolve("fieldwise-nano").path)
    config = transformers.LlamaConfig(tie_word_embeddings=True, max_position_embeddings=2048, eos_token_id=2, pad_token_id=0,
                                      bos_token_id=None, **shape)  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(base / name, folder / name)


def train(base: Path, case: dict[str, Any]) -> dict[str, float]:
    """Train two steps and return the estimate beside what the process took."""
    from functools import partial

    from bench_sft import Silent, examples

    from fieldwise.records import PreferencePair
    from fieldwise.train.hardware import PRESETS, device_for, this_machine
    from fieldwise.train.plan import fit
    from fieldwise.train.preference import train_preference
    from fieldwise.train.settings import PreferenceSettings, SftSettings, TrainSettings
    from fieldwise.train.sft import train_sft
    from fieldwise.train.shape import read_shape

    own = {"max_steps": 2, "batch_size": case["micro"], "micro_batch_size": case["micro"], "max_length": case["length"]}
    settings = TrainSettings(sft=SftSettings(**own), preference=PreferenceSettings(**own), precision=case.get("precision", "auto"),
                             activation_checkpointing=case.get("again", False))  # fmt: skip
    device = device_for(PRESETS["cpu"], settings.precision, 0, this_machine())
    method = case["training"]
    fitter = partial(fit, method, settings, PRESETS["cpu"], device, this_machine(), read_shape(base))
    rows = examples(max(48, 28 * case["micro"]))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        session = Session(work / "work", work / "out", 1, 100, Silent(), fitter)
        if method == "sft":
            outcome = train_sft(base, rows, [], settings.sft, device, session)
        else:
            pairs = [
                PreferencePair.make(prompt=e.conversation[:2], chosen=e.answer, rejected="Not stated in the documents.",
                                    judge="rules", reason="declines")
                for e in rows
            ]  # fmt: skip
            outcome = train_preference(base, pairs, settings.preference, device, session)
    peak = next(
        int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    plan: Any = outcome.about["plan"]
    return {"estimated": plan["estimated_peak_bytes"], "measured": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(train(Path(options.child[0]), json.loads(options.child[1]))))
        return
    results = {}
    with tempfile.TemporaryDirectory() as name:
        for case_name, case in CASES.items():
            if options.only not in case_name:
                continue
            results[case_name] = measured(case, Path(name))
            if not options.json:
                r = results[case_name]
                print(f"{case_name:40} estimated {r['estimated'] / 1e9:5.2f} GB, measured {r['measured'] / 1e9:5.2f} GB, "
                      f"ratio {r['ratio']:.2f}", flush=True)  # fmt: skip
    if options.json:
        print(json.dumps(results, indent=1))


def measured(case: dict[str, Any], folder: Path) -> dict[str, float]:
    from fieldwise.engine.base_weights import resolve

    base = Path(resolve("fieldwise-nano").path)
    if case["shape"] is not None:
        base = folder / f"{case['shape']['hidden_size']}x{case['shape']['num_hidden_layers']}"
        if not base.exists():
            make(base, case["shape"])
    found = subprocess.run(
        [sys.executable, __file__, "--child", str(base), json.dumps(case)],
        stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ),
    ).stdout  # fmt: skip
    result: dict[str, float] = json.loads(found.strip().splitlines()[-1])
    return {**result, "ratio": round(result["estimated"] / result["measured"], 2)}


if __name__ == "__main__":
    main()
