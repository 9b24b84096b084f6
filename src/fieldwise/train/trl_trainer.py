"""What talks to TRL, with `preference.py` for the methods of that step, so that a renamed option is mended in one place.

What was measured for a CPU: pack rows and take one at a time with accumulation, no activation checkpointing,
bfloat16 autocast over float32 weights where the processor has it (docs/decisions.md).
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError, ModelError
from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.records import Example, PreferencePair, RatedReply
from fieldwise.tracking import Tracker
from fieldwise.train import distributed
from fieldwise.train.curves import judge, since_best
from fieldwise.train.hardware import PRESETS, Device, Training
from fieldwise.train.labels import IGNORED, labelled_rows
from fieldwise.train.memory import MemoryPlan, Work
from fieldwise.train.plan import Fitted, first_plan, told, within
from fieldwise.train.preference import (
    effect,
    no_pair_fits,
    options_of,
    pair_rows,
    prepare,
    probes_of,
    reply_rows,
    told_effect,
    trainer_of,
)
from fieldwise.train.retry import with_one_retry
from fieldwise.train.scoring import TaskScore, scorer
from fieldwise.train.settings import LoraSettings, PreferenceSettings, RowsSettings, SftSettings, TrainSettings
from fieldwise.train.shape import tensor_shapes
from fieldwise.train.workload import preference_work, sft_work

# Times and counters that restart after an interruption are left out: the record of a run must not depend on them.
_KEPT_FIGURES = frozenset(
    (
        "step",
        "epoch",
        "loss",
        "eval_loss",
        "eval_score",
        "learning_rate",
        "grad_norm",
        "mean_token_accuracy",
        "eval_mean_token_accuracy",
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "kl",
        "nll_loss",
        "log_odds_ratio",
        "log_odds_chosen",
        "cross_entropy",
        "eval_cross_entropy",
        "teacher_divergence",
        "eval_teacher_divergence",
    )
)

_TOLD_EVERY = 5  # steps between two lines of progress, and those whose mean stands for the end


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a training left: the adapter, the merged weights, and the figures of its last steps."""

    adapter: Path | None  # None where all weights were trained
    merged: Path
    steps: int
    figures: dict[str, float]
    curve: tuple[dict[str, float], ...]
    dropped: int
    about: dict[str, JsonValue]  # the plan it was trained by, and what its curves show


Fitter = Callable[[Callable[[MemoryPlan], Work]], Fitted]
"""Given how much a plan trains on at once, returns one that fits the machine."""


@dataclasses.dataclass(frozen=True)
class Course:
    """How a training is called in the curves, and the weights it goes on from where it is one step of several."""

    label: str = "sft"
    start: Path | None = None  # folder of an adapter, or of all weights
    neftune: float | None = None  # noise on the embeddings
    task: TaskScore | None = None  # how replies are judged, where that chooses the weights
    best_by: Literal["loss", "score"] | None = None  # what the weights are taken by; None takes the last
    scored: Callable[[Any], float] | None = None  # gives a model its score
    kind: Callable[[Any], Any] | None = None  # makes of TRL's SFTTrainer one with another loss


class Rows(NamedTuple):
    """Rows of token ids and labels to learn from, those held out, and how many examples are not among them."""

    tokenizer: Any
    train: list[dict[str, list[int]]]
    held: list[dict[str, list[int]]]
    dropped: int
    max_length: int


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
    fitter: Fitter | None = None,
    course: Course = Course(),
) -> Outcome:
    """Fine-tune on what the assistant says; resumes from the last checkpoint in `work`.

    Without a `fitter` nothing is estimated, and the preset of the device fills what the settings leave open.
    """
    require("trl", extra="train", to="fine-tune")
    tokenizer = _tokenizer(base)
    fitter = fitter or _preset_alone("sft", TrainSettings(sft=settings), device)
    max_length = fitter(lambda plan: Work(1, 1, 1)).plan.max_length  # how rows are cut does not depend on what fits
    data = labelled_data(tokenizer, train, validation, max_length)
    best_by = settings.best_by or ("loss" if settings.early_stopping else None)
    scored = None
    if best_by == "score":
        if course.task is None:
            raise ValueError("best_by: score needs to be told how replies are judged")
        scored = scorer(course.task, validation, tokenizer, bfloat16=device.bfloat16)
    is_judged = best_by != "score" or scored is not None
    require_held(settings, data.held if is_judged else (), validation, max_length)
    return train_rows(
        base,
        data,
        settings,
        device,
        "sft",
        work=work,
        out=out,
        seed=seed,
        save_steps=save_steps,
        tracker=tracker,
        fitter=fitter,
        course=dataclasses.replace(course, best_by=best_by, scored=scored, neftune=settings.neftune),
    )


