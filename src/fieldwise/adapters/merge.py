"""Make one adapter, or full weights, of several adapters of one base, as a step of a run with its record."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import JsonValue

from fieldwise.adapters.factors import Updates, as_stored, read_config, read_updates, weighted_sum, write_adapter
from fieldwise.adapters.methods import METHODS, Part, Plan, chained, errors, merged, unfit
from fieldwise.adapters.registry import MERGES, Held, MergedAdapter, Registry, Share
from fieldwise.adapters.weights import FullWeights, require_plain, write_full
from fieldwise.engine.base_weights import resolve
from fieldwise.errors import FieldwiseError, ModelError, RunError
from fieldwise.extras import installed_version
from fieldwise.files import read_json, write_json
from fieldwise.hashing import canonical_json, content_id, sha256_of_files, sha256_text
from fieldwise.run import Manifest, RunFolder

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_LIBRARIES = ("torch", "safetensors", "numpy")
_CODE = ("factors.py", "methods.py", "merge.py", "weights.py")


@dataclass(frozen=True)
class Order:
    """What is wanted: adapters with weights (None: equal ones that sum to 1), how, and under which name."""

    wanted: tuple[tuple[str, float | None], ...]
    plan: Plan
    name: str
    chain: bool = False
    full: bool = False
    base: Path | None = None
    dtype: str = "float32"


class Gathered(NamedTuple):
    """The adapters of an order, read and checked against each other."""

    held: tuple[Held, ...]
    chains: tuple[tuple[Held, ...], ...]
    parts: tuple[Part, ...]
    base: str
    base_sha256: str
    fan_in_fan_out: bool

    @property
    def exact(self) -> Updates:
        """The weighted sum that every method is measured against."""
        return weighted_sum([p.updates for p in self.parts], [p.weight for p in self.parts])


def gather(registry: Registry, order: Order) -> Gathered:
    """Find and read the adapters; raises ModelError where they do not stand on one base."""
    held = tuple(registry.find(wanted) for wanted, _ in order.wanted)
    weights = _weights(order)
    chains = tuple(tuple(registry.chain(h)) if order.chain else (h,) for h in held)
    _require_one_base(held, chains, order)
    parts = tuple(
        Part("+".join(h.entry.id for h in chain), chained([read_updates(h.files) for h in chain]), weight)
        for chain, weight in zip(chains, weights, strict=True)
    )
    directions = {bool(read_config(h.files).get("fan_in_fan_out")) for chain in chains for h in chain}
    lowest = chains[0][0].entry
    return Gathered(held, chains, parts, lowest.base, lowest.base_sha256, directions == {True})


def _weights(order: Order) -> list[float]:
    given = [w for _, w in order.wanted]
    if all(w is None for w in given):
        return [1.0 / len(given)] * len(given)
    if any(w is None for w in given):
        raise FieldwiseError(
            "some adapters have a weight and some have none",
            where="adapters merge",
            found=", ".join(a if w is None else f"{a}={w:g}" for a, w in order.wanted),
            fix="Write ADAPTER=WEIGHT for each, or no weight for equal shares.",
        )
    return [float(w or 0.0) for w in given]


def _require_one_base(held: Sequence[Held], chains: Sequence[Sequence[Held]], order: Order) -> None:
    bases = {chain[0].entry.base_sha256 for chain in chains}
    if len(bases) == 1:
        return
    one_root = len({h.entry.root_sha256 for h in held}) == 1
    raise ModelError(
        "the adapters stand on different bases, so their updates do not belong to the same weights",
        where="adapters merge",
        found="; ".join(f"{c[0].entry.id} on {c[0].entry.base} ({c[0].entry.base_sha256[:12]})" for c in chains),
        fix="Their trainings started from the same weights: --chain takes each together with what was merged into its base before it."
        if one_root and not order.chain
        else "Train them on one base, or ask each on its own.",
    )


def compare_methods(gathered: Gathered, plan: Plan) -> dict[str, float | str]:
    """Overall relative error of every method against the exact sum, or why a method does not fit; writes nothing."""
    exact = gathered.exact
    found: dict[str, float | str] = {}
    for method in METHODS:
        reason = unfit(gathered.parts, method)
        made = None if reason else as_stored(merged(gathered.parts, plan._replace(method=method)))
        found[method] = reason if made is None else errors(made, exact)[""]  # type: ignore[assignment]
    return found


def make(registry: Registry, order: Order, run: RunFolder) -> tuple[MergedAdapter, bool]:
    """Merge and write into a run; returns the record and whether it was there already."""
    if not _NAME.fullmatch(order.name):
        raise FieldwiseError(
            "not a name for a merge",
            where="--name",
            found=repr(order.name),
            fix="Use small letters, figures, '.', '_' and '-', such as billing-and-intake.",
        )
    gathered = gather(registry, order)
    base = _base_folder(registry, gathered, order) if order.full else None
    if base is not None:
        require_plain(base, gathered.exact, fan_in_fan_out=gathered.fan_in_fan_out)
    step = f"4m_{order.name}"
    parts = _key_parts(step, gathered, order, base)
    key = sha256_text(canonical_json(parts))
    with run.locked("fieldwise adapters merge"):
        standing = run.manifest(step)
        if standing is not None and standing.key == key and not run.damaged_outputs(standing):
            return _read(run, order.name), True
        if standing is not None and standing.key != key:
            raise RunError(
                "another merge of this name stands here",
                where=run.path / MERGES / order.name,
                found=f"{_read(run, order.name).id}",
                fix="Choose another --name, or take it away first: fieldwise adapters remove.",
            )
        if (stored := run.stored(key)) is not None:
            run.restore(stored)
            return _read(run, order.name), True
        run.require_free_disk()
        _publish(run, step, key, parts, gathered, order, base)
    return _read(run, order.name), False


def _read(run: RunFolder, name: str) -> MergedAdapter:
    return MergedAdapter.model_validate(read_json(run.path / MERGES / name / "adapter.json"))


def _key_parts(step: str, gathered: Gathered, order: Order, base: Path | None) -> dict[str, JsonValue]:
    plan = order.plan
    here = Path(__file__).parent
    return {
        "step": step,
        "seed": plan.seed if plan.method.startswith("dare") else 0,
        "settings": {
            "merge": _settings(plan),
            "weights": [p.weight for p in gathered.parts],
            "full": order.dtype if order.full else None,
        },
        "inputs": {p.id: p.id for p in gathered.parts},  # ids are hashes of their content
        "order": [p.id for p in gathered.parts],
        "outside": {"base": sha256_of_files(sorted(base.glob("*.safetensors")), base) if base is not None else None},
        "code": sha256_of_files([here / name for name in _CODE], here),
        "libraries": {name: installed_version(name) for name in _LIBRARIES},
    }


def _settings(plan: Plan) -> dict[str, JsonValue]:
    has_density = plan.method in ("ties", "dare", "dare_ties")
    rank = plan.rank if plan.method not in ("cat", "linear") else None
    return {"method": plan.method, "rank": rank, "density": plan.density if has_density else None}


def _publish(
    run: RunFolder,
    step: str,
    key: str,
    parts: dict[str, JsonValue],
    gathered: Gathered,
    order: Order,
    base: Path | None,
) -> Manifest:
    began = time.monotonic()
    staging = run.staging(step)
    try:
        folder = staging / MERGES / order.name
        made = as_stored(merged(gathered.parts, order.plan))
        off = errors(made, gathered.exact)
        write_adapter(folder / "adapter", made, _config(gathered, made))
        full = (
            write_full(base, made, folder / "weights", dtype=order.dtype, fan_in_fan_out=gathered.fan_in_fan_out)
            if base is not None
            else None
        )
        record = _record(folder, gathered, order, off, made, full, key)
        write_json(folder / "adapter.json", record.model_dump(mode="json"))
        facts: dict[str, JsonValue] = {"adapter": record.id, "error": record.error, "rank": record.rank}
        return run.publish(step, key, parts, staging, facts, time.monotonic() - began)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _record(
    folder: Path,
    gathered: Gathered,
    order: Order,
    off: dict[str, float],
    made: Updates,
    full: FullWeights | None,
    key: str,
) -> MergedAdapter:
    files = sorted(p for p in (folder / "adapter").iterdir() if p.is_file())
    plan, place = order.plan, f"{MERGES}/{order.name}"
    settings = _settings(plan)
    shares = tuple(
        Share(adapter=h.entry.id, weight=p.weight, chain=tuple(c.entry.id for c in chain if c.entry.id != h.entry.id))
        for h, chain, p in zip(gathered.held, gathered.chains, gathered.parts, strict=True)
    )
    return MergedAdapter(
        id=content_id("ada", sha256_of_files(files, folder / "adapter")),
        name=order.name,
        method=plan.method,
        base=gathered.base,
        base_sha256=gathered.base_sha256,
        parts=shares,
        rank=max(u.rank for u in made.values()),
        density=plan.density if settings["density"] is not None else None,
        seed=plan.seed if plan.method.startswith("dare") else None,
        error=round(off[""], 9),
        errors={m: round(e, 9) for m, e in off.items() if m},
        recipe_hash=key,
        path=f"{place}/adapter",
        weights=f"{place}/weights" if full is not None else None,
        weights_dtype=full.dtype if full is not None else None,
        weights_rounding=round(full.rounding, 9) if full is not None else None,
    )


def _config(gathered: Gathered, made: Updates) -> dict[str, Any]:
    """The configuration of the merge: that of the first part, without what the factors now hold themselves."""
    configs = [read_config(h.files) for chain in gathered.chains for h in chain]
    named = [c.get("target_modules") for c in configs]
    narrow = any(c.get("layers_to_transform") or c.get("exclude_modules") for c in configs)
    if narrow or not all(isinstance(t, list) for t in named):
        targets = list(made)  # whole names: a short one would also reach layers that no part updates
    else:
        targets = sorted({str(t) for found in named for t in found})  # type: ignore[union-attr]
    return {
        **configs[0],
        "base_model_name_or_path": gathered.base,
        "target_modules": targets,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "loftq_config": {},
        "layers_to_transform": None,
        "layers_pattern": None,
        "exclude_modules": None,
        "inference_mode": True,
    }


# ---------------------------------------------------------------- the base of full weights


def _base_folder(registry: Registry, gathered: Gathered, order: Order) -> Path:
    """The folder of the weights that the adapters stand on; proven by hash, unless those are quantised themselves."""
    recorded = _recorded_base(registry, gathered)
    if order.base is None:
        if recorded is None:
            raise ModelError(
                "the base of these adapters is not found",
                where="adapters merge --full",
                found=f"{gathered.base} ({gathered.base_sha256[:12]})",
                fix="Name its folder with --base FOLDER.",
            )
        return recorded
    named = resolve(str(order.base))
    if named.sha256 != gathered.base_sha256 and not (recorded is not None and _is_quantised(recorded)):
        raise ModelError(
            "these are not the weights that the adapters were trained on",
            where=order.base,
            found=f"{named.sha256[:12]} instead of {gathered.base_sha256[:12]} ({gathered.base})",
            fix="Name the folder of the base itself, in the version that was trained on.",
        )
    return Path(named.path)


def _recorded_base(registry: Registry, gathered: Gathered) -> Path | None:
    for held in registry.held:
        folder = held.run.path / f"4_adapters/{held.entry.name}/merged"
        if held.entry.is_standing and held.merged_sha256 == gathered.base_sha256 and folder.is_dir():
            return folder
    lowest = gathered.chains[0][0]
    try:
        found = resolve(gathered.base, _revision(lowest.run, gathered.base))
    except (FieldwiseError, OSError):
        return None
    return Path(found.path) if found.sha256 == gathered.base_sha256 else None


def _revision(run: RunFolder, model: str) -> str | None:
    """The revision that the run's recipe names for this base; the hash proves whether it still fits."""
    try:
        base = (yaml.safe_load(run.recipe_path.read_text(encoding="utf-8")) or {}).get("base") or {}
    except (OSError, yaml.YAMLError, AttributeError):
        return None
    return str(base["revision"]) if base.get("model") == model and base.get("revision") else None


def _is_quantised(folder: Path) -> bool:
    return bool(read_json(folder / "config.json").get("quantization_config"))
