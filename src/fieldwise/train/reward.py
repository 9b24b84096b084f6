"""The reward model: trained on preference pairs by TRL, measured on pairs it has not seen, and asked by the RL methods."""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.extras import require
from fieldwise.files import sync, write_json, write_text
from fieldwise.hashing import sha256_text
from fieldwise.progress import say
from fieldwise.records import Conversation, PreferencePair
from fieldwise.train import reward_figures
from fieldwise.train.configuring import build_config, common_options
from fieldwise.train.hardware import Device
from fieldwise.train.labels import messages
from fieldwise.train.loading import adapter_config, lighten, load_model, load_tokenizer
from fieldwise.train.loop import train_or_resume
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.plan import told
from fieldwise.train.retry import with_one_retry
from fieldwise.train.reward_card import card
from fieldwise.train.session import Session
from fieldwise.train.settings import RewardSettings, TrainSettings
from fieldwise.train.watching import curves, watched
from fieldwise.train.workload import reward_work

RECORD = "reward.json"
_KEPT_FIGURES = frozenset(("step", "epoch", "loss", "learning_rate", "grad_norm", "accuracy", "margin", "mean_reward"))
_FEWEST_HELD_OUT = 8
_SCORED_AT_ONCE = 8


class Pairs(NamedTuple):
    """Pairs to learn from and pairs to measure on, of other documents."""

    learnt: list[PreferencePair]
    held_out: list[PreferencePair]


def split_pairs(pairs: Sequence[PreferencePair], share: float, seed: int) -> Pairs:
    """Keep pairs outside the training split for measuring; are they too few, whole documents of it as well.

    Which ones is settled by a hash of the seed and the documents, so that further pairs move none across.
    """
    outside = [p for p in pairs if p.split != "train"]
    inside = [p for p in pairs if p.split == "train"]
    if len(outside) >= max(_FEWEST_HELD_OUT, share * len(inside)):
        return Pairs(inside, outside)

    def place(pair: PreferencePair) -> float:
        return int(sha256_text(f"{seed} {group_of(pair)}")[:16], 16) / 16**16

    held = [p for p in inside if place(p) < share]
    kept = [p for p in inside if place(p) >= share]
    if not held and len(kept) > 1:  # few documents: take the one whose turn it would be next
        least = min(map(place, kept))
        held, kept = [p for p in kept if place(p) == least], [p for p in kept if place(p) > least]
    return Pairs(kept, [*held, *outside])


def group_of(pair: PreferencePair) -> str:
    """What a pair shares with others of its kind: its documents, or its prompt where it names none."""
    return " ".join(sorted(pair.document_ids)) or "\n".join(m.content for m in pair.prompt)


def train_reward(
    base: Path,
    pairs: Sequence[PreferencePair],
    settings: RewardSettings,
    device: Device,
    session: Session,
) -> dict[str, JsonValue]:
    """Train on the pairs, measure on those held out, and leave model, card and record in `out` of the session; returns the record.

    Resumes from the last checkpoint of the session; what an interrupted run has finished is not trained again.
    """
    out = session.out
    if (out / "complete").exists():
        say("  reward was finished before the interruption")
        return dict(json.loads((out / RECORD).read_text(encoding="utf-8")))
    shutil.rmtree(out, ignore_errors=True)
    tokenizer = load_tokenizer(base)
    session = session.with_fitter("reward", TrainSettings(reward=settings), device)
    max_length = session.max_length
    split = split_pairs(pairs, settings.held_out, session.seed)
    rows, held = (_rows(side, tokenizer, max_length) for side in split)
    if not rows.ids or not held.ids:
        raise _too_few(f"{len(rows.ids)} and {len(held.ids)} of {len(pairs)} pairs, within {max_length} tokens")
    if len(held.ids) < _FEWEST_HELD_OUT:
        say(f"  only {len(held.ids)} held-out pairs: the figures of the reward model will be vague")
    lengths = [len(ids) for row in rows.ids for ids in row.values()]
    fitted = session.fit(functools.partial(reward_work, lengths, settings))
    say(f"  {told(fitted, 'reward')}")

    def once(plan: MemoryPlan) -> tuple[tuple[dict[str, float], ...], int]:
        return _train(base, rows.ids, settings, plan, device, tokenizer, session)

    (curve, steps), plan = with_one_retry(once, fitted.plan, "reward")
    figures = reward_figures.report(_judged(RewardModel(out / "model"), held))
    say(f"  reward: {reward_figures.told(figures)}")
    record: dict[str, JsonValue] = {
        "start": settings.start,
        "pairs": len(rows.ids),
        "dropped": rows.dropped + held.dropped,
        "steps": steps,
        "held_out": figures,
        "held_out_split": "other splits" if all(p.split != "train" for p in split.held_out) else "whole documents",
        "plan": fitted._replace(plan=plan).to_json(),
        "curve": [dict(row) for row in curve],
    }
    write_json(out / RECORD, record)
    write_text(out / "README.md", card(record))
    for path in out.rglob("*"):
        if path.is_file():
            sync(path)
    (out / "complete").touch()
    return record


