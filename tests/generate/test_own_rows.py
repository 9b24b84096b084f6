import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fieldwise.cli import main
from fieldwise.errors import DatasetError, RecipeError
from fieldwise.generate.rows import OwnRows, Placed, fingerprint, place, read_own
from fieldwise.generate.settings import DataSettings, GenerateSettings, SplitSettings
from fieldwise.pipeline import choose, require_outside
from fieldwise.prompts import closed_prompt, grounded_prompt
from fieldwise.recipe import Recipe, load_recipe, missing_places
from fieldwise.records import Example, Message, RatedReply
from fieldwise.run import RunFolder
from fieldwise.tables import read_records

THINGS = ("fire door", "badge", "trolley", "fridge log", "bed rail", "lift key", "spill kit", "name band")
DEEDS = ("checked", "cleaned", "replaced", "signed", "counted", "locked", "weighed")
QUESTIONS = [f"Who {deed} the {thing} last?" for thing in THINGS for deed in DEEDS]
SPLIT = SplitSettings()


def rows(questions: Sequence[str] = QUESTIONS) -> list[dict[str, Any]]:
    return [{"question": q, "answer": f"the clerk of room {n}"} for n, q in enumerate(questions)]


def write(path: Path, values: Sequence[dict[str, Any]], *more: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(v) + "\n" for v in values) + "".join(more), encoding="utf-8")
    return path


def read(*paths: Path, **settings: Any) -> OwnRows:
    return read_own({p.name: DataSettings(path=str(p), **settings) for p in paths})


def placed(own: OwnRows, *made: Example) -> Placed:
    return place(own, made, SPLIT, 42)


def made(question: str, split: Any) -> Example:
    conversation = (*closed_prompt(question), Message(role="assistant", content="from a document"))
    return Example.make(
        question=question, answer="from a document", kind="fact", conversation=conversation, split=split
    )


def side_of(result: Placed, question: str) -> str:
    return next(e.split for e in result.examples if e.question == question)


def test_rows_become_examples_asked_as_serving_asks_with_their_file_and_line(tmp_path: Path) -> None:
    own = read(write(tmp_path / "own.jsonl", rows()))
    example = placed(own).examples[3]
    assert example.document_ids == ("own.jsonl:4",)
    assert example.conversation[:-1] == closed_prompt(QUESTIONS[3])
    assert (example.question, example.answer) == (QUESTIONS[3], "the clerk of room 3")
    assert example.kind == "qa" and example.style == "closed"


def test_a_row_with_a_context_is_asked_over_it(tmp_path: Path) -> None:
    values = [{**row, "context": f"Room {n} is the clerk's."} for n, row in enumerate(rows())]
    example = placed(read(write(tmp_path / "own.jsonl", values))).examples[0]
    assert example.style == "grounded" and example.question == QUESTIONS[0]
    assert example.conversation[:-1] == grounded_prompt(QUESTIONS[0], ["Room 0 is the clerk's."])


def test_rows_without_splits_are_split_by_seed_and_the_same_way_again(tmp_path: Path) -> None:
    path = write(tmp_path / "own.jsonl", rows())
    first, again = placed(read(path)), placed(read(path))
    counts = Counter(e.split for e in first.examples)
    assert counts["train"] + counts["validation"] + counts["test"] == len(QUESTIONS)
    assert 4 <= counts["test"] <= 8 and 4 <= counts["validation"] <= 8
    assert first == again
    assert first != place(read(path), (), SPLIT, 43)


def test_nearly_the_same_questions_share_a_side(tmp_path: Path) -> None:
    long = "Who has to sign the form that says that the {} of the night ward was looked at before the shift began?"
    values = rows([*QUESTIONS, *(long.format(thing) for thing in THINGS)])
    result = placed(read(write(tmp_path / "own.jsonl", values)))
    assert len({side_of(result, long.format(thing)) for thing in THINGS}) == 1


def test_rows_that_all_ask_nearly_the_same_share_a_side_and_the_run_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = rows([f"Is there a special diet for people who live with illness {n}?" for n in range(40)])
    assert {e.split for e in placed(read(write(tmp_path / "own.jsonl", values))).examples} == {"train"}
    assert "40 of 40 rows ask nearly the same" in capsys.readouterr().err


