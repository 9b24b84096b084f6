"""The registry of adapters: read off the manifests, records and store of runs each time, so that it cannot disagree with them.

An adapter stands in its run, or only in the run's store: then a later training took its place. What was measured of it
is found by content: the choice (4c) and the report (4d) that were made from just these files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, JsonValue, ValidationError

from fieldwise.adapters.factors import AdapterFiles
from fieldwise.errors import DatasetError, FieldwiseError, RunError
from fieldwise.files import read_json
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.records import Interval, Record
from fieldwise.run import Manifest, RunFolder

MERGES = "4_adapters/merges"
_OF_SELECTED = "rag_tuned"  # retrieval runs over whichever weights were chosen


class Share(Record):
    """One adapter of a merge with its weight; `chain` are those merged into its base before it, oldest first."""

    adapter: str
    weight: float
    chain: tuple[str, ...] = ()


class MergedAdapter(Record):
    """An adapter made of others: what stands as `adapter.json` beside it."""

    id: str
    name: str
    method: str = Field(description="cat, svd, linear, ties, dare or dare_ties")
    base: str = Field(description="the base as the recipe of the parts names it")
    base_sha256: str
    parts: tuple[Share, ...] = Field(min_length=1)
    rank: int
    density: float | None = None
    seed: int | None = None
    error: float = Field(description="relative Frobenius distance to the exact weighted sum, all modules together")
    errors: dict[str, float] = Field(default_factory=dict, description="the same by module")
    recipe_hash: str
    path: str = Field(description="relative to the run folder")
    weights: str | None = Field(None, description="full weights, relative to the run folder")
    weights_dtype: str | None = None
    weights_rounding: float | None = Field(None, description="what rounding to that type took of the update")


class Lora(Record):
    """Size and place of an adapter's updates."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = Field(description="kinds of modules that get an update")
    variant: str = Field("LoRA", description="LoRA, rsLoRA or DoRA, and how it was started where that is unusual")


class Choice(Record):
    """What stage 4c chose by: the score of this adapter's weights on the validation side."""

    metric: str
    score: float
    items: int


class Entry(Record):
    """One adapter as the registry shows it."""

    id: str
    run: str = Field(description="the run folder as it was named")
    name: str = Field(description="its folder below 4_adapters")
    method: str
    status: tuple[str, ...]
    is_standing: bool
    base: str
    base_sha256: str
    root_sha256: str = Field(description="the base below all parents; that of the parts for a merge")
    parents: tuple[str, ...] = ()
    recipe_hash: str
    data: str | None = Field(None, description="version of the examples")
    examples: int = 0
    lora: Lora | None = None
    training: dict[str, float] = Field(default_factory=dict, description="figures of the training's last steps")
    selection: Choice | None = Field(None, description="None where stage 4c has not looked at it")
    metrics: dict[str, dict[str, Interval]] = Field(
        default_factory=dict, description="system, metric, figure with its interval, from the report of stage 4d"
    )
    verdict: str | None = Field(None, description="of the gates, for the adapter that was selected")


class Held(NamedTuple):
    """An adapter with where its files are and the manifest that holds it."""

    entry: Entry
    run: RunFolder
    manifest: Manifest
    record: dict[str, JsonValue]
    files: AdapterFiles
    merged_sha256: str | None

    @property
    def example_ids(self) -> tuple[str, ...]:
        """The examples or preference pairs that it has seen."""
        ids = self.record.get("example_ids")
        return tuple(map(str, ids)) if isinstance(ids, list) else ()

    @property
    def chain_parent(self) -> str | None:
        """The adapter that was merged into its base first."""
        parent = self.record.get("parent")
        return str(parent) if parent else None


def content_of(manifest: Manifest) -> str:
    """What the keys of later steps say of this step's outputs."""
    return sha256_text(canonical_json({name: o.sha256 for name, o in manifest.outputs.items()}))


