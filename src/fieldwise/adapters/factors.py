"""Low-rank updates as pairs of factors: read from an adapter's files, added, compared and cut to a rank.

LoRA (Hu et al. 2021, arXiv 2106.09685) adds `scale * B @ A` to a weight of `out` rows and `in` columns; the scale is
alpha / r, with rank stabilisation alpha / sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732). Here `left` is
`scale * B` and `right` is `A`, in float64. Norms and sums work on the factors: no matrix of full size is made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import ModelError
from fieldwise.extras import require

Matrix = NDArray[np.float64]
_KEY = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight$")
_NOT_PLAIN: dict[str, str] = {
    "use_dora": "DoRA also rescales the base's own columns",
    "modules_to_save": "whole modules were trained beside the update",
    "trainable_token_indices": "embeddings of tokens were trained beside the update",
    "target_parameters": "it updates parameters that are not modules",
    "lora_bias": "biases were trained beside the update",
    "layer_replication": "it repeats layers of the base",
    "megatron_config": "it splits its factors over devices",
}
_MOVES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")


class Update(NamedTuple):
    """The update of one module: `left @ right` is added to its weight."""

    left: Matrix
    right: Matrix

    @property
    def rank(self) -> int:
        """Columns of the left factor: the rank the update has at most."""
        return int(self.left.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the weight."""
        return int(self.left.shape[0]), int(self.right.shape[1])

    def dense(self) -> Matrix:
        """The update as a matrix of the weight's size."""
        return self.left @ self.right

    def norm(self) -> float:
        """Frobenius norm, from the triangles of both factors: no cancellation beyond rounding.

        >>> Update(np.array([[3.0], [0.0]]), np.array([[0.0, 1.0, 0.0]])).norm()
        3.0
        """
        left, right = np.linalg.qr(self.left).R, np.linalg.qr(self.right.T).R
        return float(np.linalg.norm(left @ right.T))

    def times(self, weight: float) -> Update:
        """The update scaled."""
        return Update(self.left * weight, self.right)

    def inner(self, other: Update) -> float:
        """Sum of products of all entries of both."""
        return float(np.sum((other.left.T @ self.left) * (other.right @ self.right.T)))


Updates = dict[str, Update]


def total(parts: Sequence[Update]) -> Update:
    """The exact sum of updates of one module: their factors side by side."""
    return Update(np.concatenate([p.left for p in parts], axis=1), np.concatenate([p.right for p in parts], axis=0))


def distance(one: Update, other: Update) -> float:
    """Frobenius norm of the difference."""
    return total([one, other.times(-1.0)]).norm()


def weighted_sum(adapters: Sequence[Updates], weights: Sequence[float]) -> Updates:
    """The exact weighted sum, module by module; an adapter without a module counts as zero there."""
    return {
        module: total([a[module].times(w) for a, w in zip(adapters, weights, strict=True) if module in a])
        for module in modules_of(adapters)
    }


def modules_of(adapters: Sequence[Updates]) -> list[str]:
    """Every module that any adapter updates, by name, numbers in order; raises ModelError if sizes differ."""
    shapes: dict[str, tuple[int, int]] = {}
    for updates in adapters:
        for module, update in updates.items():
            if shapes.setdefault(module, update.shape) != update.shape:
                raise ModelError(
                    "the adapters update a module of different sizes",
                    where=module,
                    found=f"{shapes[module]} and {update.shape}",
                    fix="They were trained on different bases, which cannot be merged.",
                )
    return sorted(shapes, key=lambda name: [(part.isdigit(), part.zfill(6)) for part in name.split(".")])


def best_rank(update: Update, rank: int) -> Update:
    """The nearest update of a rank in the Frobenius norm (Eckart and Young 1936).

    With left = Q R and the leading eigenvectors U of (R right)(R right)^T, that is (Q U)(U^T R right): the columns of
    Q U are orthonormal, the right factor holds the sizes.
    """
    if rank >= update.rank:
        return update
    if min(update.shape) < update.rank:  # a product whose inner side is the longest, such as a sum of many updates
        return best_rank_dense(update.dense(), rank)
    outer, inner = np.linalg.qr(update.left)
    middle = inner @ update.right
    vectors = _leading(middle, rank)
    return Update(outer @ vectors, vectors.T @ middle)


def best_rank_dense(matrix: Matrix, rank: int) -> Update:
    """The nearest update of a rank to any matrix."""
    rows, columns = matrix.shape
    if rows <= columns:
        vectors = _leading(matrix, rank)
        return Update(vectors, vectors.T @ matrix)
    vectors = _leading(matrix.T, rank)
    return Update(matrix @ vectors, np.ascontiguousarray(vectors.T))


