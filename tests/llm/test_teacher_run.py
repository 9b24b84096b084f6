"""The generate stage with an endpoint as its teacher, through the command line, over a run folder that stands."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import KEY, Answer, ChatServer, failed, lesson_for, said

ROOT = Path(__file__).resolve().parents[2]
TEACHER = ["generate.teacher=openai", "generate.endpoint.model=m", "generate.endpoint.key_variable=OUR_KEY"]


def _heed_ctrl_c() -> None:
    """A suite that was started in the background hands on that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def fieldwise(*arguments: str, key: str = KEY, **more: Any) -> Any:
    start = subprocess.run if not more.pop("in_background", False) else subprocess.Popen
    environment = {**os.environ, "OUR_KEY": key, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    captured = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "fieldwise", *arguments]
    return start(command, env=environment, cwd=ROOT, preexec_fn=_heed_ctrl_c, **captured, **more)


def generate(run: Path, server: ChatServer, *overrides: str, **more: Any) -> Any:
    address = f"generate.endpoint.base_url={server.url}"
    return fieldwise("generate", "--run", str(run), *TEACHER, address, *overrides, **more)


def outputs(run: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((run / "3_examples").iterdir())}


def journal(run: Path) -> list[dict[str, Any]]:
    path = run / "memo/teacher/journal.jsonl"
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [json.loads(line) for line in lines[:-1]]  # the last may be torn


def wait_for(server: ChatServer, requests: int, process: Any) -> None:
    until = time.monotonic() + 60
    while server.count < requests:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "documents").mkdir()
    for path in sorted((ROOT / "examples/documents/healthcare").glob("*.md"))[:8]:
        shutil.copy(path, folder / "documents")
    sources = f"collect.sources=[{folder / 'documents'}]"
    made = fieldwise("run", "--end", "2i", "--run", str(folder / "run"), sources, "retrieve.embedding=none")
    assert made.returncode == 0, made.stderr
    return folder / "run"


@pytest.fixture
def run(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "run"))


@pytest.fixture
def teacher() -> Iterator[ChatServer]:
    server = ChatServer(lesson_for, key=KEY)
    yield server
    server.close()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_run_again_no_pair_is_lost_none_made_twice_and_none_paid_twice(
    run: Path, prepared: Path, teacher: ChatServer, tmp_path: Path, blow: signal.Signals
) -> None:
    def slowly(body: dict[str, Any]) -> Answer:
        answer = lesson_for(body)
        answer.wait_seconds = 0.03
        return answer

    teacher.behave = slowly
    for more in (10, 15):
        process = generate(run, teacher, "generate.endpoint.concurrency=4", in_background=True)
        wait_for(teacher, teacher.count + more, process)
        process.send_signal(blow)
        process.communicate(timeout=30)
        assert process.returncode == (-signal.SIGKILL if blow == signal.SIGKILL else 130)
    kept, asked = journal(run), teacher.count
    assert len({row["key"] for row in kept}) == len(kept) >= 10
    assert asked - len(kept) <= 2 * 4  # what was in flight, twice
    done = generate(run, teacher)
    assert done.returncode == 0, done.stderr
    assert teacher.count - asked == len(journal(run)) - len(kept)  # nothing that was on record was asked again
    assert len({row["key"] for row in journal(run)}) == len(journal(run))

    unharmed = Path(shutil.copytree(prepared, tmp_path / "unharmed"))
    assert generate(unharmed, teacher).returncode == 0
    assert outputs(run) == outputs(unharmed)
    assert len(journal(run)) == len(journal(unharmed))


def test_another_setting_of_the_examples_asks_nothing_again(run: Path, teacher: ChatServer) -> None:
    assert generate(run, teacher).returncode == 0
    asked, before = teacher.count, outputs(run)
    assert generate(run, teacher, "generate.distractors=1").returncode == 0
    assert outputs(run) != before and teacher.count == asked
    card = json.loads((run / "3_examples/card.json").read_text())
    assert card["teacher"]["requests"] == asked and card["teacher"]["prompt_tokens"] == 400 * asked
    rows = [json.loads(line) for line in (run / "3_examples/rejected.jsonl").read_text().splitlines()]
    assert sum(card["rejected_by_rule"].values()) == len(rows) == card["rejected"]


