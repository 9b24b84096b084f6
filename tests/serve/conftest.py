from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from live import Live, live
from released_run import make_run
from stored_service import KEYS, keys_file, reading, stored

from fieldwise.run import RunFolder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("serve") / "run")


@pytest.fixture(scope="session")
def service(run: RunFolder) -> Iterator[Live]:
    with live(run, timeout_seconds=30) as running:
        yield running


@pytest.fixture
def client(service: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=20) as made:
        yield made


@pytest.fixture(scope="module")
def served(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, httpx.Client]]:
    with stored(run, tmp_path_factory.mktemp("served") / "store") as both:
        yield both


@pytest.fixture(scope="module")
def asking(served: tuple[Live, httpx.Client]) -> httpx.Client:
    return served[1]


@pytest.fixture(scope="module")
def guarded(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, httpx.Client]]:
    folder = tmp_path_factory.mktemp("guarded")
    with live(
        run, store=str(folder / "store"), keys=str(keys_file(folder / "keys.yaml", *KEYS)), ingest=reading
    ) as service:
        clients = {
            str(k["name"]): httpx.Client(
                base_url=service.url, timeout=30, headers={"Authorization": f"Bearer {k['key']}"}
            )
            for k in KEYS
        }
        clients["stranger"] = httpx.Client(base_url=service.url, timeout=30)
        clients["wrong"] = httpx.Client(base_url=service.url, headers={"Authorization": "Bearer k-nurs"})
        yield clients
        for client in clients.values():
            client.close()
