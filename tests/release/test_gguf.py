from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_models import QWEN2_SPLIT, SENTENCES, TEMPLATE, edit_json, make_tiny, make_tiny_llama, make_tokenizer

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.errors import ModelError
from fieldwise.release.gguf import convert
from fieldwise.release.gguf_file import read_gguf
from fieldwise.release.gguf_vocabulary import pre_tokenizer
from fieldwise.release.safetensors_reader import stored_tensors

LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|")
PROMPT = " ".join(SENTENCES[:6])


@pytest.fixture
def copied(weights: Path, tmp_path: Path) -> Path:
    return shutil.copytree(weights, tmp_path / "model")


def largest_difference(folder: Path, out: Path) -> float:
    """Convert, run both, and return the largest difference of any logit; the best token must agree everywhere."""
    file = convert(folder, out).path
    with (
        LlamaCppEngine(file, threads=1, exact=True) as ours,
        TransformersEngine(folder, attention="eager", threads=1) as theirs,
    ):
        tokens = theirs.tokenize(PROMPT)
        assert ours.tokenize(PROMPT) == tokens
        found, expected = ours.logits(tokens), theirs.logits(tokens)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    return float(np.abs(found - expected).max())


def make_config(kind: str, **more: Any) -> Any:
    from transformers import AutoConfig

    plain: dict[str, Any] = {
        "vocab_size": 640,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.08,
    }
    return AutoConfig.for_model(kind, **{**plain, **more})


ARCHITECTURES: dict[str, tuple[str, dict[str, Any], float]] = {
    "llama": ("llama", {"tie_word_embeddings": False}, 2e-4),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": False}, 2e-4),
    "llama with wide heads": ("llama", {"head_dim": 96}, 2e-4),
    "llama with one head per group": ("llama", {"num_key_value_heads": 4}, 2e-4),
    "llama 3 rope": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
        2e-4,
    ),
    "linear rope": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}, 2e-4),
    "yarn rope": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 128,
            }
        },
        2e-4,
    ),
    "mistral": ("mistral", {"sliding_window": None}, 2e-4),
    "qwen2": ("qwen2", {}, 2e-4),
    "qwen3": ("qwen3", {"tie_word_embeddings": True}, 2e-4),
    "gemma": ("gemma", {"hidden_act": "gelu_pytorch_tanh"}, 2e-2),  # ggml looks the activation up in a table
    "gemma2": ("gemma2", {"sliding_window": 16, "query_pre_attn_scalar": 64, "num_hidden_layers": 4}, 2e-2),
    "gemma3": ("gemma3_text", {"sliding_window": 16, "query_pre_attn_scalar": 64, "num_hidden_layers": 7}, 2e-2),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_file_says_what_transformers_says(name: str, tmp_path: Path) -> None:
    kind, more, limit = ARCHITECTURES[name]
    folder = make_tiny(tmp_path / "model", make_config(kind, **more))
    assert largest_difference(folder, tmp_path / "a.gguf") < limit


def test_the_report_says_what_was_written(weights: Path, tmp_path: Path) -> None:
    info = convert(weights, tmp_path / "a.gguf")
    tensors = read_gguf(info.path).tensors
    assert (info.architecture, info.pre_tokenizer, info.vocabulary_size, info.context_tokens) == (
        "llama",
        "qwen2",
        640,
        1024,
    )
    assert (
        info.tensors == len(tensors) == 1 + 1 + 2 * 9
    )  # embedding, norm, and nine tensors a layer: the output is tied
    assert info.parameters == sum(int(np.prod(tensor.shape)) for tensor in tensors)
    assert info.bytes == info.path.stat().st_size


