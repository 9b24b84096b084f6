"""Addresses as sources of the whole stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collect_files import Collected, lines_pdf
from collect_files import collect as collect_any
from web_server import HOST, Reply, Server, html, redirect

from fieldwise.collect.extraction import ExtractionWorker
from fieldwise.collect.fetch import file_name
from fieldwise.errors import DatasetError
from fieldwise.hashing import sha256_bytes

WEB = {"allow_private": [HOST], "delay_seconds": 0}


def collect(folder: Path, *sources: Any, web: dict[str, Any] | None = None, **settings: Any) -> Collected:
    return collect_any(folder, *sources, web={**WEB, **(web or {})}, **settings)


@pytest.fixture
def pdf(tmp_path: Path) -> bytes:
    return lines_pdf(tmp_path / "made.pdf", ["# Guide", "Ring twice at the door and wait."]).read_bytes()


def as_pdf(content: bytes, **headers: str) -> Reply:
    return Reply(content, headers={"Content-Type": "application/pdf", **headers})


def test_a_page_a_file_and_a_folder_become_documents_side_by_side(server: Server, tmp_path: Path, pdf: bytes) -> None:
    server.pages |= {"/rules.php?id=3": html("Rules"), "/get": as_pdf(pdf)}
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/plan.txt").write_text("The plan is to wait.", encoding="utf-8")
    result = collect(tmp_path / "run", tmp_path / "docs", server.url("/rules.php?id=3#top"), server.url("/get"))
    assert list(result.documents) == sorted([server.url("/get"), server.url("/rules.php?id=3"), "plan.txt"])
    page = result.documents[server.url("/rules.php?id=3")]
    assert (page.title, page.source.media_type, page.source.fetched_at) == ("Rules", "text/html", None)
    guide = result.documents[server.url("/get")]
    assert guide.source.sha256 == sha256_bytes(pdf)
    assert "Ring twice" in guide.text
    names = [p.name for p in (result.folder / "1_documents/originals").iterdir()]
    assert f"{sha256_bytes(pdf)[:16]}-get.pdf" in names


def test_provenance_names_where_a_page_came_from_and_no_time(server: Server, tmp_path: Path) -> None:
    server.pages |= {"/old": redirect("/new"), "/new": html("New", Link='<https://terms.example/cc>; rel="license"')}
    result = collect(tmp_path / "run", server.url("/old"))
    entry = result.provenance[server.url("/old")]
    assert entry["final_url"] == server.url("/new")
    assert entry["licence"] == entry["stated_licence"] == "https://terms.example/cc"
    assert set(entry) == {
        "final_url", "stated_licence", "media_type", "sha256", "bytes", "licence", "reader", "warnings"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("element", "licence"),
    [
        ("<a rel='license noopener' href='/terms'>Terms</a>", "{server}/terms"),
        ("<meta name='DC.rights' content='CC BY 4.0'>", "CC BY 4.0"),
        ("<a rel='nofollow' href='/terms'>Terms</a>", None),
    ],
)
def test_the_licence_a_page_states_is_kept(server: Server, tmp_path: Path, element: str, licence: str | None) -> None:
    body = f"<html><head><title>A</title></head><body><p>Some words on a page.</p>{element}</body></html>"
    server.pages["/a"] = Reply(body.encode())
    entry = collect(tmp_path / "run", server.url("/a")).provenance[server.url("/a")]
    assert entry["licence"] == (licence and licence.format(server=server.url("")))


def test_the_licence_of_the_recipe_goes_before_the_one_a_page_states(server: Server, tmp_path: Path) -> None:
    server.pages["/a"] = html("A", Link='</terms>; rel="license"')
    entry = collect(tmp_path / "run", server.url("/a"), licence="by contract").provenance[server.url("/a")]
    assert (entry["licence"], entry["stated_licence"]) == ("by contract", server.url("/terms"))


def test_every_failure_is_a_row_with_its_remedy_and_ends_nothing(server: Server, tmp_path: Path) -> None:
    server.pages |= {
        "/robots.txt": Reply(b"User-agent: *\nDisallow: /private\n"),
        "/good": html("Good"),
        "/false.pdf": Reply(b"no pdf", headers={"Content-Type": "application/pdf"}),
        "/large": Reply(b"x" * 2000),
        "/empty": Reply(b""),
        "/broken": as_pdf(b"%PDF-1.7\n%%EOF"),
        "/json": Reply(b"{}", headers={"Content-Type": "application/json"}),
        "/private": html("Private"),
    }
    bad = {
        "/gone": "http_404", "/false.pdf": "mislabelled", "/large": "too_large", "/empty": "empty",
        "/broken": "broken", "/private": "robots",
    }  # fmt: skip
    result = collect(tmp_path / "run", server.url("/good"), *map(server.url, bad), max_file_mb=0.0015)
    assert list(result.documents) == [server.url("/good")]
    assert result.reasons == {server.url(path): reason for path, reason in bad.items()}
    assert all(row["detail"].endswith(".") and row["stage"] == "collect" for row in result.rejected.values())


def test_sources_that_all_fail_are_one_clear_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"no file could be read, found 2 http_404; the first is http://127"
    ) as caught:
        collect(tmp_path / "run", server.url("/a"), server.url("/b"))
    assert server.url("/a") in str(caught.value.where)


def test_this_machine_is_not_fetched_from_unless_the_recipe_names_it(server: Server, tmp_path: Path) -> None:
    server.pages["/a"] = html("A")
    with pytest.raises(DatasetError, match=r"found 1 private_address; .* found 127\.0\.0\.1 at a loopback address"):
        collect(tmp_path / "run", server.url("/a"), web={"allow_private": []})
    assert server.asked == []


def test_a_password_in_a_list_is_refused_and_shown_nowhere(server: Server, tmp_path: Path) -> None:
    server.pages["/a"] = html("A")
    (tmp_path / "list.txt").write_text(
        f"{server.url('/a')}\nhttp://me:sesame@{HOST}:{server.port}/b\n", encoding="utf-8"
    )
    result = collect(tmp_path / "run", {"urls": str(tmp_path / "list.txt")})
    assert result.reasons == {server.url("/b"): "bad_url"}
    for path in (p for p in (tmp_path / "run").rglob("*") if p.is_file()):
        assert b"sesame" not in path.read_bytes()


def test_another_kind_of_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"addresses of this kind are not fetched, found ftp://"):
        collect(tmp_path / "run", "ftp://a.example/x.pdf")


# ---------------------------------------------------------------- lists and sitemaps


def test_a_list_of_addresses_is_read_line_by_line(server: Server, tmp_path: Path) -> None:
    server.pages |= {"/a": html("A"), "/b": html("B")}
    lines = ["# pages", "", server.url("/b"), server.url("/a"), server.url("/b#again"), "no address"]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    result = collect(tmp_path / "run", {"urls": str(tmp_path / "list.txt")})
    assert sorted(result.documents) == [server.url("/a"), server.url("/b")]
    assert result.reasons == {"no address": "bad_url"}
    assert server.pages_asked() == ["/b", "/a"]


def test_a_list_that_is_not_there_or_empty_ends_the_stage(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the list of addresses cannot be read, found No such file"):
        collect(tmp_path / "run", {"urls": str(tmp_path / "none.txt")})
    (tmp_path / "list.txt").write_text("# nothing yet\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="the list holds no address"):
        collect(tmp_path / "run", {"urls": str(tmp_path / "list.txt")})


def sitemap(*urls: str, tag: str = "url") -> Reply:
    kind = "urlset" if tag == "url" else "sitemapindex"
    places = "".join(f"<{tag}><loc>{url}</loc></{tag}>" for url in urls)
    body = f'<?xml version="1.0"?><{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{places}</{kind}>'
    return Reply(body.encode(), headers={"Content-Type": "application/xml"})


def test_the_pages_of_a_sitemap_and_of_its_parts_are_taken_by_pattern_and_limit(server: Server, tmp_path: Path) -> None:
    names = [f"/guides/{n}" for n in range(4)]
    server.pages |= {name: html(f"Guide {name[-1]}") for name in names}
    server.pages |= {
        "/map.xml": sitemap(server.url("/1.xml"), server.url("/gone.xml"), server.url("/2.xml"), tag="sitemap"),
        "/1.xml": sitemap(server.url("/news/1"), *map(server.url, names[:2])),
        "/2.xml": sitemap(*map(server.url, names[2:])),
    }
    wanted = {"sitemap": server.url("/map.xml"), "include": ["*/guides/*"], "limit": 3}
    result = collect(tmp_path / "run", wanted)
    assert sorted(result.documents) == [server.url(n) for n in names[:3]]
    assert result.reasons == {server.url("/gone.xml"): "http_404"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "c">]><urlset><url><loc>&b;</loc></url></urlset>', "bad_sitemap"),
        (b"<urlset><url>", "bad_sitemap"),
        (b"<urlset></urlset>", "bad_sitemap"),
        (b"\x1f\x8bnot gzip", "bad_sitemap"),
    ],
)
def test_a_sitemap_that_cannot_be_used_is_a_row(server: Server, tmp_path: Path, body: bytes, reason: str) -> None:
    server.pages |= {"/map.xml": Reply(body, headers={"Content-Type": "application/xml"}), "/a": html("A")}
    result = collect(tmp_path / "run", {"sitemap": server.url("/map.xml")}, server.url("/a"))
    assert result.reasons == {f"sitemap: {server.url('/map.xml')}": reason}
    assert list(result.documents) == [server.url("/a")]


# ---------------------------------------------------------------- what is fetched again


def test_a_second_run_fetches_nothing_again_and_gives_the_same_bytes(server: Server, tmp_path: Path) -> None:
    server.pages |= {"/a": html("A"), "/b": html("B")}
    sources = [server.url("/a"), server.url("/b")]
    first = collect(tmp_path / "run", *sources)
    kept = {n: (first.folder / "1_documents" / n).read_bytes() for n in ("documents.parquet", "provenance.json")}
    asked = len(server.asked)
    again = collect(tmp_path / "run", *sources)
    assert len(server.asked) == asked
    assert {n: (again.folder / "1_documents" / n).read_bytes() for n in kept} == kept


def test_another_run_folder_at_another_time_gives_the_same_bytes(server: Server, tmp_path: Path) -> None:
    server.pages["/a"] = html("A", ETag='"1"')
    first = collect(tmp_path / "run", server.url("/a")).folder / "1_documents"
    server.pages["/a"] = html("A", ETag='"2"', Date="Mon, 02 Nov 2026 10:00:00 GMT")
    second = collect(tmp_path / "other", server.url("/a")).folder / "1_documents"
    for name in ("documents.parquet", "provenance.json", "rejected.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def unchanged_or(page: Reply, etag: str) -> Callable[[Any], Reply]:
    def answer(handler: Any) -> Reply:
        return Reply(status=304, headers={}) if handler.headers.get("If-None-Match") == etag else page

    return answer


def test_old_pages_are_asked_for_with_their_mark_and_changed_ones_replaced(server: Server, tmp_path: Path) -> None:
    server.pages |= {"/a": unchanged_or(html("A", ETag='"a"'), '"a"'), "/b": html("B", ETag='"b"')}
    sources = [server.url("/a"), server.url("/b")]
    collect(tmp_path / "run", *sources)
    server.pages["/b"] = html("Other", ETag='"b2"')
    again = collect(tmp_path / "run", *sources, web={"max_age_hours": 0})
    assert [h.get("if-none-match") for h in server.headers[-2:]] == ['"a"', '"b"']
    assert {d.title for d in again.documents.values()} == {"A", "Other"}


def test_a_page_whose_copy_was_spoilt_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.pages["/a"] = html("A", ETag='"a"')
    first = collect(tmp_path / "run", server.url("/a"))
    sha256 = first.documents[server.url("/a")].source.sha256
    blob = first.folder / "store" / sha256[:2] / sha256
    blob.unlink()
    blob.write_bytes(b"spoilt")
    assert collect(tmp_path / "run", server.url("/a")).documents == first.documents
    assert server.count("/a") == 2 and "if-none-match" not in server.headers[-1]


def test_a_collection_that_was_killed_goes_on_where_it_stood(server: Server, tmp_path: Path) -> None:
    server.pages |= {"/a": html("A"), "/b": html("B"), "/c": html("C")}
    sources = [server.url(f"/{n}") for n in "abc"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fetch = "fieldwise.collect.download.Downloader.fetch"
        patch.setattr(fetch, interrupted_at(server.url("/c")))
        collect(tmp_path / "run", *sources)
    result = collect(tmp_path / "run", *sources)
    assert len(result.documents) == 3
    assert server.pages_asked() == ["/a", "/b", "/c"]


def interrupted_at(url: str) -> Any:
    from fieldwise.collect.download import Downloader

    fetch = Downloader.fetch

    def fetch_until(self: Any, wish: Any, sink: Any) -> Any:
        if wish.url == url:
            raise KeyboardInterrupt
        return fetch(self, wish, sink)

    return fetch_until


def test_when_each_page_was_fetched_stands_beside_the_outputs(server: Server, tmp_path: Path) -> None:
    server.pages["/a"] = html("A")
    folder = collect(tmp_path / "run", server.url("/a"), server.url("/gone"), web={"max_age_hours": 0}).folder
    times = json.loads((folder / "times/fetched.json").read_text(encoding="utf-8"))
    assert list(times) == [server.url("/a")]
    (memo,) = (json.loads(p.read_text(encoding="utf-8")) for p in (folder / "memo/web").rglob("*.json"))
    assert memo["url"] == server.url("/a") and memo["fetched_at"] == times[server.url("/a")]
    assert memo["fetched_at"].startswith("20")
    year = memo["fetched_at"][:10].encode()
    assert all(year not in p.read_bytes() for p in (folder / "1_documents").rglob("*") if p.is_file())


def test_what_was_fetched_is_read_in_the_child_process(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    extract = ExtractionWorker.extract

    def noted(self: ExtractionWorker, path: Path, source: Any) -> Any:
        seen.append(path.name[17:])
        return extract(self, path, source)

    monkeypatch.setattr(ExtractionWorker, "extract", noted)
    server.pages["/a"] = html("A")
    collect(tmp_path / "run", server.url("/a"))
    assert seen == ["a.html"]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("url", "content_type", "name"),
    [
        ("https://a.example/", "text/html", "a.example.html"),
        ("https://a.example/x/", "text/html", "x.html"),
        ("https://a.example/pdf/2401.00001", "application/pdf", "2401.pdf"),
        ("https://a.example/x.md?raw=1", "text/plain", "x.md"),
        ("https://a.example/x.docx", "application/octet-stream", "x.docx"),
        ("https://a.example/x.docx", "application/zip", "x.docx"),
        ("https://a.example/x.pdf", "text/html", "x.html"),
        ("https://a.example/a%20b.htm", "text/html", "a b.htm"),
        ("https://a.example/x", "application/x-unknown", "x"),
        ("https://a.example/x.txt", "", "x.txt"),
    ],
)
def test_a_download_is_named_by_its_address_and_announced_type(url: str, content_type: str, name: str) -> None:
    assert file_name(url, content_type) == name
