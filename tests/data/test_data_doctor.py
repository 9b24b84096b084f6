import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fieldwise.cli import main
from fieldwise.data.doctor import Report, examine
from fieldwise.data.findings import Finding
from fieldwise.data.rendering import Base
from fieldwise.data.report import plain
from fieldwise.engine.base_weights import chat_template, resolve
from fieldwise.errors import ModelError
from fieldwise.prompts import closed_prompt
from fieldwise.records import Example, Message, PreferencePair
from fieldwise.tables import write_records
from fieldwise.train.hardware import preset_for, this_machine
from fieldwise.train.settings import SftSettings, TrainSettings

WARDS = ("north", "south", "east", "west", "upper", "lower", "first", "second", "third", "fourth", "fifth", "sixth")
TWO_TURNS = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="How long is it kept?"),
    Message(role="assistant", content="14 days"),
    Message(role="user", content="And who keeps it, ä?"),
    Message(role="assistant", content="the ward clerk"),
)


@pytest.fixture(scope="module")
def base() -> Base:
    return Base.named("fieldwise-nano")


def good(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"question": f"When does ward {WARDS[n % 12]} {n} close for visitors?", "answer": f"at {n % 24}:00, desk {n}"}
        for n in range(start, start + count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def found(report: Report, code: str) -> Finding:
    return {f.code: f for f in report.findings}[code]


def base_with(folder: Path, old: str, new: str) -> Base:
    """The embedded base with another template; its weights are not needed."""
    home = Path(resolve("fieldwise-nano").path)
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(home / name, folder / name)
    template = chat_template(home) or ""
    assert old in template
    (folder / "chat_template.jinja").write_text(template.replace(old, new))
    return Base.named(str(folder))


def unmarked(folder: Path) -> Base:
    made = base_with(folder, "{%- generation %}", "")
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("{%- endgeneration %}", ""))
    assert made.has_markers is False
    return Base.named(str(folder))


def test_a_sound_set_has_no_findings(tmp_path: Path, base: Base) -> None:
    report = examine(write(tmp_path / "rows.jsonl", good(20)), base, {})
    assert [f for f in report.findings if f.severity != "note"] == []
    assert report.is_fit
    assert report.splits == {"all": {"rows": 20, "used": 20, "broken": 0}}
    assert report.explanation == {"all": "question-answer, from the columns question, answer"}


def test_what_carries_loss_is_what_training_labels(tmp_path: Path, base: Base) -> None:
    from transformers import AutoTokenizer

    from fieldwise.train.labels import IGNORED, label, messages

    folder = Path(resolve("fieldwise-nano").path)
    plain_base = unmarked(tmp_path / "plain")
    for own, place in ((base, folder), (plain_base, tmp_path / "plain")):
        tokenizer = AutoTokenizer.from_pretrained(place)
        expected = label(tokenizer, messages(TWO_TURNS, tokenizer))
        pieces = own.pieces(own.rendered(TWO_TURNS))
        assert [p.carries_loss for p in pieces] == [token != IGNORED for token in expected.labels]
        assert own.token_counts([own.rendered(TWO_TURNS).text]) == [len(expected.ids)]


def test_a_sign_of_several_tokens_is_shown_once(base: Base) -> None:
    rendered = base.rendered((Message(role="user", content="Kept at?"), Message(role="assistant", content="12 °C 🩺")))
    assert "".join(p.text for p in base.pieces(rendered)) == rendered.text


def test_the_sample_marks_the_reply_and_its_end(tmp_path: Path, base: Base) -> None:
    report = examine(write(tmp_path / "rows.jsonl", good(3)), base, {})
    assert "".join(p.text for p in report.sample if p.carries_loss) == " at 0:00, desk 0<|im_end|>"
    assert "⟦ at 0:00, desk 0<|im_end|>⟧" in plain(report)
    assert "\033[7m at 0:00, desk 0<|im_end|>\033[0m" in plain(report, colour=True)


def test_signs_that_steer_a_terminal_are_not_passed_on(tmp_path: Path, base: Base) -> None:
    report = examine(write(tmp_path / "rows.jsonl", [{"question": "Why\x1b[2J?", "answer": "so"}]), base, {})
    assert "\x1b" not in plain(report)
    assert "Why\\x1b[2J?" in plain(report)


def test_a_prompt_that_stands_in_two_splits_is_a_problem(tmp_path: Path, base: Base) -> None:
    write(tmp_path / "set/train.jsonl", good(40))
    write(tmp_path / "set/test.jsonl", [*good(40, start=40), good(40)[3]])
    report = examine(tmp_path / "set", base, {})
    leak = found(report, "leakage")
    assert (leak.severity, leak.count) == ("problem", 1)
    assert leak.places == ("train:4",)
    assert not report.is_fit