def test_a_spent_budget_stops_cleanly_and_a_larger_one_goes_on(run: Path, teacher: ChatServer) -> None:
    price = ("generate.endpoint.price.input=1", "generate.endpoint.price.output=2")
    stopped = generate(run, teacher, *price, "generate.endpoint.budget.money=0.02")
    assert stopped.returncode == 2
    assert "the budget of the teacher is spent" in stopped.stderr and "passages left" in stopped.stderr
    paid = len(journal(run))
    assert 0 < paid == teacher.count and sum(row["price"] for row in journal(run)) <= 0.02
    assert not (run / "3_examples/card.json").exists()

    finished = generate(
        run, teacher, *price, "generate.endpoint.budget.money=0.03", "generate.endpoint.budget.when_spent=finish"
    )
    assert finished.returncode == 0, finished.stderr
    card = json.loads((run / "3_examples/card.json").read_text())
    assert card["rejected_by_rule"]["budget_spent"] > 0 and card["teacher"]["price"] <= 0.03
    assert generate(run, teacher, *price, "generate.endpoint.budget.money=5").returncode == 0
    assert teacher.count == len(journal(run)) == json.loads((run / "3_examples/card.json").read_text())["chunks"]


def test_an_expired_key_stops_at_once_and_stands_nowhere(run: Path, teacher: ChatServer) -> None:
    stopped = generate(run, teacher, "--json", key="sk-expired-555444333")
    assert stopped.returncode == 2 and teacher.count <= 8
    assert "does not take the key" in stopped.stderr and "OUR_KEY" in stopped.stderr
    assert "555444333" not in stopped.stderr + stopped.stdout
    done = generate(run, teacher)
    assert done.returncode == 0
    written = [p for p in run.rglob("*") if p.is_file()]
    assert written and not any(KEY.encode() in p.read_bytes() for p in written)
    assert KEY not in done.stderr + done.stdout


def test_without_its_key_a_run_does_not_even_begin(tmp_path: Path, teacher: ChatServer) -> None:
    sources = f"collect.sources=[{ROOT / 'examples/documents/healthcare'}]"
    address = f"generate.endpoint.base_url={teacher.url}"
    stopped = fieldwise("run", "--end", "3", "--run", str(tmp_path / "run"), sources, *TEACHER, address, key="")
    assert stopped.returncode == 2 and "OUR_KEY" in stopped.stderr
    assert not (tmp_path / "run" / "1_documents").exists()


def test_single_failures_are_listed_and_the_run_goes_on(run: Path, teacher: ChatServer) -> None:
    def mostly(body: dict[str, Any]) -> Answer:
        text = json.dumps(body["messages"])
        if "cannot be used" in text:
            return said("still prose")
        number = hash_of(json.dumps(body["messages"])) % 12
        faults = {0: failed(400, "maximum context length is 10"), 1: said("prose"), 2: said('{"pairs": [')}
        return faults.get(number) or lesson_for(body)

    teacher.behave = mostly
    done = generate(run, teacher)
    assert done.returncode == 0, done.stderr
    rules = json.loads((run / "3_examples/card.json").read_text())["rejected_by_rule"]
    assert rules["prompt_too_long"] > 0 and rules["not_json"] > 0
    assert "not_json" in done.stderr


def hash_of(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def test_when_every_pair_is_dropped_the_rule_is_named_with_samples(run: Path, teacher: ChatServer) -> None:
    pair = {
        "question": "How many moons circle the ward?",
        "answer": "79 moons",
        "quote": "It has 79 moons.",
        "kind": "fact",
    }
    teacher.behave = lambda body: said(json.dumps({"pairs": [pair], "unanswerable": []}))
    stopped = generate(run, teacher)
    assert stopped.returncode == 2
    assert "quote_not_in_chunk" in stopped.stderr and stopped.stderr.count("How many moons circle the ward?") == 5


def test_a_dry_run_says_what_it_would_cost_and_sends_nothing(run: Path, teacher: ChatServer) -> None:
    settings = (*TEACHER, f"generate.endpoint.base_url={teacher.url}", "generate.endpoint.price.output=2")
    said_ = fieldwise("run", "--dry-run", "--stage", "3", "--run", str(run), *settings)
    assert "requests, about" in said_.stdout and "at most" in said_.stdout and "prices" in said_.stdout
    as_json = fieldwise("run", "--dry-run", "--stage", "3", "--run", str(run), "--json", *settings)
    assert "requests" in json.loads(as_json.stdout)[0]["estimate"]
    assert teacher.count == 0


def test_where_texts_go_is_printed(run: Path, teacher: ChatServer) -> None:
    done = generate(run, teacher)
    assert f"teacher: m at {teacher.url}" in done.stderr and "leaves this machine" not in done.stderr
