"""What touches the loss: noise on the embeddings, label smoothing, and losses that are no numbers."""

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError
from sessions import session_in

from fieldwise.errors import ModelError
from fieldwise.tracking import JsonlTracker
from fieldwise.train import rows
from fieldwise.train.hardware import Device
from fieldwise.train.settings import LoraSettings, SftSettings
from fieldwise.train.sft import train_sft

SETTINGS = SftSettings(max_steps=6, learning_rate=5e-3, batch_size=2, max_length=256, lora=LoraSettings(rank=4))
NOISY = SETTINGS.model_copy(update={"neftune": 5.0})


def sft(base: Path, examples, device, folder: Path, settings=SETTINGS, tracker=None):
    return train_sft(base, examples, examples[:2], settings, device, session=session_in(folder, tracker))


def losses(outcome, name: str = "loss") -> list[float]:
    return [row[name] for row in outcome.curve if name in row]


def test_noise_on_the_embeddings_is_in_training_alone_and_resumes_exactly(base, examples, device, tmp_path) -> None:
    class Interrupting(JsonlTracker):
        def log(self, stage, step, figures):
            if step >= 5 and "loss" in figures:
                raise KeyboardInterrupt
            super().log(stage, step, figures)

    still = SETTINGS.model_copy(update={"max_steps": 1, "evaluate_every_steps": 1})  # the first step has no rate yet
    plain = sft(base, examples, device, tmp_path / "plain", still)
    shaken = sft(base, examples, device, tmp_path / "shaken", still.model_copy(update={"neftune": 5.0}))
    assert losses(plain)[0] != pytest.approx(losses(shaken)[0], abs=1e-4)
    assert losses(plain, "eval_loss") == losses(shaken, "eval_loss")  # held-out examples are read without noise
    whole = sft(base, examples, device, tmp_path / "whole", NOISY)
    with pytest.raises(KeyboardInterrupt):
        sft(base, examples, device, tmp_path, NOISY, Interrupting(tmp_path / "c"))
    again = sft(base, examples, device, tmp_path, NOISY)
    assert (again.merged / "model.safetensors").read_bytes() == (whole.merged / "model.safetensors").read_bytes()
    assert json.dumps(again.curve) == json.dumps(whole.curve)


def test_label_smoothing_is_refused_with_what_it_would_cost() -> None:
    with pytest.raises(ValidationError, match=r"fused loss.*neftune"):
        SftSettings(label_smoothing=0.1)
    assert SftSettings(label_smoothing=0.0) == SftSettings()


def test_no_number_in_the_middle_keeps_the_last_good_checkpoint_which_is_gone_on_from(
    base, examples, device, tmp_path, monkeypatch
) -> None:
    import trl

    whole = sft(base, examples, device, tmp_path / "whole")
    compute = trl.SFTTrainer.compute_loss

    def spoilt(self, *args, **kwargs):
        found = compute(self, *args, **kwargs)
        return found * math.nan if self.state.global_step == 4 and self.model.training else found

    with monkeypatch.context() as patched:
        patched.setattr(trl.SFTTrainer, "compute_loss", spoilt)
        with pytest.raises(ModelError, match=r"the loss is not a number at step 5, found batch 1 of \d") as caught:
            sft(base, examples, device, tmp_path)
    assert str(tmp_path / "work/checkpoint-4") in str(caught.value) and "train.sft.learning_rate" in str(caught.value)
    assert not (tmp_path / "work/checkpoint-5").exists() and not (tmp_path / "done").exists()
    again = sft(base, examples, device, tmp_path)
    assert (again.merged / "model.safetensors").read_bytes() == (whole.merged / "model.safetensors").read_bytes()


def test_frozen_weights_held_as_autocast_takes_them_change_no_bit(base, examples, tmp_path, monkeypatch) -> None:
    dropping = SETTINGS.model_copy(update={"lora": LoraSettings(rank=4, dropout=0.1)})  # PEFT computes the adapter then
    held, cast = lightened_and_not(base, examples, tmp_path, monkeypatch, dropping)
    assert json.dumps(held.curve) == json.dumps(cast.curve)
    for file in ("adapter/adapter_model.safetensors", "merged/model.safetensors"):
        assert (tmp_path / "held/done" / file).read_bytes() == (tmp_path / "cast/done" / file).read_bytes()


def test_layers_computed_with_their_adapter_learn_the_same_but_for_rounding(
    base, examples, tmp_path, monkeypatch
) -> None:
    held, cast = lightened_and_not(base, examples, tmp_path, monkeypatch, SETTINGS)
    assert losses(held) == pytest.approx(losses(cast), rel=0.01)
    assert losses(held)[-1] < losses(held)[0]


def lightened_and_not(base, examples, folder: Path, monkeypatch, settings: SftSettings):
    import torch

    seen = set()
    lighten = rows.lighten

    def watched(model, lora, device):
        lighten(model, lora, device)
        seen.update(str(p.dtype) for name, p in model.named_parameters() if "base_layer" in name)

    halved = Device("cpu", 1, bfloat16=True)
    with monkeypatch.context() as patched:
        patched.setattr(rows, "lighten", watched)
        held = sft(base, examples, halved, folder / "held", settings)
    assert seen == {str(torch.bfloat16)}
    monkeypatch.setattr(rows, "lighten", lambda model, lora, device: None)
    return held, sft(base, examples, halved, folder / "cast", settings)
