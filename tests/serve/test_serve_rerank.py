import math
from pathlib import Path

import httpx
import pytest
from live import live

from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.serve.library import Library
from fieldwise.serve.rerank import rerank

TEXTS = ["Heart disease is common.", "The dose of insulin depends on blood sugar.", "Insulin was found in 1921."]
BODY = {"query": "insulin dose", "documents": TEXTS}


def test_without_a_reranker_the_run_mixes_and_says_so(client: httpx.Client) -> None:
    found = client.post("/api/v1/rerank", json=BODY).json()
    assert found["method"] == "mixed" and [r["index"] for r in found["results"]] == [1, 2, 0]


def test_the_features_model_can_be_asked_for(client: httpx.Client) -> None:
    found = client.post("/api/v1/rerank", json={**BODY, "method": "features"}).json()
    scores = [r["score"] for r in found["results"]]
    assert found["method"] == "features" and found["results"][0]["document"] == TEXTS[1]
    assert scores == sorted(scores, reverse=True) and all(0 <= s <= 1 and math.isfinite(s) for s in scores)


def test_texts_below_a_score_are_left_out(client: httpx.Client) -> None:
    every = client.post("/api/v1/rerank", json=BODY).json()["results"]
    limit = every[1]["score"]
    kept = client.post("/api/v1/rerank", json={**BODY, "min_score": limit}).json()["results"]
    assert [r["index"] for r in kept] == [r["index"] for r in every[:2]]
    assert client.post("/api/v1/rerank", json={**BODY, "min_score": 1}).json()["results"] == []


@pytest.mark.parametrize(
    ("key", "value"), [("method", "cross"), ("min_score", 1.5), ("min_score", "0.5"), ("documents", ["a"] * 257)]
)
def test_what_does_not_fit_is_told(client: httpx.Client, key: str, value: object) -> None:
    response = client.post("/api/v1/rerank", json={**BODY, key: value})
    assert response.status_code == 422 and response.json()["error"]["where"] == key


def test_a_run_that_searches_with_a_reranker_reranks_with_it(run: RunFolder) -> None:
    plain, own = (Library(run, RetrieveSettings(embedding="none", rerank=kind)) for kind in ("none", "features"))
    assert (plain.rerank_method(None), own.rerank_method(None), own.rerank_method("mixed")) == (
        "mixed",
        "features",
        "mixed",
    )
    ranked = rerank(own, "insulin dose", TEXTS)
    assert ranked[0].place == 1 and ranked == rerank(plain, "insulin dose", TEXTS, "features")
    assert rerank(own, "insulin dose", TEXTS, "mixed") == rerank(plain, "insulin dose", TEXTS)


def test_a_served_store_searches_and_reranks_with_the_reranker_of_its_settings(run: RunFolder, tmp_path: Path) -> None:
    retrieve = RetrieveSettings(rerank="features")
    with (
        live(run, store=str(tmp_path / "store"), retrieve=retrieve) as service,
        httpx.Client(base_url=service.url) as c,
    ):
        found = c.post("/api/v1/rerank", json=BODY).json()
        assert found["method"] == "features" and found["results"][0]["index"] == 1
        asked = {"query": "How long do I rub the gel?", "explain": True, "top_k": 2}
        hits = c.post("/api/v1/search", json=asked).json()["results"]
        assert all(isinstance(hit["explain"]["rerank"], float) for hit in hits)
        assert hits[0]["explain"]["rerank"] > hits[1]["explain"]["rerank"]
