"""PPO on an adapter: draw replies, reward them, learn from them some times over, not too far from where it started.

TRL has dropped its own. Policy and values share the weights; the values are one linear layer on the last hidden state,
as in Ziegler et al. 2019. The reference is the same weights without the adapter. The formulas are in `ppo_math`.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.extras import require
from fieldwise.files import write_json
from fieldwise.progress import say, stop_if_interrupted
from fieldwise.train.checkpoints import last_checkpoint
from fieldwise.train.hardware import Device
from fieldwise.train.labels import messages
from fieldwise.train.loading import adapter_config, load_model, load_tokenizer
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.ppo_math import (
    KlControl,
    gae,
    masked_mean,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from fieldwise.train.rewards import Case, total
from fieldwise.train.session import Session
from fieldwise.train.settings import RlSettings
from fieldwise.train.watching import Pace, not_a_number
from fieldwise.train.workload import rl_steps

_KEPT_CHECKPOINTS = 2
_WARMUP = 0.05  # share of the steps, as for the other methods
_MOST_NORM = 1.0
_TOLD_EVERY = 5

Scores = Callable[[Sequence[Case], Sequence[str]], list[dict[str, float | None]]]


class Trained(NamedTuple):
    """The model with its adapter, the figures of every step, and how many steps there were."""

    model: Any
    history: tuple[dict[str, float], ...]
    steps: int


class Rollout(NamedTuple):
    """Replies as they were drawn, with what policy, reference and value head said of each of their tokens."""

    ids: Any
    attention: Any
    mask: Any  # of the reply's tokens, its end token included
    logps: Any
    reference_logps: Any
    values: Any
    texts: list[str]

    @property
    def longest(self) -> int:
        """Tokens of the longest reply."""
        return int(self.mask.shape[1])


def train(
    base: Path,
    cases: Sequence[Case],
    scores: Scores,
    settings: RlSettings,
    plan: MemoryPlan,
    device: Device,
    session: Session,
) -> Trained:
    """Train until the last step, from the last checkpoint of the session if there is one; ends in the same weights then."""
    learner = Learner(base, settings, plan, device, session.work, session.seed, rl_steps(settings, len(cases)))
    history = learner.resume()
    pace, tokens = Pace(learner.step, 0), 0
    while learner.step < learner.steps:
        stop_if_interrupted()
        asked = batch_of(cases, learner.step, settings.batch_size, session.seed)
        rollout = learner.draw(asked)
        found = scores(asked, rollout.texts)
        figures = {**learner.learn(rollout, found), **means(found)}
        learner.step += 1
        history.append({"step": float(learner.step), **figures})
        tokens += int(rollout.attention.sum())
        session.tracker.log("rl", learner.step, {**figures, **pace.figures(tokens)})
        if learner.step == 1 or learner.step % _TOLD_EVERY == 0:
            say(
                f"  rl step {learner.step}/{learner.steps}: reward {figures['reward']:.3f}, KL {figures['kl']:.4f}"
                + pace.told(learner.step, learner.steps, tokens)
            )
        if learner.step % session.save_steps == 0 or learner.step == learner.steps:
            learner.save(history)
    return Trained(learner.model, tuple(history), learner.steps)


def rate_at(done: int, steps: int) -> float:
    """Return the share of the learning rate behind so many steps: a short warm-up, then half a cosine.

    >>> rate_at(0, 10), rate_at(5, 10), rate_at(0, 100)
    (1.0, 0.5, 0.2)
    """
    warmup = int(_WARMUP * steps)
    if done < warmup:
        return (done + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1, steps - warmup)))


def batch_of(cases: Sequence[Case], step: int, size: int, seed: int) -> list[Case]:
    """Return the prompts of a step: every one once in each round, in another order each time."""
    places = range(step * size, (step + 1) * size)
    orders = {
        n: random.Random(f"{seed} {n}").sample(range(len(cases)), len(cases))
        for n in {place // len(cases) for place in places}
    }
    return [cases[orders[place // len(cases)][place % len(cases)]] for place in places]


def means(found: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """Return the mean of each reward over the replies it applies to, named as TRL names them."""
    names = dict.fromkeys(name for scores in found for name in scores)
    by_name = {name: [v for scores in found if (v := scores.get(name)) is not None] for name in names}
    return {f"rewards/{name}/mean": sum(values) / len(values) for name, values in by_name.items() if values}


class Learner:
    """Policy, values and optimizer, and where they stand."""

    def __init__(
        self, base: Path, settings: RlSettings, plan: MemoryPlan, device: Device, work: Path, seed: int, steps: int
    ) -> None:
        self.torch = require("torch", extra="train", to="train by PPO")
        self.transformers = require("transformers", extra="train", to="train by PPO")
        self.peft = require("peft", extra="train", to="train by PPO")
        self.settings, self.plan, self.device, self.work = settings, plan, device, work
        self.steps, self.step = steps, 0
        self.tokenizer = load_tokenizer(base)
        self.transformers.set_seed(seed)
        bare = load_model(base, plan)
        if plan.quantisation == "none":
            bare.to(device.name)
        self.ends = _end_tokens(bare, self.tokenizer)
        self.model = self.peft.get_peft_model(bare, adapter_config(settings.lora, bare, "rl"))
        for module in self.model.modules():  # the ratio of PPO compares two passes over the same weights
            if isinstance(module, self.torch.nn.Dropout):
                module.p = 0.0
        if plan.activation_checkpointing:
            self.model.gradient_checkpointing_enable()
            self.model.enable_input_require_grads()
        self.values = self.torch.nn.Linear(bare.config.get_text_config().hidden_size, 1).to(device.name)
        self.torch.nn.init.zeros_(self.values.weight)
        self.torch.nn.init.zeros_(self.values.bias)
        self.adapter = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = _optimizer(
            plan.optimizer,
            [
                {"params": self.adapter, "lr": settings.learning_rate},
                {"params": list(self.values.parameters()), "lr": settings.ppo.value_learning_rate},
            ],
        )
        self.schedule = self.torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda done: rate_at(done, steps))
        self.control = KlControl(settings.kl, settings.ppo.target_kl)

    # ------------------------------------------------------------ replies

    def draw(self, cases: Sequence[Case]) -> Rollout:
        """Draw one reply to each prompt, and note what policy, reference and value head say of it."""
        torch, tokenizer = self.torch, self.tokenizer
        prompts = [
            tokenizer.apply_chat_template(
                messages(case.prompt, tokenizer), tokenize=True, return_dict=True, add_generation_prompt=True
            )["input_ids"]
            for case in cases
        ]
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), tokenizer.pad_token_id)
        attention = torch.zeros_like(ids)
        for n, prompt in enumerate(prompts):
            ids[n, longest - len(prompt) :] = torch.tensor(prompt)
            attention[n, longest - len(prompt) :] = 1
        ids, attention = ids.to(self.device.name), attention.to(self.device.name)
        self.model.eval()
        with torch.no_grad(), self._arithmetic():
            whole = self.model.generate(
                input_ids=ids,
                attention_mask=attention,
                generation_config=self.transformers.GenerationConfig(
                    do_sample=True,
                    temperature=self.settings.temperature,
                    top_k=0,  # the ratio needs the probabilities that were drawn from
                    top_p=1.0,
                    max_new_tokens=self.settings.max_new_tokens,
                    eos_token_id=self.ends,
                    pad_token_id=tokenizer.pad_token_id,
                    use_cache=True,
                ),
            )
        replies = whole[:, longest:]
        ended = torch.isin(replies, torch.tensor(self.ends, device=replies.device)).long()
        mask = (ended.cumsum(dim=1) - ended == 0).long()
        attention = torch.cat([attention, mask], dim=1)
        texts = [
            tokenizer.decode(reply[: int(count)], skip_special_tokens=True)
            for reply, count in zip(replies, mask.sum(dim=1), strict=True)
        ]
        with torch.no_grad():
            logps, values = self._passes(whole, attention, mask.shape[1])
            with self.model.disable_adapter():
                reference, _ = self._passes(whole, attention, mask.shape[1])
        return Rollout(whole, attention, mask.to(logps.dtype), logps, reference, values, texts)

    def _passes(self, ids: Any, attention: Any, count: int) -> tuple[Any, Any]:
        parts = [
            self.forward(ids[n : n + self.plan.micro_batch], attention[n : n + self.plan.micro_batch], count)
            for n in range(0, len(ids), self.plan.micro_batch)
        ]
        return self.torch.cat([p[0] for p in parts]), self.torch.cat([p[1] for p in parts])

    def forward(self, ids: Any, attention: Any, count: int) -> tuple[Any, Any]:
        """Return log-probability and value of the last `count` tokens of each row, each from what stands before it."""
        with self._arithmetic():
            out = self.model(
                input_ids=ids,
                attention_mask=attention,
                position_ids=(attention.cumsum(dim=1) - 1).clamp(min=0),
                output_hidden_states=True,
                use_cache=False,
                logits_to_keep=count + 1,
            )
        logits = out.logits[:, -count - 1 : -1].float() / self.settings.temperature
        said = ids[:, -count:].unsqueeze(-1)
        logps = logits.gather(-1, said).squeeze(-1) - logits.logsumexp(dim=-1)
        return logps, self.values(out.hidden_states[-1][:, -count - 1 : -1].float()).squeeze(-1)

    def _arithmetic(self) -> Any:
        return self.torch.autocast(self.device.name, dtype=self.torch.bfloat16, enabled=self.device.bfloat16)

    # ------------------------------------------------------------ learning

    def learn(self, rollout: Rollout, found: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
        """Take the optimizer's steps for one rollout; returns what the curves show of it."""
        torch, ppo, mask = self.torch, self.settings.ppo, rollout.mask
        scores = torch.tensor(
            [total(one, self.settings.weights) or 0.0 for one in found], device=mask.device, dtype=mask.dtype
        )
        rewards = token_rewards(scores, rollout.logps, rollout.reference_logps, mask, self.control.weight)
        estimate = gae(rewards, rollout.values, mask, ppo.discount, ppo.trace)
        advantages = whiten(estimate.advantages, mask)
        self.model.train()
        losses: list[tuple[float, float, float, float]] = []
        for _ in range(ppo.epochs):
            for part in torch.randperm(len(mask)).chunk(ppo.minibatches):
                losses.append(self._update(rollout, advantages, estimate.returns, part))
        rate = self.optimizer.param_groups[0]["lr"]
        self.schedule.step()
        distance = (rollout.logps - rollout.reference_logps) * mask
        kl_of_replies = float(distance.sum(dim=1).mean())
        figures = {
            "loss": losses[0][0],
            "value_loss": losses[0][1],
            "clip_ratio": sum(found[2] for found in losses) / len(losses),
            "grad_norm": losses[0][3],
            "learning_rate": float(rate),
            "reward": float(scores.mean()),
            "reward_std": float(scores.std()),
            "kl": float(masked_mean(distance, mask)),
            "kl_of_replies": kl_of_replies,
            "kl_weight": self.control.weight,
            "completions/mean_length": float(mask.sum(dim=1).mean()),
            "completions/clipped_ratio": float(
                1
                - torch.isin(rollout.ids[:, -rollout.longest :], torch.tensor(self.ends, device=mask.device))
                .any(dim=1)
                .float()
                .mean()
            ),
        }
        self.control.update(kl_of_replies)
        return figures

    def _update(self, rollout: Rollout, advantages: Any, returns: Any, part: Any) -> tuple[float, float, float, float]:
        settings, ppo = self.settings, self.settings.ppo
        self.optimizer.zero_grad(set_to_none=True)
        tokens = rollout.mask[part].sum()
        policy_sum = value_sum = clipped_sum = 0.0
        for rows in part.split(self.plan.micro_batch):
            mask = rollout.mask[rows]
            logps, values = self.forward(rollout.ids[rows], rollout.attention[rows], rollout.longest)
            policy = policy_loss(logps, rollout.logps[rows], advantages[rows], mask, settings.clip)
            value = value_loss(values, rollout.values[rows], returns[rows], mask, ppo.value_clip)
            share = mask.sum() / tokens  # means over tokens add up to that of the whole part
            loss = (policy.loss + ppo.value_weight * value) * share
            if not bool(self.torch.isfinite(loss)):
                found = f"{len(rows)} replies, policy loss {policy.loss.item()}, value loss {value.item()}"
                raise self._stop(f"the loss is not a number at step {self.step + 1}", found)
            loss.backward()
            policy_sum += (policy.loss * share).item()
            value_sum += (value * share).item()
            clipped_sum += (policy.clipped * share).item()
        norm = float(self.torch.nn.utils.clip_grad_norm_([*self.adapter, *self.values.parameters()], _MOST_NORM))
        if not math.isfinite(norm):
            raise self._stop(f"the gradients are not numbers at step {self.step + 1}", f"norm {norm}")
        self.optimizer.step()
        return policy_sum, value_sum, clipped_sum, norm

    def _stop(self, what: str, found: str) -> Exception:
        return not_a_number("rl", what, found, self.work)

    # ------------------------------------------------------------ checkpoints

    def save(self, history: Sequence[Mapping[str, float]]) -> None:
        """Keep everything that the next step depends on; the file of the step is written last and means "whole"."""
        folder = self.work / f"checkpoint-{self.step}"
        shutil.rmtree(folder, ignore_errors=True)
        self.model.save_pretrained(folder, safe_serialization=True)
        state = {
            "values": self.values.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": self.torch.get_rng_state(),
        }
        if self.device.name == "cuda":
            state["random_cuda"] = self.torch.cuda.get_rng_state()
        self.torch.save(state, folder / "ppo.pt")
        write_json(
            folder / "trainer_state.json",
            {"step": self.step, "kl_weight": self.control.weight, "history": [dict(row) for row in history]},
        )
        older = sorted(self.work.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
        for old in older[:-_KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def resume(self) -> list[dict[str, float]]:
        """Go back to the last whole checkpoint, if there is one; returns the figures of its steps."""
        last = last_checkpoint(self.work)
        if last is None:
            return []
        say(f"  resuming from {last.name}")
        safetensors = require("safetensors.torch", extra="train", to="train by PPO")
        self.peft.set_peft_model_state_dict(self.model, safetensors.load_file(last / "adapter_model.safetensors"))
        state = self.torch.load(last / "ppo.pt", map_location="cpu", weights_only=True)
        self.values.load_state_dict(state["values"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.torch.set_rng_state(state["random"])
        if "random_cuda" in state and self.device.name == "cuda":
            self.torch.cuda.set_rng_state(state["random_cuda"])
        saved = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
        self.step, self.control.weight = int(saved["step"]), float(saved["kl_weight"])
        return list(saved["history"])


def _optimizer(kind: str, groups: list[dict[str, Any]]) -> Any:
    """AdamW as the plan says; those of 8 bit are of bitsandbytes, as the other methods have them by transformers."""
    if kind == "adamw":
        torch = require("torch", extra="train", to="train by PPO")
        return torch.optim.AdamW(groups, weight_decay=0.0)
    library: Any = require("bitsandbytes.optim", extra="gpu", to="keep the optimizer in 8 bit")
    return {"adamw_8bit": library.AdamW8bit, "paged_adamw_8bit": library.PagedAdamW8bit}[kind](groups, weight_decay=0.0)


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a reply: those the weights name, and the tokenizer's."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [] if named is None else [named]
    return sorted({*listed, tokenizer.eos_token_id} - {None})
