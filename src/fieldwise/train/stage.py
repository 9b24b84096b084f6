"""The train stage: SFT, then learning from preferences; if asked a reward model, and reinforcement learning on the result."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.extras import require
from fieldwise.files import write_json
from fieldwise.hashing import content_id, sha256_of_files
from fieldwise.progress import say
from fieldwise.records import Adapter, BaseWeights, Chunk, Example, PreferencePair, RatedReply, TrainingMethod
from fieldwise.run import StepRun
from fieldwise.tables import read_records
from fieldwise.tracking import Also, with_trackers
from fieldwise.train import distil
from fieldwise.train.curriculum import train_in_phases
from fieldwise.train.forecast import SHARED, of_each_process, require_base, require_shareable
from fieldwise.train.hardware import Device, Machine, Preset, Training, device_for, preset_for, this_machine
from fieldwise.train.kept import keep, kept
from fieldwise.train.outcome import Outcome
from fieldwise.train.plan import Fitter, fit
from fieldwise.train.preference import train_preference
from fieldwise.train.reward import train_reward
from fieldwise.train.rl import train_rl
from fieldwise.train.rows import Course
from fieldwise.train.scoring import TaskScore
from fieldwise.train.settings import ComputeSettings, TrainSettings
from fieldwise.train.sft import train_sft
from fieldwise.train.shape import read_shape
from fieldwise.train.spread import spread


class Asides(NamedTuple):
    """What continued pre-training and a choice of weights by their replies have to be told."""

    sides: Mapping[str, str] = {}  # of each document: train, validation or test
    task: TaskScore | None = None  # how replies are judged
    compute: ComputeSettings = ComputeSettings()  # how many processes train


def run(
    settings: TrainSettings, base: BaseWeights, step: StepRun, asides: Asides | None = None
) -> dict[str, JsonValue]:
    """Read `3_examples/`, write `4_adapters/`: adapters, merged weights, and a record of each.

    `asides` is what other stages know and only some recipes need.
    """
    compute = asides.compute if asides else ComputeSettings()
    require_shareable(settings, compute)
    train = list(read_records(step.run.require("3_examples/train.parquet", "generate"), Example))
    validation = list(read_records(step.run.path / "3_examples/validation.parquet", Example))
    every = list(read_records(step.run.path / "3_examples/preferences.parquet", PreferencePair))
    pairs, held = ([p for p in every if (p.split == "train") is side] for side in (True, False))
    ratings = _ratings(step, settings)
    require_base(Path(base.path))
    preset, device, machine = _prepare_machine(settings)
    rated = f", {len(ratings)} rated replies" if ratings else ""
    say(f"  {len(train)} examples, {len(pairs)} preference pairs{rated}; {device.name}, {device.threads} threads")
    say(f"  {machine.described()}")
    each = of_each_process(device, compute, machine)
    facts: dict[str, JsonValue] = {
        "device": device.name,
        "bfloat16": device.bfloat16,
        "hardware": {"preset": preset.name, "features": list(machine.features), "gpus": [g.name for g in machine.gpus]},
    }

    def fitter(training: Training, weights: Path) -> Fitter:
        on = each if training in SHARED else device
        return functools.partial(fit, training, settings, preset, on, machine, read_shape(weights))

    if settings.trackers:
        folder = step.run.path / "tracking"
        step.tracker = with_trackers(step.tracker, settings.trackers, folder, step.run.path.name, step.key)
    beneath: str | None = None  # what the base has been through already
    if settings.pretrain.enabled:
        facts["pretrain"], read = _pretrain(settings, base, asides.sides if asides else {}, device, step, fitter)
        base, beneath = _pretrained(base, read), read.id
    sft_out = step.out("4_adapters/sft")
    tune: Callable[..., Outcome] = train_in_phases if settings.sft.curriculum.enabled else train_sft
    if settings.distillation is not None:
        tune = distil.student(settings.distillation, step.run.path)
    outcome = _finished(step, "sft") or spread(tune, "sft", compute, each)(
        Path(base.path),
        train,
        validation,
        settings.sft,
        each,
        work=step.work / "sft",
        out=step.work / "sft-done",
        seed=step.seed,
        save_steps=settings.checkpoint_every_steps,
        tracker=step.tracker,
        fitter=fitter("sft", Path(base.path)),
        course=Course(task=asides.task if asides else None),
    )
    method: TrainingMethod = "sft" if settings.distillation is None else "distillation"
    sft = _record(step, outcome, "sft", method, base, beneath, tuple(e.id for e in train), sft_out)
    facts["sft"] = _facts(sft, outcome)
    if settings.preference.enabled and (pairs or ratings):
        start, under, parent = _start(settings, base, sft, sft_out, beneath)
        preference_out = step.out("4_adapters/preference")
        outcome = _finished(step, "preference") or spread(train_preference, "preference", compute, each)(
            start,
            pairs,
            settings.preference,
            each,
            work=step.work / "preference",
            out=step.work / "preference-done",
            seed=step.seed,
            save_steps=settings.checkpoint_every_steps,
            tracker=step.tracker,
            fitter=fitter("preference", start),
            ratings=ratings,
            held=[p for p in held if p.split == "validation"],
        )
        preferred = _record(
            step,
            outcome,
            "preference",
            settings.preference.method,
            under,
            parent,
            (*(p.id for p in pairs), *(r.id for r in ratings)),
            preference_out,
        )
        facts["preference"] = _facts(preferred, outcome)
    tuned, below = (preference_out, preferred) if "preference" in facts else (sft_out, sft)
    if settings.reward.enabled:
        facts["reward"] = _reward(settings, every, base, tuned, device, step, fitter)
    if settings.rl.enabled:
        facts["rl"] = _rl(settings, train, every, tuned, below, device, step, fitter)
    if isinstance(step.tracker, Also):
        step.tracker.close()
    return facts


def _ratings(step: StepRun, settings: TrainSettings) -> list[RatedReply]:
    """The rated replies of the training split; none for a method that learns from pairs, which is said."""
    path = step.run.path / "3_examples/ratings.parquet"
    found = [r for r in read_records(path, RatedReply) if r.split == "train"] if path.exists() else []
    if found and settings.preference.enabled and settings.preference.method != "kto":
        say(f"  {len(found)} rated replies are not learnt from: train.preference.method=kto does")
        return []
    return found


def _pretrain(
    settings: TrainSettings,
    base: BaseWeights,
    sides: Mapping[str, str],
    device: Device,
    step: StepRun,
    fitter: Callable[[Training, Path], Fitter],
) -> tuple[JsonValue, Adapter]:
    """Read the documents, and copy what that leaves to its place; returns what the run's record says of it."""
    from fieldwise.train.pretrain import pretrain, texts_of

    chunks = list(read_records(step.run.require("2_chunks/chunks.parquet", "prepare"), Chunk))
    outcome = _finished(step, "pretrain") or pretrain(
        Path(base.path),
        texts_of(chunks),
        sides,
        settings.pretrain,
        device,
        work=step.work / "pretrain",
        out=step.work / "pretrain-done",
        seed=step.seed,
        save_steps=settings.checkpoint_every_steps,
        tracker=step.tracker,
        fitter=fitter("pretrain", Path(base.path)),
    )
    ids = tuple(sorted(c.id for c in chunks if sides.get(c.document_id) == "train"))
    out = step.out("4_adapters/pretrain")
    record = _record(step, outcome, "pretrain", "pretrain", base, None, ids, out)
    return _facts(record, outcome), record.model_copy(update={"path": str(out / "merged")})


