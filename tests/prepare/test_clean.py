"""What cleaning takes out, and what it leaves."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prepare_files import PDF, document, raw_document

from fieldwise.prepare.clean import clean_document
from fieldwise.prepare.settings import CleanSettings
from fieldwise.records import Document

ALL = CleanSettings()
LONG = "The night nurse checks the fridge and writes what it says into the book on the"


def cleaned(source: Document, wanted: CleanSettings = ALL) -> str:
    return clean_document(source, wanted).document.text


def pages_of(document: Document) -> list[str]:
    return [document.text[p.start : p.end] for p in document.pages]


def test_wrongly_decoded_text_and_joined_letters_are_repaired() -> None:
    source = document("# CafÃ© opening\n\nThe cafÃ© is open, â€œalwaysâ€\x9d. The \ufb01rst \ufb02oor.")
    result = clean_document(source, ALL).document
    assert result.text == "Café opening\n\nThe café is open, “always”. The first floor."
    assert result.headings[0].text == "Café opening"
    assert "CafÃ©" in cleaned(source, CleanSettings(mojibake=False))


def test_text_that_was_right_stays_as_it_is() -> None:
    text = "Größe: 5 µm — “quoted”, naïve, 36 °C, Ελληνικά, 中文."
    assert cleaned(document(text)) == text


def test_odd_blanks_and_invisible_characters_go() -> None:
    assert (
        cleaned(document("two\u00a0words,\u2009thin soft\u00adhyphen zero\u200bwidth"))
        == "two words, thin softhyphen zerowidth"
    )


PAGES = "\n\n".join(
    f"House rules, edition {n}\n\nWords of page {n} that are its own.\n\nRiver Hospital   Page {n} of 4\n\n%"
    for n in (1, 2, 3, 4)
).removesuffix("\n\n%")


def test_headers_and_footers_that_differ_only_in_numbers_go_from_every_page() -> None:
    result = clean_document(document(PAGES, media_type=PDF), ALL).document
    assert pages_of(result) == [f"Words of page {n} that are its own." for n in (1, 2, 3, 4)]
    assert [result.page_at(result.text.index(f"page {n}")) for n in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert "edition 3" in cleaned(document(PAGES, media_type=PDF), CleanSettings(repeated_lines=False))


def test_headers_that_alternate_between_even_and_odd_pages_go() -> None:
    text = "\n\n%\n\n".join(
        f"{'Left' if n % 2 else 'Right'} header\n\nThis is what page number {'abcdef'[n]} says.\n\nAnd {'abcdef'[n]} once more."
        for n in range(6)
    )
    assert "header" not in cleaned(document(text, media_type=PDF))


def test_lines_repeated_in_the_middle_of_pages_and_headings_stay() -> None:
    body = "\n\n".join(f"Line {'abcdefgh'[n]} of this page." for n in range(3))
    text = "\n\n%\n\n".join(
        f"# Notice\n\nopening {'xyz'[n]}\n\n{body}\n\nDo not run.\n\n{body.replace('Line', 'More').replace('page', 'leaf ' + 'xyz'[n])}"
        for n in range(3)
    )
    result = cleaned(document(text, media_type=PDF))
    assert result.count("Do not run.") == 3
    assert result.count("Notice") == 3


@pytest.mark.parametrize("line", ["7", "- 7 -", "Page 7", "page 7 of 12", "Seite 7 von 12", "7/12", "xii"])
def test_lines_with_nothing_but_a_page_number_go(line: str) -> None:
    source = document(f"Some words to keep.\n\nMore of them.\n\n{line}", media_type=PDF)
    assert cleaned(source) == "Some words to keep.\n\nMore of them."
    assert line in cleaned(source, CleanSettings(page_numbers=False))


@pytest.mark.parametrize("line", ["7 wards", "Room 7", "2024 was good", "Page left blank", "I"])
def test_other_short_lines_stay(line: str) -> None:
    source = document(
        f"Some words to keep.\n\n{line}\n\nMore words.\n\nAnd more.\n\nAnd more again.\n\nThe end of it.",
        media_type=PDF,
    )
    assert line in cleaned(source)


def test_lines_wrapped_by_the_page_become_running_text_and_structure_stays() -> None:
    source = document(
        f"# A heading\n\n{LONG}\nshelf. {LONG}\nwall.\n\nBring:\n- a torch that is\n  not too large\n- two pens\n\nMill Lane 4\nEastmarle\n\n| a | b |\n| --- | --- |\n| c | d |",
        media_type=PDF,
    )
    assert (
        cleaned(source)
        == f"A heading\n\n{LONG} shelf. {LONG} wall.\n\nBring:\n- a torch that is not too large\n- two pens\n\nMill Lane 4\nEastmarle\n\n| a | b |\n| --- | --- |\n| c | d |"
    )


def test_lines_of_formats_without_page_width_stay() -> None:
    assert cleaned(document(f"{LONG}\nshelf.", media_type="text/html")) == f"{LONG}\nshelf."


def test_a_paragraph_cut_by_a_page_is_made_whole_and_a_new_one_is_not() -> None:
    result = clean_document(
        document(f"{LONG}\n\n%\n\nshelf, every day.\n\n{LONG} wall.\n\n%\n\nNobody else may.", media_type=PDF), ALL
    ).document
    assert result.text == f"{LONG} shelf, every day.\n\n{LONG} wall.\n\nNobody else may."
    assert pages_of(result) == [LONG, f"shelf, every day.\n\n{LONG} wall.", "Nobody else may."]


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("the pharma-\ncist on the ward and everybody else", "the pharmacist on"),
        ("the soft\u00ad\nened paper on the ward and everybody", "the softened paper"),
        ("a self-\ntest on the ward and everybody else in", "a self-test on"),
        ("Eastmarle-\nLissgarth on the ward and everybody", "Eastmarle-Lissgarth on"),
        ("rooms 3-\n12 on the ward and everybody else in", "rooms 3-12 on"),
        ("an orange-lidded box, an orange-\nlidded box for all", "an orange-lidded box for"),
        ("a hospital-\nity suite, the hospitality suite for all", "a hospitality suite,"),
        ("the gate -\nthe north one - on the ward and every", "the gate - the north"),
    ],
)
def test_words_broken_at_a_line_end_are_joined_with_care(broken: str, whole: str) -> None:
    assert whole in cleaned(document(f"{LONG} shelf beside {broken}", media_type=PDF))


def test_words_stay_broken_when_hyphenation_is_off() -> None:
    assert "pharma-cist" in cleaned(
        document(f"{LONG} shelf of the pharma-\ncist", media_type=PDF), CleanSettings(hyphenation=False)
    )


def test_leaders_and_runs_of_blanks_shrink_outside_tables() -> None:
    assert (
        cleaned(
            raw_document("Contents\n\nParking ............ 12\nName: ____________\nWide    gap   \n\n\n\nend... yes\n")
        )
        == "Contents\n\nParking 12\nName: ____\nWide gap\n\nend... yes"
    )
    table = "| a    b | c |\n| --- | --- |\n| .......... | x |"
    assert cleaned(document(table)) == table


def test_long_runs_of_blanks_do_not_hold_up_cleaning() -> None:
    gap = " " * 300_000
    began = time.process_time()
    assert cleaned(raw_document(f"{gap}a{gap}b ... c{gap}\n{gap}. . . . . d{gap}")) == "a b ... c d"
    assert time.process_time() - began < 10


def test_a_book_of_many_pages_is_cleaned_in_good_time() -> None:
    page = "\n\n".join(f"# Bed {{0}} {n}\n\n{LONG} wall." for n in "abcdef")
    book = document("\n\n%\n\n".join(page.format(n) for n in range(1200)), media_type=PDF)
    began = time.process_time()
    assert len(clean_document(book, ALL).document.headings) == 7200
    assert time.process_time() - began < 5


def test_the_counts_say_what_each_pass_did() -> None:
    passes = clean_document(document(PAGES, media_type=PDF), ALL).passes
    assert passes["repeated_lines"].places == 8
    assert passes["repeated_lines"].characters > 150


# ---------------------------------------------------------------- on request

FURTHER = ("html_entities", "image_tags", "template_tags", "urls", "emails", "special_characters", "boilerplate")


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("html_entities", "Salt &amp; water&nbsp;&lt; 5 &#176;C &unknown; AT&T", "Salt & water < 5 °C &unknown; AT&T"),
        ("image_tags", "A ![the ward](a/b.png) and <img src='x.png' alt='y'> left, [image: bed] gone.", "A and left, gone."),
        ("image_tags", "Before.\n\nPhoto credit: Jo Finch / Getty Images\n\nAfter.", "Before.\n\nAfter."),
        ("image_tags", "Credit: 300 EUR. Image 3 shows [figure 2].", "Credit: 300 EUR. Image 3 shows [figure 2]."),
        ("template_tags", "Dear {{ user.name }}, {% if x %}yes{% endif %}<%= y %> {a} {{1}, 5 < 6", "Dear, yes {a} {{1}, 5 < 6"),
        ("boilerplate", "Skip to main content\n\nThe dose.\n\n© 2024 Northside. All rights reserved.", "The dose."),
        ("boilerplate", "All rights reserved by section 4 stay with the tenant.", "All rights reserved by section 4 stay with the tenant."),
        ("urls", "See (https://a.org/b?c=d), www.x.org. And <http://q.de/> (cf. https://a.b/c).", "See, . And (cf. )."),
        ("emails", "Write to <mailto:a.b@c.org>, x+y@d.co.uk. 5 @ 3 EUR", "Write to, . 5 @ 3 EUR"),
        ("special_characters", "Done ✅ 👩‍⚕️ ★ 5 °C ± 2 § 3 € 7 – “so” Größe 药 •", "Done 5 °C ± 2 § 3 € 7 – “so” Größe 药 •"),
    ],
)  # fmt: skip
def test_what_a_recipe_asks_for_goes_and_nothing_else(name: str, text: str, left: str) -> None:
    source = raw_document(text)
    assert cleaned(source) == cleaned(raw_document(text), CleanSettings(**dict.fromkeys(FURTHER, False)))
    result = clean_document(source, CleanSettings(**{name: True}))
    assert re.sub(r"[ \t]+(?=[ ,.])|[ \t]+$", "", result.document.text) == re.sub(r"[ \t]+(?=[ ,.])", "", left)
    assert (name in result.passes) == (left != text)


def test_lines_and_signs_of_tables_stay_in_their_cells() -> None:
    source = document("| a | b |\n| --- | --- |\n| read more | &#124; https://a.org/x |\n| ✅ | a@b.org |")
    result = clean_document(source, CleanSettings(**dict.fromkeys(FURTHER, True))).document
    (table,) = result.tables
    lines = result.text[table.start : table.end].split("\n")
    assert [line.count("|") for line in lines] == [3, 3, 3, 3]
    assert "read more" in lines[2] and "https" not in lines[2] and "@" not in lines[3]


@pytest.mark.parametrize(
    "unit", ["(https://", "a@", "{{", "![", "<img ", "&amp", "photo by ", "© 2024 ", "privacy policy | "]
)
def test_no_text_makes_the_further_passes_long(unit: str) -> None:
    began = time.process_time()
    clean_document(raw_document(unit * 30_000), CleanSettings(**dict.fromkeys(FURTHER, True)))
    assert time.process_time() - began < 20


# ---------------------------------------------------------------- properties

words = st.text("abcdeXY é\u00a0\u00ad-.,:7", min_size=1, max_size=30).filter(lambda s: s.strip())
blocks = st.one_of(
    words.map(lambda s: "# " + s.strip()),
    st.lists(words, min_size=1, max_size=4).map("\n".join),
    st.lists(words, min_size=1, max_size=3).map(lambda items: "\n".join(f"- {s}" for s in items)),
    st.lists(words.map(lambda s: s.replace("|", "")), min_size=2, max_size=3).map(
        lambda c: f"| {c[0]} | {c[1]} |\n| --- | --- |\n| {c[-1]} | x |"
    ),
    st.just("%"),
)
documents = st.lists(blocks, min_size=1, max_size=12).map(lambda parts: document("\n\n".join(parts), media_type=PDF))


@settings(max_examples=150, deadline=None)
@example(
    source=document("7\n 7\n7\n7\n\n# 7\n\n# 7", media_type=PDF)
)  # the blank of an indented line goes with the line above
@given(source=documents)
@pytest.mark.parametrize("wanted", [ALL, CleanSettings(**dict.fromkeys(FURTHER, True))])
def test_after_cleaning_every_span_stands_where_it_says(wanted: CleanSettings, source: Document) -> None:
    result = clean_document(source, wanted).document
    assert [result.text[h.start : h.end] for h in result.headings] == [h.text for h in result.headings]
    assert all(
        result.text[t.start] == "|"
        and result.text[t.end - 1] in "|x"
        and result.text[t.start : t.end].count("\n") == t.rows
        for t in result.tables
    )
    assert len(result.tables) == len(source.tables)
    assert [p.number for p in result.pages] == [p.number for p in source.pages]
    assert all(a.end <= b.start for a, b in zip(result.pages, result.pages[1:], strict=False))
    inside = "".join(result.text[p.start : p.end] for p in result.pages)
    assert re.sub(r"\s", "", inside) == re.sub(r"\s", "", result.text)


@settings(max_examples=60, deadline=None)
@given(documents)
def test_without_running_lines_no_letter_is_lost_but_hyphens(source: Document) -> None:
    kept = cleaned(source, CleanSettings(repeated_lines=False, page_numbers=False))
    assert re.sub(r"[\W_]", "", kept) == re.sub(r"[\W_]", "", source.text)