def labelled_data(tokenizer: Any, train: Sequence[Example], validation: Sequence[Example], max_length: int) -> Rows:
    """Return the examples as rows; raises DatasetError where none is left to learn from."""
    rows, dropped = labelled_rows(train, tokenizer, max_length) if train else ([], 0)
    require_rows(train, rows, max_length)
    held, _ = labelled_rows(validation, tokenizer, max_length)
    return Rows(tokenizer, rows, held, dropped, max_length)


def require_rows(train: Sequence[Example], rows: Sequence[object], max_length: int) -> None:
    """Raise DatasetError where nothing is left to learn from."""
    if not train:
        raise DatasetError(
            "there is no training example",
            where="3_examples/train.parquet",
            fix="Look at 3_examples/card.json and rejected.jsonl for why none was made.",
        )
    if not rows:
        raise DatasetError(
            "no training example fits",
            where="train.sft.max_length",
            found=f"{max_length} tokens",
            fix="Raise train.sft.max_length or lower generate.distractors.",
        )


def require_held(settings: SftSettings, held: Sequence[object], validation: Sequence[Example], max_length: int) -> None:
    """Raise DatasetError where weights are chosen by held-out examples and there are none."""
    if (settings.early_stopping or settings.best_by) and not held:
        key = "early_stopping" if settings.early_stopping else "best_by"
        raise DatasetError(
            "early stopping needs held-out examples" if settings.early_stopping else "held-out examples are needed",
            where=f"train.sft.{key}",
            found="no validation example" if not validation else f"none within {max_length} tokens",
            fix="Leave the key out, or raise generate.split.validation.",
        )


