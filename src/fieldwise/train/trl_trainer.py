"""The only file that talks to TRL, so that a renamed option is mended in one place.

What was measured for a CPU: pack rows and take one at a time with accumulation, no activation checkpointing,
bfloat16 autocast over float32 weights where the processor has it (docs/decisions.md).
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fieldwise.errors import DatasetError, ModelError
from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.records import Example, PreferencePair
from fieldwise.tracking import Tracker
from fieldwise.train.hardware import Device
from fieldwise.train.labels import labelled_rows, messages, token_count
from fieldwise.train.settings import DpoSettings, LoraSettings, SftSettings

# Times and counters that restart after an interruption are left out: the record of a run must not depend on them.
_KEPT_FIGURES = frozenset(
    (
        "step",
        "epoch",
        "loss",
        "eval_loss",
        "learning_rate",
        "grad_norm",
        "mean_token_accuracy",
        "eval_mean_token_accuracy",
        "rewards/margins",
        "rewards/accuracies",
    )
)

_TOLD_EVERY = 5  # steps between two lines of progress, and those whose mean stands for the end


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a training left: the adapter, the merged weights, and the figures of its last steps."""

    adapter: Path
    merged: Path
    steps: int
    figures: dict[str, float]
    curve: tuple[dict[str, float], ...]
    dropped: int


def train_sft(
    base: Path,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: SftSettings,
    device: Device,
    *,
    work: Path,
    out: Path,
    seed: int,
    save_steps: int,
    tracker: Tracker,
) -> Outcome:
    """Fine-tune on what the assistant says; resumes from the last checkpoint in `work`."""
    trl = require("trl", extra="train", to="fine-tune")
    _score_labelled_only()
    tokenizer = _tokenizer(base)
    rows, dropped = labelled_rows(train, tokenizer, settings.max_length)
    if not rows:
        raise DatasetError(
            "no training example fits",
            where="train.sft.max_length",
            found=f"{settings.max_length} tokens",
            fix="Raise train.sft.max_length or lower generate.distractors.",
        )
    held, _ = labelled_rows(validation, tokenizer, settings.max_length)
    datasets = require("datasets", extra="train", to="fine-tune")
    arguments = _config(
        trl.SFTConfig,
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        gradient_accumulation_steps=_accumulation(rows, settings),
        max_length=settings.max_length,
        packing=True,
        packing_strategy="bfd",
        **_common(device, seed, save_steps),
        # "epoch" evaluates behind the checkpoint, and a resumed run never would
        eval_strategy="steps" if held else "no",
        weight_decay=0.0,
        eval_packing=True,
    )
    model = _model(base)
    trainer = trl.SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        eval_dataset=datasets.Dataset.from_list(held) if held else None,
        processing_class=tokenizer,
        peft_config=_lora(settings.lora, model, settings),
        callbacks=[_callback(tracker, "sft")],
    )
    arguments.eval_steps = math.ceil(len(trainer.get_train_dataloader()) / arguments.gradient_accumulation_steps)
    return _run(trainer, base, work, out, dropped)


def train_dpo(
    base: Path,
    pairs: Sequence[PreferencePair],
    settings: DpoSettings,
    device: Device,
    *,
    work: Path,
    out: Path,
    seed: int,
    save_steps: int,
    tracker: Tracker,
) -> Outcome:
    """Prefer the right answer over the faulty one, starting from merged weights; the reference is the same weights without the adapter."""
    trl = require("trl", extra="train", to="fine-tune")
    _score_labelled_only()
    datasets = require("datasets", extra="train", to="fine-tune")
    tokenizer = _tokenizer(base)
    rows, dropped = _pair_rows(pairs, tokenizer, settings.max_length)
    if not rows:
        raise DatasetError(
            "no preference pair fits",
            where="train.dpo.max_length",
            found=f"{settings.max_length} tokens",
            fix="Raise train.dpo.max_length, or switch the step off with train.dpo.enabled=false.",
        )
    arguments = _config(
        trl.DPOConfig,
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        gradient_accumulation_steps=max(1, settings.batch_size // 4),
        per_device_train_batch_size=4,
        beta=settings.beta,
        max_length=settings.max_length,
        precompute_ref_log_probs=True,
        eval_strategy="no",
        weight_decay=0.0,
        **{k: v for k, v in _common(device, seed, save_steps).items() if k != "per_device_train_batch_size"},
    )
    model = _model(base)
    trainer = trl.DPOTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=_lora(settings.lora, model, settings),
        callbacks=[_callback(tracker, "dpo")],
    )
    return _run(trainer, base, work, out, dropped)


