"""Items that pass now and then: measured by samples, kept with evidence, counted again when their day has come."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
import yaml
from tiny_models import make_tiny_llama

from fieldwise.cli import main
from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.errors import DatasetError
from fieldwise.evaluate.quarantine import Flaky, flaky_items, keep, read_quarantine
from fieldwise.files import write_text
from fieldwise.suite.reading import open_suite
from fieldwise.suite.respondents import Asked, EngineRespondent

TODAY = date(2026, 3, 1)
ENTRY = {"suite": "ward", "item": "i1", "passed": 2, "of": 5, "how": "m", "measured": "2026-02-20"}


def kept(tmp_path: Path, *entries: dict[str, object]) -> Path:
    path = tmp_path / "quarantine.yaml"
    path.write_text(yaml.safe_dump([{**ENTRY, "expires": "2026-03-20", **e} for e in entries]))
    return path


def test_only_what_went_both_ways_is_flaky_and_its_evidence_is_kept(tmp_path: Path) -> None:
    passed = {"a": [True] * 5, "b": [False] * 5, "c": [True, False, False, True, False], "d": [True, False]}
    found = flaky_items("ward", passed, how="m at 0.7", measured=TODAY, days=30)
    assert [(f.item, f.passed, f.of, str(f.expires)) for f in found] == [("c", 2, 5, "2026-03-31")]
    path = kept(tmp_path, {"suite": "other"}, {"item": "old"})
    assert keep(path, "ward", found) == 2
    read = read_quarantine(path, TODAY)
    assert [f.item for f in read.standing] == ["i1", "c"] and read.left_out("ward") == {"c"}
    assert "passed in 2 of 5" in read.standing[1].told() and "until 2026-03-31" in read.standing[1].told()


def test_an_entry_whose_day_has_come_counts_again_and_one_told_to_count_does(tmp_path: Path) -> None:
    path = kept(tmp_path, {"item": "a", "expires": "2026-03-01"}, {"item": "b"}, {"item": "c", "treat": "count"})
    found = read_quarantine(path, TODAY)
    assert [f.item for f in found.expired] == ["a"] and [f.item for f in found.standing] == ["b", "c"]
    assert found.left_out("ward") == {"b"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"passed": 5}, "always passed"),
        ({"passed": 0}, "passed"),
        ({"of": 2}, "of"),
        ({"expires": "2026-12-31"}, "90 days"),
        ({"expires": None}, "expires"),
        ({"treat": "forget"}, "treat"),
    ],
)
def test_an_entry_without_evidence_or_end_is_refused(tmp_path: Path, change: dict[str, object], told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        read_quarantine(kept(tmp_path, change), TODAY)
    with pytest.raises(DatasetError, match="twice"):
        read_quarantine(kept(tmp_path, {}, {}), TODAY)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("weights") / "tiny", seed=0)


def test_samples_differ_by_their_number_and_repeat_by_it(weights: Path) -> None:
    respondent = EngineRespondent("m", TransformersEngine(weights), "id", 12)
    asked = [Asked(open_suite("general").items[0].conversation)]
    said = []
    for number in (0, 1, 0):
        respondent.draw(1.5, number)
        said.append((respondent.identity, next(respondent.reply_all(asked)).text))
    respondent.close()
    assert said[0] == said[2] and said[0][0] != said[1][0] and said[0][1] != said[1][1]


def test_the_command_measures_and_writes_the_quarantine(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = [{"id": f"i{n}", "prompt": f"Word {n}", "checks": [{"regex": "[aeiou]{2}"}]} for n in range(8)]
    suite, out = tmp_path / "two.jsonl", tmp_path / "quarantine.yaml"
    write_text(suite, "\n".join(map(json.dumps, letters)))
    asked = ["suite", str(suite), "--weights", str(weights), "--max-tokens", "6", "--out", str(tmp_path / "out")]
    told = [*asked, "--samples", "6", "--temperature", "1.5", "--quarantine", str(out), "--days", "7", "--json"]
    assert main(told) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["items"] == 8 and found["flaky"] and found["split"]["within"] > 0
    entry = Flaky.model_validate(found["flaky"][0])
    assert 0 < entry.passed < entry.of == 6 and (entry.expires - entry.measured).days == 7
    assert len(yaml.safe_load(out.read_text())) == len(found["flaky"])
    ledgers = list((tmp_path / "out").rglob("samples.jsonl"))
    before = ledgers[0].read_text()
    assert main(told) == 0 and ledgers[0].read_text() == before and before.count("\n") == 48
    assert main([*asked, "--quarantine", str(out)]) == 2
    assert main([*asked, "--samples", "2"]) == 2