def train_rows(
    base: Path,
    data: Rows,
    settings: RowsSettings,
    device: Device,
    training: Training,
    *,
    work: Path,
    out: Path,
    seed: int,
    save_steps: int,
    tracker: Tracker,
    fitter: Fitter,
    course: Course,
) -> Outcome:
    """Train on rows that are tokens already; what they are is no concern of this."""
    trl = require("trl", extra="train", to="fine-tune")
    datasets = require("datasets", extra="train", to="fine-tune")
    _score_labelled_only()
    tokenizer, rows, held, max_length = data.tokenizer, data.train, data.held, data.max_length
    effective = _rows_a_step(rows, settings, max_length)
    lengths = [len(row["input_ids"]) for row in rows]
    scored = [sum(label != IGNORED for label in row["labels"]) for row in rows]
    fitted = fitter(lambda plan: sft_work(lengths, scored, settings, within(plan, effective)))
    fitted = fitted._replace(plan=within(fitted.plan, effective))
    is_full = settings.method == "full"
    unused = ", which leaves train.{training}.lora unused" if is_full and settings.lora != LoraSettings() else ""
    say(f"  {told(fitted, training)}{unused.format(training=training)}")
    patience, best_by = settings.early_stopping, course.best_by or ("loss" if settings.early_stopping else None)
    best: dict[str, Any] = {}
    if best_by is not None:
        best = {"metric_for_best_model": f"eval_{best_by}", "greater_is_better": best_by == "score"}

    def once(plan: MemoryPlan) -> Outcome:
        arguments = _config(
            trl.SFTConfig,
            output_dir=str(work),
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps,
            learning_rate=settings.learning_rate,
            max_length=max_length,
            packing=plan.packing,
            packing_strategy="bfd",
            **_common(device, plan, seed, save_steps),
            # "epoch" evaluates behind the checkpoint, and a resumed run never would
            eval_strategy="steps" if held else "no",
            weight_decay=0.0,
            eval_packing=plan.packing,
            **best,
            **({"neftune_noise_alpha": course.neftune} if course.neftune else {}),
        )
        model = _model(base, plan)
        kind = trl.SFTTrainer if course.kind is None else course.kind(trl.SFTTrainer)
        trainer = _watched(kind, training)(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            eval_dataset=datasets.Dataset.from_list(held) if held else None,
            processing_class=tokenizer,
            peft_config=None if is_full else _lora(settings.lora, model, training),
            callbacks=[
                _callback(tracker, training, course.label),
                *([_stopping(patience, best_by or "loss")] if patience else []),
            ],
        )
        if course.scored is None and course.kind is None and not settings.lora.dora and settings.lora.start == "zero":
            _hold_frozen_as_used(trainer.model, device)
        if course.scored is not None:
            _score_at_evaluation(trainer, course.scored)
        epoch = math.ceil(len(trainer.get_train_dataloader()) / arguments.gradient_accumulation_steps)
        arguments.eval_steps = settings.evaluate_every_steps or epoch
        if best_by is not None:  # only a checkpoint that was evaluated can be gone back to
            arguments.save_steps = arguments.eval_steps
        if course.start is not None and _last_checkpoint(work) is None:
            _take_weights(trainer, course.start)
        return _run(trainer, base, work, out, data.dropped, patience, best_by=best_by)

    outcome, plan = with_one_retry(once, fitted.plan, training)
    return _with_account(outcome, fitted._replace(plan=plan), training)


def train_preference(
    base: Path,
    pairs: Sequence[PreferencePair],
    settings: PreferenceSettings,
    device: Device,
    *,
    work: Path,
    out: Path,
    seed: int,
    save_steps: int,
    tracker: Tracker,
    fitter: Fitter | None = None,
    ratings: Sequence[RatedReply] = (),
    held: Sequence[PreferencePair] = (),
) -> Outcome:
    """Learn which replies are wanted, starting from merged weights; the reference is the same weights without the adapter.

    `ratings` are single replies, for KTO alone; `held` are pairs that are not trained on, to measure the effect on.
    """
    require("trl", extra="train", to="fine-tune")
    _score_labelled_only()
    tokenizer = _tokenizer(base)
    fitter = fitter or _preset_alone("preference", TrainSettings(preference=settings), device)
    max_length = fitter(lambda plan: Work(1, 1, 1)).plan.max_length
    rows = (
        reply_rows(pairs, ratings, tokenizer, max_length, seed)
        if settings.method == "kto"
        else pair_rows(pairs, settings, tokenizer, max_length)
    )
    if not rows.rows:
        raise no_pair_fits(max_length)
    probes, split = probes_of(held, pairs, tokenizer, max_length)
    fitted = fitter(lambda plan: preference_work(rows.extent, len(rows.rows), settings, plan))
    say(f"  {settings.method}, {told(fitted, 'preference')}")
    kind, config = trainer_of(settings)

    def once(plan: MemoryPlan) -> Outcome:
        arguments = _config(
            config,
            output_dir=str(work),
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps,
            learning_rate=settings.learning_rate,
            max_length=max_length,
            eval_strategy="no",
            weight_decay=0.0,
            **options_of(settings, plan, rows),
            **_common(device, plan, seed, save_steps),
        )
        model = _model(base, plan)
        prepare(model, settings)
        alone = len(rows.rows) % plan.micro_batch == 1 and plan.least_micro > 1  # none beside it to compare with
        trainer = _watched(kind, "preference")(
            model=model,
            args=arguments,
            train_dataset=_dataset(rows.rows[: len(rows.rows) - alone], work),
            processing_class=tokenizer,
            peft_config=_lora(settings.lora, model, "preference"),
            callbacks=[_callback(tracker, "preference")],
        )
        return _run(trainer, base, work, out, rows.dropped, measure=measure)

    def measure(model: Any) -> tuple[dict[str, float], dict[str, JsonValue]]:
        found = effect(model, probes, split, bfloat16=device.bfloat16)
        about: dict[str, JsonValue] = {"method": settings.method, "lengths": rows.lengths, "effect": found}
        if not found:
            return {}, about
        say(f"  preference: {told_effect(found)}")
        return {name: float(str(found[name])) for name in ("accuracy", "kl_per_token")}, about

    outcome, plan = with_one_retry(once, fitted.plan, "preference")
    return _with_account(outcome, fitted._replace(plan=plan), "preference")


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


