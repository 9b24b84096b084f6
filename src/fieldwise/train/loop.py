"""A trainer of TRL from its last checkpoint to the end, and what it leaves: adapter, merged weights, figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.train import distributed
from fieldwise.train.checkpoints import keep_start, last_checkpoint, take_weights
from fieldwise.train.curves import since_best
from fieldwise.train.merging import merge, save_weights
from fieldwise.train.outcome import Outcome
from fieldwise.train.watching import TOLD_EVERY, held_measures

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


Measure = Callable[[Any], tuple[dict[str, float], dict[str, JsonValue]]]
"""Given the trained model, returns figures and what else there is to tell of it."""


def train_to_the_end(
    trainer: Any,
    base: Path,
    work: Path,
    out: Path,
    dropped: int,
    patience: int | None = None,
    measure: Measure | None = None,
    best_by: str | None = None,
) -> Outcome:
    """Train from the last checkpoint in `work` to the end and leave `adapter/` and `merged/` in `out`.

    `patience` is that of the trainer's callback (`watching.stopping`), `best_by` the held-out figure that the weights are
    taken by; without it the last ones are. Of several processes the first one alone writes.
    """
    peft_config = getattr(trainer.model, "peft_config", None)
    moved = peft_config is not None and peft_config["default"].init_lora_weights == "pissa"
    begin = keep_start(trainer.model, work) if moved else None
    for callback in distributed.callbacks(trainer):
        trainer.add_callback(callback)
    train_or_resume(trainer, work, patience, best_by or "loss")
    evaluated = max((row["step"] for row in trainer.state.log_history if "eval_loss" in row), default=None)
    if trainer.eval_dataset is not None and evaluated != trainer.state.global_step:
        trainer.evaluate()
    history = _history(trainer)
    figures, about = _final_figures(history), distributed.account()
    if best_by is not None:
        best = _take_best(trainer, work, history, best_by)
        for name in figures.keys() & {"eval_loss", "eval_score"}:
            figures[name] = next(r[name] for r in history if name in r and r["step"] == best)
        about = {**about, "weights_of_step": int(best)}
    if distributed.is_sharded():
        trainer.save_model(str(out / "adapter"))  # every process gives its part
    elif distributed.is_first() and measure is not None:
        found, told_of_it = measure(trainer.model)
        figures, about = {**figures, **found}, {**about, **told_of_it}
    if distributed.is_first():
        _leave(trainer, base, out, begin)
    adapter = None if peft_config is None else out / "adapter"
    return Outcome(adapter, out / "merged", int(trainer.state.global_step), figures, history, dropped, about)


def _history(trainer: Any) -> tuple[dict[str, float], ...]:
    return tuple(
        {k: float(v) for k, v in sorted(row.items()) if k in _KEPT_FIGURES and math.isfinite(v)}
        for row in trainer.state.log_history
        if "loss" in row or "eval_loss" in row or "eval_score" in row
    )


def _take_best(trainer: Any, work: Path, history: Sequence[Mapping[str, float]], best_by: str) -> float:
    """Put the weights of the best measurement in the place of the last ones; returns its step."""
    now = trainer.state.global_step
    kept = {now, *(int(p.name.rpartition("-")[2]) for p in work.glob("checkpoint-*"))}  # a moved folder may lack one
    key, sign = f"eval_{best_by}", -1 if best_by == "score" else 1
    held = [row for row in history if key in row and row["step"] in kept]
    best = min(held, key=lambda row: (sign * row[key], row["step"]))
    if best["step"] != now:
        take_weights(trainer, work / f"checkpoint-{best['step']:.0f}")
    return best["step"]


def _leave(trainer: Any, base: Path, out: Path, begin: Path | None) -> None:
    """Save the adapter and the weights with it, or all weights where all were trained."""
    adapter, merged = out / "adapter", out / "merged"
    if getattr(trainer.model, "peft_config", None) is None:
        save_weights(trainer.model, base, merged)
        return
    converted = {"path_initial_model_for_weight_conversion": str(begin)} if begin else {}
    if not distributed.is_sharded():
        trainer.model.save_pretrained(adapter, safe_serialization=True, **converted)
        for part in trainer.model.parameters():  # whoever still holds the model: merging loads the base once more
            part.data, part.grad = part.data.new_empty(0), None
    (adapter / "README.md").unlink(missing_ok=True)  # PEFT's empty card; ours is made at release
    merge(base, adapter, merged)


def train_or_resume(trainer: Any, work: Path, patience: int | None = None, best_by: str = "loss") -> None:
    """Train from the last checkpoint, if there is one, to the end; one that is at the end already only gives its weights."""
    transformers = require("transformers", extra="train", to="fine-tune")
    trainer.remove_callback(transformers.PrinterCallback)
    last: Path | None = distributed.agreed(lambda: last_checkpoint(work))
    if last:
        say(f"  resuming from {last.name}")
    state = transformers.TrainerState.load_from_json(str(last / "trainer_state.json")) if last else trainer.state
    has_stopped = patience is not None and since_best(held_measures(state, best_by)) >= patience
    if last and (has_stopped or state.global_step >= state.max_steps):  # the trainer would go one step further
        take_weights(trainer, last)
        trainer.state = state
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)


def _final_figures(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The last held-out loss, and the means of loss and margin over the last steps: one step alone is noisy."""
    figures = {}
    for name, key, steps in (
        ("loss", "loss", TOLD_EVERY),
        ("eval_loss", "eval_loss", 1),
        ("eval_score", "eval_score", 1),
        ("margin", "rewards/margins", TOLD_EVERY),
    ):
        values = [row[key] for row in history if key in row][-steps:]
        if values:
            figures[name] = sum(values) / len(values)
    return figures
