"""Each method of the preference step: its loss by hand-worked numbers, real steps, what it leaves, what it refuses."""

import json
import math
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from sessions import session_in

from fieldwise.engine.base_weights import resolve
from fieldwise.errors import DatasetError, ModelError
from fieldwise.hashing import sha256_of_files
from fieldwise.records import RatedReply
from fieldwise.tracking import JsonlTracker
from fieldwise.train.hardware import Device
from fieldwise.train.labels import messages
from fieldwise.train.loading import adapter_config, load_model, load_tokenizer
from fieldwise.train.plan import preset_alone
from fieldwise.train.preference import train_preference
from fieldwise.train.preference_effect import effect, follows_length, rank_correlation
from fieldwise.train.preference_methods import label_weights, options_of, prepare, trainer_of
from fieldwise.train.preference_rows import Rows, pair_rows, probe, probes_of, reply_rows
from fieldwise.train.settings import LoraSettings, PreferenceSettings, SftSettings, TrainSettings
from fieldwise.train.sft import train_sft
from fieldwise.train.workload import Extent

# of five steps on the tiny weights, float32 on a CPU: the first of DPO are ln 2, the warm-up step moves nothing
SFT_LOSSES = [6.685469, 6.278568, 6.312005, 6.536325, 6.488812]
DPO_LOSSES = [0.693147, 0.693147, 0.624406, 0.590027, 0.540098]
METHODS = ("dpo", "orpo", "kto", "simpo", "cpo")
SMALL = {"learning_rate": 1e-3, "batch_size": 4, "max_length": 256, "lora": LoraSettings(rank=8, alpha=16)}


def settings(method: str, **more) -> PreferenceSettings:
    return PreferenceSettings(method=method, **{"max_steps": 4, **SMALL, **more})


def train(base: Path, pairs, device, folder: Path, own: PreferenceSettings, tracker=None, fitter=None, **more):
    return train_preference(base, pairs, own, device, session_in(folder, tracker, fitter=fitter), **more)


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.iterdir() if p.is_file()], folder)


# ---------------------------------------------------------------- losses by hand


def built(base: Path, pairs, own: PreferenceSettings, folder: Path):
    """A trainer as the step builds it, and the first two pairs as it gives them to the model."""
    import datasets

    tokenizer = load_tokenizer(base)
    rows = reply_rows(pairs[:2], (), tokenizer, 256, 7) if own.method == "kto" else pair_rows(pairs[:2], own, tokenizer, 256)  # fmt: skip
    kind, config = trainer_of(own)
    plan = SimpleNamespace(reference="precomputed")
    size = len(rows.rows)
    arguments = config(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", max_length=256,
        per_device_train_batch_size=size, activation_checkpointing=False, **options_of(own, plan, rows),
    )  # fmt: skip
    model = load_model(base)
    prepare(model, own)
    trainer = kind(
        model=model, args=arguments, train_dataset=datasets.Dataset.from_list(rows.rows), processing_class=tokenizer,
        peft_config=adapter_config(own.lora, model, "preference"),
    )  # fmt: skip
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(size)])
    return trainer, batch, rows


def scorer(*means: list[float]):
    """A model that gives every token of a reply the same log-probability, and those of prompts a wrong one.

    Called more than once it takes the next list.
    """
    calls = count()

    def model(*_, labels, fused_lm_head, **__):
        assert fused_lm_head
        wanted = torch.tensor(means[next(calls)]).unsqueeze(1)
        given = torch.where(labels[:, 1:] != -100, wanted, torch.tensor(0.0))
        none = torch.zeros_like(given)
        return SimpleNamespace(log_probs=given, entropy=none, mean_logits=none, is_top1=given < 0)

    return model


