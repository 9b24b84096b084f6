"""What looks on while a trainer of TRL runs: figures for the tracker, losses that are no numbers, when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.machine import peak_bytes
from fieldwise.progress import say
from fieldwise.tracking import Tracker
from fieldwise.train import distributed
from fieldwise.train.checkpoints import last_checkpoint
from fieldwise.train.curves import since_best
from fieldwise.train.hardware import Training
from fieldwise.train.labels import IGNORED
from fieldwise.train.plan import duration

TOLD_EVERY = 5  # steps between two lines of progress, and those whose mean stands for the end
_SIDES = ("", "chosen_", "rejected_", "completion_")  # of what the inputs of a batch are called


def watched(trainer: Any, training: Training) -> Any:
    """Return a kind of trainer as one that stops at the first batch whose loss is no number, before it spoils the weights."""
    torch = require("torch", extra="train", to="fine-tune")

    class Watched(trainer):  # type: ignore[misc]
        """Looks at the loss of each batch."""

        seen = (0, 0)  # the step, and its batches so far

        def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
            loss = super().training_step(model, inputs, num_items_in_batch)
            step = self.state.global_step + 1
            self.seen = (step, self.seen[1] + 1 if self.seen[0] == step else 1)
            if isinstance(inputs, Mapping):  # else prompts, whose replies the trainer draws and counts itself
                self.state.num_input_tokens_seen += _read(inputs)
            if not torch.isfinite(loss):
                raise not_a_number(
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


class Pace:
    """How fast a training goes since it was started, or resumed, and what memory that has taken."""

    def __init__(self, step: int, tokens: int) -> None:
        self.began, self.step, self.tokens = time.monotonic(), step, tokens

    def figures(self, tokens: int) -> dict[str, float]:
        """Return what goes to the trackers, given all tokens read so far."""
        speed = (tokens - self.tokens) / max(time.monotonic() - self.began, 1e-6)
        return {**({"tokens_per_second": speed} if speed else {}), "peak_memory_gb": peak_bytes() / 1e9}

    def told(self, step: int, steps: int, tokens: int) -> str:
        """Return the same for people, behind the figures of a step, with the time that is left."""
        found = self.figures(tokens)
        speed = f", {found['tokens_per_second']:.0f} tokens/s" if "tokens_per_second" in found else ""
        done, left = step - self.step, steps - step
        ahead = f", about {duration((time.monotonic() - self.began) / done * left)} left" if done and left else ""
        return f"{speed}, {found['peak_memory_gb']:.1f} GB{ahead}"


def _read(inputs: Mapping[str, Any]) -> int:
    """Tokens of a batch, padding not counted, over all processes."""
    count = 0
    for side in _SIDES:
        ids, mask = inputs.get(f"{side}input_ids"), inputs.get(f"{side}attention_mask")
        if ids is not None:
            count += int(mask.sum()) if mask is not None and mask.shape == ids.shape else ids.numel()
    return count * distributed.count()


def _extent(inputs: Any) -> str:
    if isinstance(inputs, list):  # prompts, to which the trainer draws the replies itself
        return f"{len(inputs)} replies"
    sides = [inputs[key] for key in ("input_ids", "chosen_input_ids", "rejected_input_ids") if key in inputs]
    rows, tokens = sum(len(side) for side in sides), max(side.shape[1] for side in sides)
    scored = int((inputs["labels"] != IGNORED).sum()) if "labels" in inputs else None
    return f"{rows} x {tokens} tokens" + (f", {scored} of them learnt" if scored is not None else "")


def not_a_number(training: Training, what: str, found: str, work: Path) -> ModelError:
    """Return the error of a training that went astray, with the last good checkpoint in `work`."""
    kept = last_checkpoint(work)
    return ModelError(
        what,
        where=f"train.{training}",
        found=found,
        fix=(f"The last good checkpoint is kept: {kept}. " if kept else "No checkpoint was saved before. ")
        + f"Lower train.{training}.learning_rate and run again; at step 1, look at the base weights instead.",
    )


def score_at_evaluation(trainer: Any, scored: Callable[[Any], float]) -> None:
    """Give the model its score whenever its held-out loss is measured, before anything is decided by it."""
    transformers = require("transformers", extra="train", to="fine-tune")

    class Scoring(transformers.TrainerCallback):  # type: ignore[name-defined,misc]
        """Adds `eval_score` to what an evaluation has found; the start is not scored, since its weights are not to be taken."""

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            if state.global_step == 0:
                return
            metrics["eval_score"] = distributed.agreed(lambda: scored(trainer.model))  # all hold the same weights
            trainer.log({"eval_score": metrics["eval_score"]})

    trainer.callback_handler.callbacks.insert(0, Scoring())


def measuring_the_start(trainer: Any) -> Any:
    """Return the callback that measures the held-out loss before the first step, once: a resumed training has it already."""
    transformers = require("transformers", extra="train", to="fine-tune")

    class Start(transformers.TrainerCallback):  # type: ignore[name-defined,misc]
        """Evaluates at step 0."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 0:
                trainer.evaluate()

    return Start()