# ---------------------------------------------------------------- parts


def _config(kind: Any, **options: Any) -> Any:
    """Build a TRL config; an option that this version does not know is an error, never dropped without a word."""
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(options) - known - {"eval_packing"})
    if unknown:
        raise ModelError(
            "this version of TRL lacks options",
            where="train",
            found=", ".join(unknown),
            fix="Install the tested versions: pip install -c constraints.txt 'fieldwise[train]'",
        )
    return kind(**{k: v for k, v in options.items() if k in known})


def _common(device: Device, seed: int, save_steps: int) -> dict[str, Any]:
    return {
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused" if device.name == "cuda" else "adamw_torch",
        "bf16": device.bfloat16,
        "fp16": False,
        "use_cpu": device.name == "cpu",
        "activation_checkpointing": device.name == "cuda",
        "save_strategy": "steps",
        "save_steps": save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,  # a mean over steps would lose those before an interruption
        "logging_nan_inf_filter": False,  # else a loss that is no number is shown as 0
        "report_to": "none",
        "seed": seed,
        "data_seed": seed,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
    }


def _accumulation(rows: Sequence[dict[str, list[int]]], settings: SftSettings) -> int:
    """Rows a step: the wanted batch, but never so many that an epoch has fewer than eight steps."""
    packed = sum(len(row["input_ids"]) for row in rows) / settings.max_length
    return max(1, min(settings.batch_size, math.floor(packed / 8)))


def _tokenizer(base: Path) -> Any:
    _quiet()
    transformers = require("transformers", extra="train", to="fine-tune")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _score_labelled_only() -> None:
    """Let TRL project only the positions that carry loss through the output layer, as it does on a GPU.

    On a CPU it would score every position, of which a question over passages uses one in fifty; the loss is the
    same to the last digit and a step takes a third less time (docs/decisions.md).
    """
    utilities: Any = require("trl.trainer.utils", extra="train", to="fine-tune")
    if hasattr(utilities, "_use_triton"):
        utilities._use_triton = lambda device: True  # asked only here; the kernels below look for themselves


def _model(base: Path) -> Any:
    transformers = require("transformers", extra="train", to="fine-tune")
    torch = require("torch", extra="train", to="fine-tune")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    model.config.use_cache = False
    return model


def _lora(lora: LoraSettings, model: Any, settings: SftSettings | DpoSettings) -> Any:
    peft = require("peft", extra="train", to="train an adapter")
    targets: Any = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    if not isinstance(targets, str):
        names = {
            name.rpartition(".")[2] for name, module in model.named_modules() if module.__class__.__name__ == "Linear"
        }
        unknown = [t for t in targets if t not in names]
        if unknown:
            raise ModelError(
                "the base model has no such modules",
                where="train.sft.lora.target_modules"
                if isinstance(settings, SftSettings)
                else "train.dpo.lora.target_modules",
                found=", ".join(unknown),
                fix=f"There are: {', '.join(sorted(names))}; all-linear takes all but the output layer.",
            )
    return peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )


def _pair_rows(pairs: Sequence[PreferencePair], tokenizer: Any, max_length: int) -> tuple[list[dict[str, Any]], int]:
    rows, dropped = [], 0
    for pair in pairs:
        prompt = messages(pair.prompt, tokenizer)
        sides = [[{"role": "assistant", "content": text}] for text in (pair.chosen, pair.rejected)]
        if max(token_count(tokenizer, prompt + side) for side in sides) > max_length:
            dropped += 1
        else:
            rows.append({"prompt": prompt, "chosen": sides[0], "rejected": sides[1]})
    return rows, dropped


