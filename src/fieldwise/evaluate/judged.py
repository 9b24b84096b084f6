"""What a judge said of the answers of a system, read from the files that `fieldwise judge` leaves; no judge is asked here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.files import read_json, read_ledger
from fieldwise.hashing import content_id, sha256_file
from fieldwise.run import RunFolder

_REPORT, _VERDICTS = "5_reports/judge.json", "5_reports/judge_verdicts.jsonl"
_SCORES = {"right": 1.0, "wrong": 0.0}


class Judged(NamedTuple):
    """Verdicts in the order of the questions; `who` names the judge and what it was told, `may_gate` whether people agree."""

    who: str
    may_gate: bool
    values: tuple[float | None, ...]


def read_judged(run: RunFolder, system: str, ids: Sequence[str]) -> Judged | None:
    """Return the verdicts on the answers that stand in the run folder; None where no judge saw these one by one."""
    path = run.path / _REPORT
    if not path.is_file() or not (run.path / _VERDICTS).is_file():
        return None
    report = read_json(path)
    seen, card = report.get("predictions"), report.get("card")
    answers = run.path / f"5_reports/predictions/{system}.jsonl"
    if report.get("mode") != "rubric" or not isinstance(seen, dict) or seen.get(system) != sha256_file(answers):
        return None
    said = {str(r["id"]): r.get("verdict") for r in read_ledger(run.path / _VERDICTS) if r.get("system") == system}
    return Judged(
        f"{report.get('judge')} {_told(report)}",
        isinstance(card, dict) and card.get("may_gate") is True,
        tuple(_SCORES.get(str(said.get(i))) for i in ids),
    )


def _told(report: dict[str, JsonValue]) -> str:
    """Hash of the rule and of local weights: an endpoint may move, a judge of the same name by another rule is another."""
    place = str(report.get("place", ""))
    return content_id("jdg", report.get("judge"), report.get("rule"), place if place.startswith("weights ") else "")
