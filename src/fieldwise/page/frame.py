"""The frame of a report page: one HTML file that asks nothing of any other place and lets no other script or style run."""

from __future__ import annotations

import base64
import hashlib
import re

from fieldwise.page.markup import escape


def whole(title: str, head: str, body: str, style: str, script: str = "") -> str:
    """Return the whole file; `title` is plain text, head and body are HTML already."""
    runs = f" script-src '{_digest(script)}';" if script else ""
    scripted = f"<script>{script}</script>\n" if script else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src '{_digest(style)}';{runs} base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">To the report</a>
<div class="page">
{head}
<main id="main">
{body}
</main>
</div>
{scripted}</body>
</html>
"""


def contents(body: str) -> str:
    """Return the list of a page's sections as links."""
    links = re.findall(r'<section id="([\w-]+)"[^>]*>\n<h2[^>]*>(.*?)</h2>', body)
    items = "".join(f'<li><a href="#{identifier}">{heading}</a></li>' for identifier, heading in links)
    return f'<nav aria-label="Parts of the report"><ul>{items}</ul></nav>'


def _digest(text: str) -> str:
    """The mark by which a browser knows our own style and script, and runs no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