class Shelf:
    """The manifests of one run: those that stand, and those its store still knows."""

    def __init__(self, run: RunFolder, name: str) -> None:
        self.run, self.name = run, name

    @cached_property
    def standing(self) -> dict[str, Manifest]:
        """Manifest by step."""
        found = {}
        for path in sorted(self.run.manifests.glob("*.json")):
            if (manifest := self.run.manifest(path.stem)) is not None:
                found[path.stem] = manifest
        return found

    @cached_property
    def stored(self) -> list[Manifest]:
        """Every record of the store, by key."""
        paths = sorted((self.run.store / "keys").glob("*.json"))
        return [Manifest.from_json(read_json(p), p) for p in paths]

    def every(self, step: str) -> Iterator[Manifest]:
        """Manifests of a step, the standing one first."""
        standing = self.standing.get(step)
        if standing is not None:
            yield standing
        yield from (m for m in self.stored if m.step == step and (standing is None or m.key != standing.key))

    def file(self, manifest: Manifest, name: str) -> Path | None:
        """Where an output is: in the store, or in its place while that still holds what the manifest says."""
        output = manifest.outputs.get(name)
        if output is None:
            return None
        blob, place = self.run.blob(output.sha256), self.run.path / name
        standing = self.standing.get(manifest.step)
        is_standing = standing is not None and standing.key == manifest.key
        for path in (place, blob) if is_standing else (blob,):
            if path.is_file() and path.stat().st_size == output.bytes:
                return path
        return None

    def json(self, manifest: Manifest, name: str) -> dict[str, JsonValue] | None:
        """Return a JSON output of a manifest, or None if it is gone."""
        path = self.file(manifest, name)
        return read_json(path) if path is not None else None

    def made_from(self, step: str, source: Manifest) -> list[Manifest]:
        """Manifests of a later step that read just these outputs."""
        wanted = content_of(source)
        return [m for m in self.every(step) if _input(m, source.step) == wanted]

    def source(self, step: str, of: Manifest) -> Manifest | None:
        """The manifest of an earlier step whose outputs this one read."""
        wanted = _input(of, step)
        return next((m for m in self.every(step) if content_of(m) == wanted), None)


def _input(manifest: Manifest, step: str) -> str | None:
    inputs = manifest.parts.get("inputs")
    found = inputs.get(step) if isinstance(inputs, dict) else None
    return str(found) if found is not None else None


def run_folders(places: Sequence[Path]) -> list[tuple[RunFolder, str]]:
    """Return the runs that the places are or hold, sweeps included; raises RunError where there is none."""
    found: dict[Path, str] = {}
    for place in places:
        folders = [place] if (place / "manifests").is_dir() else []
        below = (
            [m.parent for n in range(1, 4) for m in place.glob("/".join(["*"] * n) + "/manifests")]
            if not folders
            else []
        )
        folders += sorted(below)
        if not folders:
            raise RunError(
                "no run stands here",
                where=place,
                fix="Name a run folder, or a folder of run folders, with --run.",
            )
        for folder in folders:
            found.setdefault(folder.resolve(), str(folder))
            for point in sorted(folder.glob("sweeps/*/*/manifests")):
                found.setdefault(point.parent.resolve(), str(point.parent))
    return [(RunFolder(path), name) for path, name in found.items()]


class Registry:
    """The adapters of some runs."""

    def __init__(self, runs: Sequence[tuple[RunFolder, str]]) -> None:
        self.shelves = [Shelf(run, name) for run, name in runs]
        self.held: list[Held] = []
        standing: set[str] = set()
        for shelf in self.shelves:
            for held in _adapters(shelf, is_standing=True):
                self.held.append(held)
                standing.add(held.entry.id)
        for shelf in self.shelves:
            for held in _adapters(shelf, is_standing=False):
                if held.entry.id not in standing:
                    standing.add(held.entry.id)
                    self.held.append(held)
        self.held = [h._replace(entry=self._rooted(h)) for h in self.held]

    @property
    def entries(self) -> list[Entry]:
        """What `fieldwise adapters list` shows."""
        return [h.entry for h in self.held]

    def _rooted(self, held: Held) -> Entry:
        top, seen = held, {held.entry.id}
        while (parent := top.chain_parent) and parent not in seen and (found := self.by_id(parent)) is not None:
            seen.add(parent)
            top = found
        return held.entry.model_copy(update={"root_sha256": top.entry.base_sha256})

    def by_id(self, identifier: str) -> Held | None:
        """Return the adapter of an id, or None."""
        return next((h for h in self.held if h.entry.id == identifier), None)

    def find(self, wanted: str, *, one_place: bool = False) -> Held:
        """Return the adapter with this id or its beginning, this name, or `RUN:NAME`; says what there is if none or several fit.

        Two places may hold the same adapter; `one_place` refuses to choose between them.
        """
        place, _, name = wanted.rpartition(":")
        matches = [h for h in self.held if h.entry.id == wanted or (h.entry.is_standing and _is_named(h, place, name))]
        if not matches:
            matches = [h for h in self.held if h.entry.id.removeprefix("ada_").startswith(wanted.removeprefix("ada_"))]
        if len(matches) == 1 or (not one_place and len({h.entry.id for h in matches}) == 1):
            return matches[0]
        known = "; ".join(f"{e.id} {e.run}:{e.name}" for e in (m.entry for m in matches or self.held))
        raise DatasetError(
            "several adapters fit" if matches else "no adapter fits",
            where="adapters",
            found=f"{wanted!r}; there are: {known or 'none'}"[:600],
            fix="Give an id or its beginning, or RUN:NAME such as runs/first:preference.",
        )

    def chain(self, held: Held) -> list[Held]:
        """Return an adapter with those merged into its base before it, oldest first; each step is proven by hashes."""
        chain = [held]
        while (parent := chain[0].chain_parent) is not None:
            found = self.by_id(parent)
            if found is None or found.merged_sha256 != chain[0].entry.base_sha256:
                raise DatasetError(
                    "the adapter stands on weights that are not found"
                    if found is None
                    else "the adapter does not stand on its parent's merged weights",
                    where=chain[0].entry.id,
                    found=f"parent {parent}",
                    fix="Name the run that holds the parent as well: --run DIR may be given again. "
                    "Weights that were trained whole (method: full) have no adapter to merge with.",
                )
            chain.insert(0, found)
        return chain

    def dependents(self, identifier: str) -> list[Entry]:
        """Adapters that stand on this one or are made of it."""
        return [e for e in self.entries if identifier in e.parents]


