"""Labels that people gave to judged answers: a file of them, or the votes of a blind comparison; and a sheet to label on."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from fieldwise.compare.comparison import Comparison
from fieldwise.compare.judging import Answered
from fieldwise.compare.votes import LEDGER, read_votes, standing
from fieldwise.errors import DatasetError
from fieldwise.files import atomic
from fieldwise.judge.rubric import VERDICTS
from fieldwise.rows.reading import Broken, Note, read_rows
from fieldwise.run import RunFolder

_TIES = ("tie", "both_bad", "both bad", "equal")
_COLUMNS = ("id", "system", "question", "known_answer", "sources", "answer", "label", "note")


class Labels(NamedTuple):
    """Labels by item, where they come from, and lines that were left aside, each with its number and why."""

    by_item: dict[str, str]
    source: str
    aside: list[str]


def read_labels(path: Path, known: Collection[str], systems: Sequence[str], *, is_pairwise: bool) -> Labels:
    """Read a CSV or JSON Lines file with `id`, `label` and, where several systems are judged, `system`.

    An item is known as `system/id`, two answers beside each other by the id alone. A line without a label is not
    labelled yet; one that cannot be used is left aside and named with its number. Two labels of one item leave both aside.
    """
    if not path.is_file():
        raise DatasetError(
            "the labels are not there", where="--labels", found=path, fix="Write a sheet to fill with: --sheet FILE"
        )
    wanted = (*systems, "tie") if is_pairwise else VERDICTS
    found: dict[str, tuple[str, int]] = {}
    aside: list[str] = []
    twice: set[str] = set()
    for row in read_rows(path):
        if isinstance(row, Note):
            aside.append(f"{path.name}:{row.number}: {row.text}")
            continue
        if isinstance(row, Broken):
            aside.append(f"{path.name}:{row.number}: {row.reason}")
            continue
        values = {str(k).strip().casefold(): str(v).strip() for k, v in row.values.items() if v is not None}
        if not (label := values.get("label", "")):
            continue
        place = f"{path.name}:{row.number}"
        item = _item(values, systems, is_pairwise=is_pairwise)
        plain = _plain(label, is_pairwise=is_pairwise)
        if item is None or item not in known:
            aside.append(f"{place}: no such answer was judged: {item or values.get('id', 'no id')}")
        elif plain not in wanted:
            aside.append(f"{place}: {label!r} is none of {', '.join(wanted)}")
        elif item in found and found[item][0] != plain:
            aside.append(f"{place}: says otherwise than line {found[item][1]}; neither counts")
            twice.add(item)
        else:
            found.setdefault(item, (plain, row.number))
    return Labels({i: label for i, (label, _) in found.items() if i not in twice}, path.name, aside)


def _item(values: dict[str, str], systems: Sequence[str], *, is_pairwise: bool) -> str | None:
    identifier = values.get("id", "")
    if not identifier or is_pairwise:
        return identifier or None
    system = values.get("system") or (systems[0] if len(systems) == 1 else "")
    return f"{system}/{identifier}" if system else None


def _plain(label: str, *, is_pairwise: bool) -> str:
    plain = " ".join(label.replace("_", " ").split())
    if is_pairwise:
        return "tie" if plain.casefold() in _TIES else label
    return plain.casefold()


def vote_labels(run: RunFolder, comparison: Comparison) -> Labels:
    """Return what most voters of each item preferred, by question; both bad is a tie, no majority is no label."""
    by_item: dict[str, list[str]] = {}
    for vote in standing(read_votes(run.path / LEDGER).votes, comparison).counted:
        by_item.setdefault(vote.question_id, []).append(vote.winner or "tie")
    labels = {}
    for question, given in by_item.items():
        label, count = Counter(given).most_common(1)[0]
        if 2 * count > len(given):
            labels[question] = label
    return Labels(labels, LEDGER, [])


def write_sheet(path: Path, answered: Sequence[Answered], count: int, seed: int) -> int:
    """Write a sheet of answers to label, drawn at random and without the judge's verdicts; returns how many."""
    if path.exists():
        raise DatasetError("a file stands here", where=path, fix="Name a new file: labels may be in this one.")
    chosen = random.Random(f"{seed}/sheet").sample(list(answered), min(count, len(answered)))
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        for one in chosen:
            case = one.case
            identifier = case.id.removeprefix(f"{one.system}/")
            sources = "\n\n".join(case.sources)
            cells = [identifier, one.system, case.question, case.reference or "", sources, case.answer, "", ""]
            writer.writerow(cells)
    return len(chosen)