def test_rows_over_one_context_share_a_side(tmp_path: Path) -> None:
    values = [{**row, "context": f"Page {n % 8} of the handbook."} for n, row in enumerate(rows())]
    result = placed(read(write(tmp_path / "own.jsonl", values)))
    sides: dict[str, set[str]] = {}
    for example in result.examples:
        sides.setdefault(example.conversation[1].content.rpartition("Question:")[0], set()).add(example.split)
    assert len(sides) == 8 and all(len(found) == 1 for found in sides.values())
    assert {"train", "test"} <= {s for found in sides.values() for s in found}


def test_the_splits_of_a_folder_are_kept_and_what_repeats_a_held_out_row_leaves_training(tmp_path: Path) -> None:
    write(tmp_path / "set/train.jsonl", rows(QUESTIONS[:30]))
    write(tmp_path / "set/validation.jsonl", rows(QUESTIONS[30:40]))
    write(tmp_path / "set/test.jsonl", rows([*QUESTIONS[40:], QUESTIONS[0].upper()]))
    result = placed(read(tmp_path / "set"))
    assert Counter(e.split for e in result.examples) == {"train": 29, "validation": 10, "test": 17}
    assert [(r.item, r.reason) for r in result.rejected] == [("set/train.jsonl:1", "near_duplicate_of_held_out")]


def test_a_held_out_split_that_is_missing_is_made_from_training_rows(tmp_path: Path) -> None:
    write(tmp_path / "set/train.jsonl", rows(QUESTIONS[:46]))
    write(tmp_path / "set/test.jsonl", rows(QUESTIONS[46:]))
    result = placed(read(tmp_path / "set"))
    sides = Counter((e.document_ids[0].split(":")[0], e.split) for e in result.examples)
    assert sides["set/test.jsonl", "test"] == 10 and sides["set/train.jsonl", "test"] == 0
    assert 3 <= sides["set/train.jsonl", "validation"] <= 7


def test_split_puts_every_row_on_one_side(tmp_path: Path) -> None:
    result = placed(read(write(tmp_path / "own.jsonl", rows()), split="train"))
    assert {e.split for e in result.examples} == {"train"}


def test_a_row_that_asks_what_a_document_answers_goes_to_its_side(tmp_path: Path) -> None:
    own = read(write(tmp_path / "own.jsonl", rows()))
    for side in ("test", "train"):
        assert side_of(placed(own, made(QUESTIONS[5], side)), QUESTIONS[5]) == side


def test_an_example_of_a_document_that_a_held_out_row_asks_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "set/train.jsonl", rows(QUESTIONS[:40]))
    write(tmp_path / "set/test.jsonl", rows(QUESTIONS[40:]))
    beside = [made(QUESTIONS[41], "train"), made("What is a hoist?", "train")]
    result = placed(read(tmp_path / "set"), *beside)
    assert result.made == beside[1:]
    assert (beside[0].id, "near_duplicate_of_held_out") in [(r.item, r.reason) for r in result.rejected]


def test_pairs_become_preference_pairs_with_their_side(tmp_path: Path) -> None:
    values = [{"prompt": q, "chosen": f"room {n}", "rejected": "no idea"} for n, q in enumerate(QUESTIONS)]
    values.append({"prompt": "Which?", "chosen": "this one", "rejected": "this  one"})
    own = read(write(tmp_path / "pairs.jsonl", values))
    result = placed(own)
    assert own.examples == 0 and result.examples == []
    assert len(result.pairs) == len(QUESTIONS) and {p.split for p in result.pairs} == {"train", "validation", "test"}
    assert (result.pairs[0].chosen, result.pairs[0].rejected) == ("room 0", "no idea")
    assert result.pairs[0].document_ids == ("pairs.jsonl:1",)
    assert [(r.item, r.reason) for r in own.rejected] == [("pairs.jsonl:57", "same_sides")]


def test_bad_rows_are_kept_aside_with_their_line(tmp_path: Path) -> None:
    more = [{"question": "Why?", "answer": ""}, {"question": None, "answer": "x"}]
    own = read(write(tmp_path / "own.jsonl", [*rows(), *more], "{broken\n", json.dumps(rows()[0]) + "\n"))
    assert [(r.item, r.reason) for r in own.rejected] == [
        ("own.jsonl:57", "empty"),
        ("own.jsonl:58", "null"),
        ("own.jsonl:59", "broken_line"),
    ]
    assert [(r.item, r.reason) for r in placed(own).rejected] == [("own.jsonl:60", "duplicate")]


