"""Finding files and naming them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fieldwise.collect.names import safe_name, title_from_name
from fieldwise.collect.settings import CollectSettings
from fieldwise.collect.sources import Found, find_files
from fieldwise.collect.stage import fingerprint
from fieldwise.errors import DatasetError


def find(*sources: Path | str, **settings: object) -> Found:
    return find_files(CollectSettings.model_validate({"sources": tuple(map(str, sources)), **settings}))


def write(folder: Path, *names: str, text: str = "Some words.") -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def reasons(found: Found) -> dict[str, str]:
    return {r.item: r.reason for r in found.rejected}


def test_files_are_named_by_their_path_below_the_source_in_order(tmp_path: Path) -> None:
    write(tmp_path / "docs", "b.txt", "a/z.md", "a/b/c.html")
    assert [f.uri for f in find(tmp_path / "docs").files] == ["a/b/c.html", "a/z.md", "b.txt"]


def test_patterns_take_and_leave_out_files_and_folders(tmp_path: Path) -> None:
    write(
        tmp_path, "keep.md", "keep.txt", ".hidden.md", "~$lock.docx", ".git/config.md", "drafts/old.md", "deep/new.md"
    )
    assert [f.uri for f in find(tmp_path, include=["*.md"], exclude=[".*", "drafts"]).files] == [
        "deep/new.md",
        "keep.md",
    ]


def test_a_single_file_and_a_glob_pattern_are_sources_too(tmp_path: Path) -> None:
    write(tmp_path, "one.txt", "sub/two.txt", "sub/deep/three.txt", "sub/four.md")
    assert [f.uri for f in find(tmp_path / "one.txt").files] == ["one.txt"]
    assert [f.uri for f in find(tmp_path / "sub" / "**" / "*.txt").files] == ["deep/three.txt", "two.txt"]


def test_a_name_with_brackets_is_a_file_and_no_pattern(tmp_path: Path) -> None:
    write(tmp_path, "report [final].txt")
    assert [f.uri for f in find(tmp_path / "report [final].txt").files] == ["report [final].txt"]


def test_a_file_named_by_two_sources_is_taken_once(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.txt")
    assert [f.uri for f in find(tmp_path, tmp_path / "a.txt").files] == ["a.txt", "b.txt"]


def test_sources_with_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    write(tmp_path, "north/rules.txt", "south/rules.txt", "east/other.txt")
    found = find(tmp_path / "north", tmp_path / "south", tmp_path / "east")
    assert [f.uri for f in found.files] == ["north/rules.txt", "other.txt", "south/rules.txt"]


def test_folders_with_equal_names_are_told_apart_by_numbers(tmp_path: Path) -> None:
    write(tmp_path, "x/docs/a.txt", "y/docs/a.txt")
    assert [f.uri for f in find(tmp_path / "x/docs", tmp_path / "y/docs").files] == ["docs/a (2).txt", "docs/a.txt"]


def test_links_that_lead_out_of_the_source_are_refused_and_those_within_are_read(tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.txt", "docs/real.txt", "docs/sub/x.txt")
    (tmp_path / "docs/out.txt").symlink_to(tmp_path / "outside/secret.txt")
    (tmp_path / "docs/folder").symlink_to(tmp_path / "outside")
    (tmp_path / "docs/again").symlink_to(tmp_path / "docs/sub")
    (tmp_path / "docs/in.txt").symlink_to(tmp_path / "docs/real.txt")
    (tmp_path / "docs/broken.txt").symlink_to(tmp_path / "nowhere")
    found = find(tmp_path / "docs")
    assert reasons(found) == {
        "out.txt": "symlink_outside",
        "folder": "symlink_outside",
        "again": "symlink_folder",
        "broken.txt": "unreadable",
    }
    assert [f.uri for f in found.files] == ["in.txt", "real.txt", "sub/x.txt"]


def test_a_pattern_does_not_lead_through_a_linked_folder(tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.txt", "docs/sub/x.txt")
    (tmp_path / "docs/folder").symlink_to(tmp_path / "outside")
    found = find(tmp_path / "docs/*/*.txt")
    assert [f.uri for f in found.files] == ["sub/x.txt"]
    assert reasons(found) == {"folder/secret.txt": "symlink_outside"}


def test_links_in_a_circle_do_not_trap_the_walk(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    found = find(tmp_path)
    assert [f.uri for f in found.files] == ["a.txt"]
    assert reasons(found) == {"loop": "symlink_folder", "self.txt": "unreadable"}


def test_a_run_folder_below_a_source_is_not_collected_into_itself(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "runs/first/lock", "runs/first/recipe.yaml", "runs/first/1_documents/originals/x-a.txt")
    assert [f.uri for f in find(tmp_path).files] == ["a.txt"]
    assert [f.uri for f in find(tmp_path / "**" / "*.txt").files] == ["a.txt"]
    assert [f.uri for f in find(tmp_path / "runs/first/1_documents/originals").files] == ["x-a.txt"]


def test_empty_large_and_odd_files_are_refused_without_being_opened(tmp_path: Path) -> None:
    write(tmp_path, "good.txt")
    (tmp_path / "empty.txt").touch()
    os.mkfifo(tmp_path / "pipe.txt")  # opening it would wait for ever
    with (tmp_path / "large.txt").open("wb") as stream:
        stream.truncate(3_000_000)
    found = find(tmp_path, max_file_mb=2)
    assert reasons(found) == {"empty.txt": "empty", "pipe.txt": "not_a_file", "large.txt": "too_large"}
    assert "3.0 MB" in next(r.detail for r in found.rejected if r.reason == "too_large")


def test_files_without_permission_are_refused(folder_of_nobody: Path) -> None:
    folder = write(folder_of_nobody, "open.txt", "closed.txt", "shut/x.txt")
    (folder / "closed.txt").chmod(0)
    (folder / "shut").chmod(0)
    try:
        found = find(folder)
    finally:
        (folder / "shut").chmod(0o700)
    assert reasons(found) == {"closed.txt": "unreadable", "shut": "unreadable"}
    assert [f.uri for f in found.files] == ["open.txt"]


def test_control_characters_and_broken_bytes_in_names_are_shown(tmp_path: Path) -> None:
    write(tmp_path, "two\nlines\x1b[31m.txt", "turned\u202egpj.txt")
    (tmp_path / os.fsdecode(b"latin-\xe9.txt")).write_text("x")
    assert [f.uri for f in find(tmp_path).files] == [
        "latin-\\udce9.txt",
        "turned\\u202egpj.txt",
        "two\\nlines\\x1b[31m.txt",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ([], "holds no files that match, found no files"),
        (["a.gif", "b.gif", "c"], r"no document of a kind that can be read, found 2 \*\.gif, 1 without ending"),
        ([".hidden.md"], r"holds no files that match, found 1 \*.md"),
    ],
)
def test_a_folder_with_nothing_to_read_is_an_error_that_says_what_was_found(
    tmp_path: Path, make: list[str], message: str
) -> None:
    write(tmp_path / "docs", *make, text="\x00\x01binary")
    (tmp_path / "docs").mkdir(exist_ok=True)
    with pytest.raises(DatasetError, match=message):
        find(tmp_path / "docs")


def test_a_source_that_is_not_there_or_not_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the source is not there"):
        find(tmp_path / "documnets")
    for impossible in ("a" * 5000, "~nobody-of-that-name/x", "a\0b"):
        with pytest.raises(DatasetError, match="the source is not there"):
            find(impossible)
    with pytest.raises(DatasetError, match="no sources are named"):
        find()
    with pytest.raises(DatasetError, match="holds no files that match"):
        find(tmp_path / "*.pdf")


def test_the_fingerprint_knows_content_and_names_but_not_places(tmp_path: Path) -> None:
    for place in ("here", "there/deeper"):
        write(tmp_path / place, "a.txt", "b/c.md")
    here, there = (fingerprint(CollectSettings(sources=(str(tmp_path / p),))) for p in ("here", "there/deeper"))
    assert here == there
    assert [line[0] for line in here] == ["a.txt", "b/c.md"]  # type: ignore[index,union-attr]
    write(tmp_path / "here", "a.txt", text="Other words.")
    assert fingerprint(CollectSettings(sources=(str(tmp_path / "here"),))) != here


def test_the_fingerprint_changes_when_a_file_becomes_unfit(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.txt")
    (tmp_path / "b.txt").write_text("")
    assert fingerprint(CollectSettings(sources=(str(tmp_path),)))[1] == ["b.txt", "empty"]  # type: ignore[index]


def test_names_of_originals_are_safe_and_short() -> None:
    assert safe_name("a/b/Report (final); rm -rf *.pdf") == "Report_final_rm_-rf_.pdf"
    assert safe_name("../..") == "file"
    assert len(safe_name("x" * 300 + ".docx").encode()) <= 120
    assert safe_name("x" * 300 + ".docx").endswith(".docx")


def test_a_title_can_be_made_from_a_name() -> None:
    assert title_from_name("2024/on-call_rota v2.docx") == "On call rota v2"
