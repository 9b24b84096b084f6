"""A reward model on tiny weights: it learns what tells the sides of pairs apart, is measured, and can be resumed."""

import json
import shutil
from pathlib import Path

import pytest
from sessions import session_in

from fieldwise.errors import DatasetError, ModelError
from fieldwise.hashing import sha256_of_files
from fieldwise.prompts import closed_prompt
from fieldwise.records import PreferencePair
from fieldwise.tracking import JsonlTracker
from fieldwise.train.reward import RewardModel, require_pairs, split_pairs, train_reward
from fieldwise.train.settings import LoraSettings, RewardSettings

SETTINGS = RewardSettings(
    enabled=True, max_steps=12, learning_rate=5e-3, batch_size=4, max_length=256, lora=LoraSettings(rank=8, alpha=16)
)


def pair(number: int, **more) -> PreferencePair:
    return PreferencePair.make(
        prompt=closed_prompt(f"How long is term {number} of the lease?"),
        chosen=f"{number} months of notice",
        rejected="Not stated in the documents.",
        judge="rules",
        reason="over_refusal",
        document_ids=(f"doc{number % 10}",),
        **more,
    )


PAIRS = [pair(n) for n in range(40)]


def fit(base: Path, device, folder: Path, tracker=None, settings=SETTINGS, pairs=PAIRS):
    return train_reward(base, pairs, settings, device, session=session_in(folder, tracker, save_steps=5))


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.rglob("*") if p.is_file()], folder)


@pytest.fixture(scope="module")
def trained(base, device, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward")
    return fit(base, device, folder), folder


def test_it_tells_held_out_pairs_apart_and_says_how_surely(trained) -> None:
    record, folder = trained
    held = record["held_out"]
    assert held["pairs"] >= 4 and held["accuracy"]["value"] == 1.0 and held["accuracy"]["low"] < 1.0
    assert held["longer_wins"]["value"] < 1.0 and held["above_longer_wins"]["value"] > 0
    assert record["curve"][-1]["loss"] < record["curve"][0]["loss"] - 0.2
    assert {"accuracy", "margin", "loss"} <= set(record["curve"][0])
    assert (folder / "curve.jsonl").read_text().count('"stage": "reward"') >= 12


def test_what_is_left_is_safetensors_with_a_card(trained, base) -> None:
    _, folder = trained
    files = {p.relative_to(folder / "done").as_posix() for p in (folder / "done").rglob("*") if p.is_file()}
    assert {"model/model.safetensors", "model/config.json", "model/tokenizer.json", "README.md", "reward.json"} <= files
    assert all(name.endswith((".safetensors", ".json", ".jinja", ".md")) or name == "complete" for name in files)
    assert str(base) not in (folder / "done/model/config.json").read_text()
    card = (folder / "done/README.md").read_text()
    assert "longer reply wins (baseline)" in card and "| accuracy | 1.000 [" in card


def test_the_saved_model_scores_a_reply_whatever_stands_beside_it(trained) -> None:
    _, folder = trained
    model = RewardModel(folder / "done/model")
    prompts = [PAIRS[0].prompt, PAIRS[1].prompt, closed_prompt("How often are tablets taken every day by the patient?")]
    together = model.score(prompts, ["2 months of notice", "Not stated in the documents.", "1"])
    alone = [model.score([p], [r])[0] for p, r in zip(prompts, ["2 months of notice", "Not stated in the documents.", "1"], strict=True)]  # fmt: skip
    assert together == pytest.approx(alone, abs=1e-4)
    assert together[0] > together[1] + 0.5


def test_rewards_are_scaled_to_the_held_out_replies(trained) -> None:
    record, folder = trained
    plain, scaled = RewardModel(folder / "done/model"), RewardModel.trained(folder / "done")
    value = plain.score([PAIRS[0].prompt], ["yes"])[0]
    held = record["held_out"]
    assert scaled.score([PAIRS[0].prompt], ["yes"])[0] == pytest.approx(
        (value - held["reward_mean"]) / held["reward_std"]
    )


def test_transformers_alone_loads_it_and_agrees(trained) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    _, folder = trained
    ours = RewardModel(folder / "done/model")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "done/model", dtype=torch.float32)
    ids = ours.tokenizer.apply_chat_template(
        [*({"role": m.role, "content": m.content} for m in PAIRS[0].prompt), {"role": "assistant", "content": "2 months"}],
        tokenize=True, return_dict=True,
    )["input_ids"]  # fmt: skip
    with torch.no_grad():
        assert model(torch.tensor([ids])).logits.item() == pytest.approx(ours.score_ids([ids])[0], abs=1e-4)


def test_interrupted_and_run_again_it_ends_in_the_same_bytes(trained, base, device, tmp_path: Path) -> None:
    class Interrupting(JsonlTracker):
        def log(self, stage, step, figures):
            if step >= 8 and "loss" in figures:
                raise KeyboardInterrupt
            super().log(stage, step, figures)

    with pytest.raises(KeyboardInterrupt):
        fit(base, device, tmp_path, Interrupting(tmp_path / "curve.jsonl"))
    again = fit(base, device, tmp_path)
    record, folder = trained
    assert json.dumps(again) == json.dumps(record)
    assert digest(tmp_path / "done") == digest(folder / "done")
    assert fit(base, device, tmp_path) == again  # finished: nothing is trained


def test_pairs_of_a_document_stay_on_one_side() -> None:
    found = split_pairs(PAIRS, 0.3, 7)
    learnt, held = ({p.document_ids for p in side} for side in found)
    assert found.learnt and found.held_out and not learnt & held
    assert split_pairs(PAIRS[::-1], 0.3, 7).held_out[::-1] == found.held_out  # whatever the order
    assert len({p.id for side in split_pairs(PAIRS[:4], 0.01, 7) for p in side}) == 4
    assert split_pairs(PAIRS[:4], 0.01, 7).held_out  # at least one


def test_pairs_of_other_splits_are_for_measuring() -> None:
    others = [pair(n, split="validation") for n in range(100, 112)]
    found = split_pairs([*PAIRS, *others], 0.2, 7)
    assert found.held_out == others and found.learnt == PAIRS


def test_without_pairs_or_with_too_long_ones_it_says_what_to_change(base, device, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"train\.reward\.max_length"):
        fit(base, device, tmp_path, settings=SETTINGS.model_copy(update={"max_length": 64}), pairs=PAIRS[:2])
    with pytest.raises(DatasetError, match=r"0 and 0 of 0 pairs"):
        fit(base, device, tmp_path, pairs=[])


def test_a_loss_that_is_no_number_stops_and_names_the_section(base, device, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not a number at step 1") as caught:
        fit(broken, device, tmp_path)
    assert "train.reward.learning_rate" in str(caught.value)


def test_what_it_lacks_is_told_before_anything_is_trained() -> None:
    require_pairs(PAIRS, SETTINGS, seed=7)
    with pytest.raises(DatasetError, match=r"train\.reward: .*found 0 and 0 of 0 pairs"):
        require_pairs([], SETTINGS, seed=7)


def test_dropout_of_its_adapter_is_not_switched_off(trained, base, device, tmp_path: Path) -> None:
    own = SETTINGS.model_copy(update={"max_steps": 3, "lora": LoraSettings(rank=8, alpha=16, dropout=0.5)})
    losses = [row["loss"] for row in fit(base, device, tmp_path, settings=own)["curve"]]
    plain = SETTINGS.model_copy(update={"max_steps": 3})
    without = [row["loss"] for row in fit(base, device, tmp_path / "plain", settings=plain)["curve"]]
    assert losses[1:] != without[1:]
