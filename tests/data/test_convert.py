import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fieldwise.cli import main
from fieldwise.data.conversion import Conversion, convert_set
from fieldwise.data.targets import TARGETS, Target
from fieldwise.errors import DatasetError
from fieldwise.prompts import asked_of, closed_prompt, grounded_prompt
from fieldwise.records import Conversation, Example, Message, PreferencePair
from fieldwise.rows.formats import Item
from fieldwise.rows.items import ItemReader, Read
from fieldwise.rows.splits import find_splits
from fieldwise.tables import write_records

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
ODD = (
    'He said "no", then\nleft; a|b\tc',
    "Größe → 5 µg, 終わり 🙂",
    "=1+1",
    "  blanks  ",
    "[]",
    '["a", "b"]',
    "[1] x\n\n[2] y",
)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def items(path: Path) -> list[Item]:
    files = [f for found in find_splits(path).files.values() for f in found]
    read = list(ItemReader(files, {}))
    assert all(isinstance(r, Read) and isinstance(r.item, Item) for r in read)
    return [r.item for r in read if isinstance(r, Read) and isinstance(r.item, Item)]


def converted(source: Path, to: Target, suffix: str = ".jsonl") -> tuple[Path, Conversion]:
    out = source.with_name(f"{source.stem}-{to}{suffix}")
    done = convert_set(source, to, out, {})
    return (out if out.exists() else out.with_suffix("")), done


def asked_and_said(found: Sequence[Item]) -> list[tuple[Conversation, ...]]:
    return [item.conversations for item in found]


CHATS = [
    {"messages": [turn("system", "Be brief."), turn("user", text), turn("assistant", f"so {n}")]}
    for n, text in enumerate(ODD)
]
LONG = {"messages": [turn("user", "Hi?"), turn("assistant", "Yes?"), turn("user", "When?"), turn("assistant", "Now")]}
QUESTIONS = [{"question": text, "context": [], "answer": "so"} for text in ODD] + [
    {"question": f"Why {n}?", "context": [text, "second"], "answer": text} for n, text in enumerate(ODD)
]
PAIRS = [{"prompt": text, "chosen": f"{text} yes", "rejected": f"{text} no"} for text in ODD]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("to", ["chat", "sharegpt", "prompt-completion"])
def test_conversations_come_back_word_for_word(tmp_path: Path, to: Target, suffix: str) -> None:
    source = write(tmp_path / "chats.jsonl", [*CHATS, LONG])
    out, done = converted(source, to, suffix)
    assert (done.lost, done.lost_columns, done.left_out) == ({}, {}, [])
    assert asked_and_said(items(out)) == asked_and_said(items(source))
    back, _ = converted(out, "chat", ".jsonl")
    assert [json.loads(line) for line in back.read_text().splitlines()] == [*CHATS, LONG]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_questions_with_contexts_come_back_word_for_word(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / "qa.jsonl", QUESTIONS)
    for to in ("qa", "chat", "sharegpt", "prompt-completion"):
        out, done = converted(source, to, suffix)
        assert done.lost == {} and asked_and_said(items(out)) == asked_and_said(items(source))
        assert asked_and_said(items(converted(out, "qa")[0])) == asked_and_said(items(source))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_turn_comes_back_from_alpaca_word_for_word(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / "chats.jsonl", CHATS)
    out, done = converted(source, "alpaca", suffix)
    assert done.lost == {} and asked_and_said(items(out)) == asked_and_said(items(source))
    rows = [{"instruction": "Sum up", "input": text, "output": "so", "system": "Be brief."} for text in ODD]
    again = write(tmp_path / "alpaca.jsonl", rows)
    out, _ = converted(again, "alpaca", suffix)
    assert [(i.question, i.given) for i in items(out)] == [("Sum up", text) for text in ODD]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pairs_become_labels_and_pairs_again(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / "pairs.jsonl", PAIRS)
    same, _ = converted(source, "preference", suffix)
    assert asked_and_said(items(same)) == asked_and_said(items(source))
    labels, done = converted(source, "kto", suffix)
    assert [i.label for i in items(labels)] == [True, False] * len(PAIRS)
    assert done.lost == {"which reply was rejected against which": 2 * len(PAIRS)}
    back, _ = converted(labels, "preference")
    assert asked_and_said(items(back)) == asked_and_said(items(source))


