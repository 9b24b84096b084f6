"""What the processes of the tests are told to do; a worker imports it by name, so it stands in a file of its own."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from fieldwise.errors import DatasetError
from fieldwise.train import distributed
from fieldwise.train.sft import train_sft


class Pausing:
    """A tracker that does not come back from the third step until a file is there."""

    def __init__(self, tracker, go_on: Path) -> None:
        self.tracker, self.go_on = tracker, go_on

    def log(self, stage, step, figures) -> None:
        self.tracker.log(stage, step, figures)
        while step == 3 and not self.go_on.exists():
            time.sleep(0.1)


def train_with_a_pause(*arguments, session, go_on):
    return train_sft(*arguments, replace(session, tracker=Pausing(session.tracker, go_on)))


def train_and_die_once(*arguments, session, died):
    """The second process is killed in the third step, the first time."""

    class Dying:
        def log(self, stage, step, figures) -> None:
            session.tracker.log(stage, step, figures)
            if step == 3 and distributed.here().rank == 1 and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    return train_sft(*arguments, replace(session, tracker=Dying()))


def wait_for_ever(*, session) -> None:
    session.tracker.log("sft", 1, {"loss": 1.0})
    time.sleep(600)


def fail_as_a_user_would(*, session) -> None:
    if distributed.here().rank == 1:
        raise DatasetError("this is not a row", where="rows.jsonl:7", found="{", fix="Mend it.")
    distributed.wait()


def fail_as_a_bug_would(*, session) -> None:
    if distributed.here().rank == 1:
        raise KeyError("a bug")
    distributed.wait()


def be_killed(*, session) -> None:
    if distributed.here().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.wait()


def run_out_of_memory(*, session) -> int:
    """Fails with more than one row at once, as a worker that has no room for two."""
    micro = session.fit(None).plan.micro_batch
    if distributed.here().rank == 1 and micro > 1:
        raise MemoryError("cannot allocate")
    distributed.wait()
    return micro


def as_planned(make, plan, measured):
    """A fitter that takes the plan as it is."""
    return make(plan)
