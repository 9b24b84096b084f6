"""Continued pre-training on tiny weights: which documents are read, what carries loss, and bits per byte."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sessions import session_in

from fieldwise import train_step
from fieldwise.errors import DatasetError, ModelError
from fieldwise.files import read_json, write_json
from fieldwise.lineage import Lineage
from fieldwise.recipe import Recipe
from fieldwise.records import Adapter, Chunk, Document, Example, PreferencePair, Source
from fieldwise.run import RunFolder, StepRun
from fieldwise.steps import STEPS
from fieldwise.tables import write_records
from fieldwise.tracking import JsonlTracker
from fieldwise.train import pretrain as room
from fieldwise.train.adapter_record import merged_hash
from fieldwise.train.loading import load_model, load_tokenizer
from fieldwise.train.plan import preset_alone
from fieldwise.train.rows import train_rows
from fieldwise.train.settings import LoraSettings, PretrainSettings, TrainSettings

TEXTS = (
    "The patient takes two tablets of ibuprofen every eight hours with food.",
    "A tenant may end the lease with three months of notice in writing.",
    "The fund charges 0.45 percent a year and 2 percent when shares are sold.",
    "Wash the wound with clean water and cover it for 48 hours.",
)
SETTINGS = PretrainSettings(
    enabled=True,
    max_steps=6,
    learning_rate=5e-3,
    batch_size=2,
    max_length=128,
    lora=LoraSettings(rank=8, alpha=16),
)


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    found = []
    for n, text in enumerate(TEXTS):
        document = Document.make(title=f"Sheet {n}", text=(text + "\n\n") * 8, source=Source(uri=f"{n}.md"))
        half = len(document.text) // 2
        found += [
            Chunk.make(document, half, len(document.text), heading_path=(f"Sheet {n}", "Rules")),
            Chunk.make(document, 0, half),
        ]
    return found


def sides_of(chunks, *sides: str) -> dict[str, str]:
    documents = list(dict.fromkeys(c.document_id for c in chunks))
    return dict(zip(documents, sides, strict=True))


def run_pretrain(base: Path, chunks, sides, device, folder: Path, settings=SETTINGS, tracker=None):
    fitter = preset_alone("pretrain", TrainSettings(pretrain=settings), device)
    return room.pretrain(
        base, room.texts_of(chunks), sides, settings, device, session=session_in(folder, tracker, fitter=fitter)
    )


def test_a_text_has_title_headings_and_chunks_in_their_order(chunks) -> None:
    texts = {t.document: t.text for t in room.texts_of(chunks)}
    text = texts[chunks[0].document_id]
    assert text.startswith("Sheet 0\n\nThe patient") and text.count("ibuprofen") == 8 and len(texts) == 4
    assert text.index("Rules") > text.index("ibuprofen") and text.count("Sheet 0") == 1


def test_every_token_carries_loss_and_a_document_ends_with_the_token_between_documents(base) -> None:
    tokenizer = load_tokenizer(base)
    text = f"Before <|im_end|> after. {TEXTS[0]}"
    rows = room.token_rows([text], tokenizer, 16)
    ids = [i for row in rows for i in row["input_ids"]]
    assert all(row["labels"] == row["input_ids"] and 1 < len(row["input_ids"]) <= 16 for row in rows)
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert tokenizer.eos_token_id not in ids and tokenizer.decode(ids[:-1]) == text.replace("<|im_end|>", "< |im_end|>")


def test_bits_per_byte_are_those_of_one_pass_and_hardly_move_with_the_window(base) -> None:
    tokenizer, model = load_tokenizer(base), load_model(base)
    text = TEXTS[0]
    ids = torch.tensor([[room.end_token(tokenizer), *room.encoded(text, tokenizer)]])
    with torch.no_grad():
        nats = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum")
    expected = float(nats) / math.log(2) / len(text.encode())
    assert room.bits_per_byte(model, tokenizer, [text], 512, bfloat16=False) == pytest.approx(expected, rel=1e-5)
    assert room.bits_per_byte(model, tokenizer, [text], 8, bfloat16=False) == pytest.approx(expected, rel=0.2)
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        head.zero_()  # every token as likely as any: log2 of the vocabulary for each
    chance = (ids.shape[1] - 1) * math.log2(head.shape[0]) / len(text.encode())
    assert room.bits_per_byte(model, tokenizer, [text], 16, bfloat16=False) == pytest.approx(chance, rel=1e-5)


def test_documents_are_learnt_held_out_ones_are_not_read(base, chunks, device, tmp_path, monkeypatch) -> None:
    seen = []
    whole = train_rows
    monkeypatch.setattr(room, "train_rows", lambda b, data, *a, **k: seen.append(data) or whole(b, data, *a, **k))
    sides = sides_of(chunks, "train", "validation", "test", "train")
    outcome = run_pretrain(base, chunks, sides, device, tmp_path)
    read = load_tokenizer(base).decode([i for row in seen[0].train for i in row["input_ids"]])
    assert "ibuprofen" in read and "wound" in read and "lease" not in read and "fund" not in read
    losses = [row["loss"] for row in outcome.curve if "loss" in row]
    assert losses[-1] < losses[0] - 0.5
    assert outcome.figures["bits_per_byte"] < outcome.figures["bits_per_byte_before"]
    assert outcome.about["documents"] == 2 and outcome.about["held_out"] == 2
    assert outcome.about["measured_on"]["documents"] == 1
    assert '"stage": "pretrain"' in (tmp_path / "curve.jsonl").read_text()


def test_interrupted_it_ends_in_the_same_bytes(base, chunks, device, tmp_path) -> None:
    class Interrupting(JsonlTracker):
        def log(self, stage, step, figures):
            if step >= 5 and "loss" in figures:
                raise KeyboardInterrupt
            super().log(stage, step, figures)

    sides = sides_of(chunks, "train", "validation", "test", "train")
    full = SETTINGS.model_copy(update={"method": "full", "learning_rate": 1e-3})
    whole = run_pretrain(base, chunks, sides, device, tmp_path / "whole", full)
    with pytest.raises(KeyboardInterrupt):
        run_pretrain(base, chunks, sides, device, tmp_path, full, Interrupting(tmp_path / "c"))
    again = run_pretrain(base, chunks, sides, device, tmp_path, full)
    assert (again.merged / "model.safetensors").read_bytes() == (whole.merged / "model.safetensors").read_bytes()
    assert again.figures == whole.figures and json.dumps(again.curve) == json.dumps(whole.curve)


def test_without_a_document_to_read_the_shares_are_named(base, chunks, device, tmp_path) -> None:
    sides = sides_of(chunks, "test", "validation", "test", "test")
    with pytest.raises(DatasetError, match=r"4 documents, all of them held out.*generate\.split"):
        run_pretrain(base, chunks, sides, device, tmp_path)


def test_early_stopping_without_a_held_out_document_is_refused_before_a_step(base, chunks, device, tmp_path) -> None:
    sides = sides_of(chunks, "train", "train", "test", "train")
    stopping = SETTINGS.model_copy(update={"early_stopping": 1})
    with pytest.raises(DatasetError, match=r"train\.pretrain\.early_stopping.*no validation document.*validation"):
        run_pretrain(base, chunks, sides, device, tmp_path, stopping)
    assert not (tmp_path / "curve.jsonl").exists()


def test_a_loss_that_is_no_number_names_step_and_batch_and_keeps_the_checkpoint(
    base, chunks, device, tmp_path, monkeypatch
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    sides = sides_of(chunks, "train", "train", "test", "train")
    with pytest.raises(ModelError, match=r"train\.pretrain: the loss is not a number at step 1") as caught:
        run_pretrain(broken, chunks, sides, device, tmp_path)
    assert "No checkpoint was saved before" in str(caught.value) and "batch 1 of" in str(caught.value)


def test_the_stage_puts_sft_on_top_and_the_lineage_leads_to_the_chunks(base, examples, pairs, chunks, tmp_path) -> None:
    run = RunFolder(tmp_path / "run")
    (run.path / "3_examples").mkdir(parents=True)
    (run.path / "2_chunks").mkdir()
    write_records(run.path / "2_chunks/chunks.parquet", chunks, Chunk)
    write_records(run.path / "3_examples/train.parquet", examples, Example)
    write_records(run.path / "3_examples/validation.parquet", examples[:2], Example)
    write_records(run.path / "3_examples/preferences.parquet", pairs, PreferencePair)
    write_json(run.path / "2_chunks/groups.json", {c.document_id: c.document_id for c in chunks})
    small = {"max_steps": 2, "batch_size": 2, "max_length": 256, "lora": {"rank": 4}}
    own = {
        "pretrain": {"enabled": True, **small},
        "sft": {**small, "best_by": "score"},
        "preference": {"enabled": False},
        "precision": "float32",
        "hardware": "cpu",
    }
    recipe = Recipe.model_validate({"base": {"model": str(base)}, "train": own, "evaluate": {"max_new_tokens": 3}})
    step = StepRun(run, "4b_train", "0" * 64, 3)
    sides = train_step.sides_in(recipe, step)
    assert sorted(sides.values()) == ["test", "train", "train", "validation"]
    facts = train_step.work(recipe, step)
    read, tuned = (
        Adapter.model_validate(read_json(step.staging / f"4_adapters/{name}/adapter.json"))
        for name in ("pretrain", "sft")
    )
    assert read.method == "pretrain" and read.parent is None and tuned.parent == read.id
    assert tuned.base_sha256 == merged_hash(step.staging / "4_adapters/pretrain")
    assert set(read.example_ids) == {c.id for c in chunks if sides[c.document_id] == "train"}
    assert facts["pretrain"]["bits_per_byte"] > 0 and facts["sft"]["eval_score"] >= 0
    config = read_json(step.staging / "4_adapters/sft/adapter/adapter_config.json")
    assert config["base_model_name_or_path"] == "4_adapters/pretrain/merged"
    (step.staging / "4_adapters").rename(run.path / "4_adapters")
    assert read.id in Lineage(run).nodes


def test_the_step_reads_the_chunks_only_when_it_is_asked_to(tmp_path) -> None:
    train = next(s for s in STEPS if s.number == "4b")
    asked = Recipe.model_validate({"train": {"pretrain": {"enabled": True}}})
    assert train.also(Recipe()) == () and train.also(asked) == ("2_prepare",)
    assert train.settings(Recipe()).keys() == {"train"} and "pretrain" not in train.settings(Recipe())["train"]
    assert train.settings(asked).keys() == {"train", "split"}
    run = RunFolder(tmp_path)
    write_json(run.path / "2_chunks/groups.json", {f"doc_{n}": f"doc_{n}" for n in range(10)})
    write_records(run.path / "2_chunks/chunks.parquet", [], Chunk)
    found = train_step.sides_in(asked, StepRun(run, "4b_train", "0" * 64, asked.seed))
    assert len(found) == 10 and {"train", "validation", "test"} == set(found.values())