def test_prompts_of_messages_stay_messages_in_every_row(tmp_path: Path) -> None:
    chat = [turn("system", "Be brief."), turn("user", "Why?")]
    rows = [{"prompt": chat, "chosen": "so", "rejected": "no"}, {"prompt": "When?", "chosen": "now", "rejected": "no"}]
    source = write(tmp_path / "pairs.jsonl", rows)
    for suffix in SUFFIXES:
        out, _ = converted(source, "preference", suffix)
        assert asked_and_said(items(out)) == asked_and_said(items(source))


def test_what_a_format_cannot_hold_is_left_out_with_its_place_or_told_as_lost(tmp_path: Path) -> None:
    source = write(tmp_path / "chats.jsonl", [*CHATS, LONG])
    out, done = converted(source, "alpaca")
    assert [(row["item"], row["reason"]) for row in done.left_out] == [("chats.jsonl:8", "many_turns")]
    kept = out.with_suffix(".rejected.jsonl")
    assert json.loads(kept.read_text())["item"] == "chats.jsonl:8" and done.rejected == str(kept)
    assert converted(source, "qa")[1].lost == {"the system message": len(CHATS)}
    pairs = write(tmp_path / "pairs.jsonl", PAIRS)
    assert converted(pairs, "chat")[1].lost == {"the rejected reply": len(PAIRS)}
    assert converted(write(tmp_path / "q.jsonl", QUESTIONS[-1:]), "alpaca")[1].lost == {
        "where one passage ends and the next begins": 1
    }


def test_a_reply_that_nobody_wanted_is_never_taught(tmp_path: Path) -> None:
    rows = [{"prompt": "Why?", "completion": reply, "label": reply == "so"} for reply in ("so", "no", "never")]
    source = write(tmp_path / "kto.jsonl", rows)
    out, done = converted(source, "chat")
    assert [i.said for i in items(out)] == ["so"] and done.lost == {"the label": 1}
    assert [row["reason"] for row in done.left_out] == ["disliked", "disliked"]
    _, pairs = converted(source, "preference")
    assert [(row["item"], row["reason"]) for row in pairs.left_out] == [("kto.jsonl:3", "no_counterpart")]


def test_other_columns_are_carried_unless_a_reader_would_take_them_for_a_field(tmp_path: Path) -> None:
    more = {"source": "book", "pages": [1, 2], "topic": None, "rejected": "x"}
    source = write(tmp_path / "rows.jsonl", [{"question": "Why?", "answer": "so", "category": "law", **more}])
    out, done = converted(source, "chat")
    row = json.loads(out.read_text())
    assert {k: row[k] for k in ("source", "pages", "category")} == {
        "source": "book",
        "pages": [1, 2],
        "category": "law",
    }
    assert done.carried == ["source", "pages", "topic", "category"]
    assert list(done.lost_columns) == ["rejected"] and "rejected" not in row
    assert items(out)[0].kind == "law"


