"""What a file is."""

from __future__ import annotations

import codecs
import io
import zipfile
from pathlib import Path

import pytest
from collect_files import make_zip, word_zip

from fieldwise.collect import media
from fieldwise.collect.media import XML, detect
from fieldwise.decode import decode
from fieldwise.errors import DocumentError

MAIL = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: Beds\r\n\r\nThree beds are free.\r\n"


def spoilt_zip() -> bytes:
    """An Office file whose table of contents does not unpack."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "wordprocessingml.document.main " * 50)
    content = bytearray(raw.getvalue())
    content[52:60] = b"\xff" * 8
    return bytes(content)


SPOILT = spoilt_zip()


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.pdf", b"%PDF-1.7\n", media.PDF),
        ("a.html", b"<p>no head at all</p>", media.HTML),
        ("a.md", b"<div align=center>\n\n# Title\n</div>", media.MARKDOWN),
        ("README", b"Just text.", media.PLAIN),
        ("a.tsv", b"a\tb\n1\t2\n", media.CSV),
        ("a.eml", MAIL, media.MAIL),
        ("message", MAIL, media.MAIL),
        ("a.txt", codecs.BOM_UTF16_LE + "Größe".encode("utf-16-le"), media.PLAIN),
    ],
)
def test_content_and_name_agree(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    detected = detect(tmp_path / name, name)
    assert (detected.media_type, detected.note) == (kind, None)


@pytest.mark.parametrize(
    ("name", "content", "kind", "note"),
    [
        (
            "a.pdf",
            b"<!DOCTYPE html><html><body>Not found</body></html>",
            media.HTML,
            "named *.pdf, read as an HTML page",
        ),
        ("a.docx", b"%PDF-1.4\n", media.PDF, "named *.docx, read as a PDF file"),
        (
            "a.txt",
            b"\n\n<!-- saved --> <html lang='en'><body>Hello</body></html>",
            media.HTML,
            "named *.txt, read as an HTML page",
        ),
        ("a.pdf", b"The scanner was offline.", media.PLAIN, "named *.pdf, read as plain text"),
        ("a.eml", b"Only words, no header.", media.PLAIN, "named *.eml, read as plain text"),
        ("a.txt", b"Such files begin with %PDF-1.4.", media.PLAIN, None),
        ("a.txt", b"\n%PDF-1.4\n", media.PDF, "named *.txt, read as a PDF file"),
    ],
)
def test_a_file_is_read_as_what_it_is_with_a_note(
    tmp_path: Path, name: str, content: bytes, kind: str, note: str | None
) -> None:
    (tmp_path / name).write_bytes(content)
    assert detect(tmp_path / name, name)[::2] == (kind, note)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.pdf", b"\x89PNG\r\n\x1a\n" + bytes(40), "mislabelled"),
        ("a.png", b"%PDF-1.7\n", "mislabelled"),
        ("a.docx", b"\x00\x01\x02\x03" * 20, "mislabelled"),
        ("a.txt", b"PK\x03\x04" + bytes(60), "broken"),
        ("a.docx", b"PK\x03\x04 cut off", "broken"),
        ("a.docx", SPOILT, "broken"),
        ("a.txt", b"", "empty"),
        ("a.txt", b" \r\n\t\n", "empty"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + bytes(500) + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
        ("a.md", b"<?xml version='1.0'?><root/>", None),
        ("a.txt", b"<?xml version='1.0'?><root/>", "mislabelled"),
    ],
)
def test_files_that_are_not_what_they_say_are_refused(
    tmp_path: Path, name: str, content: bytes, reason: str | None
) -> None:
    (tmp_path / name).write_bytes(content)
    if reason is None:
        assert detect(tmp_path / name, name).media_type == media.MARKDOWN
        return
    with pytest.raises(DocumentError) as caught:
        detect(tmp_path / name, name)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.gif", b"GIF89a", "a GIF picture"),
        ("a.doc", b"\xd0\xcf\x11\xe0" + bytes(99), "before 2007"),
        ("a.json", b'{"a": 1}', "text named *.json"),
        ("a.bin", bytes(range(32)), "binary data"),
    ],
)
def test_kinds_that_are_not_read_are_named(tmp_path: Path, name: str, content: bytes, found: str) -> None:
    (tmp_path / name).write_bytes(content)
    detected = detect(tmp_path / name, name)
    assert detected.media_type is None
    assert found in detected.found


def test_office_files_are_known_by_their_parts(tmp_path: Path) -> None:
    assert detect(word_zip(tmp_path / "unnamed"), "unnamed").media_type == media.DOCX
    assert (
        detect(make_zip(tmp_path / "x.epub", {"mimetype": b"application/epub+zip"}), "x.epub").media_type == media.EPUB
    )
    assert detect(make_zip(tmp_path / "x.zip", {"a.txt": b"x"}), "x.zip").found == "a zip archive"
    with pytest.raises(DocumentError, match="a zip archive named"):
        detect(make_zip(tmp_path / "x.docx", {"a.txt": b"x"}), "x.docx")


@pytest.mark.parametrize(
    ("content", "text", "note"),
    [
        ("Grüße".encode(), "Grüße", None),
        ("Grüße".encode("utf-8-sig"), "Grüße", None),
        ("Grüße".encode("utf-16"), "Grüße", None),
        ("Grüße €".encode("cp1252"), "Grüße €", "not UTF-8: read as windows-1252"),
        (b"\x81\xe9", "\x81é", "not UTF-8: read as latin-1"),
        ("ж".encode() * 30 + b"\xd0", "ж" * 30 + "\ufffd", "damaged UTF-8: 1 place cannot be read"),
    ],
)
def test_text_is_decoded_by_mark_then_utf8_then_windows_1252(content: bytes, text: str, note: str | None) -> None:
    assert decode(content) == (text, note)


@pytest.mark.parametrize(
    ("name", "content", "kind", "note"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n", media.PNG, None),
        ("a.jpeg", b"\xff\xd8\xff\xe0", media.JPEG, None),
        ("a.tif", b"MM\x00*", media.TIFF, None),
        ("scan", b"II*\x00", media.TIFF, None),
        ("a.png", b"\xff\xd8\xff\xe0", media.JPEG, "named *.png, read as a JPEG picture"),
    ],
)
def test_pictures_are_told_by_their_content(tmp_path: Path, name: str, content: bytes, kind: str, note: str) -> None:
    (tmp_path / name).write_bytes(content + bytes(40))
    assert detect(tmp_path / name, name)[::2] == (kind, note)


def test_xml_is_told_by_its_beginning_where_the_name_says_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(b"<?xml version='1.0'?><r/>")
    assert detect(tmp_path / "a.xml", "a.xml") == (XML, "an XML file", None)
