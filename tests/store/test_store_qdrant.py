"""What is particular to a store on Qdrant: a writer that is killed, deletion, two readers, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qdrant_client", reason="needs fieldwise[qdrant]")

from qdrant_client import QdrantClient
from stored_documents import DIMENSIONS, EVERY, asked, entry, found, scope

from fieldwise.errors import DatasetError, RunError
from fieldwise.store.filters import Range
from fieldwise.store.qdrant import QdrantStore, open_local


class KilledError(Exception):
    pass


class Dying:
    """A client that dies at the n-th change."""

    def __init__(self, client: QdrantClient, left: int) -> None:
        self._client, self._left = client, left

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if name not in ("upsert", "set_payload", "delete"):
            return value

        def change(*given: Any, **more: Any) -> Any:
            if self._left <= 0:
                raise KilledError
            self._left -= 1
            return value(*given, **more)

        return change


@pytest.mark.parametrize("change", ["put", "replace", "delete"])
def test_a_writer_that_dies_at_any_step_leaves_a_document_whole_or_not_at_all(change: str) -> None:
    steps = 0
    while True:
        client = QdrantClient(":memory:")
        store = QdrantStore(client, "s", dimensions=DIMENSIONS)
        store.put(entry("a", ["fridge one", "fridge two"]))
        store.put(entry("other", ["pump"]))
        before = store.generation
        store.points.client = Dying(client, steps)  # type: ignore[attr-defined]
        died = False
        try:
            if change == "put":
                store.put(entry("b", ["fridge three", "fridge four"]))
            elif change == "replace":
                store.put(entry("a", ["freezer one", "freezer two"]))
            else:
                store.delete("a")
        except KilledError:
            died = True
        for opened in (
            QdrantStore(client, "s", dimensions=DIMENSIONS, writes=False),  # while nobody has mended anything
            QdrantStore(client, "s", dimensions=DIMENSIONS),
            QdrantStore(client, "s", dimensions=DIMENSIONS),
        ):
            is_done = opened.generation > before
            assert is_done or died, "what was acknowledged is kept"
            words, meaning = found(opened, "fridge freezer")
            assert meaning - {"other"} == words, "both legs agree"
            expected = {"put": ({"a"}, {"a", "b"}), "replace": ({"a"}, {"a"}), "delete": ({"a"}, set[str]())}[change]
            assert words == expected[is_done]
            hits = opened.candidates("fridge freezer", None, EVERY, 9)
            texts = sorted(c.chunk.text for c in opened.fetch(list(hits.lexical), EVERY.identity))
            old, new = ["fridge one", "fridge two"], ["freezer one", "freezer two"]
            if change == "replace":
                assert texts == (new if is_done else old)
            assert len(texts) % 2 == 0, "a part of a document"
            assert opened.stats().documents == len(words) + 1
            if opened.writes:
                kept = client.count("s-chunks", exact=True).count
                assert kept == opened.stats().chunks, "what was begun or deleted stays on the server"
        if not died:
            break
        steps += 1
    assert steps >= 3


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