# Two pairs: log pi - log start of the chosen 0.5 and 0, of the rejected -0.5 and 1, so that the differences are 1 and -1.
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, (math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(0.5))) / 2),  # 0.724077
        ({"loss": ("hinge",)}, (0.5 + 1.5) / 2),  # max(0, 1 - beta delta)
        ({"loss": ("sppo_hard",)}, ((0.25 + 0.25) + (1 + 4)) / 2),  # (c - 1)^2 + (r + 1)^2 with 1 = 0.5 / beta
        ({"loss": ("bco_pair",)}, (2 * math.log(1 + math.exp(-0.25)) + math.log(2) + math.log(1 + math.exp(0.5))) / 2),
        # 1 - s(0.25) + s(-0.25) = 0.875647 and 1 - s(0) + s(0.5) = 1.122459
        ({"loss": ("apo_zero",)}, (0.875647 + 1.122459) / 2),
        # (0.9 * 0.474077 - 0.1 * 0.974077) / 0.8 = 0.411577 and (0.9 * 0.974077 - 0.1 * 0.474077) / 0.8 = 1.036577
        ({"loss": ("robust",), "label_smoothing": 0.1}, (0.411577 + 1.036577) / 2),
        ({"loss": ("sigmoid", "hinge"), "loss_weights": (1.0, 0.2)}, 0.724077 + 0.2 * 1.0),
    ],
)
def test_the_losses_of_dpo_are_those_of_their_papers(base, pairs, tmp_path, more, expected) -> None:
    trainer, batch, _ = built(base, pairs, settings("dpo", beta=0.5, **more), tmp_path)
    lengths = batch["completion_mask"][:, 1:].sum(1)
    now = torch.tensor([-2.0, -4.0, -3.0, -2.0])  # chosen, chosen, rejected, rejected
    batch["ref_chosen_logps"], batch["ref_rejected_logps"] = torch.tensor([-2.5, -4.0]), torch.tensor([-2.5, -3.0])
    loss = trainer._compute_loss(scorer((now / lengths).tolist()), batch, False)
    assert loss.item() == pytest.approx(expected, abs=2e-6)
    figures = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert figures["rewards/accuracies"] == 0.5 and figures["rewards/margins"] == pytest.approx(0.0)


def test_ipo_and_the_sft_loss_count_by_the_token(base, pairs, tmp_path) -> None:
    own = settings("dpo", beta=0.5, loss=("ipo", "sft"), loss_weights=(1.0, 0.5))
    trainer, batch, _ = built(base, pairs, own, tmp_path)
    lengths = batch["completion_mask"][:, 1:].sum(1)
    # a token of the chosen gains 0.3 and 0.1, of the rejected -0.2 and 0.4: (0.5 - 1)^2 and (-0.3 - 1)^2
    start = torch.tensor([-1.0, -2.0, -1.5, -2.0])
    now = start + torch.tensor([0.3, 0.1, -0.2, 0.4])
    batch["ref_chosen_logps"], batch["ref_rejected_logps"] = (start * lengths).chunk(2)
    likelihood = -(now[:2] * lengths[:2]).sum() / lengths[:2].sum()
    loss = trainer._compute_loss(scorer(now.tolist()), batch, False)
    assert loss.item() == pytest.approx((0.25 + 1.69) / 2 + 0.5 * likelihood.item(), abs=1e-5)


def test_the_loss_of_kto_is_that_of_its_paper(base, pairs, tmp_path) -> None:
    trainer, batch, rows = built(base, pairs, settings("kto", beta=0.5, desirable_weight=2.0), tmp_path)
    labels = batch["label"]
    assert sorted(labels.tolist()) == [False, False, True, True] and len(rows.rows) == 4
    lengths, others = batch["completion_mask"][:, 1:].sum(1), batch["KL_completion_mask"][:, 1:].sum(1)
    gained = torch.empty(4)
    gained[labels.bool()], gained[~labels.bool()] = torch.tensor([0.5, 0.0]), torch.tensor([-0.5, 1.0])
    batch["ref_logps"], batch["ref_KL_logps"] = torch.full((4,), -3.0), torch.full((4,), -4.0)
    model = scorer((-3.8 / others).tolist(), ((gained - 3.0) / lengths).tolist())  # KL 0.2, then the replies
    loss = trainer._compute_loss(model, batch, False)
    # wanted: 1 - s(0.5 (0.5 - 0.2)) = 0.462570, 1 - s(0.5 (0 - 0.2)) = 0.524979, each twice;
    # unwanted: 1 - s(0.5 (0.2 + 0.5)) = 0.413382, 1 - s(0.5 (0.2 - 1)) = 0.598688
    assert loss.item() == pytest.approx((2 * (0.462570 + 0.524979) + 0.413382 + 0.598688) / 4, abs=2e-6)
    assert trainer._metrics["train"]["kl"] == [pytest.approx(0.2, abs=1e-5)]


