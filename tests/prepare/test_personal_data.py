"""Detectors of personal data: what they find, and what they leave alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwise.prepare.checksums import is_card, is_dea, is_iban, is_nhs_number, is_npi, is_ssn, luhn
from fieldwise.prepare.personal_data import KINDS, find_personal_data


def found(text: str) -> list[tuple[str, str]]:
    return [(f.kind, text[f.start : f.end]) for f in find_personal_data(text)]


@pytest.mark.parametrize(
    ("check", "valid", "invalid"),
    [
        (luhn, "79927398713", "79927398714"),
        (is_npi, "1234567893", "3234567893"),
        (is_npi, "1245319599", "1245319598"),
        (is_card, "4111111111111111", "4111111111111113"),
        (is_card, "378282246310005", "3782822463100005"),
        (is_card, "5555555555554444", "5955555555554444"),
        (is_iban, "GB82WEST12345698765432", "GB28WEST12345698765432"),
        (is_iban, "DE89370400440532013000", "DE8937040044053201300"),
        (is_ssn, "536221234", "900221234"),
        (is_dea, "AB1234563", "AB1234564"),
        (is_nhs_number, "9434765919", "9434765910"),
    ],
)
def test_check_digits_tell_a_number_from_a_slip(check, valid: str, invalid: str) -> None:
    assert check(valid)
    assert not check(invalid)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jane.o'neil+x@mail.example.co.uk.", ("email", "jane.o'neil+x@mail.example.co.uk")),
        ("Call +44 (0)20 7946 0958 today", ("phone", "+44 (0)20 7946 0958")),
        ("(555) 234-5678 x12 is hers", ("phone", "(555) 234-5678 x12")),
        ("At 1-800-234-5678.", ("phone", "1-800-234-5678")),
        ("From outside 01632 960118", ("phone", "01632 960118")),
        ("Tel.: 5550142", ("phone", "5550142")),
        ("mobile 07700900461", ("phone", "07700900461")),
        ("0171/1234567 abends", ("phone", "0171/1234567")),
        ("her number 536-22-1234", ("ssn", "536-22-1234")),
        ("SSN 536 22 1234", ("ssn", "536 22 1234")),
        ("MRN: 00123456", ("mrn", "00123456")),
        ("Hospital number is RK-482913", ("mrn", "RK-482913")),
        ("NHS number 943 476 5919", ("mrn", "943 476 5919")),
        ("NPI: 1234567893", ("npi", "1234567893")),
        ("DOB 12/03/1980", ("date_of_birth", "12/03/1980")),
        ("Date of birth: March 3rd, 1975", ("date_of_birth", "March 3rd, 1975")),
        ("born on 3. Mai 1960", ("date_of_birth", "3. Mai 1960")),
        ("Date of birth\n1980-02-03", ("date_of_birth", "1980-02-03")),
        ("Card 4111 1111 1111 1111 12/26", ("card", "4111 1111 1111 1111")),
        ("3782 822463 10005", ("card", "3782 822463 10005")),
        ("IBAN GB82 WEST 1234 5698 7654 32 is", ("iban", "GB82 WEST 1234 5698 7654 32")),
        ("host 192.168.1.17, up", ("ip_address", "192.168.1.17")),
        ("2001:db8::8a2e:370:7334", ("ip_address", "2001:db8::8a2e:370:7334")),
        ("see (https://ex.org/a?b=(c)).", ("url", "https://ex.org/a?b=(c)")),
        ("www.example.org, open", ("url", "www.example.org")),
        ("DEA number AB1234563", ("licence", "AB1234563")),
        ("Driver's license: D1234567", ("licence", "D1234567")),
        ("Driving licence MORGA 657054 SM9IJ 35", ("licence", "MORGA 657054 SM9IJ 35")),
        ("lives at 12 Oak Street, Springfield, IL 62704.", ("address", "12 Oak Street, Springfield, IL 62704")),
        ("221B Baker Street, London NW1 6XE", ("address", "221B Baker Street, London NW1 6XE")),
        ("Hauptstraße 12, 10115 Berlin", ("address", "Hauptstraße 12, 10115 Berlin")),
        ("PO Box 123, Dover.", ("address", "PO Box 123, Dover")),
        ("Ask Dr. Jane A. Smith-Jones first.", ("name", "Jane A. Smith-Jones")),
        ("Mrs O'Brien's cat", ("name", "O'Brien")),
        ("Patient: SMITH, John", ("name", "SMITH, John")),
        ("Next of kin: Wilbur Okonjo", ("name", "Wilbur Okonjo")),
        ("and Maria van der Berg came", ("name", "Maria van der Berg")),
        ("Signed at the desk by Ewart Pell, 22 January", ("name", "Ewart Pell")),
        ("Dear Tobias,\n", ("name", "Tobias")),
    ],
)
def test_each_kind_is_found_with_its_whole_span(text: str, expected: tuple[str, str]) -> None:
    assert found(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "Version 1.2.3.4 of the program, section 10.4.2.1, v10.0.19.3",
        "part number 978-3-16-148410-0, order 2024-03-12 0815, batch 12 34 56 78",
        "from 07.30-15.30 and on 12.03.2024 16.00",
        "bleep 2231, extension 4912, dial 4600",
        "250 300 4000 5000 and 1 000 000 000",
        "NPI 1234567890 has a slip, and 1234567893 names nobody",
        "card 4111 1111 1111 1112",
        "IBAN GB82 WEST 1234 5698 7654 33",
        "at 12:30:45 std::vector was empty",
        "the ward opened on 12/03/1980",
        "Form RG-1, rule OPS-11, item TQ-0048213",
        "Dr On Call, Mr. The nurse in charge",
        "Author: Infection Control Team",
        "Grace Ward and Florence House",
        "Name: the name of the patient",
        "File name: Report Final",
        "12 Ward Rounds a day, 5 Steps Down",
        "a@b, @home, x@localhost",
    ],
)
def test_codes_versions_and_rules_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_what_stands_in_a_column_of_a_table_is_named_by_its_head() -> None:
    table = (
        "| Patient name | DOB | MRN | Phone | Ward |\n| --- | --- | --- | --- | --- |\n"
        "| Ottoline Brask | 30 November 1961 | 0061977 | 555 0142 | Elm |\n| Rufus Asp | 1984-05-03 | 0061978 | - | Oak |"
    )
    assert found(table) == [
        ("name", "Ottoline Brask"),
        ("date_of_birth", "30 November 1961"),
        ("mrn", "0061977"),
        ("phone", "555 0142"),
        ("name", "Rufus Asp"),
        ("date_of_birth", "1984-05-03"),
        ("mrn", "0061978"),
    ]


def test_in_a_form_of_two_columns_the_cell_before_is_the_label() -> None:
    form = (
        "| Surname* | Pellworthy |\n| --- | --- |\n| First names | Eudora Marian |\n| Address | 27 Candlewick, Thorn |"
    )
    assert found(form) == [("name", "Pellworthy"), ("name", "Eudora Marian"), ("address", "27 Candlewick, Thorn")]


def test_a_name_once_found_is_found_wherever_it_stands_again() -> None:
    text = "Dr Isolde Khatri leads. Ring Khatri at noon; then Isolde Khatri signs, and a khatri is no name."
    assert [n for _, n in found("Dr Isolde Khatri leads. Ring Khatri at noon.")] == ["Isolde Khatri", "Khatri"]
    assert ("name", "Isolde Khatri") in found(text)


def test_of_overlapping_findings_the_longest_counts() -> None:
    assert found("https://ex.org/?mail=jane@ex.org") == [("url", "https://ex.org/?mail=jane@ex.org")]


def test_a_kind_that_is_only_reported_does_not_hide_one_that_is_taken_out() -> None:
    text = "https://ex.org/?mail=jane@ex.org"
    kinds = [f.kind for f in find_personal_data(text, {"email": "mask", "url": "report"})]
    assert kinds == ["email"]


def test_the_date_behind_a_date_of_birth_is_not_one() -> None:
    assert found("Date of birth: 12/03/1980, admitted 14/05/2020") == [("date_of_birth", "12/03/1980")]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="abzDrMJ .,:;|\n-()+@/0123456789[]éßİ", max_size=200))
def test_findings_of_any_text_lie_within_it_in_order_and_apart(text: str) -> None:
    at = 0
    for finding in find_personal_data(text):
        assert finding.kind in KINDS
        assert at <= finding.start < finding.end <= len(text)
        at = finding.end


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 40_000,
        "1.1.1.1." * 10_000,
        "@" * 80_000,
        "a@" * 40_000,
        ":" * 80_000,
        "Dr " * 25_000,
        "12 Oak " * 12_000,
        "|a" * 40_000,
        "| --- |\n" * 10_000,
        "A" * 80_000,
        "John " * 16_000,
        "MRN " * 20_000,
        "born " * 16_000,
        "://www." * 12_000,
    ],
)
def test_no_text_makes_the_search_slow(text: str) -> None:
    began = time.process_time()
    find_personal_data(text)
    assert time.process_time() - began < 3
