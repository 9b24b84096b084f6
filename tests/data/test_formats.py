import json
from pathlib import Path
from typing import Any

import pytest

from fieldwise.errors import DatasetError
from fieldwise.records import NOT_STATED
from fieldwise.rows.reading import Broken, Note, Row, read_rows
from fieldwise.rows.schema import find_schema, parse_map
from fieldwise.rows.splits import find_splits
from fieldwise.rows.values import RowFault

HERE = Path("rows.jsonl")
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How long?"}, {"role": "assistant", "content": "14 days"}]  # fmt: skip
SHAREGPT = [{"from": "human", "value": "How long?"}, {"from": "gpt", "value": "14 days"}]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [r.values for r in read_rows(path) if isinstance(r, Row)]


def broken_of(path: Path) -> list[tuple[int, str]]:
    return [(r.number, r.reason) for r in read_rows(path) if isinstance(r, Broken)]


FORMATS = [
    ({"instruction": "How long?", "input": "", "output": "14 days"}, "alpaca", "How long?"),
    ({"instruction": "Sum up", "input": "A text", "output": "14 days"}, "alpaca", "Sum up\n\nA text"),
    ({"conversations": SHAREGPT}, "sharegpt", "How long?"),
    ({"messages": CHAT}, "chat", "How long?"),
    ({"conversations": CHAT}, "chat", "How long?"),
    ({"messages": json.dumps(CHAT)}, "chat", "How long?"),
    ({"prompt": "How long?", "completion": "14 days"}, "prompt-completion", "How long?"),
    ({"prompt": CHAT[:2], "completion": "14 days"}, "prompt-completion", "How long?"),
    ({"question": "How long?", "answer": "14 days"}, "question-answer", "How long?"),
    ({"question": "How long?", "answer": "14 days", "context": "Kept 14 days."}, "question-answer", "How long?"),
    ({"prompt": "How long?", "chosen": "14 days", "rejected": "30 days"}, "preference", "How long?"),
    ({"prompt": json.dumps(CHAT[:2]), "chosen": "14 days", "rejected": "30 days"}, "preference", "How long?"),
    ({"chosen": CHAT, "rejected": [*CHAT[:2], {"role": "assistant", "content": "no"}]}, "preference", "How long?"),
    ({"prompt": "How long?", "completion": "14 days", "label": False}, "kto", "How long?"),
    ({"prompt": "How long?", "completion": "14 days", "label": "1"}, "kto", "How long?"),
    ({"prompt": "How long?", "completion": "14 days", "label": "visits"}, "prompt-completion", "How long?"),
    ({"conversation": json.dumps(CHAT), "question": "How long?", "answer": "14 days"}, "examples", "How long?"),
]


@pytest.mark.parametrize(("row", "name", "asked"), FORMATS)
def test_the_format_is_found_from_the_columns_and_read(row: dict[str, Any], name: str, asked: str) -> None:
    schema = find_schema([row], {}, HERE)
    item = schema.item(row)
    assert (schema.format.name, item.asked, item.said) == (name, asked, "14 days")
    assert item.conversations[0][-1].role == "assistant"
    assert item.conversations[0][-1].content == ("14 days [1]" if item.passages else "14 days")
    assert schema.explain().startswith(f"{name}, from the columns ")


def test_a_pair_keeps_both_sides_and_a_kto_row_its_label() -> None:
    pair = {"prompt": "How long?", "chosen": "14 days", "rejected": "30 days"}
    item = find_schema([pair], {}, HERE).item(pair)
    assert [c[-1].content for c in item.conversations] == ["14 days", "30 days"]
    kto = {"prompt": "How long?", "completion": "30 days", "label": "False"}
    assert find_schema([kto], {}, HERE).item(kto).label is False


