"""E-mail: subject, sender, recipients and date, then the text; attachments are named in a note and left out."""

from __future__ import annotations

from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from pathlib import Path

from fieldwise.collect.builder import TextBuilder, one_line
from fieldwise.collect.plain import add_plain
from fieldwise.collect.web import add_html
from fieldwise.decode import decode
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

_FIELDS = ("From", "To", "Cc", "Date")


def read_mail(path: Path, source: Source) -> Document:
    """Return an .eml file as a document titled with its subject."""
    message = BytesParser(policy=policy.default).parsebytes(path.read_bytes())
    if not isinstance(message, EmailMessage) or not message.keys():
        raise DocumentError(
            "the file holds no e-mail", reason="broken", fix="Save the message again from the mail program."
        )
    builder = TextBuilder()
    subject = _field(message, "Subject")
    builder.heading(subject, 1)
    builder.paragraph("\n".join(f"{name}: {value}" for name in _FIELDS if (value := _field(message, name))))
    _add_body(builder, message)
    for part in message.iter_attachments():
        builder.note(f"attachment left out: {one_line(part.get_filename() or part.get_content_type())}")
    return builder.document(source, subject)


def _field(message: EmailMessage, name: str) -> str:
    """A header field on one line; malformed fields, which the parser may choke on, count as missing."""
    try:
        return one_line(str(message.get(name, "")))
    except (ValueError, IndexError, AttributeError, TypeError):
        return ""


def _add_body(builder: TextBuilder, message: EmailMessage) -> None:
    body: Message | None = message.get_body(preferencelist=("plain", "html"))
    if body is None and isinstance(message.get_payload(), str):  # says it has parts, and has none
        body = message
    if body is None:
        return
    payload = body.get_payload(decode=True)
    decoded = decode(payload if isinstance(payload, bytes) else b"", body.get_content_charset())
    if decoded.note:
        builder.note(decoded.note)
    if body.get_content_type() == "text/html":
        add_html(builder, decoded.text)
    else:
        add_plain(builder, decoded.text)
