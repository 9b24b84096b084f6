"""HTML, Markdown, plain text, e-mail and books."""

from __future__ import annotations

from pathlib import Path

import pytest
from collect_files import make_zip

from fieldwise.collect.builder import TextBuilder
from fieldwise.collect.epub import read_epub
from fieldwise.collect.grid import to_markdown
from fieldwise.collect.headings import heading_level
from fieldwise.collect.mail import read_mail
from fieldwise.collect.markdown import plain_inline, read_markdown
from fieldwise.collect.plain import read_plain
from fieldwise.collect.web import read_html
from fieldwise.interfaces import Extractor
from fieldwise.records import Document, Source


def read(reader: Extractor, path: Path, content: str | bytes) -> Document:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return reader(path, Source(uri=path.name))


def headings(document: Document) -> list[tuple[int, str]]:
    assert all(document.text[h.start : h.end] == h.text for h in document.headings)
    return [(h.level, h.text) for h in document.headings]


# ---------------------------------------------------------------- HTML

PAGE = """<!DOCTYPE html><html><head><title>Parking | Staff pages</title><style>p{}</style></head><body>
<header><p>The Hospital</p></header><nav><a href=a>Home</a></nav>
<main><h1>Parking</h1><p class="meta">FAC-3, May 2024.</p><p>Car park <b>6</b> is free.<br>Use the barrier.</p>
<h2>Rates</h2><table><tr><th>Time</th><th>Price</th></tr><tr><td rowspan=2>Day</td><td>4.00</td></tr><tr><td>3.50</td></tr></table>
<ol start=3><li>Take a ticket<ul><li>keep it dry</li></ul></li><li>Pay</li></ol>
<p style="display:none">SECRET</p><div hidden>SECRET</div><script>SECRET</script></main>
<footer>Cookies</footer></body></html>"""


def test_a_page_keeps_its_main_part_with_headings_lists_and_tables(tmp_path: Path) -> None:
    document = read(read_html, tmp_path / "a.html", PAGE)
    assert document.title == "Parking"
    assert headings(document) == [(1, "Parking"), (2, "Rates")]
    table = "| Time | Price |\n| --- | --- |\n| Day | 4.00 |\n| Day | 3.50 |"
    assert (
        document.text
        == f"Parking\n\nFAC-3, May 2024.\n\nCar park 6 is free.\nUse the barrier.\n\nRates\n\n{table}\n\n3. Take a ticket\n  - keep it dry\n4. Pay"
    )


def test_a_page_full_of_links_is_reduced_to_its_article(tmp_path: Path) -> None:
    links = "".join(
        f"<li><a href='/{n}'>Another story number {n} with a long and idle name</a></li>" for n in range(60)
    )
    story = "".join(
        f"<p>The committee met on day {n} and decided that the wards should be painted in a calmer colour, because visitors had asked for it.</p>"
        for n in range(12)
    )
    document = read(
        read_html,
        tmp_path / "a.html",
        f"<html><body><div class=menu><ul>{links}</ul></div><div class=content><h1>Paint</h1>{story}</div></body></html>",
    )
    assert "The committee met on day 11" in document.text
    assert "Another story number 30" not in document.text
    assert headings(document) == [(1, "Paint")]


def test_a_page_of_links_alone_still_gives_its_text(tmp_path: Path) -> None:
    document = read(
        read_html,
        tmp_path / "a.html",
        "<body><p><a href=1>Ring 4500 for the service desk</a></p><p><a href=2>Ring 4600 for the triage line</a></p></body>",
    )
    assert document.text == "Ring 4500 for the service desk\n\nRing 4600 for the triage line"


def test_filings_without_heading_tags_get_headings_from_bold_and_numbered_lines(tmp_path: Path) -> None:
    body = """<div style="font-weight:700">PART I</div><table><tr><td>Item 1A.</td><td><b>Risk Factors</b></td></tr></table>
    <p>Our sales may fall.</p><p><b>Seasonality</b></p><p>Winter is <b>strong</b>.</p>
    <table><tr><td></td><td>2023</td><td></td></tr><tr><td>Sales</td><td>$</td><td>5,273</td></tr><tr><td>Costs</td><td>$</td><td>4,010</td></tr></table>"""
    document = read(read_html, tmp_path / "a.html", f"<html><body>{body}</body></html>")
    assert headings(document) == [(1, "PART I"), (2, "Item 1A. Risk Factors"), (3, "Seasonality")]
    assert document.text.endswith("|  | 2023 |\n| --- | --- |\n| Sales | $5,273 |\n| Costs | $4,010 |")


