import json
from pathlib import Path
from typing import Any

import pytest

from fieldwise.cli import main
from fieldwise.compare.pairs import write_pairs
from fieldwise.errors import DatasetError
from fieldwise.generate.votes import HeldOut, Voted, read_votes
from fieldwise.prompts import closed_prompt, grounded_prompt
from fieldwise.records import Conversation, Message, PreferencePair
from fieldwise.tables import read_records

SIDES: Any = {"doc_train": "train", "doc_also": "train", "doc_held": "validation", "doc_test": "test"}
HELD = HeldOut(SIDES, ["Who opens the blue door on the second floor?"], {"The blue door is opened by the porter."})
LOG = "The log is kept for 14 days."


def pair(question: str, *documents: str, chosen: str = "14 days [1]", rejected: str = "a while", passage: str = LOG, **more: Any) -> PreferencePair:  # fmt: skip
    prompt: Conversation = grounded_prompt(question, [passage]) if documents else closed_prompt(question)
    values: dict[str, Any] = {
        "judge": "human",
        "reason": "preferred by 2 of 3 voters, blind",
        "document_ids": documents,
    }
    return PreferencePair.make(**{"prompt": prompt, "chosen": chosen, "rejected": rejected, **values, **more})


GOOD = pair("How long is the log kept?", "doc_train", "doc_also", chunk_ids=("chk_1",))


def read(folder: Path, *pairs: PreferencePair, more: str = "") -> Voted:
    write_pairs(folder / "votes.jsonl", pairs)
    with (folder / "votes.jsonl").open("a") as stream:
        stream.write(more)
    return read_votes(folder / "votes.jsonl", HELD)


def test_a_vote_over_training_documents_is_a_pair_with_its_line(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD, pair("Is it so?"))
    assert [p.id for p in found.pairs] == [GOOD.id, pair("Is it so?").id]
    assert found.pairs[0].document_ids == ("doc_train", "doc_also", "votes.jsonl:1")
    assert (found.pairs[0].chosen, found.pairs[0].chunk_ids, found.pairs[0].split) == (
        "14 days [1]",
        ("chk_1",),
        "train",
    )
    assert found.pairs[1].document_ids == ("votes.jsonl:2",)
    assert found.rejected == [] and found.facts == {"file": "votes.jsonl", "lines": 2, "used": 2, "left_out": {}}


