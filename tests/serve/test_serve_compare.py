"""The routes of the blind comparison."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from live import Live, live
from released_run import make_run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "compare"))

from ballots import answer, write_predictions

from fieldwise.compare.votes import read_votes

HERE = "/api/v1/compare"


@pytest.fixture
def voting(tmp_path: Path) -> Iterator[Live]:
    run = make_run(tmp_path / "run")
    for system in ("base", "rag_base", "tuned"):
        write_predictions(run, system, {f"q{n}": answer(f"{n} by the {len(system)}", (0,)) for n in range(8)})
    with live(run) as service:
        yield service


def post(service: Live, path: str, **body: object) -> httpx.Response:
    return httpx.post(f"{service.url}{HERE}{path}", json=body)


def test_votes_go_to_the_file_of_the_run_and_nothing_sent_names_a_system(voting: Live) -> None:
    shown = post(voting, "/next", voter="mia", left="base", right="tuned").json()
    assert (shown["votes"], shown["showings"]) == (0, 8)
    assert not any(word in json.dumps(shown) for word in ("base", "tuned", "hidden-model-name", "passages", "itm_"))
    voted = post(
        voting, "/votes", voter="mia", left="base", right="tuned", showing=shown["showing"], choice="left", seconds=9.5
    )
    assert voted.status_code == 200 and voted.json()["votes"] == 1 and voted.json()["showing"] != shown["showing"]
    vote = read_votes(voting.backend.run.path / "5_reports/votes.jsonl").votes[0]
    assert (vote.voter, vote.choice, vote.seconds, vote.via) == ("mia", "left", 9.5, "page")
    again = post(voting, "/votes", voter="mia", left="base", right="tuned", showing=shown["showing"], choice="right")
    assert again.status_code == 409 and again.json()["error"]["code"] == "not_shown"
    assert post(voting, "/undo", voter="mia").json()["votes"] == 0
    assert post(voting, "/undo", voter="mia").status_code == 409


def test_the_result_is_that_of_the_command_line(voting: Live) -> None:
    for _ in range(6):
        shown = post(voting, "/next", voter="mia").json()
        post(voting, "/votes", voter="mia", showing=shown["showing"], choice="tie", seconds=30)
    result = httpx.get(f"{voting.url}{HERE}/result").json()
    assert result["votes"] == 6 and len(result["pairs"]) == 3 and sum(p["ties"] for p in result["pairs"]) == 6
    one = httpx.get(f"{voting.url}{HERE}/result", params={"left": "base", "right": "tuned"}).json()
    assert len(one["pairs"]) == 1 and one["votes"] <= 6


def test_answers_that_change_while_the_service_runs_are_not_voted_on_unseen(voting: Live) -> None:
    shown = post(voting, "/next", voter="mia", left="base", right="tuned").json()
    write_predictions(voting.backend.run, "tuned", {f"q{n}": answer(f"new {n}") for n in range(8)})
    voted = post(voting, "/votes", voter="mia", left="base", right="tuned", showing=shown["showing"], choice="left")
    assert voted.status_code == 409 and read_votes(voting.backend.run.path / "5_reports/votes.jsonl").votes == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"voter": "  "}, 422),
        ({"voter": "a\u0007"}, 422),
        ({"voter": "x" * 61}, 422),
        ({"voter": "mia", "left": "base", "right": "../../recipe.yaml"}, 404),
        ({"voter": "mia", "left": "/etc/passwd", "right": "base"}, 404),
        ({"voter": "mia", "left": "base"}, 404),
        ({"voter": "mia", "left": "base", "right": "base"}, 404),
        ({"voter": "mia", "more": 1}, 422),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(voting: Live, body: dict[str, object], status: int) -> None:
    found = post(voting, "/next", **body)
    assert found.status_code == status and found.json()["error"]["what"]


def test_pages_of_other_sites_cannot_vote(voting: Live) -> None:
    found = httpx.post(f"{voting.url}{HERE}/next", json={"voter": "mia"}, headers={"Origin": "https://evil.example"})
    assert found.status_code == 403


def test_with_a_key_only_the_page_itself_is_open(voting: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_THIS_TEST", "right-key")
    with live(voting.backend.run, api_key_env="KEY_OF_THIS_TEST") as keyed:
        assert httpx.get(f"{keyed.url}/compare").status_code == 200
        for path in ("/systems", "/result"):
            assert httpx.get(f"{keyed.url}{HERE}{path}").status_code == 401
        assert post(keyed, "/next", voter="mia").status_code == 401
