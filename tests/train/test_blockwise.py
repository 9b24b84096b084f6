"""Attention in blocks: the numbers of PyTorch's own, conversations that do not see each other, and when it is taken."""

import json
import math
from dataclasses import replace

import pytest
import torch
from sessions import session_in
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM

from fieldwise.train import blockwise
from fieldwise.train.blockwise import CausalAttention
from fieldwise.train.hardware import BLOCKWISE, PRESETS, Device, Machine, device_for
from fieldwise.train.loading import load_model
from fieldwise.train.memory import Work
from fieldwise.train.plan import first_plan, fit, told
from fieldwise.train.preference import train_preference
from fieldwise.train.settings import (
    LoraSettings,
    PreferenceSettings,
    RewardSettings,
    RlSettings,
    SftSettings,
    TrainSettings,
)
from fieldwise.train.sft import train_sft
from fieldwise.train.shape import is_only_causal, read_shape

LAPTOP = Machine(2, 16_000_000_000, 12_000_000_000, ("AVX2", "AVX-512"), (), False)


def test_two_positions_by_hand() -> None:
    # scores of the second position: ln 3 and 0, so it reads three quarters of the first value and a quarter of its own
    query = torch.tensor([[[1.0], [2.0]]])
    key = torch.tensor([[[math.log(3)], [0.0]]])
    value = torch.tensor([[[4.0], [8.0]]])
    read = CausalAttention.apply(query, key, value, 0.5, [2])
    assert read.flatten().tolist() == pytest.approx([4.0, 5.0])
    alone = CausalAttention.apply(query, key, value, 0.5, [1, 1])
    assert alone.flatten().tolist() == pytest.approx([4.0, 8.0])


@pytest.mark.parametrize("pieces", [[1], [127, 1, 128], [129, 300], [260, 5, 64]])
@pytest.mark.parametrize("heads, groups", [(4, 4), (4, 2), (3, 1)])
def test_reads_and_gradients_are_those_of_pytorch(pieces: list[int], heads: int, groups: int) -> None:
    torch.manual_seed(0)
    positions = sum(pieces)
    query, wanted = torch.randn(2, heads, positions, 16).unbind()
    key, value = torch.randn(2, groups, positions, 16).unbind()
    inputs = [t.clone().requires_grad_() for t in (query, key, value)]
    read = CausalAttention.apply(*inputs, 0.3, pieces)
    read.backward(wanted)
    exact = [t.double().requires_grad_() for t in (query, key, value)]
    expected = torch.cat(
        [
            scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, scale=0.3, enable_gqa=True)[0]
            for q, k, v in zip(*(t.split(pieces, 1) for t in exact), strict=True)
        ],
        1,
    )
    expected.backward(wanted.double())
    torch.testing.assert_close(read.double(), expected, rtol=0, atol=1e-5)
    for found, right in zip(inputs, exact, strict=True):
        torch.testing.assert_close(found.grad.double(), right.grad, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def models(base):
    blockwise.register()
    return {
        kind: AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation=kind).eval()
        for kind in ("sdpa", BLOCKWISE)
    }


def test_conversations_of_a_row_do_not_see_each_other(models) -> None:
    torch.manual_seed(1)
    ids = torch.randint(10, 200, (1, 200))
    places = torch.cat((torch.arange(150), torch.arange(50)))[None]
    ends = torch.tensor([0, 150, 200], dtype=torch.int32)
    told_by = ({}, {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends})
    with torch.no_grad():
        alone = torch.cat([models["sdpa"](ids[:, a:b]).logits for a, b in ((0, 150), (150, 200))], 1)
        for more in told_by:
            together = models[BLOCKWISE](ids, position_ids=places, **more).logits
            torch.testing.assert_close(together, alone, rtol=0, atol=2e-4)
        blind = models[BLOCKWISE](ids).logits
    assert (blind[:, 150:] - alone[:, 150:]).abs().max() > 0.1


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_on_either_side_changes_nothing(side: str, models) -> None:
    torch.manual_seed(2)
    ids, mask = torch.randint(10, 200, (2, 140)), torch.ones(2, 140, dtype=torch.long)
    hidden = slice(100, 140) if side == "right" else slice(0, 40)
    mask[1, hidden] = 0
    with torch.no_grad():
        found, expected = (models[kind](ids, attention_mask=mask).logits[mask.bool()] for kind in (BLOCKWISE, "sdpa"))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def test_replies_are_the_same(models) -> None:
    torch.manual_seed(3)
    ids, mask = torch.randint(10, 200, (2, 30)), torch.ones(2, 30, dtype=torch.long)
    mask[0, :12] = 0
    said = [
        models[kind].generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=8, pad_token_id=0).tolist()
        for kind in ("sdpa", BLOCKWISE)
    ]
    assert said[0] == said[1]


