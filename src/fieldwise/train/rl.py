"""Reinforcement learning on tuned weights: RLOO and GRPO by TRL, PPO of our own, with the same prompts and rewards.

RLOO: Ahmadian et al. 2024, arXiv:2402.14740. GRPO: Shao et al. 2024, arXiv:2402.03300.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.records import Example
from fieldwise.train import ppo
from fieldwise.train.configuring import build_config, common_options
from fieldwise.train.hardware import Device
from fieldwise.train.labels import messages
from fieldwise.train.loading import adapter_config, load_model, load_tokenizer
from fieldwise.train.loop import train_or_resume
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.merging import merge
from fieldwise.train.outcome import Outcome
from fieldwise.train.plan import told
from fieldwise.train.retry import with_one_retry
from fieldwise.train.reward import RewardModel
from fieldwise.train.rewards import RULES, Case, by_rules, total, usable
from fieldwise.train.session import Session
from fieldwise.train.settings import RlSettings, TrainSettings
from fieldwise.train.watching import curves, not_a_number, watched
from fieldwise.train.workload import rl_work

_KEPT_FIGURES = frozenset(
    (
        "step",
        "loss",
        "learning_rate",
        "grad_norm",
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "kl",
        "kl_of_replies",
        "kl_weight",
        "value_loss",
        "clip_ratio",
        "entropy",
        "completions/mean_length",
        "completions/clipped_ratio",
    )
)
_ENDS = 5  # steps whose mean stands for the beginning and for the end: one step alone is noisy
_FEWEST = 8  # steps; below that a trend is noise
_SURE = 2.0  # standard errors


@dataclass(frozen=True)
class Rewarder:
    """Every reward of the recipe."""

    weights: Mapping[str, float]
    model: RewardModel | None = None

    def scores(self, cases: Sequence[Case], replies: Sequence[str]) -> list[dict[str, float | None]]:
        """Return each reward of each reply, None where it does not apply."""
        found = [by_rules(case, reply, self.weights) for case, reply in zip(cases, replies, strict=True)]
        if self.model is not None:
            for scores, value in zip(found, self.model.score([c.prompt for c in cases], replies), strict=True):
                scores["reward_model"] = value
        return found

    def functions(self, cases: Sequence[Case]) -> list[Any]:
        """Return one function a reward, as TRL calls them; the column `case` of its rows says which case is meant."""
        return [self._function(name, cases) for name in self.weights]

    def _function(self, name: str, cases: Sequence[Case]) -> Any:
        def reward(completions: Sequence[Any], case: Sequence[int], **_: Any) -> list[float | None]:
            replies = [said[-1]["content"] for said in completions]
            asked = [cases[n] for n in case]
            if name in RULES:
                return [RULES[name](c, reply) for c, reply in zip(asked, replies, strict=True)]
            assert self.model is not None
            return list(self.model.score([c.prompt for c in asked], replies))

        reward.__name__ = name
        return reward


def train_rl(
    base: Path,
    examples: Sequence[Example],
    settings: RlSettings,
    device: Device,
    session: Session,
    *,
    reward_model: Path | None,
) -> Outcome:
    """Train tuned weights towards the rewards; resumes from the last checkpoint of the session."""
    tokenizer = load_tokenizer(base)
    session = session.with_fitter("rl", TrainSettings(rl=settings), device)
    max_length = session.max_length
    every = usable([Case.of(e) for e in examples if not e.tools], settings.weights)
    cases, lengths = _fitting(_drawn(every, settings.prompts, session.seed), settings, tokenizer, max_length)
    dropped = min(len(every), settings.prompts or len(every)) - len(cases)
    _require_enough(cases, settings, max_length)
    rewarder = Rewarder(
        settings.weights, RewardModel.trained(reward_model, device.name) if reward_model is not None else None
    )
    known = _reward_of_known(cases, rewarder)
    other = sum(p.stat().st_size for p in reward_model.rglob("*.safetensors")) if reward_model is not None else 0
    fitted = session.fit(lambda plan: rl_work(lengths, settings, plan, float(other)))
    say(f"  {told(fitted, 'rl')}")
    say(f"  rl: {settings.method} on {len(cases)} prompts; the known replies are rewarded with {known:.3f} in the mean")

    def once(plan: MemoryPlan) -> Outcome:
        with _stopping_at_nan(session.work):
            if settings.method == "ppo":
                model, history, done = ppo.train(
                    base,
                    cases,
                    rewarder.scores,
                    settings,
                    plan,
                    device,
                    session,
                )
            else:
                trainer = _by_trl(base, cases, rewarder, settings, plan, device, session)
                train_or_resume(trainer, session.work)
                model, done = trainer.model, int(trainer.state.global_step)
                history = tuple(row for row in trainer.state.log_history if "loss" in row)
        return _saved(model, base, session.out, done, _curve(history), dropped)

    outcome, plan = with_one_retry(once, fitted.plan, "rl")
    shown = verdict(outcome.curve)
    say(f"  rl: {shown['about']}")
    return replace(
        outcome,
        figures={**outcome.figures, "reward_of_known_replies": known},
        about={
            "method": settings.method,
            "prompts": len(cases),
            "rewards": {**settings.weights},
            "plan": fitted._replace(plan=plan).to_json(),
            "curve_shows": shown,
        },
    )


def verdict(curve: Sequence[Mapping[str, float]]) -> dict[str, JsonValue]:
    """Say whether the reward rose: the mean of the last quarter of the steps against that of the first, with its error."""
    rewards = [row["reward"] for row in curve]
    if len(rewards) < _FEWEST:
        return {"state": "too_short", "about": f"{len(rewards)} steps are too few to tell"}
    quarter = max(2, len(rewards) // 4)
    first, last = rewards[:quarter], rewards[-quarter:]
    change = fmean(last) - fmean(first)
    error = math.sqrt((variance(first) + variance(last)) / quarter)
    state = "rising" if change > _SURE * error else "falling" if change < -_SURE * error else "not_rising"
    kl = fmean(row.get("kl", 0.0) for row in curve[-quarter:])
    return {
        "state": state,
        "about": f"the reward went from {fmean(first):.3f} to {fmean(last):.3f} (change {change:+.3f}, standard error "
        f"{error:.3f}); KL to the start {kl:.4f} a token",
    }


def _drawn(cases: Sequence[Case], most: int | None, seed: int) -> list[Case]:
    ordered = sorted(cases, key=lambda case: case.id)
    random.Random(seed).shuffle(ordered)
    return ordered[:most]


def _fitting(
    cases: Sequence[Case], settings: RlSettings, tokenizer: Any, max_length: int
) -> tuple[list[Case], list[int]]:
    lengths = [
        len(
            tokenizer.apply_chat_template(
                messages(case.prompt, tokenizer), tokenize=True, return_dict=True, add_generation_prompt=True
            )["input_ids"]
        )
        for case in cases
    ]
    kept = [n for n, length in enumerate(lengths) if length + settings.max_new_tokens <= max_length]
    if len(kept) < len(cases):
        say(f"  {len(cases) - len(kept)} of {len(cases)} prompts leave no room for a reply and were left out")
    return [cases[n] for n in kept], [lengths[n] for n in kept]


def require_prompts(examples: Sequence[Example], settings: RlSettings) -> None:
    """Raise for too few prompts to which a reward applies, however long they are, or a library that rewards need."""
    cases = [Case.of(e) for e in examples if not e.tools]
    if "json" in settings.rewards and any(case.schema is not None for case in cases):
        require("jsonschema", extra="eval", to="reward JSON that fits its schema")
    applying = (case for case in cases if usable([case], settings.weights))
    _require_enough(
        list(islice(applying, min(_needed(settings), settings.prompts or _needed(settings)))), settings, None
    )


def _needed(settings: RlSettings) -> int:
    return 1 if settings.method == "ppo" else settings.batch_size // settings.generations


def _require_enough(cases: Sequence[Case], settings: RlSettings, max_length: int | None) -> None:
    if len(cases) < _needed(settings):
        room = "" if max_length is None else f" and that leave room for a reply in {max_length} tokens"
        raise DatasetError(
            "too few prompts to learn from",
            where="train.rl",
            found=f"{len(cases)} to which a reward applies{room}; a step takes {_needed(settings)}",
            fix="Name other train.rl.rewards, raise train.rl.max_length or train.rl.prompts, or lower train.rl.batch_size.",
        )


def _reward_of_known(cases: Sequence[Case], rewarder: Rewarder) -> float:
    """Mean reward of the known replies: what there is to reach by the rules, and a check that these fit the data."""
    known = rewarder.scores(cases, [case.known for case in cases])
    return fmean(total(scores, rewarder.weights) or 0.0 for scores in known)


def _by_trl(
    base: Path,
    cases: Sequence[Case],
    rewarder: Rewarder,
    settings: RlSettings,
    plan: MemoryPlan,
    device: Device,
    session: Session,
) -> Any:
    trl = require("trl", extra="train", to="train by reinforcement")
    datasets = require("datasets", extra="train", to="train by reinforcement")
    config, trainer = {"rloo": (trl.RLOOConfig, trl.RLOOTrainer), "grpo": (trl.GRPOConfig, trl.GRPOTrainer)}[
        settings.method
    ]
    arguments = build_config(
        config,
        output_dir=str(session.work),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        num_generations=settings.generations,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        beta=settings.kl,
        epsilon=settings.clip,
        reward_weights=list(settings.weights.values()),
        disable_dropout=True,
        eval_strategy="no",
        weight_decay=0.0,
        **common_options(device, plan, session),
    )
    tokenizer = load_tokenizer(base)
    tokenizer.padding_side = "left"
    model = load_model(base, plan)
    rows = [{"prompt": messages(case.prompt, tokenizer), "case": n} for n, case in enumerate(cases)]
    return watched(trainer, "rl")(
        model=model,
        reward_funcs=rewarder.functions(cases),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter_config(settings.lora, model, "rl"),
        callbacks=[curves(session.tracker, "rl")],
    )


@contextmanager
def _stopping_at_nan(work: Path) -> Iterator[None]:
    """Say it in our words when replies cannot be drawn since their probabilities are no numbers."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor contains" not in str(error):
            raise
        raise not_a_number(
            "rl", "the probabilities of the next token are not numbers", "no reply can be drawn", work
        ) from error


def _curve(history: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], ...]:
    return tuple(
        {
            k: float(v)
            for k, v in sorted(row.items())
            if isinstance(v, int | float)
            and math.isfinite(v)
            and (k in _KEPT_FIGURES or (k.startswith("rewards/") and k.endswith("/mean")))
        }
        for row in history
    )


def _saved(model: Any, base: Path, out: Path, steps: int, curve: tuple[dict[str, float], ...], dropped: int) -> Outcome:
    adapter, merged = out / "adapter", out / "merged"
    model.save_pretrained(adapter, safe_serialization=True)
    (adapter / "README.md").unlink(missing_ok=True)
    merge(base, adapter, merged)
    names = [k for k in sorted({k for row in curve for k in row}) if k in ("reward", "kl") or k.startswith("rewards/")]
    figures = {
        name.removeprefix("rewards/").replace("/mean", "_reward"): fmean(values[-_ENDS:])
        for name in names
        if (values := [row[name] for row in curve if name in row])
    }
    figures["reward_at_start"] = fmean(row["reward"] for row in curve[:_ENDS])
    return Outcome(adapter, merged, steps, figures, curve, dropped, {})
