"""The train stage: SFT, then learning from preferences; if asked a reward model, and reinforcement learning on the result."""

from __future__ import annotations

import functools
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.records import Adapter, BaseWeights, Chunk, Example, PreferencePair, RatedReply, TrainingMethod
from fieldwise.run import StepRun
from fieldwise.tables import read_records
from fieldwise.tracking import Also, with_trackers
from fieldwise.train import distil, unsloth_backend
from fieldwise.train.adapter_record import facts_of, finished, merged_hash, put_in_place
from fieldwise.train.curriculum import train_in_phases
from fieldwise.train.forecast import SHARED, of_each_process, require_base, require_shareable
from fieldwise.train.hardware import Device, Machine, Preset, Training, device_for, preset_for, this_machine
from fieldwise.train.outcome import Outcome
from fieldwise.train.plan import fit
from fieldwise.train.preference import train_preference
from fieldwise.train.reward import require_pairs, train_reward
from fieldwise.train.rl import require_prompts, train_rl
from fieldwise.train.rows import Course
from fieldwise.train.scoring import TaskScore
from fieldwise.train.session import Session
from fieldwise.train.settings import ComputeSettings, TrainSettings
from fieldwise.train.sft import train_sft
from fieldwise.train.shape import read_shape
from fieldwise.train.spread import spread


class Asides(NamedTuple):
    """What continued pre-training and a choice of weights by their replies have to be told."""

    sides: Mapping[str, str] = {}  # of each document: train, validation or test
    task: TaskScore | None = None  # how replies are judged
    compute: ComputeSettings = ComputeSettings()  # how many processes train


class Given(NamedTuple):
    """What the generate stage has made to learn from."""

    train: list[Example]
    validation: list[Example]
    pairs: list[PreferencePair]  # of every split
    ratings: list[RatedReply]


@dataclass(frozen=True)
class Workshop:
    """What every training of the stage is called with: the machine, the settings, and where things are put."""

    settings: TrainSettings
    step: StepRun
    compute: ComputeSettings
    preset: Preset
    machine: Machine
    device: Device  # of a training that one process does
    each: Device  # of each process of one that several share
    by_unsloth: tuple[Training, ...] = ()

    def device_of(self, training: Training) -> Device:
        """The device that a training runs on, and what runs it."""
        device = self.each if training in SHARED else self.device
        return replace(device, backend="unsloth") if training in self.by_unsloth else device

    def session(self, training: Training, weights: Path) -> Session:
        """Return where a training that begins with `weights` works, and what fits it into memory."""
        fitter = functools.partial(
            fit, training, self.settings, self.preset, self.device_of(training), self.machine, read_shape(weights)
        )
        work, out = self.step.work / training, self.step.work / f"{training}-done"
        return Session(work, out, self.step.seed, self.settings.checkpoint_every_steps, self.step.tracker, fitter)

    def shared(self, train: Callable[..., Outcome], training: Training) -> Callable[..., Outcome]:
        """Return what trains as `train` does, by as many processes as the recipe says."""
        return spread(train, training, self.compute, self.device_of(training))


def run(
    settings: TrainSettings, base: BaseWeights, step: StepRun, asides: Asides | None = None
) -> dict[str, JsonValue]:
    """Read `3_examples/`, write `4_adapters/`: adapters, merged weights, and a record of each.

    `asides` is what other stages know and only some recipes need.
    """
    asides = asides or Asides()
    require_shareable(settings, asides.compute)
    given = _read(step, settings)
    require_base(Path(base.path))
    _require_enough(settings, given, step.seed)
    shop = _shop(settings, step, asides.compute)
    _say_with_what(given, shop)
    facts = _found(shop)
    beneath: str | None = None  # what the base has been through already
    if settings.pretrain.enabled:
        facts["pretrain"], read = _pretrain(shop, base, asides.sides)
        base, beneath = _pretrained(base, read), read.id
    facts["sft"], sft = _sft(shop, given, base, beneath, asides.task)
    tuned, below = step.out("4_adapters/sft"), sft
    if settings.preference.enabled and (given.ratings or _of_split(given.pairs, "train")):
        facts["preference"], below = _preference(shop, given, base, sft, beneath)
        tuned = step.out("4_adapters/preference")
    elif settings.preference.enabled:
        say("  preference: passed over, since no pair is of the training split (generate.preference_pairs)")
    if settings.reward.enabled:
        facts["reward"] = _reward(shop, given, base, tuned)
    if settings.rl.enabled:
        facts["rl"] = _rl(shop, given, tuned, below)
    if isinstance(step.tracker, Also):
        step.tracker.close()
    return facts


