"""Take an adapter out of a run's store, unless something depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fieldwise.adapters.registry import MERGES, Held, Registry
from fieldwise.errors import RunError
from fieldwise.files import read_json
from fieldwise.run import Manifest, RunFolder


class Removed(NamedTuple):
    """What went."""

    id: str
    run: str
    files: int
    bytes: int


def depends(registry: Registry, held: Held) -> list[str]:
    """Say what keeps an adapter from being removed, one line each; nothing outside the registry's runs is known."""
    entry = held.entry
    found = [f"{e.run}:{e.name} ({e.method}, {e.id}) was made on it" for e in registry.dependents(entry.id)]
    for shelf in registry.shelves:
        found += [f"{shelf.name}/{name} was built of it" for name in _builds(shelf.run, entry.id)]
    if "released" in entry.status:
        found.append(f"the release of {entry.run} serves it")
    if entry.is_standing and not _is_merge(held):
        steps = [s for s in ("4c_select", "4d_evaluate", "5a_build") if held.run.manifest(s) is not None]
        found.append(
            f"it stands in {entry.run} as what {held.manifest.step} made"
            + (f", and {', '.join(steps)} read it" if steps else "")
            + ": the next run would make it again"
        )
    return found


def remove(registry: Registry, held: Held) -> Removed:
    """Delete the files of a superseded training or of a merge from its run; raises RunError with all that depends on it."""
    if reasons := depends(registry, held):
        raise RunError(
            "the adapter is needed",
            where=held.entry.id,
            found="; ".join(reasons),
            fix="Remove first what was made on it; what stands in a run goes with its folder, or is superseded by another training.",
        )
    run = held.run
    if run.store.is_symlink():
        raise RunError(
            "the store of this run is shared with the run it is a part of",
            where=held.entry.run,
            found=str(run.store.resolve().parent),
            fix="Name that run with --run.",
        )
    with run.locked("fieldwise adapters remove"):
        return _take_away(run, held)


def _take_away(run: RunFolder, held: Held) -> Removed:
    manifest = held.manifest
    name = held.entry.name
    folder = f"{MERGES}/{name}/" if _is_merge(held) else f"4_adapters/{name}/"
    mine = {n: o for n, o in manifest.outputs.items() if n.startswith(folder)}
    record = run.store / "keys" / f"{manifest.key}.json"
    if _is_merge(held) and held.entry.is_standing:
        (run.manifests / f"{manifest.step}.json").unlink(missing_ok=True)
        for output in mine:
            (run.path / output).unlink(missing_ok=True)
        _prune(run.path / folder, run.path / MERGES)
    if not _others(run, manifest, folder):
        record.unlink(missing_ok=True)  # nothing may claim what goes next
        mine = dict(manifest.outputs)
    needed = _referenced(run, manifest.key, set(manifest.outputs) - set(mine), manifest)
    files = size = 0
    for gone in mine.values():
        blob = run.blob(gone.sha256)
        if gone.sha256 not in needed and blob.is_file():
            blob.unlink()
            files, size = files + 1, size + gone.bytes
    return Removed(held.entry.id, held.entry.run, files, size)


def _is_merge(held: Held) -> bool:
    return held.manifest.step.startswith("4m_")


def _others(run: RunFolder, manifest: Manifest, folder: str) -> list[str]:
    """Other adapters of the same training whose record the store still holds."""
    return [
        n
        for n, o in manifest.outputs.items()
        if n.endswith("/adapter.json") and not n.startswith(folder) and run.blob(o.sha256).is_file()
    ]


def _referenced(run: RunFolder, key: str, kept: set[str], manifest: Manifest) -> set[str]:
    """Hashes that another record or a standing manifest names."""
    found = {manifest.outputs[n].sha256 for n in kept}
    paths = [p for p in (run.store / "keys").glob("*.json") if p.stem != key]
    paths += list(run.manifests.glob("*.json"))
    for path in paths:
        found |= {o.sha256 for o in Manifest.from_json(read_json(path), path).outputs.values()}
    return found


def _prune(folder: Path, top: Path) -> None:
    """Remove folders that are empty now."""
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
    for path in (folder, top):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _builds(run: RunFolder, identifier: str) -> list[str]:
    """Files of the run that were built of an adapter."""
    records = [read_json(p) for p in sorted((run.path / "6_builds").glob("*.build.json"))]
    return [str(r.get("path")) for r in records if r.get("adapter_id") == identifier]
