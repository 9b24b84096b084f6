from __future__ import annotations

import os
from pathlib import Path

import pytest

from fieldwise.engine.threads import _physical_cores, sleeping_threads, thread_count


def test_a_number_asked_for_is_taken_as_it_is() -> None:
    assert thread_count(3) == 3


def test_zero_takes_no_more_threads_than_this_process_may_use() -> None:
    assert 1 <= thread_count(0) <= len(os.sched_getaffinity(0))


def test_two_threads_of_one_core_count_once(tmp_path: Path) -> None:
    first = min(os.sched_getaffinity(0))
    blocks = [
        f"processor\t: {number}\nphysical id\t: 0\ncore id\t: {core}"
        for number, core in ((first, 0), (first, 0), (999999, 1))
    ]
    (tmp_path / "cpuinfo").write_text("\n\n".join(blocks), encoding="utf-8")
    assert _physical_cores(tmp_path / "cpuinfo") == 1


def test_without_a_list_of_cores_every_processor_counts(tmp_path: Path) -> None:
    assert _physical_cores(tmp_path / "none") == len(os.sched_getaffinity(0))


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
