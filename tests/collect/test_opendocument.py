"""OpenDocument texts, presentations and spreadsheets."""

from __future__ import annotations

from pathlib import Path

import pytest
from collect_files import collect, make_zip

from fieldwise.collect.opendocument import read_presentation, read_spreadsheet, read_text_document
from fieldwise.collect.sheets import MAX_ROWS
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

SOURCE = Source(uri="a")
SPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{place}"'
    for name, place in {"office": "office:1.0", "text": "text:1.0", "table": "table:1.0", "draw": "drawing:1.0", "style": "style:1.0", "presentation": "presentation:1.0", "manifest": "manifest:1.0"}.items()
)  # fmt: skip
TYPE = "application/vnd.oasis.opendocument."
MANIFEST = f"<manifest:manifest {SPACES}><manifest:file-entry/></manifest:manifest>"


def write(path: Path, kind: str, body: str, *, styles: str = "", common: str = "", manifest: str = MANIFEST) -> Path:
    """A file of a kind with this body, styles of its own, and common ones."""
    content = f"<office:document-content {SPACES}><office:automatic-styles>{styles}</office:automatic-styles><office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    meta = f'<office:document-meta {SPACES} xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>House rules</dc:title></office:document-meta>'
    members = {"content.xml": content, "styles.xml": f"<office:document-styles {SPACES}>{common}</office:document-styles>", "meta.xml": meta, "META-INF/manifest.xml": manifest}  # fmt: skip
    return make_zip(
        path, {"mimetype": f"{TYPE}{kind}".encode()} | {name: text.encode() for name, text in members.items()}
    )


def text(path: Path, body: str, **parts: str) -> Document:
    return read_text_document(write(path / "a.odt", "text", body, **parts), SOURCE)


def p(words: str, style: str = "") -> str:
    return f'<text:p text:style-name="{style}">{words}</text:p>'


def item(inside: str) -> str:
    return f"<text:list-item>{inside}</text:list-item>"


def row(*cells: str, repeated: int = 1) -> str:
    held = "".join(f"<table:table-cell>{p(cell)}</table:table-cell>" for cell in cells)
    return f'<table:table-row table:number-rows-repeated="{repeated}">{held}</table:table-row>'


def headings(document: Document) -> list[tuple[int, str]]:
    return [(h.level, h.text) for h in document.headings]


# ---------------------------------------------------------------- texts


def test_a_text_keeps_title_headings_lists_and_tables_in_order(tmp_path: Path) -> None:
    inner = f"<text:list>{item(p('both hands'))}</text:list>"
    listed = f'<text:list text:style-name="L1">{item(p("Gel first") + inner)}{item(p("Gloves"))}</text:list>'
    table = f"<table:table><table:table-column/><table:table-header-rows>{row('Ward', 'Beds')}</table:table-header-rows>{row('Wren', '18')}</table:table>"
    body = (
        p("House rules", "P1")
        + '<text:h text:outline-level="1">Hygiene</text:h>'
        + p("Wash<text:s text:c='2'/>your<text:line-break/>hands<text:tab/><text:span>well</text:span>.")
        + listed
        + '<text:section><text:h text:outline-level="2">Beds</text:h>'
        + table
        + "</text:section>"
    )
    styles = '<style:style style:name="P1" style:parent-style-name="Title"/><text:list-style style:name="L1"><text:list-level-style-number text:level="1" style:num-format="1" style:num-suffix="."/><text:list-level-style-bullet text:level="2"/></text:list-style>'
    document = text(tmp_path, body, styles=styles)
    assert headings(document) == [(1, "House rules"), (1, "Hygiene"), (2, "Beds")]
    assert document.text == (
        "House rules\n\nHygiene\n\nWash  your\nhands well.\n\n1. Gel first\n  - both hands\n2. Gloves\n\nBeds\n\n"
        "| Ward | Beds |\n| --- | --- |\n| Wren | 18 |"
    )
    assert (document.title, document.notes) == ("House rules", ())


