"""The train stage on tiny weights: which data each method of the preference step takes, and what it begins with."""

import json
import platform
from pathlib import Path

import pytest

from fieldwise.engine.base_weights import resolve
from fieldwise.errors import DatasetError
from fieldwise.files import read_json, read_jsonl
from fieldwise.lineage import Lineage
from fieldwise.prompts import closed_prompt
from fieldwise.records import Adapter, Example, PreferencePair, RatedReply
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import write_records
from fieldwise.train import stage
from fieldwise.train.hardware import this_machine
from fieldwise.train.settings import ComputeSettings, LoraSettings, PreferenceSettings, SftSettings, TrainSettings

SMALL = {"max_steps": 2, "batch_size": 4, "max_length": 256, "lora": LoraSettings(rank=4)}


@pytest.fixture
def run(examples, pairs, tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    (run.path / "3_examples").mkdir(parents=True)
    write_records(run.path / "3_examples/train.parquet", examples, Example)
    write_records(run.path / "3_examples/validation.parquet", examples[:2], Example)
    write_records(run.path / "3_examples/preferences.parquet", pairs, PreferencePair)
    rated = [
        RatedReply.make(
            prompt=p.prompt, reply="I would rather not say.", is_wanted=n % 2 == 0, judge="data", document_ids=(f"k.jsonl:{n}",)
        )
        for n, p in enumerate(pairs)
    ]  # fmt: skip
    held = rated[0].model_copy(update={"id": "rat_held", "split": "test"})
    write_records(run.path / "3_examples/ratings.parquet", [*rated[:4], held], RatedReply)
    return run


def train(run: RunFolder, base: Path, **own):
    settings = TrainSettings(
        sft=SftSettings(**SMALL), preference=PreferenceSettings(**{**SMALL, **own}), precision="float32", hardware="cpu"
    )
    step = StepRun(run, "4b_train", "0" * 64, 3)
    facts = stage.run(settings, resolve(str(base)), step)
    record = step.staging / "4_adapters/preference/adapter.json"
    return facts, Adapter.model_validate(read_json(record)), step


def test_kto_learns_from_pairs_and_rated_replies_of_the_training_split(run, base, capsys) -> None:
    facts, adapter, step = train(run, base, method="kto")
    assert adapter.method == "kto" and adapter.path == "4_adapters/preference/adapter" and adapter.parent is not None
    assert len([i for i in adapter.example_ids if i.startswith("rat_")]) == 4 and "rat_held" not in adapter.example_ids
    assert facts["preference"]["lengths"] == {**facts["preference"]["lengths"], "wanted": 10, "unwanted": 10}
    machine = this_machine()
    assert facts["hardware"]["cores"] == machine.cores and facts["hardware"]["memory_bytes"] == machine.memory
    assert facts["hardware"]["threads"] >= 1 and facts["system"]["python"] == platform.python_version()
    assert "8 preference pairs, 4 rated replies" in capsys.readouterr().err
    (step.staging / "4_adapters").rename(run.path / "4_adapters")
    found = Lineage(run)
    place = next(n for n in found.nodes.values() if n.id == "k.jsonl:1")
    assert place.kind == "row" and adapter.id in found.nodes


def test_methods_of_pairs_say_that_rated_replies_are_not_learnt_from(run, base, capsys) -> None:
    _, adapter, _ = train(run, base, method="simpo")
    assert adapter.method == "simpo" and not [i for i in adapter.example_ids if i.startswith("rat_")]
    assert "4 rated replies are not learnt from: train.preference.method=kto does" in capsys.readouterr().err


def test_orpo_can_begin_with_the_base_weights_in_place_of_sft(run, base) -> None:
    _, adapter, step = train(run, base, method="orpo", start="base")
    config = json.loads((step.staging / "4_adapters/preference/adapter/adapter_config.json").read_text())
    assert adapter.parent is None and adapter.base_sha256 == resolve(str(base)).sha256
    assert config["base_model_name_or_path"] == resolve(str(base)).model


def test_without_any_pair_the_preference_step_is_passed_over_with_a_word(run, base, capsys) -> None:
    write_records(run.path / "3_examples/preferences.parquet", [], PreferencePair)
    write_records(run.path / "3_examples/ratings.parquet", [], RatedReply)
    settings = TrainSettings(sft=SftSettings(**SMALL), precision="float32", hardware="cpu")
    facts = stage.run(settings, resolve(str(base)), StepRun(run, "4b_train", "0" * 64, 3))
    assert "preference" not in facts and "sft" in facts
    assert "preference: passed over, since no pair" in capsys.readouterr().err


def test_rated_replies_alone_of_one_label_are_refused(run, base) -> None:
    write_records(run.path / "3_examples/preferences.parquet", [], PreferencePair)
    rated = [RatedReply.make(prompt=closed_prompt("Why?"), reply="x", is_wanted=True, judge="data")]
    write_records(run.path / "3_examples/ratings.parquet", rated, RatedReply)
    with pytest.raises(DatasetError, match="KTO needs replies of both labels"):
        train(run, base, method="kto")


@pytest.mark.slow
def test_the_stage_trains_with_two_processes_and_its_record_says_so(run, base, capsys) -> None:
    settings = TrainSettings(
        sft=SftSettings(**SMALL), preference=PreferenceSettings(**SMALL), precision="float32", hardware="cpu", threads=2
    )
    step = StepRun(run, "4b_train", "0" * 64, 3)
    if this_machine().cores < 2:
        pytest.skip("one core")
    facts = stage.run(
        settings, resolve(str(base)), step, stage.Asides(compute=ComputeSettings(backend="torchrun", workers=2))
    )
    for training in ("sft", "preference"):
        assert facts[training]["processes"] == {"workers": 2, "backend": "gloo", "distribution": "MULTI_CPU"}
        assert (step.staging / f"4_adapters/{training}/merged/model.safetensors").exists()
        assert {p.name for p in (step.staging / f"4_adapters/{training}/adapter").iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }
    told = capsys.readouterr().err
    assert told.count("2 processes, MULTI_CPU, gloo") == 2 and told.count("sft step 1/2") == 1
    assert {row["stage"] for row in read_jsonl(run.path / "curves.jsonl")} == {"sft", "preference"}


def test_what_later_trainings_lack_stops_the_stage_before_the_first(run, base, monkeypatch) -> None:
    monkeypatch.setattr(stage, "train_sft", lambda *_, **__: pytest.fail("trained for nothing"))
    write_records(run.path / "3_examples/preferences.parquet", [], PreferencePair)
    for own, said in (
        ({"reward": {"enabled": True}}, "a reward model needs pairs"),
        ({"rl": {"enabled": True, "rewards": {"json": 1}}}, "too few prompts"),
    ):
        settings = TrainSettings.model_validate({"hardware": "cpu", **own})
        with pytest.raises(DatasetError, match=said):
            stage.run(settings, resolve(str(base)), StepRun(run, "4b_train", "0" * 64, 3))
