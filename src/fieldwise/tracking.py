"""Curves and figures of a run: a JSON Lines file by default, so that no library and no server is needed.

Others by name take the same figures beside it, each run of a training as one run of theirs. All of them write below the
run folder unless the user's own environment says where else: nothing leaves the machine by itself.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from fieldwise.errors import MissingExtra
from fieldwise.extras import require
from fieldwise.files import append_jsonl
from fieldwise.progress import say

TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]


class Tracker(Protocol):
    """Takes figures as they arise."""

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Record the figures of one step of one stage."""
        ...


class JsonlTracker:
    """Appends one line a step, so that a training can be watched while it runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Write the figures as one line."""
        append_jsonl(self.path, {"stage": stage, "step": step, **figures})


class Also:
    """A tracker with others beside it; one of these that fails is dropped with a word, and the training goes on."""

    def __init__(self, first: Tracker, others: dict[str, Library]) -> None:
        self.first, self.others = first, others

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Record the figures with all of them."""
        self.first.log(stage, step, figures)
        self._each(lambda library: library.log(stage, step, figures))

    def close(self) -> None:
        """Let the others finish what they have begun."""
        self._each(lambda library: library.close())

    def _each(self, act: Callable[[Library], None]) -> None:
        for name, library in list(self.others.items()):
            try:
                act(library)
            except Exception as error:  # noqa: BLE001 other people's libraries and servers: no reason to lose a training
                del self.others[name]
                say(_dropped(name, error))


def _dropped(name: str, error: Exception) -> str:
    found = str(error).strip().splitlines() or [type(error).__name__]
    return f"  {name} takes no more figures: {found[0][:200]}. They stand in curves.jsonl"


def require_trackers(names: Sequence[TrackerName]) -> None:
    """Raise MissingExtra for a tracker whose library is not installed."""
    for name in names:  # not imported: some read their folder from the environment when they are
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(
                f"the library {name!r} is needed to send curves to {_TITLES[name]}",
                where="train.trackers",
                fix=f"Install it with: pip install 'fieldwise[{name}]'",
            )


def with_trackers(first: Tracker, names: Sequence[TrackerName], folder: Path, run: str, key: str) -> Also:
    """Return a tracker that tells others as well; their files stand below `folder`.

    `run` is the name under which they group; `key` tells the same training, gone on with, from another. One that cannot
    begin, such as for a server that does not answer, is left out with a word.
    """
    require_trackers(names)
    others: dict[str, Library] = {}
    for name in names:
        try:
            others[name] = _LIBRARIES[name](folder / name, run, key)
        except MissingExtra:
            raise
        except Exception as error:  # noqa: BLE001 as in `Also`: no reason to lose a training
            say(_dropped(name, error))
    return Also(first, others)


class Library(Protocol):
    """A library that keeps curves."""

    def __init__(self, folder: Path, run: str, key: str) -> None: ...

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Record the figures of one step of one stage."""
        ...

    def close(self) -> None:
        """Finish what was begun."""
        ...


class TensorBoard:
    """Event files, a folder for each training: `tensorboard --logdir RUN/tracking/tensorboard`."""

    def __init__(self, folder: Path, run: str, key: str) -> None:
        del run, key
        self.folder, self.writers = folder, dict[str, Any]()

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Write each figure as a scalar; what an interrupted run wrote behind its checkpoint is purged."""
        if stage not in self.writers:
            module = require("torch.utils.tensorboard", extra="tensorboard", to="write event files")
            self.writers[stage] = module.SummaryWriter(str(self.folder / stage), purge_step=step)
        for name, value in figures.items():
            self.writers[stage].add_scalar(name, value, step)
        self.writers[stage].flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self.writers.values():
            writer.close()


class MlFlow:
    """MLflow on a SQLite file, or where MLFLOW_TRACKING_URI says; one run for each training, gone on with after a kill."""

    def __init__(self, folder: Path, run: str, key: str) -> None:
        module = require("mlflow", extra="mlflow", to="send curves to MLflow")
        folder.mkdir(parents=True, exist_ok=True)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
        self.client, self.entities, self.key = module.MlflowClient(tracking_uri=uri), module.entities, key
        known = self.client.get_experiment_by_name(run)
        self.experiment = (
            known.experiment_id
            if known is not None
            else self.client.create_experiment(run, artifact_location=(folder / "artifacts").as_uri())
        )
        self.runs = dict[str, str]()

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Send the figures of a step in one batch."""
        now = int(time.time() * 1000)
        metrics = [self.entities.Metric(name, value, now, step) for name, value in figures.items()]
        self.client.log_batch(self._run(stage), metrics=metrics)

    def close(self) -> None:
        """Mark the runs as finished."""
        for identifier in self.runs.values():
            self.client.set_terminated(identifier)

    def _run(self, stage: str) -> str:
        if stage not in self.runs:
            same = f"tags.`fieldwise.key` = '{self.key}' and tags.`fieldwise.training` = '{stage}'"
            found = self.client.search_runs([self.experiment], filter_string=same, max_results=1)
            tags = {"fieldwise.key": self.key, "fieldwise.training": stage}
            self.runs[stage] = (
                found[0].info.run_id
                if found
                else self.client.create_run(self.experiment, tags=tags, run_name=stage).info.run_id
            )
        return self.runs[stage]


class WeightsAndBiases:
    """Weights & Biases, offline unless WANDB_MODE says otherwise: `wandb sync` sends what stands here."""

    def __init__(self, folder: Path, run: str, key: str) -> None:
        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self.module: Any = require("wandb", extra="wandb", to="send curves to Weights & Biases")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.project, self.key = folder, run, key
        self.stage, self.run = "", None  # one at a time: trainings follow each other

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Send the figures of a step."""
        if stage != self.stage:
            self.close()
            options = {"group": self.key[:12], "dir": str(self.folder), "reinit": "finish_previous"}
            self.stage, self.run = stage, self.module.init(project=self.project, name=stage, **options)
        assert self.run is not None
        self.run.log(figures, step=step)

    def close(self) -> None:
        """Finish the run."""
        if self.run is not None:
            self.run.finish()
            self.stage, self.run = "", None


class Trackio:
    """Trackio on this machine alone: `trackio show` reads what stands here (TRACKIO_DIR)."""

    def __init__(self, folder: Path, run: str, key: str) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(folder))
        self.module: Any = require("trackio", extra="trackio", to="send curves to trackio")
        self.project, self.stage, self.key = run, "", key

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Send the figures of a step."""
        if stage != self.stage:
            self.close()
            with contextlib.redirect_stdout(sys.stderr):  # it greets; stdout is for results
                self.module.init(
                    project=self.project,
                    name=f"{stage}-{self.key[:8]}",
                    resume="allow",
                    auto_log_cpu=False,
                    auto_log_gpu=False,
                )
            self.stage = stage
        self.module.log(figures, step=step)

    def close(self) -> None:
        """Finish the run."""
        if self.stage:
            with contextlib.redirect_stdout(sys.stderr):
                self.module.finish()
            self.stage = ""


_TITLES = {"tensorboard": "TensorBoard", "mlflow": "MLflow", "wandb": "Weights & Biases", "trackio": "trackio"}
_LIBRARIES: dict[str, type[Library]] = {
    "tensorboard": TensorBoard,
    "mlflow": MlFlow,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
}
