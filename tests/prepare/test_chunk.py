"""Cutting documents into chunks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_files import count_words, document, raw_document, tokens_of

from fieldwise.prepare.chunk import chunk_document
from fieldwise.prepare.sentences import split_sentences
from fieldwise.prepare.settings import ChunkSettings
from fieldwise.records import Chunk, Document

SIZES = ChunkSettings(min_tokens=5, target_tokens=20, max_tokens=32)


def chunks_of(source: Document | str, sizes: ChunkSettings = SIZES) -> list[Chunk]:
    return chunk_document(document(source) if isinstance(source, str) else source, sizes, tokens_of(count_words))


def words(n: int, stem: str = "w") -> str:
    return " ".join(f"{stem}{i}" for i in range(n))


def test_a_heading_belongs_to_the_chunk_that_follows_it_and_names_its_path() -> None:
    chunks = chunks_of(
        f"# Rules\n\n{words(8)}.\n\n## Visits\n\n{words(9)}.\n\n### Children\n\n{words(10)}.\n\n## Keys\n\n{words(7)}."
    )
    assert [c.text.split("\n")[0] for c in chunks] == ["Rules", "Visits", "Children", "Keys"]
    assert [c.heading_path for c in chunks] == [
        ("Rules",),
        ("Rules", "Visits"),
        ("Rules", "Visits", "Children"),
        ("Rules", "Keys"),
    ]
    assert [c.tokens for c in chunks] == [9, 10, 11, 8]


def test_headings_that_follow_each_other_open_one_chunk() -> None:
    chunks = chunks_of(f"# Rules\n\n## Visits\n\n{words(9)}.\n\n## Last words")
    assert [c.text.split("\n\n")[:2] for c in chunks] == [["Rules", "Visits"]]
    assert chunks[0].text.endswith("Last words")
    assert chunks_of(f"# Rules\n\n## Visits\n\n{words(9)}.")[0].heading_path == ("Rules", "Visits")


def test_sections_too_small_to_stand_alone_join_their_neighbour_under_the_same_parent() -> None:
    chunks = chunks_of(
        f"# Rules\n\n## A\n\n{words(2)}\n\n## B\n\n{words(8)}\n\n# Other\n\n{words(2)}\n\n# Third\n\n{words(9)}"
    )
    assert [(c.text.split("\n")[0], c.heading_path) for c in chunks] == [("Rules", ("Rules",)), ("Other", ())]


def test_a_small_section_does_not_join_across_parents() -> None:
    chunks = chunks_of(f"# One\n\n## A\n\n{words(8)}\n\n# Two\n\n## B\n\n{words(2)}\n\n# Three\n\n## C\n\n{words(8)}")
    assert [c.heading_path for c in chunks] == [("One", "A"), ("Two", "B"), ("Three", "C")]


def test_the_words_between_a_heading_and_its_first_part_go_with_that_part() -> None:
    assert [c.heading_path for c in chunks_of(f"# Rules\n\n{words(2)}\n\n## A\n\n{words(9)}")] == [("Rules", "A")]


def test_paragraphs_are_gathered_up_to_the_target_and_kept_whole() -> None:
    chunks = chunks_of("\n\n".join(f"{words(9, stem)}." for stem in "abcd") + f"\n\n{words(30, 'e')}.")
    assert [c.tokens for c in chunks] == [18, 18, 30]
    assert chunks[0].text.count("\n\n") == 1


def test_a_small_last_paragraph_joins_the_chunk_before_it() -> None:
    assert [c.tokens for c in chunks_of(f"{words(20)}.\n\n{words(3)}.")] == [23]


def test_a_list_stays_with_the_words_that_lead_to_it() -> None:
    items = "\n".join(f"- {words(5, s)}" for s in "abc")
    chunks = chunks_of(f"{words(16)}.\n\nBring these things:\n\n{items}")
    assert [c.text.split()[0] for c in chunks] == ["w0", "Bring"]
    assert chunks[1].text.endswith("c4")


def test_a_long_list_is_cut_between_items_and_its_lead_stays_with_the_first() -> None:
    items = "\n".join(f"- {words(9, s)}" for s in "abcdef")
    chunks = chunks_of(f"Bring these things:\n{items}")
    assert chunks[0].text.startswith("Bring these things:\n- a0")
    assert all(c.text.startswith(("Bring", "- ")) and c.text.endswith("8") for c in chunks)


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    chunks = chunks_of(" ".join(f"{words(8, s).capitalize()}." for s in "abcdefg"))
    assert all(c.text[0].isupper() and c.text.endswith(".") and c.tokens <= 20 for c in chunks)


def test_a_long_sentence_is_cut_between_words_and_a_long_word_anywhere() -> None:
    chunks = chunks_of(words(100))
    assert all(c.tokens <= 32 for c in chunks)
    letters = chunk_document(raw_document("x" * 1000), SIZES, tokens_of(len))
    assert "".join(c.text for c in letters) == "x" * 1000
    assert all(c.tokens <= 32 for c in letters)


TABLE = "| Drug | Keep in |\n| --- | --- |\n" + "\n".join(f"| drug{n} | shelf number {n} |" for n in range(8))


def test_a_table_that_fits_is_one_chunk_of_its_kind() -> None:
    chunks = chunks_of(
        f"{words(9)}.\n\n{TABLE}\n\n{words(9)}.", ChunkSettings(min_tokens=5, target_tokens=80, max_tokens=120)
    )
    assert [(c.kind, c.text.startswith("|")) for c in chunks] == [("text", False), ("table", True), ("text", False)]


def test_a_large_table_is_cut_between_rows_with_the_header_in_the_first_chunk() -> None:
    chunks = chunks_of(f"# Store\n\nWhere things are:\n\n{TABLE}")
    assert chunks[0].text.startswith("Store\n\nWhere things are:\n\n| Drug |")
    assert all(c.kind == "table" and c.heading_path == ("Store",) for c in chunks)
    assert "\n".join(c.text for c in chunks).endswith(TABLE)
    assert all(line.startswith("|") and line.endswith("|") for c in chunks[1:] for line in c.text.split("\n"))


def test_a_single_row_that_is_too_large_is_kept_whole() -> None:
    table = f"| a | b |\n| --- | --- |\n| {words(60)} | x |"
    assert max(c.tokens for c in chunks_of(table)) == 64


def test_a_huge_row_is_cut_like_text() -> None:
    table = f"| a | b |\n| --- | --- |\n| {words(20)}. {words(20).capitalize()}. {words(70)} | x |\n| y | z |"
    chunks = chunks_of(table)
    assert max(c.tokens for c in chunks) <= SIZES.max_tokens
    assert "".join("".join(c.text.split()) for c in chunks) == "".join(table.split())


def test_a_chunk_knows_the_page_it_begins_on() -> None:
    assert [c.page for c in chunks_of(f"{words(18)}.\n\n%\n\n{words(18)}.")] == [1, 2]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Ask Dr. Finch at 9 a.m. on Monday. Then go.", ["Ask Dr. Finch at 9 a.m. on Monday.", "Then go."]),
        ("See Fig. 3, e.g. No. 4. J. Smith wrote it.", ["See Fig. 3, e.g. No. 4.", "J. Smith wrote it."]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("It costs 5.50 in all. 20 were sold.", ["It costs 5.50 in all.", "20 were sold."]),
        ("一句。二句\uff01三", ["一句。", "二句\uff01", "三"]),
        ("First line;\nsecond line", ["First line;", "second line"]),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, sentences: list[str]) -> None:
    assert [text[p.start : p.end] for p in split_sentences(text, 0, len(text))] == sentences


# ---------------------------------------------------------------- properties

word = st.text("abcZ19.,:;-|é中。", min_size=1, max_size=9)
line = st.lists(word, min_size=1, max_size=25).map(" ".join)
block = st.one_of(
    line,
    line.map(lambda s: s + ":"),
    st.tuples(st.integers(1, 4), word).map(lambda t: f"{'#' * t[0]} h{t[1]}"),
    st.lists(line, min_size=1, max_size=6).map("\n".join),
    st.lists(line, min_size=1, max_size=6).map(lambda items: "\n".join(f"- {s}" for s in items)),
    st.lists(st.tuples(word, word), min_size=1, max_size=9).map(
        lambda rows: (
            "| a | b |\n| --- | --- |\n"
            + "\n".join(f"| {a.replace('|', '')} | {b.replace('|', '')} |" for a, b in rows)
        )
    ),
    st.just("%"),
)
sizes = st.tuples(st.integers(1, 6), st.integers(16, 24), st.integers(32, 40)).map(
    lambda t: ChunkSettings(min_tokens=t[0], target_tokens=t[1], max_tokens=t[2])
)


@settings(max_examples=250, deadline=None)
@given(st.lists(block, min_size=1, max_size=14), sizes)
def test_chunks_and_the_blanks_between_them_rebuild_the_text(blocks: list[str], chosen: ChunkSettings) -> None:
    source = document("\n\n".join(blocks))
    chunks = chunk_document(source, chosen, tokens_of(count_words))
    at = 0
    for chunk in chunks:
        assert source.text[at : chunk.start].strip() == ""
        assert chunk.text == source.text[chunk.start : chunk.end]
        assert chunk.text == chunk.text.strip() != ""
        assert chunk.tokens == count_words(chunk.text)
        assert chunk.tokens <= chosen.max_tokens or (chunk.kind == "table" and chunk.text.count("\n") <= 1)
        at = chunk.end
    assert source.text[at:].strip() == ""


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_at_all_can_be_cut(text: str) -> None:
    source = raw_document(text)
    chunks = chunk_document(source, SIZES, tokens_of(len))
    assert "".join("".join(c.text.split()) for c in chunks) == "".join(text.split())
    assert all(c.tokens <= SIZES.max_tokens for c in chunks)


@settings(max_examples=60, deadline=None)
@given(st.lists(block, min_size=1, max_size=14))
def test_no_chunk_crosses_a_heading_unless_a_part_is_small(blocks: list[str]) -> None:
    source = document("\n\n".join(blocks))
    starts = [h.start for h in source.headings]
    for chunk in chunk_document(source, SIZES, tokens_of(count_words)):
        inner = [s for s in starts if chunk.start < s < chunk.end]
        bounds = [chunk.start, *inner, chunk.end]
        parts = [count_words(source.text[a:b]) for a, b in pairwise(bounds)]
        assert (
            all(
                min(a, b) < SIZES.min_tokens or sum(parts[:n]) < SIZES.min_tokens
                for n, (a, b) in enumerate(pairwise(parts), 1)
            )
            or not inner
        )