def _leading(matrix: Matrix, rank: int) -> Matrix:
    """Left singular vectors of the largest singular values: eigenvectors of the smaller product with itself."""
    _, vectors = np.linalg.eigh(matrix @ matrix.T)
    return np.ascontiguousarray(vectors[:, ::-1][:, :rank])


# ---------------------------------------------------------------- files


class AdapterFiles(NamedTuple):
    """Where the two files of an adapter stand: in its folder, or in the store by their hashes."""

    config: Path
    weights: Path


def read_config(files: AdapterFiles) -> dict[str, Any]:
    """Return the configuration of an adapter; raises ModelError unless it is plain LoRA, whose updates can be added."""
    try:
        config = json.loads(files.config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            "the configuration of an adapter cannot be read",
            where=files.config,
            found=str(error),
            fix="Restore it: fieldwise run --stage 4b puts back what was changed.",
        ) from error
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ModelError(
            "only LoRA adapters can be merged or compared",
            where=files.config,
            found=str(kind),
            fix="Compare other kinds by what they answer: fieldwise gate --baseline RUN.",
        )
    problems = [why for key, why in _NOT_PLAIN.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        problems.append(_NOT_PLAIN["lora_bias"])
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_MOVES_BASE):
        problems.append(f"{start} also moves the weights of the base")
    if problems:
        raise ModelError(
            "this adapter is more than a low-rank update, so its weights cannot be added to another's",
            where=files.config,
            found="; ".join(dict.fromkeys(problems)),
            fix="Use its merged weights, which stand beside it in the run folder.",
        )
    return dict(config)


def read_updates(files: AdapterFiles) -> Updates:
    """Return the update of every module, by the module's name in the base, such as `model.layers.0.mlp.up_proj`."""
    config = read_config(files)
    sides: dict[str, dict[str, Matrix]] = {}
    for name, tensor in _tensors(files.weights).items():
        matched = _KEY.match(name)
        if matched is None or tensor.ndim != 2:
            raise ModelError(
                "the adapter holds a tensor that is no factor of a linear layer",
                where=files.weights,
                found=f"{name} {tuple(tensor.shape)}",
                fix="Only updates of linear layers can be added; use the merged weights beside the adapter.",
            )
        sides.setdefault(matched["module"], {})[matched["side"]] = tensor
    torn = sorted(module for module, found in sides.items() if set(found) != {"A", "B"})
    if torn or not sides:
        raise ModelError(
            "the adapter's file is not whole",
            where=files.weights,
            found=f"{torn[0]} has only one factor" if torn else "no factor",
            fix="Restore it: fieldwise run --stage 4b puts back what was changed.",
        )
    return {m: Update(s["B"] * _scale(config, m, s["A"].shape[0]), s["A"]) for m, s in sorted(sides.items())}


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    patterns: Mapping[str, int] = config.get("alpha_pattern") or {}
    # PEFT takes the first pattern that fits the end of the module's name.
    alpha = next((a for p, a in patterns.items() if re.match(rf"(.*\.)?({p})$", module)), config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _tensors(path: Path) -> dict[str, Matrix]:
    require("torch", extra="train", to="read an adapter")  # numpy knows no bfloat16
    safetensors = require("safetensors", extra="train", to="read an adapter")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).double().numpy() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(
            "the weights of an adapter cannot be read",
            where=path,
            found=str(error),
            fix="Restore them: fieldwise run --stage 4b puts back what was changed.",
        ) from error


def write_adapter(folder: Path, updates: Updates, config: dict[str, Any]) -> None:
    """Write a folder that PEFT loads: the scale is part of the factors, alpha equals the rank.

    Modules of a smaller rank are filled up with zeros, since servers expect one rank throughout.
    """
    torch = require("torch", extra="train", to="write an adapter")
    save = require("safetensors.torch", extra="train", to="write an adapter").save_file
    rank = max(update.rank for update in updates.values())
    tensors = {}
    for module, update in updates.items():
        missing = rank - update.rank
        sides = {"A": np.pad(update.right, ((0, missing), (0, 0))), "B": np.pad(update.left, ((0, 0), (0, missing)))}
        for side, values in sides.items():
            stored = torch.from_numpy(np.ascontiguousarray(values)).to(torch.float32)
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = stored
    folder.mkdir(parents=True, exist_ok=True)
    save(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    text = json.dumps({**config, "r": rank, "lora_alpha": rank}, indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def as_stored(updates: Updates) -> Updates:
    """What a reader of the file gets: the factors rounded to 32 bits."""
    return {m: Update(*(f.astype(np.float32).astype(np.float64) for f in u)) for m, u in updates.items()}