# Mean probability of a token 1/2 and 1/4 of the chosen, 1/4 and 1/2 of the rejected; the prompts are not to be scored.
@pytest.mark.parametrize(
    ("own", "expected"),
    [
        # odds 1 to 1/3 and 1/3 to 1: log s(ln 3) = ln 3/4, log s(-ln 3) = ln 1/4
        ({"method": "orpo", "beta": 0.1}, -0.1 * (math.log(3 / 4) + math.log(1 / 4)) / 2),
        # beta ln 2 - margin = 0.386294 and -2 ln 2 - 1 = -2.386294
        ({"method": "simpo", "margin": 1.0}, (math.log(1 + math.exp(-0.386294)) + math.log(1 + math.exp(2.386294))) / 2),
    ],
)  # fmt: skip
def test_the_losses_without_a_reference_are_those_of_their_papers(base, pairs, tmp_path, own, expected) -> None:
    trainer, batch, _ = built(base, pairs, settings(**own), tmp_path)
    tokens = torch.tensor([0.5, 0.25, 0.25, 0.5]).log()
    loss, figures = trainer.get_batch_loss_metrics(scorer(tokens.tolist()), batch)
    lengths = torch.tensor([(row != -100).sum() for row in batch["chosen_labels"]])
    likelihood = -float((tokens[:2] * lengths).sum() / lengths.sum()) if own["method"] == "orpo" else 0.0
    assert loss.item() == pytest.approx(likelihood + expected, abs=1e-5)
    assert figures["nll_loss"] == pytest.approx(likelihood, abs=1e-6) and figures["rewards/accuracies"] == 0.5


def test_the_loss_of_cpo_sums_over_tokens_and_adds_the_likelihood(base, pairs, tmp_path) -> None:
    trainer, batch, _ = built(base, pairs, settings("cpo", nll_weight=0.5), tmp_path)
    lengths = torch.tensor([(r != -100).sum() for side in ("chosen", "rejected") for r in batch[f"{side}_labels"]])
    whole = torch.tensor([-2.0, -5.0, -3.0, -3.0])  # differences 1 and -2, beta 0.1
    loss, _ = trainer.get_batch_loss_metrics(scorer((whole / lengths).tolist()), batch)
    likelihood = 7.0 / float(lengths[:2].sum())
    expected = (math.log(1 + math.exp(-0.1)) + math.log(1 + math.exp(0.2))) / 2
    assert loss.item() == pytest.approx(expected + 0.5 * likelihood, abs=1e-5)


def test_replies_are_scored_up_to_their_end_token_behind_the_prompt_an_engine_asks_with(base, pairs) -> None:
    tokenizer = load_tokenizer(base)
    found = probe(pairs[0], tokenizer)
    asked = tokenizer.apply_chat_template(
        messages(pairs[0].prompt, tokenizer), add_generation_prompt=True, return_dict=True
    )
    assert found.prompt == asked["input_ids"]
    assert found.chosen[-1] == tokenizer.eos_token_id and found.chosen.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(found.chosen[:-1]) == pairs[0].chosen


