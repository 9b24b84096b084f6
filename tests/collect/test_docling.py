"""PDF files by docling: what its documents become, and what is said where it or its models are missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import fieldwise
from fieldwise.collect.docling_document import to_document
from fieldwise.collect.docling_setup import LIBRARIES, MODELS, find_docling
from fieldwise.collect.extraction import ExtractionWorker, Limits
from fieldwise.collect.media import PDF
from fieldwise.collect.settings import CollectSettings, DoclingSettings
from fieldwise.errors import DocumentError, MissingExtra, ModelError
from fieldwise.extras import installed_version
from fieldwise.records import Document, Source

needs_core = pytest.mark.skipif(installed_version("docling-core") is None, reason="docling-core is not installed")
SOURCE = Source(uri="a.pdf", media_type=PDF)


# ---------------------------------------------------------------- translation, with documents of docling-core


def understood(pages: int = 3) -> Any:
    from docling_core.types.doc import DoclingDocument, Size

    document = DoclingDocument(name="a")
    for number in range(1, pages + 1):
        document.add_page(page_no=number, size=Size(width=600, height=800))
    return document


def on(page: int) -> Any:
    from docling_core.types.doc import BoundingBox, ProvenanceItem

    return ProvenanceItem(page_no=page, bbox=BoundingBox(l=0, t=0, r=9, b=9), charspan=(0, 1))


def table_of(rows: list[list[str]], spanning: tuple[int, int] | None = None) -> Any:
    from docling_core.types.doc import TableCell, TableData

    cells = [
        TableCell(
            text=text,
            start_row_offset_idx=r,
            end_row_offset_idx=r + 1,
            start_col_offset_idx=c,
            end_col_offset_idx=c + (2 if (r, c) == spanning else 1),
        )
        for r, row in enumerate(rows)
        for c, text in enumerate(row)
        if text
    ]
    return TableData(num_rows=len(rows), num_cols=max(map(len, rows)), table_cells=cells)


@needs_core
def test_headings_lists_tables_and_pages_come_out_in_reading_order() -> None:
    from docling_core.types.doc import DocItemLabel

    document = understood()
    document.add_title("Storage of insulin", prov=on(1))
    document.add_text(label=DocItemLabel.TEXT, text="Keep it cold.", prov=on(1))
    document.add_heading("In use", level=1, prov=on(1))
    steps = document.add_list_group()
    document.add_list_item("Write the date on it.", enumerated=True, marker="1.", parent=steps, prov=on(2))
    inner = document.add_list_group(parent=steps)
    document.add_list_item("in ink", enumerated=False, marker="-", parent=inner, prov=on(2))
    rows = [["Kind", "Weeks", ""], ["Vial", "6", ""], ["Pen", "4", "8"]]
    document.add_table(data=table_of(rows, spanning=(0, 1)), prov=on(2))
    document.add_heading("Details", level=2, prov=on(3))
    document.add_text(label=DocItemLabel.FOOTNOTE, text="See the label.", prov=on(3))

    read = to_document(document, SOURCE)
    assert read.title == "Storage of insulin"
    assert [(h.level, h.text) for h in read.headings] == [(1, "Storage of insulin"), (2, "In use"), (3, "Details")]
    assert all(read.text[h.start : h.end] == h.text for h in read.headings)
    assert "1. Write the date on it.\n  - in ink" in read.text
    table = read.tables[0]
    assert read.text[table.start : table.end].split("\n") == [
        "| Kind | Weeks |  |",
        "| --- | --- | --- |",
        "| Vial | 6 |  |",
        "| Pen | 4 | 8 |",
    ]
    assert [p.number for p in read.pages] == [1, 2, 3]
    assert [read.page_at(read.text.index(words)) for words in ("Keep", "Write", "Weeks", "See the")] == [1, 2, 2, 3]
    assert read.notes == ()


@needs_core
def test_headers_and_footers_of_pages_are_left_out_and_empty_pages_are_noted() -> None:
    from docling_core.types.doc import ContentLayer, DocItemLabel

    document = understood(4)
    furniture = ContentLayer.FURNITURE
    document.add_text(label=DocItemLabel.PAGE_HEADER, text="Trust policy", prov=on(1), content_layer=furniture)
    document.add_text(label=DocItemLabel.TEXT, text="First.", prov=on(1))
    document.add_picture(prov=on(2))
    document.add_text(label=DocItemLabel.TEXT, text="Third.", prov=on(3))
    read = to_document(document, SOURCE)
    assert read.text == "First.\n\nThird."
    assert [(p.number, read.text[p.start : p.end]) for p in read.pages] == [
        (1, "First."),
        (2, ""),
        (3, "Third."),
        (4, ""),
    ]
    assert read.notes == ("page 2 has no text layer", "page 4 has no text layer")


@needs_core
def test_an_item_that_goes_on_from_an_earlier_page_does_not_turn_pages_back() -> None:
    from docling_core.types.doc import DocItemLabel

    document = understood(2)
    for text, page in (("One.", 1), ("Two.", 2), ("A note of page one.", 1)):
        document.add_text(label=DocItemLabel.TEXT, text=text, prov=on(page))
    read = to_document(document, SOURCE)
    assert [p.number for p in read.pages] == [1, 2]
    assert read.text.endswith("A note of page one.")


@needs_core
def test_a_scan_is_refused_as_one() -> None:
    document = understood(2)
    document.add_picture(prov=on(1))
    with pytest.raises(DocumentError) as error:
        to_document(document, SOURCE)
    assert error.value.reason == "no_text_layer" and "2 pages" in str(error.value)


# ---------------------------------------------------------------- what is missing


def settings(**docling: object) -> CollectSettings:
    return CollectSettings(layout="docling", docling=DoclingSettings.model_validate(docling))


def models(folder: Path) -> Path:
    for name, file in MODELS.items():
        (folder / name / file).parent.mkdir(parents=True)
        (folder / name / file).write_text("{}")
    return folder


def environment(folder: Path, **versions: str) -> str:
    """An interpreter in whose environment the named libraries are installed, as far as their records tell."""
    site = folder / "site"
    for name, version in versions.items():
        record = site / f"{name.replace('-', '_')}-{version}.dist-info"
        record.mkdir(parents=True)
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{site}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return str(python)


def test_the_default_asks_for_nothing() -> None:
    assert find_docling(CollectSettings()) is None
    assert CollectSettings().keyed() == CollectSettings(docling=DoclingSettings(models="x")).keyed()


@pytest.mark.skipif(installed_version("docling") is not None, reason="docling is installed here")
def test_without_docling_it_is_said_how_to_get_it_without_harming_torch() -> None:
    with pytest.raises(MissingExtra, match=r"venv docling-env .*collect\.docling\.python"):
        find_docling(settings())


def test_an_interpreter_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"collect\.docling\.python does not start"):
        find_docling(settings(python=str(tmp_path / "none")))


def test_the_environment_must_hold_the_same_fieldwise(tmp_path: Path) -> None:
    python = environment(tmp_path, docling="2.143.0", fieldwise="0.0.1")
    with pytest.raises(MissingExtra, match=r"fieldwise .*found 0\.0\.1"):
        find_docling(settings(python=python))


def test_missing_models_are_named_with_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    python = environment(tmp_path, docling="2.143.0", fieldwise=fieldwise.__version__)
    with pytest.raises(ModelError, match=r"nothing is downloaded.*docling-tools models download"):
        find_docling(settings(python=python))
    with pytest.raises(ModelError, match="no such folder"):
        find_docling(settings(python=python, models=str(tmp_path / "models")))
    folder = models(tmp_path / "models")
    (folder / "docling-project--docling-layout-heron/config.json").unlink()
    with pytest.raises(ModelError, match=r"no docling-project--docling-layout-heron/config\.json\.") as error:
        find_docling(settings(python=python, models=str(folder)))
    assert "tm_config" not in str(error.value)


def test_other_versions_and_other_models_read_anew(tmp_path: Path) -> None:
    folder = models(tmp_path / "models")
    here = {name: "1.0" for name in LIBRARIES} | {"fieldwise": fieldwise.__version__}
    first = find_docling(settings(python=environment(tmp_path / "a", **here), models=str(folder)))
    other = find_docling(settings(python=environment(tmp_path / "b", **here | {"torch": "2.0"}), models=str(folder)))
    assert first is not None and other is not None and first.version != other.version
    (folder / "docling-project--docling-layout-heron/model.safetensors").write_bytes(b"weights")
    changed = find_docling(settings(python=first.python, models=str(folder)))
    assert changed is not None and changed.version != first.version


@pytest.mark.skipif(installed_version("docling") is not None, reason="docling is installed here")
def test_the_reading_process_of_the_other_environment_answers_for_its_files(tmp_path: Path) -> None:
    here = {"docling": "2.143.0", "fieldwise": fieldwise.__version__}
    found = find_docling(settings(python=environment(tmp_path, **here), models=str(models(tmp_path / "models"))))
    (tmp_path / "a.txt").write_text("Plain text is read as ever.")
    with ExtractionWorker(Limits(memory_mb=4096), docling=found) as worker:
        plain: Document = worker.extract(tmp_path / "a.txt", Source(uri="a.txt", media_type="text/plain"))
        assert plain.text == "Plain text is read as ever."
        with pytest.raises(MissingExtra, match="docling"):
            worker.extract(tmp_path / "a.txt", SOURCE)
        assert worker.starts == 1
