"""The reading process: limits, noise, death and restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldwise.collect.extraction import ExtractionWorker, Limits
from fieldwise.errors import DocumentError, MissingExtra, RunError
from fieldwise.records import Source


@pytest.fixture(scope="module")
def worker() -> Iterator[ExtractionWorker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{Path(__file__).parents[2] / 'src'}")
        patch.setenv("A_SECRET_KEY", "xyz")
        with ExtractionWorker(Limits(timeout_seconds=1.5, memory_mb=700), ["misbehaving_readers"]) as running:
            yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "note.txt"
    path.write_text("Visiting hours end at eight in the evening.", encoding="utf-8")
    return path


def read(worker: ExtractionWorker, file: Path, kind: str) -> str:
    return worker.extract(file, Source(uri="note.txt", media_type=kind)).text


@pytest.mark.parametrize(
    ("kind", "reason", "detail"),
    [
        ("test/hang", "timeout", "1.5 s"),
        ("test/eat_memory", "out_of_memory", "700 MB"),
        ("test/fall", "crashed", "SIGSEGV"),
        ("test/leave", "crashed", "exit code 7 the library gave up"),
        ("test/sink", "broken", "RecursionError"),
    ],
)
def test_a_file_that_breaks_its_reader_is_refused_and_the_next_one_is_read(
    worker: ExtractionWorker, file: Path, kind: str, reason: str, detail: str
) -> None:
    with pytest.raises(DocumentError, match=detail) as caught:
        read(worker, file, kind)
    assert caught.value.reason == reason
    assert read(worker, file, "text/plain") == "Visiting hours end at eight in the evening."


def test_what_libraries_print_does_not_disturb_the_answers(worker: ExtractionWorker, file: Path) -> None:
    assert read(worker, file, "test/chatter") == "Read in spite of the noise."
    assert read(worker, file, "test/chatter") == "Read in spite of the noise."


def test_the_limit_of_time_counts_anew_for_each_page_that_a_reader_tells_of(
    worker: ExtractionWorker, file: Path
) -> None:
    assert read(worker, file, "test/toil").endswith("Page 4.")


def test_one_process_reads_many_files(file: Path) -> None:
    with ExtractionWorker(Limits()) as worker:
        for _ in range(5):
            read(worker, file, "text/plain")
        assert worker.starts == 1


def test_a_file_that_takes_too_long_is_given_up_in_time(worker: ExtractionWorker, file: Path) -> None:
    read(worker, file, "text/plain")
    began = time.monotonic()
    with pytest.raises(DocumentError):
        read(worker, file, "test/hang")
    assert time.monotonic() - began < 5


def test_a_missing_library_is_a_problem_of_the_installation_and_not_of_the_file(
    worker: ExtractionWorker, file: Path
) -> None:
    with pytest.raises(MissingExtra, match=r"fieldwise\[documents\]"):
        read(worker, file, "test/miss")


def test_secrets_of_the_environment_do_not_reach_the_process_that_opens_files(
    worker: ExtractionWorker, file: Path
) -> None:
    assert "A_SECRET_KEY" not in read(worker, file, "test/environment")


def test_a_process_that_does_not_start_is_a_problem_of_the_installation_and_blames_no_file(file: Path) -> None:
    with (
        ExtractionWorker(Limits(), ["no_such_readers"]) as worker,
        pytest.raises(RunError, match="No module named 'no_such_readers'"),
    ):
        read(worker, file, "text/plain")


def test_the_smallest_memory_limit_of_the_settings_is_enough_for_small_files(file: Path) -> None:
    with ExtractionWorker(Limits(memory_mb=256)) as worker:
        assert read(worker, file, "text/plain").startswith("Visiting")
