"""Passages written by hand: what a row says of them is in the text, or is declined."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

NANO = Path(__file__).resolve().parents[2] / "nano"

PASSAGE = """passage Late medicines
[[The pharmacy|Our pharmacy]] keeps a van.
It sets off at {time1}.
{person1} drives on weekdays.
A parcel nobody can take in goes back to the night cupboard.
? When does the van leave? | {time1}
? Who drives from Monday to Friday? | {person1}
? Where does a parcel end up? | the night cupboard
? What does {person1} earn? | -
"""


def _templates(folder: Path, text: str = PASSAGE):
    from nano_recipe import written

    (folder / "some.txt").write_text(text)
    return written.read(folder)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("? When? | noon", "the answer stands in 0 sentences"),
        ("? What is kept? | pharmacy", "the answer stands inside a choice"),
        ("? Who is {person2}? | -", "the passage has no {person2}"),
        ("? Which planet? | {planet1}", "unknown kind planet"),
        ("? Nothing asked", "expected '? QUESTION | ANSWER'"),
        ("One more sentence.", "a sentence after the questions"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(SystemExit, match=r"some\.txt:10: ") as stopped:
        _templates(tmp_path, PASSAGE + line + "\n")
    assert reason in str(stopped.value)


def test_an_answer_stands_once_in_the_text_and_a_missing_sentence_leaves_none(tmp_path: Path, composer) -> None:
    from nano_recipe import written

    (template,) = _templates(tmp_path)
    declined = answered = 0
    for _ in range(200):
        text, asked = written.write(template, composer.pools, leave_out=0.5)
        assert "{" not in text and "[[" not in text and len(asked) == 4
        for question, answer in asked:
            if "earn" in question:
                assert answer is None
            elif answer is None:
                declined += 1
                if "parcel" in question:
                    assert "night cupboard" not in text
            else:
                answered += 1
                assert text.count(answer) == 1
    assert 50 < declined < 130 and answered > 400


def test_an_answer_carries_the_mark_of_its_passage(tmp_path: Path, composer) -> None:
    from nano_recipe import written
    from nano_recipe.tasks import NOT_STATED

    templates = _templates(tmp_path, PASSAGE + PASSAGE.replace("Late", "Early").replace("night", "day"))
    composer.pools.rng = random.Random(2)
    texts, turns = written.conversation(templates, composer.pools, 2, 8)
    assert len(texts) == 2 and len(turns) == 8
    for _, answer in turns:
        if answer != NOT_STATED:
            said, mark = answer[:-4], int(answer[-2])
            assert said in texts[mark - 1] and said not in texts[2 - mark]


def test_the_shipped_passages_are_well_formed_and_many() -> None:
    from nano_recipe import written

    templates = written.read(NANO / "reading")
    assert len({t.title for t in templates}) == len(templates)
    asked = [answer for t in templates for _, answer in t.questions]
    assert len(templates) > 300 and 0.05 < sum(a is None for a in asked) / len(asked) < 0.3
    assert 10 < sum(t.held_out for t in templates) < len(templates) / 6


def test_nine_words_in_a_row_of_what_is_measured_stand_in_no_passage_that_is_learnt_from() -> None:
    from nano_recipe import written

    def runs(text: str) -> set[str]:
        words = re.findall(r"[a-z0-9]+", text.lower())
        return {" ".join(words[n : n + 9]) for n in range(len(words) - 8)}

    learnt = {
        run
        for t in written.read(NANO / "reading")
        for line in [*t.sentences, *(question for question, _ in t.questions)]
        for run in runs(line)
    }
    measured = set()
    for path in (NANO.parent / "examples").rglob("*.md"):
        measured |= {run for line in path.read_text(encoding="utf-8").splitlines() for run in runs(line)}
    for path in (NANO.parent / "examples").rglob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            measured |= runs(json.loads(line)["question"])
    for line in (NANO / "evaluation/handwritten.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        measured |= runs(row["passage"]).union(*(runs(q["question"]) for q in row["questions"]))
    assert len(learnt) > 100_000 and len(measured) > 10_000
    assert not learnt & measured


def test_items_rows_headings_and_steps_stand_on_lines_of_their_own(tmp_path: Path, composer) -> None:
    from nano_recipe import written

    lines = [
        "Two rooms.",
        "| Room | Key |",
        "| --- | --- |",
        "| North | red |",
        "## After hours",
        "Ask first.",
        "Then go.",
        "1. Knock.",
    ]
    (template,) = _templates(tmp_path, "passage Rooms\n" + "\n".join(lines) + "\n? Which key opens North? | red\n")
    text, _ = written.write(template, composer.pools, leave_out=0.0)
    assert text.endswith(
        "Two rooms.\n| Room | Key |\n| --- | --- |\n| North | red |\n## After hours\nAsk first. Then go.\n1. Knock."
    )