def test_the_header_names_sizes_tokens_and_template(gguf_file: Path) -> None:
    values = read_gguf(gguf_file).values
    expected = {
        "general.architecture": "llama",
        "general.file_type": 0,
        "llama.block_count": 2,
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 768,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 64,
        "llama.context_length": 1024,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": 640,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": 640,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    assert {key: values.get(key) for key in expected} == expected


def test_added_tokens_that_are_not_special_are_user_defined_and_missing_ones_unused(
    weights: Path, gguf_file: Path
) -> None:
    import gguf

    fields = gguf.GGUFReader(gguf_file).fields
    tokens, types = fields["tokenizer.ggml.tokens"].contents(), fields["tokenizer.ggml.token_type"].contents()
    kinds = dict(zip(tokens, types, strict=True))
    assert [kinds[text] for text in ("<|im_end|>", "<tool_call>", "[7]", "[PAD639]", "Ġthe")] == [3, 4, 4, 5, 1]


def test_the_same_weights_give_the_same_bytes_wherever_they_stand(weights: Path, copied: Path, tmp_path: Path) -> None:
    one, two = convert(weights, tmp_path / "one.gguf").path, convert(copied, tmp_path / "two.gguf").path
    assert one.read_bytes() == two.read_bytes()


def test_settings_of_transformers_4_give_the_same_file(copied: Path, gguf_file: Path, tmp_path: Path) -> None:
    edit_json(copied / "config.json", rope_parameters=None, rope_theta=10000.0, rope_scaling=None, head_dim=None)
    assert convert(copied, tmp_path / "a.gguf").path.read_bytes() == gguf_file.read_bytes()


def test_old_names_of_rope_scaling_are_read(copied: Path, tmp_path: Path) -> None:
    edit_json(
        copied / "config.json", rope_parameters=None, rope_theta=5000.0, rope_scaling={"type": "linear", "factor": 2.0}
    )
    values = read_gguf(convert(copied, tmp_path / "a.gguf").path).values
    assert (values["llama.rope.freq_base"], values["llama.rope.scaling.type"], values["llama.rope.scaling.factor"]) == (
        5000.0,
        "linear",
        2.0,
    )


def test_half_precision_halves_matrices_and_leaves_norms(weights: Path, tmp_path: Path) -> None:
    tensors = {
        tensor.name: tensor for tensor in read_gguf(convert(weights, tmp_path / "a.gguf", dtype="f16").path).tensors
    }
    assert {name: tensor.type_name for name, tensor in tensors.items() if len(tensor.shape) == 1} == dict.fromkeys(
        (name for name, t in tensors.items() if len(t.shape) == 1), "F32"
    )
    assert tensors["token_embd.weight"].type_name == "F16"
    stored = next(tensor for tensor in stored_tensors(weights) if tensor.name == "model.embed_tokens.weight").read()
    assert np.array_equal(tensors["token_embd.weight"].read(), stored.astype(np.float16))


def test_brain_floats_are_widened_exactly(copied: Path) -> None:
    import torch
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    path = copied / "model.safetensors"
    save_torch({name: tensor.bfloat16() for name, tensor in load_torch(path).items()}, path, metadata={"format": "pt"})
    expected = load_torch(path)
    for tensor in stored_tensors(copied):
        assert tensor.dtype == "BF16"
        assert np.array_equal(tensor.read(), expected[tensor.name].to(torch.float32).numpy())


def test_weights_in_several_files_give_the_same_file(copied: Path, gguf_file: Path, tmp_path: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    names = sorted(tensors)
    for n in range(2):
        save_file(
            {name: tensors[name] for name in names[n::2]},
            copied / f"model-0000{n + 1}-of-00002.safetensors",
            metadata={"format": "pt"},
        )
    (copied / "model.safetensors").unlink()
    assert convert(copied, tmp_path / "a.gguf").path.read_bytes() == gguf_file.read_bytes()


@pytest.mark.parametrize(
    ("split", "digits", "name"),
    [(QWEN2_SPLIT, False, "qwen2"), (LLAMA3_SPLIT, False, "llama-bpe"), (None, False, "gpt-2"), (None, True, "smollm")],
)
def test_every_pre_tokenizer_gives_the_tokens_of_transformers(
    split: str | None, digits: bool, name: str, copied: Path, tmp_path: Path
) -> None:
    make_tokenizer(copied, split=split, digits=digits)
    info = convert(copied, tmp_path / "a.gguf")
    assert info.pre_tokenizer == name
    with LlamaCppEngine(info.path, threads=1) as ours, TransformersEngine(copied, threads=1) as theirs:
        for text in (
            *SENTENCES,
            "1234567 a1b22",
            "don't DON'T we'll",
            "  two\n\n\nlines \t x",
            "<|im_start|>user[1]<|im_end|>[2]",
        ):
            assert ours.tokenize(text) == theirs.tokenize(text)


def test_a_sentencepiece_tokenizer_gives_the_tokens_of_transformers(copied: Path, tmp_path: Path) -> None:
    make_sentencepiece(copied)
    info = convert(copied, tmp_path / "a.gguf")
    assert info.pre_tokenizer == "default"
    with LlamaCppEngine(info.path, threads=1) as ours, TransformersEngine(copied, threads=1) as theirs:
        for text in ("The patient takes tablets", "naïve 🙂 x", "the lease"):
            assert ours.tokenize(text) == theirs.tokenize(text)


def make_sentencepiece(folder: Path) -> None:
    """A BPE tokenizer with byte fallback, as Llama 2 has it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = [AddedToken(text, special=True) for text in ("<unk>", "<s>", "</s>")]
    bytes_ = [f"<0x{n:02X}>" for n in range(256)]
    tokenizer.train_from_iterator(
        [sentence for sentence in SENTENCES[:6]],
        trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False),
    )
    stored = json.loads(tokenizer.to_str())
    vocabulary = {text: n for n, text in enumerate(["<unk>", "<s>", "</s>", *bytes_])}
    for text in sorted(stored["model"]["vocab"], key=stored["model"]["vocab"].get):
        vocabulary.setdefault(text, len(vocabulary))
    stored["model"]["vocab"] = vocabulary
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(stored)), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def test_the_template_may_stand_in_the_tokenizer_settings(copied: Path, tmp_path: Path) -> None:
    (copied / "chat_template.jinja").unlink()
    edit_json(
        copied / "tokenizer_config.json", chat_template=[{"name": "default", "template": "{{ messages[0].content }}"}]
    )
    assert (
        read_gguf(convert(copied, tmp_path / "a.gguf").path).values["tokenizer.chat_template"]
        == "{{ messages[0].content }}"
    )


def test_a_token_before_every_text_is_told_by_the_post_processor(copied: Path, tmp_path: Path) -> None:
    stored = json.loads((copied / "tokenizer.json").read_text(encoding="utf-8"))
    stored["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    }
    (copied / "tokenizer.json").write_text(json.dumps(stored), encoding="utf-8")
    edit_json(copied / "tokenizer_config.json", bos_token="<|im_start|>")
    values = read_gguf(convert(copied, tmp_path / "a.gguf").path).values
    assert (
        values["tokenizer.ggml.bos_token_id"],
        values["tokenizer.ggml.add_bos_token"],
        values["tokenizer.ggml.add_eos_token"],
    ) == (1, True, False)


def test_a_sliding_window_that_llama_cpp_does_not_slide_limits_the_context(copied: Path, tmp_path: Path) -> None:
    edit_json(copied / "config.json", architectures=["MistralForCausalLM"], sliding_window=128)
    assert convert(copied, tmp_path / "a.gguf").context_tokens == 128


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["FalconForCausalLM"]}, "FalconForCausalLM"),
        ({"architectures": None}, "no architectures entry"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        (
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "factor": 2.0,
                    "original_max_position_embeddings": 128,
                    "attention_factor": 1.3,
                }
            },
            "attention_factor",
        ),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor"),
        ({"hidden_act": "relu"}, "relu"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"num_attention_heads": "four"}, "num_attention_heads"),
        ({"vocab_size": 300}, "more tokens than the weights"),
        ({"num_hidden_layers": 3}, "blk.2"),
        ({"num_hidden_layers": 1}, "no place in GGUF"),
        ({"tie_word_embeddings": False}, "output.weight"),
    ],
)
def test_what_is_not_known_is_refused_and_nothing_is_left_behind(
    copied: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    edit_json(copied / "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        convert(copied, tmp_path / "out" / "a.gguf")
    assert not list(tmp_path.glob("out/*"))


def test_a_folder_without_weights_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no safetensors file"):
        convert(copied, tmp_path / "a.gguf")
    with pytest.raises(ModelError, match=r"no config\.json"):
        convert(tmp_path, tmp_path / "a.gguf")


def test_a_tensor_without_a_place_is_named(copied: Path, tmp_path: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    save_file(
        {**tensors, "model.layers.0.mlp.router.weight": np.zeros((2, 2), dtype=np.float32)},
        copied / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelError, match=r"no place in GGUF.*mlp\.router\.weight"):
        convert(copied, tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [(np.nan, "f32", "not numbers"), (np.inf, "f32", "infinite"), (1e6, "f16", "does not fit into 16 bits")],
)
def test_numbers_that_cannot_be_kept_are_refused(
    copied: Path, tmp_path: Path, value: float, dtype: Any, message: str
) -> None:
    tensors = load_file(copied / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"{message}.*up_proj"):
        convert(copied, tmp_path / "a.gguf", dtype=dtype)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "no pre-tokenizer"),
        ({"pre_tokenizer": None}, "no pre-tokenizer"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}}, "no pre-tokenizer"),
        ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": "</w>"}}, "borders of words"),
    ],
)
def test_a_tokenizer_llama_cpp_cannot_follow_is_refused(change: dict[str, Any], message: str) -> None:
    tokenizer: dict[str, Any] = {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "normalizer": None,
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
    assert pre_tokenizer(tokenizer, Path("tokenizer.json")) == "gpt-2"
    with pytest.raises(ModelError, match=message):
        pre_tokenizer({**tokenizer, **change}, Path("tokenizer.json"))


def test_a_wordpiece_tokenizer_is_refused(copied: Path, tmp_path: Path) -> None:
    edit_json(copied / "tokenizer.json", model={"type": "WordPiece", "vocab": {}})
    with pytest.raises(ModelError, match="WordPiece"):
        convert(copied, tmp_path / "a.gguf")


def test_a_tokenizer_without_an_end_token_is_refused(copied: Path, tmp_path: Path) -> None:
    edit_json(copied / "tokenizer_config.json", eos_token=None)
    edit_json(copied / "config.json", eos_token_id=None)
    with pytest.raises(ModelError, match="ends a reply"):
        convert(copied, tmp_path / "a.gguf")


@pytest.mark.parametrize("keep", [4, 60, 5000, -400])
def test_a_safetensors_file_that_is_cut_off_is_refused(copied: Path, tmp_path: Path, keep: int) -> None:
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"cut off|not a safetensors file"):
        convert(copied, tmp_path / "a.gguf")


def test_integer_weights_are_refused_with_their_type(copied: Path, tmp_path: Path) -> None:
    save_file(
        {"model.embed_tokens.weight": np.zeros((640, 256), dtype=np.int8)},
        copied / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelError, match=r"embed_tokens.*I8.*dequantised"):
        convert(copied, tmp_path / "a.gguf")


def test_the_largest_tensor_decides_about_memory_and_not_their_sum(tmp_path: Path) -> None:
    import tracemalloc

    folder = make_tiny_llama(tmp_path / "model", layers=8)
    largest = max(int(np.prod(tensor.shape)) * 4 for tensor in stored_tensors(folder))
    total = sum(int(np.prod(tensor.shape)) * 4 for tensor in stored_tensors(folder))
    convert(folder, tmp_path / "first.gguf")  # imports
    tracemalloc.start()
    convert(folder, tmp_path / "a.gguf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * largest + 3_000_000 < total
