import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fieldwise.cli import main
from fieldwise.data.conversion import convert_set
from fieldwise.data.doctor import examine
from fieldwise.data.rendering import Base
from fieldwise.data.versions import difference
from fieldwise.errors import DatasetError

ROWS = [{"question": f"Why {n}?", "answer": f"so {n}", "kind": "odd" if n % 2 else "even"} for n in range(8)]


def write(path: Path, rows: Sequence[dict[str, Any]], *more: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "".join(more), encoding="utf-8")
    return path


def test_order_kind_of_file_and_columns_do_not_change_the_version(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", ROWS)
    renamed = [{"query": r["question"], "answer": r["answer"], "kind": r["kind"], "id": 1} for r in ROWS[::-1]]
    for other in (write(tmp_path / "b.jsonl", renamed), tmp_path / "c.parquet", tmp_path / "d.csv"):
        if not other.exists():
            convert_set(first, "chat", other, {})
        found = difference(first, other, {})
        assert found.versions[0] == found.versions[1] and found.plain().endswith("The same rows.")


def test_every_change_is_counted_by_kind_with_its_places(tmp_path: Path) -> None:
    write(tmp_path / "a/train.jsonl", ROWS[:6])
    write(tmp_path / "a/test.jsonl", ROWS[6:])
    changed = {**ROWS[1], "answer": "otherwise"}
    write(tmp_path / "b/train.jsonl", [ROWS[0], changed, *ROWS[3:6], ROWS[6], {"question": "New?", "answer": "yes"}])
    write(tmp_path / "b/test.jsonl", ROWS[7:], "{broken\n")
    found = difference(tmp_path / "a", tmp_path / "b", {})
    told = found.to_json()
    assert told["a"]["rows"] == 8 and told["b"]["rows"] == 8 and told["b"]["unusable"] == 1
    assert told["equal"] is False
    assert told["changed"] == [{"kind": "odd", "before": "train train.jsonl:2", "after": "train train.jsonl:2"}]
    assert told["moved"] == [{"kind": "even", "before": "test test.jsonl:1", "after": "train train.jsonl:6"}]
    assert told["removed"] == [{"kind": "even", "before": "train train.jsonl:3", "after": None}]
    assert told["added"] == [{"kind": "question-answer", "before": None, "after": "train train.jsonl:7"}]
    assert told["kinds"]["even"] == {"same": 2, "moved": 1, "changed": 0, "added": 0, "removed": 1}
    assert "moved: test test.jsonl:1 -> train train.jsonl:6" in found.plain()


def test_a_row_that_stands_twice_and_then_once_was_removed_once(tmp_path: Path) -> None:
    found = difference(write(tmp_path / "a.jsonl", [*ROWS, ROWS[0]]), write(tmp_path / "b.jsonl", ROWS), {})
    assert {name: len(changes) for name, changes in found.changes.items()} == {
        "moved": 0,
        "changed": 0,
        "added": 0,
        "removed": 1,
    }


def test_the_doctor_shows_the_same_version(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    report = examine(path, Base.named("fieldwise-nano"), {})
    assert report.version == difference(path, path, {}).versions[0]
    assert report.to_json()["version"] == report.version


def test_a_set_without_usable_rows_is_an_error(tmp_path: Path) -> None:
    empty = write(tmp_path / "a.jsonl", [{"question": "Why?", "answer": ""}])
    with pytest.raises(DatasetError, match=r"a.jsonl: no row can be used, found 1 that cannot"):
        difference(empty, empty, {})


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "b.jsonl", ROWS[:5])
    assert main(["data", "diff", str(first), str(second)]) == 0
    assert "removed: all a.jsonl:6, all a.jsonl:7, all a.jsonl:8" in capsys.readouterr().out
    assert main(["data", "diff", str(first), str(second), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["removed"]) == 3
