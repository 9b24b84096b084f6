"""The train stage with a reward model and reinforcement behind SFT and DPO, and the recipe that asks for them."""

import json
from pathlib import Path

import pytest

from fieldwise.engine.base_weights import resolve
from fieldwise.errors import RecipeError
from fieldwise.files import write_json
from fieldwise.lineage import Lineage
from fieldwise.recipe import load_recipe
from fieldwise.records import Adapter, Example, PreferencePair
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import write_records
from fieldwise.train import reward, stage
from fieldwise.train.adapter_record import merged_hash
from fieldwise.train.forecast import told_before
from fieldwise.train.hardware import PRESETS, Device
from fieldwise.train.memory import Work, estimate
from fieldwise.train.plan import first_plan
from fieldwise.train.settings import (
    LoraSettings,
    PreferenceSettings,
    RewardSettings,
    RlSettings,
    SftSettings,
    TrainSettings,
)
from fieldwise.train.shape import read_shape

LORA = LoraSettings(rank=4, alpha=8)
SETTINGS = TrainSettings(
    hardware="cpu",
    precision="float32",
    threads=1,
    sft=SftSettings(max_steps=2, batch_size=2, max_length=256, lora=LORA),
    preference=PreferenceSettings(max_steps=2, batch_size=4, max_length=256, lora=LORA),
    reward=RewardSettings(enabled=True, max_steps=3, batch_size=4, max_length=256, lora=LORA),
    rl=RlSettings(
        enabled=True,
        method="ppo",
        rewards={"answer": 1.0, "declines": 1.0, "reward_model": 0.5},
        max_steps=2,
        batch_size=4,
        max_new_tokens=4,
        max_length=256,
        lora=LORA,
    ),
)


@pytest.fixture
def run(tmp_path: Path, examples, pairs) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    (folder.path / "3_examples").mkdir(parents=True)
    write_records(folder.path / "3_examples/train.parquet", examples, Example)
    write_records(folder.path / "3_examples/validation.parquet", examples[:2], Example)
    write_records(folder.path / "3_examples/preferences.parquet", pairs, PreferencePair)
    return folder


def test_the_result_is_a_candidate_of_its_own_with_its_parents(run, base, examples, pairs, monkeypatch) -> None:
    weights = resolve(str(base))
    step = StepRun(run, "4b_train", "0" * 64, 7)
    facts = stage.run(SETTINGS, weights, step)
    assert {"sft", "preference", "reward", "rl"} <= set(facts)
    out = step.staging / "4_adapters"
    assert {p.name for p in out.iterdir()} == {"sft", "preference", "reward", "rl"}
    assert not list(out.rglob("complete"))
    preferred, reinforced = (
        Adapter.model_validate_json((out / f"{n}/adapter.json").read_text()) for n in ("preference", "rl")
    )
    assert (reinforced.method, reinforced.parent) == ("ppo", preferred.id)
    assert reinforced.base_sha256 == merged_hash(out / "preference")
    assert set(reinforced.example_ids) == {e.id for e in examples} | {p.id for p in pairs}
    assert {"reward", "kl", "reward_model_reward", "answer_reward"} <= set(reinforced.metrics)
    config = json.loads((out / "rl/adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "4_adapters/preference/merged"
    assert (out / "reward/model/model.safetensors").is_file() and "Reward model" in (
        out / "reward/README.md"
    ).read_text()
    assert facts["reward"]["held_out"]["pairs"] >= 1 and "curve" not in facts["reward"]
    stages = {json.loads(line)["stage"] for line in (run.path / "curves.jsonl").read_text().splitlines()}
    assert {"sft", "preference", "reward", "rl"} <= stages

    # killed before it was published, and run again: nothing is trained a second time
    for name in ("train_sft", "train_preference", "train_rl"):
        monkeypatch.setattr(stage, name, None)
    monkeypatch.setattr(reward, "train_or_resume", None)
    again = StepRun(run, "4b_train", "0" * 64, 7)
    assert json.dumps(stage.run(SETTINGS, weights, again)) == json.dumps(facts)


def test_the_trace_of_a_pair_leads_to_it(run, pairs) -> None:
    adapter = Adapter(
        id="ada_rl",
        method="rloo",
        base_sha256="0",
        parent="ada_preferred",
        recipe_hash="0",
        example_ids=(pairs[0].id,),
        path="x",
    )
    write_json(run.path / "4_adapters/rl/adapter.json", adapter.model_dump(mode="json"))
    assert Lineage(run).find("ada_rl").label == "rloo, 1 examples"


def test_what_they_take_is_told_before_the_run(run, base) -> None:
    lines = told_before(SETTINGS, base, run.path).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["sft", "preference", "reward", "rl"]
    assert "pairs of 256 tokens" in lines[2] and "replies of 256 tokens" in lines[3]


def test_a_reward_model_beside_the_policy_is_counted(base) -> None:
    plan = first_plan("rl", SETTINGS, SETTINGS.rl, PRESETS["cpu"], Device("cpu", 1, False))
    shape = read_shape(base)
    alone, beside = (estimate(shape, plan, Work(4, 100, 16, other_bytes=extra)).peak for extra in (0.0, 5e9))
    assert beside - alone == pytest.approx(5e9)


def test_a_recipe_that_asks_for_neither_keeps_its_key() -> None:
    keyed = TrainSettings().keyed()
    assert "reward" not in keyed and "rl" not in keyed and "preference" in keyed
    assert {"reward", "rl"} <= set(SETTINGS.keyed())
    # what is switched off may be written about without any work
    assert TrainSettings(rl=RlSettings(max_steps=5), reward=RewardSettings(epochs=3)).keyed() == keyed


def test_what_two_settings_say_wrong_together_is_told_before_any_work() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(
            None,
            (
                "train.rl.enabled=true",
                "train.rl.rewards={reward_model: 1}",
                "train.rl.batch_size=10",
            ),
        )
    message = str(caught.value)
    assert "the reward model is not trained" in message and "train.reward.enabled=true" in message
    assert "no divisor of the 10 replies" in message
    with pytest.raises(RecipeError, match="rl is measured only after reinforcement"):
        load_recipe(None, ("evaluate.systems=[base, rag_base, sft, preference, rl, rag_tuned]",))
    with pytest.raises(RecipeError, match=r"train\.rl\.rewards"):
        load_recipe(None, ("train.rl.rewards={anwser: 1}",))
    with pytest.raises(RecipeError, match=r"train\.rl\.rewards"):
        load_recipe(None, ("train.rl.rewards={answer: 0}",))
    load_recipe(None, ("train.rl.enabled=true", "evaluate.systems=[base, rag_base, preference, rl, rag_tuned]"))
    load_recipe(None, ("train.rl.batch_size=10", "train.rl.method=ppo", "train.rl.enabled=true"))
