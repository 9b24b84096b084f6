"""A tokenizer in GGUF's keys: what tokenizer.json does, said in the few ways that llama.cpp knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.engine.base_weights import chat_template
from fieldwise.errors import ModelError
from fieldwise.files import read_json

_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# what the pre-tokenizer does -> what llama.cpp calls it
_PRE_TOKENIZERS: dict[tuple[tuple[str, object], ...], str] = {
    (("Split", _LLAMA3), ("ByteLevel", False)): "llama-bpe",
    (("Split", _QWEN2), ("ByteLevel", False)): "qwen2",
    (("ByteLevel", True),): "gpt-2",
    (("Digits", True), ("ByteLevel", True)): "smollm",
}
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6  # llama_token_type
_BLANK = "\u0120"  # how byte-level tokens write a space


class _Entry(NamedTuple):
    text: str
    kind: int
    score: float


def write_vocabulary(writer: Any, folder: Path, config: dict[str, Any]) -> str:
    """Write tokens, merges, special tokens and the chat template; returns the name of the pre-tokenizer.

    Added tokens that are not special, such as citation marks, become "user defined": llama.cpp then finds them in
    any text, as transformers does.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            "the weights have no tokenizer.json",
            where=folder,
            fix="Save the tokenizer with save_pretrained of a fast tokenizer.",
        )
    tokenizer = read_json(path)
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    model: Any = tokenizer.get("model") or {}
    is_sentencepiece = model.get("type") == "Unigram" or (
        model.get("type") == "BPE" and bool(model.get("byte_fallback"))
    )
    if not is_sentencepiece and model.get("type") != "BPE":
        raise ModelError(
            "this kind of tokenizer cannot be converted",
            where=path,
            found=model.get("type"),
            fix="Use weights with a BPE or Unigram tokenizer.",
        )
    entries = _entries(tokenizer, int(config["vocab_size"]), is_sentencepiece, path)
    pre = "default" if is_sentencepiece else pre_tokenizer(tokenizer, path)
    writer.add_tokenizer_model("llama" if is_sentencepiece else "gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([entry.text for entry in entries])
    if is_sentencepiece:
        writer.add_token_scores([entry.score for entry in entries])
    writer.add_token_types([entry.kind for entry in entries])
    if is_sentencepiece:
        writer.add_add_space_prefix(_adds_blank(tokenizer))
    else:
        writer.add_token_merges([_merge(merge) for merge in model.get("merges", [])])
    _write_special(writer, folder, config, settings, tokenizer, {entry.text: n for n, entry in enumerate(entries)})
    template = chat_template(folder)
    if template is not None:
        writer.add_chat_template(template)
    return pre


def pre_tokenizer(tokenizer: dict[str, Any], where: Path) -> str:
    """Return llama.cpp's name for how a byte-level tokenizer splits text; raises ModelError if it has none."""
    steps = tuple(_steps(tokenizer.get("pre_tokenizer")))
    normalizer: Any = tokenizer.get("normalizer")
    model = tokenizer["model"]
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise ModelError(
            "llama.cpp has no normaliser for byte-level tokenizers",
            where=where,
            found=normalizer.get("type"),
            fix="Train the tokenizer without a normaliser.",
        )
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ModelError(
            "this kind of BPE cannot be converted",
            where=where,
            found="marks at the borders of words",
            fix="Use a byte-level BPE tokenizer.",
        )
    if steps not in _PRE_TOKENIZERS:
        raise ModelError(
            "llama.cpp has no pre-tokenizer that splits text like this one",
            where=where,
            found=str(steps)[:200],
            fix="Train the tokenizer with the split of Llama 3 or Qwen 2 followed by ByteLevel(use_regex=False).",
        )
    return _PRE_TOKENIZERS[steps]


def _steps(stored: Any) -> list[tuple[str, object]]:
    if stored is None:
        return []
    kind = stored["type"]
    if kind == "Sequence":
        return [step for part in stored["pretokenizers"] for step in _steps(part)]
    if kind == "Split" and stored.get("behavior") == "Isolated" and not stored.get("invert"):
        return [("Split", stored["pattern"].get("Regex"))]
    if kind == "ByteLevel" and not stored.get("add_prefix_space"):
        return [("ByteLevel", stored.get("use_regex", True))]
    if kind == "Digits":
        return [("Digits", stored.get("individual_digits"))]
    return [(kind, json.dumps(stored, sort_keys=True))]


def _entries(tokenizer: dict[str, Any], size: int, is_sentencepiece: bool, where: Path) -> list[_Entry]:
    model = tokenizer["model"]
    entries = [_Entry(f"[PAD{n}]", _UNUSED, -1000.0) for n in range(size)]
    listed = (
        [(text, n, score) for n, (text, score) in enumerate(model["vocab"])]
        if model["type"] == "Unigram"
        else [(text, n, -float(n)) for text, n in model["vocab"].items()]
    )
    added = tokenizer.get("added_tokens") or []
    largest = max([n for _, n, _ in listed] + [token["id"] for token in added])
    if largest >= size:
        raise ModelError(
            "the tokenizer has more tokens than the weights",
            where=where,
            found=f"id {largest} for {size} rows",
            fix="Resize the embeddings to the tokenizer, or take the tokenizer the weights were trained with.",
        )
    for text, n, score in listed:
        is_byte = is_sentencepiece and len(text) == 6 and text.startswith("<0x") and text.endswith(">")
        entries[n] = _Entry(text, _BYTE if is_byte else _NORMAL, score)
    for token in added:
        entries[token["id"]] = _Entry(token["content"], _CONTROL if token["special"] else _USER_DEFINED, -1000.0)
    if is_sentencepiece:
        unknown = model.get("unk_id") if model["type"] == "Unigram" else model["vocab"].get(model.get("unk_token"))
        if unknown is not None:
            entries[unknown] = entries[unknown]._replace(kind=_UNKNOWN)
    return entries


def _merge(merge: str | list[str]) -> str:
    return merge if isinstance(merge, str) else " ".join(part.replace(" ", _BLANK) for part in merge)


def _adds_blank(tokenizer: dict[str, Any]) -> bool:
    """Whether a text gets a blank before it: sentencepiece tokenizers say so in a normaliser or a Metaspace."""
    normalizer, splitter = json.dumps(tokenizer.get("normalizer")), tokenizer.get("pre_tokenizer") or {}
    return '"Prepend"' in normalizer or (
        splitter.get("type") == "Metaspace" and splitter.get("prepend_scheme", "always") != "never"
    )


def _write_special(
    writer: Any,
    folder: Path,
    config: dict[str, Any],
    settings: dict[str, Any],
    tokenizer: dict[str, Any],
    ids: dict[str, int],
) -> None:
    tokens = {name: _special_id(name, config, settings, ids) for name in ("bos", "eos", "unk", "pad")}
    if tokens["eos"] is None:
        # llama.cpp would silently take token 11
        raise ModelError(
            "the tokenizer names no token that ends a reply",
            where=folder,
            fix="Set eos_token in tokenizer_config.json.",
        )
    for name, write in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("unk", writer.add_unk_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        if tokens[name] is not None:
            write(tokens[name])
    further = [token for token in _end_ids(folder, config) if token != tokens["eos"]]
    if further:
        writer.add_eot_token_id(further[0])
    before, after = _template_tokens(tokenizer)
    writer.add_add_bos_token(_flag(settings, "add_bos_token", _text_of("bos", settings) in before))
    writer.add_add_eos_token(_flag(settings, "add_eos_token", _text_of("eos", settings) in after))


def _text_of(name: str, settings: dict[str, Any]) -> str | None:
    value = settings.get(f"{name}_token")
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _special_id(name: str, config: dict[str, Any], settings: dict[str, Any], ids: dict[str, int]) -> int | None:
    text = _text_of(name, settings)
    if text is not None:
        return ids.get(text)
    value = config.get(f"{name}_token_id")
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, int) and 0 <= first < len(ids) else None


def _end_ids(folder: Path, config: dict[str, Any]) -> list[int]:
    generation = read_json(folder / "generation_config.json") if (folder / "generation_config.json").is_file() else {}
    found: list[int] = []
    for value in (generation.get("eos_token_id"), config.get("eos_token_id")):
        found += [
            token
            for token in (value if isinstance(value, list) else [value])
            if isinstance(token, int) and token not in found
        ]
    return found


def _template_tokens(tokenizer: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Return the special tokens the tokenizer puts before and after a text."""
    post = tokenizer.get("post_processor") or {}
    parts = post.get("processors", []) if post.get("type") == "Sequence" else [post]
    before: set[str] = set()
    after: set[str] = set()
    for part in parts:
        side = before
        for item in part.get("single") or [] if part.get("type") == "TemplateProcessing" else []:
            if "Sequence" in item:
                side = after
            else:
                side.add(item["SpecialToken"]["id"])
    return before, after


def _flag(settings: dict[str, Any], name: str, otherwise: bool) -> bool:
    value = settings.get(name)
    return value if isinstance(value, bool) else otherwise
