"""Memory that runs out, losses that are no numbers, early stopping: with real trainers."""

import errno
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sessions import session_in

from fieldwise.errors import DatasetError, ModelError
from fieldwise.hashing import sha256_of_files
from fieldwise.tracking import JsonlTracker
from fieldwise.train import ppo, preference, reward, rl, watching
from fieldwise.train import rows as training_rows
from fieldwise.train.loading import load_model
from fieldwise.train.retry import is_out_of_memory
from fieldwise.train.settings import LoraSettings, PreferenceSettings, RewardSettings, RlSettings, SftSettings
from fieldwise.train.sft import train_sft

LORA = LoraSettings(rank=4, alpha=8)
PADDED = SftSettings(
    max_steps=2, learning_rate=5e-3, batch_size=4, micro_batch_size=4, max_length=256, packing=False, lora=LORA
)


def sft(base: Path, train, device, folder: Path, settings=PADDED, held=(), tracker=None, save_steps=1):
    return train_sft(base, train, held, settings, device, session=session_in(folder, tracker, save_steps=save_steps))


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.iterdir() if p.is_file()], folder)


def allocate_too_much() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def run_out_above(rows: int, monkeypatch, place=training_rows) -> list[int]:
    """Make the model ask for more memory than there is when it sees more rows at once; returns what it has seen."""
    load, seen = load_model, []

    def loaded(base, plan=None, **more):
        model = load(base, plan, **more)

        def hook(module, given, named):
            if module.training and torch.is_grad_enabled():
                seen.append(len(named["input_ids"]))
                if seen[-1] > rows:
                    allocate_too_much()

        model.register_forward_pre_hook(hook, with_kwargs=True)
        return model

    monkeypatch.setattr(place, "load_model", loaded)
    return seen


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("could not create a memory object"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_errors_of_memory_are_known(error) -> None:
    assert is_out_of_memory(error)


def test_a_refused_allocation_of_torch_is_known_and_other_errors_are_not() -> None:
    with pytest.raises(RuntimeError) as caught:
        allocate_too_much()
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shape '[128, 5]' is invalid"))
    assert not is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))


def test_when_memory_runs_out_half_is_tried_and_ends_in_the_bytes_of_half_from_the_start(
    base, examples, device, tmp_path, monkeypatch, capsys
) -> None:
    half = sft(base, examples * 4, device, tmp_path / "half", PADDED.model_copy(update={"micro_batch_size": 2}))
    seen = run_out_above(2, monkeypatch)
    outcome = sft(base, examples * 4, device, tmp_path / "retried")
    assert seen[0] == 4 and set(seen[1:]) == {2}
    assert digest(outcome.adapter) == digest(half.adapter)
    assert outcome.about["plan"]["micro_batch_size"] == 2 and outcome.about["plan"]["accumulation"] == 2
    assert "memory ran out" in (said := capsys.readouterr().err) and "micro_batch_size 2 instead of 4" in said


def test_when_half_is_too_much_as_well_the_settings_to_change_are_named(
    base, examples, device, tmp_path, monkeypatch
) -> None:
    seen = run_out_above(1, monkeypatch)
    with pytest.raises(ModelError, match="memory ran out, also with less at a time") as caught:
        sft(base, examples * 4, device, tmp_path)
    assert seen == [4, 2]
    for part in ("train.sft.micro_batch_size=1", "train.activation_checkpointing=true", "train.sft.max_length=128"):
        assert part in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None


