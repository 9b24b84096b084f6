"""AsciiDoc files."""

from __future__ import annotations

from pathlib import Path

import pytest
from collect_files import collect

from fieldwise.collect.asciidoc import read_asciidoc
from fieldwise.records import Document, Source


def read(folder: Path, text: str) -> Document:
    (folder / "a.adoc").write_text(text, encoding="utf-8")
    return read_asciidoc(folder / "a.adoc", Source(uri="a.adoc"))


def test_headings_lists_and_paragraphs_stand_in_order(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        """= House rules
:ward: Wren
// not for readers

Rules of {ward}, kept
since 2019. +
////
nor this
////
[#gate]
== The gate
.Before you leave
* Ring *twice*
** at the _blue_ door
+
. Gel first
. Then `gloves`
Quiet hours:: from ten
NOTE: Ask the porter.
""",
    )
    assert [(h.level, h.text) for h in document.headings] == [(1, "House rules"), (2, "The gate")]
    assert document.text == (
        "House rules\n\nRules of Wren, kept since 2019.\n\nThe gate\n\nBefore you leave\n\n- Ring twice\n"
        "  - at the blue door\n- Gel first\n- Then gloves\n- Quiet hours: from ten NOTE: Ask the porter."
    )
    assert document.title == "House rules"


@pytest.mark.parametrize(
    "table",
    [
        "|===\n|Ward |Beds\n|Wren |18\n|Dunlin |20\n|===",
        "|===\n|Ward |Beds\n\n|Wren\n|18\n\n|Dunlin\n|20\n|===",
        '[cols="1,1", options="header"]\n|===\n|Ward\n|Beds\n|Wren\n|18\n|Dunlin\n|20\n|===',
        "[cols=2*]\n|===\n^.^h|Ward h|Beds\n|Wren |18 |Dunlin |20\n|===",
        "|Ward|Beds|\n|Wren|18|\n|Dunlin|20|",
        ",===\nWard,Beds\nWren,18\nDunlin,20\n,===",
    ],
)
def test_tables_become_markdown_however_their_cells_are_laid_out(tmp_path: Path, table: str) -> None:
    document = read(tmp_path, f"Before.\n\n{table}\n\nAfter.")
    assert document.text == ("Before.\n\n| Ward | Beds |\n| --- | --- |\n| Wren | 18 |\n| Dunlin | 20 |\n\nAfter.")
    assert [(t.rows, t.columns) for t in document.tables] == [(3, 2)]


def test_words_that_run_on_belong_to_the_cell_above(tmp_path: Path) -> None:
    document = read(tmp_path, "|===\n|Ward |Rule\n|Wren |Gel first,\nthen gloves\n|===")
    assert "| Wren | Gel first, then gloves |" in document.text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("See https://a.example/x[the rules^] and https://a.example/y.", "See the rules and https://a.example/y."),
        (
            "See <<gate,the gate>>, xref:b.adoc[page two] and link:c.pdf[the form].",
            "See the gate, page two and the form.",
        ),
        ("A dose of 5 mg footnote:[Adults only.] a day", "A dose of 5 mg  (Adults only.) a day"),
        ("image::plan.png[Plan of the ward, width=200]", "Plan of the ward"),
        ("Press kbd:[Enter], x^2^ and H~2~O", "Press Enter, x2 and H2O"),
        ("2 * 3 * 4 and snake_case_name and C:\\temp", "2 * 3 * 4 and snake_case_name and C:\\temp"),
        ("Not \\*bold*", "Not *bold*"),
        ("Call 555-1234 or mail a@b.example", "Call 555-1234 or mail a@b.example"),
    ],
)
def test_markup_is_reduced_to_the_text_a_reader_sees(tmp_path: Path, markup: str, text: str) -> None:
    assert read(tmp_path, markup).text == text


def test_code_stays_as_it_is_and_included_files_are_noted(tmp_path: Path) -> None:
    document = read(
        tmp_path, "----\n* not a list\n= nor a heading\n----\n\ninclude::secret.adoc[]\n\n....\nnever closed"
    )
    assert document.text == "* not a list\n= nor a heading\n\nnever closed"
    assert document.notes == ("files that it includes are left out",)


def test_files_are_told_by_their_name(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for name in ("a.adoc", "b.asciidoc"):
        (folder / name).write_text("= Rules\n\nThe gate is locked at nine.", encoding="utf-8")
    result = collect(tmp_path / "run", folder)
    assert {d.source.media_type for d in result.documents.values()} == {"text/asciidoc"}
    assert [d.title for d in result.documents.values()] == ["Rules", "Rules"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "sign",
    [
        "*_",
        "* _",
        "[",
        "[[a",
        "<<a,",
        "{a",
        "|",
        " a|",
        "a::",
        "https://",
        ":a",
        "^~",
        "=",
        "x[",
        "image:",
        "link:a",
        "footnote:[",
    ],
)
def test_no_text_takes_long(tmp_path: Path, sign: str) -> None:
    assert read(tmp_path, "a " + sign * (100_000 // len(sign))).text