def _pretrained(base: BaseWeights, read: Adapter) -> BaseWeights:
    """The weights that have read the documents, in the place of the base."""
    merged = Path(read.path)
    return base.model_copy(
        update={
            "model": "4_adapters/pretrain/merged",
            "revision": None,
            "path": str(merged),
            "sha256": sft_of(merged.parent),
        }
    )


def _start(
    settings: TrainSettings, base: BaseWeights, sft: Adapter, sft_out: Path, below: str | None = None
) -> tuple[Path, BaseWeights, str | None]:
    """The weights that the preference step begins with, what its adapter states as its base, and the adapter below it."""
    if settings.preference.start == "base":
        return Path(base.path), base, below
    merged = sft_out / "merged"
    return merged, BaseWeights(model="4_adapters/sft/merged", sha256=sft_of(sft_out)), sft.id


MakeFitter = Callable[[Training, Path], Fitter]


def _reward(
    settings: TrainSettings,
    pairs: Sequence[PreferencePair],
    base: BaseWeights,
    tuned: Path,
    device: Device,
    step: StepRun,
    fitter: MakeFitter,
) -> JsonValue:
    """Train the reward model and copy it to its place; returns what the run's record says of it."""
    start = tuned / "merged" if settings.reward.start == "tuned" else Path(base.path)
    done = step.work / "reward-done"
    record = train_reward(
        start,
        pairs,
        settings.reward,
        device,
        work=step.work / "reward",
        out=done,
        seed=step.seed,
        save_steps=settings.checkpoint_every_steps,
        tracker=step.tracker,
        fitter=fitter("reward", start),
    )
    out = step.out("4_adapters/reward")
    shutil.copytree(done, out, dirs_exist_ok=True)
    (out / "complete").unlink()
    return {k: v for k, v in record.items() if k != "curve"}


