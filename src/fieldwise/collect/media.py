"""What a file is: by its content first, by its name second."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fieldwise.collect.archive import ZIP_ERRORS, damaged
from fieldwise.decode import decode
from fieldwise.errors import DocumentError

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EPUB = "application/epub+zip"
ODT = "application/vnd.oasis.opendocument.text"
ODP = "application/vnd.oasis.opendocument.presentation"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
HTML = "text/html"
XML = "application/xml"
MARKDOWN = "text/markdown"
ASCIIDOC = "text/asciidoc"
PLAIN = "text/plain"
CSV = "text/csv"
MAIL = "message/rfc822"
MSG = "application/vnd.ms-outlook"
PNG = "image/png"
JPEG = "image/jpeg"
TIFF = "image/tiff"
PICTURES = {PNG, JPEG, TIFF}
"""Read by text recognition alone."""

BY_EXTENSION = {
    ".pdf": PDF,
    ".docx": DOCX,
    ".docm": DOCX,
    ".pptx": PPTX,
    ".pptm": PPTX,
    ".xlsx": XLSX,
    ".xlsm": XLSX,
    ".epub": EPUB,
    ".odt": ODT,
    ".ott": ODT,
    ".odp": ODP,
    ".otp": ODP,
    ".ods": ODS,
    ".ots": ODS,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".adoc": ASCIIDOC,
    ".asciidoc": ASCIIDOC,
    ".txt": PLAIN,
    ".text": PLAIN,
    ".csv": CSV,
    ".tsv": CSV,
    ".eml": MAIL,
    ".msg": MSG,
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".tif": TIFF,
    ".tiff": TIFF,
}
_TEXT_TYPES = {HTML, MARKDOWN, ASCIIDOC, PLAIN, CSV, MAIL}
_OOXML_MAIN = ((b"wordprocessingml.document.main", DOCX), (b"ms-word.document.macroenabled.main", DOCX), (b"presentationml.presentation.main", PPTX), (b"presentationml.slideshow.main", PPTX),
               (b"ms-powerpoint.presentation.macroenabled.main", PPTX), (b"spreadsheetml.sheet.main", XLSX), (b"ms-excel.sheet.macroenabled.main", XLSX))  # fmt: skip
_BY_MIMETYPE = {
    EPUB: "an EPUB book",
    ODT: "an OpenDocument text",
    ODP: "an OpenDocument presentation",
    ODS: "an OpenDocument spreadsheet",
}
_PICTURES = (
    (b"\x89PNG", PNG, "a PNG picture"),
    (b"\xff\xd8\xff", JPEG, "a JPEG picture"),
    (b"II*\x00", TIFF, "a TIFF picture"),
    (b"MM\x00*", TIFF, "a TIFF picture"),
)
_MAGIC = ((b"GIF8", "a GIF picture"), (b"BM", "a bitmap picture"),
          (b"RIFF", "a RIFF media file"), (b"{\\rtf", "an RTF file"), (b"\xffWPC", "a WordPerfect file"), (b"\x1f\x8b", "a gzip archive"), (b"Rar!", "a RAR archive"), (b"7z\xbc\xaf", "a 7z archive"),
          (b"%!PS", "a PostScript file"), (b"SQLite format 3", "a SQLite database"), (b"PAR1", "a Parquet file"), (b"\x7fELF", "a program"), (b"ID3", "a sound file"))  # fmt: skip
_HTML_START = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_XML_START = re.compile(r"\s*<(?:\?xml|!DOCTYPE)\b", re.IGNORECASE)
_MAIL_FIELD = re.compile(
    r"(?:Return-Path|Received|Delivered-To|MIME-Version|Message-ID|Date|From|To|Subject|Content-Type|X-[\w-]+):\s",
    re.IGNORECASE,
)
_HEAD_BYTES = 8192
_MAX_CONTENT_TYPES_BYTES = 4_000_000


class Detected(NamedTuple):
    """The media type a reader is chosen by, None if none fits; `found` says in words what the content is."""

    media_type: str | None
    found: str
    note: str | None = None


def detect(path: Path, name: str) -> Detected:
    """Tell what a file is; `name` is the name it was found under.

    Raises DocumentError: `empty`; `encrypted` for Office files under a password; `broken` for a zip that does not open.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES and not head.strip(b"\0 \t\r\n"):
        raise DocumentError(
            "nothing in it but blanks" if head else "the file is empty",
            reason="empty",
            fix="Remove it, or save it again from the program that made it.",
        )
    extension = PurePosixPath(name).suffix.lower()
    named = BY_EXTENSION.get(extension)
    if b"%PDF-" in head[:1024] and (named not in _TEXT_TYPES or head.lstrip().startswith(b"%PDF-")):
        seen = Detected(PDF, "a PDF file")
    elif head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        seen = _detect_zip(path, named)
    elif head.startswith(b"\xd0\xcf\x11\xe0"):
        seen = _detect_ole(path)
    elif (
        picture := next((Detected(kind, w) for magic, kind, w in _PICTURES if head.startswith(magic)), None)
    ) is not None:
        seen = picture
    elif (words := next((w for magic, w in _MAGIC if head.startswith(magic)), None)) is not None:
        seen = Detected(None, words)
    elif _is_binary(head):
        seen = Detected(None, "binary data of no known kind")
    else:
        seen = _detect_text(head, extension, named)
    return _compare(seen, named, extension)


