"""What is done about personal data: masks, stand-ins, and what moves along."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_files import document, raw_document

from fieldwise.prepare.personal_data import KINDS, find_personal_data
from fieldwise.prepare.redaction import LeakReport, StandIns, mask_of, redact
from fieldwise.records import Document

REPORT = dict.fromkeys(KINDS, "report")
MASK = dict.fromkeys(KINDS, "mask")
PSEUDONYMISE = dict.fromkeys(KINDS, "pseudonymise")
LETTER = """# Letter to Dr Isolde Khatri

Patient: Wilbur Okonjo, DOB 12/03/1980, MRN: 00123456, mail wilbur@example.org.

%

## Call 01632 960118

| Name | Phone |
| --- | --- |
| Rufus Asp | 07700 900827 |

Khatri, and again wilbur@example.org."""


def redacted(text: str, actions: dict[str, str]) -> str:
    return redact(raw_document(text), actions, StandIns()).document.text


def test_on_report_the_document_stays_as_it_is_and_pages_are_named() -> None:
    source = document(LETTER)
    result = redact(source, REPORT, StandIns())
    assert result.document == source
    assert {k: (c.findings, c.pages) for k, c in result.found.items()} == {
        "mrn": (1, (1,)),
        "date_of_birth": (1, (1,)),
        "email": (2, (1, 2)),
        "phone": (2, (2,)),
        "name": (4, (1, 2)),
    }


def test_masks_stand_in_text_headings_tables_and_title_and_pages_move_along() -> None:
    source = document(LETTER).model_copy(update={"title": "Letter to Dr Isolde Khatri"})
    result = redact(source, MASK, StandIns()).document
    assert result.title == "Letter to Dr [NAME]"
    assert [h.text for h in result.headings] == ["Letter to Dr [NAME]", "Call [PHONE]"]
    assert all(result.text[h.start : h.end] == h.text for h in result.headings)
    table = result.tables[0]
    assert result.text[table.start : table.end] == "| Name | Phone |\n| --- | --- |\n| [NAME] | [PHONE] |"
    pages = [result.text[p.start : p.end] for p in result.pages]
    assert pages[0].endswith("Patient: [NAME], DOB [DATE OF BIRTH], MRN: [MRN], mail [EMAIL].")
    assert pages[1].endswith("[NAME], and again [EMAIL].")


def test_stand_ins_are_numbered_in_order_and_stay_the_same_over_documents() -> None:
    stand_ins = StandIns()
    first = redact(raw_document("Dr Isolde Khatri and Mr Asp, jane@x.org"), PSEUDONYMISE, stand_ins).document.text
    second = redact(raw_document("Mr Asp, JANE@x.org, +44 20 7946 0958"), PSEUDONYMISE, stand_ins).document.text
    third = redact(raw_document("Ring +44-20-7946-0958 for Mrs Brask"), PSEUDONYMISE, stand_ins).document.text
    assert first == "Dr Person 1 and Mr Person 2, Email 1"
    assert second == "Mr Person 2, Email 1, Phone 1"
    assert third == "Ring Phone 1 for Mrs Person 3"


def test_a_surname_alone_is_the_person_whose_whole_name_the_document_gives() -> None:
    assert redacted("Dr Isolde Khatri leads. Ring Dr Khatri.", PSEUDONYMISE) == "Dr Person 1 leads. Ring Dr Person 1."


def test_each_kind_has_its_own_action() -> None:
    actions = {**REPORT, "email": "mask", "name": "pseudonymise"}
    assert redacted("Mr Asp, a@x.org, 01632 960118", actions) == "Mr Person 1, [EMAIL], 01632 960118"


def test_what_overlaps_is_taken_out_whole() -> None:
    text = redacted("see https://ex.org/?mail=jane@ex.org now", {**REPORT, "email": "mask"})
    assert "jane" not in text
    assert redacted("see https://ex.org/?mail=jane@ex.org now", MASK) == "see [URL] now"


@pytest.mark.parametrize("kind", KINDS)
def test_masks_and_stand_ins_are_not_found_again(kind: str) -> None:
    for stand_in in (mask_of(kind), StandIns().of(kind, "x")):
        for before in ("Patient: ", "Dr ", "DOB ", "MRN ", "NPI: ", "tel ", "licence ", "SSN ", "host ", "| Name | "):
            assert find_personal_data(f"{before}{stand_in}, and so on.") == []


def test_the_leak_report_holds_counts_pages_and_actions_but_no_words() -> None:
    report = LeakReport(MASK)
    source = document(LETTER)
    result = redact(source, MASK, StandIns())
    report.add(result.document, result.found)
    written = json.dumps(report.to_json())
    for secret in ("Khatri", "Okonjo", "1980", "00123456", "wilbur", "960118", "Asp"):
        assert secret not in written
    row = report.to_json()["documents"][0]  # type: ignore[index]
    assert row["uri"] == "a.md" and row["findings"]["email"]["count"] == 2  # type: ignore[index,call-overload]
    assert row["findings"]["email"]["pages"] == [1, 2]  # type: ignore[index,call-overload]
    assert report.summary(3).endswith("in 1 of 3 documents")
    assert LeakReport(MASK).summary(3) == "personal data: none found in 3 documents"


# ---------------------------------------------------------------- properties

SECRETS = [
    "jane.doe@example.org",
    "+44 20 7946 0958",
    "536-22-1234",
    "4111 1111 1111 1111",
    "GB82 WEST 1234 5698 7654 32",
    "https://ex.org/a",
    "192.168.1.17",
    "Dr Isolde Khatri",
    "MRN: 00123456",
    "DOB 12/03/1980",
    "12 Oak Street, Springfield",
]
plain = st.sampled_from("the ward opens at eight and a nurse writes it down, always. So it is; (see below)".split())
piece = st.one_of(plain, plain, st.sampled_from(SECRETS))
line = st.lists(piece, min_size=1, max_size=8).map(" ".join)
block = st.one_of(
    line,
    line.map(lambda s: f"# {s}"),
    line.map(lambda s: f"| a | b |\n| --- | --- |\n| {s} | x |"),
    st.just("%"),
)


def parts(source: Document) -> list[str]:
    spans = [(p.start, p.end) for p in (*source.pages, *source.headings, *source.tables)]
    return [source.text[a:z] for a, z in spans]


@settings(max_examples=120, deadline=None)
@given(st.lists(block, min_size=1, max_size=8), st.sampled_from([MASK, PSEUDONYMISE]))
def test_nothing_is_left_to_find_and_all_else_stays_byte_for_byte(blocks: list[str], actions: dict[str, str]) -> None:
    source = document("\n\n".join(blocks))
    result = redact(source, actions, StandIns()).document
    assert find_personal_data(result.text) == []
    if actions is MASK:
        # what stands between the masks stands in the source, in this order
        at = 0
        for kept in _between_masks(result.text):
            at = source.text.index(kept, at) + len(kept)
    assert len(result.pages) == len(source.pages) and len(result.tables) == len(source.tables)
    assert [h.text for h in result.headings] == [result.text[h.start : h.end] for h in result.headings]
    assert [t.count("|") for t in parts(result)] == [t.count("|") for t in parts(source)]
    assert [t.count("\n") for t in parts(result)] == [t.count("\n") for t in parts(source)]


def _between_masks(text: str) -> list[str]:
    for kind in KINDS:
        text = text.replace(mask_of(kind), "\0")
    return text.split("\0")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abzDrMJo .,:;|\n-()+@/0123456789[]éßİ", max_size=160))
def test_a_second_pass_over_any_text_finds_nothing(text: str) -> None:
    assert find_personal_data(redacted(text, MASK)) == []
