"""Spans move along with the text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_files import document, raw_document

from fieldwise.prepare.edits import Edit, apply_edits
from fieldwise.records import Document, Heading, PageSpan, Source, TableSpan

TEXT = "0123456789"


def spans_after(edits: list[Edit], *spans: tuple[int, int]) -> list[str]:
    tables = tuple(TableSpan(start=a, end=b, rows=1, columns=1) for a, b in spans)
    edited = apply_edits(raw_document(TEXT).model_copy(update={"tables": tables}), edits)
    return [edited.text[t.start : t.end] for t in edited.tables]


def test_spans_before_around_and_after_an_edit_move_as_they_should() -> None:
    assert spans_after([Edit(4, 6, "---")], (0, 4), (2, 8), (6, 10)) == ["0123", "23---67", "6789"]


def test_spans_cut_by_an_edit_keep_what_is_left_of_them() -> None:
    assert spans_after([Edit(4, 6, "---")], (0, 5), (5, 10)) == ["0123", "6789"]


def test_spans_of_which_nothing_is_left_are_dropped_but_pages_stay() -> None:
    assert spans_after([Edit(3, 7, "")], (4, 6), (0, 10)) == ["012789"]
    pages = tuple(PageSpan(number=n, start=a, end=b) for n, a, b in ((1, 0, 3), (2, 3, 7), (3, 7, 10)))
    edited = apply_edits(raw_document(TEXT, pages=pages), [Edit(3, 7, "")])
    assert [(p.number, edited.text[p.start : p.end]) for p in edited.pages] == [(1, "012"), (2, ""), (3, "789")]


def test_a_heading_says_what_stands_in_its_place() -> None:
    edited = apply_edits(document("# Old name\n\nWords."), [Edit(0, 3, "New")])
    assert [(h.text, edited.text[h.start : h.end]) for h in edited.headings] == [("New name", "New name")]


@st.composite
def edited_documents(draw: st.DrawFn) -> tuple[Document, list[Edit]]:
    text = draw(st.text("abc xyz\n", min_size=1, max_size=80))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=8)))
    spans = [
        (a, b)
        for a, b in zip(cuts[::2], cuts[1::2], strict=False)
        if a < b and not text[a].isspace() and not text[b - 1].isspace()
    ]
    marks = sorted(draw(st.lists(st.integers(0, len(text)), max_size=10, unique=True)))
    edits = [Edit(a, b, draw(st.text("NEW ", max_size=4))) for a, b in zip(marks[::2], marks[1::2], strict=False)]
    headings = tuple(Heading(level=1, text=text[a:b], start=a, end=b) for a, b in spans)
    pages = tuple(PageSpan(number=n, start=a, end=b) for n, (a, b) in enumerate(spans, 1))
    return Document.make(title="t", text=text, source=Source(uri="a"), headings=headings, pages=pages), edits


@settings(max_examples=150, deadline=None)
@given(edited_documents())
def test_every_span_that_no_edit_touches_still_holds_its_text(case: tuple[Document, list[Edit]]) -> None:
    before, edits = case
    after = apply_edits(before, edits)
    kept = [after.text[h.start : h.end] for h in after.headings]
    assert kept == [h.text for h in after.headings]
    untouched = [h.text for h in before.headings if all(e.end < h.start or e.start > h.end for e in edits)]
    remaining = iter(kept)
    assert all(text in remaining for text in untouched)
    assert [p.number for p in after.pages] == [p.number for p in before.pages]
    assert all(0 <= p.start <= p.end <= len(after.text) for p in after.pages)
    assert all(a.end <= b.start for a, b in zip(after.pages, after.pages[1:], strict=False))
