"""Rows of files as documents."""

from __future__ import annotations

import csv
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from collect_files import Collected, collect

from fieldwise.cli import main
from fieldwise.collect.row_files import find_row_files
from fieldwise.collect.settings import CollectSettings
from fieldwise.collect.stage import fingerprint, require_sources, run
from fieldwise.errors import DatasetError, RecipeError
from fieldwise.hashing import sha256_file
from fieldwise.recipe import load_recipe, missing_places
from fieldwise.records import Document
from fieldwise.rows.reading import Row, read_rows
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import read_records

ROWS: list[dict[str, Any]] = [
    {"id": "gate", "title": "Gate", "text": "The gate is locked at nine.", "license": "CC BY 4.0", "date": "2024-05-01", "views": 3},
    {"id": "door", "title": "Door", "text": "Ring twice at the door.", "license": None, "date": None, "views": 4},
    {"id": "lift", "title": "Lift", "text": "The lift stops on every floor.", "license": "", "date": "2024-07-01", "views": 5},
]  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """The rows as the ending of the file says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    return path


def entries(collected: Collected) -> list[dict[str, Any]]:
    lines = (collected.folder / "1_documents/rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_each_row_becomes_a_document_with_its_facts(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path / f"rules.{ending}")
    result = collect(tmp_path / "run", {"rows": str(file)}, licence="house rules")
    assert list(result.documents) == [f"rules.{ending}#{name}" for name in ("gate", "door", "lift")]
    gate, door = result.documents[f"rules.{ending}#gate"], result.documents[f"rules.{ending}#door"]
    assert (gate.title, gate.text, gate.source.licence, gate.source.date) == ("Gate", "The gate is locked at nine.", "CC BY 4.0", "2024-05-01")  # fmt: skip
    assert (door.source.licence, door.source.date) == ("house rules", None)
    whole = result.provenance[f"rules.{ending}"]
    assert (whole["sha256"], whole["documents"], whole["reader"]) == (sha256_file(file), 3, "rows")
    assert whole["columns"] == {"text": ["text"], "title": "title", "date": "date", "licence": "license", "id": "id"}
    unit, first = ("line", {"jsonl": 1, "csv": 2}[ending]) if ending in ("jsonl", "csv") else ("row", 1)
    assert [(e["uri"], e[unit]) for e in entries(result)] == [(uri, first + n) for n, uri in enumerate(result.documents)]  # fmt: skip
    assert [e["sha256"] for e in entries(result)] == [d.source.sha256 for d in result.documents.values()]
    assert result.facts["types"] == {"rows": 3}


def test_what_was_guessed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect(tmp_path / "run", {"rows": str(write(tmp_path / "rules.jsonl"))})
    assert "rules.jsonl: text from text, title from title, date from date, licence from license, name from id (guessed; collect.sources.N.columns names others); not used: views" in capsys.readouterr().err  # fmt: skip


def test_columns_that_are_named_are_taken_and_no_others(tmp_path: Path) -> None:
    rows = [
        {"id": n, "title": "No title", "question": f"Who keeps key {n}?", "answer": f"The porter keeps key {n}.", "meta": {"parts": ["One.", "Two."]}}
        for n in (1, 2)
    ]  # fmt: skip
    file = write(tmp_path / "faq.jsonl", rows)
    columns = {"text": ["question", "answer", "meta.parts"], "title": "question"}
    result = collect(tmp_path / "run", {"rows": str(file), "columns": columns})
    first = result.documents["faq.jsonl#1"]
    assert (first.title, first.text) == ("Who keeps key 1?", "Who keeps key 1?\n\nThe porter keeps key 1.\n\nOne.\n\nTwo.")  # fmt: skip
    assert result.provenance["faq.jsonl"]["guessed"] == []


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"question": "Who has the key?", "answer": "The porter."}, {}, r"more than one column could be the text, found question, answer\. Say which: columns: \{text: question\}"),
        ({"body": "Words here.", "content": "Other words."}, {}, r"could be the text, found body, content\. .*or \{text: \[body, content\]\}"),
        ({"text": "Words here.", "title": "A", "headline": "B"}, {}, r"more than one column could be the title, found title, headline"),
        ({"views": 3, "when": "2024-05-01"}, {}, r"no column could be the text, found views, when"),
        ({"text": "Words here."}, {"title": "name"}, r"the column 'name' is not there, found text\. Name one of these"),
    ],
)  # fmt: skip
def test_columns_that_are_not_clear_are_refused_with_the_choices_before_anything_is_written(
    tmp_path: Path, row: dict[str, Any], columns: dict[str, str], message: str
) -> None:
    source = {"rows": str(write(tmp_path / "faq.jsonl", [row])), "columns": columns}
    with pytest.raises(DatasetError, match=message):
        require_sources(CollectSettings.model_validate({"sources": [source]}))


def test_bad_rows_are_listed_with_their_line_and_the_others_are_read(tmp_path: Path) -> None:
    file = tmp_path / "faq.jsonl"
    good = '{"id": "a", "text": "The gate is locked at nine."}'
    lines = [good, "{broken", '["a list"]', '{"id": "b", "text": "  "}', '{"id": "c", "text": {"x": 1}}', good, '{"text": "A row without a name."}']  # fmt: skip
    file.write_text("\n".join(lines) + "\n" + json.dumps({"id": "d", "text": "long " * 4000}), encoding="utf-8")
    columns = {"text": "text", "id": "id"}
    result = collect(tmp_path / "run", {"rows": str(file), "columns": columns}, max_file_mb=0.01)
    assert list(result.documents) == ["faq.jsonl#a", "faq.jsonl#7"]
    assert result.reasons == {"faq.jsonl#2": "bad_row", "faq.jsonl#3": "bad_row", "faq.jsonl#4": "no_text", "faq.jsonl#5": "not_text", "faq.jsonl#6": "duplicate_id", "faq.jsonl#8": "bad_row"}  # fmt: skip
    assert result.rejected["faq.jsonl#6"]["detail"].startswith("Line 6: another row has this name, found a in line 1 as well.")  # fmt: skip
    assert "longer than a row may be" in result.rejected["faq.jsonl#8"]["detail"]
    assert result.facts["rejected"] == {"bad_row": 3, "duplicate_id": 1, "no_text": 1, "not_text": 1}


def test_a_line_that_is_too_long_is_cut_in_wide_encodings_too(tmp_path: Path) -> None:
    file = tmp_path / "faq.jsonl"
    lines = ['{"text": "The gate is locked."}', json.dumps({"text": "long " * 4000}), '{"text": "Ring twice."}']
    file.write_text("\n".join(lines), encoding="utf-16")
    result = collect(tmp_path / "run", {"rows": str(file)}, max_file_mb=0.01)
    assert list(result.documents) == ["faq.jsonl#1", "faq.jsonl#3"]
    assert result.reasons == {"faq.jsonl#2": "bad_row"}


def test_a_file_of_which_no_row_can_be_used_ends_the_stage(tmp_path: Path) -> None:
    file = write(tmp_path / "faq.jsonl", [{"text": "", "note": "x"}, {"text": " ", "note": "y"}])
    with pytest.raises(DatasetError, match=r"no row could be used, found Line 1: there is no text in it"):
        collect(tmp_path / "run", {"rows": str(file), "columns": {"text": "text"}})


def test_the_limit_counts_documents_and_reads_no_further(tmp_path: Path) -> None:
    file = write(tmp_path / "rules.jsonl")
    file.write_text('{"text": ""}\n' + file.read_text(encoding="utf-8") + "{broken", encoding="utf-8")
    result = collect(tmp_path / "run", {"rows": str(file), "columns": {"text": "text"}, "limit": 2})
    assert list(result.documents) == ["rules.jsonl#2", "rules.jsonl#3"]
    assert list(result.reasons) == ["rules.jsonl#1"]


def test_rows_can_be_markdown_or_html_read_as_files_of_that_kind_are(tmp_path: Path) -> None:
    page = "<html><body><h1>Rules</h1><p>The gate is locked at nine.</p><table><tr><td>A</td><td>B</td></tr><tr><td>1</td><td>2</td></tr></table></body></html>"
    html = write(tmp_path / "pages.jsonl", [{"text": page}])
    text = write(tmp_path / "notes.jsonl", [{"text": "# Rules\n\n- *One* rule"}])
    result = collect(tmp_path / "run", {"rows": str(html), "markup": "html"}, {"rows": str(text), "markup": "markdown"})
    first, second = result.documents["pages.jsonl#1"], result.documents["notes.jsonl#1"]
    assert ([h.text for h in first.headings], len(first.tables)) == (["Rules"], 1)
    assert (second.title, second.text) == ("Rules", "Rules\n\n- One rule")


def test_a_table_in_a_folder_stays_a_document_unless_the_recipe_asks_for_its_rows(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    write(folder / "rules.csv")
    (folder / "a.txt").write_text("Plain words.", encoding="utf-8")
    assert list(collect(tmp_path / "one", folder).documents) == ["a.txt", "rules.csv"]
    both = collect(tmp_path / "two", folder, {"rows": str(folder / "rules.csv")})
    assert list(both.documents) == ["a.txt", "rules.csv#gate", "rules.csv#door", "rules.csv#lift"]
    assert (both.rejected, both.facts["types"]) == ({}, {"plain": 1, "rows": 3})


def test_folders_and_patterns_name_several_files_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "a/part.jsonl", ROWS[:1])
    write(tmp_path / "a/deep/more.csv", ROWS[1:2])
    write(tmp_path / "b/part.jsonl", ROWS[2:])
    (tmp_path / "a/README.txt").write_text("Not rows.", encoding="utf-8")
    result = collect(tmp_path / "run", {"rows": str(tmp_path / "a")}, {"rows": str(tmp_path / "b/*.jsonl")})
    assert set(result.documents) == {"a/part.jsonl#gate", "a/deep/more.csv#door", "b/part.jsonl#lift"}


def test_files_of_rows_that_cannot_be_read_are_refused_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path / "secret.jsonl", ROWS[:1])
    folder = write(tmp_path / "rows/good.jsonl", ROWS[1:2]).parent
    (folder / "empty.csv").touch()
    (folder / "out.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (folder / "nowhere.jsonl").symlink_to(tmp_path / "nothing.jsonl")
    os.mkfifo(folder / "pipe.jsonl")
    expected = {"empty.csv": "empty", "out.jsonl": "symlink_outside", "nowhere.jsonl": "unreadable", "pipe.jsonl": "not_a_file"}  # fmt: skip
    for name, source in (("one", folder), ("two", folder / "*")):
        result = collect(tmp_path / name, {"rows": str(source)})
        assert (list(result.documents), result.reasons) == (["good.jsonl#door"], expected)


def test_a_source_of_which_no_file_of_rows_can_be_read_ends_the_stage(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to(write(tmp_path / "rules.jsonl"))
    with pytest.raises(DatasetError, match=r"no file of the source can be read, found empty\.jsonl: the file is empty"):
        collect(tmp_path / "run", {"rows": str(tmp_path / "empty.jsonl")})
    assert len(collect(tmp_path / "run", {"rows": str(tmp_path / "link.jsonl")}).documents) == 3


def test_a_file_of_rows_without_permission_is_refused(folder_of_nobody: Path) -> None:
    write(folder_of_nobody / "open.jsonl")
    write(folder_of_nobody / "closed.jsonl").chmod(0)
    source = {"rows": str(folder_of_nobody)}
    found = find_row_files(CollectSettings.model_validate({"sources": [source]}))
    assert [file.name for file in found.files] == ["open.jsonl"]
    assert [(entry.relative, entry.reason) for entry in found.refused] == [("closed.jsonl", "unreadable")]


def test_two_runs_give_the_same_bytes_and_other_columns_other_keys(tmp_path: Path) -> None:
    file = write(tmp_path / "rules.parquet")
    one, two = (collect(tmp_path / name, {"rows": str(file)}).folder / "1_documents" for name in ("one", "two"))
    for name in ("documents.parquet", "rejected.jsonl", "provenance.json", "rows.jsonl"):
        assert (one / name).read_bytes() == (two / name).read_bytes()

    def held(**more: Any) -> Any:
        return fingerprint(CollectSettings.model_validate({"sources": [{"rows": str(file), **more}]}))

    assert held() == held() != held(limit=1)
    moved = tmp_path / "elsewhere" / "rules.parquet"
    moved.parent.mkdir()
    before = held()
    file.rename(moved)
    assert fingerprint(CollectSettings.model_validate({"sources": [{"rows": str(moved)}]})) == before


def test_a_file_that_changes_while_its_rows_are_read_ends_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldwise.collect import row_documents

    file = write(tmp_path / "rules.jsonl")
    find = row_documents.title_from_name

    def disturbed(name: str) -> str:
        file.write_text('{"text": "Other words."}\n', encoding="utf-8")
        return find(name)

    monkeypatch.setattr(row_documents, "title_from_name", disturbed)
    with pytest.raises(DatasetError, match="the file changed while its rows were read"):
        collect(tmp_path / "run", {"rows": str(file), "columns": {"text": "text"}})


def test_rows_stream_so_that_more_of_them_take_no_more_memory(tmp_path: Path) -> None:
    assert _peak(tmp_path, rows=9000) < 1.3 * _peak(tmp_path, rows=3000)


def _peak(folder: Path, rows: int) -> int:
    """Most bytes held while rows of a thousand characters are collected."""
    file = folder / f"{rows}.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for n in range(rows):
            stream.write(json.dumps({"text": f"Row {n}. " + "A sentence about the gate. " * 40}) + "\n")
    settings = CollectSettings.model_validate({"sources": [{"rows": str(file)}]})
    with StepRun(RunFolder(folder / f"run-{rows}"), "1_collect", "0" * 64, 42) as step:
        tracemalloc.start()
        try:
            assert run(settings, step)["documents"] == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


# ---------------------------------------------------------------- recipe and command line


def test_a_file_that_says_one_long_text_very_often_is_cut_and_takes_little_memory(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["The gate is locked. " * 50_000]))
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"text": text.cast(pa.string())}), path, compression="zstd")
    before = pa.total_allocated_bytes()
    rows = read_rows(path)
    first = next(rows)
    assert isinstance(first, Row) and len(first.values["text"]) == 1_000_000
    assert pa.total_allocated_bytes() - before < 400_000_000
    result = collect(tmp_path / "run", {"rows": str(path)}, max_unpacked_mb=20)
    assert (len(result.documents), result.reasons) == (21, {"bomb.parquet": "zip_bomb"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{rowz: a.csv}", r"collect\.sources\.0\.rowz: unknown key\. Did you mean collect\.sources\.0\.rows"),
        ("{rows: a.csv, column: {text: a}}", r"0\.column: unknown key\. Did you mean collect\.sources\.0\.columns"),
        ("{rows: a.csv, columns: {txt: a}}", r"0\.columns\.txt: unknown key\. Did you mean collect\.sources\.0\.columns\.text"),
        ("{rows: a.csv, columns: {title: [a]}}", r"collect\.sources\.0\.columns\.title: expected text"),
        ("{rows: a.csv, dataset: a/b}", r"name one of rows and dataset, found both"),
        ("{rows: a.csv, split: test}", r"files have no split; name the file of the split you want"),
        ("{rows: 'https://a.example/a.csv'}", r"rows names files of this machine"),
        ("{dataset: ./folder}", r"a data set of the hub is written owner/name; files are named with rows"),
        ("{rows: a.csv, limit: 0}", r"collect\.sources\.0\.limit: .*greater than 0, found 0"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_row_source_is_told_with_its_key(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"collect:\n  sources:\n    - {source}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_places_count_from_the_recipe_file_and_one_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("collect: {sources: [{rows: here/rules.csv}, {dataset: owner/name}]}", encoding="utf-8")
    recipe = load_recipe(path)
    assert recipe.collect.row_sources[0].rows == str(tmp_path / "here/rules.csv")
    assert [p.where for p in missing_places(recipe)] == ["collect.sources.0"]
    write(tmp_path / "here/rules.csv")
    assert missing_places(recipe) == []


def test_the_command_line_takes_a_source_in_braces_beside_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "rules.csv")
    (tmp_path / "a.txt").write_text("Plain words.", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["collect", "{rows: rules.csv, limit: 1}", "a.txt", "--run", "run"]) == 0
    names = [d.source.uri for d in read_records(tmp_path / "run/1_documents/documents.parquet", Document)]
    assert names == ["a.txt", "rules.csv#gate"]
    assert main(["trace", "rules.csv#gate", "--run", "run"]) == 0
    assert "rules.csv#gate" in capsys.readouterr().out
    assert main(["collect", "{rows: rules.csv, limit: none}", "--run", "run"]) == 2
    assert "command line: collect.sources.0.limit: expected a whole number" in capsys.readouterr().err