def _dataset(rows: Sequence[dict[str, Any]], work: Path) -> Any:
    """Return rows as a data set; of several processes in a folder that all see, where TRL keeps the reference's scores."""
    datasets = require("datasets", extra="train", to="fine-tune")
    made = datasets.Dataset.from_list(rows)
    if distributed.here() is None:
        return made
    if distributed.is_first():
        shutil.rmtree(work / "rows", ignore_errors=True)
        made.save_to_disk(work / "rows")
    distributed.wait()
    return datasets.load_from_disk(work / "rows")


def _common(device: Device, plan: MemoryPlan, seed: int, save_steps: int) -> dict[str, Any]:
    adamw = "adamw_torch_fused" if device.name == "cuda" else "adamw_torch"
    return {
        "per_device_train_batch_size": plan.micro_batch,
        "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": plan.accumulation,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "max_grad_norm": 1.0,
        "optim": adamw if plan.optimizer == "adamw" else plan.optimizer,
        "bf16": device.bfloat16,
        "fp16": False,
        "use_cpu": device.name == "cpu",
        "activation_checkpointing": plan.activation_checkpointing,
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
        **distributed.options(),
    }


def _preset_alone(training: Training, settings: TrainSettings, device: Device) -> Fitter:
    preset = PRESETS["cpu" if device.name == "cpu" else "24gb"]
    own = getattr(settings, training)
    return lambda measured: Fitted(first_plan(training, settings, own, preset, device), None, None, ())


def _rows_a_step(rows: Sequence[dict[str, list[int]]], settings: RowsSettings, max_length: int) -> int:
    """Rows a step: the wanted batch, but never so many that an epoch has fewer than eight steps."""
    filled = sum(len(row["input_ids"]) for row in rows) / max_length if settings.packing else len(rows)
    return max(1, min(settings.batch_size, math.floor(filled / 8)))


def _with_account(outcome: Outcome, fitted: Fitted, training: Training) -> Outcome:
    """Add what it was trained by and what its curves show, and say the latter."""
    verdict = judge(outcome.curve, training)
    say(
        f"  {training}: {verdict.state.replace('_', ' ')}: {verdict.about}"
        + (f". {verdict.advice}" if verdict.advice else "")
    )
    return dataclasses.replace(
        outcome, about={**outcome.about, "plan": fitted.to_json(), "curve_shows": verdict.to_json()}
    )


def _tokenizer(base: Path) -> Any:
    _quiet()
    transformers = require("transformers", extra="train", to="fine-tune")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_tokenizer(base: Path) -> Any:
    """Return the tokenizer of a folder of weights."""
    return _tokenizer(base)


def load_model(base: Path) -> Any:
    """Return whole weights in float32, on a CPU."""
    return _model(base)


def _score_labelled_only() -> None:
    """Let TRL project only the positions that carry loss through the output layer, as it does on a GPU.

    On a CPU it would score every position, of which a question over passages uses one in fifty; the loss is the
    same to the last digit and a step takes a third less time (docs/decisions.md).
    """
    utilities: Any = require("trl.trainer.utils", extra="train", to="fine-tune")
    if hasattr(utilities, "_use_triton"):
        utilities._use_triton = lambda device: True  # asked only here; the kernels below look for themselves