def test_automatic_numbers_of_headings_and_clauses_stand_before_them(tmp_path: Path) -> None:
    levels = "".join(f'<text:outline-level-style text:level="{n}" style:num-format="1" text:display-levels="{n}"/>' for n in (1, 2))  # fmt: skip
    clauses = '<text:list-style style:name="C"><text:list-level-style-number text:level="1" style:num-format="a" style:num-prefix="(" style:num-suffix=")" text:start-value="3"/></text:list-style>'
    heads = "".join(f'<text:h text:outline-level="{n}">{words}</text:h>' for n, words in ((1, "Scope"), (2, "Who"), (2, "Where"), (1, "Terms")))  # fmt: skip
    first, second = (
        f'<text:list text:style-name="C"{more}>{item(p(words))}</text:list>'
        for words, more in (("rent", ""), ("notice", ' text:continue-numbering="true"'))
    )
    common = f"<office:styles><text:outline-style>{levels}</text:outline-style>{clauses}</office:styles>"
    document = text(tmp_path, heads + first + p("and") + second, common=common)
    assert [h.text for h in document.headings] == ["1 Scope", "1.1 Who", "1.2 Where", "2 Terms"]
    assert document.text.endswith("(c) rent\n\nand\n\n(d) notice")


def test_what_is_deleted_hidden_or_beside_the_text_is_left_out_and_noted(tmp_path: Path) -> None:
    body = (
        f"<text:tracked-changes><text:changed-region>{p('deleted words')}</text:changed-region></text:tracked-changes>"
        + f"<text:table-of-content><text:index-body>{p('Contents ..... 3')}</text:index-body></text:table-of-content>"
        + p(
            f"Doors close<text:note><text:note-body>{p('a footnote')}</text:note-body></text:note> at nine<office:annotation>{p('why?')}</office:annotation>."
        )
        + f'<text:section text:display="none">{p("hidden words")}</text:section>'
        + p(
            f"Before<draw:frame><draw:text-box>{p('In a box')}<text:p><draw:custom-shape>{p('in a shape')}</draw:custom-shape></text:p></draw:text-box></draw:frame> and after"
        )
        + p("<draw:frame><draw:object/><draw:image/></draw:frame>")
    )
    document = text(tmp_path, body)
    assert document.text == "Doors close at nine.\n\nBefore and after\n\nIn a box\n\nin a shape"
    assert set(document.notes) == {
        "tables of contents and indexes are left out",
        "footnotes are left out",
        "comments are left out",
        "hidden parts are left out",
        "embedded formulas, charts and other objects are left out",
    }


# ---------------------------------------------------------------- slides and sheets


def test_slides_are_pages_with_their_titles_as_headings(tmp_path: Path) -> None:
    def frame(kind: str, inside: str) -> str:
        return f'<draw:frame presentation:class="{kind}"><draw:text-box>{inside}</draw:text-box></draw:frame>'

    def slide(title: str, rest: str = "", style: str = "") -> str:
        return f'<draw:page draw:style-name="{style}">{rest}{frame("title", p(title))}<presentation:notes>{frame("notes", p("my holiday"))}</presentation:notes></draw:page>'

    outline = frame("outline", f"<text:list>{item(p('Gel first'))}{item(p('Then gloves'))}</text:list>")
    table = f"<draw:frame><table:table>{row('Ward', 'Beds')}{row('Wren', '18')}</table:table></draw:frame>"
    grouped = f"<draw:g><draw:custom-shape>{p('Counted in May.')}</draw:custom-shape></draw:g>"
    body = slide("Hand hygiene", outline + frame("footer", p("page 1"))) + slide("Numbers", table + grouped) + slide("Old", style="gone")  # fmt: skip
    styles = (
        '<style:style style:name="gone"><style:drawing-page-properties presentation:visibility="hidden"/></style:style>'
    )
    document = read_presentation(write(tmp_path / "a.odp", "presentation", body, styles=styles), SOURCE)
    assert document.text == (
        "Hand hygiene\n\n- Gel first\n- Then gloves\n\nNumbers\n\n| Ward | Beds |\n| --- | --- |\n| Wren | 18 |\n\nCounted in May."
    )
    assert [(page.number, document.text[page.start : page.end][:7]) for page in document.pages] == [(1, "Hand hy"), (2, "Numbers")]  # fmt: skip
    assert document.notes == ("slide 3 is hidden and left out",)