def _is_named(held: Held, place: str, name: str) -> bool:
    if name != held.entry.name:
        return False
    return not place or Path(place).resolve() == held.run.path


# ---------------------------------------------------------------- reading


def _adapters(shelf: Shelf, *, is_standing: bool) -> Iterator[Held]:
    manifests = (
        list(shelf.standing.values())
        if is_standing
        else [m for m in shelf.stored if m.step not in shelf.standing or shelf.standing[m.step].key != m.key]
    )
    for manifest in manifests:
        for output in manifest.outputs:
            if output.startswith("4_adapters/") and output.endswith("/adapter.json"):
                held = _held(shelf, manifest, output, is_standing=is_standing)
                if held is not None:
                    yield held


def _held(shelf: Shelf, manifest: Manifest, output: str, *, is_standing: bool) -> Held | None:
    """One adapter of a manifest; None if its files are gone."""
    record = shelf.json(manifest, output)
    folder = output.removesuffix("/adapter.json")
    config = shelf.file(manifest, f"{folder}/adapter/adapter_config.json")
    weights = shelf.file(manifest, f"{folder}/adapter/adapter_model.safetensors")
    if record is None or config is None or weights is None:
        return None
    name = folder.removeprefix("4_adapters/").removeprefix("merges/")
    try:
        if output.startswith(f"{MERGES}/"):
            entry = _of_merge(shelf, name, MergedAdapter.model_validate(record), is_standing)
        else:
            entry = _of_training(shelf, manifest, name, record, is_standing)
        entry = entry.model_copy(update={"lora": _lora(config)})
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            "not the record of an adapter",
            where=shelf.run.path / output,
            found=str(error).splitlines()[0],
            fix="Restore it: fieldwise run --stage 4b puts back what was changed.",
        ) from error
    return Held(
        entry, shelf.run, manifest, record, AdapterFiles(config, weights), _folder_hash(manifest, f"{folder}/merged/")
    )


def _folder_hash(manifest: Manifest, folder: str) -> str | None:
    """The hash that the next training states as its base, from the manifest alone (`sha256_of_files`)."""
    inside = {n.removeprefix(folder): o.sha256 for n, o in manifest.outputs.items() if n.startswith(folder)}
    return sha256_text("\n".join(sorted(f"{n}\0{sha}" for n, sha in inside.items()))) if inside else None


def _of_merge(shelf: Shelf, name: str, record: MergedAdapter, is_standing: bool) -> Entry:
    return Entry(
        id=record.id,
        run=shelf.name,
        name=name,
        method=f"merge {record.method}",
        status=("merged",) if is_standing else ("superseded",),
        is_standing=is_standing,
        base=record.base,
        base_sha256=record.base_sha256,
        root_sha256=record.base_sha256,
        parents=tuple(dict.fromkeys(i for p in record.parts for i in (*p.chain, p.adapter))),
        recipe_hash=record.recipe_hash,
    )


