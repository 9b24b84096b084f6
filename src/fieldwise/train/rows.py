"""Training on rows of token ids, whatever they are of: by TRL's SFT, or in another way with its own trainer and options."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.train import distributed, unsloth_backend
from fieldwise.train.checkpoints import last_checkpoint, take_weights
from fieldwise.train.configuring import build_config, common_options, score_labelled_only
from fieldwise.train.hardware import Device, Training
from fieldwise.train.labels import IGNORED
from fieldwise.train.loading import adapter_config, lighten, load_model
from fieldwise.train.loop import train_to_the_end
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.outcome import Outcome, with_account
from fieldwise.train.plan import told, within
from fieldwise.train.retry import with_one_retry
from fieldwise.train.scoring import TaskScore
from fieldwise.train.session import Session
from fieldwise.train.settings import LoraSettings, RowsSettings
from fieldwise.train.watching import curves, measuring_the_start, score_at_evaluation, stopping, watched
from fieldwise.train.workload import sft_work

Row = dict[str, Any]


class Extent(NamedTuple):
    """Tokens of a row, and how many of them carry loss."""

    tokens: int
    scored: int


class Way(NamedTuple):
    """How rows are trained on: a trainer of TRL with the class of its options, and what it is told beside the others."""

    trainer: Any
    config: Any
    extent: Callable[[Row], Extent]
    options: Mapping[str, Any] = {}
    beside: Callable[[MemoryPlan], dict[str, Any]] = lambda plan: {}  # what else the trainer is given: a teacher
    is_flat: bool = False  # whether rows of a batch may be laid end to end


@dataclasses.dataclass(frozen=True)
class Course:
    """How a training is called in the curves, and the weights it goes on from where it is one step of several."""

    label: str = "sft"
    start: Path | None = None  # folder of an adapter, or of all weights
    neftune: float | None = None  # noise on the embeddings
    task: TaskScore | None = None  # how replies are judged, where that chooses the weights
    best_by: Literal["loss", "score"] | None = None  # what the weights are taken by; None takes the last
    scored: Callable[[Any], float] | None = None  # gives a model its score
    way: Way | None = None  # None is by SFT


class Rows(NamedTuple):
    """Rows to learn from, those held out, and how many examples are not among them.

    Token ids and labels, or what the way of training makes a batch of.
    """

    tokenizer: Any
    train: Sequence[Row]
    held: Sequence[Row]
    dropped: int
    max_length: int


def by_sft(kind: Callable[[Any], Any] = lambda trainer: trainer) -> Way:
    """Return TRL's SFT as a way to train, loss on the labels of a row; `kind` makes of its trainer one with another loss."""
    trl = require("trl", extra="train", to="fine-tune")
    score_labelled_only()
    return Way(kind(trl.SFTTrainer), trl.SFTConfig, _labelled, {"packing_strategy": "bfd"}, is_flat=True)


def _labelled(row: Row) -> Extent:
    return Extent(len(row["input_ids"]), sum(label != IGNORED for label in row["labels"]))


def train_rows(
    base: Path,
    data: Rows,
    settings: RowsSettings,
    device: Device,
    training: Training,
    session: Session,
    *,
    course: Course,
) -> Outcome:
    """Train on rows that are tokens already, by SFT unless told another way; resumes from the last checkpoint of the session."""
    datasets = require("datasets", extra="train", to="fine-tune")
    way = course.way or by_sft()
    rows, held, max_length = data.train, data.held, data.max_length
    extents = [way.extent(row) for row in rows]
    lengths, scored = [e.tokens for e in extents], [e.scored for e in extents]
    effective = _rows_a_step(lengths, settings, max_length)

    def sized(plan: MemoryPlan) -> MemoryPlan:
        attention = plan.attention if way.is_flat else None
        return dataclasses.replace(within(plan, effective), packing=settings.packing, attention=attention)

    fitted = session.fit(lambda plan: sft_work(lengths, scored, settings, sized(plan)))
    fitted = fitted._replace(plan=sized(fitted.plan))
    if fitted.plan.effective_batch < settings.batch_size:
        cut = f"a batch of {fitted.plan.effective_batch} in place of {settings.batch_size}, for eight steps an epoch"
        fitted = fitted._replace(reasons=(*fitted.reasons, cut))
    is_full = settings.method == "full"
    unused = f", which leaves train.{training}.lora unused" if is_full and settings.lora != LoraSettings() else ""
    say(f"  {told(fitted, training)}{unused}")
    patience, best_by = settings.early_stopping, course.best_by or ("loss" if settings.early_stopping else None)
    best = {"metric_for_best_model": f"eval_{best_by}", "greater_is_better": best_by == "score"} if best_by else {}

    def once(plan: MemoryPlan) -> Outcome:
        is_flat = plan.attention is not None and not plan.packing  # TRL lays packed rows end to end in any case
        arguments = build_config(
            way.config,
            output_dir=str(session.work),
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps,
            learning_rate=settings.learning_rate,
            max_length=None if is_flat else max_length,  # rows are cut already, and TRL wants to cut none itself
            packing=plan.packing,
            eval_packing=plan.packing,
            **common_options(device, plan, session),
            # "epoch" evaluates behind the checkpoint, and a resumed run never would
            eval_strategy="steps" if held else "no",
            weight_decay=0.0,
            **way.options,
            **best,
            **({"padding_free": True} if is_flat else {}),
            **({"neftune_noise_alpha": course.neftune} if course.neftune else {}),
        )
        model, peft_config = _loaded(base, plan, settings, training, session.seed)
        trainer = watched(way.trainer, training)(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(list(rows)),
            eval_dataset=datasets.Dataset.from_list(list(held)) if held else None,
            processing_class=data.tokenizer,
            peft_config=peft_config,
            callbacks=[
                curves(session.tracker, training, course.label),
                *([stopping(patience, best_by or "loss", training)] if patience else []),
            ],
            **way.beside(plan),
        )
        if course.scored is None and course.way is None and settings.method != "full":
            lighten(trainer.model, settings.lora, device)
        if course.scored is not None:
            score_at_evaluation(trainer, course.scored)
        if held:
            trainer.add_callback(measuring_the_start(trainer))
        epoch = math.ceil(len(trainer.get_train_dataloader()) / arguments.gradient_accumulation_steps)
        arguments.eval_steps = settings.evaluate_every_steps or epoch
        if best_by is not None:  # only a checkpoint that was evaluated can be gone back to
            arguments.save_steps = arguments.eval_steps
        if course.start is not None and distributed.agreed(lambda: last_checkpoint(session.work)) is None:
            take_weights(trainer, course.start)
        return train_to_the_end(trainer, base, session.work, session.out, data.dropped, patience, best_by=best_by)

    outcome, plan = with_one_retry(once, fitted.plan, training)
    return with_account(outcome, fitted._replace(plan=plan), training)


def _loaded(base: Path, plan: MemoryPlan, settings: RowsSettings, training: Training, seed: int) -> tuple[Any, Any]:
    """The weights, and the adapter that the trainer is to put onto them; None where they have it or all are trained."""
    if plan.backend == "unsloth":
        return unsloth_backend.load(base, plan, settings.lora, training, seed), None
    model = load_model(base, plan)
    return model, None if settings.method == "full" else adapter_config(settings.lora, model, training)


def _rows_a_step(lengths: Sequence[int], settings: RowsSettings, max_length: int) -> int:
    """Rows a step: the wanted batch, but never so many that an epoch has fewer than eight steps."""
    filled = sum(lengths) / max_length if settings.packing else len(lengths)
    return max(1, min(settings.batch_size, math.floor(filled / 8)))
