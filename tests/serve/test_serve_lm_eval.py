"""A task of lm-evaluation-harness asked of the real server; skipped where the harness is not installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from live import Live

from fieldwise.cli import main
from fieldwise.files import write_text

TASK = """\
task: hours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n"], do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


def test_a_local_task_is_asked_of_our_own_endpoint(
    service: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval")
    rows = [{"question": f"What is rule {n}?", "answer": "none"} for n in range(3)]
    write_text(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows)))
    write_text(tmp_path / "hours.yaml", TASK.format(rows=tmp_path / "rows.jsonl"))
    command = ["suite", str(tmp_path / "hours.yaml"), "--endpoint", f"{service.url}/v1", "--model", "tuned"]
    assert main([*command, "--out", str(tmp_path / "out"), "--limit", "2", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["tasks"]
    assert found["items"] == 2 and found["metrics"]["exact_match"]["n"] == 2
    (replies,) = (tmp_path / "out").rglob("replies.jsonl")
    assert all(json.loads(line)["reply"]["text"] for line in replies.read_text().splitlines())
