"""Unsloth as backend, without a GPU: when it is taken, what is said when not, and what a stand-in of it is told.

The stand-in has the parameters of unsloth 2026.10.9 and nothing of its kernels; that it is faster is not tested here.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from sessions import session_in

from fieldwise.errors import ModelError
from fieldwise.train import unsloth_backend
from fieldwise.train.hardware import Device
from fieldwise.train.settings import ComputeSettings, LoraSettings, SftSettings, TrainSettings
from fieldwise.train.sft import train_sft
from fieldwise.train.spread import spread

GPU = Device("cuda", 1, True)
ALONE = ComputeSettings()
SFT = SftSettings(
    max_steps=3, learning_rate=5e-3, batch_size=2, max_length=256, lora=LoraSettings(rank=4, alpha=12, dropout=0.1)
)

STAND_IN = """
import json, os, sys

early = not {"trl", "transformers", "peft"} & set(sys.modules)  # the real one changes them while it is imported
told = {"early": early, "offline": os.environ.get("HF_HUB_OFFLINE"), "silent": os.environ.get("UNSLOTH_DISABLE_STATISTICS")}


class FastLanguageModel:
    @staticmethod
    def from_pretrained(
        model_name="unsloth/Llama-3.2-1B-Instruct", max_seq_length=2048, dtype=None, load_in_4bit=True,
        load_in_8bit=False, load_in_16bit=False, full_finetuning=False, token=None, device_map="sequential",
        device_map_planner_kwargs=None, rope_scaling=None, fix_tokenizer=True, trust_remote_code=False,
        use_gradient_checkpointing="unsloth", resize_model_vocab=None, revision=None, use_exact_model_name=False,
        offload_embedding="auto", float32_mixed_precision=None, fast_inference=False, gpu_memory_utilization=0.5,
        float8_kv_cache=False, random_state=3407, max_lora_rank=64, disable_log_stats=True, qat_scheme=None,
        load_in_fp8=False, unsloth_tiled_mlp=False, text_only=False,
    ):
        told["from_pretrained"] = {k: str(v) for k, v in locals().items()}
        from transformers import AutoModelForCausalLM, AutoTokenizer

        return AutoModelForCausalLM.from_pretrained(model_name, dtype=dtype), AutoTokenizer.from_pretrained(model_name)

    @staticmethod
    def get_peft_model(
        model, r=16, target_modules=("q_proj",), lora_alpha=16, lora_dropout=0.0, bias="none",
        layers_to_transform=None, layers_pattern=None, finetune_last_n_layers=None,
        use_gradient_checkpointing="unsloth", random_state=3407, max_seq_length=2048, use_rslora=False,
        modules_to_save=None, init_lora_weights=True, loftq_config={},
        temporary_location="_unsloth_temporary_saved_buffers", qat_scheme=None, target_parameters=None,
        ensure_weight_tying=None, offload_layers=None, checkpoint_skip_layers=0,
    ):
        told["get_peft_model"] = {k: str(v) for k, v in locals().items() if k != "model"}
        import json, peft

        with open(os.environ["STAND_IN_TOLD"], "w") as out:
            json.dump(told, out)
        return peft.get_peft_model(model, peft.LoraConfig(
            r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules=target_modules, bias=bias,
            use_rslora=use_rslora, task_type="CAUSAL_LM"))