@pytest.mark.parametrize(("training", "place", "at_once"), [
    ("preference", preference, 8), ("reward", reward, 8), ("rloo", rl, 4), ("ppo", ppo, 4),
])  # fmt: skip
def test_other_trainings_try_half_with_the_same_effective_batch_too(
    training, place, at_once, base, examples, pairs, device, tmp_path, monkeypatch, capsys
) -> None:
    own = {"max_steps": 1, "batch_size": 4, "micro_batch_size": 4, "max_length": 256, "lora": LORA}
    drawn = {"rewards": {"answer": 1.0}, "max_new_tokens": 4, "generations": 2 if training == "rloo" else 4}
    seen = run_out_above(at_once // 2, monkeypatch, place)
    session = session_in(tmp_path, save_steps=1)
    if training == "preference":
        about = preference.train_preference(base, pairs, PreferenceSettings(**own), device, session).about
    elif training == "reward":
        about = reward.train_reward(base, pairs, RewardSettings(**own), device, session)
    else:
        settings = RlSettings(method=training, **own, **drawn)
        about = rl.train_rl(base, examples, settings, device, session, reward_model=None).about
    assert seen[0] == at_once and set(seen[1:]) == {at_once // 2}
    assert (about["plan"]["micro_batch_size"], about["plan"]["accumulation"]) == (2, 2)
    assert "micro_batch_size 2 instead of 4, the effective batch as before" in capsys.readouterr().err


def test_an_error_of_another_kind_is_not_tried_again(base, examples, device, tmp_path, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(
        training_rows,
        "train_to_the_end",
        lambda *_, **__: calls.append(1) or (_ for _ in ()).throw(RuntimeError("other")),
    )
    with pytest.raises(RuntimeError, match="other"):
        sft(base, examples * 4, device, tmp_path)
    assert calls == [1]


def test_a_loss_that_becomes_no_number_names_step_and_batch_and_keeps_the_checkpoint(
    base, examples, device, tmp_path, monkeypatch
) -> None:
    load, forwards = load_model, []

    def loaded(base, plan=None):
        model = load(base, plan)
        norm = model.model.norm

        def hook(module, given, output):
            if module.training and torch.is_grad_enabled():
                forwards.append(1)
                return output * (math.nan if len(forwards) == 4 else 1)
            return output

        norm.register_forward_hook(hook)
        return model

    monkeypatch.setattr(training_rows, "load_model", loaded)
    settings = PADDED.model_copy(update={"micro_batch_size": 2, "max_steps": 3})
    with pytest.raises(ModelError, match="the loss is not a number at step 2") as caught:
        sft(base, examples * 4, device, tmp_path, settings)
    assert "batch 2 of 2 (2 x" in str(caught.value) and "checkpoint-1" in str(caught.value)
    kept = torch.load(tmp_path / "work/checkpoint-1/optimizer.pt", weights_only=True)
    assert all(
        torch.isfinite(v).all() for state in kept["state"].values() for v in state.values() if torch.is_tensor(v)
    )


def test_gradients_that_are_no_numbers_stop_before_a_checkpoint_of_spoilt_weights(
    base, examples, device, tmp_path, monkeypatch
) -> None:
    load = load_model

    def loaded(base, plan=None):
        model = load(base, plan)
        model.model.norm.register_full_backward_hook(lambda m, i, o: tuple(g * math.inf for g in i))
        return model

    monkeypatch.setattr(training_rows, "load_model", loaded)
    with pytest.raises(ModelError, match="the gradients are not numbers at step 1"):
        sft(base, examples * 4, device, tmp_path)
    assert not list((tmp_path / "work").glob("checkpoint-*"))


STOPPED = PADDED.model_copy(
    update={
        "max_steps": 12,
        "learning_rate": 0.05,
        "micro_batch_size": 4,
        "evaluate_every_steps": 1,
        "early_stopping": 2,
    }
)


def test_a_held_out_loss_that_is_no_number_stops_and_names_the_last_checkpoint(tmp_path) -> None:
    kept = tmp_path / "checkpoint-4"
    kept.mkdir()
    (kept / "trainer_state.json").write_text("{}")
    told = watching.curves(JsonlTracker(tmp_path / "c"), "sft")
    state = SimpleNamespace(global_step=6)
    with pytest.raises(ModelError, match=r"held-out examples is not a number at step 6.*checkpoint-4.*learning_rate"):
        told.on_log(SimpleNamespace(output_dir=str(tmp_path)), state, None, logs={"eval_loss": float("nan")})


def test_early_stopping_ends_with_the_best_weights_also_after_a_kill(base, examples, device, tmp_path) -> None:
    class Interrupting(JsonlTracker):
        def log(self, stage, step, figures):
            if step == 3 and "loss" in figures:
                raise KeyboardInterrupt
            super().log(stage, step, figures)

    outcome = sft(base, examples[:4] * 8, device, tmp_path / "a", STOPPED, held=examples[4:])
    held = {row["step"]: row["eval_loss"] for row in outcome.curve if "eval_loss" in row}
    best = min(held, key=held.__getitem__)
    assert outcome.steps == best + 2 < 12
    assert outcome.about["weights_of_step"] == best and outcome.figures["eval_loss"] == held[best]
    kept = tmp_path / f"a/work/checkpoint-{best:.0f}/adapter_model.safetensors"
    assert kept.read_bytes() == (outcome.adapter / "adapter_model.safetensors").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        sft(base, examples[:4] * 8, device, tmp_path / "b", STOPPED, examples[4:], Interrupting(tmp_path / "c.jsonl"))
    again = sft(base, examples[:4] * 8, device, tmp_path / "b", STOPPED, held=examples[4:])
    assert digest(again.adapter) == digest(outcome.adapter) and again.curve == outcome.curve
    shutil.rmtree(tmp_path / "b/done")  # killed behind the stop: nothing is trained any more
    third = sft(base, examples[:4] * 8, device, tmp_path / "b", STOPPED, held=examples[4:])
    assert digest(third.adapter) == digest(outcome.adapter) and third.curve == outcome.curve


def test_early_stopping_without_held_out_examples_and_no_examples_at_all(base, examples, device, tmp_path) -> None:
    with pytest.raises(DatasetError, match=r"train\.sft\.early_stopping.*held-out"):
        sft(base, examples, device, tmp_path, STOPPED)
    with pytest.raises(DatasetError, match="there is no training example"):
        sft(base, [], device, tmp_path)
