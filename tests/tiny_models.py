"""Tiny models with random weights for tests: a real tokenizer, a real template, weights of a few hundred kilobytes.

    from tiny_models import make_tiny_llama
    folder = make_tiny_llama(tmp_path / "model")

Norms and biases are random as well, so that a conversion that forgets them is found out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SENTENCES = (
    "The patient takes two tablets of ibuprofen every eight hours with food.",
    "A tenant may end the lease with three months of notice in writing.",
    "The fund charges 0.45 percent a year and 2 percent when shares are sold.",
    "Wash the wound with clean water and cover it for 48 hours [1].",
    "What does the contract say about the deposit? It is paid back within 14 days [2].",
    "Not stated in the documents.",
    "naïve café Straße 12,5 € — “quoted” Ελλάδα русский 中文 日本語 🙂",
    "def total(values):\n    return sum(values)\r\n\tprint(total([1, 2, 3]))",
)
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")
ADDED = ("<tool_call>", "</tool_call>", *(f"[{n}]" for n in range(1, 10)))
TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n# Tools\\n' }}
{%- for tool in tools %}
{{- tool | tojson }}
{{- '\\n' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>' + (call.function | tojson) + '</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def make_tokenizer(
    folder: Path, *, split: str | None = QWEN2_SPLIT, vocabulary: int = 600, digits: bool = False
) -> int:
    """Train a byte-level BPE tokenizer, save it with a ChatML template, and return its number of tokens.

    `split` None lets ByteLevel split by its own rule, as GPT-2 does; `digits` puts single digits before it.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    if split is None:
        steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(split), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    marks = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(ADDED), initial_alphabet=alphabet, special_tokens=marks, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ADDED])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return len(fast)


def make_tiny(folder: Path, config: Any, *, seed: int = 0, tokenizer: bool = True) -> Path:
    """Save a model of any architecture with random weights, norms and biases, and a tokenizer beside it.

    The end tokens' rows of the output are zero, so that greedy replies run to their limit.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer:
        make_tokenizer(folder)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.add_(torch.randn_like(weight) * (0.2 if name.endswith("norm.weight") else 0.1))
        model.get_output_embeddings().weight[[SPECIAL.index("<|im_end|>"), SPECIAL.index("<|endoftext|>")]] = 0
    _save_quietly(model, folder)
    return folder


def make_tiny_llama(
    folder: Path,
    *,
    hidden: int = 256,
    ffn: int = 768,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    context: int = 1024,
    tied: bool = True,
    vocabulary: int = 640,
    seed: int = 0,
    **more: Any,
) -> Path:
    """Save a tiny Llama with a ChatML tokenizer; `vocabulary` rows of embeddings for 600 tokens, the rest is padding."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.08,
        **more,
    )
    return make_tiny(folder, config, seed=seed)


def make_tiny_pair_classifier(folder: Path, words: str, labels: Sequence[str], *, seed: int = 3) -> Path:
    """A BERT of one layer that gives two texts a logit for each label; it knows no other than these words."""
    import torch
    import transformers

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words.split()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(known))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(known),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        id2label=dict(enumerate(labels)),
        label2id={name: n for n, name in enumerate(labels)},
        initializer_range=0.5,
    )
    _save_quietly(transformers.BertForSequenceClassification(config), folder)
    return folder


def pickled(folder: Path) -> Path:
    """Keep the weights of a folder as a pickle alone, as old models come."""
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def make_adapter(
    folder: Path, weights: Path, *, rank: int = 4, seed: int = 1, targets: str | list[str] = "all-linear"
) -> Path:
    """Save a LoRA adapter with random weights for a folder of weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32),
        LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets),
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.1)
    model.save_pretrained(folder)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes a key."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    content.update(changes)
    path.write_text(
        json.dumps({key: value for key, value in content.items() if value is not None}, indent=2), encoding="utf-8"
    )


def _save_quietly(model: Any, folder: Path) -> None:
    from transformers.utils import logging

    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if had_bars:
            logging.enable_progress_bar()
