"""Web sources in recipes and on the command line: checked before work starts, and fetched only when a stage runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from web_server import HOST, Server, html

from fieldwise.cli import main
from fieldwise.collect.settings import CollectSettings, WebSource
from fieldwise.collect.stage import fingerprint
from fieldwise.errors import RecipeError
from fieldwise.recipe import load_recipe, missing_places


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_addresses_stay_and_places_of_lists_become_absolute(tmp_path: Path) -> None:
    text = (
        "collect: {sources: [docs, 'https://a.example/x', {urls: list.txt}, {search: hours}], web: {ca_file: ca.pem}}\n"
    )
    collect = load_recipe(write(tmp_path, text)).collect
    docs, page, listed, searched = collect.sources
    assert (docs, page) == (str(tmp_path / "docs"), "https://a.example/x")
    assert isinstance(listed, WebSource) and listed.urls == str(tmp_path / "list.txt")
    assert isinstance(searched, WebSource) and searched.search == "hours"
    assert collect.web.ca_file == str(tmp_path / "ca.pem")


def test_a_saved_recipe_with_web_sources_reads_as_it_was(tmp_path: Path) -> None:
    text = "collect: {sources: ['https://a.example/x', {sitemap: 'https://a.example/s.xml', limit: 5}]}\n"
    recipe = load_recipe(write(tmp_path, text))
    assert load_recipe(write(tmp_path, recipe.to_yaml())) == recipe


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{serch: hours}", r"collect\.sources\.0\.serch: unknown key\. Did you mean collect\.sources\.0\.search"),
        ("{search: hours, urls: list.txt}", r"collect\.sources\.0: name one of urls, sitemap and search, found urls and search"),
        ("{limit: 5}", r"name one of urls, sitemap, search, rows and dataset, found none"),
        ("{search: ' '}", "the query is empty"),
        ("{sitemap: map.xml}", "a sitemap begins with http:// or https://"),
        ("{search: hours, limit: 0}", r"collect\.sources\.0\.limit: .*greater than 0, found 0"),
        ("{search: hours, service: other}", r"collect\.sources\.0\.service: .*'serpapi', found 'other'"),
        ("5", r"collect\.sources\.0: expected text, found 5"),
        ("yes", r"collect\.sources\.0: expected text, found true"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_web_source_is_one_problem_with_its_key(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(write(tmp_path, f"collect:\n  sources:\n    - {source}\n"))
    assert len(caught.value.problems) == (2 if "serch" in source else 1)
    assert "recipe.yaml:3" in str(caught.value)


def test_a_list_that_is_not_there_is_a_missing_place_and_an_address_is_not(tmp_path: Path) -> None:
    text = "collect: {sources: ['https://a.example/x', {urls: none.txt}, {search: hours}]}\n"
    (problem,) = missing_places(load_recipe(write(tmp_path, text)))
    assert problem.where == "collect.sources.1"


def test_the_fingerprint_asks_nobody_and_follows_the_lines_of_a_list(server: Server, tmp_path: Path) -> None:
    def of(*sources: Any) -> Any:
        return fingerprint(CollectSettings.model_validate({"sources": sources}))

    (tmp_path / "list.txt").write_text(server.url("/a"), encoding="utf-8")
    (tmp_path / "moved.txt").write_text(f"# moved\n{server.url('/a')}\n", encoding="utf-8")
    listed = of({"urls": str(tmp_path / "list.txt")}, {"search": "hours"}, server.url("/x"))
    assert listed == of({"urls": str(tmp_path / "moved.txt")}, {"search": "hours"}, server.url("/x"))
    (tmp_path / "list.txt").write_text(server.url("/b"), encoding="utf-8")
    assert listed != of({"urls": str(tmp_path / "list.txt")}, {"search": "hours"}, server.url("/x"))
    assert of({"search": "hours"}) != of({"search": "hours", "limit": 5})
    assert server.asked == []


def test_waits_and_times_do_not_enter_the_key_and_allowed_hosts_do() -> None:
    def keyed(**web: Any) -> Any:
        return CollectSettings.model_validate({"web": web}).keyed()

    assert keyed() == keyed(delay_seconds=5, timeout_seconds=1, max_age_hours=0, ca_file="x.pem")
    assert keyed() != keyed(allow_private=["a.example"])


def test_a_dry_run_says_what_would_run_and_fetches_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, web_recipe(server))
    code = main(["run", "--config", str(path), "--run", str(tmp_path / "run"), "--stage", "1", "--dry-run", "--json"])
    assert code == 0
    assert json.loads(capsys.readouterr().out) == [{"step": "1_collect", "action": "run", "reason": "never run here"}]
    assert main(["validate", str(path)]) == 0
    assert server.asked == []


def test_the_command_line_collects_an_address_and_leaves_it_when_it_is_up_to_date(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.pages["/a"] = html("A")
    path = write(tmp_path, f"collect: {{web: {{allow_private: [{HOST}], delay_seconds: 0}}}}\n")
    arguments = ["collect", server.url("/a"), "--config", str(path), "--run", str(tmp_path / "run")]
    assert main(arguments) == 0
    asked = list(server.asked)
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == ["1_collect: run", "1_collect: skip"]
    assert server.asked == asked == ["/robots.txt", "/a"]
    assert server.url("/a") in json.loads((tmp_path / "run/1_documents/provenance.json").read_text(encoding="utf-8"))


def test_the_command_line_tells_what_kind_of_address_it_does_not_fetch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", "ftp://a.example/x.pdf", "--run", str(tmp_path / "run")]) == 2
    assert "addresses of this kind are not fetched, found ftp://" in capsys.readouterr().err


@pytest.mark.parametrize(
    "keys",
    [
        "sources: ['http://me:sesame@a.example/b']",
        "sources: [{sitemap: 'http://me:sesame@a.example/b'}]",
        "sources: [{search: hours}], web: {search_url: 'http://me:sesame@a.example/b'}",
    ],
)
def test_a_password_in_the_recipe_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: str
) -> None:
    path = write(tmp_path, f"collect: {{{keys}}}\n")
    assert main(["run", "--config", str(path), "--run", str(tmp_path / "run"), "--stage", "1"]) == 2
    told = capsys.readouterr().err
    assert "http://a.example/b: the address holds a user name or password" in told and "sesame" not in told
    assert not (tmp_path / "run").exists()


def test_a_missing_key_ends_the_command_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERPAPI_API_KEY", raising=False)
    path = write(tmp_path, "collect: {sources: [{search: hours}]}\n")
    assert main(["run", "--config", str(path), "--run", str(tmp_path / "run"), "--stage", "1"]) == 2
    assert "collect.sources: search: hours: serpapi needs a key" in capsys.readouterr().err


def web_recipe(server: Server) -> str:
    return f"collect: {{sources: ['{server.url('/a')}', {{sitemap: '{server.url('/s.xml')}'}}, {{search: hours}}]}}\n"