def test_only_plain_attention_is_replaced(base, tmp_path) -> None:
    llama = json.loads((base / "config.json").read_text())
    assert is_only_causal(llama)
    for other in (
        {"sliding_window": 64},
        {"attention_dropout": 0.1},
        {"attn_logit_softcapping": 30.0},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"model_type": "gemma2"},
    ):
        assert not is_only_causal({**llama, **other})
    assert is_only_causal({**llama, "model_type": "qwen2", "sliding_window": 64, "use_sliding_window": False})
    for file in base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**llama, "attention_dropout": 0.1}))
    plan = replace(
        first_plan("sft", TrainSettings(), SftSettings(), PRESETS["cpu"], Device("cpu", 1, False)), attention=BLOCKWISE
    )
    assert load_model(tmp_path, plan).config._attn_implementation == "sdpa"
    assert load_model(base, plan).config._attn_implementation == BLOCKWISE


def test_a_cpu_plans_with_it_and_counts_no_mask(base) -> None:
    settings, shape, work = TrainSettings(), read_shape(base), Work(1, 2048, 64)
    device = device_for(PRESETS["cpu"], "float32", 1, LAPTOP)

    def planned(settings: TrainSettings, shape):
        return fit("sft", settings, PRESETS["cpu"], device, LAPTOP, shape, lambda plan: work)

    ours, dense = planned(settings, shape), planned(TrainSettings(attention="sdpa"), shape)
    assert ours.plan.attention == BLOCKWISE and ours.to_json()["attention"] == BLOCKWISE
    assert dense.plan.attention is None and "padding-free" not in told(ours, "sft")
    assert dense.estimate.activations - ours.estimate.activations >= shape.layers * 4 * 2048**2
    other = planned(settings, shape._replace(is_only_causal=False)).plan
    assert other.attention is None and other.micro_batch == dense.plan.micro_batch == 1
    assert (ours.plan.micro_batch, ours.plan.effective_batch) == (2, other.effective_batch)
    one = TrainSettings(sft=SftSettings(micro_batch_size=1))
    assert planned(one, shape).plan.micro_batch == 1
    kinds = {"preference": PreferenceSettings(), "reward": RewardSettings(), "rl": RlSettings()}
    chosen = {name: first_plan(name, settings, own, PRESETS["cpu"], device).attention for name, own in kinds.items()}
    assert chosen == {"preference": BLOCKWISE, "reward": BLOCKWISE, "rl": None}  # replies are written from a cache


@pytest.mark.parametrize("packing", [False, True])
def test_training_learns_what_it_learnt_before(packing: bool, base, examples, tmp_path) -> None:
    settings = SftSettings(
        max_steps=3, learning_rate=5e-3, batch_size=4, micro_batch_size=2, max_length=256, packing=packing,
        lora=LoraSettings(rank=4),
    )  # fmt: skip

    def losses(attention: str | None) -> list[float]:
        device = Device("cpu", 1, False, attention=attention)
        outcome = train_sft(
            base, examples * 4, [], settings, device, session_in(tmp_path / str(attention), save_steps=9)
        )
        return [row["loss"] for row in outcome.curve if "loss" in row]

    assert losses(BLOCKWISE) == pytest.approx(losses(None), rel=1e-5)


def test_pairs_are_padded_behind_and_need_no_mask(base, pairs, tmp_path, monkeypatch) -> None:
    settings = PreferenceSettings(max_steps=2, batch_size=2, max_length=256, lora=LoraSettings(rank=4))
    calls: list[int] = []
    apply = CausalAttention.apply
    monkeypatch.setattr(CausalAttention, "apply", lambda *given: calls.append(len(given[4])) or apply(*given))

    def curve(attention: str | None) -> list[float]:
        device = Device("cpu", 1, False, attention=attention)
        outcome = train_preference(base, pairs, settings, device, session_in(tmp_path / str(attention), save_steps=9))
        return [row["loss"] for row in outcome.curve if "loss" in row]

    ours = curve(BLOCKWISE)
    assert 4 in calls and set(calls) <= {1, 4}  # two pairs at once; one reply where the effect is measured
    assert ours == pytest.approx(curve(None), rel=1e-5)
