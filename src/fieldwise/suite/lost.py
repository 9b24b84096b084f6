"""A suite of the questions that an earlier run answered and a later one does not: what was lost once is asked from then on.

Each is asked over the passages that the earlier run answered it from, so that the suite measures reading and not the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.errors import DatasetError
from fieldwise.files import read_jsonl, write_text
from fieldwise.hashing import content_id
from fieldwise.records import Answer
from fieldwise.retrieve.grounded import shown_texts
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.suite.items import Item, Reply
from fieldwise.suite.reading import read_yaml
from fieldwise.suite.run import score_item
from fieldwise.suite.yaml_text import dump_yaml, load_yaml

_ABOUT = "Questions that an earlier run answered and a later one did not, over the passages of the earlier one."


class Kept(NamedTuple):
    """How many of the lost questions are new in the file, and how many items it holds now."""

    new: int
    items: int


def keep_lost(
    path: Path, run: RunFolder, baseline: RunFolder, system: str, lost: Sequence[str], retrieve: RetrieveSettings
) -> Kept:
    """Add to the suite of a file, made if need be, the lost questions whose answer passed there and fails now.

    `lost` are ids of the run. An answer that only became a little worse is no item. Raises DatasetError for a file that is
    no suite of ours.
    """
    suite = _standing(path)
    known = {str(item.get("id")) for item in suite["items"]}
    now = {str(row["id"]): row for row in _predictions(run, system)}
    before = {_asked(row): row for row in _predictions(baseline, system)}
    new = 0
    for identifier in lost:
        earlier = before[_asked(now[identifier])]
        answer = _answer(earlier)
        passages = dict(zip((p.chunk.id for p in answer.passages), shown_texts(answer.passages, retrieve), strict=True))
        item = _item(earlier, list(passages))
        if item["id"] in known:
            continue
        read = read_yaml(dump_yaml({"passages": passages, "items": [item]}), path).items[0]
        if _passes(read, answer) and not _passes(read, _answer(now[identifier])):
            suite["items"].append(item)
            suite["passages"] |= passages
            new += 1
    if new:
        write_text(path, dump_yaml(suite))
    return Kept(new, len(suite["items"]))


def _standing(path: Path) -> dict[str, Any]:
    """The suite that stands in the file, or one without items."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise DatasetError(
            "not a suite by its ending", where=path, found=path.suffix or "no ending", fix="Name a .yaml file."
        )
    if not path.exists():
        return {"name": path.stem, "about": _ABOUT, "passages": {}, "items": []}
    text = path.read_text(encoding="utf-8")
    read_yaml(text, path)
    value = load_yaml(text, path)
    if not isinstance(value, dict) or not isinstance(value.get("items"), list):
        raise DatasetError("no suite of ours", where=path, found="no list under items", fix="Name another file.")
    return {**value, "passages": dict(value.get("passages") or {})}  # type: ignore[arg-type]


def _predictions(run: RunFolder, system: str) -> list[dict[str, Any]]:
    return list(read_jsonl(run.require(f"5_reports/predictions/{system}.jsonl", "evaluate")))


def _asked(row: dict[str, Any]) -> str:
    """What two runs were asked alike, whatever its id there."""
    return content_id("lost", row["question"], row["expected"], row.get("aliases") or [], row.get("document"))


def _answer(row: dict[str, Any]) -> Answer:
    return Answer.model_validate(row["answer"])


def _item(row: dict[str, Any], passages: list[str]) -> dict[str, Any]:
    more = {name: row[name] for name in ("aliases", "kind") if row.get(name)}
    item = {"id": _asked(row), "question": row["question"], "answer": row["expected"], **more}
    return {**item, "passages": passages} if passages else item


def _passes(item: Item, answer: Answer) -> bool:
    return score_item(item, Reply(text=answer.text, problem=answer.problem)).is_passed is True
