import errno
import json
from pathlib import Path

import pytest

from fieldwise import files
from fieldwise.errors import DatasetError, RunError


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(ZeroDivisionError), files.atomic(target) as temporary:
        temporary.write_text("new")
        1 / 0
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_told_with_what_is_free(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="disk is full") as caught, files.atomic(tmp_path / "a") as temporary:
        temporary.touch()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "MB free" in str(caught.value)


def test_a_broken_line_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DatasetError, match=r"rows\.jsonl:2: not valid JSON"):
        list(files.read_jsonl(path))


@pytest.mark.parametrize("torn", ['{"n": 2', '{"n": 2, "text": "half'])
def test_a_torn_last_line_is_dropped_and_does_not_swallow_the_next(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "ledger.jsonl"
    files.append_jsonl(path, {"n": 1})
    with path.open("a") as stream:
        stream.write(torn)
    files.append_jsonl(path, {"n": 3})
    assert [row["n"] for row in files.read_ledger(path)] == [1, 3]


def test_json_is_written_the_same_way_each_time(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": [1, 2], "ä": None})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2], "ä": None}
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_a_linked_file_has_the_content_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    files.link_or_copy(tmp_path / "a", tmp_path / "deep" / "b")
    assert (tmp_path / "deep" / "b").read_text() == "x"
