from __future__ import annotations

import itertools
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_models import SENTENCES, edit_json, make_adapter

from fieldwise.engine import reply as reply_module
from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.errors import ModelError
from fieldwise.interfaces import Sampling
from fieldwise.records import Message

CONVERSATION = (Message(role="user", content="When is the deposit paid back [1]?"),)


@pytest.fixture(scope="module")
def adapter(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapter") / "lora", weights)


def test_greedy_replies_in_a_batch_equal_those_one_by_one(torch_engine: TransformersEngine) -> None:
    prompts = [torch_engine.tokenize(text)[: 2 + 3 * n] for n, text in enumerate(SENTENCES * 3)]
    together = torch_engine.generate(prompts, Sampling(max_tokens=16))
    assert together == [torch_engine.generate([prompt], Sampling(max_tokens=16))[0] for prompt in prompts]


def test_greedy_replies_equal_those_of_transformers_generate(torch_engine: TransformersEngine, weights: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    prompt = torch_engine.render(CONVERSATION)
    theirs = model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)[0, len(prompt) :].tolist()
    assert list(torch_engine.generate([prompt], Sampling(max_tokens=20))[0].token_ids) == theirs


def test_replies_that_end_early_leave_the_others_as_they_are(
    weights: Path, torch_engine: TransformersEngine, tmp_path: Path
) -> None:
    prompts = [torch_engine.tokenize(text) for text in SENTENCES]
    free = torch_engine.generate(prompts, Sampling(max_tokens=14))
    end = free[2].token_ids[4]
    folder = shutil.copytree(weights, tmp_path / "model")
    edit_json(folder / "generation_config.json", eos_token_id=[2, end])
    with TransformersEngine(folder, attention="eager") as engine:
        replies = engine.generate(prompts, Sampling(max_tokens=14))
    assert replies[2].finish_reason == "stop"
    for reply, whole in zip(replies, free, strict=True):
        cut = whole.token_ids.index(end) if end in whole.token_ids else len(whole.token_ids)
        assert reply.token_ids == whole.token_ids[:cut]


def test_tokens_known_to_end_a_reply_do_so_without_being_named(torch_engine: TransformersEngine) -> None:
    assert torch_engine._ends == {2, 3}  # <|im_end|> is the end token, <|endoftext|> is known


def test_sampled_replies_depend_on_the_seed_and_not_on_the_company(torch_engine: TransformersEngine) -> None:
    prompts = [torch_engine.tokenize(text) for text in SENTENCES[:4]]
    sampling = Sampling(max_tokens=12, temperature=1.0, top_k=50, top_p=0.9, seed=5)
    together = torch_engine.generate(prompts, sampling)
    assert together == [torch_engine.generate([prompt], sampling)[0] for prompt in prompts]
    assert together != torch_engine.generate(
        prompts, Sampling(max_tokens=12, temperature=1.0, top_k=50, top_p=0.9, seed=6)
    )


def test_a_stream_says_what_generate_says(torch_engine: TransformersEngine) -> None:
    for seed in range(4):
        sampling = Sampling(max_tokens=40, temperature=1.5, seed=seed)
        reply = torch_engine.generate([torch_engine.tokenize("🙂")], sampling)[0]
        pieces = list(torch_engine.stream(torch_engine.tokenize("🙂"), sampling))
        assert "".join(piece.text for piece in pieces) == reply.text == torch_engine.detokenize(reply.token_ids)
        assert pieces[-1].finish_reason == reply.finish_reason


def test_a_stream_ends_soon_after_it_is_cancelled(torch_engine: TransformersEngine) -> None:
    asked = threading.Event()
    pieces = []
    for piece in torch_engine.stream([5, 6], Sampling(max_tokens=500), asked.is_set):
        pieces.append(piece)
        if len(pieces) == 4:
            asked.set()
    assert [pieces[-1].finish_reason, len(pieces)] == ["cancelled", 5]


def test_a_stop_string_ends_the_reply_before_it(torch_engine: TransformersEngine) -> None:
    prompt = torch_engine.tokenize(SENTENCES[1])
    whole = torch_engine.generate([prompt], Sampling(max_tokens=20))[0].text
    stop = whole[9:13]
    reply = torch_engine.generate([prompt], Sampling(max_tokens=20, stop=(stop,)))[0]
    assert (reply.text, reply.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_a_prompt_longer_than_the_context_is_refused_with_both_counts(torch_engine: TransformersEngine) -> None:
    with pytest.raises(ModelError, match=r"1030 tokens for a context of 1024"):
        torch_engine.stream([5] * 1030, Sampling())


def test_logprobs_follow_from_logits(torch_engine: TransformersEngine) -> None:
    tokens = torch_engine.tokenize(SENTENCES[0])
    rows = torch_engine.logits(tokens).astype(np.float64)
    expected = [rows[n, token] - np.log(np.exp(rows[n]).sum()) for n, token in enumerate(tokens[1:])]
    assert torch_engine.logprobs(tokens) == pytest.approx(expected)


def test_an_adapter_changes_the_replies_and_can_be_switched_off(
    weights: Path, torch_engine: TransformersEngine, adapter: Path
) -> None:
    prompt = torch_engine.render(CONVERSATION)
    base = torch_engine.generate([prompt], Sampling(max_tokens=12))
    with TransformersEngine(weights, adapter, attention="eager") as engine:
        assert engine.model_id == "tiny:lora"
        tuned = engine.generate([prompt], Sampling(max_tokens=12))
        with engine.without_adapter():
            assert engine.generate([prompt], Sampling(max_tokens=12)) == base
        assert engine.generate([prompt], Sampling(max_tokens=12)) == tuned
    assert tuned != base


def test_without_adapter_does_nothing_to_bare_weights(torch_engine: TransformersEngine) -> None:
    before = torch_engine.logits([5, 6])
    with torch_engine.without_adapter():
        assert np.array_equal(torch_engine.logits([5, 6]), before)


def test_bfloat16_answers_near_float32(weights: Path, torch_engine: TransformersEngine) -> None:
    with TransformersEngine(weights, dtype="bfloat16") as engine:
        difference = np.abs(engine.logits([5, 6, 7]) - torch_engine.logits([5, 6, 7])).max()
    assert 0 < difference < 0.5


def test_weights_in_other_formats_are_refused(weights: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(weights, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        TransformersEngine(folder)
    with pytest.raises(ModelError, match="adapter"):
        TransformersEngine(weights, tmp_path)


def test_missing_tensors_are_an_error_and_not_random_numbers(weights: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(weights, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="up_proj"):
        TransformersEngine(folder)


def test_a_folder_without_a_tokenizer_is_refused(weights: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(weights, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="tokenizer cannot be loaded"):
        TransformersEngine(folder)


def test_a_closed_engine_says_so(weights: Path) -> None:
    engine = TransformersEngine(weights)
    engine.close()
    with pytest.raises(ModelError, match="closed"):
        engine.generate([[5]], Sampling())


def test_a_reply_says_when_its_first_token_was_there(
    torch_engine: TransformersEngine, exact: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [torch_engine.tokenize(text) for text in SENTENCES[:3]]
    rated = [[prompt[:4]] for prompt in prompts]
    clock = itertools.count()
    monkeypatch.setattr(reply_module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    for engine in (torch_engine, exact):
        replies = engine.generate(prompts, Sampling(max_tokens=4), rated=rated)
        assert all(reply.first_token_seconds is not None and reply.first_token_seconds > 0 for reply in replies)
    (alone,) = torch_engine.generate(prompts[:1], Sampling(max_tokens=4))
    assert alone.first_token_seconds == 1.0  # one look at the clock before the prompt, one behind it


def test_of_a_rated_reply_those_tokens_count_that_the_model_would_have_said(
    torch_engine: TransformersEngine, exact: LlamaCppEngine
) -> None:
    prompt = torch_engine.tokenize(SENTENCES[0])
    for engine in (torch_engine, exact):
        (own,) = engine.generate([prompt], Sampling(max_tokens=6))
        said = list(own.token_ids)
        other = [*said[:-1], said[-1] + 1]
        (rated,) = engine.generate([prompt], Sampling(max_tokens=1), rated=[[said, other, said[:1]]])
        assert len(said) > 2 and rated.rated_hits == (len(said), len(said) - 1, 1)
