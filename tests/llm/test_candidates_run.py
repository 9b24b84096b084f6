"""The generate stage asking a model for its own replies, through the command line."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from chat_server import KEY, Answer, ChatServer, said
from test_teacher_run import fieldwise, outputs, prepared, run, wait_for  # noqa: F401 - fixtures

from fieldwise.interfaces import LlmRequest
from fieldwise.llm.client import EndpointClient
from fieldwise.llm.settings import EndpointSettings
from fieldwise.records import NOT_STATED, Message, PreferencePair
from fieldwise.tables import read_records

ASKED = ["generate.candidates.prompts=12", "generate.candidates.samples=3", "generate.candidates.endpoint.model=m"]
ASKED += ["generate.candidates.endpoint.seed=5", "generate.candidates.endpoint.key_variable=OUR_KEY"]


def by_seed(body: dict[str, Any]) -> Answer:
    """A model that declines, copies a sentence of the first passage, or says a number that stands nowhere."""
    passage = body["messages"][1]["content"].partition("[1] ")[2]
    return said([NOT_STATED, f"{passage.split('.')[0].split(chr(10))[-1]} [1]", "77777 units"][body["seed"] - 5])


def generate(folder: Path, server: ChatServer, *overrides: str, **more: Any) -> Any:
    address = f"generate.candidates.endpoint.base_url={server.url}"
    return fieldwise("generate", "--run", str(folder), *ASKED, address, *overrides, **more)


def journal(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "memo/candidates/journal.jsonl").read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


@pytest.fixture
def model(server: ChatServer) -> ChatServer:
    server.behave, server.key = by_seed, KEY
    return server


def test_samples_of_one_prompt_are_asked_for_and_kept_apart(server: ChatServer, tmp_path: Path) -> None:
    server.behave = lambda body: said(f"reply {body['seed']}")
    settings = EndpointSettings(base_url=server.url, model="m", seed=5)
    requests = [LlmRequest((Message(role="user", content="a"),), sample=n) for n in (0, 1, 2, 1)]
    client = EndpointClient(settings, tmp_path / "journal.jsonl", where="x")
    assert [r.text for r in client.ask_all(requests)] == ["reply 5", "reply 6", "reply 7", "reply 6"]
    assert server.count == 3 and all(client.is_answered(r) for r in requests)
    assert [r.text for r in client.ask_all(requests[:1])] == ["reply 5"] and server.count == 3


def test_killed_and_run_again_nothing_is_asked_twice_and_the_pairs_are_the_same(
    run: Path,  # noqa: F811
    model: ChatServer,
    tmp_path: Path,
) -> None:
    def slowly(body: dict[str, Any]) -> Answer:
        answer = by_seed(body)
        answer.wait_seconds = 0.03
        return answer

    model.behave = slowly
    process = generate(run, model, "generate.candidates.endpoint.concurrency=2", in_background=True)
    wait_for(model, 12, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    kept, asked = journal(run), model.count
    assert 36 > len(kept) >= 8
    model.behave = by_seed
    done = generate(run, model)
    assert done.returncode == 0, done.stderr
    assert model.count - asked == 36 - len(kept) and len({row["key"] for row in journal(run)}) == 36

    card = json.loads((run / "3_examples/card.json").read_text())["candidates"]
    assert (card["prompts"], card["replies"], card["failed"]) == (12, 36, {})
    assert card["faults"]["declines"] + card["faults"]["answers_unstated"] > 0
    own = [
        p
        for p in read_records(run / "3_examples/preferences.parquet", PreferencePair)
        if p.reason.startswith("of the model's own")
    ]
    assert len(own) == card["pairs"] == 12 - sum(card["without_a_pair"].values()) > 0
    assert all(p.judge == "rules" and p.split == "train" for p in own)
    before = outputs(run)
    assert generate(run, model, "--force").returncode == 0
    assert outputs(run) == before and model.count == asked + 36 - len(kept)


def test_a_missing_key_is_told_before_anything_else(run: Path, model: ChatServer) -> None:  # noqa: F811
    done = generate(run, model, key="")
    assert done.returncode == 2
    assert "generate.candidates.endpoint.key_variable" in done.stderr and "OUR_KEY" in done.stderr
    assert model.count == 0


def test_a_judge_ranks_beside_the_rules_is_paid_once_and_refused_without_an_address(
    run: Path,  # noqa: F811
    model: ChatServer,
) -> None:
    ranks = "generate.candidates.judge.endpoint"
    done = generate(run, model, f"{ranks}.model=m")
    assert done.returncode == 2 and f"{ranks}.base_url" in done.stderr and model.count == 0

    judge = ChatServer(lambda _: said(json.dumps({"explanation": "It is not.", "verdict": "wrong"})))
    try:
        named = [f"{ranks}.model=m", f"{ranks}.base_url={judge.url}"]
        assert generate(run, model, *named).returncode == 0
        card, asked = json.loads((run / "3_examples/card.json").read_text())["candidates"], judge.count
        assert card["judge"] == {"model": "m", "wrong": asked} and card["pairs"] == 0
        assert card["faults"]["judged_wrong"] > 0
        assert generate(run, model, *named, "--force").returncode == 0 and judge.count == asked
    finally:
        judge.close()


def test_a_dry_run_tells_what_replies_and_their_judge_cost(run: Path, model: ChatServer) -> None:  # noqa: F811
    endpoint, ranks = "generate.candidates.endpoint", "generate.candidates.judge.endpoint"
    named = [*ASKED, f"{endpoint}.base_url={model.url}", f"{endpoint}.price.output=2"]

    def told(*more: str) -> str:
        done = fieldwise("run", "--dry-run", "--stage", "3", "--run", str(run), *named, *more)
        return done.stdout.partition("candidates: ")[2].splitlines()[0]

    alone = told()
    assert alone.startswith("at most about 36 replies, ") and "in the currency of the prices" in alone
    judged = told(f"{ranks}.base_url={model.url}", f"{ranks}.model=m")
    assert int(judged.split()[5].replace(",", "")) > int(alone.split()[5].replace(",", ""))
    assert model.count == 0