@pytest.mark.parametrize(
    ("leaking", "reason"),
    [
        (pair("How long?", "doc_train", "doc_test"), "held_out_document"),
        (pair("How long?", "doc_held"), "held_out_document"),
        (pair("How long?", "doc_of_another_run"), "unknown_document"),
        (pair("How long?", "doc_train", passage="The blue door is opened by the porter."), "held_out_document"),
        (pair("Who opens the blue door on the second floor?", "doc_train"), "held_out_question"),
        (pair("who opens the blue  door on the second floor?"), "held_out_question"),
    ],
)
def test_what_training_may_not_see_is_left_out_and_counted(
    tmp_path: Path, leaking: PreferencePair, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read(tmp_path, leaking, GOOD)
    assert [p.id for p in found.pairs] == [GOOD.id]
    assert [(r.item, r.reason) for r in found.rejected] == [("votes.jsonl:1", reason)]
    assert found.facts["left_out"] == {reason: 1}
    assert f"votes.jsonl: 1 of 2 votes are left out ({reason} 1)" in capsys.readouterr().err


def test_passages_without_their_documents_are_left_out(tmp_path: Path) -> None:
    bare = pair("How long?", "doc_train").model_copy(update={"document_ids": ()})
    assert [r.reason for r in read(tmp_path, bare, GOOD).rejected] == ["unknown_document"]


def line(**changed: Any) -> str:
    return json.dumps({**GOOD.model_dump(mode="json"), **changed}) + "\n"


def test_bad_lines_are_kept_aside_with_their_number_and_the_others_are_read(tmp_path: Path) -> None:
    other_prompt = (Message(role="user", content="Hi?"),)
    elsewhere = pair("x", "doc_train", prompt=other_prompt)
    more = "{broken\n\n[1]\n" + line(chosen=None) + line(extra=1) + line(judge="rules") + line(chosen=" ")
    more += line(rejected="14  days [1]") + line(chosen="15 days [1]") + json.dumps(elsewhere.model_dump(mode="json"))
    found = read(tmp_path, GOOD, more=more)
    assert [(r.item.rpartition(":")[2], r.reason) for r in found.rejected] == [
        ("2", "broken_line"),
        ("4", "no_pair"),
        ("5", "no_pair"),
        ("6", "no_pair"),
        ("7", "no_vote"),
        ("8", "empty"),
        ("9", "same_sides"),
        ("10", "changed"),
        ("11", "unknown_prompt"),
    ]
    assert found.facts["lines"] == 10 and found.facts["used"] == 1


def test_the_same_pair_twice_counts_once_and_one_preferred_either_way_not_at_all(tmp_path: Path) -> None:
    left = pair("Which one?", "doc_train", chosen="this", rejected="that")
    right = pair("Which one?", "doc_train", chosen="that", rejected="this")
    found = read(tmp_path, GOOD, left, GOOD, right)
    assert [p.id for p in found.pairs] == [GOOD.id]
    assert {(r.item, r.reason) for r in found.rejected} == {
        ("votes.jsonl:2", "disputed"),
        ("votes.jsonl:3", "duplicate"),
        ("votes.jsonl:4", "disputed"),
    }


def test_a_file_of_something_else_and_none_at_all_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Why?", "answer": "so"}\n' * 9)
    with pytest.raises(DatasetError, match=r"no line is a pair that people voted for.*rows.jsonl:1.*votes --run DIR"):
        read_votes(path, HELD)
    with pytest.raises(DatasetError, match="the file of votes is not there"):
        read_votes(tmp_path / "gone.jsonl", HELD)
    path.write_text("\n")
    assert read_votes(path, HELD).facts == {"file": "rows.jsonl", "lines": 0, "used": 0, "left_out": {}}


# ---------------------------------------------------------------- in a run

THINGS = ("fire door", "badge", "trolley", "fridge log", "bed rail", "lift key", "spill kit", "name band", "hoist")
PLACES = ("cellar", "office", "lobby", "pharmacy", "yard", "kitchen", "loft", "library", "garage")


def documents(folder: Path) -> None:
    folder.mkdir()
    for n, (thing, place) in enumerate(zip(THINGS, PLACES, strict=True)):
        (folder / f"{n}.md").write_text(
            f"# The {thing}\n\nThe {thing} is kept in the {place}. The {thing} is checked within {n + 4} hours.\n\n"
            f"The warden of the {place} counts the {thing} every {n + 12} days. The {thing} must not leave the {place}.\n"
            f"The {thing} means the device of type {place}. It is replaced after {n + 2} years by the porter.\n"
        )


def test_a_run_takes_kinds_and_votes_counts_them_and_traces_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents(tmp_path / "docs")
    run, recipe = tmp_path / "run", tmp_path / "recipe.yaml"
    head = "collect: {sources: [docs]}\nretrieve: {embedding: none}\n"
    recipe.write_text(f"{head}generate: {{grounded_share: 1.0}}\n")
    assert main(["run", "--config", str(recipe), "--run", str(run), "--end", "3"]) == 0
    plain = (run / "3_examples/preferences.parquet").read_bytes()
    card = json.loads((run / "3_examples/card.json").read_text())
    assert card["preference_pairs"] > 20 and {"preferences", "lengths", "votes"}.isdisjoint(card)
    usual = list(read_records(run / "3_examples/preferences.parquet", PreferencePair))

    voted = [
        pair(f"Is the {thing} heavy?", *next(p for p in usual if thing in p.prompt[1].content).document_ids)
        for thing in THINGS[:2]
        if any(thing in p.prompt[1].content for p in usual)
    ]
    write_pairs(tmp_path / "votes.jsonl", [*voted, pair("How long?", "doc_unknown")])
    recipe.write_text(
        f"{head}generate:\n  grounded_share: 1.0\n  preference_pairs: 12\n  votes: votes.jsonl\n"
        "  preferences: {altered_number: 0.5, over_compliance: 0.25, uncited: 0.25}\n"
    )
    assert main(["run", "--config", str(recipe), "--run", str(run), "--end", "3"]) == 0
    card = json.loads((run / "3_examples/card.json").read_text())
    assert card["preferences"] == {
        "altered_number": {"made": 6, "wanted": 6, "left_out": 0},
        "over_compliance": {"made": 3, "wanted": 3, "left_out": 0},
        "uncited": {"made": 3, "wanted": 3, "left_out": 0},
    }
    assert card["votes"] == {
        "file": "votes.jsonl",
        "lines": len(voted) + 1,
        "used": len(voted),
        "left_out": {"unknown_document": 1},
    }
    assert card["lengths"]["pairs"] == 12 + len(voted) == card["preference_pairs"]
    rejected = [json.loads(row) for row in (run / "3_examples/rejected.jsonl").read_text().splitlines()]
    assert [r["item"] for r in rejected if r["reason"] == "unknown_document"] == [f"votes.jsonl:{len(voted) + 1}"]
    capsys.readouterr()
    assert main(["trace", "votes.jsonl:1", "--run", str(run), "--json"]) == 0
    assert [n["id"] for n in json.loads(capsys.readouterr().out)["used_in"]["preference"]] == [voted[0].id]

    recipe.write_text(f"{head}generate: {{grounded_share: 1.0, preferences: [uncited, invalid_json]}}\n")
    assert main(["run", "--config", str(recipe), "--run", str(run), "--end", "3"]) == 0
    told = capsys.readouterr().err
    assert "kinds of preference pairs that the examples give too few of: invalid_json 0" in told
    assert "chosen replies are longer in 100% of the pairs" in told

    recipe.write_text(f"{head}generate: {{grounded_share: 1.0}}\n")
    assert main(["run", "--config", str(recipe), "--run", str(run), "--end", "3"]) == 0
    assert (run / "3_examples/preferences.parquet").read_bytes() == plain


def test_another_file_of_votes_runs_the_stage_anew_and_a_missing_one_is_told_before(tmp_path: Path) -> None:
    from fieldwise.recipe import load_recipe, missing_places
    from fieldwise.steps import STEPS

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("generate: {votes: votes.jsonl}")
    loaded = load_recipe(recipe)
    assert [(p.where, p.found) for p in missing_places(loaded)] == [("generate.votes", str(tmp_path / "votes.jsonl"))]
    outside = next(s for s in STEPS if s.name == "generate").outside
    with pytest.raises(DatasetError, match="the file of votes is not there"):
        outside(loaded)
    write_pairs(tmp_path / "votes.jsonl", [GOOD])
    first = outside(loaded)
    write_pairs(tmp_path / "votes.jsonl", [GOOD, pair("Is it so?")])
    assert outside(loaded) != first and str(tmp_path) not in json.dumps(outside(loaded))
