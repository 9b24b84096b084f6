"""The same workers on a Ray cluster, started by Ray Train: when one dies, all begin anew from the last checkpoint.

Without an address a cluster of this machine is started for the one training and ended with it. On a cluster of several
machines the run folder must lie on storage that all of them see under the same path: checkpoints are read and written
there, by the first worker, as they are without Ray.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.errors import ServiceError
from fieldwise.extras import require
from fieldwise.files import read_json
from fieldwise.train.settings import ComputeSettings
from fieldwise.train.worker import Job, hold, take_part

if TYPE_CHECKING:
    from fieldwise.train.spread import Told

_STORE_BYTES = 100_000_000  # of Ray's own, which nothing large goes through
_LOOK_EVERY_SECONDS = 0.2
_OWN = {  # set before Ray is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # on busy cores the default is too short
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",  # asks a dashboard that is not there
}


def run_on_ray(job: Job, folder: Path, compute: ComputeSettings, variables: dict[str, str], told: Told) -> None:
    """Train a job by Ray Train; returns when it has ended, well or not. Raises ServiceError for a cluster that is not there."""
    for name, value in _OWN.items():
        os.environ[name] = value
    ray = require("ray", extra="ray", to="train on Ray")
    with _cluster(ray, job, compute, variables):
        train: Any = require("ray.train", extra="ray", to="train on Ray")
        torch_on_ray: Any = require("ray.train.torch", extra="ray", to="train on Ray")
        trainer = torch_on_ray.TorchTrainer(
            _on_worker,
            train_loop_config={"job": pickle.dumps(job), "folder": str(folder)},
            torch_config=torch_on_ray.TorchConfig(backend="gloo" if job.device == "cpu" else "nccl"),
            scaling_config=train.ScalingConfig(
                num_workers=job.workers, use_gpu=job.device == "cuda", resources_per_worker={"CPU": job.threads}
            ),
            run_config=train.RunConfig(
                name="run",
                storage_path=str((folder / "ray").absolute()),
                failure_config=train.FailureConfig(max_failures=compute.restarts),
            ),
        )
        try:
            _fit(trainer, told)
        except train.TrainingFailedError as error:
            (folder / "log.txt").write_text(str(error), encoding="utf-8")


@contextmanager
def _cluster(ray: Any, job: Job, compute: ComputeSettings, variables: dict[str, str]) -> Iterator[None]:
    shared = {"log_to_driver": False, "configure_logging": False, "runtime_env": {"env_vars": {**variables, **_OWN}}}
    if compute.address is not None:
        try:
            ray.init(address=compute.address, **shared)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ServiceError(
                "the Ray cluster does not answer",
                where="compute.address",
                found=f"{compute.address}: {str(error).splitlines()[0][:160]}",
                fix="Start it, or leave compute.address out for one of this machine.",
            ) from error
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # it listens on this machine alone
        ray.init(
            num_cpus=job.workers * job.threads + 1,  # one for Ray Train itself
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            **shared,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _fit(trainer: Any, told: Told) -> None:
    """Train, and tell what the workers say meanwhile; raises what Ray Train raises.

    In a thread of its own: in the main one Ray Train takes Ctrl-C over for good, and ends the process as if it had failed.
    """
    thread = ThreadPoolExecutor(1)
    try:
        fitted = thread.submit(trainer.fit)
        while not wait([fitted], _LOOK_EVERY_SECONDS).done:
            told.pass_on()
        told.pass_on()
        fitted.result()
    finally:
        thread.shutdown(wait=False)  # after Ctrl-C it ends with the cluster


def _on_worker(config: dict[str, Any]) -> None:
    """Take part as one worker; called again in all of them when one has died."""
    train: Any = require("ray.train", extra="ray", to="train on Ray")
    folder, rank = Path(config["folder"]), int(train.get_context().get_world_rank())
    failures = [read_json(path) for path in folder.glob("failure-*.json")]
    if any(f["trace"] is None or f["is_out_of_memory"] for f in failures):
        return  # would fail again: told by the process that waits
    (folder / f"failure-{rank}.json").unlink(missing_ok=True)
    begun = folder / f"begun-{rank}"
    lock = hold(folder.parent)
    try:
        if begun.exists() and rank == 0:
            with (folder / "events.jsonl").open("a", encoding="utf-8") as stream:
                stream.write('{"say": "  a process has failed; all go on from the last checkpoint"}\n')
        begun.touch()
        take_part(pickle.loads(config["job"]), folder, rank)
    finally:
        os.close(lock)