def stopping(patience: int, best_by: str, training: Training) -> Any:
    """Return the callback that stops a training after `patience` measurements without a better one."""
    transformers = require("transformers", extra="train", to="fine-tune")

    class Stopping(transformers.TrainerCallback):  # type: ignore[name-defined,misc]
        """Stops when the held-out loss or score has not been better for some time; keeps nothing that a resumed run would lack."""

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if since_best(held_measures(state, best_by)) >= patience:
                wanted = "lower held-out loss" if best_by == "loss" else "higher held-out score"
                say(f"  {training} step {state.global_step}: no {wanted} {patience} times, stopping")
                control.should_training_stop = True

    return Stopping()


def held_measures(state: Any, best_by: str = "loss") -> list[float]:
    """Return what was measured on held-out examples, in order; a score with its sign turned, so that less is better."""
    key, sign = f"eval_{best_by}", -1 if best_by == "score" else 1
    return [sign * row[key] for row in state.log_history if key in row]


def curves(tracker: Tracker, training: Training, label: str | None = None) -> Any:
    """Return the callback that tells how a training goes, to its tracker and to people."""
    transformers = require("transformers", extra="train", to="fine-tune")

    class Curves(transformers.TrainerCallback):  # type: ignore[name-defined,misc]
        """Sends the figures of training to the tracker and stops on gradients that are not numbers."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.pace = Pace(state.global_step, state.num_input_tokens_seen)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            figures = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
            loss = figures.get("loss")
            norm = figures.get("grad_norm", 0.0)
            if not math.isfinite(norm):  # the weights are spoilt by now, and not saved yet
                raise not_a_number(
                    training,
                    f"the gradients are not numbers at step {state.global_step}",
                    f"norm {norm}",
                    Path(args.output_dir),
                )
            is_spoilt = not math.isfinite(figures.get("eval_loss", 0.0))
            if (
                is_spoilt and state.global_step
            ):  # nothing could be chosen by it; the base itself is told by its first batch
                raise not_a_number(
                    training,
                    f"the loss on held-out examples is not a number at step {state.global_step}",
                    f"{figures['eval_loss']}",
                    Path(args.output_dir),
                )
            finite = {k: v for k, v in figures.items() if math.isfinite(v)}
            if loss is not None:
                finite |= self.pace.figures(state.num_input_tokens_seen)
            tracker.log(label or training, state.global_step, finite)
            if loss is not None and (state.global_step == 1 or state.global_step % TOLD_EVERY == 0):
                say(
                    f"  {label or training} step {state.global_step}/{state.max_steps}: loss {loss:.3f}"
                    + (f", margin {figures['rewards/margins']:.2f}" if "rewards/margins" in figures else "")
                    + (f", accuracy {figures['rewards/accuracies']:.2f}" if "rewards/accuracies" in figures else "")
                    + (f", reward {figures['reward']:.3f}" if "reward" in figures else "")
                    + (f", KL {figures['kl']:.3f}" if "kl" in figures else "")
                    + self.pace.told(state.global_step, state.max_steps, state.num_input_tokens_seen)
                )

    return Curves()
