"""A suite of what an earlier run answered and a later one does not, made by `fieldwise gate --save-suite`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fieldwise.cli import main
from fieldwise.files import write_json, write_jsonl, write_text
from fieldwise.recipe import load_recipe
from fieldwise.records import NOT_STATED, Answer, Chunk, Document, RetrievedPassage, Source
from fieldwise.retrieve.index import passage_text
from fieldwise.suite.items import Reply
from fieldwise.suite.reading import open_suite
from fieldwise.suite.run import score_item
from fieldwise.suite.yaml_text import dump_yaml, load_yaml

TEXTS = {"0": "The desk opens at 06:45.", "1": "A bed costs 1e5 marks: no less.", "2": "Carry it.\nAlways: 'yes'."}
KNOWN: dict[str, str | None] = {
    "When does the desk open?": "06:45",
    "What does a bed cost?": "1e5",
    "How often?": "1.5e3",
    "Who pays?": None,
    "When does it close?": "at a quarter past nine",
}
RIGHT = ["06:45 [1]", "1e5 [1]", "1.5e3 [1]", NOT_STATED, "at a quarter past nine [1]"]


def passage(place: str) -> RetrievedPassage:
    document = Document.make(title="T", text=TEXTS[place], source=Source(uri=f"{place}.md"))
    return RetrievedPassage(chunk=Chunk.make(document, 0, len(document.text)), score=1.0)


def keep(folder: Path, said: list[str], places: str = "01", ids: str = "q") -> Path:
    rows: list[dict[str, Any]] = []
    for n, (text, (question, known)) in enumerate(zip(said, KNOWN.items(), strict=True)):
        answer = Answer(
            text=text,
            answer=text.removesuffix(" [1]"),
            model="m",
            is_declined=text == NOT_STATED,
            passages=tuple(passage(p) for p in places),
        )
        more = {"expected": known, "aliases": [], "document": None, "kind": "fact"}
        rows.append({"id": f"{ids}{n}", "question": question, "answer": answer.model_dump(mode="json"), **more})
    write_jsonl(folder / "5_reports/predictions/rag_tuned.jsonl", reversed(rows) if ids == "r" else rows)
    write_json(folder / "5_reports/report.json", {"questions_sha256": "0" * 64, "systems": []})
    write_text(folder / "recipe.yaml", "name: t\ncollect: {sources: [x]}\n")
    return folder


def gate(new: Path, old: Path, suite: Path) -> int:
    return main(["gate", "--run", str(new), "--baseline", str(old), "--save-suite", str(suite)])


def test_what_was_answered_and_is_not_any_more_is_a_suite_that_a_recipe_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = keep(tmp_path / "old", RIGHT, ids="r")  # of other ids, in another order
    new = keep(
        tmp_path / "new", ["at night", RIGHT[1], "often", "the ward", "It closes at a quarter past nine"], places="2"
    )
    path = tmp_path / "lost.yaml"
    assert gate(new, old, path) == 4
    assert "3 of 4 lost questions were answered before and are new" in capsys.readouterr().err
    suite = open_suite(str(path))
    assert suite.name == "lost" and {i.asked for i in suite.items} == {
        "When does the desk open?",
        "How often?",
        "Who pays?",
    }
    for item in suite.items:
        assert item.passages == tuple(passage_text(passage(p).chunk) for p in "01")  # not those of the new run
        right = RIGHT[list(KNOWN).index(item.asked)]
        assert score_item(item, Reply(text=right)).is_passed is True
        assert score_item(item, Reply(text="the ward")).is_passed is False
    assert load_recipe(None, [f"evaluate.suites=[{path}]"]).evaluate.wanted_suites[0].suite == str(path)


def test_what_is_lost_later_is_added_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, path = keep(tmp_path / "old", RIGHT), tmp_path / "lost.yaml"
    gate(keep(tmp_path / "a", ["at night", *RIGHT[1:]]), old, path)
    first = path.read_bytes()
    gate(keep(tmp_path / "a", ["at night", *RIGHT[1:]]), old, path)
    assert path.read_bytes() == first
    gate(keep(tmp_path / "b", ["at night", "red", *RIGHT[2:]]), old, path)
    assert "1 of 2 lost questions were answered before and are new" in capsys.readouterr().err
    assert [i.asked for i in open_suite(str(path)).items] == list(KNOWN)[:2]


def test_nothing_lost_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, path = keep(tmp_path / "old", RIGHT), tmp_path / "lost.yaml"
    gate(keep(tmp_path / "new", RIGHT), old, path)
    assert "none of 0 lost questions" in capsys.readouterr().err and not path.exists()


def test_without_the_answers_of_an_earlier_run_or_for_a_file_of_another_kind_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = keep(tmp_path / "old", RIGHT), keep(tmp_path / "new", ["at night", *RIGHT[1:]])
    baseline = tmp_path / "baseline.json"
    main(["gate", "--run", str(old), "--baseline", str(old), "--save-baseline", str(baseline)])
    assert gate(new, baseline, tmp_path / "lost.yaml") == 2
    assert "no run folder" in capsys.readouterr().err
    assert main(["gate", "--run", str(new), "--save-suite", str(tmp_path / "lost.yaml")]) == 2
    assert gate(new, old, tmp_path / "lost.txt") == 2
    promptfoo = tmp_path / "other.yaml"
    promptfoo.write_text("prompts: ['{{q}}']\ntests: [{vars: {q: a}, assert: [{type: equals, value: b}]}]\n")
    assert gate(new, old, promptfoo) == 2 and "no suite of ours" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["1.5e3", "no", "on", "~", "", "12:30", "0o7", "2026-01-01", "a: b", "- x", "é\n'q'", "1e5", "=", "<<"]
)
def test_texts_come_back_from_yaml_as_they_were(text: str) -> None:
    value: dict[str, Any] = {"a": text, "b": [text, None, True, 3]}
    assert load_yaml(dump_yaml(value), Path("x.yaml")) == value
