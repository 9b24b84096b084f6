"""Data sets of a hub as rows: the real library against a hub on loopback, each command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import COMMIT, NAME, FakeHub

CARD = b"---\nlicense: cc-by-4.0\n---\n# Rules\n"
TRAIN = b'{"text": "The gate is locked at nine.", "title": "Gate"}\n{"text": "Ring twice.", "title": "Door"}\n'
URI = f"hf://{NAME}/default/train"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub({"README.md": CARD, "data/train.jsonl": TRAIN})
    yield hub
    hub.close()


class Said:
    """What a command printed, and what it left."""

    def __init__(self, done: subprocess.CompletedProcess[str], folder: Path) -> None:
        self.code, self.errors, self.folder = done.returncode, done.stderr, folder / "1_documents"

    def provenance(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "provenance.json").read_text(encoding="utf-8"))
        return found

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def collect(hub: FakeHub, folder: Path, source: str, *, run: str = "run", offline: bool = False) -> Said:
    environment = {**os.environ, "HF_HOME": str(folder / "cache"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "1" if offline else "0"}  # fmt: skip
    command = [sys.executable, "-m", "fieldwise", "collect", source, "--run", str(folder / run)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    return Said(done, folder / run)


def test_a_data_set_is_fetched_once_and_then_read_from_the_cache_without_a_network(
    hub: FakeHub, tmp_path: Path
) -> None:
    first = collect(hub, tmp_path, f"{{dataset: {NAME}}}")
    assert first.code == 0, first.errors
    assert [row["uri"] for row in first.rows()] == [f"{URI}#1", f"{URI}#2"]
    assert {row["licence"] for row in first.rows()} == {"cc-by-4.0"}
    assert (first.provenance()[URI]["commit"], first.provenance()[URI]["documents"]) == (COMMIT, 2)
    assert hub.asked
    hub.asked.clear()
    again = collect(hub, tmp_path, f"{{dataset: {NAME}}}", run="again", offline=True)
    assert again.code == 0, again.errors
    assert (again.rows(), again.provenance(), hub.asked) == (first.rows(), first.provenance(), [])
    other = collect(hub, tmp_path, f"{{dataset: {NAME}, revision: {'a' * 40}}}", run="other", offline=True)
    assert other.code == 2
    assert f"the cache holds another revision of the data set, found {COMMIT}" in other.errors


def test_without_a_network_and_not_in_the_cache_is_said_with_what_to_do(hub: FakeHub, tmp_path: Path) -> None:
    said = collect(hub, tmp_path, f"{{dataset: {NAME}}}", offline=True)
    assert (said.code, hub.asked) == (2, [])
    assert "the data set is not in the cache, and HF_HUB_OFFLINE forbids to fetch it" in said.errors
    assert "name them with rows" in said.errors
    assert "Traceback" not in said.errors


def test_a_data_set_with_several_splits_wants_one_named(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["data/test.jsonl"] = TRAIN
    said = collect(hub, tmp_path, f"{{dataset: {NAME}}}")
    assert said.code == 2
    assert "the data set has several splits, found train, test" in said.errors
    said = collect(hub, tmp_path, f"{{dataset: {NAME}, split: test, limit: 1, columns: {{text: title}}}}")
    assert [row["uri"] for row in said.rows()] == [f"hf://{NAME}/default/test#1"]
    said = collect(hub, tmp_path, f"{{dataset: {NAME}, split: dev}}")
    assert (said.code, "the data set has no such split" in said.errors) == (2, True)


def test_what_the_hub_does_not_have_is_said_in_one_message(hub: FakeHub, tmp_path: Path) -> None:
    said = collect(hub, tmp_path, "{dataset: house/nothing}")
    assert said.code == 2
    assert "collect.sources: dataset: house/nothing: the data set is not there, or not for everybody" in said.errors


def test_a_folder_of_the_same_name_is_not_taken_for_the_data_set(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(parents=True)
    (tmp_path / NAME / "train.jsonl").write_bytes(TRAIN)
    said = collect(hub, tmp_path, f"{{dataset: {NAME}}}")
    assert (said.code, hub.asked) == (2, [])
    assert "a file or folder here has the name of the data set" in said.errors