def _callback(tracker: Tracker, stage: str) -> Any:
    transformers = require("transformers", extra="train", to="fine-tune")

    class Curves(transformers.TrainerCallback):  # type: ignore[name-defined,misc]
        """Sends the figures of training to the tracker and stops on a loss that is not a number."""

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            figures = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
            loss = figures.get("loss")
            if loss is not None and not math.isfinite(loss):
                raise ModelError(
                    f"the loss is not a number at step {state.global_step}",
                    where=f"train.{stage}",
                    fix=f"The last checkpoint is kept. Lower train.{stage}.learning_rate and run again.",
                )
            finite = {k: v for k, v in figures.items() if math.isfinite(v)}
            tracker.log(stage, state.global_step, finite)
            if loss is not None and (state.global_step == 1 or state.global_step % _TOLD_EVERY == 0):
                say(
                    f"  {stage} step {state.global_step}/{state.max_steps}: loss {loss:.3f}"
                    + (f", margin {figures['rewards/margins']:.2f}" if "rewards/margins" in figures else "")
                )

    return Curves()


def _quiet() -> None:
    """Switch off what libraries print: progress is told by our own callback."""
    require("datasets", extra="train", to="fine-tune").disable_progress_bars()
    talk = require("transformers.utils.logging", extra="train", to="fine-tune")
    talk.disable_progress_bar()
    talk.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\b.*")


def _run(trainer: Any, base: Path, work: Path, out: Path, dropped: int) -> Outcome:
    transformers = require("transformers", extra="train", to="fine-tune")
    trainer.remove_callback(transformers.PrinterCallback)
    last = _last_checkpoint(work)
    if last:
        say(f"  resuming from {last.name}")
    state = transformers.TrainerState.load_from_json(str(last / "trainer_state.json")) if last else trainer.state
    if last and state.global_step >= state.max_steps:  # the trainer would go one step further
        peft = require("peft", extra="train", to="fine-tune")
        safetensors = require("safetensors.torch", extra="train", to="fine-tune")
        peft.set_peft_model_state_dict(trainer.model, safetensors.load_file(last / "adapter_model.safetensors"))
        trainer.state = state
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    evaluated = max((row["step"] for row in trainer.state.log_history if "eval_loss" in row), default=None)
    if trainer.eval_dataset is not None and evaluated != trainer.state.global_step:
        trainer.evaluate()
    history = tuple(
        {k: float(v) for k, v in sorted(row.items()) if k in _KEPT_FIGURES and math.isfinite(v)}
        for row in trainer.state.log_history
        if "loss" in row or "eval_loss" in row
    )
    adapter, merged = out / "adapter", out / "merged"
    trainer.model.save_pretrained(adapter, safe_serialization=True)
    (adapter / "README.md").unlink(missing_ok=True)  # PEFT's empty card; ours is made at release
    merge(base, adapter, merged)
    return Outcome(adapter, merged, int(trainer.state.global_step), _final_figures(history), history, dropped)


def _final_figures(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The last held-out loss, and the means of loss and margin over the last steps: one step alone is noisy."""
    figures = {}
    for name, key, steps in (
        ("loss", "loss", _TOLD_EVERY),
        ("eval_loss", "eval_loss", 1),
        ("margin", "rewards/margins", _TOLD_EVERY),
    ):
        values = [row[key] for row in history if key in row][-steps:]
        if values:
            figures[name] = sum(values) / len(values)
    return figures


def _last_checkpoint(work: Path) -> Path | None:
    """Return the last whole checkpoint and remove those a kill left half-written: their state is what is saved last."""
    for folder in sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(folder)
        else:
            return folder
    return None


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Add an adapter to the float32 base and save the sum, with everything that belongs to a model folder."""
    peft = require("peft", extra="train", to="merge an adapter")
    model = peft.PeftModel.from_pretrained(_model(base), adapter).merge_and_unload(safe_merge=True)
    model.config.use_cache = True
    model.save_pretrained(out, safe_serialization=True)
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "special_tokens_map.json",
        "tokenizer.model",
        "generation_config.json",
    ):
        if (base / name).is_file():
            shutil.copyfile(base / name, out / name)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)  # a path of this machine has no place in what is published
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
