"""fieldwise store: what the commands do, print and refuse."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from test_store_retriever import TEXTS, make_run

from fieldwise.cli import main
from fieldwise.commands import store as commands
from fieldwise.commands.common import parents
from fieldwise.errors import DatasetError, FieldwiseError, RunError
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.store.local import LocalStore


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    commands.add(parser.add_subparsers(), parents())
    options = parser.parse_args(["store", *map(str, arguments)], argparse.Namespace(json=False, quiet=True))
    code: int = options.command(options)
    return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "documents"
    (place / "wards").mkdir(parents=True)
    (place / "fridges.md").write_text("# Fridges\n\nThe vaccine fridge is kept between two and eight degrees.\n")
    (place / "wards/visits.html").write_text("<html><body><h1>Visits</h1><p>Guests leave at eight in the evening.</p></body></html>")  # fmt: skip
    (place / ".hidden.md").write_text("# Hidden\n\nNothing here is for anybody.\n")
    return place


def test_files_are_added_listed_searched_and_deleted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ("--store", tmp_path / "store")
    assert (
        call("add", folder, *store, "--licence", "CC0", "--field", "year=2024", "--field", "topic=cold", "--json") == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["added"], told["rejected"]) == (["fridges.md", "wards/visits.html"], [])
    assert call("add", folder, *store, "--licence", "CC0", "--field", "year=2024", "--field", "topic=cold") == 0
    assert "0 added, 2 unchanged, 0 rejected" in capsys.readouterr().out

    assert call("list", *store, "--json") == 0
    documents = json.loads(capsys.readouterr().out)
    assert [(d["uri"], d["licence"], d["fields"]["year"]) for d in documents] == [
        ("fridges.md", "CC0", 2024),
        ("wards/visits.html", "CC0", 2024),
    ]
    assert call("search", "How cold is the fridge?", *store, "--json", "--explain", "--top-k", 1) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["results"][0]["chunk"]["uri"] == "fridges.md"
    assert found["results"][0]["explain"]["dense"]["rank"] == 1
    assert call("search", "fridge", *store, "--filter", '{"field": "year", "eq": 1999}') == 0
    assert capsys.readouterr().out == ""
    assert call("search", "fridge", *store, "--group", "strangers") == 0
    assert capsys.readouterr().out == ""

    assert call("delete", "fridges.md", *store) == 0
    capsys.readouterr()
    assert call("search", "fridge degrees", *store, "--words-only") == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(DatasetError, match="nothing was deleted"):
        call("delete", "wards/visits.html", "never.md", *store)
    assert call("list", *store) == 0
    assert "wards/visits.html  version 1, 1 chunks, for everyone" in capsys.readouterr().out


def test_what_cannot_be_read_is_listed_and_the_rest_is_added(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    (folder / "empty.txt").write_bytes(b"")
    assert call("add", folder, "--store", tmp_path / "store", "--json") == 2
    told = json.loads(capsys.readouterr().out)
    assert {r["uri"]: r["reason"] for r in told["rejected"]}.keys() == {"broken.pdf", "empty.txt"}
    assert len(told["added"]) == 2
    for paths, said in ((["nowhere"], "no such file"), ([], "nothing is named")):
        with pytest.raises(FieldwiseError, match=said):
            call("add", *paths, "--store", tmp_path / "store")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/fridges.md").write_text("# Other\n\nwords")
    with pytest.raises(FieldwiseError, match="the same name"):
        call("add", folder, tmp_path / "other", "--store", tmp_path / "store")


def test_a_run_is_added_and_mirrored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = RetrieveSettings(embedding="none")
    store = ("--store", tmp_path / "store")
    assert call("add", "--run", make_run(tmp_path / "one", TEXTS, plain), *store) == 0
    assert "6 documents of the run, 6 of them new or changed, 0 removed" in capsys.readouterr().out
    assert call("add", "--run", make_run(tmp_path / "two", TEXTS[:4], plain), "--mirror", *store) == 0
    assert "2 removed" in capsys.readouterr().out
    assert call("check", *store, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["documents"], told["faults"]) == (4, [])


def test_versions_stay_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, path = ("--store", tmp_path / "store"), tmp_path / "rule.md"
    path.write_text("# Rule\n\nThe deposit is forty pounds for each key.\n")
    call("add", path, *store, "--valid-from", "2024-01-01")
    path.write_text("# Rule\n\nThe deposit is fifty pounds for each key.\n")
    call("add", path, *store, "--valid-from", "2025-01-01", "--keep-earlier")
    capsys.readouterr()
    for day, said in (("2024-06-01", "forty"), ("2025-06-01", "fifty")):
        assert call("search", "deposit", *store, "--as-of", day, "--words-only") == 0
        out = capsys.readouterr().out
        assert said in out
        assert out.count("deposit is") == 1


def test_rebuild_mends_what_was_lost(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    call("add", folder, "--store", store)
    capsys.readouterr()
    for path in (store / "words").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    assert call("rebuild", "--store", store) == 0
    assert "2 documents, 2 chunks, 2 vectors" in capsys.readouterr().out
    for name in ("check", "rebuild", "list"):
        with pytest.raises(DatasetError, match="no document store"):
            call(name, "--store", tmp_path / "none")


def test_options_of_a_search_and_what_is_none(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ("--store", tmp_path / "store")
    call("add", folder, *store)
    capsys.readouterr()
    assert call("search", "fridge", "per_document=1", "expand=section", *store, "--words-only", "--explain") == 0
    assert '"is_widened"' in capsys.readouterr().out
    for bad in ("perdocument=1", "fold=2", "rewrite=endpoint"):
        with pytest.raises(FieldwiseError):
            call("search", "fridge", bad, *store)
    with pytest.raises(DatasetError, match="no document has"):
        call("search", "fridge", *store, "--filter", '{"field": "yaer", "eq": 1}', "--words-only")
    for bad in (["--filter", "{"], ["--as-of", "soon"]):
        with pytest.raises(SystemExit):
            call("search", "fridge", *store, *bad)


def test_a_store_that_is_being_written_is_told(tmp_path: Path, folder: Path) -> None:
    with LocalStore.open(tmp_path / "store"), pytest.raises(RunError, match="another process writes"):
        call("add", folder, "--store", tmp_path / "store")


def test_a_key_goes_into_the_file_by_its_hash_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fieldwise.serve.keys import KeyRing

    assert call("key", "ward 4", "--group", "everyone", "--group", "nurses", "--right", "write") == 0
    out = capsys.readouterr().out
    key, entry = out.splitlines()[0].rpartition(" ")[2], out.splitlines()[-1]
    assert key not in entry
    (tmp_path / "keys.yaml").write_text(entry + "\n", encoding="utf-8")
    caller = KeyRing(tmp_path / "keys.yaml").find(key)
    assert caller is not None
    assert (caller.name, caller.identity.groups, caller.rights) == ("ward 4", {"everyone", "nurses"}, {"write"})
    assert KeyRing(tmp_path / "keys.yaml").find(key[:-1]) is None


def test_the_command_line_knows_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "check", "--store", str(tmp_path / "none"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["what"] == "there is no document store"