def _compare(seen: Detected, named: str | None, extension: str) -> Detected:
    if named is None or seen.media_type == named:
        return seen
    if seen.media_type is None or (seen.media_type in PICTURES) != (named in PICTURES):
        raise DocumentError(
            "the content is not what the name says",
            reason="mislabelled",
            found=f"{seen.found} named *{extension}",
            fix="Give it its right name, or save it again in a format that can be read.",
        )
    return seen._replace(note=f"named *{extension}, read as {seen.found}")


def _detect_zip(path: Path, named: str | None) -> Detected:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if "[Content_Types].xml" in names:
                if archive.getinfo("[Content_Types].xml").file_size > _MAX_CONTENT_TYPES_BYTES:
                    raise DocumentError("its table of contents is absurdly large", reason="zip_bomb")
                types = archive.read("[Content_Types].xml").lower()
                return next(
                    (
                        Detected(t, f"an Office file ({t.rpartition('.')[2]})")
                        for main, t in _OOXML_MAIN
                        if main in types
                    ),
                    Detected(None, "an Office file of another kind"),
                )
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                inside = archive.read("mimetype").decode("ascii", "replace").strip()
                kind = inside.removesuffix("-template")
                return (
                    Detected(kind, _BY_MIMETYPE[kind])
                    if kind in _BY_MIMETYPE
                    else Detected(None, f"a file of type {inside[:80]}")
                )
    except ZIP_ERRORS as error:
        if named is not None:
            raise damaged(error) from error
        return Detected(None, "a damaged zip archive")
    return Detected(None, "a zip archive")


def _detect_ole(path: Path) -> Detected:
    """The names in its directory tell; it may lie anywhere in the file."""
    names = {name: name.encode("utf-16-le") for name in ("EncryptedPackage", "__nameid_version1.0")}
    tail = b""
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            window = tail + block
            if names["EncryptedPackage"] in window:
                raise DocumentError(
                    "the file is protected by a password", reason="encrypted", fix="Save a copy without a password."
                )
            if names["__nameid_version1.0"] in window:
                return Detected(MSG, "an Outlook message")
            tail = window[-64:]
    return Detected(None, "an Office file in the format before 2007 (doc, xls, ppt)")


def _is_binary(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    control = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)
    return b"\0" in head or control > len(head) * 0.05


def _detect_text(head: bytes, extension: str, named: str | None) -> Detected:
    text = decode(head).text
    if _HTML_START.match(text):
        return Detected(HTML, "an HTML page")
    if named == MAIL or (named is None and extension == ""):
        fields = {line.partition(":")[0].lower() for line in text.split("\n")[:40] if _MAIL_FIELD.match(line)}
        if len(fields & {"from", "to", "subject", "date", "received", "message-id", "mime-version"}) >= 2:
            return Detected(MAIL, "an e-mail")
    if _XML_START.match(text) and named not in (MARKDOWN, HTML):
        return Detected(XML if named is None else None, "an XML file")
    if named in _TEXT_TYPES and named != MAIL:
        return Detected(named, f"text ({named})")
    return (
        Detected(PLAIN, "plain text")
        if named is not None or extension == ""
        else Detected(None, f"text named *{extension}")
    )
