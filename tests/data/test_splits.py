import json
from pathlib import Path

import pytest

from fieldwise.errors import DatasetError
from fieldwise.rows.items import ItemReader, Read
from fieldwise.rows.splits import find_splits

ROWS = [{"question": f"Why {n}?", "answer": f"so {n}"} for n in range(3)]


def saved(folder: Path, *splits: str) -> Path:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(ROWS)
    (datasets.DatasetDict({name: made for name in splits}) if splits else made).save_to_disk(str(folder))
    return folder


def asked(files: list[Path]) -> list[str]:
    return [found.item.asked for found in ItemReader(files, {}) if isinstance(found, Read)]


def test_a_folder_of_save_to_disk_is_read_with_its_splits(tmp_path: Path) -> None:
    found = find_splits(saved(tmp_path / "set", "train", "dev", "test"))
    assert list(found.files) == ["train", "validation", "test"] and found.left_out == []
    assert asked(found.files["validation"]) == ["Why 0?", "Why 1?", "Why 2?"]


def test_a_single_set_of_save_to_disk_has_no_split(tmp_path: Path) -> None:
    found = find_splits(saved(tmp_path / "set"))
    assert asked(found.files["all"]) == ["Why 0?", "Why 1?", "Why 2?"]


def test_a_saved_split_of_another_name_is_left_out_or_the_whole(tmp_path: Path) -> None:
    found = find_splits(saved(tmp_path / "two", "train", "extra"))
    assert list(found.files) == ["train"] and len(found.left_out) == 1
    assert list(find_splits(saved(tmp_path / "one", "extra")).files) == ["all"]
    with pytest.raises(DatasetError, match=r"no split .* is called train, validation or test, found left, right"):
        find_splits(saved(tmp_path / "none", "left", "right"))


def test_a_saved_set_with_a_file_gone_says_which(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set")
    next(folder.glob("*.arrow")).unlink()
    with pytest.raises(DatasetError, match=r"data-00000-of-00001.arrow: a file of the data set is not there"):
        find_splits(folder)


def test_a_copy_of_a_repository_of_the_hub_is_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        (tmp_path / f"data/{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    found = find_splits(tmp_path)
    assert {split: len(files) for split, files in found.files.items()} == {"train": 2, "test": 1}


def test_folders_named_after_splits_are_read(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    assert list(find_splits(tmp_path).files) == ["train", "validation"]


def test_a_torn_arrow_file_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set")
    path = next(folder.glob("*.arrow"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"not a readable Arrow file"):
        asked([path])