def test_a_set_of_which_nothing_is_left_says_why_and_shows_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "own.jsonl", [{"question": f"Why {n}?", "answer": ""} for n in range(9)])
    with pytest.raises(
        DatasetError, match=r"no row can be trained on, found empty 9 \(own.jsonl:1: answer is empty"
    ) as e:
        read(path)
    assert str(e.value).count("answer is empty") == 5


def test_labelled_rows_become_rated_replies_and_no_examples(tmp_path: Path) -> None:
    rows = [{"prompt": f"Why {n}, and what of it?", "completion": f"So {n}", "label": n % 2 == 0} for n in range(4)]
    own = read(write(tmp_path / "kto.jsonl", rows))
    found = placed(own)
    assert own.examples == 0 and not found.examples and not found.pairs
    assert sorted((r.reply, r.is_wanted) for r in found.ratings) == [(f"So {n}", n % 2 == 0) for n in range(4)]
    first = next(r for r in found.ratings if r.reply == "So 0")
    assert first.prompt[-1].content == "Why 0, and what of it?" and first.document_ids == ("kto.jsonl:1",)


def test_a_chat_is_cut_after_its_last_reply_and_one_without_is_kept_aside(tmp_path: Path) -> None:
    turns = [{"role": r, "content": c} for r, c in (("user", "Hi?"), ("assistant", "Yes?"), ("user", "Bye."))]
    own = read(write(tmp_path / "chat.jsonl", [{"messages": turns}, {"messages": turns[:1]}]))
    assert [m.role for m in placed(own).examples[0].conversation] == ["user", "assistant"]
    assert [(r.item, r.reason) for r in own.rejected] == [("chat.jsonl:2", "no_reply")]


def test_examples_of_another_run_keep_their_prompt(tmp_path: Path) -> None:
    old = made("How long?", "train")
    path = write(tmp_path / "examples.jsonl", [old.model_dump(mode="json")])
    assert placed(read(path)).examples[0].conversation == old.conversation


