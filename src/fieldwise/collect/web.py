"""HTML pages: the main content with its headings, lists and tables; navigation, footers and scripts gone.

Where the page says itself what its main part is, or has little besides, that is taken as it stands. Only pages
full of links go through trafilatura, which also throws away lines that matter, such as document numbers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.collect.builder import TextBuilder, one_line
from fieldwise.collect.web_blocks import HtmlBlocks
from fieldwise.decode import decode
from fieldwise.errors import DocumentError
from fieldwise.extras import require
from fieldwise.records import Document, Source

_CHARSET = re.compile(rb"""(?:charset\s*=\s*["']?|<\?xml[^>]*encoding=["'])([\w.:-]+)""", re.IGNORECASE)
_HEAD_BYTES = 4096
_BOILERPLATE = "nav|footer|aside|script|style|noscript|template|svg|iframe|object|select|button|dialog|head"
_OPENERS = "//button[ancestor::h1 or ancestor::h2 or ancestor::h3 or ancestor::h4 or ancestor::h5 or ancestor::h6 or ancestor::dt]"
_LICENCE_NAMES = {"license", "licence", "dc.rights", "dcterms.rights", "dcterms.license", "dc.license", "og:license"}
_MAX_LICENCE_CHARS = 300
_HIDDEN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_MAIN_SHARE = 0.5
_MANY_LINKS = 0.25
_LITTLE = 0.5
_TRAFILATURA_TAGS = {
    "list": "ul",
    "item": "li",
    "row": "tr",
    "cell": "td",
    "lb": "br",
    "quote": "blockquote",
    "hi": "span",
    "ref": "a",
    "code": "code",
}


def read_html(path: Path, source: Source) -> Document:
    """Return an HTML page as a document."""
    content = path.read_bytes()
    declared = _CHARSET.search(content[:_HEAD_BYTES])
    decoded = decode(content, declared[1].decode("ascii") if declared else None)
    builder = TextBuilder()
    if decoded.note:
        builder.note(decoded.note)
    page = add_html(builder, decoded.text)
    return builder.document(source.model_copy(update={"licence": source.licence or page.licence}), page.title)


class Page(NamedTuple):
    """What a page says of itself."""

    title: str
    licence: str | None


def add_html(builder: TextBuilder, text: str) -> Page:
    """Add the main content of a page; returns what it says of itself."""
    html: Any = require("lxml.html", extra="documents", to="read HTML files")
    etree: Any = require("lxml.etree", extra="documents", to="read HTML files")
    parser = html.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True
    )  # the small tree drops what is nested deep
    try:
        root = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError, AssertionError) as error:
        raise DocumentError(
            "not readable as HTML", reason="broken", found=str(error)[:120], fix="Save the page again."
        ) from error
    page = Page(_title(root), _licence(root))
    _drop_boilerplate(root)
    body = root.find("body") if root.find("body") is not None else root
    HtmlBlocks(builder).add(_main(body, text, html))
    return page


def _title(root: Any) -> str:
    """The one h1 if the page's title repeats it, else the title, else the first h1."""
    named = one_line("".join(root.findtext(".//title") or ""))
    firsts = [one_line(h.text_content()) for h in root.iter("h1")]
    if len(firsts) == 1 and firsts[0] and (not named or firsts[0].casefold() in named.casefold()):
        return firsts[0]
    return named or (firsts[0] if firsts else "")


def _licence(root: Any) -> str | None:
    """The licence of the page: a link with rel=license, else what a meta element names."""
    for element in root.xpath("//link[@rel][@href] | //a[@rel][@href]"):
        if {"license", "licence"} & set(element.get("rel").lower().split()):
            return one_line(element.get("href"))[:_MAX_LICENCE_CHARS] or None
    for element in root.xpath("//meta[@content]"):
        if (element.get("name") or element.get("property") or "").lower() in _LICENCE_NAMES:
            return one_line(element.get("content"))[:_MAX_LICENCE_CHARS] or None
    return None


def _drop_boilerplate(root: Any) -> None:
    for button in root.xpath(_OPENERS):
        button.drop_tag()
    for element in root.xpath(" | ".join(f"//{tag}" for tag in _BOILERPLATE.split("|"))):
        element.drop_tree()
    for element in root.xpath(
        "//*[@hidden] | //*[@aria-hidden='true'] | //*[@role='navigation' or @role='search' or @role='contentinfo' or @role='banner'] | //*[@style]"
    ):
        hidden = (
            element.get("hidden") is not None
            or element.get("aria-hidden") == "true"
            or element.get("role") in ("navigation", "search", "contentinfo", "banner")
        )
        if (
            (hidden or _HIDDEN_STYLE.search(element.get("style") or ""))
            and element.getparent() is not None
            and element.tag not in ("body", "html")
        ):
            element.drop_tree()
    for element in root.xpath("//header[not(ancestor::main or ancestor::article) and not(.//h1)]"):
        element.drop_tree()


def _main(body: Any, text: str, html: Any) -> Any:
    """The element that holds the content."""
    whole = _chars(body)
    named = body.xpath("//main | //*[@role='main']") or body.xpath("//article[not(ancestor::article)]")
    if len(named) == 1 and _chars(named[0]) >= _MAIN_SHARE * whole:
        return named[0]
    links = sum(_chars(a) for a in body.iter("a"))
    if whole == 0 or links < _MANY_LINKS * whole:
        return body
    found = _main_by_trafilatura(text, html)
    return found if found is not None and _chars(found) >= _LITTLE * (whole - links) else body


def _chars(element: Any) -> int:
    return len(one_line(element.text_content()))


def _main_by_trafilatura(text: str, html: Any) -> Any:
    """The main content as trafilatura sees it, in the tags of HTML; None if it finds nothing."""
    trafilatura: Any = require("trafilatura", extra="documents", to="find the main part of web pages")
    found = trafilatura.bare_extraction(
        text, include_tables=True, include_comments=False, include_links=True, favor_recall=True
    )
    if found is None or found.body is None:
        return None
    for element in found.body.iter():
        if element.tag == "head":
            level = (element.get("rend") or "h2")[-1]
            element.tag = f"h{level}" if level in "123456" else "h2"
        elif element.tag == "cell" and element.get("role") == "head":
            element.tag = "th"
        elif element.tag == "list" and element.get("rend") == "ol":
            element.tag = "ol"
        else:
            element.tag = _TRAFILATURA_TAGS.get(element.tag, element.tag)
    etree: Any = require("lxml.etree", extra="documents", to="read HTML files")
    return html.fromstring(etree.tostring(found.body, encoding="unicode"))
