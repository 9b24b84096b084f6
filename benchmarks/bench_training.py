"""Training on a CPU beside its peers: useful tokens a processor second, start-up, memory and what was learnt.

    python benchmarks/bench_training.py [--peer llamafactory=PYTHON] [--peer axolotl=PYTHON]
                                        [--base nano-10m --base 135m] [--part sft --part pretrain --part reward]
                                        [--rounds 3] [--steps 6] [--json]

Each trainer is started as its users start it, in a process of its own with one thread, over the same rows: questions as
`generate` makes them by default (three passages or none) of three invented fields. All train an adapter of rank 16 on
all linear layers, on what the assistant says, with the same learning rate and number of steps; the trainers that pack
take four rows of 512 tokens a step, the one that pads eight conversations, which is as many tokens. Rounds are
interleaved. A useful token is one that is no padding, counted where it enters the model; processor seconds are user and
system time, from the end of the first optimizer step to that of the last. `PYTHON` is that of the environment into which
LLaMA-Factory or Axolotl was installed. The adapters that are left are measured by one judge, on rows that none has seen.

`135m` are random weights of the shape of SmolLM2-135M with the tokenizer of the embedded base.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples/documents/healthcare"
SEED = 7
LENGTH, ROWS_A_STEP, PADDED_A_STEP = 512, 4, 8
RATE = {"learning_rate": 2e-4, "lr_scheduler_type": "cosine", "warmup_steps": 1}
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}


class Job(NamedTuple):
    """What every trainer is given."""

    base: Path
    rows: Path  # chat, one JSON object a line
    steps: int
    documents: int | None = None  # texts to read on, in place of conversations
    pad: int = 0


class Cost(NamedTuple):
    """What one training took."""

    useful: int  # tokens behind the first step
    padding: float  # share of all tokens that entered the model
    seconds: float  # of processor time behind the first step
    first_batch: float  # processor seconds until the model meets its first tokens
    first_step: float  # processor seconds until the first optimizer step is done
    first_step_clock: float
    whole: float  # processor seconds of the process
    peak: int  # bytes
    steps: int

    @property
    def speed(self) -> float:
        """Useful tokens a processor second."""
        return self.useful / self.seconds


# ---------------------------------------------------------------- rows


def conversations(count: int, seed: int) -> list[list[dict[str, str]]]:
    """Conversations as `generate` makes them by default: 0.6 over three passages, the others without any."""
    from fieldwise.data.sample import DOMAINS, samples
    from fieldwise.generate.settings import GenerateSettings
    from fieldwise.prompts import closed_prompt, grounded_prompt, is_declined

    usual = GenerateSettings()
    drawn = [sample for domain in DOMAINS for sample in samples(domain, -(-count // len(DOMAINS)), seed)]
    rng = random.Random(seed)
    rng.shuffle(drawn)
    made = []
    for sample in drawn[:count]:
        if rng.random() < usual.grounded_share:
            passages = [sample.context, *(s.context for s in rng.sample(drawn, usual.distractors))]
            rng.shuffle(passages)
            mark = "" if is_declined(sample.answer) else f" [{passages.index(sample.context) + 1}]"
            prompt, reply = grounded_prompt(sample.question, passages), sample.answer + mark
        else:
            prompt, reply = closed_prompt(sample.question), sample.answer
        made.append(
            [*({"role": m.role, "content": m.content} for m in prompt), {"role": "assistant", "content": reply}]
        )
    return made


def texts(count: int, seed: int) -> list[str]:
    """Invented notes of one to six passages."""
    from fieldwise.data.sample import DOMAINS, samples

    drawn = [s.context for domain in DOMAINS for s in samples(domain, 2 * count, seed)]
    rng = random.Random(seed)
    rng.shuffle(drawn)
    return ["\n\n".join(drawn.pop() for _ in range(rng.randint(1, 6))) for _ in range(count)]


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ---------------------------------------------------------------- the trainers


def fieldwise(job: Job, out: Path) -> list[str]:
    """The train step of a run whose examples are there."""
    run = job.rows.parent / f"run-{job.base.name}"
    if not run.exists():
        documents = job.rows.parent / "documents"
        documents.mkdir(exist_ok=True)
        (documents / "note.md").write_text("# Register\n\nThe porter keeps the register of the north stair.\n")
        sft = {"epochs": 1, "max_steps": job.steps, "batch_size": ROWS_A_STEP, "learning_rate": RATE["learning_rate"]}
        recipe = {
            "name": "bench", "seed": SEED, "base": {"model": str(job.base)},
            "collect": {"sources": [str(documents)], "licence": "Apache-2.0"},
            "generate": {"from_documents": False, "data": [{"path": str(job.rows), "split": "train"}]},
            "train": {"threads": 1, "sft": sft, "preference": {"enabled": False}},
        }  # fmt: skip
        run.with_suffix(".yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        subprocess.run(
            [sys.executable, "-m", "fieldwise", *_of(run), "--end", "3"], check=True, capture_output=True, env=_quiet()
        )
    return [sys.executable, "fieldwise", *_of(run), "--stage", "4b", "--force"]


def _of(run: Path) -> list[str]:
    return ["run", "--config", str(run.with_suffix(".yaml")), "--run", str(run)]


def fieldwise_pretrain(job: Job, out: Path) -> list[str]:
    """Continued pre-training as the train step calls it."""
    return [sys.executable, str(HERE / "training/pretrain.py"), *map(str, (job.base, job.rows, out, job.steps))]


def trl(job: Job, out: Path) -> list[str]:
    """TRL with its own defaults, made to run on a CPU."""
    options = {**RATE, "max_steps": job.steps, "per_device_train_batch_size": PADDED_A_STEP, "max_length": LENGTH}
    if job.documents:
        options["per_device_train_batch_size"] = job.documents
    options["seed"] = SEED
    command = [sys.executable, str(HERE / "training/trl_alone.py"), *map(str, (job.base, job.rows, out))]
    return [*command, json.dumps(options), json.dumps(LORA)]


def trl_best(job: Job, out: Path) -> list[str]:
    """TRL with the best of its own options."""
    options = {**RATE, "max_steps": job.steps, "max_length": LENGTH, "seed": SEED}
    command = [sys.executable, str(HERE / "training/trl_alone.py"), *map(str, (job.base, job.rows, out))]
    return [*command, json.dumps(options), json.dumps(LORA), "--best"]


def llamafactory(job: Job, out: Path) -> list[str]:
    """LLaMA-Factory at its best on a CPU: packed rows that do not see each other, bfloat16, no checkpointing.

    Two rows of 1024 a step: its packing leaves a quarter of shorter rows empty, and was a fifth slower with them.
    """
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
            "system_tag": "system"}  # fmt: skip
    rows = {"file_name": str(job.rows), "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    out.mkdir(parents=True, exist_ok=True)
    (out / "dataset_info.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    settings = {
        "model_name_or_path": str(job.base), "stage": "sft", "do_train": True, "finetuning_type": "lora",
        "lora_rank": LORA["r"], "lora_alpha": LORA["lora_alpha"], "lora_target": "all", "dataset": "rows",
        "dataset_dir": str(out), "cutoff_len": 2 * LENGTH, "packing": True, "neat_packing": True, "bf16": True,
        "use_cpu": True, "disable_gradient_checkpointing": True, "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": ROWS_A_STEP // 2, "max_steps": job.steps, **RATE, "logging_steps": 1, "seed": SEED,
        "save_strategy": "no", "report_to": "none", "output_dir": str(out), "overwrite_cache": True,
    }  # fmt: skip
    (out / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return ["llamafactory.cli", "train", str(out / "settings.yaml")]


def axolotl(job: Job, out: Path) -> list[str]:
    """Axolotl at its best on a CPU: packed rows, no checkpointing; its bfloat16 and its kernels want a GPU."""
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "base_model": str(job.base), "adapter": "lora", "lora_r": LORA["r"], "lora_alpha": LORA["lora_alpha"],
        "lora_dropout": 0.0, "lora_target_linear": True, "sequence_len": LENGTH, "sample_packing": True,
        "datasets": [{"path": str(job.rows), "ds_type": "json", "type": "chat_template", "field_messages": "messages"}],
        "chat_template": "tokenizer_default", "dataset_prepared_path": str(out / "prepared"), "val_set_size": 0,
        "output_dir": str(out), "micro_batch_size": 1, "gradient_accumulation_steps": ROWS_A_STEP,
        "max_steps": job.steps, "num_epochs": 1, "learning_rate": RATE["learning_rate"], "lr_scheduler": "cosine",
        "warmup_steps": RATE["warmup_steps"], "optimizer": "adamw_torch", "bf16": False, "fp16": False, "tf32": False, "gradient_checkpointing": False,
        "logging_steps": 1, "save_strategy": "no", "seed": SEED, "attn_implementation": "sdpa", "lora_mlp_kernel": False,
        "lora_qkv_kernel": False, "lora_o_kernel": False,
        "dataset_processes": 1,
    }  # fmt: skip
    (out / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return ["axolotl.cli.train", str(out / "settings.yaml")]


OWN = {"fieldwise": fieldwise, "trl": trl, "trl_best": trl_best}
PEERS = {"llamafactory": llamafactory, "axolotl": axolotl}
ADAPTER = {"fieldwise": lambda job, out: job.rows.parent / f"run-{job.base.name}/4_adapters/sft/adapter"}


# ---------------------------------------------------------------- measuring


def _quiet() -> dict[str, str]:
    found = {k: v for k, v in os.environ.items() if not k.startswith("PROBE")}
    return {
        **found, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "AXOLOTL_DO_NOT_TRACK": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def measured(command: Sequence[str], python: str, job: Job, out: Path) -> Cost:
    """Run a training under the probe and return what it took; ends with what it printed where it fails."""
    out.mkdir(parents=True, exist_ok=True)
    found, log = out / "probe.json", out / "log.txt"
    found.unlink(missing_ok=True)
    line = [python, str(HERE / "training/probe.py"), str(found), str(job.pad), *command]
    with log.open("w", encoding="utf-8") as printed:
        began = time.time()
        child = subprocess.Popen(line, stdout=printed, stderr=printed, env={**_quiet(), "PROBE_BEGAN": str(began)})
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command[:2])} failed:\n{log.read_text(encoding='utf-8')[-3000:]}")
    noted = json.loads(found.read_text(encoding="utf-8"))
    steps = noted["steps"][: job.steps]
    first, last = steps[0], steps[-1]
    return Cost(
        last["useful"] - first["useful"],
        1 - last["useful"] / last["computed"],
        last["processor"] - first["processor"],
        noted["first_batch"]["processor"],
        first["processor"],
        first["clock"],
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024,
        len(steps),
    )


def compared(names: Sequence[str], makers: dict[str, Any], pythons: dict[str, str], job: Job, rounds: int) -> Any:
    """Measure every trainer once a round and return medians, the first one's ratio to each, and the losses."""
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for n in range(rounds):
        for name in names:
            out = job.rows.parent / f"{name}-{job.base.name}-{job.rows.stem}"
            shutil.rmtree(out, ignore_errors=True)  # nothing is resumed
            made = makers[name](job, out)
            python, command = (pythons[name], made) if name in pythons else (made[0], made[1:])
            costs[name].append(measured(command, python, job, out))
            last = costs[name][-1]
            print(f"  round {n + 1} {name}: {last.speed:.0f} tokens a processor second, first batch at {last.first_batch:.1f} s, "
                  f"whole {last.whole:.0f} s, {last.peak / 1e9:.2f} GB", file=sys.stderr, flush=True)  # fmt: skip
    ours = names[0]
    table = {}
    for name, taken in costs.items():
        ratios = [a.speed / b.speed for a, b in zip(costs[ours], taken, strict=True)]
        table[name] = {
            "tokens_a_processor_second": round(median(c.speed for c in taken), 1),
            "ratio": [round(f, 2) for f in (median(ratios), min(ratios), max(ratios))],
            "useful_tokens": taken[0].useful,
            "padding": round(taken[0].padding, 3),
            "processor_seconds_to_first_batch": round(median(c.first_batch for c in taken), 2),
            "processor_seconds_to_first_step": round(median(c.first_step for c in taken), 2),
            "clock_seconds_to_first_step": round(min(c.first_step_clock for c in taken), 2),
            "processor_seconds_whole": round(median(c.whole for c in taken), 1),
            "peak_bytes": int(median(c.peak for c in taken)),
            "steps": taken[0].steps,
        }
    return table


