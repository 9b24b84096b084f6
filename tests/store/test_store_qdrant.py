"""What is particular to a store on Qdrant: deletion, readers, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("qdrant_client", reason="needs fieldwise[qdrant]")

from qdrant_client import QdrantClient
from stored_documents import DIMENSIONS, asked, entry, found, scope

from fieldwise.errors import DatasetError, RunError
from fieldwise.store.filters import Range
from fieldwise.store.qdrant import QdrantStore, open_local


def test_words_of_a_deleted_document_leave_the_server() -> None:
    store = open_local(None, dimensions=DIMENSIONS)
    store.put(entry("a", ["quagga " * 5]))
    store.delete("a")
    left = [
        str(p.payload) for name in ("s-chunks", "s-documents", "fieldwise-chunks", "fieldwise-documents")
        if store.points.client.collection_exists(name) for p in store.points.client.scroll(name, limit=100)[0]
    ]  # fmt: skip
    assert len(left) == 1
    assert "quagga" not in left[0]


def test_a_folder_keeps_the_store_and_reading_changes_nothing(tmp_path: Path) -> None:
    store = open_local(tmp_path, dimensions=DIMENSIONS)
    store.put(entry("a", ["fridge one"]))
    store.close()
    again = open_local(tmp_path, dimensions=DIMENSIONS, writes=False)
    assert found(again, "fridge") == ({"a"}, {"a"})
    with pytest.raises(RunError, match="reading only"):
        again.put(entry("b", ["fridge"]))
    again.close()
    with pytest.raises(DatasetError, match="no document store"):
        open_local(None, dimensions=DIMENSIONS, writes=False)


def test_a_store_of_a_newer_version_is_refused() -> None:
    client = QdrantClient(":memory:")
    store = QdrantStore(client, "s", dimensions=DIMENSIONS)
    state = store._state()
    store.points.write_state({**state, "format": 99})
    with pytest.raises(RunError, match="newer version"):
        QdrantStore(client, "s", dimensions=DIMENSIONS)


def test_a_range_over_texts_is_refused_with_what_to_do() -> None:
    store = open_local(None, dimensions=DIMENSIONS)
    store.put(entry("a", ["fridge"]))
    with pytest.raises(DatasetError, match="no ranges over texts"):
        store.candidates("fridge", asked("fridge"), scope("everyone", filter=Range("licence", at_least="A")), 5)
