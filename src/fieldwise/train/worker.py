"""One of the processes that `spread` starts: trains as it was told, says how it goes in a file, and why it failed in another.

python -m fieldwise.train.worker FOLDER      by torch's elastic launcher, which sets RANK and its like
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import pickle
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.errors import FieldwiseError
from fieldwise.extras import require
from fieldwise.files import write_json
from fieldwise.progress import say, tell_to
from fieldwise.train import distributed, unsloth_backend
from fieldwise.train.session import Session


class Job(NamedTuple):
    """What every process is told: a function that trains, and what it is called with."""

    train: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    session: Session
    workers: int
    device: str
    strategy: distributed.Strategy
    threads: int
    backend: str = "transformers"


class Events:
    """Tells the process that waits: lines for people, and figures for its tracker."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, text: str) -> None:
        """Pass one line on."""
        self._add({"say": text})

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Pass the figures of one step on."""
        self._add({"log": [stage, step, figures]})

    def _add(self, event: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event) + "\n")


class Silent:
    """The tracker of every process but the first."""

    def log(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Keep nothing."""


def take_part(job: Job, folder: Path, rank: int) -> None:
    """Train as one of several. What goes wrong is written to the folder and raised again."""
    events = Events(folder / "events.jsonl")
    tell_to(events.say if rank == 0 else lambda _: None)
    try:
        torch = require("torch", extra="train", to="train with several processes")
        torch.set_num_threads(job.threads)
        distributed.join(distributed.Processes(job.workers, job.device, job.strategy, rank))
        session = dataclasses.replace(job.session, tracker=events if rank == 0 else Silent())
        outcome = job.train(*job.arguments, **job.options, session=session)
        if rank == 0:
            (folder / "outcome.pickle").write_bytes(pickle.dumps(outcome))
    except BaseException as error:
        write_json(folder / f"failure-{rank}.json", failure(error, rank))
        raise
    else:
        distributed.leave()
    finally:
        tell_to(None)


def failure(error: BaseException, rank: int) -> dict[str, Any]:
    """Return what there is to say of an error, so that the process that waits can raise it again."""
    known = isinstance(error, FieldwiseError)
    return {
        "rank": rank,
        "time": time.time(),
        **(error.to_json() if isinstance(error, FieldwiseError) else {"error": type(error).__name__}),
        "text": str(error) or type(error).__name__,
        "trace": None if known else "".join(traceback.format_exception(error)),
        "is_out_of_memory": not known and _is_out_of_memory(error),
    }


def _is_out_of_memory(error: BaseException) -> bool:
    from fieldwise.train.retry import is_out_of_memory

    return is_out_of_memory(error)


def end_with(descriptor: int) -> None:
    """End this process when whoever holds the other end of a pipe is gone, by whatever means: nothing then waits for it."""

    def watch() -> None:
        while os.read(descriptor, 1):  # unbuffered: a lock on stdin would be in the way when Python ends
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def hold(work: Path) -> int:
    """Note that a process works on a training, until it ends however it may; returns what must stay open."""
    lock = os.open(work / "processes.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def main() -> None:
    """Be one process of a job."""
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    end_with(sys.stdin.fileno())
    hold(folder.parent)
    job: Job = pickle.loads((folder / "job.pickle").read_bytes())
    try:
        if job.backend == "unsloth":
            unsloth_backend.begin()
        take_part(job, folder, rank)
    except FieldwiseError as error:
        say(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
