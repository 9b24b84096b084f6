"""Scanned pages and pictures, read by the real recogniser."""

from __future__ import annotations

import importlib.metadata
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collect_files import LEFT, TOP, Collected, collect, lines_pdf, make_pdf, picture_pdf
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from fieldwise.collect.extraction import ExtractionWorker, Limits
from fieldwise.collect.readers import OCR_READERS, READERS, ocr_versions
from fieldwise.collect.settings import CollectSettings
from fieldwise.errors import DocumentError, MissingExtra
from fieldwise.recipe import load_recipe
from fieldwise.records import Source

pytest.importorskip("rapidocr")
RULES = ["# Storage of linen", "", "Clean linen is kept in the blue cupboard on the second floor.", "Bags weigh 12 kg at most.", "", "Ring 4885 to book the ladder team."]  # fmt: skip


def rendered(lines: list[str], height: int = 400) -> Any:
    """The top of a page with these lines, as a scanner would see it."""
    import pypdfium2

    file = pypdfium2.PdfDocument(io.BytesIO(_pdf_bytes(lines)))
    picture = file[0].render(scale=2).to_pil().convert("RGB")
    return picture.crop((0, 0, picture.width, height))


def _pdf_bytes(lines: list[str]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return lines_pdf(Path(folder) / "a.pdf", lines).read_bytes()


def scan_pdf(path: Path, *pictures: Any, first: Callable[[Canvas], None] | None = None) -> Path:
    """A PDF of pictures, a page with text before them if one is drawn."""

    def draw(canvas: Canvas) -> None:
        if first is not None:
            first(canvas)
            canvas.showPage()
        for number, picture in enumerate(pictures):
            if number:
                canvas.showPage()
            size = picture.width / 4, picture.height / 4  # so small that the pages are read quickly
            canvas.setPageSize(size)
            canvas.drawImage(ImageReader(picture), 0, 0, *size)

    return make_pdf(path, draw)


def typed(canvas: Canvas) -> None:
    canvas.drawString(LEFT, TOP, "This page has a text layer of its own, long enough to count.")


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    from PIL import Image

    folder = tmp_path_factory.mktemp("scans")
    page = rendered(RULES)
    empty = Image.new("RGB", (600, 400), "white")
    coarse = page.resize((int(page.width / 4.6), int(page.height / 4.6)), Image.Resampling.BILINEAR).resize(page.size)
    scan_pdf(folder / "mixed.pdf", page, empty, first=typed)
    scan_pdf(folder / "coarse.pdf", page, coarse)
    page.rotate(180).save(folder / "upside-down.jpg", quality=90)
    page.rotate(90, expand=True).save(folder / "sideways.png")
    clear = page.convert("L").point(lambda value: 255 - value)
    ink = Image.new("RGBA", page.size, (0, 0, 0, 0))
    ink.putalpha(clear)
    ink.save(folder / "transparent.png")
    page.convert("1").save(folder / "fax.tiff", save_all=True, append_images=[empty.convert("1"), page.convert("1")])
    empty.save(folder / "empty.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    picture_pdf(folder / "grey.pdf")
    return collect(tmp_path_factory.mktemp("run"), folder, ocr="on")


def test_pages_with_and_without_a_text_layer_stand_in_one_document(collected: Collected) -> None:
    document = collected.documents["mixed.pdf"]
    first, second, third = document.pages
    assert document.text[first.start : first.end].startswith("This page has a text layer")
    assert document.text[second.start : second.end] == "Storage of linen\n\nClean linen is kept in the blue cupboard on the second floor.\nBags weigh 12 kg at most.\n\nRing 4885 to book the ladder team."  # fmt: skip
    assert third.start == third.end
    assert (first.confidence, third.confidence) == (None, None)
    assert second.confidence is not None and 0.9 < second.confidence <= 1
    assert document.headings == ()
    assert document.notes == (
        "OCR finds no text on page 3",
        "page 3 has no text layer",
        f"page 2 was read by OCR, mean confidence {second.confidence:.2f}",
    )
    assert collected.provenance["mixed.pdf"]["ocr"] == {"pages": [2], "confidence": second.confidence, "low_confidence_pages": []}  # fmt: skip


@pytest.mark.parametrize("name", ["upside-down.jpg", "sideways.png", "transparent.png"])
def test_pictures_are_read_whichever_way_they_lie(collected: Collected, name: str) -> None:
    document = collected.documents[name]
    assert "Clean linen is kept in the blue cupboard on the second floor." in document.text
    assert document.text.index("Storage") < document.text.index("cupboard") < document.text.index("4885")
    assert (document.pages[0].number, document.pages[0].end) == (1, len(document.text))
    assert document.source.media_type == ("image/jpeg" if name.endswith("jpg") else "image/png")
    assert collected.provenance[name]["reader"] == "image"


def test_each_picture_of_a_tiff_file_is_a_page(collected: Collected) -> None:
    document = collected.documents["fax.tiff"]
    assert [(p.number, p.end > p.start, p.confidence is not None) for p in document.pages] == [(1, True, True), (2, False, False), (3, True, True)]  # fmt: skip
    assert "OCR finds no text on page 2" in document.notes
    assert document.title == "Fax"


def test_pages_that_read_badly_are_listed(collected: Collected) -> None:
    found = collected.provenance["coarse.pdf"]
    assert found["ocr"]["pages"] == [1, 2]
    assert found["ocr"]["low_confidence_pages"] == [2]
    assert any(warning.startswith("OCR is unsure of page 2 (0.") for warning in found["warnings"])


def test_the_facts_count_pages_read_and_pages_to_check(collected: Collected) -> None:
    facts = collected.facts
    assert (facts["pages_read_by_ocr"], facts["pages_of_low_confidence"], facts["pages_without_text"]) == (8, 1, 1)
    assert facts["types"] == {"image": 4, "pdf": 2}


def test_pictures_without_text_and_broken_ones_are_refused(collected: Collected) -> None:
    assert collected.reasons == {"empty.png": "no_text", "broken.png": "broken", "grey.pdf": "no_text"}


def test_a_picture_of_many_pixels_is_read_within_the_limits_and_too_little_memory_is_said(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    page = rendered(RULES, 700)
    page.resize((9000, 9000 * page.height // page.width)).save(path, quality=60)
    with ExtractionWorker(Limits(), ocr=True) as worker:
        assert "blue cupboard" in worker.extract(path, Source(uri="x", media_type="image/jpeg")).text
    for memory_mb in (400, 1000):
        with ExtractionWorker(Limits(memory_mb=memory_mb), ocr=True) as worker, pytest.raises(DocumentError) as caught:
            worker.extract(path, Source(uri="x", media_type="image/jpeg"))
        assert caught.value.reason == "out_of_memory"


# ---------------------------------------------------------------- with and without


def test_off_and_not_installed_leave_scans_alone_and_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("Plain words.", encoding="utf-8")
    picture_pdf(folder / "scan.pdf")
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    off = collect(tmp_path / "off", folder)
    monkeypatch.setattr("fieldwise.collect.readers.installed_version", lambda name: None)
    missing = collect(tmp_path / "missing", folder, ocr="auto")
    for result in (off, missing):
        assert result.reasons == {"scan.pdf": "no_text_layer", "photo.png": "needs_ocr"}
        assert all("pip install 'fieldwise[ocr]'" in row["detail"] for row in result.rejected.values())
    with pytest.raises(MissingExtra, match=r"collect\.ocr is on, and the library 'rapidocr' is needed"):
        collect(tmp_path / "on", folder, ocr="on")


def test_what_was_remembered_without_recognition_is_read_again_with_it(tmp_path: Path) -> None:
    scan_pdf(tmp_path / "docs.pdf", rendered(RULES[:3], 320))
    (tmp_path / "a.txt").write_text("Plain words.", encoding="utf-8")
    named = (tmp_path / "docs.pdf", tmp_path / "a.txt")
    assert collect(tmp_path / "run", *named).reasons == {"docs.pdf": "no_text_layer"}
    assert "blue cupboard" in collect(tmp_path / "run", *named, ocr="auto").documents["docs.pdf"].text


def test_auto_means_where_it_is_installed_and_enters_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ocr_versions("auto") == ocr_versions("on") == {name: importlib.metadata.version(name) for name in ("rapidocr", "onnxruntime")}  # fmt: skip
    assert ocr_versions("off") is None
    assert OCR_READERS["application/pdf"].version() != READERS["application/pdf"].version()
    monkeypatch.setattr("fieldwise.collect.readers.installed_version", lambda name: None)
    assert ocr_versions("auto") is None


@pytest.mark.parametrize(("written", "read"), [("on", "on"), ("off", "off"), ("auto", "auto"), ("'off'", "off")])
def test_on_and_off_may_be_written_as_yaml_reads_them(tmp_path: Path, written: str, read: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"collect: {{sources: [docs], ocr: {written}}}", encoding="utf-8")
    recipe = load_recipe(path)
    assert recipe.collect.ocr == read
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_the_setting_alone_does_not_change_the_key() -> None:
    assert CollectSettings(ocr="on").keyed() == CollectSettings(ocr="auto").keyed()


def test_the_demo_says_what_it_wants_whatever_is_installed() -> None:
    assert load_recipe(Path(__file__).parents[2] / "recipes/quickstart.yaml").collect.ocr == "off"


def test_the_models_come_with_the_wheel_and_no_window_system_is_needed() -> None:
    script = """
import socket, sys
def refuse(*arguments): raise AssertionError("the network is used")
socket.socket.connect = socket.getaddrinfo = refuse
from PIL import Image
from fieldwise.collect.ocr import recognise
assert recognise(Image.new("RGB", (400, 200), "white")).chars == 0
libraries = open("/proc/self/maps").read()
assert "libGL" not in libraries and "libX11" not in libraries and "libQt" not in libraries, libraries
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
