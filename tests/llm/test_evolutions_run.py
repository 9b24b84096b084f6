"""Evolutions of questions through the command line, with an endpoint on loopback, over a run folder that stands."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import KEY, Answer, ChatServer, prompt_of, said
from test_teacher_run import TEACHER, fieldwise, generate, journal, outputs, prepared, run

from fieldwise.records import Example
from fieldwise.tables import read_records

__all__ = ["prepared", "run"]
RULES = ["generate.evolutions.kinds=[paraphrase,constrain]", "generate.evolutions.per_question=2"]
ENDPOINT = ["generate.evolutions.kinds=[paraphrase,broaden]", "generate.evolutions.per_question=2"]


def evolved_for(body: dict[str, Any]) -> Answer:
    """What a teacher says that gets the first question of a passage right and the others wrong."""
    listed = re.findall(r"^(\d+)\. (.+)\n   Answer: (.+)\n   Quote: (.+)\n   Write: (.+)$", prompt_of(body), re.M)
    assert listed
    written = []
    for number, question, answer, quote, _ in listed:
        asked = f"{question.rstrip('?.')}, as a matter of fact?" if number == "1" else f"{question} 4711?"
        told = {"of": int(number), "evolution": "paraphrase", "question": asked, "answer": answer, "quote": quote}
        written += [
            told,
            {**told, "evolution": "broaden", "question": "Who owns the blue van?", "quote": "A blue van."},
        ]
    return said(json.dumps({"evolved": written}), prompt=300, completion=90)


@pytest.fixture
def teacher() -> Iterator[ChatServer]:
    server = ChatServer(evolved_for, key=KEY)
    yield server
    server.close()


def examples(folder: Path) -> dict[str, Example]:
    return {
        e.id: e
        for s in ("train", "validation", "test")
        for e in read_records(folder / f"3_examples/{s}.parquet", Example)
    }


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"3_examples/{name}.jsonl").read_text().splitlines()]


def test_rules_evolve_beside_the_parents_and_lineage_names_them(run: Path) -> None:
    assert fieldwise("generate", "--run", str(run)).returncode == 0
    before = outputs(run)
    assert "evolutions.jsonl" not in before
    done = fieldwise("generate", "--run", str(run), *RULES)
    assert done.returncode == 0, done.stderr
    made, lines = examples(run), rows(run, "evolutions")
    assert lines and {line["evolution"] for line in lines} == {"paraphrase", "constrain"}
    for line in lines:
        child, parent = made[line["id"]], made[line["parent"]]
        assert child.split == parent.split == "train" and child.document_ids[0] == line["document_id"]
        assert (child.answer, child.evidence) == (parent.answer, parent.evidence) and child.question != parent.question
    card = json.loads((run / "3_examples/card.json").read_text())
    assert card["evolutions"]["examples"] == len(lines) and card["evolutions"]["made"]["paraphrase"] > 0
    traced = fieldwise("trace", lines[0]["id"], "--run", str(run))
    assert traced.returncode == 0 and lines[0]["parent"] in traced.stdout and lines[0]["evolution"] in traced.stdout
    assert fieldwise("generate", "--run", str(run), "generate.evolutions=null").returncode == 0
    assert outputs(run) == before  # off again: the same bytes


def test_an_endpoint_evolves_what_the_rules_asked_and_is_paid_once(run: Path, teacher: ChatServer) -> None:
    settings = [*TEACHER[1:], *ENDPOINT, "generate.evolutions.teacher=openai"]
    address = f"generate.endpoint.base_url={teacher.url}"
    done = fieldwise("generate", "--run", str(run), *settings, address)
    assert done.returncode == 0, done.stderr
    asked, before = teacher.count, outputs(run)
    assert asked == len(journal(run)) > 0
    lines = rows(run, "evolutions")
    assert lines and {line["evolution"] for line in lines} == {"paraphrase"}
    reasons = {row["reason"] for row in rows(run, "rejected")}
    assert {"quote_not_in_chunk", "number_changed"} <= reasons
    card = json.loads((run / "3_examples/card.json").read_text())
    assert card["evolutions"]["requests"] == asked and card["evolutions"]["left_out"]["quote_not_in_chunk"] > 0
    again = fieldwise("generate", "--run", str(run), *settings, address, "--force")
    assert again.returncode == 0 and teacher.count == asked and outputs(run) == before


BAD = ["Certainly, here they are.", '{"evolved": [', "", '{"evolved": "none"}']


def test_an_endpoint_that_now_and_then_writes_no_evolution_costs_these_alone(run: Path, teacher: ChatServer) -> None:
    def mostly(body: dict[str, Any]) -> Answer:
        number = int(hashlib.sha256(json.dumps(body["messages"][:2]).encode()).hexdigest(), 16) % 8
        return said(BAD[number]) if number < len(BAD) else evolved_for(body)

    teacher.behave = mostly
    settings = [*TEACHER[1:], *ENDPOINT, "generate.evolutions.teacher=openai"]
    done = fieldwise("generate", "--run", str(run), *settings, f"generate.endpoint.base_url={teacher.url}")
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "3_examples/card.json").read_text())["evolutions"]["left_out"]["not_json"] > 0
    assert rows(run, "evolutions")


def test_an_endpoint_that_writes_nothing_of_use_stops_the_run_and_says_so(run: Path, teacher: ChatServer) -> None:
    teacher.behave = lambda body: said("As a poem: roses are red.")
    settings = [*TEACHER[1:], *ENDPOINT, "generate.evolutions.teacher=openai"]
    stopped = fieldwise("generate", "--run", str(run), *settings, f"generate.endpoint.base_url={teacher.url}")
    assert stopped.returncode == 2 and "came to nothing" in stopped.stderr and "generate.endpoint" in stopped.stderr
    assert not (run / "3_examples/card.json").exists()


def test_a_wish_that_needs_a_model_is_refused_before_anything_runs(run: Path) -> None:
    stopped = fieldwise("generate", "--run", str(run), "generate.evolutions.kinds=[deepen]")
    assert stopped.returncode == 2 and "the rules cannot deepen" in stopped.stderr
    unnamed = fieldwise("generate", "--run", str(run), "generate.evolutions.teacher=openai")
    assert unnamed.returncode == 2 and "generate.endpoint.base_url" in unnamed.stderr


def test_a_dry_run_tells_what_evolutions_cost(run: Path, teacher: ChatServer) -> None:
    settings = [*TEACHER[1:], "generate.evolutions.teacher=openai", f"generate.endpoint.base_url={teacher.url}"]
    told = fieldwise("run", "--dry-run", "--stage", "3", "--run", str(run), *settings)
    assert "evolutions: at most about" in told.stdout and teacher.count == 0


def test_without_its_key_nothing_begins(run: Path, teacher: ChatServer) -> None:
    settings = ["generate.evolutions.teacher=openai", "generate.evolutions.kinds=[deepen]"]
    stopped = generate(run, teacher, "generate.teacher=rules", *settings, key="")
    assert stopped.returncode == 2 and "OUR_KEY" in stopped.stderr and teacher.count == 0