# ---------------------------------------------------------------- before the trainings


def _read(step: StepRun, settings: TrainSettings) -> Given:
    return Given(
        list(read_records(step.run.require("3_examples/train.parquet", "generate"), Example)),
        list(read_records(step.run.path / "3_examples/validation.parquet", Example)),
        list(read_records(step.run.path / "3_examples/preferences.parquet", PreferencePair)),
        _ratings(step, settings),
    )


def _ratings(step: StepRun, settings: TrainSettings) -> list[RatedReply]:
    """The rated replies of the training split; none for a method that learns from pairs, which is said."""
    path = step.run.path / "3_examples/ratings.parquet"
    found = [r for r in read_records(path, RatedReply) if r.split == "train"] if path.exists() else []
    if found and settings.preference.enabled and settings.preference.method != "kto":
        say(f"  {len(found)} rated replies are not learnt from: train.preference.method=kto does")
        return []
    return found


def _require_enough(settings: TrainSettings, given: Given, seed: int) -> None:
    """Raise for what the last trainings lack before the first one spends time."""
    if settings.reward.enabled:
        require_pairs(given.pairs, settings.reward, seed)
    if settings.rl.enabled:
        require_prompts(given.train, settings.rl)


def _of_split(pairs: Sequence[PreferencePair], split: str) -> list[PreferencePair]:
    return [p for p in pairs if p.split == split]


def _shop(settings: TrainSettings, step: StepRun, compute: ComputeSettings) -> Workshop:
    # Spinning threads cost a multiple of the time on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch = require("torch", extra="train", to="train")
    machine = this_machine()
    preset = preset_for(settings.hardware, machine)
    device = device_for(preset, settings.precision, settings.threads, machine)
    torch.set_num_threads(device.threads)
    each = of_each_process(device, compute, machine)
    if settings.trackers:
        folder = step.run.path / "tracking"
        step.tracker = with_trackers(step.tracker, settings.trackers, folder, step.run.path.name, step.key)
    by_unsloth: tuple[Training, ...] = ("sft",) if unsloth_backend.takes("sft", settings, each, compute) else ()
    return Workshop(settings, step, compute, preset, machine, device, each, by_unsloth)


def _say_with_what(given: Given, shop: Workshop) -> None:
    rated = f", {len(given.ratings)} rated replies" if given.ratings else ""
    pairs = len(_of_split(given.pairs, "train"))
    where = f"{shop.device.name}, {shop.device.threads} threads"
    say(f"  {len(given.train)} examples, {pairs} preference pairs{rated}; {where}")
    say(f"  {shop.machine.described()}")


def _found(shop: Workshop) -> dict[str, JsonValue]:
    """What the record of the run says of the machine."""
    machine = shop.machine
    return {
        "device": shop.device.name,
        "bfloat16": shop.device.bfloat16,
        "hardware": {
            "preset": shop.preset.name,
            "features": list(machine.features),
            "gpus": [gpu.name for gpu in machine.gpus],
            "gpu_memory_bytes": [gpu.memory_bytes for gpu in machine.gpus],
            "cores": machine.cores,
            "threads": shop.device.threads,
            "memory_bytes": machine.memory,
        },
        "system": {"platform": platform.platform(), "python": platform.python_version()},
    }


# ---------------------------------------------------------------- trainings


def _pretrain(shop: Workshop, base: BaseWeights, sides: Mapping[str, str]) -> tuple[JsonValue, Adapter]:
    """Read the documents, and copy what that leaves to its place; returns what the run's record says of it."""
    from fieldwise.train.pretrain import pretrain, texts_of

    step = shop.step
    chunks = list(read_records(step.run.require("2_chunks/chunks.parquet", "prepare"), Chunk))
    weights = Path(base.path)
    outcome = finished(step, "pretrain") or pretrain(
        weights, texts_of(chunks), sides, shop.settings.pretrain, shop.device, shop.session("pretrain", weights)
    )
    ids = tuple(sorted(c.id for c in chunks if sides.get(c.document_id) == "train"))
    out = step.out("4_adapters/pretrain")
    record = put_in_place(step, outcome, "pretrain", "pretrain", base, None, ids, out)
    return facts_of(record, outcome), record.model_copy(update={"path": str(out / "merged")})


