"""The report of documents: one of each kind of file and of each reason, then every count against what was made."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import html
from prepare_files import document

from fieldwise.cli import main
from fieldwise.errors import DatasetError, RunError
from fieldwise.files import read_jsonl, write_jsonl
from fieldwise.pipeline import READ_BY_PEOPLE, parts_of
from fieldwise.prepare import stage
from fieldwise.prepare.lengths import Lengths, even_edges, growing_edges
from fieldwise.prepare.report import KEPT, DocumentsReport, PersonalFound, read_report
from fieldwise.prepare.report_page import MOST_DOCUMENTS, MOST_ITEMS, page
from fieldwise.prepare.report_pictures import flow, histogram
from fieldwise.prepare.report_text import plain
from fieldwise.prepare.settings import PrepareSettings
from fieldwise.prepare.survey import origin_of, pages_without_text
from fieldwise.recipe import Recipe
from fieldwise.records import Chunk, Document, PageSpan, Rejection, Source
from fieldwise.run import Manifest, Output, RunFolder, StepRun
from fieldwise.steps import STEPS
from fieldwise.tables import read_records, write_records

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "collect"))

from collect_files import collect, lines_pdf, make_docx, picture_pdf

WARD = (
    "The nurse in charge of the ward may start isolation without asking anybody, and writes it down at once. "
    "Visitors ring at the door, wait for an answer, and wash their hands on the way in and on the way out."
)
GERMAN = "Die Pflegekraft der Station darf die Isolierung ohne Rückfrage beginnen und schreibt es sofort auf."
MAIL, IBAN = "wilbur.okonjo@example.org", "GB82 WEST 1234 5698 7654 32"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&.md".replace("/", "\u2215")
BIDI = "safe\u202efdp.md"
NOT_READ = {
    "broken.docx": "broken",
    "empty.txt": "empty",
    "locked.pdf": "encrypted",
    "outside.md": "symlink_outside",
    "picture.png": "needs_ocr",
    "scan.pdf": "no_text_layer",
}
LEFT_OUT = {
    "bank.md": "personal_data",
    "german.md": "language",
    "rules/isolation.md": "exact_duplicate",
    "spam.md": "repetition",
    "tiny.md": "too_short",
}


def mixed_files(folder: Path) -> Path:
    """Every kind of file, every way to be left out, and names that try to break out of a page."""
    (folder / "rules").mkdir(parents=True)
    texts = {
        "rules/isolation.md": f"# Isolation\n\n{WARD} Ask Dr Isolde Khatri or write to {MAIL}.",
        "rules/copy.md": f"# Isolation\n\n{WARD} Ask Dr Isolde Khatri or write to {MAIL}.",
        "rules/newer.md": f"# Isolation\n\n{WARD} Ask Dr Isolde Khatri or write to {MAIL}. Since May.",
        "german.md": GERMAN,
        "tiny.md": "Too short.",
        "spam.md": "\n\n".join([WARD] * 12),
        "bank.md": f"# Payments\n\nThe ward pays from the account {IBAN}, and keeps the receipt of every payment.",
        "empty.txt": "",
        "stock.csv": "item,room,number\ngloves,store 2,400\nmasks,store 3,900\naprons,store 4,250\n",
        "letter.eml": "Subject: Parking\nFrom: a@example.org\nTo: b@example.org\n\nThe car park behind the laundry is closed on Monday morning.\n",
        "page.html": "<html lang=en><body><h1>Kitchen</h1><p>Breakfast is served from seven until nine in the morning, on every ward.</p></body></html>",
        HOSTILE: "The porter locks the gate at ten in the evening and opens it again at six in the morning.",
        BIDI: "The laundry takes bags until noon and brings them back on the next working day, folded and counted.",
        "line\nbreak.md": "The chapel is open by day and by night, and the key hangs beside the door of the reception.",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 no archive at all")
    picture_pdf(folder / "half.pdf", pages=4, text_on=2)
    picture_pdf(folder / "scan.pdf", pages=2)
    lines_pdf(folder / "locked.pdf", ["Nobody reads this."], password="x")
    lines_pdf(folder / "guide.pdf", ["# Guide", WARD[:80]], ["# More", WARD[80:160]])
    make_docx(folder / "rota.docx", _rota)
    outside = folder.parent / "outside.md"
    outside.write_text(WARD, encoding="utf-8")
    (folder / "outside.md").symlink_to(outside)
    return folder


def _rota(file: Any) -> None:
    file.add_heading("Rota", 1)
    file.add_paragraph("Who is on call this week stands in the table below, with the number of the room.")
    table = file.add_table(rows=3, cols=2)
    for row, cells in zip(table.rows, (("Day", "Name"), ("Monday", "surgery"), ("Tuesday", "medicine")), strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text


def prepare(folder: Path, tokenizer: Path, **settings: Any) -> DocumentsReport:
    run = RunFolder(folder)
    with StepRun(run, "2_prepare", "0" * 64, 42) as step:
        facts = stage.run(PrepareSettings.model_validate(settings), step, tokenizer)
        run.publish("2_prepare", "0" * 64, {}, step.staging, facts, 0.0)
    return read_report(run)


def prepare_made(
    folder: Path, tokenizer: Path, documents: list[Document], not_read: list[Rejection] | None = None, **settings: Any
) -> DocumentsReport:
    write_records(folder / "1_documents/documents.parquet", sorted(documents, key=lambda d: d.source.uri), Document)
    write_jsonl(folder / "1_documents/rejected.jsonl", (r.model_dump(mode="json") for r in not_read or []))
    return prepare(folder, tokenizer, **settings)


MIXED = {"languages": ["en"], "personal_data": {"iban": "drop", "email": "mask"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tokenizer_path: Path) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    collect(folder / "run", mixed_files(folder / "documents"), licence="CC BY 4.0")
    prepare(folder / "run", tokenizer_path, **MIXED)
    return folder / "run"


@pytest.fixture(scope="module")
def report(run: Path) -> DocumentsReport:
    return read_report(RunFolder(run))


@pytest.fixture(scope="module")
def shown(run: Path) -> str:
    return (run / "2_chunks/report.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------- everything adds up


def test_what_was_found_is_kept_or_has_a_reason(report: DocumentsReport, run: Path) -> None:
    assert {r.item: r.reason for r in report.items_not_read} == NOT_READ
    assert {r.item: r.reason for r in report.items_left_out} == LEFT_OUT
    made = sum(1 for p in (run.parent / "documents").rglob("*") if not p.is_dir())
    assert report.found == made == report.read + sum(report.not_read.values())
    assert report.read == report.kept + sum(report.left_out.values()) == len(report.documents)
    assert report.not_read == dict.fromkeys(sorted(NOT_READ.values()), 1)
    assert report.left_out == dict.fromkeys(sorted(LEFT_OUT.values()), 1)


def test_every_count_adds_up_to_the_documents_and_chunks_on_disk(report: DocumentsReport, run: Path) -> None:
    kept = list(read_records(run / "2_chunks/documents.parquet", Document))
    chunks = list(read_records(run / "2_chunks/chunks.parquet", Chunk))
    read = list(read_records(run / "1_documents/documents.parquet", Document))
    assert (report.read, report.kept) == (len(read), len(kept))
    for groups in (report.kinds, report.languages, report.licences):
        assert (sum(g.read for g in groups), sum(g.kept for g in groups)) == (report.read, report.kept)
    assert [sum(getattr(p, n) for p in report.sources) for n in ("found", "read", "kept")] == [
        report.found, report.read, report.kept
    ]  # fmt: skip
    assert report.chunk_tokens.count == len(chunks) == sum(report.chunk_kinds.values())
    assert report.chunk_tokens.total == sum(c.tokens for c in chunks) == report.document_tokens.total
    assert report.document_tokens.count == report.kept
    for lengths in (report.document_tokens, report.chunk_tokens):
        assert sum(b.count for b in lengths.histogram) == lengths.count
    by_document = Counter(c.document_id for c in chunks)
    assert {r.id: r.chunks for r in report.documents if r.outcome == KEPT} == by_document
    assert report.tables == sum(len(d.tables) for d in read) and report.pages == sum(len(d.pages) for d in read)
    for kind in report.personal_data:
        holding = [r.personal_data[kind.kind].findings for r in report.documents if kind.kind in r.personal_data]
        assert (kind.findings, kind.documents) == (sum(holding), len(holding))
    assert Counter(r.outcome for r in report.documents) == {**report.left_out, KEPT: report.kept}


def test_what_the_documents_are_is_what_was_made(report: DocumentsReport) -> None:
    rows = {r.uri: r for r in report.documents}
    kinds = {g.name: (g.read, g.kept) for g in report.kinds}
    assert kinds == {
        "markdown": (10, 5), "pdf": (2, 2), "csv": (1, 1), "docx": (1, 1), "html": (1, 1), "mail": (1, 1)
    }  # fmt: skip
    assert {g.name for g in report.languages} >= {"en", "de"}
    assert [(g.name, g.read) for g in report.licences] == [("CC BY 4.0", report.read)]
    assert {p.name: p.found for p in report.sources} == {"": report.found - 3, "rules": 3}
    assert rows["half.pdf"].pages_without_text == {"no text layer": (1, 3, 4)}
    assert report.pages_without_text == {"no text layer": 3}
    assert {uri for uri, row in rows.items() if row.tables} == {"rota.docx", "stock.csv"}


def test_clusters_name_the_first_document_and_how_the_others_repeat_it(report: DocumentsReport) -> None:
    (cluster,) = report.clusters
    members = [(m.uri, m.outcome, m.copy_of) for m in cluster.members]
    assert members == [
        ("rules/copy.md", KEPT, None),
        ("rules/isolation.md", "exact_duplicate", "rules/copy.md"),
        ("rules/newer.md", KEPT, "rules/copy.md"),
    ]
    assert cluster.kind == "both" and cluster.members[1].similarity == 1
    assert 0.7 <= (cluster.members[2].similarity or 0) < 1
    assert (report.exact_duplicates, report.near_duplicates) == (1, 1)


def test_personal_data_stands_by_kind_and_document_and_never_as_words(report: DocumentsReport, run: Path) -> None:
    kinds = {k.kind: (k.action, k.findings, k.documents) for k in report.personal_data}
    assert kinds["email"] == ("mask", 5, 4) and kinds["iban"] == ("drop", 1, 1)
    rows = {r.uri: r for r in report.documents}
    assert rows["bank.md"].personal_data == {"iban": PersonalFound(findings=1)}
    for name in READ_BY_PEOPLE:
        text = (run / name).read_text(encoding="utf-8")
        assert not [word for word in (MAIL, IBAN, "Khatri", "Okonjo", "a@example.org") if word in text]


# ---------------------------------------------------------------- the page


class Reader(HTMLParser):
    """Opens and closes elements as written, without mending anything."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            self.ids[value or ""] += name == "id"
            if name in ("src", "href", "action", "srcset", "data", "xlink:href"):
                self.addresses.append(value or "")
            if name.startswith("on") or name == "style":
                self.faults.append(f"{tag} {name}")
        if tag not in ("meta", "input", "br", "link", "img", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")


def test_the_page_is_well_formed_and_asks_nothing_of_another_place(shown: str) -> None:
    reader = Reader(shown)
    assert reader.open == [] and reader.faults == [] and max(reader.ids.values()) == 1
    assert reader.addresses and all(a.startswith("#") for a in reader.addresses)
    assert not re.search(r"url\(|@import|https?://|<script|<img|<iframe", shown)
    assert "default-src 'none'" in shown and "script-src" not in shown


def test_tables_have_captions_and_headers_and_pictures_say_what_they_show(shown: str) -> None:
    root = html.document_fromstring(shown)
    assert root.xpath("//table") and not root.xpath("//table[not(caption)] | //th[not(@scope)]")
    assert [h.tag for h in root.xpath("//h1")] == ["h1"]
    pictures = root.xpath("//figure/svg")
    assert len(pictures) == 3 and not root.xpath("//svg[not(@role) and not(@aria-hidden)]")
    for picture in pictures:
        assert picture.get("role") == "img" and picture.get("aria-labelledby") == picture[0].get("id")
    assert [a.get("href")[1:] for a in root.xpath("//nav//a")] == root.xpath("//section/@id")


def test_the_picture_and_its_table_tell_the_numbers_of_the_report(shown: str, report: DocumentsReport) -> None:
    root = html.document_fromstring(shown)
    told = root.xpath("//*[@id='picture-flow-said']/text()")[0]
    assert told.startswith(f"From found to kept: found {report.found}; not read: broken 1; ")
    assert f"read {report.read}; left out: " in told and told.endswith(f"kept {report.kept}")
    rows = root.xpath("//section[@id='lengths']//details")[1].xpath(".//tbody/tr")
    bins = report.chunk_tokens.histogram
    assert [r[0].text for r in rows] == [f"{b.start} to {b.end - 1}" for b in bins]
    assert [r[1].text for r in rows] == [str(b.count) for b in bins]


def test_names_of_files_stay_names(shown: str, report: DocumentsReport) -> None:
    root = html.document_fromstring(shown)
    names = [e.text for e in root.xpath("//section[@id='documents']//bdi")]
    assert names == [r.uri for r in report.documents]
    assert HOSTILE in names and "line\\nbreak.md" in names
    assert not any(c in shown for c in "\u202e\x00")


def test_licences_and_searches_of_the_web_stay_words(tmp_path: Path, tokenizer_path: Path) -> None:
    source = Source(uri="https://a.example/<b>?q=1&x", media_type="text/html", licence="<b>mine</b>", query="<i>ward")
    made = document(WARD).model_copy(update={"source": source, "language": "en"})
    lost = [
        Rejection(
            stage="collect", item="https://b.example/x", reason="http_404", detail="<u>gone</u>", query="<i>ward"
        ),
        Rejection(stage="collect", item="https://b.example:81/y", reason="robots", detail="closed"),
        Rejection(stage="collect", item="sitemap: https://c.example/s.xml", reason="bad_sitemap", detail="none"),
        Rejection(stage="collect", item="nonsense", reason="bad_url", detail="none"),
    ]
    told = prepare_made(tmp_path, tokenizer_path, [made], lost)
    assert [(p.way, p.name, p.found, p.read) for p in told.sources] == [
        ("web", "b.example:81", 1, 0), ("web", "c.example", 1, 0), ("web", "not an address", 1, 0),
        ("search", "<i>ward", 2, 1),
    ]  # fmt: skip
    text = page(told)
    root = html.document_fromstring(text)
    assert not root.xpath("//i | //u") and "<b>mine" not in text
    assert root.xpath("//section[@id='kinds']//bdi[text()='<b>mine</b>']")
    assert Reader(text).faults == [] and all(a.startswith("#") for a in Reader(text).addresses)


def test_of_very_many_items_the_first_stand_on_the_page_and_the_rest_is_counted(report: DocumentsReport) -> None:
    row, lost = report.documents[0], report.items_not_read[0]
    many = report.model_copy(
        update={
            "documents": tuple(row.model_copy(update={"uri": f"{n:04}.md"}) for n in range(MOST_DOCUMENTS + 7)),
            "not_read": {"broken": MOST_ITEMS + 5},
            "items_not_read": tuple(lost.model_copy(update={"reason": "broken"}) for _ in range(MOST_ITEMS + 5)),
        }
    )
    root = html.document_fromstring(page(many))
    documents, flow_section = root.get_element_by_id("documents"), root.get_element_by_id("flow")
    assert len(documents.xpath(".//tbody/tr")) == MOST_DOCUMENTS and "7 more stand in" in documents.text_content()
    assert "5 more stand in" in flow_section.text_content()


def test_a_set_without_faults_says_so(tmp_path: Path, tokenizer_path: Path) -> None:
    told = prepare_made(tmp_path, tokenizer_path, [document(WARD)])
    text = html.document_fromstring(page(told)).text_content()
    for words in ("Everything that was found is kept", "No document repeats another", "None was found", "No table"):
        assert words in text
    assert "duplicates none found" in plain(told) and "personal   none found" in plain(told)


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_the_page_offline_without_a_fault_and_without_scrolling_sideways(
    browser: Any, run: Path, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
    opened, faults, requests = context.new_page(), [], []
    opened.on("console", lambda message: faults.append(message.text))
    opened.on("request", lambda request: requests.append(request.url))
    file = run / "2_chunks/report.html"
    opened.goto(file.as_uri())
    assert opened.title() == "Report of documents"
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert opened.evaluate("getComputedStyle(document.querySelector('svg .whole')).fill") == "rgb(13, 92, 88)"
    assert faults == [] and requests == [file.as_uri()]
    context.close()


# ---------------------------------------------------------------- figures by themselves


@given(st.lists(st.integers(0, 300_000), max_size=60), st.booleans())
def test_every_length_stands_in_one_bin(lengths: list[int], by_ratio: bool) -> None:
    told = Lengths.of(lengths, by_ratio=by_ratio)
    assert (told.count, told.total) == (len(lengths), sum(lengths))
    assert sum(b.count for b in told.histogram) == len(lengths)
    assert all(a.end == b.start for a, b in zip(told.histogram, told.histogram[1:], strict=False))
    for b in told.histogram:
        assert b.count == sum(b.start <= n < b.end for n in lengths)
    if lengths:
        assert told.histogram[0].start <= told.smallest <= told.p5 <= told.p50 <= told.p95 <= told.largest
        assert told.largest < told.histogram[-1].end


def test_percentiles_are_nearest_ranks() -> None:
    told = Lengths.of(range(1, 101))
    assert (told.p5, told.p50, told.p95) == (5, 50, 95)
    assert (Lengths.of([7, 7, 900]).p50, Lengths.of([3]).p95, Lengths.of([]).largest) == (7, 3, 0)


@pytest.mark.parametrize(("largest", "bins"), [(0, 1), (9, 10), (11, 12), (12, 7), (219, 11), (240, 5), (5000, 11)])
def test_borders_of_even_bins_are_round_and_few(largest: int, bins: int) -> None:
    edges = even_edges(largest)
    assert len(edges) - 1 == bins and edges[-2] <= largest < edges[-1]


@pytest.mark.parametrize(
    ("smallest", "largest", "edges"),
    [(0, 0, [0, 10]), (9, 10, [0, 10, 20]), (10, 19, [10, 20]), (700, 5000, [500, 1000, 2000, 5000, 10000])],
)
def test_borders_of_growing_bins_begin_where_the_lengths_do(smallest: int, largest: int, edges: list[int]) -> None:
    assert growing_edges(smallest, largest) == edges


@pytest.mark.parametrize(
    ("uri", "query", "reason", "origin"),
    [
        ("a.md", None, "", ("folder", "")),
        ("one/two/a.md", None, "", ("folder", "one")),
        ("HTTPS://a.example:8443/x", None, "", ("web", "a.example:8443")),
        ("https://[half/x", None, "", ("web", "not an address")),
        ("search: ward rules", "ward rules", "no_results", ("search", "ward rules")),
        ("htp:/x", None, "bad_url", ("web", "not an address")),
    ],
)
def test_where_something_came_from(uri: str, query: str | None, reason: str, origin: tuple[str, str]) -> None:
    assert origin_of(uri, query, reason) == origin


def test_pages_without_text_are_those_the_reader_noted_and_those_that_are_blank() -> None:
    spans = tuple(PageSpan(number=n, start=s, end=e) for n, s, e in ((1, 0, 4), (2, 4, 4), (3, 4, 4), (4, 4, 6)))
    notes = ("page 3 has no text layer", "page 9 is damaged and left out", "sheet 'page 4' is hidden and left out")
    made = Document.make(title="t", text="Text\n ", source=Source(uri="a.pdf"), pages=spans, notes=notes)
    assert pages_without_text(made) == {"blank": (2, 4), "damaged": (9,), "no text layer": (3,)}


def test_of_many_reasons_the_picture_names_the_most_frequent() -> None:
    reasons = {f"reason_{n:02}": 20 - n for n in range(15)}
    told = flow("p", 1000, reasons, {})
    assert "not read: 8 other reasons 76" in told and told.count("− ") == 8
    assert f"read {1000 - sum(reasons.values())}" in told


def test_an_empty_histogram_is_a_picture_as_well() -> None:
    assert Reader(histogram("p", "None", ())).faults == []


# ---------------------------------------------------------------- files, keys, command line


def test_two_runs_give_the_same_bytes_whatever_the_folder(run: Path, tmp_path: Path, tokenizer_path: Path) -> None:
    shutil.copytree(run.parent / "documents", tmp_path / "documents", symlinks=True)
    collect(tmp_path / "run", tmp_path / "documents", licence="CC BY 4.0")
    for _ in range(2):  # the second time from what is remembered, as after a kill
        prepare(tmp_path / "run", tokenizer_path, **MIXED)
        for name in READ_BY_PEOPLE:
            assert (run / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_another_look_of_the_report_leaves_the_keys_of_later_steps(tmp_path: Path) -> None:
    run, later = RunFolder(tmp_path), next(s for s in STEPS if s.number == "2i")

    def key(**outputs: str) -> Any:
        made = {f"2_chunks/{name.replace('_', '.')}": Output(content, 1) for name, content in outputs.items()}
        run.manifests.mkdir(exist_ok=True)
        manifest = Manifest("2_prepare", "k", {}, made, {}, 0.0)
        (run.manifests / "2_prepare.json").write_text(json.dumps(manifest.to_json()))
        parts = parts_of(later, Recipe(), run)
        return parts and parts["inputs"]

    first = key(chunks_parquet="a", report_json="b", report_html="c")
    assert first == key(chunks_parquet="a", report_json="B", report_html="C")
    assert first != key(chunks_parquet="A", report_json="b", report_html="c")


def test_the_list_of_what_was_not_read_is_needed(tmp_path: Path, tokenizer_path: Path) -> None:
    write_records(tmp_path / "1_documents/documents.parquet", [document(WARD)], Document)
    with pytest.raises(DatasetError, match="fieldwise collect"):
        prepare(tmp_path, tokenizer_path)


@pytest.fixture
def named(run: Path) -> Path:
    """The run as the command line knows it: by its recipe."""
    (run / "recipe.yaml").touch()
    return run


def test_documents_prints_the_report_and_where_its_page_is(
    named: Path, report: DocumentsReport, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["documents", "--run", str(named)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"documents  {report.found} found, 6 not read, 5 left out, {report.kept} kept"
    assert told[-1] == f"Report:     {named / '2_chunks/report.html'}"
    assert "pages      6; without text no text layer 3 in 1 document" in told
    assert "duplicates 1 exact, 1 near, in 1 cluster" in told


def test_documents_as_json_is_the_file(named: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["documents", "--run", str(named), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((named / "2_chunks/report.json").read_text("utf-8"))


def test_a_run_without_a_report_says_how_to_make_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["documents", "--run", str(tmp_path)]) == 2
    assert "no run stands here" in capsys.readouterr().err
    (tmp_path / "recipe.yaml").touch()
    assert main(["documents", "--run", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert "2_chunks/report.json: the file is not there" in told.err and "fieldwise prepare --run" in told.err
    assert told.out == ""


@pytest.mark.parametrize("content", ['{"found": 1}', '{"documents_sha256": []}'])
def test_a_report_of_another_shape_is_told_with_its_place(tmp_path: Path, content: str) -> None:
    (tmp_path / "2_chunks").mkdir()
    (tmp_path / "2_chunks/report.json").write_text(content)
    with pytest.raises(RunError, match=r"documents_sha256: .*fieldwise prepare"):
        read_report(RunFolder(tmp_path))


def test_names_cannot_steer_the_terminal(tmp_path: Path, tokenizer_path: Path) -> None:
    made = document(WARD)
    source = made.source.model_copy(update={"licence": "free\x1b[31m\u202eeerf"})
    told = plain(prepare_made(tmp_path, tokenizer_path, [made.model_copy(update={"source": source})]))
    assert "free\\x1b[31m\\x202eeerf 1" in told


def test_rejections_of_collect_keep_their_shape_unless_a_search_named_them(run: Path) -> None:
    assert all(set(r) == {"stage", "item", "reason", "detail"} for r in read_jsonl(run / "1_documents/rejected.jsonl"))
    assert Rejection(stage="s", item="i", reason="r", query="q").model_dump()["query"] == "q"