def test_runs_of_eight_words_give_away_a_copied_text(tmp_path: Path, base: Base) -> None:
    text = "the log of visitors is kept for fourteen days by the clerk of the ward and then shredded"
    write(tmp_path / "set/train.jsonl", [*good(40), {"question": "What is done with the log?", "answer": text}])
    write(tmp_path / "set/test.jsonl", [*good(30, 40), {"question": "Tell me:", "answer": text}])
    report = examine(tmp_path / "set", base, {})
    words = len(text.split())
    assert report.overlap["test"]["same_rows"] == 1
    assert report.overlap["test"]["found"] == words - 7
    assert found(report, "ngram_leakage").places == ("test:31",)
    assert found(report, "ngram_leakage").severity == "problem"  # 1 of 31 rows is more than 1 %


def test_the_same_question_over_another_context_is_no_leak(tmp_path: Path, base: Base) -> None:
    row = {"question": "What is the deadline?", "answer": "14 days", "context": "The tenant has 14 days to answer."}
    other = {**row, "answer": "one month", "context": "Appeals are filed with the court within one month."}
    write(tmp_path / "set/train.jsonl", [row])
    write(tmp_path / "set/test.jsonl", [other])
    assert "leakage" not in {f.code for f in examine(tmp_path / "set", base, {}).findings}


def test_rows_longer_than_the_limit_are_counted_with_the_key_to_raise(tmp_path: Path, base: Base) -> None:
    rows = [*good(19), {"question": "Why?", "answer": "because of this " * 60}]
    settings = TrainSettings(sft=SftSettings(max_length=100))
    report = examine(write(tmp_path / "rows.jsonl", rows), base, {}, settings)
    long = found(report, "too_long")
    assert (long.count, long.places, long.severity) == (1, ("all:20",), "warning")
    assert "train.sft.max_length (100 tokens)" in long.what
    assert report.lengths["max"] > 180
    rows = [rows[-1], *good(3)]
    assert found(examine(write(tmp_path / "b.jsonl", rows), base, {}, settings), "too_long").severity == "problem"


def test_a_pair_is_as_long_as_its_longer_side(tmp_path: Path, base: Base) -> None:
    pair = {"prompt": "Why?", "chosen": "so", "rejected": "because of this " * 300}
    report = examine(write(tmp_path / "rows.jsonl", [pair]), base, {})
    assert report.max_length == preset_for("auto", this_machine()).max_length["preference"]
    assert "train.preference.max_length" in found(report, "too_long").what


def test_rows_without_a_reply_carry_no_loss(tmp_path: Path, base: Base) -> None:
    asked = [{"role": "user", "content": "How long?"}]
    rows = [{"messages": [*asked, {"role": "assistant", "content": "14 days"}]}, {"messages": asked}]
    report = examine(write(tmp_path / "rows.jsonl", rows), base, {})
    assert found(report, "no_loss").places == ("all:2",)
    assert found(report, "no_loss").severity == "problem"


def test_a_template_without_markers_still_marks_the_reply(tmp_path: Path) -> None:
    plain_base = unmarked(tmp_path / "base")
    report = examine(write(tmp_path / "rows.jsonl", good(3)), plain_base, {})
    assert found(report, "no_markers").severity == "note"
    assert "".join(p.text for p in report.sample if p.carries_loss) == " at 0:00, desk 0<|im_end|>"
    assert report.is_fit


def test_markers_around_nothing_are_a_problem_of_every_row(tmp_path: Path) -> None:
    empty = base_with(tmp_path / "base", "{%- generation %}", "{%- generation %}{%- endgeneration %}{%- if true %}")
    path = tmp_path / "base/chat_template.jinja"
    place = path.read_text().rindex("{%- endgeneration %}")
    path.write_text(path.read_text()[:place] + "{%- endif %}" + path.read_text()[place + 20 :])
    empty = Base.named(str(tmp_path / "base"))
    report = examine(write(tmp_path / "rows.jsonl", good(3)), empty, {})
    assert found(report, "no_loss").count == 3
    assert "{% generation %}" in found(report, "no_loss").fix


def test_a_prompt_rendered_otherwise_for_serving_is_a_problem(tmp_path: Path) -> None:
    odd = base_with(tmp_path / "base", "add_generation_prompt %}\n{{- '<|im_start|>assistant", "add_generation_prompt %}\n{{- '<|im_start|>helper")  # fmt: skip
    report = examine(write(tmp_path / "rows.jsonl", good(3)), odd, {})
    assert found(report, "prompt_letters_differ").count == 3
    assert not report.is_fit


