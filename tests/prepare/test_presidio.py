"""presidio beside the detectors of this project: what is merged, who is named, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prepare_files import raw_document

from fieldwise.errors import MissingExtra, ModelError, RecipeError
from fieldwise.extras import installed_version
from fieldwise.prepare.personal_data import KINDS, Detector, find_personal_data
from fieldwise.prepare.presidio import presidio_detector, tokenizer
from fieldwise.prepare.reading import Finding, Reading
from fieldwise.prepare.redaction import LeakReport, StandIns, mask_of, redact
from fieldwise.prepare.settings import PersonalDataSettings, PrepareSettings, PresidioPattern, PresidioSettings

REPORT = dict.fromkeys(KINDS, "report")
MASK = dict.fromkeys(KINDS, "mask")
needs_presidio = pytest.mark.skipif(
    installed_version("presidio-analyzer") is None, reason="presidio-analyzer is not installed"
)


def finding(text: str, part: str, kind: str) -> Finding:
    return Finding(kind, text.index(part), text.index(part) + len(part), f"presidio:{kind}", "presidio")


def told(text: str, others: Iterable[tuple[str, str]], actions: dict[str, str] | None = None) -> list[tuple[str, ...]]:
    def beside(reading: Reading) -> Iterator[Finding]:
        return (finding(reading.text, part, kind) for part, kind in others)

    return [(text[f.start : f.end], f.kind, f.found_by) for f in find_personal_data(text, actions, beside)]


# ---------------------------------------------------------------- merging, with any detector beside


def test_what_both_find_is_one_finding_that_names_both() -> None:
    text = "SSN 536-22-1234, mail jane@example.org."
    assert told(text, [("536-22-1234", "ssn")]) == [
        ("536-22-1234", "ssn", "both"),
        ("jane@example.org", "email", "fieldwise"),
    ]


def test_the_longer_span_of_one_kind_counts() -> None:
    text = "Seen by Dr Finch-Okonjo Brask today."
    assert told(text, [("Finch-Okonjo Brask today", "name")]) == [("Finch-Okonjo Brask today", "name", "both")]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ssn", ("07700 900827", "ssn", "presidio")),
        ("name", ("07700 900827", "phone", "fieldwise")),
        ("url", ("07700 900827", "phone", "fieldwise")),
    ],
)
def test_of_two_kinds_the_more_specific_one_counts(kind: str, expected: tuple[str, ...]) -> None:
    assert told("Ring 07700 900827 now.", [("07700 900827", kind)]) == [expected]


def test_a_longer_finding_of_a_vaguer_kind_does_not_hide_a_specific_one() -> None:
    text = "Write to jane@example.org at once."
    assert told(text, [("to jane@example.org at", "name")]) == [("jane@example.org", "email", "fieldwise")]


def test_what_is_taken_out_is_never_hidden_by_what_is_only_reported() -> None:
    text = "Ring 07700 900827 now."
    kept = told(text, [("07700 900827", "ssn")], REPORT | {"phone": "mask"})
    assert kept == [("07700 900827", "phone", "fieldwise")]
    joined = told(text, [("900827 now", "name")], REPORT | {"name": "mask"})
    assert joined == [("900827 now", "name", "presidio")]


def test_without_a_detector_beside_nothing_changes() -> None:
    text = "Mail jane@example.org, SSN 536-22-1234."
    assert told(text, []) == [(text[f.start : f.end], f.kind, f.found_by) for f in find_personal_data(text)]


# ---------------------------------------------------------------- settings


def test_unused_it_leaves_no_trace_in_the_key_and_used_it_names_versions() -> None:
    assert "presidio" not in PrepareSettings().keyed()["personal_data"]  # type: ignore[operator]
    used = PersonalDataSettings(presidio=PresidioSettings(recognizers=("UsSsnRecognizer",))).keyed()["presidio"]
    assert isinstance(used, dict) and set(used["versions"]) == {"presidio-analyzer", "spacy"}  # type: ignore[arg-type]
    assert presidio_detector(PresidioSettings()) is None


@pytest.mark.skipif(installed_version("presidio-analyzer") is not None, reason="it is installed")
def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r"fieldwise\[presidio\]"):
        presidio_detector(PresidioSettings(recognizers=("UsSsnRecognizer",)))


# ---------------------------------------------------------------- the package itself


STAFF = PresidioPattern(entity="STAFF_ID", regex=r"\bST-\d{6}\b", score=0.3, context=("staff",))


@pytest.fixture(scope="module")
def detector() -> Detector:
    names = ("UsPassportRecognizer", "UkNinoRecognizer", "CreditCardRecognizer", "UsSsnRecognizer")
    found = presidio_detector(PresidioSettings(recognizers=names, patterns=(STAFF,)))
    assert found is not None
    return found


@needs_presidio
def test_recognisers_and_own_patterns_are_found_by_their_words_of_context(detector: Detector) -> None:
    text = (
        "Passport number: A12345678. Staff ST-004711 has NINO AB123456C. The fridge of ward seven holds six blue boxes "
        "for insulin from batch ST-999999."
    )
    found = [(text[f.start : f.end], f.kind, f.rule, f.found_by) for f in find_personal_data(text, None, detector)]
    assert found == [
        ("A12345678", "identifier", "presidio:US_PASSPORT", "presidio"),
        ("ST-004711", "identifier", "presidio:STAFF_ID", "presidio"),
        ("AB123456C", "identifier", "presidio:UK_NINO", "presidio"),
    ]


@needs_presidio
def test_masks_and_stand_ins_are_not_found_again(detector: Detector) -> None:
    text = "Passport A12345678, staff ST-004711, card 4111 1111 1111 1111, SSN 536-22-1234."
    for actions in (MASK, dict.fromkeys(KINDS, "pseudonymise")):
        once = redact(raw_document(text), actions, StandIns(), detector).document
        assert not any(digits in once.text for digits in ("12345678", "004711", "1111", "536"))
        assert redact(once, actions, StandIns(), detector).document.text == once.text
    masks = " ".join(mask_of(kind) for kind in KINDS)
    assert find_personal_data(masks, None, detector) == []


@needs_presidio
def test_the_leak_report_says_who_found_what(detector: Detector) -> None:
    source = raw_document("SSN 536-22-1234. NINO AB123456C. Mail jane@example.org.")
    report = LeakReport(REPORT, names_finders=True)
    report.add(source, redact(source, REPORT, StandIns(), detector).found)
    total = report.to_json()["total"]
    assert isinstance(total, dict)
    assert {kind: row["found_by"] for kind, row in total.items()} == {  # type: ignore[index,call-overload]
        "email": {"fieldwise": 1},
        "identifier": {"presidio": 1},
        "ssn": {"both": 1},
    }
    assert "1 of them found by presidio as well, 1 by presidio alone" in report.summary(1)
    assert "found_by" not in json.dumps(LeakReport(REPORT).to_json())


@needs_presidio
def test_long_texts_are_read_in_windows_that_cut_no_finding(detector: Detector) -> None:
    line = "Nothing stands in this line but words of no interest.\n"
    text = line * 1200 + "NINO AB123456C.\n" + line * 1200
    found = find_personal_data(text, None, detector)
    assert [text[f.start : f.end] for f in found] == ["AB123456C"]


@needs_presidio
def test_a_model_of_a_folder_finds_names(tmp_path: Path) -> None:
    nlp = tokenizer("en")
    nlp.add_pipe("entity_ruler").add_patterns(  # type: ignore[attr-defined]
        [{"label": "PERSON", "pattern": "Ottoline Brask"}, {"label": "GPE", "pattern": "Chicago"}]
    )
    nlp.to_disk(tmp_path / "model")
    found = presidio_detector(PresidioSettings(model=str(tmp_path / "model")))
    text = "Ottoline Brask moved to Chicago."
    assert [(text[f.start : f.end], f.kind, f.found_by) for f in find_personal_data(text, None, found)] == [
        ("Ottoline Brask", "name", "presidio")
    ]


@needs_presidio
def test_every_mistake_of_the_recipe_is_told_at_once() -> None:
    wrong = PresidioSettings(
        recognizers=("UsPasportRecognizer", "EmailRecognizer", "DateRecognizer"),
        patterns=(PresidioPattern(entity="CASE", regex="("),),
    )
    with pytest.raises(RecipeError) as error:
        presidio_detector(wrong)
    told = str(error.value)
    assert "UsPassportRecognizer" in told and "public suffixes" in told
    assert "DATE_TIME" in told and "pattern of CASE" in told
    with pytest.raises(ModelError, match="en_no_such_model"):
        presidio_detector(PresidioSettings(model="en_no_such_model"))
