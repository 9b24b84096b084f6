"""The whole stage over a folder of good and bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from collect_files import Collected, collect, lines_pdf, make_docx, make_zip, picture_pdf, word_zip

from fieldwise.collect.extraction import ExtractionWorker
from fieldwise.collect.settings import CollectSettings
from fieldwise.collect.sources import Found, find_files
from fieldwise.errors import DatasetError
from fieldwise.hashing import sha256_file
from fieldwise.records import Document, Source

BAD = {
    "locked.pdf": "encrypted", "cut.pdf": "broken", "scan.pdf": "no_text_layer", "bomb.docx": "zip_bomb", "climber.docx": "path_traversal", "entity.docx": "xml_entities",
    "picture.pdf": "mislabelled", "photo.png": "needs_ocr", "empty.md": "empty", "big.txt": "too_large", "blank.docx": "no_text", "half.docx": "broken", "out.txt": "symlink_outside",
}  # fmt: skip


def fill(folder: Path) -> Path:
    """A folder with one file of each good kind and one for each way to be bad."""
    folder.mkdir(parents=True)
    (folder / "rules.md").write_text("# Rules\n\nThe gate is locked at nine.\n", encoding="utf-8")
    (folder / "page.html").write_text("<html><body><h1>Garden</h1><p>Open all day.</p></body></html>", encoding="utf-8")
    (folder / "sub").mkdir()
    (folder / "sub" / "plan.txt").write_text("The plan is to wait.", encoding="utf-8")
    lines_pdf(folder / "guide.pdf", ["# Guide", "Ring twice at the door and wait for the porter."])
    make_docx(folder / "memo.docx", lambda d: d.add_paragraph("The memo says little."))
    (folder / "really_html.pdf").write_text(
        "<!DOCTYPE html><html><body><p>Moved permanently.</p></body></html>", encoding="utf-8"
    )
    lines_pdf(folder / "locked.pdf", ["Secret words in here."], password="sesame")
    (folder / "cut.pdf").write_bytes(b"%PDF-1.7\n%%EOF")
    picture_pdf(folder / "scan.pdf")
    word_zip(folder / "bomb.docx", word__media__x=bytes(9_000_000))
    make_zip(folder / "climber.docx", {"[Content_Types].xml": b"wordprocessingml.document.main", "../x": b"x"})
    word_zip(folder / "entity.docx", **{"docProps__core.xml": b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"})
    (folder / "picture.pdf").write_bytes(b"\xff\xd8\xff" + bytes(50))
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (folder / "empty.md").touch()
    with (folder / "big.txt").open("wb") as stream:
        stream.truncate(2_000_000)
    make_docx(folder / "blank.docx", lambda d: None)
    whole = word_zip(folder / "half.docx").read_bytes()
    (folder / "half.docx").write_bytes(whole[: len(whole) // 2])
    (folder.parent / "outside.txt").write_text("not yours", encoding="utf-8")
    (folder / "out.txt").symlink_to(folder.parent / "outside.txt")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("source") / "documents")


@pytest.fixture(scope="module")
def collected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Collected:
    return collect(tmp_path_factory.mktemp("run"), source, max_file_mb=1, licence="house rules")


def test_every_bad_file_is_refused_with_its_reason_and_ends_nothing(collected: Collected) -> None:
    assert collected.reasons == BAD
    assert all(row["stage"] == "collect" and row["detail"].endswith(".") for row in collected.rejected.values())


def test_every_good_file_becomes_a_document_in_order_of_names(collected: Collected) -> None:
    assert list(collected.documents) == [
        "guide.pdf",
        "memo.docx",
        "page.html",
        "really_html.pdf",
        "rules.md",
        "sub/plan.txt",
    ]
    assert collected.documents["sub/plan.txt"].title == "Plan"
    assert collected.documents["rules.md"].title == "Rules"


def test_a_mislabelled_file_that_can_be_read_carries_a_note(collected: Collected) -> None:
    document = collected.documents["really_html.pdf"]
    assert (document.source.media_type, document.notes) == ("text/html", ("named *.pdf, read as an HTML page",))


def test_originals_are_kept_under_their_hash_for_documents_alone(collected: Collected) -> None:
    kept = sorted(p.name for p in (collected.folder / "1_documents/originals").iterdir())
    assert kept == sorted(f"{d.source.sha256[:16]}-{Path(uri).name}" for uri, d in collected.documents.items())
    for uri, document in collected.documents.items():
        assert (
            sha256_file(collected.folder / f"1_documents/originals/{document.source.sha256[:16]}-{Path(uri).name}")
            == document.source.sha256
        )


def test_provenance_names_reader_size_hash_and_licence(collected: Collected, source: Path) -> None:
    entry = collected.provenance["guide.pdf"]
    assert entry == {
        "media_type": "application/pdf",
        "sha256": sha256_file(source / "guide.pdf"),
        "bytes": (source / "guide.pdf").stat().st_size,
        "licence": "house rules",
        "reader": "pdf",
        "warnings": [],
    }
    assert set(collected.provenance) == set(collected.documents)


def test_the_facts_count_what_happened(collected: Collected) -> None:
    facts = collected.facts
    assert facts["documents"] == 6
    assert facts["types"] == {"docx": 1, "html": 2, "markdown": 1, "pdf": 1, "plain": 1}
    assert sum(facts["rejected"].values()) == len(BAD)
    assert facts["characters"] == sum(len(d.text) for d in collected.documents.values())
    assert facts["pages"] == 1


def test_two_runs_give_the_same_bytes(source: Path, collected: Collected, tmp_path: Path) -> None:
    again = collect(tmp_path / "run", source, max_file_mb=1, licence="house rules")
    for name in ("documents.parquet", "rejected.jsonl", "provenance.json"):
        assert (again.folder / "1_documents" / name).read_bytes() == (
            collected.folder / "1_documents" / name
        ).read_bytes()


# ---------------------------------------------------------------- what is read again


class Reads(list[str]):
    """Notes which contents go to the reading process."""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    seen = Reads()
    extract = ExtractionWorker.extract

    def noted(self: ExtractionWorker, path: Path, source: Source) -> Document:
        seen.append(path.name[17:])
        return extract(self, path, source)

    monkeypatch.setattr(ExtractionWorker, "extract", noted)
    return seen


def small(folder: Path) -> Path:
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").write_text(f"The words of {name}.", encoding="utf-8")
    (folder / "d.pdf").write_bytes(b"%PDF-1.7 broken")
    return folder


def test_a_second_run_reads_nothing_again_and_a_changed_file_alone_is_read(tmp_path: Path, reads: Reads) -> None:
    source = small(tmp_path / "docs")
    first = collect(tmp_path / "run", source)
    assert reads == ["a.txt", "b.txt", "c.txt", "d.pdf"]
    assert collect(tmp_path / "run", source).documents == first.documents
    assert len(reads) == 4
    (source / "b.txt").write_text("Other words of b.", encoding="utf-8")
    (source / "e.txt").write_text((source / "a.txt").read_text(encoding="utf-8"), encoding="utf-8")
    third = collect(tmp_path / "run", source)
    assert reads[4:] == ["b.txt"]
    assert third.documents["e.txt"].text == first.documents["a.txt"].text
    assert third.documents["e.txt"].id != first.documents["a.txt"].id
    assert third.documents["e.txt"].title == "E"


def test_a_run_that_was_killed_goes_on_where_it_stood(
    tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small(tmp_path / "docs")
    counted = ExtractionWorker.extract

    def killed(self: ExtractionWorker, path: Path, source: Source) -> Document:
        if path.name.endswith("c.txt"):
            raise KeyboardInterrupt
        return counted(self, path, source)

    with monkeypatch.context() as patch:
        patch.setattr(ExtractionWorker, "extract", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(tmp_path / "run", source)
    del reads[:]
    assert list(collect(tmp_path / "run", source).documents) == ["a.txt", "b.txt", "c.txt"]
    assert reads == ["c.txt", "d.pdf"]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small(tmp_path / "docs")
    extract = ExtractionWorker.extract

    def disturbed(self: ExtractionWorker, path: Path, wanted: Source) -> Document:
        if path.name.endswith("a.txt"):
            (source / "a.txt").write_text("The words of A!", encoding="utf-8")
        return extract(self, path, wanted)

    monkeypatch.setattr(ExtractionWorker, "extract", disturbed)
    assert collect(tmp_path / "run", source).reasons == {"a.txt": "changed_while_read", "d.pdf": "broken"}


def test_a_file_that_grows_between_finding_and_copying_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small(tmp_path / "docs")

    def found_then_grown(settings: CollectSettings, leave_out: set[Path]) -> Found:
        found = find_files(settings, leave_out)
        (source / "b.txt").write_text("The words of b, and many more of them.", encoding="utf-8")
        return found

    monkeypatch.setattr("fieldwise.collect.stage.find_files", found_then_grown)
    result = collect(tmp_path / "run", source)
    assert result.reasons["b.txt"] == "changed_while_read"
    assert len(list((result.folder / "1_documents/originals").iterdir())) == 2


def test_a_file_that_is_gone_or_something_else_when_its_turn_comes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small(tmp_path / "docs")

    def found_then_replaced(settings: CollectSettings, leave_out: set[Path]) -> Found:
        found = find_files(settings, leave_out)
        (source / "a.txt").unlink()
        (source / "b.txt").unlink()
        (source / "b.txt").mkdir()
        return found

    monkeypatch.setattr("fieldwise.collect.stage.find_files", found_then_replaced)
    result = collect(tmp_path / "run", source)
    assert result.reasons == {"a.txt": "unreadable", "b.txt": "unreadable", "d.pdf": "broken"}
    assert list(result.documents) == ["c.txt"]


def test_a_file_that_takes_too_long_is_refused_and_tried_again_next_time(tmp_path: Path, reads: Reads) -> None:
    source = small(tmp_path / "docs")
    (source / "slow.md").write_text("[x](y) *z* " * 1_000_000, encoding="utf-8")
    for _ in range(2):
        result = collect(tmp_path / "run", source, timeout_seconds=0.6)
        assert result.reasons["slow.md"] == "timeout"
        assert set(result.documents) == {"a.txt", "b.txt", "c.txt"}
    assert reads.count("slow.md") == 2


def test_a_limit_that_was_raised_lets_a_large_office_file_in(tmp_path: Path) -> None:
    source = small(tmp_path / "docs")
    word_zip(source / "w.docx", word__media__x=bytes(3_000_000))
    assert collect(tmp_path / "run", source, max_unpacked_mb=1).reasons["w.docx"] == "zip_bomb"
    assert "w.docx" in collect(tmp_path / "run", source, max_unpacked_mb=10).documents


def test_a_folder_of_which_nothing_can_be_read_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (source / "a.pdf").write_bytes(b"%PDF-1.7 broken")
    picture_pdf(source / "b.pdf")
    with pytest.raises(
        DatasetError, match=r"no file could be read, found 1 broken, 1 no_text_layer; the first is a\.pdf"
    ):
        collect(tmp_path / "run", source)
    assert not list((tmp_path / "run").glob(".tmp-*"))


def test_names_that_would_break_a_terminal_are_written_out(tmp_path: Path) -> None:
    source = small(tmp_path / "docs")
    (source / "two\nlines.txt").write_text("Odd name.", encoding="utf-8")
    assert "two\\nlines.txt" in collect(tmp_path / "run", source).documents


def test_rejections_are_json_lines(collected: Collected) -> None:
    lines = (collected.folder / "1_documents/rejected.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [row["item"] for row in rows] == sorted(BAD)
