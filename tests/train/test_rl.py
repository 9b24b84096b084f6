"""Reinforcement on tiny weights: a simple rule is learnt, every method can be resumed, nothing spoilt is kept."""

import json
import re
import shutil
import string
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError
from sessions import session_in

from fieldwise.errors import DatasetError, MissingExtra, ModelError
from fieldwise.hashing import sha256_of_files
from fieldwise.prompts import closed_prompt
from fieldwise.records import NOT_STATED, Example, Message
from fieldwise.tracking import JsonlTracker
from fieldwise.train import ppo, rl
from fieldwise.train.memory import Work
from fieldwise.train.plan import Fitted, preset_alone
from fieldwise.train.rewards import RULES, Case
from fieldwise.train.settings import LoraSettings, PpoSettings, RlSettings, TrainSettings


def _letters(case: Case, reply: str) -> float:
    """A rule that random weights can learn: the share of small letters."""
    return sum(c in string.ascii_lowercase for c in reply) / max(1, len(reply))


@pytest.fixture(autouse=True)
def letters_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "answer", _letters)


SETTINGS = RlSettings(
    enabled=True,
    rewards={"answer": 1.0, "declines": 0.5},
    max_steps=4,
    learning_rate=1e-3,
    batch_size=8,
    generations=4,
    max_new_tokens=6,
    max_length=256,
    lora=LoraSettings(rank=8, alpha=16),
)


QUESTIONS = (
    "How many tablets does the patient take?",
    "When may a tenant end the lease?",
    "What does the fund charge a year?",
    "With what is the wound washed?",
    "When is the deposit paid back?",
    "Who signs the log of visitors?",
    "How long are the records kept?",
    "Where is the key of the store?",
)


def train(base: Path, examples, device, folder: Path, settings=SETTINGS, tracker=None, reward_model=None):
    return rl.train_rl(base, examples, settings, device, reward_model=reward_model, session=session_in(folder, tracker))


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.iterdir() if p.is_file()], folder)


class Interrupting(JsonlTracker):
    def log(self, stage, step, figures):
        if step >= 3 and "loss" in figures:
            raise KeyboardInterrupt
        super().log(stage, step, figures)


@pytest.mark.parametrize("method", ["rloo", "grpo", "ppo"])
def test_every_method_trains_shows_its_rewards_and_resumes_to_the_same_bytes(
    method, base, examples, device, tmp_path, capsys
) -> None:
    settings = SETTINGS.model_copy(update={"method": method})
    whole = train(base, examples, device, tmp_path / "whole", settings)
    line = next(s for s in capsys.readouterr().err.splitlines() if "rl step 1/4" in s)
    assert re.search(r"reward \d\.\d{3}, KL -?\d\.\d+, \d+ tokens/s, \d+\.\d GB, about \d+ s left$", line), line
    assert whole.steps == 4 and len(whole.curve) == 4
    for row in whole.curve:
        assert {"step", "loss", "reward", "kl", "rewards/answer/mean", "rewards/declines/mean"} <= set(row)
        assert row["reward"] == pytest.approx(row["rewards/answer/mean"] + 0.5 * row["rewards/declines/mean"], abs=1e-5)
    assert whole.curve[0]["kl"] == pytest.approx(0, abs=1e-5)  # it starts where it is measured from
    assert any(abs(row["kl"]) > 1e-6 for row in whole.curve[1:])
    assert {"reward", "kl", "answer_reward", "reward_at_start", "reward_of_known_replies"} <= set(whole.figures)
    assert whole.figures["reward_of_known_replies"] == pytest.approx(
        0.5 + sum(_letters(None, e.answer) for e in examples) / 8
    )
    assert whole.about["method"] == method and whole.about["curve_shows"]["state"] == "too_short"
    assert digest(whole.merged) != digest(base)
    assert {p.suffix for p in whole.adapter.iterdir()} <= {".safetensors", ".json", ".jinja"}

    with pytest.raises(KeyboardInterrupt):
        train(base, examples, device, tmp_path, settings, Interrupting(tmp_path / "curve.jsonl"))
    assert [p.name for p in (tmp_path / "work").glob("checkpoint-*")] == ["checkpoint-2"]
    again = train(base, examples, device, tmp_path, settings)
    assert digest(again.adapter) == digest(whole.adapter) and digest(again.merged) == digest(whole.merged)
    assert json.dumps(again.curve) == json.dumps(whole.curve) and again.figures == whole.figures