def test_a_context_becomes_the_passage_that_serving_would_show() -> None:
    row = {"question": "How long?", "answer": "14 days", "context": ["Kept 14 days.", "Visits end at 20:00."]}
    user = find_schema([row], {}, HERE).item(row).conversations[0][1].content
    assert user == "Passages:\n[1] Kept 14 days.\n\n[2] Visits end at 20:00.\n\nQuestion: How long?"


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("14 days", "14 days [1]"),
        ("Visits end at 20:00.", "Visits end at 20:00. [2]"),
        ("end", "end [2]"),
        ("two weeks", "two weeks"),
        ("t", "t"),
        ("14 days [2]", "14 days [2]"),
        (NOT_STATED, NOT_STATED),
    ],
)
def test_an_answer_in_the_words_of_one_passage_cites_it_as_serving_asks(answer: str, reply: str) -> None:
    row = {"question": "How long?", "answer": answer, "context": ["Kept 14 days.", "Visits end at 20:00."]}
    item = find_schema([row], {}, HERE).item(row)
    assert (item.said, item.reply) == (answer, reply)


def test_columns_are_mapped_and_the_explanation_says_so() -> None:
    row = {"frage": "Wie lange?", "antwort": "14 Tage", "nr": 7}
    schema = find_schema([row], parse_map(["question=frage", "answer=antwort"]), HERE)
    assert schema.explain() == (
        "question-answer, from the columns question (column frage), answer (column antwort); not used: nr"
    )
    assert schema.item(row).said == "14 Tage"


def test_two_columns_that_could_be_the_answer_are_refused_until_one_is_named() -> None:
    row = {"question": "How long?", "answer": "14 days", "response": "two weeks"}
    with pytest.raises(DatasetError, match=r"more than one column could be the answer") as caught:
        find_schema([row], {}, HERE)
    assert caught.value.found == "answer and response"
    assert "--map answer=answer or --map answer=response" in str(caught.value)
    schema = find_schema([row], {"answer": "response"}, HERE)
    assert schema.item(row).said == "two weeks"
    assert schema.unused == ("answer",)


def test_two_formats_that_fit_are_refused_until_one_is_named() -> None:
    row = {"prompt": "How long?", "completion": "14 days", "messages": CHAT}
    with pytest.raises(
        DatasetError, match=r"fit more than one format.*chat \(messages\) and prompt-completion"
    ) as caught:
        find_schema([row], {}, HERE)
    hint = "--map messages=messages"
    assert hint in str(caught.value)
    assert find_schema([row], parse_map([hint.removeprefix("--map ")]), HERE).format.name == "chat"


def test_columns_that_fit_nothing_are_listed_with_what_to_do() -> None:
    with pytest.raises(DatasetError, match=r"fit no format, found frage, nr\..*--map question=frage"):
        find_schema([{"frage": "Wie?", "nr": 1}], {}, HERE)


@pytest.mark.parametrize("pair", ["question", "question=", "colour=x"])
def test_a_mapping_that_is_none_is_refused(pair: str) -> None:
    with pytest.raises(DatasetError, match="--map: this is no mapping"):
        parse_map([pair])


def test_a_mapped_column_must_be_there() -> None:
    with pytest.raises(DatasetError, match="'fragen' of --map is not there, found frage, antwort"):
        find_schema([{"frage": "a", "antwort": "b"}], {"question": "fragen"}, HERE)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"question": "How long?", "answer": None}, "null"),
        ({"question": "How long?", "answer": "  "}, "empty"),
        ({"question": "How long?", "answer": {"a": 1}}, "not_text"),
        ({"question": "How long?", "answer": "\ud83d"}, "half_sign"),
        ({"messages": [{"role": "user", "content": "\ud83d"}]}, "half_sign"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "unknown_role"),
        ({"messages": [{"role": "user", "content": None}]}, "null"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "tool_calls"),
        ({"conversations": [SHAREGPT[0], {"from": "function_call", "value": "{}"}]}, "tool_calls"),
        ({"messages": "hello"}, "not_messages"),
        ({"prompt": "a", "completion": "b", "label": None}, "null"),
        ({"chosen": CHAT, "rejected": SHAREGPT}, "no_shared_prompt"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], code: str) -> None:
    good = {"question": "q", "answer": "a"} if "question" in row else {"prompt": "a", "completion": "b", "label": True}
    first = good if code == "null" and "messages" not in row else row
    with pytest.raises(RowFault) as caught:
        find_schema([first], {}, HERE).item(row)
    assert caught.value.code == code


# ---------------------------------------------------------------- files

