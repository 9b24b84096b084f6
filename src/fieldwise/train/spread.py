"""A training shared out to several processes: starts them, tells how it goes, ends them, and says why one failed.

    one process of the run  ->  torchrun (`elastic`)  ->  worker 0, 1, ...       on this machine
                            ->  Ray Train (`on_ray`)  ->  worker 0, 1, ...       on a cluster

Every worker calls the same function with the same arguments, a `Job`; what it does in concert stands in `distributed`. The
first one writes checkpoints and weights, and appends what there is to say to `events.jsonl`, which is read here, so that
progress and figures come out as those of one process do.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fieldwise import errors
from fieldwise.errors import FieldwiseError, ModelError, RunError
from fieldwise.files import read_json
from fieldwise.progress import say
from fieldwise.tracking import Tracker
from fieldwise.train.hardware import Device, Training
from fieldwise.train.plan import Fitted, smaller
from fieldwise.train.session import Session
from fieldwise.train.settings import ComputeSettings
from fieldwise.train.worker import Job, Silent

T = TypeVar("T")
_LOOK_EVERY_SECONDS = 0.2
_END_WITHIN_SECONDS = 20.0
_LOG_LINES = 15
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


def spread(train: Callable[..., T], training: Training, compute: ComputeSettings, device: Device) -> Callable[..., T]:
    """Return a function that trains as `train` does, by as many processes as `compute` says; `train` itself for one.

    One that Unsloth runs has a process of its own, since Unsloth changes TRL and transformers wherever it is imported.

    Raises what went wrong in a process, with its number; KeyboardInterrupt ends all of them. The checkpoints of the
    session are gone on from by the next call.
    """
    if compute.backend == "local" and device.backend == "transformers":
        return train

    def together(*arguments: Any, session: Session, **options: Any) -> T:
        def once(job: Job) -> T:
            outcome: T = _once(job, session.tracker, compute)
            return outcome

        told = dataclasses.replace(session, tracker=Silent())  # each process has its own
        job = Job(
            train,
            arguments,
            options,
            told,
            compute.workers,
            device.name,
            compute.strategy,
            device.threads,
            device.backend,
        )
        try:
            return once(job)
        except _MemoryRanOut as error:
            first = str(error)
        if session.fitter is None:
            raise _out_of_memory(training, first)
        say(f"  {training}: memory ran out ({first}); once more with less at a time, the effective batch as before")
        less = dataclasses.replace(told, fitter=functools.partial(_smaller, session.fitter))
        try:
            return once(job._replace(session=less))
        except _MemoryRanOut as error:
            raise _out_of_memory(training, str(error)) from None

    return together


class _MemoryRanOut(Exception):
    """Memory ran out in a process."""


def _smaller(fitter: Callable[[Any], Fitted], measured: Any) -> Fitted:
    fitted = fitter(measured)
    plan = smaller(fitted.plan)
    return fitted if plan is None else fitted._replace(plan=plan, reasons=(*fitted.reasons, "less, memory ran out"))


def _out_of_memory(training: Training, found: str) -> ModelError:
    return ModelError(
        "memory ran out, also with less at a time",
        where=f"train.{training}",
        found=found,
        fix=f"The last checkpoint is kept. Set train.{training}.micro_batch_size=1, then train.activation_checkpointing=true, "
        f"then a smaller train.{training}.max_length; or fewer processes (compute.workers).",
    )


def _once(job: Job, tracker: Tracker, compute: ComputeSettings) -> Any:
    work = job.session.work
    work.mkdir(parents=True, exist_ok=True)
    folder = work / "processes"
    _wait_for_the_last(work)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    told = Told(folder / "events.jsonl", tracker)
    if compute.backend == "ray":
        from fieldwise.train.on_ray import run_on_ray

        try:
            run_on_ray(job, folder, compute, environment(job, {}), told)
        finally:
            _wait_for_the_last(work)
    else:
        _torchrun(job, folder, told)
    outcome = folder / "outcome.pickle"
    if not outcome.exists():
        raise_failure(folder, job.workers)
    return pickle.loads(outcome.read_bytes())


class Told:
    """Passes on what the first process has appended since it was last looked at."""

    def __init__(self, path: Path, tracker: Tracker) -> None:
        self.path, self.tracker, self.read = path, tracker, 0

    def pass_on(self) -> None:
        """Say the new lines and log the new figures; a line that is still being written waits."""
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            stream.seek(self.read)
            whole, end, _ = stream.read().rpartition(b"\n")
        self.read += len(whole) + len(end)
        for line in whole.splitlines():
            event = json.loads(line)
            if "say" in event:
                say(event["say"])
            else:
                self.tracker.log(*event["log"])


def _torchrun(job: Job, folder: Path, told: Told) -> None:
    (folder / "job.pickle").write_bytes(pickle.dumps(job))
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            _command(job, folder),
            stdin=subprocess.PIPE,  # all of them end when it closes: when this process is interrupted, or killed
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C comes to this process alone
            env=environment(job, os.environ) | ({"RANK": "0"} if job.workers == 1 else {}),
        )
    try:
        while process.poll() is None:
            told.pass_on()
            time.sleep(_LOOK_EVERY_SECONDS)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        _wait_for_the_last(folder.parent)
        told.pass_on()


def _command(job: Job, folder: Path) -> list[str]:
    if job.workers == 1:
        return [sys.executable, "-m", "fieldwise.train.worker", str(folder)]
    return [sys.executable, "-m", "fieldwise.train.elastic", str(folder), str(job.workers)]


def environment(job: Job, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a worker's process, with those it inherits."""
    own = {"OMP_NUM_THREADS": str(job.threads), "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    if job.device == "cpu" and sys.platform == "linux":
        own["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")  # nothing listens to other machines
    return {**inherited, **own}


def _wait_for_the_last(work: Path) -> None:
    """Return when no process works on the training any more: those of a run that was killed end by themselves."""
    lock = os.open(work / "processes.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        until = time.monotonic() + _END_WITHIN_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise RunError(
                        "processes of an earlier start still work on this training",
                        where=work,
                        fix="End them, then run again; the last checkpoint is kept.",
                    ) from None
                time.sleep(_LOOK_EVERY_SECONDS)
            else:
                return
    finally:
        os.close(lock)


# ---------------------------------------------------------------- what went wrong


def raise_failure(folder: Path, workers: int) -> None:
    """Raise the error that began it, with the number of its process: the others only miss the one that failed.

    First what a process knows to say, then one that was ended from outside, then the earliest of the rest.
    """
    failures: list[dict[str, Any]] = sorted(map(read_json, folder.glob("failure-*.json")), key=_time)
    known = [f for f in failures if f["trace"] is None]
    if known:
        raise _known(known[0], workers)
    memory = [f for f in failures if f["is_out_of_memory"]]
    if memory:
        raise _MemoryRanOut(f"process {memory[0]['rank']} of {workers}: {memory[0]['text'].splitlines()[0][:160]}")
    ended = read_json(folder / "ended.json") if (folder / "ended.json").exists() else {}
    for rank, code in sorted(ended.items()):
        # those that were ended because another one was have SIGTERM
        if isinstance(code, int) and code < 0 and -code != signal.SIGTERM:
            raise _was_ended(int(rank), signal.Signals(-code), workers, folder)
    if failures:
        raise RuntimeError(f"process {failures[0]['rank']} of {workers} failed\n{failures[0]['trace']}")
    raise RuntimeError("\n".join(["the processes of the training could not be started", *_log(folder)]))


def _time(failure: dict[str, Any]) -> float:
    return float(failure["time"])


def _known(failure: dict[str, Any], workers: int) -> FieldwiseError:
    kind = getattr(errors, failure["error"])
    if kind in (errors.RecipeError, errors.DocumentError):  # made of other parts
        kind = FieldwiseError
    what = f"process {failure['rank']} of {workers}: {failure['what']}"
    error: FieldwiseError = kind(what, where=failure["where"], found=failure["found"], fix=failure["fix"])
    return error


def _was_ended(rank: int, by: signal.Signals, workers: int, folder: Path) -> Exception:
    if by in _CRASHES:  # a bug of a library, not of the recipe
        return RuntimeError("\n".join([f"process {rank} of {workers} crashed, {by.name}", *_log(folder)]))
    return ModelError(
        "a process of the training was ended from outside",
        where="compute.workers",
        found=f"process {rank} of {workers}, {by.name}",
        fix="The last checkpoint is kept: run again. If the system ended it for its memory, set fewer compute.workers, "
        "train.sft.micro_batch_size=1 or a smaller max_length.",
    )


def _log(folder: Path) -> list[str]:
    """The end of what the processes and their libraries printed."""
    path = folder / "log.txt"
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:] if path.exists() else []