def _of_training(shelf: Shelf, manifest: Manifest, name: str, record: dict[str, JsonValue], is_standing: bool) -> Entry:
    examples, figures = record.get("example_ids"), record.get("metrics")
    source = shelf.source("3_generate", manifest)
    version = source.facts.get("version") if source is not None else None
    folder = f"4_adapters/{name}"
    config = shelf.json(manifest, f"{folder}/adapter/adapter_config.json") or {}
    entry = Entry(
        id=str(record["id"]),
        run=shelf.name,
        name=name,
        method=str(record["method"]),
        status=(),
        is_standing=is_standing,
        base=str(config.get("base_model_name_or_path") or ""),
        base_sha256=str(record["base_sha256"]),
        root_sha256=str(record["base_sha256"]),
        parents=(str(record["parent"]),) if record.get("parent") else (),
        recipe_hash=str(record["recipe_hash"]),
        data=str(version) if version is not None else None,
        examples=len(examples) if isinstance(examples, list) else 0,
        training={k: float(str(v)) for k, v in figures.items()} if isinstance(figures, dict) else {},
    )
    return _measured(shelf, manifest, entry)


def _measured(shelf: Shelf, manifest: Manifest, entry: Entry) -> Entry:
    """Fill in choice, report and status, each only where it was made from just this training."""
    selected = _first(shelf, "4c_select", manifest, "4_adapters/selected.json")
    report = _first(shelf, "4d_evaluate", manifest, "5_reports/report.json")
    is_selected = selected is not None and selected.get("selected") == entry.name
    systems = (entry.name, *((_OF_SELECTED,) if is_selected else ()))
    metrics: dict[str, dict[str, Interval]] = {}
    listed: Any = report.get("systems") if report is not None else None
    for measured in listed if isinstance(listed, list) else ():
        if measured["system"] in systems:
            figures = {m: Interval.model_validate(f) for m, f in measured["figures"].items()}
            metrics[str(measured["system"])] = figures
    verdict = str(report["verdict"]) if report is not None and is_selected else None
    status = []
    if entry.id in _released(shelf.run):
        status.append("released")
    if not entry.is_standing:
        status.append("superseded")
    elif is_selected:
        status.append("selected")
    else:
        status.append("not selected" if selected is not None else "not chosen yet")
    if verdict is not None:
        status.append(f"gates {verdict}")
    found = {"metrics": metrics, "verdict": verdict, "status": tuple(status)}
    return entry.model_copy(update={**found, "selection": _choice(entry.name, selected or {})})


def _choice(name: str, selected: dict[str, JsonValue]) -> Choice | None:
    scores, items = selected.get("scores"), selected.get("items")
    score = scores.get(name) if isinstance(scores, dict) else None
    if not isinstance(score, int | float) or not isinstance(items, int):
        return None
    return Choice(metric=str(selected.get("metric") or "score"), score=score, items=items)


def _first(shelf: Shelf, step: str, source: Manifest, output: str) -> dict[str, JsonValue] | None:
    return next((v for m in shelf.made_from(step, source) if (v := shelf.json(m, output)) is not None), None)


def _released(run: RunFolder) -> set[str]:
    """Ids of the adapters whose files the run's release names."""
    path = run.path / "6_builds/release.json"
    builds = read_json(path).get("builds") if path.is_file() else None
    return {str(b.get("adapter_id")) for b in builds if isinstance(b, dict)} if isinstance(builds, list) else set()


def _lora(path: Path) -> Lora:
    config = json.loads(path.read_text(encoding="utf-8"))
    targets = config.get("target_modules")
    kinds = [name for key, name in (("use_dora", "DoRA"), ("use_rslora", "rsLoRA")) if config.get(key)]
    start = config.get("init_lora_weights")
    return Lora(
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        targets=tuple(sorted({str(t).rpartition(".")[2] for t in targets}))
        if isinstance(targets, list)
        else (str(targets),),
        variant=" ".join([*(kinds or ["LoRA"]), *([f"started by {start}"] if isinstance(start, str) else [])]),
    )


def open_registry(places: Sequence[Path]) -> Registry:
    """Read the registry of runs and folders of runs."""
    try:
        return Registry(run_folders(places))
    except FieldwiseError:
        raise
    except OSError as error:
        raise RunError(
            "a run folder cannot be read", where=error.filename, found=error.strerror, fix="Check your permissions."
        ) from error