def _hold_frozen_as_used(model: Any, device: Device) -> None:
    """Turn the frozen weights below an adapter to bfloat16 once, where autocast would do so at every use.

    Losses and gradients stay the same to the last bit, and steps of small batches need less time and memory. On a CPU
    and in one process only: gloo sends no bfloat16.
    """
    if device.name != "cpu" or not device.bfloat16 or distributed.here() is not None:
        return
    torch = require("torch", extra="train", to="fine-tune")
    lora = require("peft.tuners.lora", extra="train", to="fine-tune")
    for module in model.modules():
        if isinstance(module, lora.Linear) and type(module.base_layer) is torch.nn.Linear:
            for part in module.base_layer.parameters():
                part.data = part.data.bfloat16()


def _model(base: Path, plan: MemoryPlan | None = None, *, has_score: bool = False) -> Any:
    """Load the weights as a plan holds them; without one whole, in float32. With a score in the place of the output layer if asked."""
    transformers = require("transformers", extra="train", to="fine-tune")
    torch = require("torch", extra="train", to="fine-tune")
    options: dict[str, Any] = {}
    if plan is not None and plan.quantisation != "none":
        require("bitsandbytes", extra="gpu", to="train over quantised weights")
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_8bit=plan.quantisation == "8bit",
            load_in_4bit=plan.quantisation == "4bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if plan.bfloat16 else torch.float32,
            **({"llm_int8_skip_modules": ["score"]} if has_score else {}),
        )
        options["device_map"] = {"": distributed.local_rank() if plan.device == "cuda" else "cpu"}
    dtype = torch.bfloat16 if plan is not None and plan.weights == "bfloat16" else torch.float32
    kind = transformers.AutoModelForCausalLM
    if has_score:
        kind = transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(
        base,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        **({"num_labels": 1} if has_score else {}),
        **options,
    )
    for module in model.modules() if options else ():
        # bitsandbytes repacks the weights at the first evaluation and trains on with wrong gradients (AVX512-BF16)
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    model.config.use_cache = False
    return model


def _lora(lora: LoraSettings, model: Any, training: Training) -> Any:
    peft = require("peft", extra="train", to="train an adapter")
    targets: Any = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    linear = [name for name, module in model.named_modules() if "Linear" in module.__class__.__name__]
    if isinstance(targets, str):
        unknown = [] if targets == "all-linear" or any(re.fullmatch(targets, name) for name in linear) else [targets]
    else:
        unknown = [t for t in targets if not any(f".{name}".endswith(f".{t}") for name in linear)]
    if unknown:
        raise ModelError(
            "the base model has no such modules",
            where=f"train.{training}.lora.target_modules",
            found=", ".join(unknown),
            fix=f"There are: {', '.join(sorted({name.rpartition('.')[2] for name in linear}))}; "
            "all-linear takes all but the output layer.",
        )
    kinds = {"use_dora": lora.dora, "use_rslora": lora.rank_stabilised}
    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
        **{name: True for name, is_on in kinds.items() if is_on},
        **({"init_lora_weights": lora.start} if lora.start == "pissa" else {}),
    )


def _keep_start(model: Any, work: Path) -> Path:
    """Save an adapter as it begins, where that moved the base weights; what was learnt is the difference to it."""
    config, folder = model.peft_config["default"], work / "begin"
    began, config.init_lora_weights = config.init_lora_weights, True
    model.save_pretrained(folder, safe_serialization=True)
    config.init_lora_weights = began
    return folder


