"""HTML as text: what comes from documents, questions and models is escaped here and nowhere else."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

_LONGEST_TEXT, _LONGEST_LABEL = 2000, 160
# HTML forbids these even as references; a lone surrogate could not be written as UTF-8 at all.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def escape(text: str) -> str:
    """Return text for an element or a quoted attribute; signs that HTML forbids become the replacement sign.

    >>> escape('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(_FORBIDDEN.sub("\ufffd", text).replace("\r", "\n"), quote=True)


def foreign(text: str, tag: str = "p", classes: str = "") -> str:
    """Return an element with words that others wrote: it takes its own direction and cannot turn its neighbours'.

    Of a text longer than a page its beginning is shown.
    """
    named = f' class="{classes}"' if classes else ""
    return f'<{tag}{named} dir="auto">{escape(_beginning(text, _LONGEST_TEXT))}</{tag}>'


def label(text: str) -> str:
    """Return a name that others gave, such as that of a document, for use within a line."""
    return f"<bdi>{escape(_beginning(text, _LONGEST_LABEL))}</bdi>"


def _beginning(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], classes: str = "") -> str:
    """Return a table from cells that are HTML already; the first cell of a row is its header.

    It scrolls by itself, by keyboard as well, where the window is too narrow.
    """
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "\n".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroller" role="region" tabindex="0" aria-label="{escape(caption)}">\n'
        f'<table class="{classes}"><caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def section(identifier: str, title: str, *parts: str) -> str:
    """Return a section with its heading; parts are HTML already."""
    body = "\n".join(part for part in parts if part)
    return f'<section id="{identifier}" aria-labelledby="{identifier}-title">\n<h2 id="{identifier}-title">{title}</h2>\n{body}\n</section>'
