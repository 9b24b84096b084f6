from __future__ import annotations

import os

import pytest

from fieldwise.engine.threads import sleeping_threads, thread_count


def test_a_number_asked_for_is_taken_as_it_is() -> None:
    assert thread_count(3) == 3


def test_zero_takes_no_more_threads_than_this_process_may_use() -> None:
    assert 1 <= thread_count(0) <= len(os.sched_getaffinity(0))


def test_threads_are_told_to_sleep_only_while_a_library_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with sleeping_threads():
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "OMP_WAIT_POLICY" not in os.environ


def test_what_the_user_has_set_about_waiting_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with sleeping_threads():
        assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
