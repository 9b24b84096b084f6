"""A curriculum on tiny weights: what each step is made of, that it goes on from the one before, and that it resumes."""

import json
import math
from pathlib import Path

import pytest
from safetensors.torch import load_file
from sessions import session_in

from fieldwise.engine.base_weights import resolve
from fieldwise.errors import DatasetError
from fieldwise.extras import installed_version
from fieldwise.files import read_json
from fieldwise.hashing import sha256_of_files
from fieldwise.records import Adapter, Example, PreferencePair
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import write_records
from fieldwise.tracking import JsonlTracker
from fieldwise.train import stage
from fieldwise.train.curriculum import lessons, train_in_phases
from fieldwise.train.difficulty import base_losses
from fieldwise.train.rows import Course
from fieldwise.train.scoring import TaskScore
from fieldwise.train.settings import CurriculumSettings, LoraSettings, PreferenceSettings, SftSettings, TrainSettings

PHASES = ("single_turn", "hard_negatives", "multi_turn")


@pytest.fixture(scope="module")
def graded(examples):
    return [e.model_copy(update={"phase": PHASES[n // 4], "difficulty": (7 - n) / 10}) for n, e in enumerate(examples)]


def settings(**own) -> SftSettings:
    return SftSettings(
        max_steps=2,
        learning_rate=5e-3,
        batch_size=2,
        max_length=256,
        lora=LoraSettings(rank=4),
        curriculum=CurriculumSettings(enabled=True, **own),
    )


def train(base: Path, examples, device, folder: Path, own: SftSettings, tracker=None):
    return train_in_phases(
        base,
        examples,
        examples[:2],
        own,
        device,
        session=session_in(folder, tracker, save_steps=1),
    )


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.iterdir() if p.is_file()], folder)


def test_steps_follow_the_phases_and_rise_by_difficulty(graded) -> None:
    found = lessons(graded, CurriculumSettings(enabled=True, parts=2, replay=0.5), 7)
    assert [lesson.name for lesson in found] == [f"{p}_{n}" for p in PHASES[:2] for n in (1, 2)]
    assert [[e.difficulty for e in lesson.examples] for lesson in found[:2]] == [[0.4, 0.5], [0.6, 0.7]]
    assert found[0].repeated == () and len(found[2].repeated) == 2
    assert {e.phase for e in found[2].repeated} == {"single_turn"}


def test_each_step_goes_on_from_the_weights_before_with_its_own_curve(graded, base, device, tmp_path) -> None:
    outcome = train(base, graded, device, tmp_path, settings())
    names = [p.name for p in sorted((tmp_path / "done/phases").iterdir())]
    assert names == ["1_single_turn.json", "2_hard_negatives.json"]
    first, second = (json.loads((tmp_path / "done/phases" / name).read_text()) for name in names)
    assert [row["step"] for row in first["curve"] if "loss" in row] == [1, 2]
    assert outcome.steps == 4 and [row["step"] for row in outcome.curve if "loss" in row] == [1, 2, 3, 4]
    stages = [json.loads(line)["stage"] for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert {"sft/single_turn", "sft/hard_negatives"} <= set(stages)
    weights = [
        load_file(tmp_path / f"work/{n}/done/adapter/adapter_model.safetensors")
        for n in ("1_single_turn", "2_hard_negatives")
    ]
    assert any((weights[1][k] != weights[0][k]).any() for k in weights[0])
    fresh = train(base, graded, device, tmp_path / "alone", settings(phases=("hard_negatives",)))
    begins = [next(row["loss"] for row in curve if "loss" in row) for curve in (fresh.curve, second["curve"])]
    assert begins[0] != pytest.approx(begins[1], abs=1e-3)  # of the same rows
    assert outcome.figures["eval_loss"] == second["eval_loss"] != first["eval_loss"]
    assert digest(outcome.adapter) == digest(tmp_path / "work/2_hard_negatives/done/adapter")

    class Interrupting(JsonlTracker):
        def log(self, stage, step, figures):
            if stage == "sft/hard_negatives" and step >= 2 and "loss" in figures:
                raise KeyboardInterrupt
            super().log(stage, step, figures)

    with pytest.raises(KeyboardInterrupt):
        train(base, graded, device, tmp_path / "again", settings(), Interrupting(tmp_path / "c"))
    assert (tmp_path / "again/work/1_single_turn/done/complete").exists()
    again = train(base, graded, device, tmp_path / "again", settings())
    assert digest(again.merged) == digest(outcome.merged) and digest(again.adapter) == digest(outcome.adapter)
    assert json.dumps(again.curve) == json.dumps(outcome.curve) and again.about == outcome.about


def test_whole_weights_are_handed_on_as_well(graded, base, device, tmp_path) -> None:
    own = settings().model_copy(update={"method": "full", "learning_rate": 1e-3})
    outcome = train(base, graded, device, tmp_path, own)
    start, first = (load_file(f / "model.safetensors") for f in (base, tmp_path / "work/1_single_turn/done/merged"))
    last = load_file(outcome.merged / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    step = float((first[name] - start[name]).abs().max())  # one step of Adam moves each by the learning rate
    assert outcome.adapter is None and float((last[name] - start[name]).abs().max()) > 1.5 * step > 0


def test_each_step_takes_the_weights_with_the_best_replies(graded, base, device, tmp_path) -> None:
    own = settings().model_copy(update={"best_by": "score", "evaluate_every_steps": 1, "max_steps": 2})
    found = [0.9, 0.1, 0.2, 0.8]
    task = TaskScore(lambda texts, examples: [found.pop(0)] * len(texts), lambda examples, most: list(examples), 2)
    outcome = train_in_phases(
        base,
        graded,
        graded[:2],
        own,
        device,
        session=session_in(tmp_path, save_steps=1),
        course=Course(task=task),
    )
    first, second = outcome.about["phases"]
    assert (first["weights_of_step"], second["weights_of_step"]) == (1, 2)
    assert outcome.figures["eval_score"] == pytest.approx(0.8) and not found


def test_phases_without_any_example_are_named(graded, base, device, tmp_path) -> None:
    with pytest.raises(DatasetError, match=r"no example is of a phase.*found hard_negatives, single_turn"):
        train(base, graded, device, tmp_path, settings(phases=("tool_calls",)))


def test_the_stage_keeps_a_file_for_each_phase_and_one_adapter(graded, base, tmp_path) -> None:
    run = RunFolder(tmp_path / "run")
    (run.path / "3_examples").mkdir(parents=True)
    write_records(run.path / "3_examples/train.parquet", graded, Example)
    write_records(run.path / "3_examples/validation.parquet", graded[:2], Example)
    write_records(run.path / "3_examples/preferences.parquet", [], PreferencePair)
    trackers = ("tensorboard",) if installed_version("tensorboard") else ()
    own = TrainSettings(
        sft=settings(),
        preference=PreferenceSettings(enabled=False),
        precision="float32",
        hardware="cpu",
        trackers=trackers,
    )
    step = StepRun(run, "4b_train", "0" * 64, 3)
    facts = stage.run(own, resolve(str(base)), step)
    out = step.staging / "4_adapters/sft"
    assert [p["phase"] for p in facts["sft"]["phases"]] == ["single_turn", "hard_negatives"]
    assert sorted(p.name for p in (out / "phases").iterdir()) == ["1_single_turn.json", "2_hard_negatives.json"]
    record = Adapter.model_validate(read_json(out / "adapter.json"))
    assert set(record.example_ids) == {e.id for e in graded} and record.method == "sft"
    assert [row["step"] for row in read_json(out / "figures.json")["curve"] if "loss" in row] == [1, 2, 3, 4]
    files = {p.parent.relative_to(run.path / "tracking/tensorboard").as_posix() for p in run.path.rglob("events.*")}
    assert files == ({"sft/single_turn", "sft/hard_negatives"} if trackers else set())
    again = StepRun(run, "4b_train", "0" * 64, 3)  # killed behind the training: it is not trained again
    assert stage.run(own.model_copy(update={"trackers": ()}), resolve(str(base)), again) == facts


def test_what_the_base_finds_likely_comes_first(base, graded, device, tmp_path) -> None:
    losses = base_losses(base, graded, device, tmp_path / "losses.json")
    assert set(losses) == {e.id for e in graded} and len(set(losses.values())) > 1
    # tiny random weights know nothing: about as surprised by each token as by chance over the vocabulary
    chance = math.log(json.loads((base / "config.json").read_text())["vocab_size"])
    assert all(0.5 * chance < loss < 2 * chance for loss in losses.values())
    own = CurriculumSettings(enabled=True, parts=2, difficulty="base_loss")
    for lesson in lessons(graded, own, 7, losses):
        assert [losses[e.id] for e in lesson.examples] == sorted(losses[e.id] for e in lesson.examples)
    (tmp_path / "losses.json").write_text(json.dumps({**read_json(tmp_path / "losses.json"), "losses": {"kept": 1.0}}))
    assert base_losses(base, graded, device, tmp_path / "losses.json") == {"kept": 1.0}  # not computed again
    assert base_losses(base, graded[1:], device, tmp_path / "losses.json").keys() == {e.id for e in graded[1:]}


def test_a_curriculum_by_the_loss_of_the_base_trains(base, graded, device, tmp_path) -> None:
    outcome = train(base, graded, device, tmp_path, settings(parts=2, difficulty="base_loss"))
    assert outcome.steps >= 4 and (tmp_path / "work/base_losses.json").is_file()
