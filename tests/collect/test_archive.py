"""Zip archives that would harm their reader."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from collect_files import make_zip, word_zip

from fieldwise.collect.archive import Package, check_archive
from fieldwise.errors import DocumentError

ENTITIES = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "boom">]><a>&b;</a>'


def refusal(path: Path, **options: object) -> str | None:
    try:
        check_archive(path, float(str(options.pop("max_unpacked_mb", 400))), **options)  # type: ignore[arg-type]
    except DocumentError as error:
        return error.reason
    return None


def test_an_honest_file_passes(tmp_path: Path) -> None:
    assert refusal(word_zip(tmp_path / "a.docx")) is None


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"word/media/x.bin": bytes(9_000_000)}, "zip_bomb"),
        ({"../../etc/cron.d/x": b"boom"}, "path_traversal"),
        ({"/etc/passwd": b"boom"}, "path_traversal"),
        ({"a\\..\\..\\b": b"boom"}, "path_traversal"),
        ({"C:/x": b"boom"}, "path_traversal"),
        ({"customXml/item1.xml": ENTITIES}, "xml_entities"),
        ({"customXml/item1.xml": ENTITIES.decode().encode("utf-16")}, "xml_entities"),
        ({"word/x.xml": b"<a>" + b" " * 262_140 + b"<!ENTITY x 'y'></a>"}, "xml_entities"),
        ({"word/x.bin": ENTITIES}, None),
    ],
)
def test_harmful_members_are_found(tmp_path: Path, members: dict[str, bytes], reason: str | None) -> None:
    assert refusal(make_zip(tmp_path / "a.docx", members)) == reason


def test_the_limit_of_unpacked_size_is_the_recipe_s(tmp_path: Path) -> None:
    import random

    path = make_zip(tmp_path / "a.docx", {"x.bin": random.Random(1).randbytes(2_000_000)})
    assert (refusal(path, max_unpacked_mb=1), refusal(path, max_unpacked_mb=3)) == ("zip_bomb", None)


def test_books_may_declare_their_document_type_but_no_entities(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.epub", {"c.xhtml": b"<!DOCTYPE html><html/>"})
    assert (refusal(path), refusal(path, allow_doctype=True)) == ("xml_entities", None)
    assert refusal(make_zip(tmp_path / "b.epub", {"c.xhtml": ENTITIES}), allow_doctype=True) == "xml_entities"


def test_members_under_a_password_and_damaged_archives_are_found(tmp_path: Path) -> None:
    path = word_zip(tmp_path / "a.docx")
    raw = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.find(mark) + offset] |= 1
    (tmp_path / "b.docx").write_bytes(raw)
    (tmp_path / "c.docx").write_bytes(path.read_bytes()[:-30])
    assert (refusal(tmp_path / "b.docx"), refusal(tmp_path / "c.docx")) == ("encrypted", "broken")


def test_too_many_members_are_a_bomb(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        for n in range(20_001):
            archive.writestr(f"{n}", b"")
    assert refusal(tmp_path / "a.docx") == "zip_bomb"


def test_links_of_a_part_are_resolved_inside_the_archive(tmp_path: Path) -> None:
    links = b'<Relationships xmlns="x"><Relationship Id="r1" Type="http://a/officeDocument" Target="/word/other.xml"/><Relationship Id="r2" Type="a/image" Target="http://b" TargetMode="External"/></Relationships>'
    with Package(make_zip(tmp_path / "a.docx", {"_rels/.rels": links, "Word/Document.xml": b"<a/>"})) as package:
        assert package.main_part("word/document.xml") == "word/other.xml"
        assert package.read("word/document.xml") == b"<a/>"
        assert package.xml("missing.xml") is None