def _watched(trainer: Any, training: Training) -> Any:
    """Return the kind of trainer that stops at the first batch whose loss is no number, before it spoils the weights."""
    torch = require("torch", extra="train", to="fine-tune")

    class Watched(trainer):  # type: ignore[misc]
        """Looks at the loss of each batch."""

        seen = (0, 0)  # the step, and its batches so far

        def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
            loss = super().training_step(model, inputs, num_items_in_batch)
            step = self.state.global_step + 1
            self.seen = (step, self.seen[1] + 1 if self.seen[0] == step else 1)
            if not torch.isfinite(loss):
                raise _not_a_number(
                    training,
                    f"the loss is not a number at step {step}",
                    f"batch {self.seen[1]} of {self.args.gradient_accumulation_steps} ({_extent(inputs)})",
                    Path(self.args.output_dir),
                )
            return loss

        def _save_rng_state(self, output_dir: str) -> None:
            super()._save_rng_state(output_dir)
            distributed.wait()  # what makes a checkpoint whole is written next, by the first process

    return Watched


def _extent(inputs: Any) -> str:
    if isinstance(inputs, list):  # prompts, to which the trainer draws the replies itself
        return f"{len(inputs)} replies"
    sides = [inputs[key] for key in ("input_ids", "chosen_input_ids", "rejected_input_ids") if key in inputs]
    rows, tokens = sum(len(side) for side in sides), max(side.shape[1] for side in sides)
    scored = int((inputs["labels"] != IGNORED).sum()) if "labels" in inputs else None
    return f"{rows} x {tokens} tokens" + (f", {scored} of them learnt" if scored is not None else "")


def _not_a_number(training: Training, what: str, found: str, work: Path) -> ModelError:
    kept = _last_checkpoint(work)
    return ModelError(
        what,
        where=f"train.{training}",
        found=found,
        fix=(f"The last good checkpoint is kept: {kept}. " if kept else "No checkpoint was saved before. ")
        + f"Lower train.{training}.learning_rate and run again; at step 1, look at the base weights instead.",
    )


def _score_at_evaluation(trainer: Any, scored: Callable[[Any], float]) -> None:
    """Give the model its score whenever its held-out loss is measured, before anything is decided by it."""
    transformers = require("transformers", extra="train", to="fine-tune")

    class Scoring(transformers.TrainerCallback):  # type: ignore[name-defined,misc]
        """Adds `eval_score` to what an evaluation has found."""

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            metrics["eval_score"] = scored(trainer.model)
            trainer.log({"eval_score": metrics["eval_score"]})

    trainer.callback_handler.callbacks.insert(0, Scoring())


def _stopping(patience: int, best_by: str) -> Any:
    transformers = require("transformers", extra="train", to="fine-tune")

    class Stopping(transformers.TrainerCallback):  # type: ignore[name-defined,misc]
        """Stops when the held-out loss or score has not been better for some time; keeps nothing that a resumed run would lack."""

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if since_best(_held_losses(state, best_by)) >= patience:
                wanted = "lower held-out loss" if best_by == "loss" else "higher held-out score"
                say(f"  sft step {state.global_step}: no {wanted} {patience} times, stopping")
                control.should_training_stop = True

    return Stopping()


def _held_losses(state: Any, best_by: str = "loss") -> list[float]:
    """What was measured on held-out examples, in order; a score with its sign turned, so that less is better."""
    key, sign = f"eval_{best_by}", -1 if best_by == "score" else 1
    return [sign * row[key] for row in state.log_history if key in row]


