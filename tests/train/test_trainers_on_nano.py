"""Every trainer takes real steps on nano-2m: two of them, whose losses are numbers and move the weights."""

import math
from pathlib import Path

import pytest
from safetensors.torch import load_file
from sessions import session_in

from fieldwise.engine.base_weights import resolve
from fieldwise.errors import FieldwiseError
from fieldwise.records import Chunk, Document, Source
from fieldwise.train.distil import student
from fieldwise.train.distil_settings import DistillationSettings, TeacherSettings
from fieldwise.train.plan import preset_alone
from fieldwise.train.preference import train_preference
from fieldwise.train.pretrain import pretrain, texts_of
from fieldwise.train.reward import train_reward
from fieldwise.train.rewards import RULES
from fieldwise.train.rl import train_rl
from fieldwise.train.settings import (
    LoraSettings,
    PreferenceSettings,
    PretrainSettings,
    RewardSettings,
    RlSettings,
    SftSettings,
    TrainSettings,
)
from fieldwise.train.sft import train_sft

SMALL = {
    "max_steps": 2,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "max_length": 256,
    "lora": LoraSettings(rank=4, alpha=8),
}
SFT = SftSettings(**SMALL)


@pytest.fixture(scope="module")
def nano() -> Path:
    try:
        return Path(resolve("fieldwise-nano/nano-2m").path)
    except FieldwiseError:
        pytest.skip("this release of the embedded weights has no nano-2m")


def require_steps(outcome, nano: Path) -> None:
    """Two steps whose losses are numbers, and merged weights that are no longer those of the base."""
    losses = [row["loss"] for row in outcome.curve if "loss" in row]
    assert outcome.steps == len(losses) == 2 and all(math.isfinite(loss) for loss in losses)
    before, after = (load_file(folder / "model.safetensors") for folder in (nano, outcome.merged))
    assert any(name in after and not after[name].equal(weight.float()) for name, weight in before.items())


@pytest.mark.parametrize(
    "own",
    [{}, {"method": "full"}, {"packing": False}, *({"lora": LoraSettings(rank=4, **kind)} for kind in ({"dora": True}, {"rank_stabilised": True}, {"start": "pissa"}))],
    ids=["lora", "full", "padded", "dora", "rslora", "pissa"],
)  # fmt: skip
def test_sft(nano, examples, device, tmp_path, own) -> None:
    settings = SftSettings(**{**SMALL, **own})
    require_steps(train_sft(nano, examples, examples[:2], settings, device, session_in(tmp_path)), nano)


def test_pretrain(nano, device, tmp_path) -> None:
    text = "Wash the wound with clean water and cover it for 48 hours.\n\n" * 20
    document = Document.make(title="Care", text=text, source=Source(uri="care.md"))
    chunk = Chunk.make(document, 0, len(text))
    settings = PretrainSettings(enabled=True, **SMALL)
    fitter = preset_alone("pretrain", TrainSettings(pretrain=settings), device)
    session = session_in(tmp_path, fitter=fitter)
    require_steps(pretrain(nano, texts_of([chunk]), {document.id: "train"}, settings, device, session), nano)


@pytest.mark.parametrize("method", ["dpo", "orpo", "kto", "simpo", "cpo"])
def test_preferences(nano, pairs, device, tmp_path, method) -> None:
    settings = PreferenceSettings(method=method, **SMALL)
    require_steps(train_preference(nano, pairs[:4], settings, device, session_in(tmp_path)), nano)


@pytest.mark.parametrize("method", ["token", "on_policy", "cross_tokenizer"])
def test_distillation(nano, examples, device, tmp_path, method) -> None:
    if method != "token":
        pytest.importorskip(f"trl.experimental.{'gkd' if method == 'on_policy' else 'gold'}")
    teacher = TeacherSettings(model="fieldwise-nano/nano-2m" if method == "on_policy" else "fieldwise-nano")
    more = {"top_k": 8} if method == "token" else {"max_new_tokens": 4}
    settings = DistillationSettings(method=method, teacher=teacher, **more)
    tune = student(settings, tmp_path)
    require_steps(tune(nano, examples, examples[:2], SFT, device, session=session_in(tmp_path)), nano)


def test_a_reward_model(nano, pairs, device, tmp_path) -> None:
    own = [p.model_copy(update={"document_ids": (f"d{n}",)}) for n, p in enumerate(pairs)]
    record = train_reward(nano, own, RewardSettings(enabled=True, **SMALL), device, session_in(tmp_path))
    losses = [row["loss"] for row in record["curve"] if "loss" in row]
    assert len(losses) == 2 and all(math.isfinite(loss) for loss in losses)
    assert (tmp_path / "done/model/model.safetensors").is_file()


@pytest.mark.parametrize("method", ["rloo", "grpo", "ppo"])
def test_reinforcement(nano, examples, device, tmp_path, monkeypatch, method) -> None:
    monkeypatch.setitem(RULES, "answer", lambda case, reply: sum(map(str.islower, reply)) / max(1, len(reply)))
    drawn = {} if method == "ppo" else {"generations": 2}
    settings = RlSettings(
        enabled=True, method=method, rewards={"answer": 1.0}, max_new_tokens=6, temperature=2.0, **drawn,
        **{**SMALL, "batch_size": 4},
    )  # fmt: skip
    require_steps(train_rl(nano, examples, settings, device, session_in(tmp_path), reward_model=None), nano)