def test_a_picture_that_is_a_link_gives_its_words_and_other_pictures_none(tmp_path: Path) -> None:
    page = """<html><body><p>Read the rules before you come to see us.</p><p><a href="x"><img src="a.png" alt="Visiting hours"></a></p>
    <p><a href="y"><img src="b.png" alt="an arrow"> Next page</a> <img src="c.png" alt="a garden"></p></body></html>"""
    (tmp_path / "a.html").write_text(page, encoding="utf-8")
    text = read_html(tmp_path / "a.html", Source(uri="a")).text
    assert text == "Read the rules before you come to see us.\n\nVisiting hours\n\nNext page"


def test_the_declared_character_set_is_used(tmp_path: Path) -> None:
    content = "<meta charset='iso-8859-5'><body><p>Правила</p></body>".encode("iso-8859-5")
    assert read(read_html, tmp_path / "a.html", content).text == "Правила"


def test_who_says_latin_1_means_the_table_of_windows(tmp_path: Path) -> None:
    content = "<meta charset='iso-8859-1'><body><p>The ward’s “night” rate… is €5.</p></body>".encode("cp1252")
    assert read(read_html, tmp_path / "a.html", content).text == "The ward’s “night” rate… is €5."


def test_headings_that_open_what_they_head_are_kept(tmp_path: Path) -> None:
    body = "<h2><button>Who pays?</button></h2><p>The ward. <button>Print</button></p>"
    document = read(read_html, tmp_path / "a.html", f"<html><body>{body}</body></html>")
    assert (document.text, headings(document)) == ("Who pays?\n\nThe ward.", [(2, "Who pays?")])


def test_words_nested_deep_are_not_lost(tmp_path: Path) -> None:
    assert read(read_html, tmp_path / "a.html", "<div>" * 300 + "deep words" + "</div>" * 300).text == "deep words"


# ---------------------------------------------------------------- Markdown


def test_markdown_keeps_structure_and_loses_markup(tmp_path: Path) -> None:
    text = """---
title: "Volunteers: rules"
draft: false
---
Welcome
=======

Thank you for **coming**, see [the map](map.md "Map")
and ![a picture](x.png).

## What you *may* do ##

- Show people
  the way
  - politely
1) Sing

| Day | Hours |
|-----|------:|
| Mon | [9](h) to `17` |

```python
# not a heading
```

[1]: https://example.org
<!-- hidden -->
***
> Quoted words.
"""
    document = read(read_markdown, tmp_path / "a.md", text)
    assert document.title == "Volunteers: rules"
    assert headings(document) == [(1, "Welcome"), (2, "What you may do")]
    table = "| Day | Hours |\n|-----|------:|\n| Mon | 9 to 17 |"
    assert document.text == (
        f"Welcome\n\nThank you for coming, see the map and a picture.\n\nWhat you may do\n\n- Show people the way\n  - politely\n1. Sing\n\n{table}\n\n# not a heading\n\nQuoted words."
    )
    assert [(document.text[t.start : t.end], t.rows, t.columns) for t in document.tables] == [(table, 2, 2)]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a_b_c and 2*3*4", "a_b_c and 2*3*4"),
        (r"\*not emphasis\*", "*not emphasis*"),
        ("`**code**` stays", "**code** stays"),
        ("<https://example.org/a_b_c>", "https://example.org/a_b_c"),
        ("Tom &amp; Jerry<br/>", "Tom & Jerry"),
        ("[nested (brackets)](a_(b).html)", "nested (brackets)"),
        ("***both***", "both"),
        ("first<br>second <br/> third", "first\nsecond\nthird"),
        ("<table><tr><td>Ward</td><td>Beds</td></tr><tr><td>Wren</td><td>18</td></tr></table>", "Ward Beds \nWren 18 "),
        (r"[" + r"\a \b \c \d " * 40, r"[" + r"\a \b \c \d " * 40),  # an open bracket before formulas took for ever
    ],
)
def test_markup_inside_lines_is_reduced_to_its_text(markup: str, text: str) -> None:
    assert plain_inline(markup) == text


def test_a_rule_that_opens_a_page_takes_no_text_with_it(tmp_path: Path) -> None:
    text = "---\n\n# Keys\n\nThe porter keeps them.\n\n---\n\nAsk twice.\n"
    assert read(read_markdown, tmp_path / "a.md", text).text == "Keys\n\nThe porter keeps them.\n\nAsk twice."


# ---------------------------------------------------------------- text and mail


def test_plain_text_finds_headings_and_keeps_blocks(tmp_path: Path) -> None:
    document = read(
        read_plain,
        tmp_path / "a.txt",
        "VISITING HOURS\nFrom two to eight.\r\n\r\n2.1 Children\n\nWelcome on Wren.\n\nGarden\n======\nOpen all day.\n",
    )
    assert headings(document) == [(2, "VISITING HOURS"), (3, "2.1 Children"), (1, "Garden")]
    assert (
        document.text
        == "VISITING HOURS\n\nFrom two to eight.\n\n2.1 Children\n\nWelcome on Wren.\n\nGarden\n\nOpen all day."
    )