def _callback(tracker: Tracker, training: Training, label: str | None = None) -> Any:
    transformers = require("transformers", extra="train", to="fine-tune")

    class Curves(transformers.TrainerCallback):  # type: ignore[name-defined,misc]
        """Sends the figures of training to the tracker and stops on gradients that are not numbers."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began, self.first = time.monotonic(), state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            figures = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
            loss = figures.get("loss")
            norm = figures.get("grad_norm", 0.0)
            if not math.isfinite(norm):  # the weights are spoilt by now, and not saved yet
                raise _not_a_number(
                    training,
                    f"the gradients are not numbers at step {state.global_step}",
                    f"norm {norm}",
                    Path(args.output_dir),
                )
            finite = {k: v for k, v in figures.items() if math.isfinite(v)}
            tracker.log(label or training, state.global_step, finite)
            if loss is not None and (state.global_step == 1 or state.global_step % _TOLD_EVERY == 0):
                done, left = state.global_step - self.first, state.max_steps - state.global_step
                say(
                    f"  {label or training} step {state.global_step}/{state.max_steps}: loss {loss:.3f}"
                    + (f", margin {figures['rewards/margins']:.2f}" if "rewards/margins" in figures else "")
                    + (f", accuracy {figures['rewards/accuracies']:.2f}" if "rewards/accuracies" in figures else "")
                    + (f", reward {figures['reward']:.3f}" if "reward" in figures else "")
                    + (f", KL {figures['kl']:.3f}" if "kl" in figures else "")
                    + (f", about {(time.monotonic() - self.began) / done * left:.0f} s left" if done and left else "")
                )

    return Curves()


def _quiet() -> None:
    """Switch off what libraries print: progress is told by our own callback."""
    require("datasets", extra="train", to="fine-tune").disable_progress_bars()
    talk = require("transformers.utils.logging", extra="train", to="fine-tune")
    talk.disable_progress_bar()
    talk.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\b.*")


def _run(
    trainer: Any,
    base: Path,
    work: Path,
    out: Path,
    dropped: int,
    patience: int | None = None,
    measure: Callable[[Any], tuple[dict[str, float], dict[str, JsonValue]]] | None = None,
    best_by: str | None = None,
) -> Outcome:
    peft_config = getattr(trainer.model, "peft_config", None)
    moved = peft_config is not None and peft_config["default"].init_lora_weights == "pissa"
    begin = _keep_start(trainer.model, work) if moved else None
    for callback in distributed.callbacks(trainer):
        trainer.add_callback(callback)
    _train_or_resume(trainer, work, patience, best_by or "loss")
    evaluated = max((row["step"] for row in trainer.state.log_history if "eval_loss" in row), default=None)
    if trainer.eval_dataset is not None and evaluated != trainer.state.global_step:
        trainer.evaluate()
    history = tuple(
        {k: float(v) for k, v in sorted(row.items()) if k in _KEPT_FIGURES and math.isfinite(v)}
        for row in trainer.state.log_history
        if "loss" in row or "eval_loss" in row or "eval_score" in row
    )
    figures = _final_figures(history)
    about: dict[str, JsonValue] = distributed.account()
    if best_by is not None:
        now = trainer.state.global_step
        kept = {
            now,
            *(int(p.name.rpartition("-")[2]) for p in work.glob("checkpoint-*")),
        }  # a moved folder may lack one
        key, sign = f"eval_{best_by}", -1 if best_by == "score" else 1
        held = [row for row in history if key in row and row["step"] in kept]
        best = min(held, key=lambda row: (sign * row[key], row["step"]))
        if best["step"] != now:
            _take_weights(trainer, work / f"checkpoint-{best['step']:.0f}")
        for name in figures.keys() & {"eval_loss", "eval_score"}:
            figures[name] = next(r[name] for r in history if name in r and r["step"] == best["step"])
        about = {**about, "weights_of_step": int(best["step"])}
    adapter, merged = out / "adapter", out / "merged"
    if distributed.is_sharded():
        trainer.save_model(str(adapter))  # every process gives its part
    if not distributed.is_first():
        return Outcome(adapter, merged, int(trainer.state.global_step), figures, history, dropped, about)
    if measure is not None and not distributed.is_sharded():
        found, told_of_it = measure(trainer.model)
        figures, about = {**figures, **found}, {**about, **told_of_it}
    if peft_config is None:
        save_weights(trainer.model, base, merged)
        return Outcome(None, merged, int(trainer.state.global_step), figures, history, dropped, about)
    converted = {"path_initial_model_for_weight_conversion": str(begin)} if begin else {}
    if not distributed.is_sharded():
        trainer.model.save_pretrained(adapter, safe_serialization=True, **converted)
        for part in trainer.model.parameters():  # whoever still holds the model: merging loads the base once more
            part.data, part.grad = part.data.new_empty(0), None
    (adapter / "README.md").unlink(missing_ok=True)  # PEFT's empty card; ours is made at release
    merge(base, adapter, merged)
    return Outcome(adapter, merged, int(trainer.state.global_step), figures, history, dropped, about)


def _train_or_resume(trainer: Any, work: Path, patience: int | None = None, best_by: str = "loss") -> None:
    """Train from the last checkpoint, if there is one, to the end; one that is at the end already only gives its weights."""
    transformers = require("transformers", extra="train", to="fine-tune")
    trainer.remove_callback(transformers.PrinterCallback)
    last: Path | None = distributed.agreed(lambda: _last_checkpoint(work))
    if last:
        say(f"  resuming from {last.name}")
    state = transformers.TrainerState.load_from_json(str(last / "trainer_state.json")) if last else trainer.state
    has_stopped = patience is not None and since_best(_held_losses(state, best_by)) >= patience
    if last and (has_stopped or state.global_step >= state.max_steps):  # the trainer would go one step further
        _take_weights(trainer, last)
        trainer.state = state
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)


def _take_weights(trainer: Any, checkpoint: Path) -> None:
    """Put the weights of a checkpoint, or of what an earlier training left, in the place of the present ones."""
    peft = require("peft", extra="train", to="fine-tune")
    safetensors = require("safetensors.torch", extra="train", to="fine-tune")
    if not (checkpoint / "adapter_model.safetensors").exists():
        state: dict[str, Any] = {}
        for file in sorted(checkpoint.glob("model*.safetensors")):
            state |= safetensors.load_file(file)
        lacking = trainer.model.load_state_dict(state, strict=False)
        tied = set(getattr(trainer.model, "all_tied_weights_keys", None) or ())
        if lacking.unexpected_keys or set(lacking.missing_keys) - tied:
            raise ModelError(
                "the checkpoint is of other weights",
                where=checkpoint,
                found=", ".join([*lacking.unexpected_keys, *lacking.missing_keys][:3]),
                fix="Remove the folder: the training begins anew.",
            )
        return
    peft.set_peft_model_state_dict(trainer.model, safetensors.load_file(checkpoint / "adapter_model.safetensors"))


def _final_figures(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The last held-out loss, and the means of loss and margin over the last steps: one step alone is noisy."""
    figures = {}
    for name, key, steps in (
        ("loss", "loss", _TOLD_EVERY),
        ("eval_loss", "eval_loss", 1),
        ("eval_score", "eval_score", 1),
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
    require_same_base(base, adapter)
    model = peft.PeftModel.from_pretrained(_model(base), adapter).merge_and_unload(safe_merge=True)
    save_weights(model, base, out)


def save_weights(model: Any, base: Path, out: Path) -> None:
    """Save all weights, with everything that belongs to a model folder."""
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


def require_same_base(base: Path, adapter: Path) -> None:
    """Raise ModelError for an adapter whose modules the base does not have, or has in another size.

    PEFT would leave modules out that it cannot place, with no more than a warning.
    """
    shapes = {
        name.removesuffix(".weight"): shape
        for file in base.glob("*.safetensors")
        for name, shape in tensor_shapes(file).items()
    }
    for name, shape in tensor_shapes(adapter / "adapter_model.safetensors").items():
        module, _, kind = name.removeprefix("base_model.model.").partition(".lora_")
        known = shapes.get(module)
        side = {"A.weight": 1, "B.weight": 0}.get(kind)
        if side is None or len(shape) != 2:
            continue
        if known is None or known[side] != shape[1 if side else 0]:
            raise ModelError(
                "the adapter was made for other base weights",
                where=adapter,
                found=f"{module} with {shape[1 if side else 0]} {'inputs' if side else 'outputs'}; "
                + (f"the base has {known[side]}" if known else "the base has no such module"),
                fix=f"Name the base in {adapter / 'adapter_config.json'} (base_model_name_or_path).",
            )
