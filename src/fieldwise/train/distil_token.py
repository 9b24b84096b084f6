"""Token-level distillation: SFT whose loss mixes the known reply with what a teacher held likely at each of its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fieldwise.errors import DatasetError
from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.records import Example
from fieldwise.tracking import Tracker
from fieldwise.train import trl_trainer
from fieldwise.train.distil_cache import Cached, CacheKey, cached
from fieldwise.train.distil_math import divergence, mixed_loss, outcomes
from fieldwise.train.distil_settings import DistillationSettings
from fieldwise.train.distil_teacher import Teaching
from fieldwise.train.hardware import Device
from fieldwise.train.labels import IGNORED, labelled_rows
from fieldwise.train.memory import MemoryPlan, Work
from fieldwise.train.plan import told, within
from fieldwise.train.retry import with_one_retry
from fieldwise.train.settings import SftSettings, TrainSettings
from fieldwise.train.shape import read_shape
from fieldwise.train.trl_trainer import Fitter, Outcome
from fieldwise.train.workload import sft_work


def train_token(
    base: Path,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: SftSettings,
    device: Device,
    *,
    teaching: Teaching,
    work: Path,
    out: Path,
    seed: int,
    save_steps: int,
    tracker: Tracker,
    fitter: Fitter | None = None,
) -> Outcome:
    """Fine-tune on the known replies and the teacher's probabilities of them; resumes from the last checkpoint in `work`."""
    distillation, teacher = teaching.settings, teaching.teacher
    best_by = "loss" if settings.best_by or settings.early_stopping else None
    trl = require("trl", extra="train", to="distil")
    datasets = require("datasets", extra="train", to="distil")
    tokenizer = trl_trainer._tokenizer(base)
    fitter = fitter or trl_trainer._preset_alone("sft", TrainSettings(sft=settings), device)
    max_length = fitter(lambda plan: Work(1, 1, 1)).plan.max_length
    rows, dropped = labelled_rows(train, tokenizer, max_length)
    held, _ = labelled_rows(validation, tokenizer, max_length)
    require_rows(train, rows, held, settings, max_length)
    lengths = [len(row["input_ids"]) for row in rows]
    scored = [sum(label != IGNORED for label in row["labels"]) for row in rows]
    effective = trl_trainer._rows_a_step(rows, settings, max_length)
    fitted = fitter(lambda plan: sft_work(lengths, scored, settings, within(plan, effective)))
    fitted = fitted._replace(plan=within(fitted.plan, effective))
    say(f"  {told(fitted, 'sft')}")
    shape = read_shape(base)
    words = len(tokenizer) if shape is None else shape.vocabulary
    key = CacheKey(teacher.sha256, distillation.top_k, distillation.softening, words, device.bfloat16)
    both, known = cached([*rows, *held], Path(teacher.path), key, teaching.memo, device.name)
    placed, held_placed = both[: len(rows)], both[len(rows) :]

    def once(plan: MemoryPlan) -> Outcome:
        arguments = trl_trainer._config(
            trl.SFTConfig,
            output_dir=str(work),
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps,
            learning_rate=settings.learning_rate,
            max_length=max_length,
            packing=plan.packing,
            packing_strategy="bfd",
            **trl_trainer._common(device, plan, seed, save_steps),
            eval_strategy="steps" if held else "no",
            weight_decay=0.0,
            eval_packing=plan.packing,
            **({"metric_for_best_model": "eval_loss", "greater_is_better": False} if best_by else {}),
        )
        model = trl_trainer._model(base, plan)
        trainer = trl_trainer._watched(_distilling(trl.SFTTrainer, known, distillation), "sft")(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(placed),
            eval_dataset=datasets.Dataset.from_list(held_placed) if held else None,
            processing_class=tokenizer,
            peft_config=None if settings.method == "full" else trl_trainer._lora(settings.lora, model, "sft"),
            callbacks=[
                trl_trainer._callback(tracker, "sft"),
                *([trl_trainer._stopping(settings.early_stopping, "loss")] if settings.early_stopping else []),
            ],
        )
        epoch = math.ceil(len(trainer.get_train_dataloader()) / arguments.gradient_accumulation_steps)
        arguments.eval_steps = settings.evaluate_every_steps or epoch
        if best_by:  # only a checkpoint that was evaluated can be gone back to
            arguments.save_steps = arguments.eval_steps
        return trl_trainer._run(trainer, base, work, out, dropped, settings.early_stopping, best_by=best_by)

    outcome, plan = with_one_retry(once, fitted.plan, "sft")
    return trl_trainer._with_account(outcome, fitted._replace(plan=plan), "sft")


def require_rows(
    train: Sequence[Example], rows: Sequence[object], held: Sequence[object], settings: SftSettings, max_length: int
) -> None:
    """Raise DatasetError where nothing is left to learn from, or early stopping has nothing to look at."""
    if not rows:
        raise DatasetError(
            "no training example fits" if train else "there is no training example",
            where="train.sft.max_length" if train else "3_examples/train.parquet",
            found=f"{max_length} tokens" if train else None,
            fix="Raise train.sft.max_length or lower generate.distractors."
            if train
            else "Look at 3_examples/card.json and rejected.jsonl for why none was made.",
        )
    if (settings.early_stopping or settings.best_by) and not held:
        raise DatasetError(
            "early stopping needs held-out examples",
            where="train.sft.early_stopping",
            found=f"none within {max_length} tokens",
            fix="Leave the key out, or raise generate.split.validation.",
        )


def _distilling(trainer: Any, known: Cached, settings: DistillationSettings) -> Any:
    """Return the kind of trainer whose labels are places in the cache and whose loss is that of distillation."""
    torch = require("torch", extra="train", to="distil")
    temperature = settings.softening

    class Distilling(trainer):  # type: ignore[misc]
        """SFT with another loss: packing, accumulation and checkpoints are TRL's."""

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            places = inputs["labels"][:, 1:]
            learnt = places != IGNORED
            at = learnt.any(0).nonzero().squeeze(-1)  # the output layer scores nothing else
            rest = {name: value for name, value in inputs.items() if name != "labels"}
            outputs = model(**{**rest, "use_cache": False}, logits_to_keep=at)
            logits = outputs.logits[learnt[:, at]].float()
            where = places[:, at][learnt[:, at]].cpu()
            tokens = known.tokens[where].to(logits.device, torch.long)
            ids = known.ids[where].to(logits.device, torch.long)
            # 16 bits do not sum to one: normed again
            teacher = known.log_probs[where].to(logits.device).float().log_softmax(-1)
            by_token = torch.nn.functional.cross_entropy(logits, tokens, reduction="none")
            apart = divergence(teacher, outcomes(logits, ids, temperature), settings.divergence, settings.beta)
            mixed = mixed_loss(by_token, apart, settings.alpha, temperature)
            count = mixed.new_tensor(float(max(1, len(mixed)))) if num_items_in_batch is None else num_items_in_batch
            mode = "train" if self.model.training else "eval"
            self._metrics[mode]["cross_entropy"].append(float(by_token.detach().mean()))
            self._metrics[mode]["teacher_divergence"].append(float(apart.detach().mean()))
            self._metrics[mode]["mean_token_accuracy"].append(float((logits.argmax(-1) == tokens).float().mean()))
            loss = mixed.sum() / count
            return (loss, outputs) if return_outputs else loss

    return Distilling