def test_a_template_that_refuses_roles_is_named_with_its_words(tmp_path: Path) -> None:
    strict = base_with(
        tmp_path / "base", "{%- if tools %}", "{%- if messages[0].role == 'system' %}{{ raise_exception('No system') }}{%- endif %}{%- if tools %}"
    )  # fmt: skip
    report = examine(write(tmp_path / "rows.jsonl", good(2)), strict, {})
    assert "No system" in found(report, "template_refuses").what
    assert report.sample == []


def test_empties_and_nulls_are_problems_only_when_they_are_many(tmp_path: Path, base: Base) -> None:
    rows = [*good(10), {"question": "Why?", "answer": ""}, {"question": "Why not?", "answer": None}]
    report = examine(write(tmp_path / "rows.jsonl", rows), base, {})
    assert {f.code for f in report.findings if f.severity != "note"} == {"empty", "null"}
    assert (found(report, "empty").count, found(report, "null").places) == (1, ("all:12",))
    assert found(report, "empty").severity == "problem"
    assert report.splits["all"]["used"] == 10
    rows = [*good(150), {"question": "Why?", "answer": ""}]
    assert found(examine(write(tmp_path / "b.jsonl", rows), base, {}), "empty").severity == "warning"


def test_half_a_sign_costs_its_row_only(tmp_path: Path, base: Base) -> None:
    path = write(tmp_path / "rows.jsonl", good(2))
    path.write_text(path.read_text() + '{"question": "Why?", "answer": "\\ud83d"}\n')
    report = examine(path, base, {})
    assert found(report, "half_sign").places == ("all:3",)
    assert report.splits["all"]["used"] == 2


def test_repeats_near_repeats_and_contradictions_are_told_apart(tmp_path: Path, base: Base) -> None:
    long = "the visitor log is kept by the ward clerk for fourteen days and then it is shredded in the cellar"
    rows = [
        *good(40),
        good(1)[0],
        {"question": "What about the log?", "answer": long},
        {"question": "What about the log?", "answer": f"{long} again"},
    ]
    report = examine(write(tmp_path / "rows.jsonl", rows), base, {})
    assert found(report, "duplicates").places == ("all:41",)
    assert "all:43" in found(report, "near_duplicates").places
    assert found(report, "contradictions").places == ("all:43",)
    assert report.is_fit


def test_rows_of_one_template_are_compared_without_comparing_all_with_all(tmp_path: Path, base: Base) -> None:
    text = "the rule of ward {0} says that visitors of room {0} leave at the bell and that the log of {0} is closed {1}"
    rows = [{"question": f"And ward {n}?", "answer": text.format(f"w{n}", n)} for n in range(1300)]
    rows.append({**rows[7], "question": "And ward 7, please?"})
    report = examine(write(tmp_path / "rows.jsonl", rows), base, {})
    assert "duplicates" not in {f.code for f in report.findings}
    assert found(report, "near_duplicates").places == ("all:1301",)


def test_personal_data_is_counted_and_never_shown(tmp_path: Path, base: Base) -> None:
    rows = [{"question": f"Who answers for ward {n}?", "answer": f"Write to jane{n}@example.org."} for n in range(8)]
    report = examine(write(tmp_path / "rows.jsonl", [*rows, *good(5)]), base, {})
    assert report.personal_data["email"] == 8
    assert found(report, "personal_data").severity == "warning"
    assert "example.org" not in plain(report)
    assert "example.org" not in json.dumps(report.to_json())
    assert report.sample_place == "all:9"


def test_labels_all_of_one_side_are_a_problem(tmp_path: Path, base: Base) -> None:
    rows = [{"prompt": r["question"], "completion": r["answer"], "label": True} for r in good(12)]
    report = examine(write(tmp_path / "rows.jsonl", rows), base, {})
    assert report.labels == {"true": 12}
    assert found(report, "one_label").severity == "problem"
    rows[0]["label"] = False
    assert found(examine(write(tmp_path / "rows.jsonl", rows), base, {}), "label_balance").severity == "warning"


def test_pairs_with_nothing_to_prefer_are_named(tmp_path: Path, base: Base) -> None:
    rows = [{"prompt": "Why?", "chosen": "so it is", "rejected": "so  it is"}]
    assert found(examine(write(tmp_path / "rows.jsonl", rows), base, {}), "same_sides").places == ("all:1",)


def test_text_rendered_for_another_model_is_seen(tmp_path: Path, base: Base) -> None:
    rows = [{"prompt": "<|im_start|>user\nWhy?<|im_end|>", "completion": "so"}]
    report = examine(write(tmp_path / "rows.jsonl", rows), base, {})
    assert found(report, "control_tokens").severity == "problem"


