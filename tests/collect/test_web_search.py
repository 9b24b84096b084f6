"""A search query as a source: the service's answers in the recorded shape, and the key kept secret."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from collect_files import Collected, lines_pdf
from collect_files import collect as collect_any
from web_server import HOST, Reply, Server, html

from fieldwise.collect.hits import Hit, Question
from fieldwise.collect.serpapi import serpapi
from fieldwise.errors import DatasetError, DocumentError, ServiceError

KEY = "sesame-0123456789abcdef"


def answer(links: list[str], *, start: int = 0, has_next: bool = False, **extra: Any) -> dict[str, Any]:
    """One page of results as SerpAPI returns it for engine=google."""
    rows = [
        {
            "position": n,
            "title": f"Result {n}",
            "link": link,
            "displayed_link": link,
            "snippet": "Words around the query.",
            "source": "Example",
        }
        for n, link in enumerate(links, start + 1)
    ]
    page: dict[str, Any] = {
        "search_metadata": {"id": "65f0", "status": "Success", "total_time_taken": 1.2},
        "search_parameters": {"engine": "google", "q": "visiting hours", "start": start},
        "search_information": {"organic_results_state": "Results for exact spelling"},
        "organic_results": rows,
        **extra,
    }
    if has_next:
        page["serpapi_pagination"] = {"current": 1, "next": "https://serpapi.com/search.json?start=10"}
    return page


def as_json(value: Any, status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), status=status, headers={"Content-Type": "application/json"})


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SERPAPI_API_KEY", KEY)
    return KEY


def collect(folder: Path, server: Server, *sources: Any) -> Collected:
    web = {"allow_private": [HOST], "delay_seconds": 0, "search_url": server.url("/search.json")}
    return collect_any(folder, *sources, web=web)


def parameters(server: Server) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(path).query) for path in server.asked if path.startswith("/search.json")]


@pytest.mark.usefixtures("key")
def test_hits_become_documents_with_query_and_rank(server: Server, tmp_path: Path) -> None:
    server.pages |= {"/a": html("A"), "/b": html("B")}
    server.pages["/search.json"] = as_json(answer([server.url("/b"), server.url("/a")]))
    result = collect(tmp_path / "run", server, {"search": "visiting hours"})
    ranks = {uri: (entry["query"], entry["rank"]) for uri, entry in result.provenance.items()}
    assert ranks == {server.url("/b"): ("visiting hours", 1), server.url("/a"): ("visiting hours", 2)}
    assert {d.source.query for d in result.documents.values()} == {"visiting hours"}
    (asked,) = parameters(server)
    assert asked == {"engine": ["google"], "q": ["visiting hours"], "start": ["0"], "api_key": [KEY]}


@pytest.mark.usefixtures("key")
def test_pages_of_results_are_asked_for_up_to_the_limit(server: Server, tmp_path: Path) -> None:
    links = [server.url(f"/{n}") for n in range(25)]
    server.pages |= {f"/{n}": html(f"Page {n}") for n in range(25)}
    server.pages["/search.json"] = [
        as_json(answer(links[:10], has_next=True)),
        as_json(answer(links[8:18], start=10, has_next=True)),
        as_json(answer(links[18:], start=20)),
    ]
    result = collect(tmp_path / "run", server, {"search": "hours", "limit": 15})
    assert set(result.documents) == set(links[:15])
    assert [p["start"] for p in parameters(server)] == [["0"], ["10"]]


@pytest.mark.usefixtures("key")
def test_pdf_only_asks_for_pdf_files_and_refuses_the_rest(server: Server, tmp_path: Path) -> None:
    content = lines_pdf(tmp_path / "made.pdf", ["Ring twice at the door and wait."]).read_bytes()
    server.pages |= {"/a.pdf": Reply(content, headers={"Content-Type": "application/pdf"}), "/b": html("B")}
    server.pages["/search.json"] = as_json(answer([server.url("/a.pdf"), server.url("/b")]))
    result = collect(tmp_path / "run", server, {"search": "hours", "pdf_only": True})
    assert list(result.documents) == [server.url("/a.pdf")]
    assert result.reasons == {server.url("/b"): "not_pdf"}
    assert parameters(server)[0]["q"] == ["hours filetype:pdf"]


@pytest.mark.usefixtures("key")
def test_a_repeated_collection_does_not_pay_for_the_search_again(server: Server, tmp_path: Path) -> None:
    server.pages |= {"/a": html("A"), "/search.json": as_json(answer([server.url("/a")]))}
    for _ in range(2):
        collect(tmp_path / "run", server, {"search": "hours"})
    assert len(parameters(server)) == 1


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_key_is_told_by_the_name_of_its_variable(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("SERPAPI_API_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SERPAPI_API_KEY", value)
    with pytest.raises(ServiceError, match=r"serpapi needs a key, found no environment variable SERPAPI_API_KEY"):
        collect(tmp_path / "run", server, {"search": "hours"})
    assert server.asked == []


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (as_json({"error": f"Invalid API key {KEY}."}, 401), "does not take the key"),
        (as_json({"error": "Your account has run out of searches."}, 403), "does not take the key"),
        (as_json({"search_metadata": {"status": "Error"}, "error": f"Bad: {KEY}"}), "found Bad: ***"),
        (Reply(b"<html>maintenance</html>"), "does not answer in JSON"),
        (as_json([1]), "does not answer in JSON"),
        (Reply(status=302, headers={"Location": "https://elsewhere.example/"}), "found status 302"),
    ],
)
def test_a_search_that_fails_is_a_row_and_never_shows_the_key(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: Any, reply: Reply, words: str
) -> None:
    caplog.set_level(logging.DEBUG)
    server.pages |= {"/a": html("A"), "/search.json": reply}
    result = collect(tmp_path / "run", server, {"search": "hours"}, server.url("/a"))
    assert list(result.documents) == [server.url("/a")]
    assert words in result.rejected["search: hours"]["detail"]
    written = b"".join(p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file())
    told = caplog.text + "".join(capsys.readouterr())
    assert KEY.encode() not in written and KEY not in told


@pytest.mark.usefixtures("key")
def test_a_search_that_succeeds_shows_the_key_nowhere_either(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    server.pages |= {"/a": html("A"), "/search.json": as_json(answer([server.url("/a")]))}
    collect(tmp_path / "run", server, {"search": "hours"})
    written = b"".join(p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file())
    assert KEY.encode() not in written
    assert KEY not in caplog.text + "".join(capsys.readouterr())


@pytest.mark.usefixtures("key")
def test_a_search_without_results_is_a_clear_error_when_it_is_the_only_source(server: Server, tmp_path: Path) -> None:
    empty = answer([], error="Google hasn't returned any results for this query.")
    del empty["organic_results"]
    server.pages["/search.json"] = as_json(empty)
    with pytest.raises(
        DatasetError, match=r"collect\.sources: search: hours: no file could be read, found 1 no_results"
    ):
        collect(tmp_path / "run", server, {"search": "hours"})


def test_a_service_that_repeats_itself_is_not_asked_for_ever() -> None:
    asked: list[str] = []

    def ask(url: str) -> bytes:
        asked.append(url)
        return json.dumps(answer(["https://a.example/"], has_next=True)).encode()

    hits = serpapi(Question("q", 50, False, "https://search.example/?x=1", KEY), ask)
    assert hits == [Hit("https://a.example/", "Result 1")]
    assert len(asked) == 2 and asked[0].startswith("https://search.example/?x=1&engine=google")


@pytest.mark.parametrize("body", [b"", b"\xff", b"null", b"[" * 100_000])
def test_an_answer_of_another_shape_is_told(body: bytes) -> None:
    with pytest.raises(DocumentError, match="does not answer in JSON"):
        serpapi(Question("q", 5, False, "https://search.example", KEY), lambda url: body)


@pytest.mark.parametrize(
    "odd", [{"organic_results": [None, {"title": "no link"}, {"link": 3}]}, {"organic_results": "x", "serpapi_pagination": None}, {"search_metadata": "x"}]
)  # fmt: skip
def test_rows_without_a_link_are_passed_over(odd: dict[str, Any]) -> None:
    assert serpapi(Question("q", 5, False, "https://search.example", KEY), lambda url: json.dumps(odd).encode()) == []


@pytest.mark.usefixtures("key")
def test_what_a_search_named_and_could_not_be_read_carries_the_query(server: Server, tmp_path: Path) -> None:
    server.pages |= {
        "/a": html("A"),
        "/x.png": Reply(b"\x89PNG\r\n\x1a\n" + bytes(99), headers={"Content-Type": "image/png"}),
    }
    server.pages["/search.json"] = as_json(answer([server.url(p) for p in ("/a", "/gone", "/x.png")]))
    result = collect(tmp_path / "run", server, {"search": "visiting hours"}, server.url("/elsewhere"))
    assert {item: row.get("query") for item, row in result.rejected.items()} == {
        server.url("/gone"): "visiting hours",
        server.url("/x.png"): "visiting hours",
        server.url("/elsewhere"): None,
    }
