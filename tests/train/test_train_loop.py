import json
import math
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sessions import session_in

from fieldwise.errors import DatasetError, ModelError
from fieldwise.files import read_jsonl
from fieldwise.hashing import sha256_of_files
from fieldwise.prompts import closed_prompt
from fieldwise.tracking import JsonlTracker
from fieldwise.train import rows, watching
from fieldwise.train.configuring import build_config
from fieldwise.train.preference import train_preference
from fieldwise.train.settings import LoraSettings, PreferenceSettings, SftSettings
from fieldwise.train.sft import train_sft

SFT = SftSettings(max_steps=6, learning_rate=5e-3, batch_size=2, max_length=256, lora=LoraSettings(rank=8, alpha=16))
DPO = PreferenceSettings(
    max_steps=4, learning_rate=1e-3, batch_size=4, max_length=256, lora=LoraSettings(rank=8, alpha=16)
)


def sft(base: Path, examples, device, folder: Path, settings=SFT, tracker=None):
    return train_sft(base, examples, examples[:2], settings, device, session=session_in(folder, tracker))


def dpo(base: Path, pairs, device, folder: Path, settings=DPO):
    return train_preference(base, pairs, settings, device, session=session_in(folder))


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.iterdir() if p.is_file()], folder)


@pytest.fixture(scope="module")
def tuned(base, examples, device, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sft")
    return sft(base, examples, device, folder), folder


def test_sft_lowers_the_loss_and_every_figure_is_a_number(tuned) -> None:
    outcome, folder = tuned
    losses = [row["loss"] for row in outcome.curve if "loss" in row]
    assert sorted(p.name for p in (folder / "work").glob("checkpoint-*")) == [
        "checkpoint-4",
        "checkpoint-6",
    ]  # the last two
    assert outcome.about["plan"]["reasons"] == ["1 in place of batch_size 2, so that an epoch has 8 steps"]
    assert losses[-1] < losses[0] - 0.3
    assert outcome.steps == 6 and outcome.dropped == 0 and set(outcome.figures) == {"loss", "eval_loss"}
    assert all(math.isfinite(value) for row in outcome.curve for value in row.values())
    assert (folder / "curve.jsonl").read_text().count('"stage": "sft"') >= 2


def test_what_is_learnt_and_a_batch_that_was_cut_are_told(base, examples, device, tmp_path, capsys) -> None:
    from fieldwise.train.labels import labelled_rows
    from fieldwise.train.loading import load_tokenizer

    rows, _ = labelled_rows(examples, load_tokenizer(base), 256)
    read, learnt = sum(len(r["labels"]) for r in rows), sum(n != -100 for r in rows for n in r["labels"])
    own = SftSettings(max_steps=1, batch_size=16, max_length=256, evaluate_every_steps=1, lora=LoraSettings(rank=4))
    outcome = train_sft(base, examples, [], own, device, session=session_in(tmp_path))
    told = capsys.readouterr().err
    assert 0 < learnt < read and f"{learnt:,} of {read:,} tokens carry loss" in told
    cut = "1 in place of batch_size 16, so that an epoch has 8 steps"
    assert cut in told and cut in outcome.about["plan"]["reasons"]
    assert "nothing is held out, so train.sft.evaluate_every_steps measures nothing" in told


def test_progress_has_loss_tokens_a_second_memory_and_the_time_that_is_left(
    base, examples, device, tmp_path, capsys
) -> None:
    from transformers import AutoTokenizer

    from fieldwise.train.labels import labelled_rows

    own = SFT.model_copy(update={"batch_size": 1, "max_steps": 3, "packing": False})
    began = time.monotonic()
    sft(base, examples, device, tmp_path, own)
    took = time.monotonic() - began
    line = next(s for s in capsys.readouterr().err.splitlines() if "sft step 1/3" in s)
    assert re.fullmatch(r"  sft step 1/3: loss \d\.\d{3}, \d+ tokens/s, \d+\.\d GB, about \d+ s left", line)
    steps = [row for row in read_jsonl(tmp_path / "curve.jsonl") if "loss" in row]
    assert all(0.1 < row["peak_memory_gb"] < 64 for row in steps)
    rows, _ = labelled_rows(examples, AutoTokenizer.from_pretrained(base), 256)
    sizes = sorted(len(row["input_ids"]) for row in rows)
    state = json.loads((tmp_path / "work/checkpoint-3/trainer_state.json").read_text())
    assert sum(sizes[:3]) <= state["num_input_tokens_seen"] <= sum(sizes[-3:])  # padding is not counted
    assert steps[-1]["tokens_per_second"] > state["num_input_tokens_seen"] / took


def test_speed_and_time_left_are_those_since_the_training_was_resumed(monkeypatch) -> None:
    now = iter([100.0, 110.0, 110.0, 110.0])
    monkeypatch.setattr(watching.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(watching, "peak_bytes", lambda: 1_340_000_000)
    pace = watching.Pace(40, 1_000)  # ten seconds later ten more steps and 5,000 more tokens
    assert pace.told(50, 450, 6_000) == ", 500 tokens/s, 1.3 GB, about 7 min left"
    assert pace.figures(6_000) == {"tokens_per_second": 500.0, "peak_memory_gb": 1.34}


def test_the_first_loss_is_that_of_the_base_on_the_replies_alone(tuned, base, examples) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fieldwise.train.labels import labelled_rows

    rows, _ = labelled_rows(examples, AutoTokenizer.from_pretrained(base), 256)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        by_row = [
            torch.nn.functional.cross_entropy(
                model(torch.tensor([r["input_ids"]])).logits[0, :-1], torch.tensor(r["labels"][1:]), reduction="none"
            )[torch.tensor(r["labels"][1:]) != -100]
            for r in rows
        ]
    begin, first = tuned[0].curve[:2]
    assert begin["step"] == 0 and begin["eval_loss"] > 0  # held-out examples before anything was learnt
    assert min(b.mean() for b in by_row) < first["loss"] < max(b.mean() for b in by_row)


def test_merged_weights_say_what_base_and_adapter_say(tuned, base) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    outcome, _ = tuned
    ids = torch.arange(40, 80).unsqueeze(0)
    bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(outcome.merged, dtype=torch.float32)
    with torch.no_grad():
        before = bare(ids).logits
        adapted = PeftModel.from_pretrained(bare, outcome.adapter)(ids).logits
        assert torch.allclose(merged(ids).logits, adapted, atol=1e-4)
        assert not torch.allclose(before, adapted, atol=1e-2)


def test_what_is_kept_is_safetensors_and_names_no_path_of_this_machine(tuned, base) -> None:
    outcome, _ = tuned
    for folder in (outcome.adapter, outcome.merged):
        files = [p for p in folder.rglob("*") if p.is_file()]
        assert {p.suffix for p in files} <= {".safetensors", ".json", ".jinja"}
        assert [p for p in files if p.suffix == ".safetensors"]
    assert str(base) not in (outcome.merged / "config.json").read_text()
    assert (outcome.merged / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_interrupted_and_run_again_it_ends_in_the_same_bytes(tuned, base, examples, device, tmp_path: Path) -> None:
    class Interrupting(JsonlTracker):
        def log(self, stage, step, figures):
            if step >= 5 and "loss" in figures:
                raise KeyboardInterrupt
            super().log(stage, step, figures)

    with pytest.raises(KeyboardInterrupt):
        sft(base, examples, device, tmp_path, tracker=Interrupting(tmp_path / "curve.jsonl"))
    assert sorted(p.name for p in (tmp_path / "work").glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    torn = tmp_path / "work/checkpoint-5"  # killed while it was saved: the weights stand there, the state does not
    shutil.copytree(tmp_path / "work/checkpoint-4", torn)
    (torn / "trainer_state.json").write_text('{"best_global_st')
    (torn / "optimizer.pt").unlink()
    again = sft(base, examples, device, tmp_path)
    undisturbed, _ = tuned
    assert digest(again.adapter) == digest(undisturbed.adapter)
    assert digest(again.merged) == digest(undisturbed.merged)
    assert json.dumps(again.curve) == json.dumps(undisturbed.curve) and again.figures == undisturbed.figures


def test_killed_behind_the_last_step_it_trains_no_further(tuned, base, examples, device, tmp_path: Path) -> None:
    first = sft(base, examples, device, tmp_path)
    shutil.rmtree(tmp_path / "done")
    again = sft(base, examples, device, tmp_path)
    assert digest(again.merged) == digest(tuned[0].merged) and digest(again.adapter) == digest(tuned[0].adapter)
    # as written: the order of the keys counts as well
    assert json.dumps(again.curve) == json.dumps(first.curve) and again.figures == first.figures


def test_dpo_begins_at_ln_2_and_widens_the_margin(tuned, pairs, device, tmp_path: Path) -> None:
    merged = tuned[0].merged
    outcome = dpo(merged, pairs, device, tmp_path)
    losses = [row["loss"] for row in outcome.curve if "loss" in row]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    first = sft_margin(merged, merged, pairs)
    assert first == pytest.approx(0, abs=1e-4)
    assert sft_margin(outcome.merged, merged, pairs) > 0.05


def sft_margin(weights: Path, reference: Path, pairs) -> float:
    """Mean of (log p(chosen) - log p(rejected)) against the reference, computed without the trainer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fieldwise.train.labels import label, messages

    tokenizer = AutoTokenizer.from_pretrained(reference)

    def score(folder: Path) -> float:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        total = 0.0
        for pair in pairs:
            for text, sign in ((pair.chosen, 1), (pair.rejected, -1)):
                said = [*messages(pair.prompt, tokenizer), {"role": "assistant", "content": text}]
                row = label(tokenizer, said)
                with torch.no_grad():
                    logits = model(torch.tensor([row.ids])).logits[0, :-1]
                total -= (
                    sign
                    * torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels[1:]), reduction="sum").item()
                )
        return total / len(pairs)

    return score(weights) - score(reference)


def test_modules_the_weights_do_not_have_are_named_beside_those_they_have(base, examples, device, tmp_path) -> None:
    wrong = SFT.model_copy(update={"lora": LoraSettings(target_modules=("q_proj", "query"))})
    with pytest.raises(ModelError, match=r"query") as caught:
        sft(base, examples, device, tmp_path, wrong)
    assert "q_proj" in str(caught.value) and "train.sft.lora.target_modules" in str(caught.value)


def test_examples_that_all_are_too_long_stop_with_the_setting_to_change(
    base, examples, pairs, device, tmp_path
) -> None:
    with pytest.raises(DatasetError, match=r"train\.sft\.max_length"):
        sft(base, examples, device, tmp_path, SFT.model_copy(update={"max_length": 64}))
    with pytest.raises(DatasetError, match=r"train\.preference\.enabled=false"):
        dpo(base, pairs, device, tmp_path, DPO.model_copy(update={"max_length": 64}))


def test_held_out_examples_that_all_are_too_long_are_told(base, examples, device, tmp_path, capsys) -> None:
    long = examples[0].model_copy(
        update={"conversation": (*closed_prompt("Why? " * 300), examples[0].conversation[-1])}
    )
    settings = SFT.model_copy(update={"max_steps": 1})
    outcome = train_sft(base, examples, [long], settings, device, session=session_in(tmp_path))
    told = capsys.readouterr().err
    assert "1 of 1 held-out examples are longer than 256 tokens and were left out" in told
    assert "no held-out example fits 256 tokens" in told and "eval_loss" not in outcome.figures
    assert outcome.dropped == 0  # of what was to be learnt


def test_a_loss_that_is_no_number_stops_training(base, examples, device, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not a number at step 1") as caught:
        sft(broken, examples, device, tmp_path)
    assert "train.sft.learning_rate" in str(caught.value)


def test_an_option_the_trainer_does_not_know_is_an_error(tmp_path: Path) -> None:
    import trl

    with pytest.raises(ModelError, match=r"lacks options.*\n?.*no_such_option"):
        build_config(trl.SFTConfig, output_dir=str(tmp_path), no_such_option=1)


def test_scoring_only_what_is_learnt_changes_no_loss(tuned, base, examples, device, tmp_path, monkeypatch) -> None:
    import trl.trainer.utils as utilities

    assert hasattr(utilities, "_use_triton"), "TRL renamed the switch: training still works, a third slower"
    monkeypatch.setattr(rows, "score_labelled_only", lambda: None)
    monkeypatch.setattr(utilities, "_use_triton", lambda device: False)
    every = sft(base, examples, device, tmp_path)
    expected = [row["loss"] for row in tuned[0].curve if "loss" in row]
    assert [row["loss"] for row in every.curve if "loss" in row] == pytest.approx(expected, rel=1e-4)