def require_pairs(pairs: Sequence[PreferencePair], settings: RewardSettings, seed: int) -> None:
    """Raise DatasetError for pairs of which none is left to learn from, or to measure on, however long they are."""
    split = split_pairs(pairs, settings.held_out, seed)
    if not split.learnt or not split.held_out:
        raise _too_few(f"{len(split.learnt)} and {len(split.held_out)} of {len(pairs)} pairs")


def _too_few(found: str) -> DatasetError:
    return DatasetError(
        "a reward model needs pairs to learn from and others to be measured on",
        where="train.reward",
        found=found,
        fix="Raise generate.preference_pairs or train.reward.max_length, or set train.reward.enabled=false.",
    )


class RewardModel:
    """A trained reward model that says how good replies are."""

    def __init__(self, folder: Path, centre: float = 0.0, spread: float = 1.0, device: str = "cpu") -> None:
        transformers = require("transformers", extra="train", to="use a reward model")
        torch = require("torch", extra="train", to="use a reward model")
        self.tokenizer = load_tokenizer(folder)
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        self.model.config.get_text_config().pad_token_id = self.tokenizer.pad_token_id
        self.model.eval().to(device)
        self.centre, self.spread, self.device = centre, spread or 1.0, device

    @classmethod
    def trained(cls, folder: Path, device: str = "cpu") -> RewardModel:
        """Load a finished reward model, its rewards scaled to mean 0 and variance 1 over the held-out replies.

        So a weight in the recipe means the same whatever the model's own scale (Ziegler et al. 2019, section 2.2).
        """
        held: dict[str, float] = json.loads((folder / RECORD).read_text(encoding="utf-8"))["held_out"]
        return cls(folder / "model", held["reward_mean"], held["reward_std"], device)

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> list[float]:
        """Return one reward for each reply to its prompt."""
        return self.score_ids(
            [_ids(prompt, reply, self.tokenizer) for prompt, reply in zip(prompts, replies, strict=True)]
        )

    def score_ids(self, rows: Sequence[list[int]]) -> list[float]:
        """Return one reward for each row of token ids."""
        torch = require("torch", extra="train", to="use a reward model")
        found: list[float] = []
        for start in range(0, len(rows), _SCORED_AT_ONCE):
            part = rows[start : start + _SCORED_AT_ONCE]
            longest = max(map(len, part))
            ids = torch.full((len(part), longest), self.tokenizer.pad_token_id)
            mask = torch.zeros_like(ids)
            for n, row in enumerate(part):
                ids[n, : len(row)] = torch.tensor(row)
                mask[n, : len(row)] = 1
            with torch.inference_mode():
                # the last token by the mask: a pad token that is also the end token would mislead the model's own search
                hidden = self.model.base_model(
                    input_ids=ids.to(self.device), attention_mask=mask.to(self.device)
                ).last_hidden_state
                last = hidden[torch.arange(len(part)), mask.sum(dim=1) - 1]
                found += [float(v) for v in self.model.score(last)[:, 0]]
        return [(value - self.centre) / self.spread for value in found]