# ---------------------------------------------------------------- real steps


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_real_steps_and_prefers_what_was_chosen(base, pairs, device, tmp_path, method) -> None:
    outcome = train(base, pairs, device, tmp_path, settings(method, max_steps=6))
    losses = [row["loss"] for row in outcome.curve]
    assert outcome.steps == len(losses) == 6 and all(math.isfinite(v) for row in outcome.curve for v in row.values())
    found = outcome.about["effect"]
    assert found["pairs"] == 8 and found["split"] == "train" and found["accuracy"] >= 0.75 and found["margin"] > 0.1
    assert outcome.figures["kl_per_token"] == found["kl_per_token"] > 0
    assert outcome.about["method"] == method
    assert any("rewards/margins" in row for row in outcome.curve)
    assert any("kl" in row for row in outcome.curve) is (method == "kto")
    plan = outcome.about["plan"]
    assert plan.get("reference") == ("precomputed" if method in ("dpo", "kto") else None)
    merged = json.loads((outcome.merged / "config.json").read_text())
    assert merged["model_type"] == "llama" and (outcome.adapter / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_the_embedded_model(pairs, tmp_path, method) -> None:
    base = Path(resolve("fieldwise-nano").path)
    bfloat16 = Device("cpu", 1, True)
    outcome = train(base, pairs[:4], bfloat16, tmp_path, settings(method, max_steps=2, learning_rate=1e-4))
    assert outcome.steps == 2 and all(math.isfinite(v) for row in outcome.curve for v in row.values())
    assert outcome.about["effect"]["kl_per_token"] > 0 and outcome.dropped == 0


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_reference_scored_in_every_step_gives_the_same_losses(base, pairs, device, tmp_path, method) -> None:
    before, beside = (
        train(base, pairs, device, tmp_path / str(early), settings(method, precompute_reference=early))
        for early in (True, False)
    )
    assert [r["loss"] for r in beside.curve] == pytest.approx([r["loss"] for r in before.curve], abs=1e-5)
    assert beside.about["plan"]["reference"] == "beside"


@pytest.mark.parametrize("method", ["dpo", "kto", "orpo"])
def test_activation_checkpointing_gives_the_same_losses(base, pairs, device, tmp_path, method) -> None:
    own = settings(method)
    again = TrainSettings(preference=own, activation_checkpointing=True)
    fitter = preset_alone("preference", again, device)
    kept = train(base, pairs, device, tmp_path / "kept", own)
    recomputed = train(base, pairs, device, tmp_path / "recomputed", own, fitter=fitter)
    assert recomputed.about["plan"]["activation_checkpointing"] is True
    assert [r["loss"] for r in recomputed.curve] == pytest.approx([r["loss"] for r in kept.curve], abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_over_4_bit_weights_and_merges_into_whole_ones(
    base, pairs, device, tmp_path, method
) -> None:
    pytest.importorskip("bitsandbytes")
    own = settings(method)
    fitter = preset_alone("preference", TrainSettings(preference=own, quantisation="4bit"), device)
    outcome = train(base, pairs, device, tmp_path, own, fitter=fitter)
    assert outcome.about["plan"]["quantisation"] == "4bit" and outcome.about["effect"]["margin"] > 0.05
    assert all(t.dtype == torch.float32 for t in load_file(outcome.merged / "model.safetensors").values())


@pytest.mark.parametrize("method", ["kto", "simpo"])
def test_interrupted_and_run_again_a_method_ends_in_the_same_bytes(base, pairs, device, tmp_path, method) -> None:
    class Interrupting(JsonlTracker):
        def log(self, stage, step, figures):
            if step >= 3 and "loss" in figures:
                raise KeyboardInterrupt
            super().log(stage, step, figures)

    lora = LoraSettings(rank=8, alpha=16, dropout=0.1)
    own = settings(method, lora=lora)
    whole = train(base, pairs, device, tmp_path / "whole", own)
    folder = tmp_path / "torn"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(base, pairs, device, folder, own, tracker=Interrupting(folder / "curve.jsonl"))
    assert [p.name for p in (folder / "work").glob("checkpoint-*")] == ["checkpoint-2"]
    again = train(base, pairs, device, folder, own)
    assert digest(again.adapter) == digest(whole.adapter) and digest(again.merged) == digest(whole.merged)
    assert json.dumps(again.curve) == json.dumps(whole.curve) and again.about == whole.about
    bare = train(base, pairs, device, tmp_path / "bare", settings(method))
    assert digest(bare.adapter) != digest(whole.adapter)  # dropout is not switched off without a word


def test_the_first_five_losses_of_sft_and_dpo_are_golden(base, examples, pairs, device, tmp_path) -> None:
    own = SftSettings(max_steps=5, **{**SMALL, "batch_size": 2})
    outcome = train_sft(
        base, examples, (), own, device, session=session_in(tmp_path, save_steps=9),
    )  # fmt: skip
    assert [r["loss"] for r in outcome.curve] == pytest.approx(SFT_LOSSES, abs=2e-4)
    outcome = train(base, pairs, device, tmp_path / "dpo", settings("dpo", max_steps=5))
    assert [r["loss"] for r in outcome.curve] == pytest.approx(DPO_LOSSES, abs=2e-4)


def test_weights_that_give_no_number_stop_any_trainer(base, pairs, device, tmp_path) -> None:
    own = settings("cpo", learning_rate=1e30, max_steps=6)
    with pytest.raises(ModelError, match=r"(not a number|not numbers) at step \d") as caught:
        train(base, pairs, device, tmp_path, own)
    assert "train.preference" in str(caught.value) and "learning_rate" in str(caught.value)


# ---------------------------------------------------------------- replies with labels


def ratings(pairs, label: bool, number: int = 3) -> list[RatedReply]:
    return [
        RatedReply.make(prompt=p.prompt, reply=f"{p.chosen} indeed", is_wanted=label, judge="data")
        for p in pairs[:number]
    ]


def test_pairs_are_split_into_labels_beside_rated_replies(base, pairs) -> None:
    tokenizer = load_tokenizer(base)
    rows = reply_rows(pairs, ratings(pairs, True), tokenizer, 256, 7)
    assert (rows.lengths["wanted"], rows.lengths["unwanted"]) == (11, 8) and rows.dropped == 0
    assert label_weights(settings("kto"), rows) == (1.0, 11 / 8)  # 8 unwanted count as much as 11 wanted
    assert label_weights(settings("kto", undesirable_weight=0.5), rows) == (1.0, 0.5)
    assert rows.rows != reply_rows(pairs, ratings(pairs, True), tokenizer, 256, 8).rows
    labels = [row["label"] for row in rows.rows]
    assert labels != sorted(labels) and labels != sorted(labels, reverse=True)  # neighbours are compared: both kinds


def test_a_reply_that_is_wanted_and_unwanted_is_left_out(base, pairs, capsys) -> None:
    both = [*ratings(pairs, True), *ratings(pairs, False, 1)]
    rows = reply_rows(pairs, both, load_tokenizer(base), 256, 7)
    assert rows.dropped == 1 and (rows.lengths["wanted"], rows.lengths["unwanted"]) == (10, 8)
    assert "wanted here and unwanted there" in capsys.readouterr().err


def test_kto_learns_from_rated_replies_alone_and_names_a_missing_label(base, pairs, device, tmp_path, capsys) -> None:
    rated = [
        RatedReply.make(prompt=p.prompt, reply=text, is_wanted=good, judge="data")
        for p in pairs
        for text, good in ((p.chosen, True), (p.rejected, False))
    ][:15]  # the last would stand alone in memory
    outcome = train(base, (), device, tmp_path, settings("kto", batch_size=2), ratings=rated)
    assert outcome.steps == 4 and outcome.about["effect"] == {} and outcome.dropped == 1
    assert "the last reply has none beside it in memory to compare with, and was left out" in capsys.readouterr().err
    with pytest.raises(DatasetError, match=r"replies of both labels.*8 wanted, 0 unwanted"):
        train(base, (), device, tmp_path / "x", settings("kto"), ratings=[r for r in rated if r.is_wanted])


# ---------------------------------------------------------------- effect


def test_before_any_step_nothing_has_moved_and_held_out_pairs_go_first(base, pairs) -> None:
    from peft import get_peft_model

    tokenizer = load_tokenizer(base)
    assert probes_of(pairs[:3], pairs, tokenizer, 256)[1] == "train"
    probes, split = probes_of(pairs, pairs[:2], tokenizer, 256)
    assert split == "validation" and len(probes) == 8
    model = load_model(base)
    model = get_peft_model(model, adapter_config(LoraSettings(rank=4), model, "preference"))
    was_training = model.training
    found = effect(model, probes, split, bfloat16=False)
    assert (found["margin"], found["kl_per_token"], found["accuracy"]) == (0, 0, 0)
    assert model.training is was_training


def test_the_effect_is_what_the_weights_say_without_the_trainer(base, pairs, device, tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    outcome = train(base, pairs, device, tmp_path, settings("dpo"))
    now, start = (AutoModelForCausalLM.from_pretrained(p, dtype=torch.float32) for p in (outcome.merged, base))
    margins, divergences = [], []
    for pair in (probe(p, load_tokenizer(base)) for p in pairs):
        moved = []
        for reply in (pair.chosen, pair.rejected):
            with torch.no_grad():
                p, q = (m(torch.tensor([pair.prompt + reply])).logits[0].log_softmax(-1) for m in (now, start))
            places = range(len(pair.prompt) - 1, len(pair.prompt) + len(reply) - 1)
            moved.append(sum(float(p[n, t] - q[n, t]) for n, t in zip(places, reply, strict=True)))
            divergences += [float((p[n].exp() * (p[n] - q[n])).sum()) for n in places]
        margins.append(moved[0] - moved[1])
    found = outcome.about["effect"]
    assert found["margin"] == pytest.approx(sum(margins) / 8, abs=1e-3)
    assert found["kl_per_token"] == pytest.approx(sum(divergences) / len(divergences), rel=1e-2)


def test_learning_length_is_named() -> None:
    found = {"pairs": 20, "margin_by_length": 0.1}
    even = {"pairs": 10, "accuracy": 0.8}
    assert not follows_length({**found, "chosen_longer": even, "chosen_shorter": even})
    assert follows_length({**found, "chosen_longer": even, "chosen_shorter": {"pairs": 10, "accuracy": 0.4}})
    assert not follows_length({**found, "chosen_longer": even, "chosen_shorter": {"pairs": 2, "accuracy": 0.0}})
    none = {"pairs": 0, "accuracy": None}
    assert follows_length({"pairs": 20, "margin_by_length": -0.7, "chosen_longer": even, "chosen_shorter": none})


def test_rank_correlation_shares_ranks_of_ties() -> None:
    # ranks 1.5 1.5 3 4 and 1 2 3 4: 4.5 / sqrt(4.5 * 5)
    assert rank_correlation([1, 1, 2, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(22.5), abs=1e-3)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == -1.0 and rank_correlation([1, 1], [1, 2]) is None


def test_lengths_of_both_sides_are_told(base, pairs) -> None:
    rows = pair_rows(pairs, settings("dpo"), load_tokenizer(base), 256)
    assert rows.lengths["chosen_longer"] + rows.lengths["rejected_longer"] <= 1
    assert rows.lengths["rejected_tokens"] > rows.lengths["chosen_tokens"] and isinstance(rows.extent, Extent)
    assert isinstance(rows, Rows)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"method": "orpo", "loss": ["ipo"]}, "loss is a setting of dpo, the method is orpo"),
        ({"method": "dpo", "margin": 2}, "margin is a setting of simpo"),
        ({"method": "simpo", "precompute_reference": True}, "precompute_reference is a setting of dpo and kto"),
        ({"loss": ["sigmoid", "sft"], "loss_weights": [1]}, "1 numbers for 2 losses"),
        ({"loss": ["exo_pair"]}, "exo_pair needs label_smoothing"),
        ({"label_smoothing": 0.1}, "label_smoothing is for the losses robust"),
        ({"method": "kto", "micro_batch_size": 1}, "at least 2"),
        ({"method": "ipo"}, "'dpo', 'orpo', 'kto', 'simpo' or 'cpo'"),
    ],
)
def test_what_a_method_would_ignore_is_refused(own, told) -> None:
    with pytest.raises(ValidationError, match=told):
        PreferenceSettings(**own)
    assert PreferenceSettings(**PreferenceSettings(method="kto").model_dump()).strength == 0.1
    assert PreferenceSettings(method="simpo").strength == 2.0
