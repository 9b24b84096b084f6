"""What the curves of a training say: over- and underfitting by name, and when to stop early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal, NamedTuple

from pydantic import JsonValue

_FEWEST = 8  # losses of steps; below that a trend is noise
_RISE = 0.02  # share by which the held-out loss must have risen again to be called overfitting
_FALL = 0.02  # share by which a loss must fall to be called falling
_REMEDY = (
    "If the evaluation shows no gain either: raise train.{}.learning_rate, or look at the data (fieldwise data doctor)."
)


class Verdict(NamedTuple):
    """What the curves show, in a word and in a sentence."""

    state: Literal["overfitting", "still_falling", "not_falling", "levelled_off", "too_short"]
    about: str
    advice: str | None
    best_step: int | None  # of the lowest held-out loss

    def to_json(self) -> dict[str, JsonValue]:
        """The verdict as it stands in the record of a training."""
        return {"state": self.state, "about": self.about, "advice": self.advice, "best_step": self.best_step}


def judge(history: Sequence[Mapping[str, float]], training: str) -> Verdict:
    """Read the curves of a training: rows with `step` and `loss` or `eval_loss`, in order; step 0 is before the first.

    Overfitting: the held-out loss has risen by 2 % of its lowest value while the training loss fell further. Not
    falling: the held-out loss is not 2 % lower than before training; where that is not known, the last quarter of the
    training losses than the first. Still falling: the last quarter is 2 % lower than the one before it, and the held-out
    loss, if there is one, is at its lowest. Losses are compared as means over quarters, since those of single steps are
    noisy; batches differ in more than what was learnt meanwhile, so held-out examples are asked first.
    """
    losses = [(int(row["step"]), row["loss"]) for row in history if "loss" in row]
    held = [(int(row["step"]), row["eval_loss"]) for row in history if "eval_loss" in row]
    best_step, best = min(held, key=lambda pair: (pair[1], pair[0]), default=(None, 0.0))
    if len(held) > 1 and best_step is not None and held[-1][1] > best * (1 + _RISE):
        until = [loss for step, loss in losses if step <= best_step]
        after = [loss for step, loss in losses if step > best_step]
        if until and after and fmean(after[-max(1, len(after) // 2) :]) < fmean(until[-max(1, len(until) // 2) :]):
            return Verdict(
                "overfitting",
                f"the held-out loss was lowest at step {best_step} ({best:.3f}) and is {held[-1][1]:.3f} at step "
                f"{held[-1][0]}, while the training loss fell further",
                f"Set train.{training}.early_stopping=1, fewer epochs, or more examples."
                if training in ("sft", "pretrain")
                else f"Lower train.{training}.epochs or train.{training}.learning_rate.",
                best_step,
            )
    before_it = held[0][1] if held and held[0][0] == 0 and len(held) > 1 else None
    if before_it is not None and held[-1][1] > before_it - _FALL * abs(before_it):
        return Verdict(
            "not_falling",
            f"the held-out loss was {before_it:.3f} before and is {held[-1][1]:.3f}",
            f"Lower train.{training}.learning_rate, or look at the data (fieldwise data doctor)."
            if held[-1][1] > before_it
            else _REMEDY.format(training),
            best_step,
        )
    if len(losses) < _FEWEST:
        return Verdict("too_short", f"{len(losses)} steps are too few to tell", None, best_step)
    quarter = len(losses) // 4
    values = [loss for _, loss in losses]
    first, before, last = (
        fmean(part) for part in (values[:quarter], values[-2 * quarter : -quarter], values[-quarter:])
    )
    if before_it is None and last > first - _FALL * abs(first):
        return Verdict(
            "not_falling",
            f"underfitting, the training loss went from {first:.3f} to {last:.3f}",
            _REMEDY.format(training),
            best_step,
        )
    is_lowest = not held or held[-1][1] <= best
    if is_lowest and last < before - _FALL * abs(before):
        return Verdict(
            "still_falling",
            f"still underfitting, the training loss fell from {before:.3f} to {last:.3f} over the last half",
            f"More train.{training}.epochs may help.",
            best_step,
        )
    settled = (
        f"the held-out loss is {held[-1][1]:.3f}, lowest {best:.3f} at step {best_step}"
        + (f", {before_it:.3f} before training" if before_it is not None else "")
        if held
        else f"the training loss has settled at {last:.3f}"
    )
    return Verdict("levelled_off", settled, None, best_step)


def since_best(losses: Sequence[float]) -> int:
    """Return how many held-out losses came behind the lowest.

    >>> since_best([2.0, 1.5, 1.6, 1.7])
    2
    """
    return len(losses) - 1 - min(range(len(losses)), key=lambda n: (losses[n], n)) if losses else 0
