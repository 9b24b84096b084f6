"""GKD and GOLD through TRL: real steps on tiny weights, the loss by hand, exact resumption, what is refused."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from sessions import session_in
from tiny_models import make_tiny_llama, make_tokenizer

from fieldwise.engine.base_weights import resolve
from fieldwise.errors import ModelError
from fieldwise.hashing import sha256_of_files
from fieldwise.prompts import closed_prompt
from fieldwise.records import BaseWeights, Example, Message
from fieldwise.tracking import JsonlTracker
from fieldwise.train import distil_trl
from fieldwise.train.distil import student
from fieldwise.train.distil_settings import DistillationSettings, TeacherSettings
from fieldwise.train.distil_teacher import require_fitting
from fieldwise.train.labels import IGNORED
from fieldwise.train.loading import load_tokenizer
from fieldwise.train.settings import LoraSettings, SftSettings

SFT = SftSettings(max_steps=4, learning_rate=5e-3, batch_size=2, max_length=192, lora=LoraSettings(rank=8, alpha=16))
SHARES = {"on_policy": (0.0, 0.5, 1.0), "cross_tokenizer": (0.0, 1.0)}


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    for part in ("gkd", "gold"):
        pytest.importorskip(f"trl.experimental.{part}", reason="the installed TRL has no such trainer")


@pytest.fixture(scope="module")
def many(examples) -> list[Example]:
    """Sixteen examples: a step takes at most an eighth of them, and two at a time is what is to be seen."""
    further = [
        Example.make(
            question=f"{e.question} Say it.",
            answer=e.answer,
            kind="gap",
            conversation=(*closed_prompt(f"{e.question} Say it."), Message(role="assistant", content=e.answer)),
        )
        for e in examples
    ]
    return [*examples, *further]


@pytest.fixture(scope="module")
def same(tmp_path_factory) -> BaseWeights:
    folder = tmp_path_factory.mktemp("same") / "model"
    return resolve(str(make_tiny_llama(folder, hidden=64, ffn=128, heads=2, kv_heads=1, layers=3, seed=5)))


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> BaseWeights:
    """A teacher with fewer tokens, a longer text for each, and a chat template of its own."""
    folder = make_tiny_llama(
        tmp_path_factory.mktemp("other") / "model", hidden=64, ffn=128, heads=2, kv_heads=1, seed=9
    )
    make_tokenizer(folder, split=None, vocabulary=420)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("+ message.role +", "+ message.role | upper +"))
    return resolve(str(folder))


def teacher_of(method: str, same: BaseWeights, other: BaseWeights) -> BaseWeights:
    return same if method == "on_policy" else other


def train(base: Path, examples, device, folder: Path, method: str, teacher: BaseWeights, sft=SFT, tracker=None, **more):
    own = DistillationSettings(method=method, teacher=TeacherSettings(model=teacher.model), max_new_tokens=6, **more)
    return student(own, folder)(
        base, examples, examples[:2], sft, device, session=session_in(folder, tracker),
    )  # fmt: skip


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.iterdir() if p.is_file()], folder)


@pytest.mark.parametrize(("method", "share"), [(m, s) for m, shares in SHARES.items() for s in shares])
def test_it_takes_real_steps_and_leaves_an_adapter(base, many, device, same, other, tmp_path, method, share) -> None:
    teacher = teacher_of(method, same, other)
    outcome = train(base, many, device, tmp_path, method, teacher, on_policy_share=share)
    losses = [row["loss"] for row in outcome.curve if "loss" in row]
    assert outcome.steps == 4 and len(losses) == 4 and all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert math.isfinite(outcome.figures["eval_loss"]) and outcome.about["plan"]["packing"] is False
    assert (outcome.merged / "model.safetensors").exists() and str(teacher.path) not in json.dumps(outcome.about)
    assert outcome.about["distillation"]["method"] == method


@pytest.mark.parametrize("method", SHARES)
def test_the_known_replies_bring_the_student_nearer_to_the_teacher(
    base, many, device, same, other, tmp_path, method
) -> None:
    longer = SFT.model_copy(update={"max_steps": 16, "learning_rate": 1e-2, "evaluate_every_steps": 4})
    outcome = train(base, many, device, tmp_path, method, teacher_of(method, same, other), longer, on_policy_share=0.0)
    held = [row["eval_loss"] for row in outcome.curve if "eval_loss" in row]
    assert held[-1] < held[0]


@pytest.mark.parametrize("method", SHARES)
def test_an_interrupted_training_with_drawn_replies_ends_in_the_same_bytes(base, many, device, same, other, tmp_path, method) -> None:  # fmt: skip
    class Interrupted(Exception):
        pass

    class Breaking(JsonlTracker):
        def log(self, stage, step, figures) -> None:
            if step == 3 and "loss" in figures:
                raise Interrupted
            super().log(stage, step, figures)

    teacher = teacher_of(method, same, other)
    whole = train(base, many, device, tmp_path / "whole", method, teacher, on_policy_share=0.6)
    with pytest.raises(Interrupted):
        train(base, many, device, tmp_path / "again", method, teacher, on_policy_share=0.6,
              tracker=Breaking(tmp_path / "c.jsonl"))  # fmt: skip
    again = train(base, many, device, tmp_path / "again", method, teacher, on_policy_share=0.6)
    assert digest(again.adapter) == digest(whole.adapter) and again.curve == whole.curve


@pytest.mark.parametrize(("divergence", "beta"), [("forward_kl", 0.0), ("reverse_kl", 1.0), ("jsd", 0.3)])
def test_the_loss_of_gkd_is_the_mean_over_the_known_tokens(
    base, many, device, same, tmp_path, divergence, beta
) -> None:
    from transformers import AutoModelForCausalLM
    from trl.experimental.gkd import GKDTrainer

    sft = SFT.model_copy(update={"max_steps": 1, "batch_size": 16, "micro_batch_size": 2})
    more = {"beta": 0.3} if divergence == "jsd" else {}
    outcome = train(
        base, many, device, tmp_path, "on_policy", same, sft, on_policy_share=0.0, divergence=divergence, **more
    )
    tokenizer = load_tokenizer(base)
    rows, _ = distil_trl._rows(many, tokenizer, tokenizer, 186, 192)
    own, taught = (AutoModelForCausalLM.from_pretrained(p, dtype=torch.float32) for p in (base, same.path))
    by_row = []
    for row in rows:
        ids = torch.tensor([row["prompt"] + row["reply"]])
        labels = torch.tensor([[IGNORED] * len(row["prompt"]) + row["reply"]])
        with torch.no_grad():
            found = GKDTrainer.generalized_jsd_loss(
                own(ids).logits[:, :-1], taught(ids).logits[:, :-1], labels[:, 1:], beta
            )
        by_row.append(found.item())
    first = next(row["loss"] for row in outcome.curve if "loss" in row)
    assert min(by_row) <= first <= max(by_row)


def test_prompts_are_padded_on_the_left_and_replies_stand_behind_them(base, many) -> None:
    tokenizer = load_tokenizer(base)
    rows, dropped = distil_trl._rows(many, tokenizer, tokenizer, 186, 192)
    pair = sorted(rows, key=lambda r: len(r["prompt"]))[:: len(rows) - 1]
    batch = distil_trl._collator(tokenizer, with_text=True)(pair)
    assert dropped == 0 and len(pair[0]["prompt"]) < len(pair[1]["prompt"])
    for n, row in enumerate(pair):
        whole = batch["input_ids"][n][batch["attention_mask"][n].bool()].tolist()
        assert whole == row["prompt"] + row["reply"]
        assert batch["labels"][n][batch["labels"][n] != IGNORED].tolist() == row["reply"]
        assert batch["prompts"][n][batch["prompt_attention_mask"][n].bool()].tolist() == row["prompt"]
        ends = batch["byte_offsets"][n][batch["labels"][n] != IGNORED][:, 1].tolist()
        said = tokenizer.decode(row["reply"][:-1])
        assert ends[-2] == len(said.encode()) and row["teacher_reply"] == said


def test_the_teacher_across_tokenizers_reads_prompts_in_its_own_template(base, many, other) -> None:
    taught = load_tokenizer(Path(other.path))
    rows, _ = distil_trl._rows(many, load_tokenizer(base), taught, 186, 192)
    assert all("<|im_start|>USER" in row["teacher_prompt"] for row in rows)
    assert rows[0]["teacher_reply"] == many[0].answer


def test_prompts_that_leave_no_room_for_a_reply_are_counted(base, many, device, same, tmp_path, capsys) -> None:
    long = many[0].model_copy(
        update={"id": "exa_long", "conversation": (*closed_prompt("why " * 200), many[0].conversation[-1])}
    )
    outcome = train(base, [*many, long], device, tmp_path, "on_policy", same, SFT.model_copy(update={"max_steps": 1}))
    assert outcome.dropped == 1 and "leave no room for a drawn reply" in capsys.readouterr().err


def test_gkd_with_a_teacher_of_more_rows_is_sent_to_the_method_that_can(base, tmp_path) -> None:
    wider = make_tiny_llama(tmp_path / "wide", hidden=64, ffn=128, heads=2, kv_heads=1, vocabulary=704)
    own = DistillationSettings(method="on_policy", teacher=TeacherSettings(model=str(wider)))
    with pytest.raises(ModelError, match="704 rows of embeddings, the base has 640") as caught:
        require_fitting(own, base)
    assert "method: token" in str(caught.value)
    require_fitting(own.model_copy(update={"method": "token"}), base)


def test_a_version_of_trl_without_it_is_named(base, same, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "trl.experimental.gkd", None)
    own = DistillationSettings(method="on_policy", teacher=TeacherSettings(model=same.model))
    with pytest.raises(ModelError, match="this version of TRL has no GKD") as caught:
        require_fitting(own, base)
    assert "method: token" in str(caught.value)


def test_memory_beside_the_teacher_is_refused_with_the_cure(base, many, device, same, tmp_path) -> None:
    from fieldwise.train.hardware import PRESETS, this_machine
    from fieldwise.train.plan import fit
    from fieldwise.train.settings import TrainSettings
    from fieldwise.train.shape import read_shape

    shape = read_shape(base)

    def fitter(measured):
        found = fit("sft", TrainSettings(sft=SFT), PRESETS["cpu"], device, this_machine(), shape, measured)
        return found._replace(limit=int(found.estimate.peak) + 1000)

    own = DistillationSettings(method="on_policy", teacher=TeacherSettings(model=same.model), max_new_tokens=6)
    with pytest.raises(ModelError, match="does not fit into memory beside its teacher") as caught:
        student(own, tmp_path)(
            base, many, [], SFT, device, session=session_in(tmp_path, fitter=fitter),
        )  # fmt: skip
    assert "method: token" in str(caught.value)


def test_a_teacher_that_is_no_number_stops_the_training(base, many, device, same, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(same.path, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = math.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not a number at step 1"):
        train(base, many, device, tmp_path, "on_policy", resolve(str(broken)))