ROWS = [{"question": "Größe?", "answer": "5 €"}, {"question": "Two\nlines?", "answer": 'say "yes", please'}]


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(r) for r in ROWS))
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "data": ROWS}))
    (tmp_path / "c.json").write_text("\n".join(json.dumps(r) for r in ROWS))  # JSON Lines by another name
    for name, sign in (("a.csv", ","), ("b.csv", ";"), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ["question", "answer"], delimiter=sign)
            writer.writeheader()
            writer.writerows(ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    files = sorted(tmp_path.iterdir())
    assert len(files) == 8
    for file in files:
        assert rows_of(file) == ROWS, file.name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "json"])
def test_encodings_with_a_mark_are_read(tmp_path: Path, encoding: str, suffix: str) -> None:
    text = {
        "jsonl": '{"question": "Größe?", "answer": "5 €"}\n',
        "json": '[{"question": "Größe?", "answer": "5 €"}]',
        "csv": "question,answer\r\nGröße?,5 €\r\n",
    }[suffix]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(text.encode(encoding))
    assert list(read_rows(path))[-1].values == ROWS[0]  # type: ignore[union-attr]


def test_lines_of_another_encoding_are_read_and_named(tmp_path: Path) -> None:
    lines = ["question,answer", "Größe?,5 €", "Füße?,zwei"]
    path = tmp_path / "mixed.csv"
    path.write_bytes("\n".join(lines[:2]).encode("utf-8") + b"\n" + lines[2].encode("cp1252") + b"\n")
    read = list(read_rows(path))
    assert [r.values["question"] for r in read if isinstance(r, Row)] == ["Größe?", "Füße?"]
    assert [r for r in read if isinstance(r, Note)] == [Note(3, "not UTF-8: read as windows-1252")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("only one field", "1 field where the header has 2"),
        ("a,b,c", "3 fields where the header has 2"),
        ('"never closed,b', "quotes that do not fit"),
        ('"a" x,b', "quotes that do not fit"),
    ],
)
def test_a_broken_csv_line_costs_only_itself(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'question,answer\nq1,a1\n{line}\nq2,a2\n"q\n3",a3\n')
    assert broken_of(path) == [(3, reason)]
    assert [r["question"] for r in rows_of(path)] == ["q1", "q2", "q\n3"]


def test_a_quote_that_stays_open_to_the_end_costs_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('question,answer\n"q1,a1\n' + "".join(f"q{n},a{n}\n" for n in range(2, 900)))
    assert broken_of(path) == [(2, "a quote that is never closed")]
    assert len(rows_of(path)) == 898


def test_a_broken_line_of_json_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n[1]\n{"a": 2}\n')
    assert [number for number, _ in broken_of(path)] == [3, 4]
    assert broken_of(path)[1][1] == "not an object but a list"
    assert [r.number for r in read_rows(path) if isinstance(r, Row)] == [1, 5]


def test_rows_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' * 3 + "broken\n")
    read = read_rows(path)
    assert next(read) == Row(1, {"a": 1})
    with path.open("a") as stream:  # what comes later is seen: the file was not read whole
        stream.write(" " * 100_000 + "\n" + '{"a": 9}\n')
    assert list(read)[-1] == Row(6, {"a": 9})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"x", "this kind of file holds no rows"),
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"a,a\n1,2\n", "the header must name each column once, found a"),
        ("a.json", b'{"a": 1}', "the JSON holds no list of rows"),
        ("a.json", b'[{"a": 1},]', "not valid JSON"),
        ("a.parquet", b"PAR1 no", "not a readable Parquet file"),
        ("a.jsonl", "{}".encode("utf-16-le"), "the file is not text"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=told) as caught:
        list(read_rows(tmp_path / name))
    assert caught.value.fix
    assert str(tmp_path / name) in str(caught.value)


def test_the_names_of_files_say_the_split(tmp_path: Path) -> None:
    for name in (
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "dev.csv",
        "test.jsonl",
        "notes.jsonl",
    ):
        (tmp_path / name).touch()
    found = find_splits(tmp_path)
    assert {split: len(files) for split, files in found.files.items()} == {"train": 2, "validation": 1, "test": 1}
    assert [p.name for p in found.left_out] == ["notes.jsonl"]
    (tmp_path / "sub").mkdir()
    with pytest.raises(DatasetError, match="does not say which file is what, found no file of rows"):
        find_splits(tmp_path / "sub")
