"""Outlook messages (.msg): subject, sender, recipients and date, then the text; attachments are named in a note."""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import NamedTuple

from fieldwise.collect.builder import TextBuilder, one_line
from fieldwise.collect.plain import add_plain
from fieldwise.collect.web import add_html
from fieldwise.decode import decode
from fieldwise.errors import DocumentError
from fieldwise.extras import require
from fieldwise.records import Document, Source

# properties by their numbers in MS-OXPROPS
_SUBJECT, _SENDER, _SENDER_MAIL, _SENDER_SMTP, _TO, _CC = "0037", "0C1A", "0C1F", "5D01", "0E04", "0E03"
_BODY, _HTML, _RTF, _LONG_NAME, _NAME = "1000", "1013", "1009", "3707", "3704"
_SENT, _RECEIVED, _CODE_PAGE = 0x0039, 0x0E06, 0x3FFD
_PROPERTIES = "__properties_version1.0"
_TEXT, _EIGHT_BIT, _BINARY = "001F", "001E", "0102"
_TOP_HEADER_BYTES, _PROPERTY_BYTES = 32, 16
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


def read_outlook(path: Path, source: Source) -> Document:
    """Return an Outlook message as a document titled with its subject; raises DocumentError with reason `broken`."""
    storages = _storages(path.read_bytes())
    message = _Message.of(storages.pop("", {}))
    if not message.streams.get(_PROPERTIES):
        raise DocumentError(
            "the file holds no message", reason="broken", fix="Save the message again from the mail program."
        )
    builder = TextBuilder()
    subject = one_line(message.text(_SUBJECT))
    fields = {"From": message.sender, "To": message.text(_TO), "Cc": message.text(_CC), "Date": message.date}
    builder.heading(subject, 1)
    builder.paragraph("\n".join(f"{name}: {one_line(value)}" for name, value in fields.items() if value))
    _add_body(builder, message)
    for name, streams in storages.items():
        if name.startswith("__attach") and "/" not in name:
            attached = _Message(streams, message.fixed)
            told = attached.text(_LONG_NAME) or attached.text(_NAME) or "without a name"
            builder.note(f"attachment left out: {one_line(told)}")
    return builder.document(source, subject)


def _storages(content: bytes) -> dict[str, dict[str, bytes]]:
    """The streams of a compound file by the storage they lie in; that of the file itself has no name."""
    olefile = require("olefile", extra="documents", to="read Outlook messages")
    found: dict[str, dict[str, bytes]] = {}
    try:
        with olefile.OleFileIO(io.BytesIO(content), raise_defects=olefile.DEFECT_INCORRECT) as file:
            for *storage, name in file.listdir():
                found.setdefault("/".join(storage), {})[name] = file.openstream([*storage, name]).read()
    except (
        OSError,
        ValueError,
        IndexError,
        TypeError,
        AttributeError,
        struct.error,
    ) as error:  # damage, as olefile meets it
        raise DocumentError(
            "the file is damaged",
            reason="broken",
            found=str(error),
            fix="Save the message again from the mail program.",
        ) from error
    return found


def _add_body(builder: TextBuilder, message: _Message) -> None:
    plain, page = message.text(_BODY), message.streams.get(f"__substg1.0_{_HTML}{_BINARY}", b"")
    if plain.strip():
        add_plain(builder, plain)
    elif page.strip():
        add_html(builder, decode(page, message.encoding).text)
    elif f"__substg1.0_{_RTF}{_BINARY}" in message.streams:
        builder.note("its text is in RTF alone and is left out")


class _Message(NamedTuple):
    """The properties of a message or an attachment."""

    streams: dict[str, bytes]
    fixed: dict[int, bytes]

    @classmethod
    def of(cls, streams: dict[str, bytes]) -> _Message:
        content = streams.get(_PROPERTIES, b"")[_TOP_HEADER_BYTES:]
        entries = (content[n : n + _PROPERTY_BYTES] for n in range(0, len(content) - 15, _PROPERTY_BYTES))
        return cls(streams, {struct.unpack_from("<H", entry, 2)[0]: entry[8:] for entry in entries})

    def text(self, number: str) -> str:
        """Return a text, or nothing."""
        if (wide := self.streams.get(f"__substg1.0_{number}{_TEXT}")) is not None:
            return wide.decode("utf-16-le", "replace").rstrip("\0")
        narrow = self.streams.get(f"__substg1.0_{number}{_EIGHT_BIT}", b"")
        return decode(narrow.rstrip(b"\0"), self.encoding).text

    @property
    def encoding(self) -> str | None:
        """The name of the code page, if the message names one."""
        page = struct.unpack_from("<I", self.fixed.get(_CODE_PAGE, bytes(8)))[0]
        return {0: None, 65001: "utf-8", 20127: "ascii"}.get(page, f"cp{page}")

    @property
    def sender(self) -> str:
        """Name and address, as e-mail shows them."""
        name, address = self.text(_SENDER), self.text(_SENDER_SMTP) or self.text(_SENDER_MAIL)
        return f"{name} <{address}>" if name and "@" in address and address != name else name or address

    @property
    def date(self) -> str:
        """When it was sent or, failing that, received."""
        raw = self.fixed.get(_SENT) or self.fixed.get(_RECEIVED) or bytes(8)
        ticks = struct.unpack("<Q", raw)[0]
        try:
            return format_datetime(_EPOCH + timedelta(microseconds=ticks // 10)) if ticks else ""
        except OverflowError:
            return ""