def _pretrained(base: BaseWeights, read: Adapter) -> BaseWeights:
    """The weights that have read the documents, in the place of the base."""
    merged = Path(read.path)
    return base.model_copy(
        update={
            "model": "4_adapters/pretrain/merged",
            "revision": None,
            "path": str(merged),
            "sha256": merged_hash(merged.parent),
        }
    )


def _sft(
    shop: Workshop, given: Given, base: BaseWeights, beneath: str | None, task: TaskScore | None
) -> tuple[JsonValue, Adapter]:
    settings, step, weights = shop.settings, shop.step, Path(base.path)
    out = step.out("4_adapters/sft")
    tune: Callable[..., Outcome] = train_in_phases if settings.sft.curriculum.enabled else train_sft
    if settings.distillation is not None:
        tune = distil.student(settings.distillation, step.run.path)
    outcome = finished(step, "sft") or shop.shared(tune, "sft")(
        weights,
        given.train,
        given.validation,
        settings.sft,
        shop.device_of("sft"),
        session=shop.session("sft", weights),
        course=Course(task=task),
    )
    method: TrainingMethod = "sft" if settings.distillation is None else "distillation"
    record = put_in_place(step, outcome, "sft", method, base, beneath, tuple(e.id for e in given.train), out)
    return facts_of(record, outcome), record


def _preference(
    shop: Workshop, given: Given, base: BaseWeights, sft: Adapter, beneath: str | None
) -> tuple[JsonValue, Adapter]:
    settings, step = shop.settings.preference, shop.step
    pairs = _of_split(given.pairs, "train")
    start, under, parent = _start(shop, base, sft, beneath)
    out = step.out("4_adapters/preference")
    outcome = finished(step, "preference") or shop.shared(train_preference, "preference")(
        start,
        pairs,
        settings,
        shop.each,
        session=shop.session("preference", start),
        ratings=given.ratings,
        held=_of_split(given.pairs, "validation"),
    )
    ids = (*(p.id for p in pairs), *(r.id for r in given.ratings))
    record = put_in_place(step, outcome, "preference", settings.method, under, parent, ids, out)
    return facts_of(record, outcome), record


def _start(shop: Workshop, base: BaseWeights, sft: Adapter, below: str | None) -> tuple[Path, BaseWeights, str | None]:
    """The weights that the preference step begins with, what its adapter states as its base, and the adapter below it."""
    if shop.settings.preference.start == "base":
        return Path(base.path), base, below
    tuned = shop.step.out("4_adapters/sft")
    return tuned / "merged", BaseWeights(model="4_adapters/sft/merged", sha256=merged_hash(tuned)), sft.id


def _reward(shop: Workshop, given: Given, base: BaseWeights, tuned: Path) -> JsonValue:
    """Train the reward model and copy it to its place; returns what the run's record says of it."""
    settings, step = shop.settings.reward, shop.step
    start = tuned / "merged" if settings.start == "tuned" else Path(base.path)
    session = shop.session("reward", start)
    record = train_reward(start, given.pairs, settings, shop.device, session)
    out = step.out("4_adapters/reward")
    shutil.copytree(session.out, out, dirs_exist_ok=True)
    (out / "complete").unlink()
    return {k: v for k, v in record.items() if k != "curve"}


def _rl(shop: Workshop, given: Given, tuned: Path, parent: Adapter) -> JsonValue:
    """Train the tuned weights further by reinforcement; the result is a candidate of its own."""
    settings, step, start = shop.settings.rl, shop.step, tuned / "merged"
    has_model = "reward_model" in settings.rewards
    outcome = finished(step, "rl") or train_rl(
        start,
        given.train,
        settings,
        shop.device,
        shop.session("rl", start),
        reward_model=step.work / "reward-done" if has_model else None,
    )
    merged = BaseWeights(model=f"4_adapters/{tuned.name}/merged", sha256=merged_hash(tuned))
    ids = (*(e.id for e in given.train), *(p.id for p in given.pairs if has_model))
    out = step.out("4_adapters/rl")
    return facts_of(put_in_place(step, outcome, "rl", settings.method, merged, parent.id, ids, out), outcome)