def sheet(name: str, rows: str, style: str = "") -> str:
    return f'<table:table table:name="{name}" table:style-name="{style}">{rows}</table:table>'


def test_sheets_are_headings_and_tables_with_values_as_shown(tmp_path: Path) -> None:
    rows = row("Counted by the site team") + row("", repeated=2) + row("Ward", "Share") + row("Wren", "27.5 %", repeated=2) + row("", repeated=1_048_000)  # fmt: skip
    styles = '<style:style style:name="h"><style:table-properties table:display="false"/></style:style>'
    body = sheet("Beds", rows) + sheet("Private", row("salary", "1"), "h")
    document = read_spreadsheet(write(tmp_path / "a.ods", "spreadsheet", body, styles=styles), SOURCE)
    assert document.text == "Beds\n\nCounted by the site team\n\n| Ward | Share |\n| --- | --- |\n| Wren | 27.5 % |\n| Wren | 27.5 % |"  # fmt: skip
    assert document.notes == ("sheet 'Private' is hidden and left out",)


def test_cells_that_are_said_to_repeat_without_end_are_cut_and_noted(tmp_path: Path) -> None:
    wide = f'<table:table-row><table:table-cell table:number-columns-repeated="999999999">{p("x")}</table:table-cell></table:table-row>'
    body = sheet("Sheet1", wide + row("a", "b", repeated=999_999_999))
    document = read_spreadsheet(write(tmp_path / "a.ods", "spreadsheet", body), SOURCE)
    assert [(table.rows, table.columns) for table in document.tables] == [(MAX_ROWS, 100)]
    assert any("columns after the first 100 are left out" in note for note in document.notes)
    assert any(f"the first {MAX_ROWS} rows" in note for note in document.notes)


# ---------------------------------------------------------------- as files


def test_files_are_told_by_what_they_say_they_are_and_bad_ones_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    body = p("The gate is locked at nine.")
    secret = f"<manifest:manifest {SPACES}><manifest:file-entry><manifest:encryption-data/></manifest:file-entry></manifest:manifest>"
    write(folder / "good.odt", "text", body)
    write(folder / "named.docx", "text", body)
    write(folder / "secret.odt", "text", body, manifest=secret)
    write(folder / "slides.odt", "drawing", body)
    write(folder / "laughs.odt", "text", body, manifest="<!DOCTYPE m [<!ENTITY a 'ha'>]><m/>")
    make_zip(folder / "empty.odt", {"mimetype": f"{TYPE}text".encode(), "content.xml": b"<x/>"})
    result = collect(tmp_path / "run", folder)
    assert {name: document.text for name, document in result.documents.items()} == {
        "good.odt": "The gate is locked at nine.",
        "named.docx": "The gate is locked at nine.",
    }
    assert result.documents["named.docx"].notes == ("named *.docx, read as an OpenDocument text",)
    assert result.reasons == {"secret.odt": "encrypted", "slides.odt": "mislabelled", "laughs.odt": "xml_entities", "empty.odt": "broken"}  # fmt: skip


@pytest.mark.parametrize("read", [read_text_document, read_presentation, read_spreadsheet])
def test_a_file_of_another_kind_is_broken(tmp_path: Path, read: object) -> None:
    path = make_zip(tmp_path / "a.odt", {"content.xml": b"<x/>"})
    with pytest.raises(DocumentError, match="holds no document body") as caught:
        read(path, SOURCE)  # type: ignore[operator]
    assert caught.value.reason == "broken"