# ---------------------------------------------------------------- in a recipe


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_recipe_names_rows_from_its_own_folder(tmp_path: Path) -> None:
    write(tmp_path / "rows/own.jsonl", rows())
    text = "generate: {data: [rows/own.jsonl, {path: rows/gone.csv, column_mapping: {question: frage}}]}"
    loaded = load_recipe(recipe(tmp_path, text))
    assert list(loaded.generate.data_sets) == ["own.jsonl", "gone.csv"]
    assert [(p.where, p.found) for p in missing_places(loaded)] == [
        ("generate.data.1", str(tmp_path / "rows/gone.csv"))
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{data: [{path: a.csv, column_mapping: {frage: question}}]}", "Did you mean {question: frage}?"),
        ("{from_documents: false}", "leaves nothing to train on without generate.data"),
        ("{data: [a.csv, a.csv]}", "names the same place twice"),
        ("{data: [{pfad: a.csv}]}", "generate.data.0.pfad: unknown key"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe(tmp_path, f"generate: {text}"))
    assert told in str(caught.value)


def test_ambiguous_columns_are_told_before_anything_runs_and_say_what_to_write(tmp_path: Path) -> None:
    path = write(tmp_path / "own.jsonl", [{"question": "Why?", "answer": "so", "response": "thus"}])
    loaded = load_recipe(None, [f"generate.data=[{path}]"])
    with pytest.raises(
        DatasetError, match=r"column_mapping: \{answer: answer\} or column_mapping: \{answer: response\}"
    ):
        require_outside(loaded, RunFolder(tmp_path / "run"), choose("3"))


def test_the_key_holds_names_and_content_of_rows_and_no_path(tmp_path: Path) -> None:
    write(tmp_path / "a/own.jsonl", rows())
    write(tmp_path / "b/own.jsonl", rows())
    settings = GenerateSettings(data=(str(tmp_path / "a/own.jsonl"), str(tmp_path / "b/own.jsonl")))
    assert list(settings.data_sets) == ["a/own.jsonl", "b/own.jsonl"]
    assert str(tmp_path) not in json.dumps(settings.keyed())
    assert len(set(fingerprint(settings.data_sets).values())) == 1


def test_a_recipe_without_rows_says_nothing_of_them_in_its_key() -> None:
    assert next(s for s in choose("3")).outside(Recipe()) == {}


def test_the_stage_trains_on_rows_alone_and_traces_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/log.md").write_text("# Log\n\nThe log is kept for 14 days in the ward office by the clerk.\n" * 3)
    write(tmp_path / "own.jsonl", [*rows(), {"question": "Why?", "answer": None}])
    path = recipe(
        tmp_path,
        "collect: {sources: [docs]}\nretrieve: {embedding: none}\n"
        "generate: {from_documents: false, data: [{path: own.jsonl, licence: ours}]}\n",
    )
    run = tmp_path / "run"
    assert main(["run", "--config", str(path), "--run", str(run), "--end", "3"]) == 0
    told = capsys.readouterr().err
    assert "own.jsonl: question-answer, from the columns question, answer" in told
    assert "1 of 57 rows are left out (null 1)" in told
    train = list(read_records(run / "3_examples/train.parquet", Example))
    assert len(train) > 40 and all(e.document_ids[0].startswith("own.jsonl:") for e in train)
    rejected = [json.loads(line) for line in (run / "3_examples/rejected.jsonl").read_text().splitlines()]
    assert [(r["item"], r["reason"]) for r in rejected] == [("own.jsonl:57", "null")]
    card = json.loads((run / "3_examples/card.json").read_text())
    assert card["data"]["own.jsonl"]["licence"] == "ours" and sum(card["data"]["own.jsonl"]["used"].values()) == 56
    assert main(["trace", train[0].document_ids[0], "--run", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [n["id"] for n in found["used_in"]["example"]] == [train[0].id]
    assert [n["id"] for n in found["made_from"]["document"]] == ["own.jsonl"]


def test_the_stage_keeps_rated_replies_apart_and_traces_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/log.md").write_text("# Log\n\nThe log is kept for 14 days in the ward office by the clerk.\n" * 3)
    write(tmp_path / "own.jsonl", rows())
    thumbs = [
        {"prompt": f"{q} Say it in a word.", "completion": f"Word {n}", "label": n % 2 == 0}
        for n, q in enumerate(QUESTIONS[:20])
    ]
    write(tmp_path / "thumbs.jsonl", thumbs)
    generate = "generate: {from_documents: false, data: [own.jsonl, thumbs.jsonl]}\n"
    path = recipe(tmp_path, f"collect: {{sources: [docs]}}\nretrieve: {{embedding: none}}\n{generate}")
    run = tmp_path / "run"
    assert main(["run", "--config", str(path), "--run", str(run), "--end", "3"]) == 0
    assert "20 rated replies, 10 wanted: learnt from with train.preference.method=kto" in capsys.readouterr().err
    kept = list(read_records(run / "3_examples/ratings.parquet", RatedReply))
    assert len(kept) == 20 and sum(r.is_wanted for r in kept) == 10
    card = json.loads((run / "3_examples/card.json").read_text())
    assert card["rated_replies"] == {"unwanted": 10, "wanted": 10}
    assert sum(card["data"]["thumbs.jsonl"]["used"].values()) == 20
    assert main(["trace", kept[0].document_ids[0], "--run", str(run), "--json"]) == 0
    assert kept[0].id in [n["id"] for n in json.loads(capsys.readouterr().out)["used_in"]["preference"]]
    path.write_text(path.read_text().replace(", thumbs.jsonl", ""))
    assert main(["run", "--config", str(path), "--run", str(run), "--end", "3"]) == 0
    assert not (run / "3_examples/ratings.parquet").exists()  # none of an earlier recipe is learnt from


def test_too_few_rows_to_train_on_are_told(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/log.md").write_text("# Log\n\nThe log is kept for 14 days in the ward office by the clerk.\n" * 3)
    write(tmp_path / "own.jsonl", rows(QUESTIONS[:9]))
    path = recipe(
        tmp_path,
        "{collect: {sources: [docs]}, retrieve: {embedding: none}, generate: {from_documents: false, data: [own.jsonl]}}",
    )
    assert main(["run", "--config", str(path), "--run", str(tmp_path / "run"), "--end", "3"]) == 2
