"""A folder of traps: each ends in its reason or is read as far as it can be, and the good file beside them is read."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from collect_files import WORD_TYPES, Collected, collect, make_zip

LAUGHS = (
    b"<!DOCTYPE lolz [<!ENTITY l0 'lol'>"
    + b"".join(b"<!ENTITY l%d '%s'>" % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
    + b"]>"
)
WORDS = b"BT /F 12 Tf 72 700 Td (This page holds one line of text and a great many other things.) Tj ET\n"


def write_pdf(
    path: Path, content: bytes, pages: bytes = b"/Kids[3 0 R]/Count 1", further: Sequence[bytes] = ()
) -> Path:
    """A PDF of one page with a packed content stream, and further objects."""
    packed = zlib.compress(content, 9)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages" + pages + b">>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *further,
    ]
    out, table = bytearray(b"%PDF-1.5\n"), bytearray(b"0000000000 65535 f \n")
    for number, body in enumerate(objects, 1):
        table += b"%010d 00000 n \n" % len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    path.write_bytes(b"%sxref\n0 %d\n%s%s" % (out, len(objects) + 1, table, end))
    return path


def lying_zip(path: Path) -> Path:
    """A Word file whose list of parts says that nine megabytes are nine bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", WORD_TYPES)
        archive.writestr("word/document.xml", bytes(9_000_000))
    raw = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = raw.rfind(mark) + offset
        raw[at : at + 4] = (9).to_bytes(4, "little")
    path.write_bytes(raw)
    return path


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    folder = tmp_path_factory.mktemp("source") / "documents"
    folder.mkdir()
    (folder / "good.txt").write_text("The gate is locked at nine.", encoding="utf-8")
    make_zip(folder / "bomb.docx", {"[Content_Types].xml": WORD_TYPES, "word/document.xml": bytes(50_000_000)})
    lying_zip(folder / "lying.docx")
    make_zip(
        folder / "laughs.docx",
        {"[Content_Types].xml": WORD_TYPES, "word/document.xml": LAUGHS + b"<document><p>&l9;</p></document>"},
    )
    (folder / "laughs.html").write_bytes(LAUGHS + b"<html><body><p>Nobody laughs: &l9;</p></body></html>")
    (folder / "laughs.xml").write_bytes(b"<?xml version='1.0'?>" + LAUGHS + b"<a>&l9;</a>")
    write_pdf(folder / "objects.pdf", WORDS + b"0 0 1 1 re f\n" * 1_000_000)
    write_pdf(folder / "words.pdf", WORDS + b"BT /F 9 Tf " + b"1 0 Td (a) Tj " * 200_000 + b"ET\n")
    write_pdf(folder / "pages.pdf", WORDS, pages=b"/Kids[3 0 R]/Count 1000000")
    write_pdf(folder / "million.pdf", WORDS, further=[b"0"] * 1_000_000)
    write_pdf(
        folder / "blank.pdf",
        WORDS,
        pages=b"/Kids[%s]/Count 5001" % b" ".join(b"%d 0 R" % n for n in (3, *range(6, 5006))),
        further=[b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"] * 5000,
    )
    write_pdf(folder / "no_page.pdf", WORDS, pages=b"/Kids[9 0 R]/Count 5000")
    with (folder / "sparse.pdf").open("wb") as stream:
        stream.truncate(2 << 30)
    (folder / "bell\x07\x1b[2J\r.txt").write_text("A name that would clear the screen.", encoding="utf-8")
    (folder.parent / "secret.txt").write_text("not yours", encoding="utf-8")
    (folder / "out.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "up").symlink_to(folder.parent)
    (folder / "closed.txt").write_text("for nobody", encoding="utf-8")
    (folder / "closed.txt").chmod(0)
    return collect(tmp_path_factory.mktemp("run"), folder)


def test_every_trap_ends_in_its_reason_and_none_ends_the_run(collected: Collected) -> None:
    reasons = {item: reason for item, reason in collected.reasons.items() if item != "closed.txt"}
    assert reasons == {
        "bomb.docx": "zip_bomb",
        "lying.docx": "broken",
        "laughs.docx": "xml_entities",
        "laughs.xml": "unknown_type",
        "no_page.pdf": "broken",
        "sparse.pdf": "too_large",
        "out.txt": "symlink_outside",
        "up": "symlink_outside",
    }


def test_what_can_be_read_is_read(collected: Collected) -> None:
    assert collected.documents["good.txt"].text == "The gate is locked at nine."
    assert collected.documents["bell\\x07\\x1b[2J\\r.txt"].text == "A name that would clear the screen."
    assert not any("not yours" in document.text for document in collected.documents.values())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(collected: Collected) -> None:
    assert collected.reasons["closed.txt"] == "unreadable"


def test_entities_of_a_page_are_not_multiplied(collected: Collected) -> None:
    text = collected.documents["laughs.html"].text
    assert "Nobody laughs" in text
    assert len(text) < 2_000


@pytest.mark.parametrize("name", ["million.pdf", "objects.pdf", "words.pdf", "pages.pdf"])
def test_a_small_file_of_a_great_many_things_gives_its_words(collected: Collected, name: str) -> None:
    document = collected.documents[name]
    assert "one line of text" in document.text
    assert [page.number for page in document.pages] == [1]


def test_pages_that_are_only_claimed_are_one_note(collected: Collected) -> None:
    assert collected.documents["pages.pdf"].notes == ("the pages 2 to 1000000 are damaged and left out",)


def test_pages_with_nothing_on_them_cost_little_and_are_noted(collected: Collected) -> None:
    document = collected.documents["blank.pdf"]
    assert (len(document.pages), len(document.notes)) == (5001, 5001)
    assert "one line of text" in document.text


def test_a_page_that_unpacks_to_more_than_the_memory_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    write_pdf(folder / "unpacks.pdf", WORDS + bytes(900_000_000))
    write_pdf(folder / "words.pdf", WORDS)
    result = collect(tmp_path / "run", folder, memory_mb=700)
    assert list(result.documents) == ["words.pdf"]
    assert result.reasons["unpacks.pdf"] in {"out_of_memory", "crashed"}


def test_a_text_larger_than_the_memory_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    with (folder / "large.txt").open("wb") as stream:
        for _ in range(300):
            stream.write(b"The gate is locked at nine.\n" * 37_000)
    (folder / "small.txt").write_text("The gate is locked at nine.", encoding="utf-8")
    result = collect(tmp_path / "run", folder, memory_mb=500, max_file_mb=4000)
    assert list(result.documents) == ["small.txt"]
    assert result.reasons == {"large.txt": "out_of_memory"}
