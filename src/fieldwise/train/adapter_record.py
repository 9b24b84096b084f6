"""The place of a finished training in the run folder: its adapter or weights, and the record that names them by hash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pydantic import JsonValue

from fieldwise.files import write_json
from fieldwise.hashing import content_id, sha256_of_files
from fieldwise.progress import say
from fieldwise.records import Adapter, BaseWeights, TrainingMethod
from fieldwise.run import StepRun
from fieldwise.train.hardware import Training
from fieldwise.train.kept import keep, kept
from fieldwise.train.outcome import Outcome


def finished(step: StepRun, training: str) -> Outcome | None:
    """Return a training that an interrupted run has finished already: it is not trained again."""
    found = kept(step.work / f"{training}-done")
    if found is not None:
        say(f"  {training} was finished before the interruption")
    return found


def put_in_place(
    step: StepRun,
    outcome: Outcome,
    training: Training,
    method: TrainingMethod,
    base: BaseWeights,
    parent: str | None,
    ids: tuple[str, ...],
    out: Path,
) -> Adapter:
    """Mark the training as done in the work folder, then copy it to its place with its record, which is returned."""
    done = keep(outcome)
    shutil.copytree(done, out, dirs_exist_ok=True)
    (out / "complete").unlink()
    trained = "merged" if outcome.adapter is None else "adapter"
    if outcome.adapter is not None:
        _name_base(out / "adapter" / "adapter_config.json", base.model)
    weights = sha256_of_files([p for p in (out / trained).iterdir() if p.is_file()], out / trained)
    adapter = Adapter(
        id=content_id("ada", weights),
        method=method,
        base_sha256=base.sha256,
        parent=parent,
        recipe_hash=step.key,
        example_ids=ids,
        metrics=dict(outcome.figures),
        path=f"4_adapters/{training}/{trained}",
    )
    write_json(out / "adapter.json", adapter.model_dump(mode="json"))
    return adapter


def facts_of(adapter: Adapter, outcome: Outcome) -> dict[str, JsonValue]:
    """Return what the record of the run says of a training."""
    return {
        "adapter": adapter.id,
        "steps": outcome.steps,
        "dropped": outcome.dropped,
        **adapter.metrics,
        **outcome.about,
    }


def merged_hash(folder: Path) -> str:
    """Return the hash of the merged weights below a training's folder."""
    merged = folder / "merged"
    return sha256_of_files([p for p in merged.iterdir() if p.is_file()], merged)


def _name_base(config: Path, base: str) -> None:
    """Write the adapter's configuration the same way on every machine.

    PEFT notes the folder that the base was loaded from, here a temporary one, and keeps the modules in a set, whose order is chance.
    """
    content = json.loads(config.read_text(encoding="utf-8"))
    content["base_model_name_or_path"] = base
    content["target_modules"] = sorted(content["target_modules"])
    write_json(config, content)
