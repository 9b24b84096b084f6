"""PDF files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from collect_files import LEFT, TOP, lines_pdf, make_pdf, picture_pdf
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from fieldwise.collect.ocr import Recognised
from fieldwise.collect.pdf import Scans, read_pdf
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

SOURCE = Source(uri="a.pdf")
PROSE = "The night nurse checks the fridge and writes the reading into the book on the shelf"


def read(path: Path) -> Document:
    return read_pdf(path, SOURCE)


def headings(document: Document) -> list[tuple[int, str]]:
    return [(h.level, h.text) for h in document.headings]


def test_text_pages_and_headings_stand_where_their_spans_say(tmp_path: Path) -> None:
    document = read(
        lines_pdf(
            tmp_path / "a.pdf",
            ["# Storage rules", PROSE + ".", PROSE + "."],
            ["# Opening hours", PROSE + "."],
            title="Pharmacy handbook",
        )
    )
    assert document.title == "Pharmacy handbook"
    assert headings(document) == [(1, "Storage rules"), (1, "Opening hours")]
    assert all(document.text[h.start : h.end] == h.text for h in document.headings)
    assert [document.text[p.start : p.end].split("\n")[0] for p in document.pages] == ["Storage rules", "Opening hours"]


def test_a_title_that_a_program_put_there_gives_way_to_the_first_heading(tmp_path: Path) -> None:
    assert (
        read(lines_pdf(tmp_path / "a.pdf", ["# Storage rules", PROSE], title="Microsoft Word - final_v3.doc")).title
        == "Storage rules"
    )


def test_bold_lines_and_numbered_lines_are_headings(tmp_path: Path) -> None:
    def bold(canvas: Canvas) -> None:
        for n, (font, line) in enumerate(
            [
                ("Helvetica-Bold", "Who may enter"),
                ("Helvetica", PROSE + "."),
                ("Helvetica", PROSE + "."),
                ("Helvetica-Bold", "When to leave"),
                ("Helvetica", PROSE + "."),
            ]
        ):
            canvas.setFont(font, 10)
            canvas.drawString(LEFT, TOP - 14 * n, line)

    assert headings(read(make_pdf(tmp_path / "a.pdf", bold))) == [(1, "Who may enter"), (1, "When to leave")]
    numbered = read(
        lines_pdf(
            tmp_path / "b.pdf",
            ["Item 1A. Risk Factors", "", PROSE + ".", "", "2.3 Storage of samples", "", PROSE + "."],
        )
    )
    assert headings(numbered) == [(2, "Item 1A. Risk Factors"), (3, "2.3 Storage of samples")]


def test_a_header_is_no_heading_wherever_its_lines_stand_apart(tmp_path: Path) -> None:
    usual = ["HOUSE RULES", "EDITION 2", "", PROSE + ".", PROSE + "."]
    document = read(lines_pdf(tmp_path / "a.pdf", usual, usual, ["HOUSE RULES", "", *usual[1:]], usual))
    assert headings(document) == []


def test_text_that_stands_on_its_head_is_read_in_order(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.setPageRotation(180)
        canvas.translate(*A4)
        canvas.rotate(180)
        for n, line in enumerate([PROSE, "where it stays until the morning."]):
            canvas.drawString(LEFT, TOP - 14 * n, line)

    assert read(make_pdf(tmp_path / "a.pdf", draw)).text == f"{PROSE}\nwhere it stays until the morning."


def test_a_form_is_noted(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.drawString(LEFT, TOP, PROSE)
        canvas.acroForm.textfield(value="Ada", x=LEFT, y=TOP - 60, width=200, height=20)

    assert read(make_pdf(tmp_path / "a.pdf", draw)).notes == ("what is filled into form fields is left out",)


def test_bullets_are_list_items_and_gaps_part_paragraphs(tmp_path: Path) -> None:
    document = read(
        lines_pdf(tmp_path / "a.pdf", ["Bring along:", "• a torch", "• two pens", "", "Then sign the book."])
    )
    assert document.text == "Bring along:\n- a torch\n- two pens\n\nThen sign the book."


def test_a_ruled_table_becomes_markdown_in_its_place(tmp_path: Path) -> None:
    cells = [["Drug", "Keep in"], ["Insulin", "Fridge, 2 to 8 °C"], ["Aspirin", "Cupboard A"]]

    def draw(canvas: Canvas) -> None:
        canvas.setFont("Helvetica", 10)
        canvas.drawString(LEFT, TOP, "Where drugs are kept:")
        for r, row in enumerate(cells):
            for c, cell in enumerate(row):
                canvas.drawString(LEFT + 5 + 150 * c, TOP - 35 - 20 * r, cell)
        canvas.grid([LEFT, LEFT + 150, LEFT + 300], [TOP - 20 - 20 * n for n in range(4)])
        canvas.drawString(LEFT, TOP - 110, "Ask the pharmacist if in doubt.")

    document = read(make_pdf(tmp_path / "a.pdf", draw))
    table = "| Drug | Keep in |\n| --- | --- |\n| Insulin | Fridge, 2 to 8 °C |\n| Aspirin | Cupboard A |"
    assert document.text == f"Where drugs are kept:\n\n{table}\n\nAsk the pharmacist if in doubt."
    assert [(document.text[t.start : t.end], t.rows, t.columns) for t in document.tables] == [(table, 3, 2)]


def test_after_a_great_many_lines_the_tables_that_follow_are_left_as_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(canvas: Canvas) -> None:
        for page in range(3):
            canvas.grid([LEFT, LEFT + 150, LEFT + 300], [TOP + 15 - 20 * n for n in range(3)])
            for n, text in enumerate(["Ward", "Beds", f"Wren {page}", "eighteen"]):
                canvas.drawString(LEFT + 5 + 150 * (n % 2), TOP - 20 * (n // 2), text)
            if page < 2:
                canvas.showPage()

    monkeypatch.setattr("fieldwise.collect.pdf_tables.MAX_EDGES", 12)
    document = read(make_pdf(tmp_path / "a.pdf", draw))
    assert len(document.tables) == 2
    assert document.text.endswith("Wren 2 eighteen")
    assert document.notes == ("tables of page 3 are left as lines",)


def test_aligned_figures_without_rules_are_a_table(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.setFont("Helvetica", 10)
        for r, row in enumerate(
            [("Year", "Beds", "Staff"), ("2021", "310", "1,204"), ("2022", "315", "1,230"), ("2023", "322", "1,251")]
        ):
            for c, cell in enumerate(row):
                canvas.drawString(LEFT + 100 * c, TOP - 14 * r, cell)

    assert read(make_pdf(tmp_path / "a.pdf", draw)).text.splitlines()[2] == "| 2021 | 310 | 1,204 |"


def test_a_frame_around_text_is_no_table(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.drawString(LEFT + 5, TOP, "Do not use the lift in a fire.")
        for n in range(5):
            canvas.rect(LEFT - n, TOP - 10 - n, 300 + 2 * n, 30 + 2 * n)

    document = read(make_pdf(tmp_path / "a.pdf", draw))
    assert (document.text, document.tables) == ("Do not use the lift in a fire.", ())


def test_two_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.setFont("Helvetica", 10)
        canvas.drawString(
            LEFT, TOP, "A line that runs across both columns of this page from the left to the right side"
        )
        for n in range(12):  # drawn row by row, as some programs write columns
            canvas.drawString(LEFT, TOP - 30 - 13 * n, f"left {n} holds words enough to be prose")
            canvas.drawString(LEFT + 260, TOP - 30 - 13 * n, f"right {n} holds words enough to be prose")

    words = read(make_pdf(tmp_path / "a.pdf", draw)).text.split()
    numbers = [
        (word, words[n + 1]) for n, word in enumerate(words) if word in ("left", "right") and words[n + 1].isdigit()
    ]
    assert numbers == [(side, str(n)) for side in ("left", "right") for n in range(12)]


def test_a_mark_of_a_footnote_stays_in_its_line(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.setFont("Helvetica", 10)
        canvas.drawString(LEFT, TOP, "Visits end at eight")
        end = LEFT + canvas.stringWidth("Visits end at eight", "Helvetica", 10)
        canvas.setFont("Helvetica", 6)
        canvas.drawString(end, TOP + 5, "1")
        canvas.setFont("Helvetica", 10)
        canvas.drawString(end + 8, TOP, "unless a child is ill.")

    assert read(make_pdf(tmp_path / "a.pdf", draw)).text == "Visits end at eight1 unless a child is ill."


def test_a_page_that_is_a_picture_is_noted_and_the_others_are_read(tmp_path: Path) -> None:
    document = read(picture_pdf(tmp_path / "a.pdf", pages=3, text_on=2))
    assert document.notes == (
        "page 1 has no text layer",
        "page 3 has no text layer",
        "pages without text are read with fieldwise[ocr] installed and collect.ocr at auto",
    )
    assert [(p.number, p.end > p.start) for p in document.pages] == [(1, False), (2, True), (3, False)]


def refusal(path: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        read(path)
    assert caught.value.fix
    return caught.value.reason


def test_a_scan_without_any_text_is_refused_with_the_extra_that_reads_it(tmp_path: Path) -> None:
    assert refusal(picture_pdf(tmp_path / "a.pdf", pages=2)) == "no_text_layer"
    with pytest.raises(DocumentError, match=r"pip install 'fieldwise\[ocr\]'"):
        read(tmp_path / "a.pdf")


def test_recognition_passes_over_empty_pages_and_is_given_up_where_it_finds_nothing(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.drawString(LEFT, TOP, "This page has a text layer of its own, long enough to count.")
        for number in range(240):
            canvas.showPage()
            if number % 2:
                canvas.rect(100, 100, 200, 200)

    looked_at: list[float] = []

    def nothing(page: Any) -> Recognised:
        looked_at.append(page.get_width())
        return Recognised([], 100, 0.0, False)

    scans = Scans(nothing, lambda *_: None, lambda *_: None)
    document = read_pdf(make_pdf(tmp_path / "a.pdf", draw), Source(uri="a.pdf"), scans)
    assert (len(looked_at), len(document.pages)) == (100, 241)
    assert "OCR finds no text on so many pages that those after 201 are left out of it" in document.notes
    assert {"page 2 has no text layer", "page 241 has no text layer"} <= set(document.notes)
    assert "OCR finds no text on page 2" not in document.notes


def test_a_file_under_a_password_is_refused(tmp_path: Path) -> None:
    assert refusal(lines_pdf(tmp_path / "a.pdf", [PROSE], password="sesame")) == "encrypted"


@pytest.mark.parametrize(
    "content", [b"%PDF-1.7\nnothing else", b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>"]
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    assert refusal(tmp_path / "a.pdf") == "broken"


def test_a_truncated_file_is_read_as_far_as_it_goes_or_refused(tmp_path: Path) -> None:
    whole = lines_pdf(tmp_path / "a.pdf", [PROSE], [PROSE]).read_bytes()
    (tmp_path / "b.pdf").write_bytes(whole[: len(whole) // 2])
    try:
        assert read(tmp_path / "b.pdf").text.startswith("The night nurse")
    except DocumentError as error:
        assert error.reason in ("broken", "no_text_layer")