def test_languages_and_kinds_are_counted(tmp_path: Path, base: Base) -> None:
    german = {"question": "Wie lange wird das Buch der Besucher auf der Station aufbewahrt?", "answer": "Es wird vierzehn Tage lang von der Leitung aufbewahrt.", "kind": "fact"}  # fmt: skip
    report = examine(write(tmp_path / "rows.jsonl", [*({**r, "kind": "time"} for r in good(3)), german]), base, {})
    assert report.languages["de"] == 1
    assert report.kinds == {"time": 3, "fact": 1}
    assert "de 1" in found(report, "languages").what


def test_splits_of_different_formats_are_a_problem(tmp_path: Path, base: Base) -> None:
    write(tmp_path / "set/train.jsonl", good(3))
    write(tmp_path / "set/test.jsonl", [{"prompt": "Why?", "completion": "so"}])
    assert found(examine(tmp_path / "set", base, {}), "formats_differ").severity == "problem"


def test_the_examples_of_a_run_are_read_as_they_stand(tmp_path: Path, base: Base) -> None:
    for split in ("train", "test"):
        rows = [
            Example.make(
                question=row["question"],
                answer=row["answer"],
                kind="time",
                conversation=(
                    *closed_prompt(row["question"]),
                    Message(role="assistant", content=row["answer"]),
                ),
                split=split,  # type: ignore[arg-type]
            )
            for row in good(5, start=0 if split == "train" else 50)
        ]
        write_records(tmp_path / f"{split}.parquet", rows, Example)
    write_records(tmp_path / "preferences.parquet", [], PreferencePair)
    report = examine(tmp_path, base, {})
    assert report.format == "examples"
    assert {split: c["used"] for split, c in report.splits.items()} == {"train": 5, "test": 5}
    assert report.kinds == {"time": 10}
    assert "preferences.parquet" in found(report, "left_out").what
    assert report.is_fit


def test_a_guessed_encoding_is_a_warning_with_its_lines(tmp_path: Path, base: Base) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("question,answer\nFüße?,zwei\n".encode("cp1252") + "Größe?,drei\n".encode())
    report = examine(path, base, {})
    assert found(report, "encoding").places == ("all:2",)
    assert report.splits["all"]["used"] == 2


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json"])
def test_a_base_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    base_with(tmp_path / "base", "{%- if tools %}", "{%- if tools %}")
    (tmp_path / "base" / name).write_text("")
    with pytest.raises(ModelError, match=r"base") as caught:
        Base.named(str(tmp_path / "base"))
    assert caught.value.fix


# ---------------------------------------------------------------- the command


def test_the_command_explains_the_format_and_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rows.jsonl", [{"frage": r["question"], "antwort": r["answer"]} for r in good(5)])
    assert main(["data", "doctor", str(path), "--map", "question=frage", "--map", "answer=antwort", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "format     question-answer, from the columns question (column frage), answer (column antwort)\n" in out
    assert out.rstrip().endswith("Nothing found that would spoil a run.")


def test_a_problem_exits_with_2_and_json_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\nWhy?,so\nbroken\n")
    assert main(["data", "doctor", str(path), "--json", "--quiet"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["fit"] is False
    assert told["broken"] == [{"file": "rows.csv", "line": 3, "reason": "1 field where the header has 2"}]
    assert main(["data", "doctor", str(path), "--quiet"]) == 2
    text = capsys.readouterr().out
    assert [f["code"] for f in told["findings"]] == ["broken_lines"]
    assert all(f["what"] in text and f["fix"] in text for f in told["findings"])


def test_odd_names_of_columns_and_kinds_are_printed_spelt_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Why?", "answer": "so", "kind": "\\ud83d", "\\ud83e\\u001b": 1}\n')
    assert main(["data", "doctor", str(path), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "kinds      \\ud83d 1" in out
    assert main(["data", "doctor", str(path), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["kinds"] == {"\\ud83d": 1}


def test_an_ambiguous_set_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rows.jsonl", [{"question": "q", "answer": "a", "response": "b"}])
    assert main(["data", "doctor", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"fieldwise: {path}: more than one column could be the answer, found answer and response.")
    assert err.count("\n") == 1


def test_the_doctor_needs_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", good(3))
    code = (
        "import sys; from fieldwise.cli import main\ncode = main(['data', 'doctor', sys.argv[1], '--quiet'])\n"
        "heavy = {'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules)\nassert not heavy, heavy\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_rows_shown_are_those_that_training_reads(tmp_path: Path, base: Base) -> None:
    for split in ("test", "train"):
        write(tmp_path / f"{split}.jsonl", [{**row, "question": f"{split}: {row['question']}"} for row in good(12)])
    report = examine(tmp_path, base, {})
    assert report.sample_place == "train:1" and {place.split(":")[0] for place, _ in report.samples} == {"train"}
