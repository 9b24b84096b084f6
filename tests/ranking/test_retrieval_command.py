import argparse
import json
import shutil
from pathlib import Path

import pytest
from judged_run import make_beir, make_run, question_rows

from fieldwise.commands import retrieval
from fieldwise.commands.common import parents
from fieldwise.errors import DatasetError, FieldwiseError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    retrieval.add(parser.add_subparsers(), parents())
    options = parser.parse_args(["retrieval", *map(str, arguments)], argparse.Namespace(json=False, quiet=True))
    code: int = options.command(options)
    return code


def test_the_questions_of_the_recipe_are_measured_and_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", "--run", run, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["queries"] == 12 and told["level"] == "passage" and told["verdict"] is None
    assert told["figures"]["ndcg@10"]["value"] > 0.8
    assert told["latency"]["p95"] >= told["latency"]["p50"] > 0
    kept = json.loads((run / "5_reports/retrieval.json").read_text())["reports"]
    assert kept[0]["sha256"] == told["sha256"]
    assert "Until when" not in (run / "5_reports/retrieval.json").read_text()  # ids and hashes, no word of a question


def test_the_second_time_is_compared_with_the_first(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", "--run", run) == 0
    assert "last run" not in capsys.readouterr().out
    assert call("evaluate", "--run", run, "retrieve.candidates=5") == 0
    out = capsys.readouterr().out
    assert "last run +0.000" in out and "candidates 5" in out


def test_gates_give_the_exit_code(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = tmp_path / "more.jsonl"
    rows = [row for n in range(4) for row in question_rows(f"m{n}-", "so " * n)]
    more.write_text("\n".join(map(json.dumps, rows)))
    assert call("evaluate", more, "--run", run, "--at-least", "recall@10=0.5") == 0
    assert "PASS" in capsys.readouterr().out
    assert call("evaluate", more, "--run", run, "--at-least", "span_f1=1", "--at-least", "recall@10=0.5") in (3, 4)
    assert call("evaluate", "--run", run, "--at-least", "recall@10=0.5") == 4  # twelve questions decide nothing
    baseline = shutil.copytree(run, tmp_path / "earlier")
    assert call("evaluate", more, "--run", run, "--not-worse-than", baseline) == 0
    with pytest.raises(DatasetError, match="measured on other questions"):
        reports = json.loads((baseline / "5_reports/retrieval.json").read_text())["reports"]
        reports = [{**r, "sha256": "0" * 64} for r in reports]
        (baseline / "5_reports/retrieval.json").write_text(json.dumps({"reports": reports}))
        call("evaluate", more, "--run", run, "--not-worse-than", baseline)


def test_a_beir_folder_brings_its_own_passages(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", make_beir(tmp_path), "--run", run, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["split"], told["queries"], told["passages"]) == ("beir", "test", 12, 12)
    assert told["figures"]["recall@5"]["value"] > 0.8 and "span_f1" not in told["figures"]


def test_tuning_takes_training_questions_only(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_beir(tmp_path)
    assert call("tune", folder, "--run", run, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["fitted_on"], told["held_out"]) == (24, 24) and told["chosen"]["dense_weight"] == 0.4
    assert json.loads((run / "5_reports/retrieval-tuning.json").read_text()) == told
    with pytest.raises(DatasetError, match="not chosen on the test split"):
        call("tune", folder, "--run", run, "--split", "test")
    (folder / "qrels/train.tsv").unlink()
    with pytest.raises(DatasetError, match="no training split, found test"):
        call("tune", folder, "--run", run)


def test_tuning_on_the_measured_questions_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"questions that are measured on.*12 of evaluate.questions"):
        call("tune", tmp_path / "questions.jsonl", "--run", run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt"], "there is nothing here"),
        (["."], "not a BEIR folder"),
        (["--not-worse-than", "nowhere"], "there is no report here"),
        (["--split", "dev"], "no such split, found dev"),
        (["retrieve.dense_wait=1"], "dense_wait"),
    ],
)
def test_what_cannot_be_used_is_told(run: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(FieldwiseError, match=message):
        call("evaluate", "--run", run, *arguments)
    assert not (run / "5_reports/retrieval.json").exists()


@pytest.mark.parametrize("value", ["ndcg@10", "ndcg@10=high", "=0.5", "ndcg@10=1.5"])
def test_a_level_that_is_none_ends_before_any_work(run: Path, value: str) -> None:
    with pytest.raises(SystemExit):
        call("evaluate", "--run", run, "--at-least", value)