def test_splits_become_a_folder_that_is_read_again(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write(tmp_path / f"set/{name}.jsonl", CHATS)
    out = tmp_path / "new.parquet"
    done = convert_set(tmp_path / "set", "sharegpt", out, {})
    assert list(find_splits(tmp_path / "new").files) == ["train", "test"] and not out.exists()
    assert done.files == {str(tmp_path / f"new/{n}.parquet"): len(CHATS) for n in ("train", "test")}
    assert convert_set(tmp_path / "set", "chat", out, {}, split="test").files == {str(out): len(CHATS)}
    with pytest.raises(DatasetError, match=r"no such split, found train, test"):
        convert_set(tmp_path / "set", "chat", tmp_path / "x.csv", {}, split="dev")


def test_the_examples_and_pairs_of_a_run_are_written(tmp_path: Path) -> None:
    prompts = [closed_prompt("Why?"), grounded_prompt("When?", ["a\n\n[2] b", "c"])]
    examples = [
        Example.make(
            question="?", answer="so", kind="fact", conversation=(*p, Message(role="assistant", content="so [1]"))
        )
        for p in prompts
    ]
    pair = PreferencePair.make(prompt=prompts[1], chosen="so", rejected="no", judge="rules", reason="wrong")
    folder = tmp_path / "run/3_examples"
    folder.mkdir(parents=True)
    for name in ("train", "validation", "test"):
        write_records(folder / f"{name}.parquet", examples, Example)
    write_records(folder / "preferences.parquet", [pair], PreferencePair)
    convert_set(tmp_path / "run", "qa", tmp_path / "qa.json", {})
    back = items(tmp_path / "qa")
    assert asked_and_said(back[:2]) == [(e.conversation,) for e in examples]
    assert json.loads((tmp_path / "qa/train.json").read_text())[0]["id"] == examples[0].id
    convert_set(folder, "kto", tmp_path / "kto.csv", {})
    assert [i.conversations[0][:-1] for i in items(tmp_path / "kto.csv")] == [prompts[1], prompts[1]]


def test_nothing_is_replaced_without_force_and_nothing_to_write_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(tmp_path / "chats.jsonl", CHATS), write(tmp_path / "there.csv", [{"a": 1}])
    call = ["data", "convert", str(source), "--to", "alpaca", "--out", str(out)]
    assert main(call) == 2 and "there is a file already" in capsys.readouterr().err
    assert json.loads(out.read_text()) == {"a": 1}
    assert main([*call, "--force", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == {str(out): len(CHATS)} and told["left_out"] == 0
    assert main(["data", "convert", str(source), "--to", "kto", "--out", str(tmp_path / "x.csv")]) == 2
    assert "no row can be written as kto, found no_label 7 (chats.jsonl:1" in capsys.readouterr().err
    assert main(["data", "convert", str(source), "--to", "chat", "--out", str(tmp_path / "x.xlsx")]) == 2
    assert "this kind of file cannot be written" in capsys.readouterr().err


def test_what_csv_cannot_give_back_is_left_out(tmp_path: Path) -> None:
    rows = [{"question": text, "answer": "so"} for text in ("Why?", "a\0b", "\n" * 600)]
    done = converted(write(tmp_path / "rows.jsonl", [*rows, {"question": "x\n" * 600, "answer": "so"}]), "qa", ".csv")[
        1
    ]
    assert [(r["item"], r["reason"]) for r in done.left_out] == [
        ("rows.jsonl:3", "empty"),
        ("rows.jsonl:2", "zero_byte"),
        ("rows.jsonl:4", "too_many_lines"),
    ]


def test_the_command_takes_every_target() -> None:
    from fieldwise.commands.data import TARGETS as TAKEN

    assert TAKEN == TARGETS


def test_the_prompts_of_serving_are_read_back() -> None:
    rng = random.Random(3)
    pieces = ["a", "\n\n", "[1] ", "[2] ", "[3] ", "Question: ", "Passages:\n"]
    for _ in range(300):
        passages = ["".join(rng.choices(pieces, k=rng.randint(1, 6))) for _ in range(rng.randint(1, 3))]
        prompt = grounded_prompt("Why?", passages)
        found = asked_of(prompt)
        assert found is not None and grounded_prompt(*found) == prompt
    assert asked_of(closed_prompt("Why?")) == ("Why?", ())
    assert asked_of((Message(role="user", content="Why?"),)) is None
