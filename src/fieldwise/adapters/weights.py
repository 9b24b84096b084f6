"""Add an update to base weights of 16 or 32 bits, file by file.

Never into 4 or 8 bits: the sum is rounded to the coarse grid of the quantised weights, and what was measured with the
adapter is not what the merged weights say. Rounding to bfloat16 takes its share too (docs/adapters.md), so 32 bits are
written unless another type is wanted.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.adapters.factors import Updates
from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.progress import track

_FLOATS = ("F32", "BF16", "F16", "F64")
DTYPES = ("float32", "bfloat16", "float16")
_KEPT = (".json", ".jinja", ".model", ".txt")


class FullWeights(NamedTuple):
    """What was written: the type of the weights, and what their rounding took of the update (relative, Frobenius)."""

    dtype: str
    rounding: float


def require_plain(base: Path, updates: Updates, *, fan_in_fan_out: bool = False) -> None:
    """Raise ModelError unless the base holds every module of the updates in 16 or 32 bits and of their size."""
    config = base / "config.json"
    stated = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    quantised = stated.get("quantization_config") if isinstance(stated, dict) else None
    shapes = _shapes(base)
    wanted = {f"{module}.weight": update.shape for module, update in updates.items()}
    coarse = next((n for n in wanted if n in shapes and shapes[n][1] not in _FLOATS), None)
    if quantised or coarse:
        how = quantised.get("quant_method", "quantised") if isinstance(quantised, dict) else shapes[coarse or ""][1]
        bits = next(
            (f", {n} bits" for n in (4, 8) if isinstance(quantised, dict) and quantised.get(f"load_in_{n}bit")), ""
        )
        raise ModelError(
            "the base is quantised: added to its weights, most of the update would be rounded away",
            where=base,
            found=f"{how}{bits}",
            fix="Name the 16- or 32-bit weights it was made from with --base FOLDER, merge into those, and quantise the result.",
        )
    for name, size in wanted.items():
        shape = shapes[name][0] if name in shapes else None
        if shape != (size[::-1] if fan_in_fan_out else size):
            raise ModelError(
                "the base does not have this module" if shape is None else "the base has this module in another size",
                where=base,
                found=f"{name} {shape or ''}".strip(),
                fix="Name the weights that the adapter was trained on with --base FOLDER.",
            )


def _files(base: Path) -> list[Path]:
    files = sorted(base.glob("*.safetensors"))
    if not files:
        raise ModelError(
            "the base has no safetensors file", where=base, fix="Name a folder saved with save_pretrained."
        )
    return files


def _shapes(base: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    safetensors = require("safetensors", extra="train", to="read weights")
    found = {}
    for path in _files(base):
        with safetensors.safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_slice(name)
                found[name] = (tuple(tensor.get_shape()), str(tensor.get_dtype()))
    return found


def write_full(
    base: Path, updates: Updates, out: Path, *, dtype: str = "float32", fan_in_fan_out: bool = False
) -> FullWeights:
    """Write base plus updates with everything that belongs to a model folder; one file is held in memory at a time."""
    require_plain(base, updates, fan_in_fan_out=fan_in_fan_out)
    out.mkdir(parents=True, exist_ok=True)
    left = {f"{module}.weight": (u.left, u.right) for module, u in updates.items()}
    lost, size = 0.0, 0.0
    for path in track(_files(base), "files of weights"):
        made = _added(path, left, dtype, transposed=fan_in_fan_out)
        _save(made.tensors, out / path.name, made.metadata)
        lost, size = lost + made.lost, size + made.size
    _copy_rest(base, out, dtype)
    return FullWeights(dtype, math.sqrt(lost / size) if size > 0 else 0.0)


class _Added(NamedTuple):
    tensors: dict[str, Any]
    metadata: dict[str, str]
    lost: float
    size: float


def _added(path: Path, factors: dict[str, tuple[Any, Any]], dtype: str, *, transposed: bool) -> _Added:
    torch = require("torch", extra="train", to="merge weights")
    safetensors = require("safetensors", extra="train", to="merge weights")
    wanted, tensors, lost, size = getattr(torch, dtype), {}, 0.0, 0.0
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {"format": "pt"}
        for name in file.keys():  # noqa: SIM118 (no mapping)
            weight = file.get_tensor(name)
            if name in factors:
                delta = torch.from_numpy(factors[name][0] @ factors[name][1])
                delta = delta.T if transposed else delta
                exact = weight.double() + delta
                if not torch.isfinite(exact).all():
                    raise ModelError(
                        "the sum of base and update is not finite",
                        where=path,
                        found=name,
                        fix="Lower the weights, or leave out the adapter whose training went wrong.",
                    )
                weight = exact.to(wanted)
                lost += float((weight.double() - exact).square().sum())
                size += float(delta.square().sum())
            tensors[name] = (weight.to(wanted) if weight.is_floating_point() else weight).contiguous()
    return _Added(tensors, dict(metadata), lost, size)


def _save(tensors: dict[str, Any], path: Path, metadata: dict[str, str]) -> None:
    require("safetensors.torch", extra="train", to="merge weights").save_file(tensors, path, metadata=metadata)


def _copy_rest(base: Path, out: Path, dtype: str) -> None:
    """Configuration, tokenizer and template; not the card of the base, which speaks of other weights."""
    for path in _sorted_files(base):
        if path.suffix in _KEPT and path.name not in ("card.json", "adapter_config.json"):
            shutil.copyfile(path, out / path.name)
    config = out / "config.json"
    stated = json.loads(config.read_text(encoding="utf-8"))
    stated.pop("_name_or_path", None)  # a path of this machine has no place in what may be published
    stated.pop("torch_dtype", None)  # the older name of the next
    config.write_text(json.dumps({**stated, "dtype": dtype}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    index = out / "model.safetensors.index.json"
    if index.is_file():  # its total counts bytes of the base's type
        listed = json.loads(index.read_text(encoding="utf-8"))
        listed["metadata"] = {"total_size": sum(p.stat().st_size for p in out.glob("*.safetensors"))}
        index.write_text(json.dumps(listed, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _sorted_files(folder: Path) -> Sequence[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file())