@pytest.mark.parametrize("method", ["rloo", "ppo"])
def test_weights_that_are_spoilt_stop_it(method, base, examples, device, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"not (a number|numbers)") as caught:
        train(broken, examples, device, tmp_path, SETTINGS.model_copy(update={"method": method}))
    assert "train.rl" in str(caught.value)


def test_a_spoilt_step_of_ppo_keeps_the_checkpoint_before_it(base, examples, device, tmp_path, monkeypatch) -> None:
    learn = ppo.Learner.learn

    def spoilt(self, rollout, found):
        if self.step == 3:
            rollout.logps[0, 0] = float("nan")
        return learn(self, rollout, found)

    monkeypatch.setattr(ppo.Learner, "learn", spoilt)
    with pytest.raises(ModelError, match="not a number at step 4") as caught:
        train(base, examples, device, tmp_path, SETTINGS.model_copy(update={"method": "ppo"}))
    assert "checkpoint-2" in str(caught.value) and "train.rl.learning_rate" in str(caught.value)
    monkeypatch.undo()
    assert train(base, examples, device, tmp_path, SETTINGS.model_copy(update={"method": "ppo"})).steps == 4


def test_too_few_prompts_are_told_with_what_to_change(base, examples, device, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="0 to which a reward applies"):
        train(base, examples, device, tmp_path, SETTINGS.model_copy(update={"rewards": {"json": 1.0}}))
    with pytest.raises(DatasetError, match=r"train\.rl\.max_length"):
        train(base, examples, device, tmp_path, SETTINGS.model_copy(update={"max_length": 64}))
    with pytest.raises(DatasetError, match="a step takes 4"):
        train(base, examples[:1], device, tmp_path, SETTINGS.model_copy(update={"batch_size": 16}))


def test_what_rewards_need_is_told_before_anything_is_trained(examples, monkeypatch) -> None:
    rl.require_prompts(examples, SETTINGS)
    with pytest.raises(DatasetError, match="0 to which a reward applies; a step takes 2"):
        rl.require_prompts(examples, SETTINGS.model_copy(update={"rewards": {"json": 1.0}}))
    with pytest.raises(DatasetError, match=r"found 1 to which.*train\.rl\.prompts"):
        rl.require_prompts(examples, SETTINGS.model_copy(update={"prompts": 1}))
    asked = Message(role="user", content='Read it.\n\nSchema:\n{"type": "object"}\n\nQuestion: Which?')
    with_schema = examples[0].model_copy(
        update={"conversation": (examples[0].conversation[0], asked, Message(role="assistant", content="{}"))}
    )
    own = SETTINGS.model_copy(update={"rewards": {"json": 1.0}, "batch_size": 4})
    rl.require_prompts([with_schema], own)
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(MissingExtra, match=r"reward JSON that fits its schema.*fieldwise\[eval\]"):
        rl.require_prompts([with_schema], own)
    rl.require_prompts(examples, SETTINGS.model_copy(update={"rewards": {"json": 1.0, "answer": 1.0}}))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"method": "rloo", "clip": 0.1}, "clip is a setting of ppo"),
        ({"method": "grpo", "ppo": {"epochs": 2}}, "ppo is a setting of ppo"),
        ({"method": "ppo", "generations": 8}, "generations is a setting of rloo and grpo"),
        ({"method": "ppo", "lora": {"dropout": 0.1}}, "chance would move them"),
    ],
)
def test_a_setting_that_reinforcement_would_ignore_is_refused(own, said) -> None:
    with pytest.raises(ValidationError, match=said):
        RlSettings.model_validate(own)


def test_every_prompt_has_its_turn_in_another_order_each_round() -> None:
    cases = [Case(str(n), closed_prompt(str(n)), "x") for n in range(6)]
    asked = [case.id for step in range(6) for case in ppo.batch_of(cases, step, 4, seed=1)]
    rounds = [asked[n : n + 6] for n in range(0, 24, 6)]
    assert all(sorted(one) == list("012345") for one in rounds) and len({tuple(one) for one in rounds}) == 4
    assert ppo.batch_of(cases, 3, 4, seed=1) == ppo.batch_of(cases, 3, 4, seed=1)


def test_what_is_in_memory_at_once_changes_no_step_of_ppo(base, examples, device, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"method": "ppo", "max_steps": 1, "micro_batch_size": 8, "ppo": PpoSettings(epochs=1, minibatches=1)}
    )
    whole = train(base, examples, device, tmp_path / "whole", settings).curve[0]

    def fitter(measured):
        plan = preset_alone("rl", TrainSettings(rl=settings), device)(measured).plan
        return Fitted(replace(plan, micro_batch=2, accumulation=4, activation_checkpointing=True), None, None, ())

    parts = rl.train_rl(base, examples, settings, device, reward_model=None, session=session_in(tmp_path, fitter=fitter)).curve[0]  # fmt: skip
    assert whole["grad_norm"] > 0.01
    for name in ("reward", "loss", "value_loss", "grad_norm"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-3, abs=1e-6)