def losses(job: Job, names: Sequence[str], held: Path) -> dict[str, float]:
    """Mean loss of each adapter over the labelled tokens of rows that none has seen; `base` without any."""
    places = {name: ADAPTER.get(name, lambda _, out: out)(job, job.rows.parent / f"{name}-{job.base.name}-{job.rows.stem}")
              for name in names}  # fmt: skip
    line = [sys.executable, str(HERE / "training/judge.py"), str(job.base), str(held)]
    done = subprocess.run(
        [*line, json.dumps({n: str(p) for n, p in places.items()})], stdout=subprocess.PIPE, text=True, check=True, env=_quiet()
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def reward(folder: Path) -> dict[str, Any]:
    """A reward model on pairs that `generate` makes of the example documents, measured on documents held out."""
    recipe = {
        "name": "bench", "seed": SEED, "domain": "healthcare", "base": {"model": "fieldwise-nano"},
        "collect": {"sources": [str(EXAMPLES)], "licence": "Apache-2.0", "ocr": "off"},
        "generate": {"preference_pairs": 400, "distractors": 1},
        "train": {"threads": 1, "sft": {"epochs": 1, "max_steps": 1, "batch_size": 4}, "preference": {"enabled": False},
                  "reward": {"enabled": True, "epochs": 2, "batch_size": 8, "learning_rate": 5e-4}},
    }  # fmt: skip
    run = folder / "reward"
    run.with_suffix(".yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    began = os.times()
    for part in (["--end", "3"], ["--stage", "4b"]):
        line = [sys.executable, "-m", "fieldwise", *_of(run), *part]
        subprocess.run(line, check=True, capture_output=True, env=_quiet())
    took = sum(os.times()[2:4]) - sum(began[2:4])
    record: dict[str, Any] = json.loads((run / "4_adapters/reward/reward.json").read_text(encoding="utf-8"))
    kept = ("accuracy", "longer_wins", "above_longer_wins", "calibration", "pairs", "documents")
    figures = {name: record["held_out"][name] for name in kept}
    return {
        "learnt": record["pairs"],
        "held_out": figures,
        "steps": record["steps"],
        "processor_seconds": round(took, 1),
    }


def bases(wanted: Sequence[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """The weights to train, by name."""
    from fieldwise.engine.base_weights import resolve

    for name in wanted:
        if name == "135m":
            from bench_memory import SMOL, make

            made = folder / "random-135m"
            make(made, SMOL)
            yield name, made
        else:
            yield name, Path(resolve(f"fieldwise-nano/{name}").path)


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", default=[], help="NAME=PYTHON of llamafactory or axolotl")
    parser.add_argument("--base", action="append", choices=("nano-10m", "135m"), help="left out: both")
    parser.add_argument("--part", action="append", choices=("sft", "pretrain", "reward"), help="left out: all")
    parser.add_argument("--without", action="append", default=[], choices=("trl", "trl_best"), help="leave one out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps; the first one warms up")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    pythons = dict(peer.split("=", 1) for peer in given.peer)
    if unknown := sorted(set(pythons) - set(PEERS)):
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    parts, found = given.part or ["sft", "pretrain", "reward"], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = 12 * given.steps * PADDED_A_STEP // 6 + 48
        rows = write_lines(folder / "rows.jsonl", [{"messages": m} for m in conversations(count, SEED)])
        held = write_lines(folder / "held.jsonl", [{"messages": m} for m in conversations(96, SEED + 1)])
        notes = write_lines(folder / "notes.jsonl", [{"text": t} for t in texts(count, SEED)])
        for base, path in bases(given.base or ("nano-10m", "135m"), folder):
            job = Job(path, rows, given.steps)
            if "sft" in parts:
                names = [name for name in (*OWN, *pythons) if name not in given.without]
                table = compared(names, {**OWN, **PEERS}, pythons, job, given.rounds)
                for who, loss in losses(job, names, held).items():
                    table.setdefault(who, {})["held_out_loss"] = round(loss, 4)
                found[f"sft {base}"] = table
                show(f"SFT, {base}", table, given.json)
            if "pretrain" in parts:
                job = Job(path, notes, given.steps, documents=PADDED_A_STEP)
                table = compared(
                    ["fieldwise", "trl"], {"fieldwise": fieldwise_pretrain, "trl": trl}, {}, job, given.rounds
                )
                found[f"pretrain {base}"] = table
                show(f"continued pre-training, {base}", table, given.json)
        if "reward" in parts:
            found["reward"] = reward(folder)
            if not given.json:
                print(json.dumps(found["reward"], indent=1))
    if given.json:
        print(json.dumps(found, indent=1))


def show(title: str, table: dict[str, Any], is_json: bool) -> None:
    """Print a table for people."""
    if is_json:
        return
    print(
        f"\n{title}\n{'':14} tokens/CPU s  ours is x times     padding  first batch  first step   peak GB  held-out loss"
    )
    for name, row in table.items():
        if "ratio" not in row:
            print(f"{name:14} {row['held_out_loss']:>87.4f}")
            continue
        middle, low, high = row["ratio"]
        print(f"{name:14} {row['tokens_a_processor_second']:>12.0f}  {middle:>5.2f} [{low:.2f}, {high:.2f}]  {row['padding']:>8.2f}"
              f"  {row['processor_seconds_to_first_batch']:>9.1f} s  {row['processor_seconds_to_first_step']:>8.1f} s"
              f"  {row['peak_bytes'] / 1e9:>8.2f}  {row.get('held_out_loss', float('nan')):>13.4f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
