"""Passes of cleaning that a recipe asks for: tags, addresses, signs and lines that belong to a page and not to its text."""

from __future__ import annotations

import html
import re
import unicodedata

from fieldwise.prepare.edits import Edit
from fieldwise.records import Document

# every repeat is bounded or ends at a line end: no text makes a search long
_IMAGE_TAG = re.compile(
    r"!\[[^\]\n]{0,300}\](?:\([^)\n]{0,1000}\)|\[[^\]\n]{0,100}\])|<img\b[^>]{0,2000}>"
    r"|\[(?:image|img|photo|picture)(?:\s?:[^\]\n]{0,200})?\]",
    re.IGNORECASE,
)
_CREDIT = re.compile(
    r"^[ \t(\[]*(?:(?:photo(?:graph)?s?|images?|pictures?|illustrations?|graphics?)[ \t]*(?:credits?|courtesy|source|by)\b"
    r"|photos?[ \t]*:|©[ \t]*(?:getty|shutterstock|istock|reuters|alamy|ap photo)"
    r"|(?:getty images|shutterstock|istockphoto|alamy stock photo)\b)[^\n]{0,120}$",
    re.IGNORECASE | re.MULTILINE,
)
_TEMPLATE_TAG = re.compile(
    r"\{\{[^{}\n]{0,500}\}\}|\{%[^\n]{0,500}?%\}|\{#[^\n]{0,500}?#\}|<%[^\n]{0,500}?%>|<\?(?:php|=)[^\n]{0,500}?\?>"
)
_LEGAL_LINK = (
    r"(?:privacy (?:policy|notice)|terms (?:of (?:use|service)|and conditions)|cookie (?:policy|settings)|site ?map|"
    r"accessibility|disclaimer|contact us)"
)
_BOILERPLATE = re.compile(
    r"^[ \t]*(?:skip to (?:main )?(?:content|navigation)|(?:back|return|go) to (?:the )?top"
    r"|share (?:this(?: (?:page|article|story|post))?|on (?:facebook|twitter|x|linkedin|whatsapp)[^\n]{0,60})"
    r"|follow us(?: on [^\n]{0,80})?|(?:subscribe|sign up) (?:to|for) (?:our|the) (?:free )?newsletter[^\n]{0,80}"
    r"|(?:print|e-?mail) this (?:page|article)|(?:read|learn) more|advertisement|click here[^\n]{0,40}"
    r"|you are here:[^\n]{0,120}|(?:this (?:web)?site uses|we use) cookies[^\n]{0,200}|accept (?:all )?cookies"
    r"|(?:(?:©|\(c\)|copyright)[^\n]{0,100}?\d{4}[^\n]{0,100}?)?all rights reserved"
    rf"|(?:©|\(c\)|copyright)[ \t]*(?:©|\(c\))?[ \t]*\d{{4}}[^\n.]{{0,80}}|{_LEGAL_LINK}(?:[ \t]*[|·•/-][ \t]*{_LEGAL_LINK}){{1,8}}"
    r")[ \t]*[.!»›>…]{0,3}[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_URL = re.compile(
    r"[(<\[]?(?<![\w@])(?:(?:https?|ftp)://|www\.)[^\s<>|\"'`]{0,2000}[^\s<>|\"'`.,;:!?)\]}](?:[)>\]](?=[\s.,;:|]|$))?",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"<?(?:mailto:)?(?<![\w.+@-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}>?", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:[a-z][a-z0-9]{1,30}|#\d{1,7}|#x[0-9a-f]{1,6});", re.IGNORECASE)
_SPECIAL = re.compile(r"[^\w\s!-~]+")
_KEPT_SIGNS = frozenset("°©®™№§¶†‡•")  # signs of law, of measures and of lists
_SPECIAL_CATEGORIES = ("So", "Co", "Cn", "Cs", "Sk")


def image_tags(document: Document) -> list[Edit]:
    """Tags that stand where a picture was, and the lines that name its photographer or agency."""
    return _without_overlap([*_removed(document, _IMAGE_TAG), *_removed_lines(document, _CREDIT)])


def template_tags(document: Document) -> list[Edit]:
    """What a template engine should have filled in."""
    return _removed(document, _TEMPLATE_TAG)


def boilerplate(document: Document) -> list[Edit]:
    """Lines that stand on every web page: ways around it, sharing, cookies, rights."""
    return _removed_lines(document, _BOILERPLATE)


def urls(document: Document) -> list[Edit]:
    """Web addresses, with the brackets around them where they close."""
    edits = []
    for match in _URL.finditer(document.text):
        start, end = match.span()
        opened, closed = match[0][0] in "(<[", match[0][-1] in ")>]"
        edits.append(Edit(start + (opened and not closed), end - (closed and not opened), ""))
    return edits


def emails(document: Document) -> list[Edit]:
    """E-mail addresses, with the brackets around them where they close."""
    edits = []
    for match in _EMAIL.finditer(document.text):
        opened, closed = match[0][0] == "<", match[0][-1] == ">"
        edits.append(Edit(match.start() + (opened and not closed), match.end() - (closed and not opened), ""))
    return edits


def html_entities(document: Document) -> list[Edit]:
    """Entities become the sign they stand for, blanks a space; those that no standard knows stay."""
    edits = []
    for match in _ENTITY.finditer(document.text):
        sign = html.unescape(match[0])
        if sign == match[0]:
            continue
        sign = " " if sign.isspace() else sign
        if sign.isprintable() and sign != "|":  # a sign that would end the cell of a table
            edits.append(Edit(match.start(), match.end(), sign))
    return edits


def special_characters(document: Document) -> list[Edit]:
    """Pictographs, dingbats, lines of boxes and signs without a meaning of their own; those of law and measures stay."""
    edits = []
    for match in _SPECIAL.finditer(document.text):
        kept = "".join(sign for sign in match[0] if not _is_special(sign))
        if kept != match[0]:
            edits.append(Edit(match.start(), match.end(), kept))
    return edits


def _is_special(sign: str) -> bool:
    return sign not in _KEPT_SIGNS and (
        unicodedata.category(sign) in _SPECIAL_CATEGORIES or sign in "\u200d\ufe0e\ufe0f"  # what joins pictographs
    )


def _removed(document: Document, pattern: re.Pattern[str]) -> list[Edit]:
    return [Edit(match.start(), match.end(), "") for match in pattern.finditer(document.text)]


def _removed_lines(document: Document, pattern: re.Pattern[str]) -> list[Edit]:
    tables = [(table.start, table.end) for table in document.tables]
    return [e for e in _removed(document, pattern) if not any(a < e.end and e.start < z for a, z in tables)]


def _without_overlap(edits: list[Edit]) -> list[Edit]:
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda e: (e.start, -e.end)):
        if not kept or edit.start >= kept[-1].end:
            kept.append(edit)
    return kept
