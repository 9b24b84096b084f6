"""A store behind the service: what cannot be searched or added is told and leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from stored_service import problem, stored

from fieldwise.run import RunFolder


@pytest.mark.parametrize(
    ("body", "where", "said"),
    [
        ({"query": ""}, "query", "at least 1"),
        ({"query": " \n "}, "query", "blanks"),
        ({"query": 7}, "query", "string"),
        ({"query": "gel\ud800"}, "query", "unicode"),
        ({}, "query", "required"),
        ({"query": "gel", "top_k": 0}, "top_k", "greater"),
        ({"query": "gel", "top_k": "3"}, "top_k", "integer"),
        ({"query": "gel", "topk": 3}, "topk", "not permitted"),
        ({"query": "gel", "as_of": "tomorrow"}, "as_of", "day"),
        ({"query": "gel", "diversity": 1.0}, "diversity", "less"),
        ({"query": "gel", "filters": {"field": "licnce", "eq": "MIT"}}, None, "no document has"),
        ({"query": "gel", "filters": {"field": "version", "eq": "one"}}, None, "compared with a number"),
        ({"query": "gel", "filters": "licence = MIT"}, None, "no filter"),
        ({"query": "gel", "filters": {"field": "title", "near": "x"}}, None, "no filter"),
        ({"query": "gel", "filters": []}, None, "no filter"),
        ({"query": "gel", "filters": {"or": [{"field": "page", "eq": 1}] * 501}}, None, "too large"),
        ({"query": "gel", "filters": {"field": "title", "eq": "a\0b"}}, None, "character 0"),
    ],
)
def test_a_search_that_cannot_be_is_told_what_and_where(
    asking: httpx.Client, body: Any, where: str | None, said: str
) -> None:
    response = asking.post("/api/v1/search", content=json.dumps(body), headers={"content-type": "application/json"})
    assert response.status_code == 422, response.text
    found = problem(response)
    assert said in found["what"].lower() + found["what"]
    assert where is None or found["where"] == where


def test_an_unknown_field_is_told_with_the_nearest_name(asking: httpx.Client) -> None:
    response = asking.post("/api/v1/search", json={"query": "gel", "filters": {"field": "licnce", "eq": "MIT"}})
    assert "Did you mean 'licence'?" in problem(response)["fix"]


@pytest.mark.parametrize(
    "query", ["title:gel AND (", "gel OR *", '"gel', "' OR 1=1 --", '{"$ne": 1} gel', "gel " * 25_000, "x" * 100_000]
)
def test_no_query_is_a_language_over_http(asking: httpx.Client, query: str) -> None:
    response = asking.post("/api/v1/search", json={"query": query, "explain": True})
    assert response.status_code == 200
    assert response.json()["is_cut"] == (len(query) > 4000)
    if "gel" in query:
        assert response.json()["results"][0]["uri"] == "policies/hand-hygiene.pdf"


@pytest.mark.parametrize(
    ("params", "content", "status", "code"),
    [
        ({}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": ""}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a\nb.md"}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "empty.md"}, b"", 422, "document_empty"),
        ({"uri": "blank.md"}, b"  \n \n", 422, "document_empty"),
        ({"uri": "program.exe"}, b"\x7fELF\x01\x02\x03" * 50, 422, "document_unknown_type"),
        ({"uri": "broken.pdf"}, b"%PDF-1.7\nnothing of a PDF", 422, None),
        ({"uri": "wrong.docx"}, b"PK\x03\x04 no zip", 422, "document_broken"),
        ({"uri": "a.md", "groups": ""}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a.md", "fields": "{"}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a.md", "fields": '{"year": null}'}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a.md", "fields": '{"title": "mine"}'}, b"# Text\n\nof some words in it", 422, "invalid_request"),
        ({"uri": "a.md", "valid_from": "soon"}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a.md", "valid_from": "2026-02-01", "valid_until": "2026-01-01"}, b"# Text\n\nof words", 422, "invalid_request"),
        ({"uri": "a.md", "tenant": "other"}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a.md", "keeps_earlier": "maybe"}, b"# Text\n\nwords", 422, "invalid_request"),
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_added_is_told_and_leaves_nothing(
    asking: httpx.Client, params: dict[str, str], content: bytes, status: int, code: str | None
) -> None:
    before = asking.get("/api/v1/documents").json()
    response = asking.post("/api/v1/documents", params=params, content=content)
    assert response.status_code == status, response.text
    assert code is None or problem(response)["code"] == code
    assert asking.get("/api/v1/documents").json() == before


def test_forms_too_large_bodies_and_other_json_are_told(run: RunFolder, tmp_path: Path) -> None:
    with stored(run, tmp_path / "store", max_upload_mb=0.05) as (_, client):
        form = client.post("/api/v1/documents", files={"file": ("a.md", b"# Text")})
        assert (form.status_code, problem(form)["code"]) == (415, "unsupported_media_type")
        large = client.post("/api/v1/documents", params={"uri": "a.md"}, content=b"word " * 20_000)
        assert (large.status_code, problem(large)["code"]) == (413, "body_too_large")
        for sent in (b"{", b"[]", b'{"uri": "a.md"}', b'{"uri": "a.md", "text": ""}', b"\xff\xfe"):
            refused = client.post("/api/v1/documents", content=sent, headers={"content-type": "application/json"})
            assert refused.status_code in (400, 422), sent
            assert problem(refused)["code"] == "invalid_request"
        for limit in ("0", "1001", "x"):
            assert client.get("/api/v1/documents", params={"limit": limit}).status_code == 422
