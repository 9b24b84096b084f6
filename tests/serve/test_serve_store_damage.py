"""A store behind the service: stores of other models and versions, damage, disks, and two services at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from live import live
from released_run import make_run
from stored_service import add, problem, reading, stored, uris

from fieldwise.errors import ModelError, RunError
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.store.local import LocalStore


def put_by_another_model(folder: Path) -> None:
    import numpy as np

    from fieldwise.records import Chunk, Document, Source
    from fieldwise.store.protocol import Entry

    document = Document.make(title="A", text="The fridge is cold.", source=Source(uri="a.md"))
    chunk = Chunk.make(document, 0, len(document.text))
    vectors = np.ones((1, 8), np.float32)
    with LocalStore.open(folder) as store:
        store.put(Entry(document, [chunk], ["everyone"], vectors=vectors, model="another/1"))


def test_a_store_of_another_model_is_refused_at_the_start_and_searched_by_words_without_one(
    run: RunFolder, tmp_path: Path
) -> None:
    put_by_another_model(tmp_path / "store")
    with pytest.raises(ModelError, match="another embedding model"), stored(run, tmp_path / "store"):
        pass
    with stored(run, tmp_path / "store", retrieve=RetrieveSettings(embedding="none")) as (_, client):
        assert uris(client, "fridge") == ["a.md"]


def test_a_store_of_a_newer_version_is_refused_at_the_start(run: RunFolder, tmp_path: Path) -> None:
    import sqlite3

    put_by_another_model(tmp_path / "store")
    with sqlite3.connect(tmp_path / "store/catalogue.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(RunError, match="newer version"), stored(run, tmp_path / "store"):
        pass


def test_a_half_written_segment_and_a_lost_index_are_made_again(run: RunFolder, tmp_path: Path) -> None:
    from fieldwise.store.local import StoreSettings

    with LocalStore.open(tmp_path / "store", settings=StoreSettings(seal_rows=2)) as store:
        from fieldwise.store.from_run import import_run

        import_run(store, run.path)
    (codes,) = (tmp_path / "store/vectors").rglob("codes.npy")
    codes.write_bytes(codes.read_bytes()[:100])
    (tmp_path / "store/words/words.json").write_text("{", encoding="utf-8")
    with stored(run, tmp_path / "store") as (service, client):
        hits = client.post("/api/v1/search", json={"query": "How long do I rub the gel?", "top_k": 1}).json()["results"]
        assert hits[0]["lexical"] is not None
        assert hits[0]["dense"] > 0.3
        assert service.backend.library.store.faults() == []  # type: ignore[union-attr]


def test_a_reading_service_beside_one_that_writes_sees_its_changes_and_changes_nothing(
    run: RunFolder, tmp_path: Path
) -> None:
    with (
        stored(run, tmp_path / "store") as (_, writing),
        live(run, store=str(tmp_path / "store"), read_only=True, ingest=reading) as second,
    ):
        reader = httpx.Client(base_url=second.url, timeout=30)
        added = add(writing, "new.md", "# New\n\nThe axolotl swims in the aquarium of the children's ward.")
        assert uris(reader, "axolotl", top_k=1) == ["new.md"]
        for response in (
            reader.post("/api/v1/documents", json={"uri": "a.md", "text": "# A\n\nwords"}),
            reader.delete(f"/api/v1/documents/{added['document']['id']}"),
        ):
            assert (response.status_code, problem(response)["code"]) == (409, "store_read_only")
        writing.delete(f"/api/v1/documents/{added['document']['id']}")
        assert "new.md" not in uris(reader, "axolotl")
        reader.close()
        with pytest.raises(RunError, match="another process writes"), stored(run, tmp_path / "store"):
            pass


def test_a_disk_that_cannot_be_written_any_more_is_told_and_searches_go_on(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    with stored(run, tmp_path / "store") as (service, client):
        store = service.backend.library.store  # type: ignore[union-attr]
        write = store.catalogue.put

        def refuse(*given: Any, **more: Any) -> bool:
            with store.catalogue._clear_errors():
                raise sqlite3.OperationalError("attempt to write a readonly database")

        monkeypatch.setattr(store.catalogue, "put", refuse)
        response = client.post("/api/v1/documents", json={"uri": "a.md", "text": "# A\n\nThe axolotl swims."})
        assert (response.status_code, problem(response)["code"]) == (503, "store_not_available")
        assert "cannot be written" in problem(response)["what"]
        assert list((tmp_path / "store/originals").iterdir()) == []
        assert uris(client, "gel", top_k=1) == ["policies/hand-hygiene.pdf"]
        monkeypatch.setattr(store.catalogue, "put", write)
        add(client, "a.md", "# A\n\nThe axolotl swims in the aquarium all day.")


def test_no_store_is_left_open_when_the_release_cannot_be_served(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", embedding="none")
    (run.path / "6_builds/ward-handbook-q8_0.gguf").unlink()
    plain = RetrieveSettings(embedding="none")
    with pytest.raises(ModelError), stored(run, tmp_path / "store", retrieve=plain):
        pass
    with LocalStore.open(tmp_path / "store") as store:
        assert store.stats().documents == 5
