import multiprocessing
import os
import time
from pathlib import Path

import pytest

from fieldwise.errors import RunError
from fieldwise.run import RunFolder, StepRun


def make(run: RunFolder, key: str, content: str, name: str = "out/a.txt") -> None:
    with StepRun(run, "s", key, 0) as step:
        step.out(name).write_text(content)
        run.publish("s", key, {"settings": key}, step.staging, {}, 0.1)


def test_outputs_appear_only_when_the_step_is_done(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(ZeroDivisionError), StepRun(run, "s", "k", 0) as step:
        step.out("out/a.txt").write_text("half")
        1 / 0
    assert not (tmp_path / "out").exists()
    assert run.manifest("s") is None
    assert list(tmp_path.glob(".tmp-*")) == []


def test_what_was_made_before_is_restored_from_the_store(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    make(run, "k1", "one")
    make(run, "k2", "two", name="out/b.txt")
    assert not (tmp_path / "out/a.txt").exists()
    stored = run.stored("k1")
    assert stored is not None
    run.restore(stored)
    assert (tmp_path / "out/a.txt").read_text() == "one"
    assert not (tmp_path / "out/b.txt").exists()
    assert run.manifest("s").key == "k1"


def test_a_changed_output_is_noticed_and_a_spoilt_store_is_not_trusted(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    make(run, "k1", "one")
    (tmp_path / "out/a.txt").write_text("xne")  # a hard link: the store holds the same bytes
    manifest = run.manifest("s")
    assert run.damaged_outputs(manifest) == ["out/a.txt"]
    assert run.stored("k1") is None
    make(run, "k1", "one")
    assert (tmp_path / "out/a.txt").read_text() == "one"
    assert run.damaged_outputs(run.manifest("s")) == []


def test_of_the_work_of_other_keys_the_last_is_kept_until_the_step_is_done(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for when, key in enumerate(("k1", "k2")):
        (run.work("s", key) / "ledger").touch()
        os.utime(run.work("s", key), (when, when))
    run.work("s", "k3")
    assert sorted(p.name for p in (tmp_path / "work").iterdir()) == ["s-k2", "s-k3"]
    run.work("s", "k4")  # nothing was done in that of k3
    assert (run.work("s", "k2") / "ledger").exists()
    make(run, "k4", "one")
    assert list((tmp_path / "work").iterdir()) == []


def test_what_an_unfinished_run_of_another_key_was_made_of_is_known(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    begun = run.work("s", "k1", {"settings": {"rate": 1}})
    assert run.begun_otherwise("s", "k2") is None  # nothing done yet
    (begun / "ledger").touch()
    assert run.begun_otherwise("s", "k2") == {"settings": {"rate": 1}}
    assert run.begun_otherwise("s", "k1") is None and run.begun_otherwise("t", "k2") is None
    (run.work("s", "k2", {"settings": {"rate": 2}}) / "ledger").touch()
    assert run.begun_otherwise("s", "k2") is None  # its own work is there to go on with


def test_what_a_finished_step_worked_with_is_removed_so_that_force_starts_anew(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (run.work("s", "k1") / "ledger").touch()
    make(run, "k1", "one")
    assert list((tmp_path / "work").iterdir()) == []


def test_an_output_changed_by_hand_is_kept_when_it_is_made_anew(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for number, name in enumerate(("a.csv", "2-a.csv")):
        make(run, "k1", "made", name="out/a.csv")
        (tmp_path / "out/a.csv").unlink()  # as an editor saves: a new file under the old name
        (tmp_path / "out/a.csv").write_text(f"corrected {number}")
        make(run, "k2", "made otherwise", name="out/a.csv")
        assert (tmp_path / "out/a.csv").read_text() == "made otherwise"
        assert (tmp_path / "changed/out" / name).read_text() == f"corrected {number}"


def _hold(folder: str, ready: multiprocessing.Queue) -> None:
    with RunFolder(Path(folder)).locked("fieldwise run"):
        ready.put(True)
        time.sleep(20)


def test_a_second_writer_is_told_who_holds_the_folder_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    holder = context.Process(target=_hold, args=(str(tmp_path), ready))
    holder.start()
    ready.get(timeout=30)
    with pytest.raises(RunError, match=rf"found process {holder.pid}: fieldwise run"), RunFolder(tmp_path).locked("x"):
        pass
    holder.kill()
    holder.join()
    with RunFolder(tmp_path).locked("x"):
        assert (tmp_path / "lock").exists()


def test_a_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    make(run, "k", "one")
    path = tmp_path / "manifests/s.json"
    path.write_text(path.read_text().replace('"layout": 1', '"layout": 2'))
    with pytest.raises(RunError, match="another version of Fieldwise, found layout 2"):
        run.manifest("s")


def test_a_memo_remembers_by_what_it_depends_on_and_survives_damage(tmp_path: Path) -> None:
    memo = RunFolder(tmp_path).memo("extract")
    memo.put({"a": 1}, "file", "v1")
    assert memo.get("file", "v1") == {"a": 1}
    assert memo.get("file", "v2") is None
    next(p for p in tmp_path.rglob("*.json")).write_text("{half")
    assert memo.get("file", "v1") is None


def test_too_little_disk_stops_before_work_starts(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="too little disk space"):
        RunFolder(tmp_path).require_free_disk(10**18)


def test_a_file_in_place_of_the_run_folder_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunError, match="is a file"), RunFolder(tmp_path / "run").locked("x"):
        pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("196608 requested and 121984 written"),
        RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter: file write failed"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_whatever_a_library_calls_it(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(RunError, match="the disk is full"), StepRun(RunFolder(tmp_path), "4b_train", "k", 1):
        raise error


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="something else"), StepRun(RunFolder(tmp_path), "4b_train", "k", 1):
        raise RuntimeError("something else")