def test_the_weight_of_the_distance_is_steered_and_survives_an_interruption(base, examples, device, tmp_path) -> None:
    settings = SETTINGS.model_copy(update={"method": "ppo", "ppo": PpoSettings(target_kl=5.0, minibatches=2)})
    weights = [row["kl_weight"] for row in train(base, examples, device, tmp_path / "whole", settings).curve]
    # it starts at 0.05 without any distance: e = -0.2, so 0.05 * 0.98
    assert weights[:2] == pytest.approx([0.05, 0.049]) and weights[3] != weights[2]
    with pytest.raises(KeyboardInterrupt):
        train(base, examples, device, tmp_path, settings, Interrupting(tmp_path / "curve.jsonl"))
    assert [row["kl_weight"] for row in train(base, examples, device, tmp_path, settings).curve] == weights


def test_the_learner_reads_off_the_probabilities_that_were_drawn_from(base, device, tmp_path: Path) -> None:
    """Padding left of a prompt and behind a reply changes no token's probability, and a wider temperature is honoured."""
    import torch
    from transformers import AutoModelForCausalLM

    settings = SETTINGS.model_copy(update={"temperature": 2.0})
    plan = preset_alone("rl", TrainSettings(rl=settings), device)(lambda p: Work(1, 1, 1)).plan
    learner = ppo.Learner(base, settings, plan, device, tmp_path, 7, 4)
    cases = [
        Case("a", closed_prompt("How long?"), "x"),
        Case("b", closed_prompt("How many tablets does the patient take every eight hours?"), "x"),
    ]
    rollout = learner.draw(cases)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for n in range(2):
        ids = rollout.ids[n][rollout.attention[n].bool()]
        count = int(rollout.mask[n].sum())
        with torch.no_grad():
            logps = (model(ids[None]).logits[0, :-1] / 2.0).log_softmax(-1)
        expected = logps[torch.arange(len(ids) - 1), ids[1:]][-count:]
        assert torch.allclose(rollout.logps[n][:count], expected, atol=1e-4)
    assert torch.equal(rollout.logps, rollout.reference_logps) and not rollout.values.any()


def test_the_reward_model_is_one_more_reward(base, examples, device, tmp_path: Path) -> None:
    from test_reward import fit

    fit(base, device, tmp_path / "reward")
    settings = SETTINGS.model_copy(update={"rewards": {"declines": 0.5, "reward_model": 1.0}, "max_steps": 2})
    for method in ("rloo", "ppo"):
        outcome = train(
            base, examples, device, tmp_path / method, settings.model_copy(update={"method": method}),
            reward_model=tmp_path / "reward/done",
        )  # fmt: skip
        for row in outcome.curve:
            assert row["reward"] == pytest.approx(
                row["rewards/reward_model/mean"] + 0.5 * row["rewards/declines/mean"], abs=1e-4
            )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ppo", "rloo", "grpo"])
def test_the_embedded_base_learns_to_decline(method, device, tmp_path: Path) -> None:
    """Drawn at random it declines at times, how often hangs on the weights shipped; rewarded for it, most of the time."""
    import fieldwise_nano

    examples = [
        Example.make(
            question=question,
            answer=NOT_STATED,
            kind="invented",
            conversation=(*closed_prompt(question), Message(role="assistant", content=NOT_STATED)),
        )
        for question in QUESTIONS
    ]
    settings = RlSettings(
        enabled=True,
        method=method,
        rewards={"declines": 1.0},
        max_steps=10,
        learning_rate=2e-3,
        batch_size=16,
        micro_batch_size=16,
        max_new_tokens=7,
        temperature=2.0,
        kl=0.005,
        **({"ppo": PpoSettings(epochs=2)} if method == "ppo" else {}),
    )
    outcome = train(fieldwise_nano.weights(), examples, device, tmp_path, settings)
    rewards = [row["rewards/declines/mean"] for row in outcome.curve]
    first, last = sum(rewards[:2]) / 2, sum(rewards[-3:]) / 3
    assert last > 0.65 and last - first > 0.2, rewards
    assert outcome.about["curve_shows"]["state"] == "rising"
