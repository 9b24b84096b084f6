"""Word, PowerPoint and Excel files, and delimited text."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from collect_files import WORD_BODY, make_docx, make_zip

from fieldwise.collect.sheets import MAX_ROWS, read_csv, read_workbook
from fieldwise.collect.slides import read_slides
from fieldwise.collect.word import read_word
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

SOURCE = Source(uri="a")
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def headings(document: Document) -> list[tuple[int, str]]:
    return [(h.level, h.text) for h in document.headings]


def word_xml(path: Path, body: str, **parts: str) -> Document:
    members = {"word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>".encode()}
    return read_word(
        make_zip(path, members | {f"word/{name}.xml": text.encode() for name, text in parts.items()}), SOURCE
    )


# ---------------------------------------------------------------- Word


def test_a_word_file_keeps_headings_lists_and_tables_in_order_and_leaves_out_header_and_footer(tmp_path: Path) -> None:
    def build(document: Any) -> None:
        document.core_properties.title = "On-call rules"
        document.sections[0].header.paragraphs[0].text = "Printed by nobody"
        document.add_heading("Rota", level=1)
        document.add_paragraph("The rota is made in spring.")
        document.add_paragraph("ask early", style="List Bullet")
        document.add_paragraph("swap late", style="List Bullet")
        document.add_heading("Numbers", level=2)
        table = document.add_table(rows=2, cols=2)
        for cell, text in zip(
            [c for row in table.rows for c in row.cells], ["Role", "Bleep", "Porter | lead", "801"], strict=True
        ):
            cell.text = text
        document.add_paragraph("first", style="List Number")
        document.add_paragraph("second", style="List Number")

    document = read_word(make_docx(tmp_path / "a.docx", build), SOURCE)
    assert document.title == "On-call rules"
    assert headings(document) == [(1, "Rota"), (2, "Numbers")]
    assert (
        document.text
        == "Rota\n\nThe rota is made in spring.\n\n- ask early\n- swap late\n\nNumbers\n\n| Role | Bleep |\n| --- | --- |\n| Porter \\| lead | 801 |\n\n1. first\n2. second"
    )
    assert [document.text[t.start : t.end][:8] for t in document.tables] == ["| Role |"]


def test_insertions_are_read_and_deletions_are_not(tmp_path: Path) -> None:
    body = "<w:p><w:r><w:t>Doors close at </w:t></w:r><w:del><w:r><w:delText>seven</w:delText></w:r></w:del><w:ins><w:r><w:t>nine</w:t></w:r></w:ins><w:sdt><w:sdtContent><w:r><w:t>.</w:t></w:r></w:sdtContent></w:sdt></w:p>"
    assert word_xml(tmp_path / "a.docx", body).text == "Doors close at nine."


def test_inserted_symbols_are_read(tmp_path: Path) -> None:
    symbols = "".join(
        f"<w:r><w:sym w:font='{font}' w:char='{code}'/></w:r>"
        for font, code in [("Symbol", "F0B3"), ("Symbol", "006D"), ("Wingdings", "F0FE"), ("Webdings", "F021")]
    )
    body = f"<w:p><w:r><w:t>Keep </w:t></w:r>{symbols}<w:r><w:t> 5</w:t></w:r></w:p>"
    assert word_xml(tmp_path / "a.docx", body).text == "Keep ≥μ☑ 5"


def test_automatic_numbers_of_clauses_are_written_out(tmp_path: Path) -> None:
    level = '<w:lvl w:ilvl="{0}"><w:start w:val="1"/><w:numFmt w:val="{1}"/><w:lvlText w:val="{2}"/></w:lvl>'
    numbering = f"<w:numbering {W}><w:abstractNum w:abstractNumId='0'>{level.format(0, 'decimal', '%1.')}{level.format(1, 'decimal', '%1.%2')}{level.format(2, 'lowerLetter', '(%3)')}</w:abstractNum><w:num w:numId='5'><w:abstractNumId w:val='0'/></w:num></w:numbering>"
    clause = "<w:p><w:pPr>{2}<w:numPr><w:ilvl w:val='{0}'/><w:numId w:val='5'/></w:numPr></w:pPr><w:r><w:t>{1}</w:t></w:r></w:p>"
    outline = "<w:outlineLvl w:val='0'/>"
    body = "".join(
        clause.format(*c)
        for c in [
            (0, "Scope", outline),
            (1, "Who", ""),
            (1, "Where", ""),
            (2, "Indoors", ""),
            (0, "Term", outline),
            (1, "Start", ""),
        ]
    )
    document = word_xml(tmp_path / "a.docx", body, numbering=numbering)
    assert document.text == "1. Scope\n\n  1.1 Who\n  1.2 Where\n    (a) Indoors\n\n2. Term\n\n  2.1 Start"
    assert headings(document) == [(1, "1. Scope"), (1, "2. Term")]


def test_merged_cells_are_repeated_downwards_and_frames_are_text(tmp_path: Path) -> None:
    def cell(text: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>"

    rows = [
        cell("Ward") + cell("Day"),
        cell("Wren", "<w:vMerge w:val='restart'/>") + cell("Mon"),
        cell("", "<w:vMerge/>") + cell("Tue"),
    ]
    body = (
        "<w:tbl>"
        + "".join(f"<w:tr>{row}</w:tr>" for row in rows)
        + "</w:tbl><w:tbl><w:tr>"
        + cell("A remark in a frame.")
        + "</w:tr></w:tbl>"
    )
    assert (
        word_xml(tmp_path / "a.docx", body).text
        == "| Ward | Day |\n| --- | --- |\n| Wren | Mon |\n| Wren | Tue |\n\nA remark in a frame."
    )


def test_the_strict_variant_and_formulas_are_read(tmp_path: Path) -> None:
    body = '<w:p><w:r><w:t>Area: </w:t></w:r><m:oMath xmlns:m="http://purl.oclc.org/ooxml/officeDocument/math"><m:r><m:t>π</m:t></m:r><m:sSup><m:e><m:r><m:t>r</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup></m:oMath></w:p>'
    strict = f"<w:document {W}><w:body>{body}</w:body></w:document>".replace(
        "schemas.openxmlformats.org/wordprocessingml/2006/main", "purl.oclc.org/ooxml/wordprocessingml/main"
    )
    assert read_word(make_zip(tmp_path / "a.docx", {"word/document.xml": strict.encode()}), SOURCE).text == "Area: πr^2"


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("<m:rad><m:deg/><m:e><m:r><m:t>b^2-4ac</m:t></m:r></m:e></m:rad>", "√(b^2-4ac)"),
        ("<m:rad><m:deg><m:r><m:t>3</m:t></m:r></m:deg><m:e><m:r><m:t>x</m:t></m:r></m:e></m:rad>", "3√(x)"),
        (
            '<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub><m:r><m:t>i=1</m:t></m:r></m:sub>'
            "<m:sup><m:r><m:t>n</m:t></m:r></m:sup><m:e><m:r><m:t>i</m:t></m:r></m:e></m:nary>",
            "∑_(i=1)^(n) i",
        ),
        ("<m:nary><m:sub/><m:sup/><m:e><m:r><m:t>f dx</m:t></m:r></m:e></m:nary>", "∫ f dx"),
    ],
)
def test_roots_and_sums_keep_their_signs(tmp_path: Path, formula: str, text: str) -> None:
    math = f'<m:oMath xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math">{formula}</m:oMath>'
    assert word_xml(tmp_path / "a.docx", f"<w:p>{math}</w:p>").text == text


def test_comments_are_left_out_and_noted(tmp_path: Path) -> None:
    import openpyxl
    from openpyxl.comments import Comment

    paragraph = "<w:p><w:r><w:t>The gate is locked.</w:t></w:r></w:p>"
    word = word_xml(tmp_path / "a.docx", paragraph, comments=f"<w:comments {W}/>")
    book = openpyxl.Workbook()
    book.active.title = "Sheet1"
    book.active["A1"] = "Beds"
    book.active["A1"].comment = Comment("Says who?", "Finch")
    book.save(tmp_path / "a.xlsx")
    sheet = read_workbook(tmp_path / "a.xlsx", SOURCE)
    assert (word.text, word.notes) == ("The gate is locked.", ("comments are left out",))
    assert (sheet.text, sheet.notes) == ("Beds", ("comments are left out",))


def test_a_word_file_without_a_body_or_with_broken_xml_is_refused(tmp_path: Path) -> None:
    for content in (b"<a/>", WORD_BODY[:-20]):
        with pytest.raises(DocumentError) as caught:
            read_word(make_zip(tmp_path / "a.docx", {"word/document.xml": content}), SOURCE)
        assert caught.value.reason == "broken"


# ---------------------------------------------------------------- PowerPoint


def test_slides_are_pages_with_their_titles_as_headings(tmp_path: Path) -> None:
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    for title, lines in (("Hand hygiene", ["Gel first", "Then gloves"]), ("Numbers", [])):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(lines)
        slide.notes_slide.notes_text_frame.text = "Tell them about my holiday."
    table = slide.shapes.add_table(3, 2, Inches(1), Inches(3), Inches(4), Inches(1)).table
    for n, text in enumerate(["Ward", "Beds", "Wren", "18", "", "20"]):
        table.cell(n // 2, n % 2).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    slide.shapes.add_textbox(Inches(1), Inches(5), Inches(4), Inches(1)).text_frame.text = "Counted in May."
    deck.slides.add_slide(deck.slide_layouts[1]).shapes.title.text = "Hidden"
    deck.slides[2]._element.set("show", "0")
    deck.save(str(tmp_path / "a.pptx"))
    document = read_slides(tmp_path / "a.pptx", SOURCE)
    assert (
        document.text
        == "Hand hygiene\n\n- Gel first\n- Then gloves\n\nNumbers\n\n| Ward | Beds |\n| --- | --- |\n| Wren | 18 |\n| Wren | 20 |\n\nCounted in May."
    )
    assert [(p.number, document.text[p.start : p.end][:7]) for p in document.pages] == [(1, "Hand hy"), (2, "Numbers")]
    assert headings(document) == [(1, "Hand hygiene"), (1, "Numbers")]
    assert document.notes == ("slide 3 is hidden and left out",)


# ---------------------------------------------------------------- tables


def test_sheets_are_headings_and_tables_with_values_as_shown(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Beds"
    for row in (
        ["Counted by the site team"],
        [],
        ["Ward", "Since", "Share", "Beds"],
        ["Wren", datetime(2024, 5, 1), 0.275, 18.0],
        ["Dunlin", date(2024, 6, 2), 0.5, 20],
    ):
        sheet.append(row)
    for cell in sheet["C"][3:]:
        cell.number_format = "0.0%"
    book.create_sheet("Empty")
    book.create_sheet("Private").append(["salary", 1])
    book["Private"].sheet_state = "hidden"
    book.save(tmp_path / "a.xlsx")
    document = read_workbook(tmp_path / "a.xlsx", SOURCE)
    assert (
        document.text
        == "Beds\n\nCounted by the site team\n\n| Ward | Since | Share | Beds |\n| --- | --- | --- | --- |\n| Wren | 2024-05-01 | 27.5% | 18 |\n| Dunlin | 2024-06-02 | 50.0% | 20 |"
    )
    assert document.notes == ("sheet 'Private' is hidden and left out",)


def test_a_workbook_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        read_workbook(make_zip(tmp_path / "a.xlsx", {"[Content_Types].xml": b"<Types/>"}), SOURCE)
    assert caught.value.reason == "broken"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimited_text_is_one_table(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "a.csv").write_text(
        "\n".join(delimiter.join(row) for row in (["Ward", "Beds"], ['"Wren, east"', "18"], ["Dunlin", "20"])),
        encoding="utf-8",
    )
    assert (
        read_csv(tmp_path / "a.csv", SOURCE).text
        == "| Ward | Beds |\n| --- | --- |\n| Wren, east | 18 |\n| Dunlin | 20 |"
    )


@pytest.mark.parametrize(
    ("rows", "last"),
    [
        ("1,'tis so, now\n2,don't, please'", "| 2 | don't | please' |"),
        ('1,"two, three"\n' * 1500 + '9,"say ""yes, do"" twice"', '| 9 | say "yes, do" twice |'),
    ],
)
def test_quotes_are_those_of_the_format_whatever_the_cells_hold(tmp_path: Path, rows: str, last: str) -> None:
    (tmp_path / "a.csv").write_text(f"id,note\n{rows}\n", encoding="utf-8")
    assert read_csv(tmp_path / "a.csv", SOURCE).text.splitlines()[-1] == last


def test_long_tables_are_cut_and_the_cut_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * (MAX_ROWS + 7), encoding="utf-8")
    document = read_csv(tmp_path / "a.csv", SOURCE)
    assert document.tables[0].rows == MAX_ROWS
    assert document.notes == (f"the file: the first {MAX_ROWS} rows of {MAX_ROWS + 8} are read",)
