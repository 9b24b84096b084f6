"""Ways of supervised fine-tuning on tiny weights: all weights, DoRA, rsLoRA, PiSSA; what each refuses."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from sessions import session_in

from fieldwise.adapters.factors import AdapterFiles, read_updates
from fieldwise.engine.base_weights import resolve
from fieldwise.errors import ModelError
from fieldwise.files import read_json
from fieldwise.hashing import sha256_of_files
from fieldwise.records import Adapter, Example, PreferencePair
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import write_records
from fieldwise.tracking import JsonlTracker
from fieldwise.train import rows, stage
from fieldwise.train.adapter_record import merged_hash
from fieldwise.train.plan import told
from fieldwise.train.settings import LoraSettings, PreferenceSettings, SftSettings, TrainSettings
from fieldwise.train.sft import train_sft

SMALL = SftSettings(max_steps=4, learning_rate=5e-3, batch_size=2, max_length=256)
FULL = SMALL.model_copy(update={"method": "full", "learning_rate": 1e-3})


def sft(base: Path, examples, device, folder: Path, settings: SftSettings, tracker=None):
    return train_sft(base, examples, examples[:2], settings, device, session=session_in(folder, tracker))


def lora(**own) -> SftSettings:
    return SMALL.model_copy(update={"lora": LoraSettings(rank=4, alpha=8, **own)})


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.iterdir() if p.is_file()], folder)


class Interrupting(JsonlTracker):
    def log(self, stage, step, figures):
        if step >= 3 and "loss" in figures:
            raise KeyboardInterrupt
        super().log(stage, step, figures)


def logits(folder: Path, adapter: Path | None = None) -> torch.Tensor:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return (PeftModel.from_pretrained(model, adapter) if adapter else model)(
            torch.arange(40, 80).unsqueeze(0)
        ).logits


def test_full_fine_tuning_moves_every_weight_and_leaves_no_adapter(base, examples, device, tmp_path) -> None:
    outcome = sft(base, examples, device, tmp_path, FULL)
    losses = [row["loss"] for row in outcome.curve if "loss" in row]
    before, after = load_file(base / "model.safetensors"), load_file(outcome.merged / "model.safetensors")
    assert losses[-1] < losses[0] - 0.1 and outcome.adapter is None and not (tmp_path / "done/adapter").exists()
    assert before.keys() == after.keys() and all(not torch.equal(before[k], after[k]) for k in before)
    assert {w.dtype for w in after.values()} == {torch.float32}
    assert (outcome.merged / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert json.loads((outcome.merged / "config.json").read_text())["use_cache"] is True


@pytest.mark.parametrize(
    "settings", [FULL, lora(start="pissa"), lora(dropout=0.2)], ids=["full", "pissa", "dropout_and_packing"]
)
def test_interrupted_and_run_again_it_ends_in_the_same_weights(settings, base, examples, device, tmp_path) -> None:
    whole = sft(base, examples, device, tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt):
        sft(base, examples, device, tmp_path, settings, Interrupting(tmp_path / "curve.jsonl"))
    again = sft(base, examples, device, tmp_path, settings)
    assert again.about["plan"]["packing"] and [p.name for p in (tmp_path / "work").glob("checkpoint-2")]
    assert digest(again.merged) == digest(whole.merged) and json.dumps(again.curve) == json.dumps(whole.curve)


def test_full_early_stopping_takes_the_weights_of_the_best_step(base, examples, device, tmp_path) -> None:
    steep = FULL.model_copy(update={"learning_rate": 0.3, "evaluate_every_steps": 1, "early_stopping": 2})
    outcome = sft(base, examples, device, tmp_path, steep)
    held = {row["step"]: row["eval_loss"] for row in outcome.curve if "eval_loss" in row}
    del held[0]  # before training, which is no result of it
    best = min(held, key=lambda step: held[step])
    assert outcome.steps < 4 or best < 4
    assert outcome.about["weights_of_step"] == best and outcome.figures["eval_loss"] == held[best]
    kept = load_file(tmp_path / f"work/checkpoint-{best:.0f}/model.safetensors")
    merged = load_file(outcome.merged / "model.safetensors")
    assert all(torch.equal(merged[name], weight) for name, weight in kept.items() if name in merged)


@pytest.mark.parametrize(
    "own",
    [{"dora": True}, {"rank_stabilised": True}, {"start": "pissa"}, {"dora": True, "rank_stabilised": True}],
    ids=["dora", "rslora", "pissa", "dora_rslora"],
)
def test_every_kind_of_adapter_learns_and_fits_the_base_as_it_is(own, base, examples, device, tmp_path) -> None:
    outcome = sft(base, examples, device, tmp_path, lora(**own))
    losses = [row["loss"] for row in outcome.curve if "loss" in row]
    config = json.loads((outcome.adapter / "adapter_config.json").read_text())
    assert losses[-1] < losses[0]
    assert config["use_dora"] is bool(own.get("dora")) and config["use_rslora"] is bool(own.get("rank_stabilised"))
    assert config["init_lora_weights"] is True and config["r"] == (8 if "start" in own else 4)
    assert torch.allclose(logits(outcome.merged), logits(base, outcome.adapter), atol=1e-4)
    assert not torch.allclose(logits(outcome.merged), logits(base), atol=1e-3)
    if "dora" in own:
        assert any("magnitude" in name for name in load_file(outcome.adapter / "adapter_model.safetensors"))


def test_dora_adapters_are_not_added_to_others_and_rslora_ones_by_their_scale(base, examples, device, tmp_path) -> None:
    one = SMALL.model_copy(update={"max_steps": 2})  # the first warms up
    dora = sft(base, examples, device, tmp_path / "d", one.model_copy(update={"lora": LoraSettings(rank=4, dora=True)}))
    files = AdapterFiles(dora.adapter / "adapter_config.json", dora.adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="DoRA"):
        read_updates(files)
    own = LoraSettings(rank=4, alpha=8, rank_stabilised=True)
    found = sft(base, examples, device, tmp_path / "r", one.model_copy(update={"lora": own}))
    updates = read_updates(
        AdapterFiles(found.adapter / "adapter_config.json", found.adapter / "adapter_model.safetensors")
    )
    before, after = load_file(base / "model.safetensors"), load_file(found.merged / "model.safetensors")
    name = "model.layers.0.mlp.up_proj"
    moved = (after[f"{name}.weight"] - before[f"{name}.weight"]).double().numpy()
    assert abs(updates[name].dense() - moved).max() < 1e-6 < abs(moved).max()


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"sft": {"method": "full"}, "quantisation": "4bit"}, "full cannot train 4bit weights"),
        ({"sft": {"method": "full"}, "weights": "bfloat16"}, "float32, since bfloat16 loses small updates"),
        ({"sft": {"lora": {"start": "pissa"}}, "quantisation": "8bit"}, "not of 8bit ones"),
        ({"sft": {"lora": {"start": "pissa", "dora": True}}}, "pissa moves weights whose lengths dora learns"),
        ({"preference": {"lora": {"start": "pissa"}}}, "it is for train.sft and train.pretrain alone"),
        ({"sft": {"lora": {"start": "pissa"}, "curriculum": {"enabled": True}}}, "begins anew with each phase"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_reason(own, message) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainSettings.model_validate(own)


def test_modules_by_a_broken_expression_are_refused_with_the_recipe() -> None:
    with pytest.raises(ValueError, match=r"no regular expression: unterminated character set.*\[q_proj, v_proj\]"):
        LoraSettings(target_modules="[q_proj")


def test_settings_that_say_nothing_are_no_part_of_the_key() -> None:
    keyed = TrainSettings().keyed()
    assert "pretrain" not in keyed and keyed["sft"]["lora"].keys() == {"rank", "alpha", "dropout", "target_modules"}
    assert not {"method", "curriculum"} & keyed["sft"].keys() and keyed["preference"]["method"] == "dpo"
    asked = TrainSettings.model_validate({"sft": {"method": "full", "curriculum": {"enabled": True}}}).keyed()
    assert asked["sft"]["method"] == "full" and asked["sft"]["curriculum"]["replay"] == 0.0


def test_the_plan_of_a_full_fine_tuning_counts_all_weights(
    base, examples, device, tmp_path, monkeypatch, capsys
) -> None:
    seen = []
    monkeypatch.setattr(rows, "told", lambda fitted, training: seen.append(fitted) or told(fitted, training))
    wide = FULL.model_copy(update={"max_steps": 1, "lora": LoraSettings(rank=8)})
    sft(base, examples, device, tmp_path, wide)
    assert seen[0].plan.rank is None and seen[0].plan.weights == "float32"
    told_it = capsys.readouterr().err
    assert "float32 weights, all of them trained" in told_it and "leaves train.sft.lora unused" in told_it


def test_preferences_go_on_from_weights_that_were_trained_whole(base, examples, pairs, tmp_path) -> None:
    run = RunFolder(tmp_path / "run")
    (run.path / "3_examples").mkdir(parents=True)
    write_records(run.path / "3_examples/train.parquet", examples, Example)
    write_records(run.path / "3_examples/validation.parquet", examples[:2], Example)
    write_records(run.path / "3_examples/preferences.parquet", pairs, PreferencePair)
    settings = TrainSettings(
        sft=FULL.model_copy(update={"max_steps": 1}),
        preference=PreferenceSettings(max_steps=1, batch_size=4, max_length=256, lora=LoraSettings(rank=4)),
        precision="float32",
        hardware="cpu",
    )
    step = StepRun(run, "4b_train", "0" * 64, 3)
    stage.run(settings, resolve(str(base)), step)
    sft_record = Adapter.model_validate(read_json(step.staging / "4_adapters/sft/adapter.json"))
    preferred = Adapter.model_validate(read_json(step.staging / "4_adapters/preference/adapter.json"))
    assert sft_record.path == "4_adapters/sft/merged" and preferred.parent == sft_record.id
    assert preferred.base_sha256 == merged_hash(step.staging / "4_adapters/sft")
    assert not (step.staging / "4_adapters/sft/adapter").exists()