@pytest.mark.parametrize(
    "line",
    [
        "1. Ring the bell twice.",
        "It is late",
        "Part a of the story",
        "section by section",
        "Section 5 applies to visitors.",
        "3 apples",
        "x",
        "USE THE BACK DOOR WHEN THE FRONT DOOR IS LOCKED AND NOBODY ANSWERS THE BELL AT NIGHT!",
        "2024 was good",
    ],
)
def test_ordinary_lines_are_no_headings(line: str) -> None:
    assert heading_level(line) is None


def test_a_list_of_numbered_lines_is_no_run_of_headings(tmp_path: Path) -> None:
    assert read(read_plain, tmp_path / "a.txt", "1. Open the door\n2. Close the window\n3. Leave").headings == ()


MAIL = """From: Ada <ada@example.org>
To: ward@example.org
Subject: =?utf-8?q?Beds_f=C3=BCr_heute?=
Date: Mon, 3 Mar 2025 09:00:00 +0000
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=X

--X
Content-Type: {kind}; charset=iso-8859-1
Content-Transfer-Encoding: 8bit

{body}
--X
Content-Type: application/pdf
Content-Disposition: attachment; filename="plan.pdf"

%PDF
--X--
"""


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", "Drei Betten sind frei, für alle."),
        ("text/html", "<p>Drei Betten sind <b>frei</b>, für alle.</p>"),
    ],
)
def test_an_email_gives_subject_fields_and_text_and_names_its_attachments(tmp_path: Path, kind: str, body: str) -> None:
    document = read(read_mail, tmp_path / "a.eml", MAIL.format(kind=kind, body=body).encode("latin-1"))
    assert document.title == "Beds für heute"
    assert (
        document.text
        == "Beds für heute\n\nFrom: Ada <ada@example.org>\nTo: ward@example.org\nDate: Mon, 03 Mar 2025 09:00:00 +0000\n\nDrei Betten sind frei, für alle."
    )
    assert document.notes == ("attachment left out: plan.pdf",)


def test_a_message_that_promises_parts_and_has_none_keeps_its_words(tmp_path: Path) -> None:
    head = 'From: a@example.org\nSubject: Beds\nContent-Type: multipart/mixed; boundary="X"\n\n'
    assert read(read_mail, tmp_path / "a.eml", head + "Three beds are free.\n").text.endswith("Three beds are free.")


def test_a_book_is_read_in_the_order_of_its_spine(tmp_path: Path) -> None:
    metadata = '<metadata><title xmlns="http://purl.org/dc/elements/1.1/">The Ward Book</title></metadata>'
    package = f'<package xmlns="http://www.idpf.org/2007/opf">{metadata}<manifest><item id="b" href="two%20b.xhtml"/><item id="a" href="one.xhtml"/></manifest><spine><itemref idref="a"/><itemref idref="b"/><itemref idref="c"/></spine></package>'
    page = "<!DOCTYPE html><html><body><h1>{0}</h1><p>Words of {0}.</p></body></html>"
    make_zip(
        tmp_path / "a.epub",
        {
            "mimetype": b"application/epub+zip",
            "META-INF/container.xml": b'<container><rootfile full-path="OPS/book.opf"/></container>',
            "OPS/book.opf": package.encode(),
            "OPS/one.xhtml": page.format("One").encode(),
            "OPS/two b.xhtml": page.format("Two").encode(),
        },
    )
    document = read_epub(tmp_path / "a.epub", Source(uri="a.epub"))
    assert (document.title, document.text) == ("The Ward Book", "One\n\nWords of One.\n\nTwo\n\nWords of Two.")
    assert document.notes == ("chapter 3 is missing from the file",)


# ---------------------------------------------------------------- building blocks


def test_tables_lose_empty_rows_and_columns_and_are_padded() -> None:
    assert to_markdown([["a", "", "b|c"], ["", "", ""], ["d"]]) == ("| a | b\\|c |\n| --- | --- |\n| d |  |", 2, 2)
    assert to_markdown([["", " "], []]) is None


def test_text_loses_control_characters_and_lone_surrogates() -> None:
    builder = TextBuilder()
    builder.paragraph("one\x00\x1b[0m\r\ntwo\ud800\ufeff")
    assert builder.document(Source(uri="a")).text == "one[0m\ntwo"


def test_an_overlong_heading_is_a_paragraph() -> None:
    builder = TextBuilder()
    builder.heading("word " * 100, 1)
    assert builder.document(Source(uri="a")).headings == ()
