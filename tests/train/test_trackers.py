"""Curves told to others by name: what stands there afterwards, and that their troubles are not those of a training."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sessions import session_in

from fieldwise import tracking
from fieldwise.errors import MissingExtra
from fieldwise.extras import installed_version
from fieldwise.tracking import Also, JsonlTracker, require_trackers, with_trackers
from fieldwise.train.settings import LoraSettings, SftSettings, TrainSettings
from fieldwise.train.sft import train_sft

KEY = "0123456789abcdef"
SETTINGS = SftSettings(max_steps=3, batch_size=2, max_length=256, lora=LoraSettings(rank=4))


def train(base: Path, examples, device, folder: Path, tracker, settings=SETTINGS):
    return train_sft(base, examples, examples[:2], settings, device, session=session_in(folder, tracker, save_steps=1))


def curve(path: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def test_tensorboard_and_mlflow_hold_the_losses_of_the_curve(base, examples, device, tmp_path, monkeypatch) -> None:
    pytest.importorskip("tensorboard")
    mlflow = pytest.importorskip("mlflow")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "tracking"

    class Interrupting(JsonlTracker):
        def log(self, stage, step, figures):
            if step >= 3 and "loss" in figures:
                raise KeyboardInterrupt
            super().log(stage, step, figures)

    for tracker in (Interrupting(tmp_path / "first"), JsonlTracker(tmp_path / "second")):
        several = with_trackers(tracker, ("tensorboard", "mlflow"), folder, "first-run", KEY)
        try:
            train(base, examples, device, tmp_path, several)
        except KeyboardInterrupt:
            assert isinstance(tracker, Interrupting)
        several.close()
    expected = {**curve(tmp_path / "first"), **curve(tmp_path / "second")}
    assert sorted(expected) == [1, 2, 3]

    events = EventAccumulator(str(folder / "tensorboard/sft"))
    events.Reload()
    assert {e.step: e.value for e in events.Scalars("loss")} == pytest.approx(expected)

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow/mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("first-run").experiment_id])
    assert len(runs) == 1 and runs[0].info.run_name == "sft" and runs[0].info.status == "FINISHED"
    found = {m.step: m.value for m in client.get_metric_history(runs[0].info.run_id, "loss")}
    assert found == pytest.approx(expected)


def test_wandb_is_offline(tmp_path, monkeypatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    several = with_trackers(JsonlTracker(tmp_path / "c"), ("wandb",), tmp_path / "tracking", "first-run", KEY)
    for stage in ("sft", "preference"):
        several.log(stage, 1, {"loss": 2.0})
    several.close()
    assert set(several.others) == {"wandb"}  # neither has been dropped
    assert len(list((tmp_path / "tracking/wandb").rglob("*.wandb"))) == 2


def test_trackio_keeps_the_curves_on_this_machine(tmp_path) -> None:
    pytest.importorskip("trackio")
    code = (
        "import sys; from pathlib import Path; from fieldwise.tracking import JsonlTracker, with_trackers;"
        f"here = Path({str(tmp_path)!r}); several = with_trackers(JsonlTracker(here / 'c'), ('trackio',), here / 'tracking', 'first', '{KEY}');"
        "[several.log(stage, step, {'loss': 2.0 / step}) for stage in ('sft', 'preference') for step in (1, 2)];"
        "several.close(); print(sorted(several.others))"
    )
    told = {k: v for k, v in os.environ.items() if k != "TRACKIO_DIR"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=told)
    assert done.stdout == "['trackio']\n", done.stderr  # nothing of its greeting on stdout
    files = list((tmp_path / "tracking/trackio").rglob("*.db"))
    rows = [row for f in files for row in sqlite3.connect(f).execute("select run_name, step, metrics from metrics")]
    assert {(name, step) for name, step, _ in rows} == {
        (f"{stage}-{KEY[:8]}", step) for stage in ("sft", "preference") for step in (1, 2)
    }


def test_a_tracker_that_fails_is_dropped_with_a_word_and_the_curve_stays(tmp_path, capsys) -> None:
    class Full:
        def __init__(self, folder, run, key) -> None: ...

        def log(self, stage, step, figures) -> None:
            raise OSError("no space left")

        def close(self) -> None:
            raise AssertionError("dropped already")

    several = Also(JsonlTracker(tmp_path / "c"), {"mlflow": Full(tmp_path, "r", KEY)})
    several.log("sft", 1, {"loss": 2.0})
    several.log("sft", 2, {"loss": 1.0})
    several.close()
    told = capsys.readouterr().err
    assert told.count("mlflow takes no more figures: no space left") == 1
    assert curve(tmp_path / "c") == {1: 2.0, 2: 1.0}


def test_a_tracker_that_cannot_begin_is_left_out_with_a_word(tmp_path, capsys, monkeypatch) -> None:
    class Silent:
        def __init__(self, folder, run, key) -> None:
            raise ConnectionError("http://127.0.0.1:9 does not answer\nlong story")

    monkeypatch.setattr(tracking, "require_trackers", lambda names: None)
    monkeypatch.setitem(tracking._LIBRARIES, "mlflow", Silent)
    several = with_trackers(JsonlTracker(tmp_path / "c"), ("mlflow",), tmp_path / "tracking", "first-run", KEY)
    several.log("sft", 1, {"loss": 2.0})
    several.close()
    assert curve(tmp_path / "c") == {1: 2.0}
    told = capsys.readouterr().err
    assert "mlflow takes no more figures: http://127.0.0.1:9 does not answer. They stand in" in told


def test_a_library_that_is_missing_is_named_before_anything_is_trained() -> None:
    missing = [n for n in ("tensorboard", "mlflow", "wandb", "trackio") if installed_version(n) is None]
    if not missing:
        pytest.skip("all of them are installed")
    with pytest.raises(MissingExtra, match=rf"fieldwise\[{missing[0]}\]"):
        require_trackers((missing[0],))
    assert "trackers" not in TrainSettings(trackers=(missing[0],)).keyed()
