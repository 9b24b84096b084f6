"""Rows laid end to end where FlashAttention is there: when it is chosen, what is said, and that nothing is learnt otherwise.

The kernels themselves need a GPU and are not tested here; the rows and the way they are told apart are the same on a CPU.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sessions import session_in

from fieldwise.machine import Gpu
from fieldwise.train.hardware import BLOCKWISE, PRESETS, Device, Machine, device_for, flash_attention
from fieldwise.train.loading import load_model
from fieldwise.train.memory import Work
from fieldwise.train.plan import first_plan, fit, told
from fieldwise.train.settings import LoraSettings, PreferenceSettings, SftSettings, TrainSettings
from fieldwise.train.sft import train_sft
from fieldwise.train.shape import read_shape

AMPERE, HOPPER, TURING = (Gpu(name, 24_000_000_000, c) for name, c in (("A", (8, 6)), ("H", (9, 0)), ("T", (7, 5))))
WITH = Machine(8, 64_000_000_000, 60_000_000_000, (), (AMPERE,), False, "flash_attention_2")
WITHOUT = WITH._replace(flash_attention=None)


def install(folder: Path, *names: str) -> None:
    for name in names:
        place = folder / f"{name.replace('-', '_')}-2.8.3.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.8.3\n")


def test_the_library_is_taken_where_every_gpu_can_run_it(tmp_path, monkeypatch) -> None:
    assert flash_attention((AMPERE,)) is None  # not among the libraries of the tests
    install(tmp_path / "two", "flash-attn")
    monkeypatch.syspath_prepend(str(tmp_path / "two"))
    assert flash_attention((AMPERE, HOPPER)) == "flash_attention_2"
    assert flash_attention((AMPERE, TURING)) is None and flash_attention(()) is None
    install(tmp_path / "three", "flash-attn-3")
    monkeypatch.syspath_prepend(str(tmp_path / "three"))
    assert flash_attention((HOPPER,)) == "flash_attention_3" and flash_attention((AMPERE,)) == "flash_attention_2"


def planned(base: Path, settings: TrainSettings, machine: Machine, preset: str = "24gb"):
    device = device_for(PRESETS[preset], settings.precision, 1, machine)
    shape, work = read_shape(base), Work(1, 2048, 64)
    return fit("sft", settings, PRESETS[preset], device, machine, shape, lambda plan: work)


def test_the_plan_says_it_and_counts_no_mask(base) -> None:
    settings = TrainSettings()
    flat, dense = planned(base, settings, WITH), planned(base, settings, WITHOUT)
    assert flat.plan.attention == "flash_attention_2" and flat.to_json()["attention"] == "flash_attention_2"
    assert "padding-free by flash_attention_2" in told(flat, "sft")
    assert dense.plan.attention is None and "attention" not in dense.to_json()
    assert "a dense mask over what is packed, since there is no FlashAttention" in told(dense, "sft")
    mask, layers = 2 * 2048**2, read_shape(base).layers
    assert dense.estimate.activations - flat.estimate.activations >= layers * mask


def test_switched_off_on_a_cpu_in_float32_or_for_pairs_it_is_not_chosen(base) -> None:
    off = planned(base, TrainSettings(attention="sdpa"), WITH)
    assert off.plan.attention is None and "FlashAttention" not in told(off, "sft")
    # by train.hardware: cpu on a machine with a GPU
    assert device_for(PRESETS["cpu"], "auto", 1, WITH).attention == BLOCKWISE
    assert device_for(PRESETS["24gb"], "float32", 1, WITH).attention is None
    pairs = PreferenceSettings()
    device = device_for(PRESETS["24gb"], "auto", 1, WITH)
    assert first_plan("preference", TrainSettings(), pairs, PRESETS["24gb"], device).attention is None
    on_cpu = planned(base, TrainSettings(), WITH._replace(gpus=(), flash_attention=None), "cpu")
    assert on_cpu.plan.attention == BLOCKWISE and "FlashAttention" not in told(on_cpu, "sft")
    assert "attention" not in TrainSettings().keyed() and TrainSettings(attention="sdpa").keyed()["attention"] == "sdpa"


def test_weights_are_loaded_with_the_attention_of_the_plan(base, device) -> None:
    settings = SftSettings()
    plan = first_plan("sft", TrainSettings(), settings, PRESETS["cpu"], device)
    assert load_model(base, plan).config._attn_implementation == "sdpa"
    assert load_model(base, replace(plan, attention="eager")).config._attn_implementation == "eager"


@pytest.mark.parametrize("packing", [False, True])
def test_rows_end_to_end_teach_what_padded_or_packed_rows_teach(packing, base, examples, tmp_path) -> None:
    settings = SftSettings(
        max_steps=3, learning_rate=5e-3, batch_size=4, micro_batch_size=2, max_length=256, packing=packing,
        lora=LoraSettings(rank=4),
    )  # fmt: skip
    seen: list[int] = []

    def losses(name: str, attention: str | None) -> list[float]:
        device = Device("cpu", 1, False, attention=attention)
        outcome = train_sft(base, examples * 4, [], settings, device, session_in(tmp_path / name, save_steps=9))
        assert outcome.about["plan"].get("attention") == attention
        seen.append(outcome.steps)
        return [row["loss"] for row in outcome.curve if "loss" in row]

    assert losses("flat", "sdpa") == pytest.approx(losses("padded", None), rel=1e-4)
    assert seen == [3, 3] and torch.is_grad_enabled()