def _rl(
    settings: TrainSettings,
    examples: Sequence[Example],
    pairs: Sequence[PreferencePair],
    tuned: Path,
    parent: Adapter,
    device: Device,
    step: StepRun,
    fitter: MakeFitter,
) -> JsonValue:
    """Train the tuned weights further by reinforcement; the result is a candidate of its own."""
    has_model = "reward_model" in settings.rl.rewards
    outcome = _finished(step, "rl") or train_rl(
        tuned / "merged",
        examples,
        settings.rl,
        device,
        reward_model=step.work / "reward-done" if has_model else None,
        work=step.work / "rl",
        out=step.work / "rl-done",
        seed=step.seed,
        save_steps=settings.checkpoint_every_steps,
        tracker=step.tracker,
        fitter=fitter("rl", tuned / "merged"),
    )
    merged = BaseWeights(model=f"4_adapters/{tuned.name}/merged", sha256=sft_of(tuned))
    ids = (*(e.id for e in examples), *(p.id for p in pairs if has_model))
    return _facts(
        _record(step, outcome, "rl", settings.rl.method, merged, parent.id, ids, step.out("4_adapters/rl")), outcome
    )


def sft_of(folder: Path) -> str:
    """Return the hash of the merged weights below a training's folder."""
    merged = folder / "merged"
    return sha256_of_files([p for p in merged.iterdir() if p.is_file()], merged)


def _prepare_machine(settings: TrainSettings) -> tuple[Preset, Device, Machine]:
    # Spinning threads cost a multiple of the time on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch = require("torch", extra="train", to="train")
    machine = this_machine()
    preset = preset_for(settings.hardware, machine)
    device = device_for(preset, settings.precision, settings.threads, machine)
    torch.set_num_threads(device.threads)
    return preset, device, machine


def _finished(step: StepRun, training: str) -> Outcome | None:
    """A training that an interrupted run has already finished is not trained again."""
    found = kept(step.work / f"{training}-done")
    if found is not None:
        say(f"  {training} was finished before the interruption")
    return found


def _record(
    step: StepRun,
    outcome: Outcome,
    training: Training,
    method: TrainingMethod,
    base: BaseWeights,
    parent: str | None,
    ids: tuple[str, ...],
    out: Path,
) -> Adapter:
    """Mark the training as done in the work folder, then copy it to its place with its record."""
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


def _name_base(config: Path, base: str) -> None:
    """Write the adapter's configuration the same way on every machine.

    PEFT notes the folder that the base was loaded from, here a temporary one, and keeps the modules in a set, whose order is chance.
    """
    content = json.loads(config.read_text(encoding="utf-8"))
    content["base_model_name_or_path"] = base
    content["target_modules"] = sorted(content["target_modules"])
    write_json(config, content)


def _facts(adapter: Adapter, outcome: Outcome) -> dict[str, JsonValue]:
    return {
        "adapter": adapter.id,
        "steps": outcome.steps,
        "dropped": outcome.dropped,
        **adapter.metrics,
        **outcome.about,
    }