def _ids(prompt: Conversation, reply: str, tokenizer: Any) -> list[int]:
    said = [*messages(prompt, tokenizer), {"role": "assistant", "content": reply}]
    return list(tokenizer.apply_chat_template(said, tokenize=True, return_dict=True)["input_ids"])


class _Rows(NamedTuple):
    """The pairs that fit, with the token ids of both sides."""

    pairs: list[PreferencePair]
    ids: list[dict[str, list[int]]]
    dropped: int


def _rows(pairs: Sequence[PreferencePair], tokenizer: Any, max_length: int) -> _Rows:
    every = [
        {"chosen_ids": _ids(p.prompt, p.chosen, tokenizer), "rejected_ids": _ids(p.prompt, p.rejected, tokenizer)}
        for p in pairs
    ]
    kept = [n for n, row in enumerate(every) if max(map(len, row.values())) <= max_length]
    if len(kept) < len(every):
        say(f"  {len(every) - len(kept)} of {len(every)} pairs are longer than {max_length} tokens and were left out")
    return _Rows([pairs[n] for n in kept], [every[n] for n in kept], len(every) - len(kept))


def _judged(model: RewardModel, held: _Rows) -> list[reward_figures.Judged]:
    chosen = model.score_ids([row["chosen_ids"] for row in held.ids])
    rejected = model.score_ids([row["rejected_ids"] for row in held.ids])
    return [
        reward_figures.Judged(group_of(pair), a, b, len(row["chosen_ids"]), len(row["rejected_ids"]))
        for pair, row, a, b in zip(held.pairs, held.ids, chosen, rejected, strict=True)
    ]


def _train(
    base: Path,
    rows: Sequence[dict[str, list[int]]],
    settings: RewardSettings,
    plan: MemoryPlan,
    device: Device,
    tokenizer: Any,
    session: Session,
) -> tuple[tuple[dict[str, float], ...], int]:
    trl = require("trl", extra="train", to="train a reward model")
    datasets = require("datasets", extra="train", to="train a reward model")
    transformers = require("transformers", extra="train", to="train a reward model")
    arguments = build_config(
        trl.RewardConfig,
        output_dir=str(session.work),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        max_length=plan.max_length,
        center_rewards_coefficient=settings.centre or None,
        disable_dropout=settings.lora.dropout == 0,  # TRL switches it off unless told otherwise
        eval_strategy="no",
        weight_decay=0.0,
        **common_options(device, plan, session),
    )
    transformers.set_seed(session.seed)  # the head begins with random numbers
    model = load_model(base, plan, has_score=True)
    adapter = adapter_config(settings.lora, model, "reward")
    adapter.task_type = "SEQ_CLS"
    adapter.modules_to_save = ["score"]
    trainer = watched(trl.RewardTrainer, "reward")(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(list(rows)),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[curves(session.tracker, "reward")],
    )
    lighten(trainer.model, settings.lora, device)
    train_or_resume(trainer, session.work)
    curve = tuple(
        {k: float(v) for k, v in sorted(row.items()) if k in _KEPT_FIGURES and math.isfinite(v)}
        for row in trainer.state.log_history
        if "loss" in row
    )
    _save(base, trainer, session.out)
    return curve, int(trainer.state.global_step)


def _save(base: Path, trainer: Any, out: Path) -> None:
    """Keep the adapter, and the whole model with the adapter merged in: the latter is what is measured and asked."""
    peft = require("peft", extra="train", to="train a reward model")
    trainer.model.save_pretrained(out / "adapter", safe_serialization=True)
    (out / "adapter" / "README.md").unlink(missing_ok=True)
    model = peft.PeftModel.from_pretrained(load_model(base, has_score=True), out / "adapter").merge_and_unload(
        safe_merge=True
    )
    model.config.use_cache = True
    model.save_pretrained(out / "model", safe_serialization=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"):
        if (base / name).is_file():
            shutil.copyfile(base / name, out / "model" / name)
    config = json.loads((out / "model" / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    write_json(out / "model" / "config.json", config)
    shutil.rmtree(out / "adapter")  # its head and its updates are in the model
