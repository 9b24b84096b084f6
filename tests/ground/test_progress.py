import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from fieldwise.progress import remember_interrupts, stop_if_interrupted, track


@pytest.fixture
def remembering() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    remember_interrupts()
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)
    remember_interrupts()
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_a_library_swallows_stops_the_next_piece_of_work(remembering) -> None:
    done = []

    def work() -> None:
        for item in track([1, 2, 3], "working"):
            done.append(item)
            with contextlib.suppress(BaseException):  # as some libraries do while they are imported
                os.kill(os.getpid(), signal.SIGINT)

    stop_if_interrupted()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]


def test_an_interrupt_that_the_caller_ignores_stays_ignored(remembering) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    remember_interrupts()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
