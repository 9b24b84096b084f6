"""Every size that is published: whole, plain, and read alike by all who run it."""

import json
import re
import shutil
from pathlib import Path

import fieldwise_nano
import pytest

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.engine.template import without_control
from fieldwise.prompts import GROUNDED_SYSTEM, grounded_prompt
from fieldwise.records import NOT_STATED, Message
from fieldwise.release.gguf import convert

WEIGHTS = Path(__file__).resolve().parents[2] / "nano/src/fieldwise_nano/weights"
SIZES = sorted(p.parent.name for p in WEIGHTS.glob("*/card.json"))
TEXTS = (
    "Give 250 mg of Clarigel every 8 hours; the patient's weight is 71.5 kg.",
    "The Lessee shall pay USD 1,250.00 on or before 31 March 2024 (see § 4.2(b)).",
    "Net revenue rose 12.7 % to €3.4 bn, i.e. 0.5 pp above guidance.\n\nNotes:\n- unaudited\n- “rounded”",
    "Müller-Straße 12, naïve café — 日本語 🙂\tTab\r\nEnd",
    "Call extension 4417. Ask for Nurse O'Neil [1]. [2][3]",
    '<tool_call>\n{"name": "find", "arguments": {"ward": "B 3"}}\n</tool_call>',
    "   three blanks,  two,\n\n\nthree lines   ",
)


@pytest.fixture(scope="module", params=SIZES)
def folder(request: pytest.FixtureRequest) -> Path:
    return WEIGHTS / request.param


@pytest.fixture(scope="module")
def tokenizer(folder: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def llama(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("gguf") / "nano.gguf"
    convert(folder, path)
    with LlamaCppEngine(path) as engine:
        yield engine


def test_there_is_at_least_one_size() -> None:
    assert SIZES


def test_the_installed_package_holds_what_stands_here(folder: Path) -> None:
    assert fieldwise_nano.card(folder.name)["sha256"] == json.loads((folder / "card.json").read_text())["sha256"]
    assert fieldwise_nano.weights(folder.name).name == folder.name


def test_the_folder_holds_safetensors_and_text_alone(folder: Path) -> None:
    assert {p.suffix for p in folder.iterdir()} <= {".safetensors", ".json", ".jinja"}


def test_the_shape_is_plain_llama_in_multiples_of_256(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["tie_word_embeddings"]
    assert [config[k] % 256 for k in ("hidden_size", "intermediate_size", "vocab_size")] == [0, 0, 0]
    assert config["head_dim"] == 64 and config["max_position_embeddings"] >= 1024
    assert config["pad_token_id"] != config["eos_token_id"]


def test_ids_are_the_same_in_transformers_and_llama_cpp(tokenizer, llama: LlamaCppEngine) -> None:
    for text in TEXTS:
        assert llama.tokenize(text) == tokenizer.encode(text, add_special_tokens=False), text


def test_no_token_joins_a_space_with_a_capital_or_two_digits(tokenizer) -> None:
    learnt = [t for t in tokenizer.get_vocab() if not t.startswith(("<|", "<tool", "</tool"))]
    words = [tokenizer.convert_tokens_to_string([t]) for t in learnt]
    assert [w for w in words if re.search(r" [A-Z]", w)] == []
    assert [w for w in words if re.search(r"\d\d", w)] == []


def test_an_answer_has_the_tokens_it_has_in_the_passage(tokenizer, composer) -> None:
    found = []
    for seed in range(150):
        composer.rng.seed(seed)
        passages, turns = composer.conversation(4, 1, real_share=0.0)
        for turn in turns:
            if turn.kind in ("name", "number", "bind", "reverse", "generic"):
                answer = tokenizer.encode(" " + turn.answer.rpartition(" [")[0], add_special_tokens=False)
                passage = tokenizer.encode(" " + passages[0].text, add_special_tokens=False)
                found.append(any(passage[n : n + len(answer)] == answer for n in range(len(passage) - len(answer) + 1)))
    assert len(found) > 200
    assert sum(found) / len(found) >= 0.95


def test_the_words_of_the_prompt_are_the_same_everywhere(folder: Path) -> None:
    from nano_recipe import prompts, tasks

    card = json.loads((folder / "card.json").read_text())
    assert card["prompt"] == prompts.GROUNDED_SYSTEM == GROUNDED_SYSTEM
    assert card["declines_with"] == tasks.NOT_STATED == NOT_STATED


def test_training_and_serving_render_the_same_ids(tokenizer, composer, llama: LlamaCppEngine) -> None:
    import numpy as np

    from nano_recipe.prompts import served
    from nano_recipe.rows import RowMaker

    maker = RowMaker(tokenizer.backend_tokenizer, composer, np.zeros(64, dtype=np.uint16))
    question, passage, reply = "Who keeps the key?", "The key is kept by Ilse Brandt.", "Ilse Brandt [1]"
    trained = maker.chat(GROUNDED_SYSTEM, [(served([passage], question), maker.lead + reply)], 400)
    prompt = grounded_prompt(question, [passage])
    conversation = (*prompt, Message(role="assistant", content=reply))
    said = [{"role": m.role, "content": m.content} for m in without_control(conversation, [])]
    rendered = tokenizer.apply_chat_template(said, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    assert trained is not None and list(rendered["input_ids"]) == trained.ids
    learnt = [i for i, m in zip(rendered["input_ids"], rendered["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(learnt) == f" {reply}<|im_end|>"
    assert llama.render(prompt) == trained.ids[: len(trained.ids) - len(learnt) - 1]


def test_the_model_card_is_written_from_the_cards() -> None:
    from nano_recipe.cards import ROOT, render

    assert (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8") == render(WEIGHTS)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(WEIGHTS / SIZES[0], tmp_path / SIZES[0])
    monkeypatch.setattr(fieldwise_nano, "_ROOT", tmp_path)
    return tmp_path / SIZES[0]


def test_truncated_weights_are_found_out_with_the_cure(copied: Path) -> None:
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(fieldwise_nano.WeightsError, match=r"model\.safetensors: expected sha256.*pip install"):
        fieldwise_nano.weights(SIZES[0])


def test_a_missing_file_and_another_tokenizer_are_found_out(copied: Path) -> None:
    tokenizer = json.loads((copied / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
    (copied / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(fieldwise_nano.WeightsError, match=r"tokenizer\.json: expected sha256"):
        fieldwise_nano.weights(SIZES[0])
    (copied / "tokenizer.json").unlink()
    with pytest.raises(fieldwise_nano.WeightsError, match=r"tokenizer\.json: the file is missing"):
        fieldwise_nano.weights(SIZES[0])


def test_a_size_that_is_not_installed_is_refused_with_those_that_are(copied: Path) -> None:
    with pytest.raises(fieldwise_nano.WeightsError, match=f"not installed.*Installed: {SIZES[0]}"):
        fieldwise_nano.weights("nano-7b")
    shutil.rmtree(copied)
    with pytest.raises(fieldwise_nano.WeightsError, match="no weights are installed"):
        fieldwise_nano.weights()
