from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from stored_documents import DIMENSIONS, entry

from fieldwise.store.local import LocalStore
from fieldwise.store.protocol import ChunkStore


def on_qdrant(folder: Path) -> ChunkStore:
    pytest.importorskip("qdrant_client", reason="needs fieldwise[qdrant]")
    from fieldwise.store.qdrant import open_local

    return open_local(None, dimensions=DIMENSIONS)


def in_lance(folder: Path) -> ChunkStore:
    pytest.importorskip("lancedb", reason="needs fieldwise[lancedb]")
    from fieldwise.store.lance import open_lance

    return open_lance(str(folder), dimensions=DIMENSIONS)


STORES: dict[str, Callable[[Path], ChunkStore]] = {"local": LocalStore.open, "qdrant": on_qdrant, "lance": in_lance}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChunkStore]:
    """Every implementation of the protocol, one after the other, empty."""
    made = STORES[request.param](tmp_path / "store")
    yield made
    made.close()


@pytest.fixture(scope="module", params=STORES)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChunkStore]:
    """The same with four documents, for tests that only read."""
    made = STORES[request.param](tmp_path_factory.mktemp("filled"))
    made.put(entry("a", ["Fridge one."], fields={"year": 2020, "topic": "law", "final": True, "score": 0.75}))
    made.put(
        entry(
            "b",
            ["Fridge two.", "Fridge again."],
            licence="CC0",
            valid_from=date(2023, 1, 1),
            fields={"year": 2021, "topic": "law", "score": 0.5},
        )
    )
    made.put(
        entry(
            "c",
            ["fridge three."],
            language="de",
            valid_from=date(2024, 5, 1),
            fields={"year": 2024, "topic": "health", "final": False},
        )
    )
    made.put(entry("d", ["Fridge four."], licence=None))
    made.put(entry("e", ["Fridge five."], tenant="other", fields={"secret_of_others": "x"}))
    yield made
    made.close()
