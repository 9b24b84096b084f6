"""LoRA over 4-bit and 8-bit weights; needs bitsandbytes, which runs on a CPU as well."""

import pytest

pytest.importorskip("bitsandbytes")

import shutil

import torch
from safetensors.torch import load_file
from sessions import session_in
from tiny_models import make_tiny_llama

from fieldwise.train import ppo
from fieldwise.train.hardware import PRESETS, Device
from fieldwise.train.loading import load_model
from fieldwise.train.plan import Fitted, first_plan
from fieldwise.train.rewards import Case
from fieldwise.train.settings import LoraSettings, RlSettings, SftSettings, TrainSettings
from fieldwise.train.sft import train_sft

LORA = LoraSettings(rank=4, alpha=8)


def fitted(settings, device):
    return lambda measured: Fitted(first_plan("sft", settings, settings.sft, PRESETS["cpu"], device), None, None, ())


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
def test_an_adapter_over_quantised_weights_learns_and_is_merged_into_whole_ones(
    kind, base, examples, device, tmp_path
) -> None:
    sft = SftSettings(max_steps=4, learning_rate=5e-3, batch_size=1, max_length=256, evaluate_every_steps=1, lora=LORA)
    settings = TrainSettings(sft=sft, quantisation=kind)
    outcome = train_sft(
        base, examples, examples[:2], sft, device, session=session_in(tmp_path, save_steps=9, fitter=fitted(settings, device)),
    )  # fmt: skip
    losses = [row["loss"] for row in outcome.curve if "loss" in row]
    assert losses[-1] < losses[0] and outcome.about["plan"]["quantisation"] == kind
    merged, before = load_file(outcome.merged / "model.safetensors"), load_file(base / "model.safetensors")
    assert {t.dtype for t in merged.values()} == {torch.float32}
    name = "model.layers.0.mlp.up_proj.weight"
    change = (merged[name] - before[name]).abs().mean() / before[name].abs().mean()
    assert 0 < change < 0.5  # an update of rank 4, not the noise of four bits
    assert torch.linalg.matrix_rank(merged[name] - before[name], rtol=1e-3) <= 4


def test_gradients_of_4_bit_weights_are_the_same_behind_an_evaluation(tmp_path) -> None:
    folder = make_tiny_llama(tmp_path / "base", hidden=64, ffn=128, heads=2, kv_heads=1)
    plan = first_plan("sft", TrainSettings(quantisation="4bit", precision="bfloat16"), SftSettings(), PRESETS["cpu"],
                      Device("cpu", 1, True))  # fmt: skip
    model = load_model(folder, plan)
    ids = torch.arange(40, 72)[None]

    def gradient() -> torch.Tensor:
        embeddings = model.get_input_embeddings()(ids).detach().float().requires_grad_()
        model(inputs_embeds=embeddings).logits.float().pow(2).mean().backward()
        assert embeddings.grad is not None
        return embeddings.grad

    model.train()
    first = gradient()
    with torch.no_grad():
        model.eval()(ids)
    model.train()
    assert torch.allclose(gradient(), first, rtol=1e-4, atol=1e-8)


def test_4_bit_weights_are_nf4_with_scales_that_are_quantised_too(base) -> None:
    plan = first_plan("sft", TrainSettings(quantisation="4bit"), SftSettings(), PRESETS["cpu"], Device("cpu", 1, False))
    state = load_model(base, plan).model.layers[0].mlp.up_proj.weight.quant_state
    assert state.quant_type == "nf4" and state.nested


@pytest.mark.parametrize("kind", ["adamw_8bit", "paged_adamw_8bit"])
def test_ppo_takes_the_optimizer_of_the_plan_and_goes_on_with_it(kind, base, examples, device, tmp_path) -> None:
    own = RlSettings(
        enabled=True, method="ppo", rewards={"answer": 1.0}, max_steps=2, batch_size=4, max_new_tokens=4,
        max_length=256, learning_rate=1e-3, lora=LoraSettings(rank=32, alpha=32),
    )  # fmt: skip
    session = session_in(tmp_path / "whole", save_steps=1)
    plan = first_plan("rl", TrainSettings(rl=own, optimizer=kind), own, PRESETS["cpu"], device)
    cases = [Case.of(e) for e in examples]

    def letters(asked, replies):
        return [{"answer": len(set(reply)) / 8} for reply in replies]

    whole = ppo.train(base, cases, letters, own, plan, device, session)
    learner = ppo.Learner(base, own, plan, device, tmp_path / "whole/work", 7, 2)
    learner.resume()
    assert type(learner.optimizer).__module__.startswith("bitsandbytes")
    states = [v for state in learner.optimizer.state.values() for v in state.values() if torch.is_tensor(v)]
    assert torch.uint8 in {v.dtype for v in states}  # of the larger matrices: small ones are kept in 32 bit
    again = session_in(tmp_path / "again")
    shutil.copytree(tmp_path / "whole/work/checkpoint-1", tmp_path / "again/work/checkpoint-1")
    assert ppo.train(base, cases, letters, own, plan, device, again).history == whole.history