"""


def install(folder: Path, requires: dict[str, tuple[str, ...]]) -> None:
    """Make distributions known by their metadata alone."""
    for name, lines in requires.items():
        place = folder / f"{name}-2026.10.9.dist-info"
        place.mkdir(parents=True)
        text = "".join(f"Requires-Dist: {line}\n" for line in lines)
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2026.10.9\n{text}")


def asked(**sft) -> TrainSettings:
    return TrainSettings(backend="unsloth", sft=SFT.model_copy(update=sft))


def test_a_recipe_that_does_not_ask_hears_nothing_and_has_the_key_it_had(capsys) -> None:
    assert not unsloth_backend.takes("sft", TrainSettings(), GPU, ALONE)
    assert not unsloth_backend.takes("sft", TrainSettings(backend="auto"), Device("cpu", 1, True), ALONE)
    assert not unsloth_backend.takes("preference", asked(), GPU, ALONE)
    assert capsys.readouterr().err == ""
    assert "backend" not in TrainSettings().keyed() and TrainSettings(backend="auto").keyed()["backend"] == "auto"


def test_what_is_missing_is_said_in_one_line(capsys) -> None:
    assert not unsloth_backend.takes("sft", asked(), Device("cpu", 1, True), ALONE)
    assert not unsloth_backend.takes("sft", asked(), GPU, ALONE)  # it is not among the libraries of the tests
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("sft: by transformers instead of unsloth: " in line for line in lines)
    assert "on the CPU" in lines[0] and "not installed" in lines[1]


def test_a_version_that_asks_for_other_libraries_is_not_taken_and_says_which(tmp_path, monkeypatch, capsys) -> None:
    import trl

    install(
        tmp_path / "old", {"unsloth": ("unsloth_zoo>=2026.10.9",), "unsloth_zoo": ("numpy", "trl<=1.15.0,>=0.18.2")}
    )
    install(
        tmp_path / "new", {"unsloth": ('trl<0.1; python_version < "3"',), "unsloth_zoo": (f"trl<={trl.__version__}",)}
    )
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(tmp_path / "old"))
        assert not unsloth_backend.takes("sft", TrainSettings(backend="auto"), GPU, ALONE)
    assert (
        f"unsloth_zoo 2026.10.9 asks for trl <=1.15.0,>=0.18.2, {trl.__version__} is installed"
        in capsys.readouterr().err
    )
    monkeypatch.syspath_prepend(str(tmp_path / "new"))
    assert unsloth_backend.takes("sft", asked(), GPU, ALONE) and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("settings", "compute", "key"),
    [
        (asked(method="full"), ALONE, "train.sft.method=full"),
        (asked(lora=LoraSettings(dora=True)), ALONE, "train.sft.lora.dora"),
        (asked(lora=LoraSettings(start="pissa")), ALONE, "train.sft.lora.start=pissa"),
        (asked(best_by="score"), ALONE, "train.sft.best_by=score"),
        (asked(), ComputeSettings(backend="torchrun", workers=2), "compute.backend=torchrun"),
    ],
)
def test_ways_of_training_it_is_not_used_for_are_named(settings, compute, key, tmp_path, monkeypatch, capsys) -> None:
    install(tmp_path, {"unsloth": (), "unsloth_zoo": ()})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not unsloth_backend.takes("sft", settings, GPU, compute)
    assert capsys.readouterr().err.splitlines() == [
        f"  sft: by transformers instead of unsloth: it is not used with {key}"
    ]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "site/unsloth").mkdir(parents=True)
    (tmp_path / "site/unsloth/__init__.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)]))
    monkeypatch.setenv("STAND_IN_TOLD", str(tmp_path / "told.json"))
    return tmp_path / "told.json"


def test_in_a_process_of_its_own_it_is_told_the_recipe_and_leaves_the_adapter_of_the_recipe(
    stand_in, base, examples, device, tmp_path, capsys
) -> None:
    on = replace(device, backend="unsloth")
    train = spread(train_sft, "sft", ALONE, on)
    assert train is not train_sft and spread(train_sft, "sft", ALONE, device) is train_sft
    (tmp_path / "a").mkdir()
    outcome = train(base, examples, examples[:2], SFT, on, session=session_in(tmp_path / "a"))
    plain = train_sft(base, examples, examples[:2], SFT, device, session=session_in(tmp_path / "b"))
    told = json.loads(stand_in.read_text())
    assert (told["early"], told["offline"], told["silent"]) == (True, "1", "1")
    assert "unsloth" not in sys.modules
    loaded, adapted = told["from_pretrained"], told["get_peft_model"]
    assert loaded["model_name"] == str(base) and loaded["use_exact_model_name"] == "True"
    assert (loaded["load_in_4bit"], loaded["load_in_8bit"], loaded["max_seq_length"]) == ("False", "False", "256")
    assert (adapted["r"], adapted["lora_alpha"], adapted["lora_dropout"]) == ("4", "12", "0.1")
    assert (adapted["target_modules"], adapted["random_state"]) == ("all-linear", "7")
    configs = [json.loads((o.adapter / "adapter_config.json").read_text()) for o in (outcome, plain)]
    for key in ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "bias", "task_type"):
        assert configs[0][key] == configs[1][key]
    weights = [load_file(o.adapter / "adapter_model.safetensors") for o in (outcome, plain)]
    assert {k: v.shape for k, v in weights[0].items()} == {k: v.shape for k, v in weights[1].items()}
    assert (outcome.merged / "model.safetensors").is_file() and outcome.steps == 3
    assert outcome.about["plan"]["backend"] == "unsloth" and "backend" not in plain.about["plan"]
    assert "by unsloth" in capsys.readouterr().err


def test_one_that_cannot_be_imported_names_the_key(stand_in, monkeypatch) -> None:
    place = stand_in.parent / "site/unsloth/__init__.py"
    place.write_text("raise NotImplementedError('Unsloth cannot find any torch accelerator? You need a GPU.\\nmore')")
    monkeypatch.syspath_prepend(str(place.parent.parent))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("UNSLOTH_DISABLE_STATISTICS", "1")
    with pytest.raises(ModelError, match=r"train\.backend.*You need a GPU\. Set train\.backend=transformers"):
        unsloth_backend.begin()


def test_modules_the_weights_do_not_have_are_refused_as_without_it(stand_in, base, device, monkeypatch) -> None:
    from fieldwise.train.hardware import PRESETS
    from fieldwise.train.plan import first_plan

    monkeypatch.syspath_prepend(str(stand_in.parent / "site"))
    plan = first_plan("sft", TrainSettings(sft=SFT), SFT, PRESETS["cpu"], device)
    try:
        with pytest.raises(ModelError, match=r"train\.sft\.lora\.target_modules.*found query"):
            unsloth_backend.load(base, plan, LoraSettings(target_modules=("query",)), "sft", 7)
    finally:
        sys.modules.pop("unsloth", None)
