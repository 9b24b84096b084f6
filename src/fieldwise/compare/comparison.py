"""A blind comparison: which answers are shown to whom, in which order, on which side.

Every item is one question with the answers of two systems. Each voter has an order of their own over all items, drawn
uniformly, so that no question and no pair is favoured; every fourth item comes from an order that all voters share,
so that their agreement can be measured, and after every twelve items one of them comes back with its sides changed,
to see whether the voter still says the same. All of it follows from the seed and the voter's name.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue, ValidationError

from fieldwise.errors import DatasetError, FieldwiseError
from fieldwise.files import read_jsonl
from fieldwise.hashing import content_id, sha256_file
from fieldwise.records import Answer, record_hash
from fieldwise.run import RunFolder

PREDICTIONS = "5_reports/predictions"
_SHARED_EVERY = 4
_REPEAT_AFTER = 12
_REPEAT_AMONG = 6  # of the first so many of each twelve: a repeat right behind its first showing tests memory only


class Entry(NamedTuple):
    """One question with one system's answer; `sha256` is the hash of what a voter sees of the answer."""

    question_id: str
    question: str
    answer: Answer
    sha256: str


class Predictions(NamedTuple):
    """The answers of one system: its name, its file, the file's hash, and which step of the run made it."""

    system: str
    path: Path
    sha256: str
    made_by: str
    entries: dict[str, Entry]


class Item(NamedTuple):
    """One question with the answers of two systems, in an order that says nothing about the sides."""

    id: str
    question_id: str
    first: str
    second: str


class Showing(NamedTuple):
    """An item as one voter sees it; `token` names it without telling which side is which."""

    token: str
    item: Item
    left: str
    right: str
    is_repeat: bool


class Comparison(NamedTuple):
    """All that can be voted on; `same` counts items left out because both answers are the same to the eye."""

    systems: dict[str, Predictions]
    pairs: tuple[tuple[str, str], ...]
    items: tuple[Item, ...]
    same: int
    unshared: int
    seed: int

    @property
    def showings(self) -> int:
        """How much one voter can be shown: every item, and those that come back."""
        return len(self.items) + len(self.items) // _REPEAT_AFTER

    def question(self, showing: Showing) -> str:
        """The question of a showing."""
        return self.systems[showing.left].entries[showing.item.question_id].question

    def answer(self, showing: Showing, side: str) -> Answer:
        """The answer on a side, `left` or `right`."""
        return self.systems[getattr(showing, side)].entries[showing.item.question_id].answer


def systems_of(run: RunFolder) -> list[str]:
    """The systems whose answers stand in a run, by name."""
    return sorted(path.stem for path in (run.path / PREDICTIONS).glob("*.jsonl"))


def open_comparison(run: RunFolder, left: str | None = None, right: str | None = None, seed: int = 0) -> Comparison:
    """Compare two systems of a run, or two files of predictions, or without names all systems of the run.

    Raises DatasetError when there is nothing to compare, FieldwiseError when only one of the two is named.
    """
    if (left is None) != (right is None):
        raise FieldwiseError(
            "a comparison needs two systems",
            where="--left" if left is None else "--right",
            found="only one of the two",
            fix="Name both --left and --right, or neither to compare every pair.",
        )
    named = [left, right] if left is not None and right is not None else systems_of(run)
    if len(named) < 2:
        raise DatasetError(
            "there are not two systems to compare",
            where=run.path / PREDICTIONS,
            found=f"predictions of {', '.join(named) or 'no system'}",
            fix=f"Measure them first: fieldwise evaluate --run {run.path}. Or name two files with --left and --right.",
        )
    systems = open_predictions(run, named)
    if systems[0].path == systems[1].path:
        raise FieldwiseError(
            "a system cannot be compared with itself", where="--right", found=named[1], fix="Name two systems."
        )
    return compare(systems, seed)


def open_predictions(run: RunFolder, named: Sequence[str]) -> list[Predictions]:
    """Read the predictions of systems of a run, or of files; raises DatasetError for what is not there."""
    places = [_place(run, name) for name in named]
    return [read_predictions(run, path, name) for path, name in zip(places, _names(places), strict=True)]


def compare(systems: Sequence[Predictions], seed: int) -> Comparison:
    """Put every pair of systems together on the questions both answered. Raises DatasetError when nothing is left."""
    by_name = {p.system: p for p in systems}
    pairs = tuple(combinations(sorted(by_name), 2))
    items, same, unshared = [], 0, 0
    for first, second in pairs:
        one, other = by_name[first], by_name[second]
        shared = [q for q in one.entries if q in other.entries]
        unshared += len(one.entries) + len(other.entries) - 2 * len(shared)
        for q in shared:
            _require_same_question(one, other, q)
            if one.entries[q].sha256 == other.entries[q].sha256:
                same += 1
                continue
            items.append(Item(content_id("itm", q, first, one.sha256, second, other.sha256), q, first, second))
    if not items:
        raise DatasetError(
            "there is nothing to vote on",
            where=", ".join(str(p.path) for p in systems),
            found=f"{same} questions with the same answer, {unshared} answered by one system only",
            fix="Compare systems that were asked the same questions and answer them differently.",
        )
    return Comparison(by_name, pairs, tuple(items), same, unshared, seed)


def _require_same_question(one: Predictions, other: Predictions, identifier: str) -> None:
    if one.entries[identifier].question != other.entries[identifier].question:
        raise DatasetError(
            "two systems were asked different questions under one id",
            where=f"{other.path}: {identifier}",
            found=f"{other.entries[identifier].question[:60]!r} instead of {one.entries[identifier].question[:60]!r}",
            fix="Compare predictions on the same set of questions.",
        )


# ---------------------------------------------------------------- what was answered


def _place(run: RunFolder, named: str) -> Path:
    """The file of a system of the run, or the file itself."""
    path = run.path / PREDICTIONS / f"{named}.jsonl"
    if "/" not in named and "\\" not in named and path.is_file():
        return path
    if Path(named).is_file():
        return Path(named).resolve()
    raise DatasetError(
        "there are no predictions of this name",
        where=run.path / PREDICTIONS,
        found=repr(named),
        fix=f"Name one of {', '.join(systems_of(run)) or 'the systems after fieldwise evaluate'}, or a JSON Lines file.",
    )


def _names(places: Sequence[Path]) -> list[str]:
    """File names without ending; with the folder where two are alike."""
    stems = [p.stem for p in places]
    return [f"{p.parent.name}/{s}" if stems.count(s) > 1 else s for p, s in zip(places, stems, strict=True)]


def read_predictions(run: RunFolder, path: Path, system: str) -> Predictions:
    """Read a file of predictions: `id`, `question` and `answer`, a record of an answer or its text alone.

    A question that was not answered, which the record says, is left out.
    Raises DatasetError for an empty file, an id that stands twice, or a line that is no prediction.
    """
    digest = sha256_file(path)
    entries: dict[str, Entry] = {}
    for number, row in enumerate(read_jsonl(path), 1):
        entry = _entry(row, f"{path}:{number}", system)
        if entry.question_id in entries:
            raise DatasetError(
                "an id stands twice", where=f"{path}:{number}", found=entry.question_id, fix="Keep one of the lines."
            )
        entries[entry.question_id] = entry
    if not entries:
        raise DatasetError("the file holds no predictions", where=path, fix="Run fieldwise evaluate again.")
    answered = {i: e for i, e in entries.items() if not e.answer.problem}
    return Predictions(system, path, digest, _made_by(run, path, digest), answered)


def _entry(row: dict[str, JsonValue], where: str, system: str) -> Entry:
    missing = [k for k in ("id", "question", "answer") if row.get(k) in (None, "")]
    if missing:
        raise DatasetError(
            f"{missing[0]} is missing",
            where=where,
            found=str(row)[:80],
            fix='A line looks like {"id": "...", "question": "...", "answer": "..."}.',
        )
    given = row["answer"]
    try:
        answer = Answer.model_validate(
            {"text": given, "answer": given, "model": system} if isinstance(given, str) else given
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise DatasetError(
            "not an answer",
            where=where,
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            fix="Give the answer's text, or the record that fieldwise evaluate writes.",
        ) from error
    seen = Answer(text=answer.text, answer="", model="", citations=answer.citations)
    return Entry(str(row["id"]), str(row["question"]), answer, record_hash(seen))


def _made_by(run: RunFolder, path: Path, digest: str) -> str:
    """Step and key of the manifest that holds exactly this file, such as `4d_evaluate 3f9a0c51d2e4`; else empty."""
    for place in sorted(run.manifests.glob("*.json")) if path.is_relative_to(run.path) else ():
        manifest = run.manifest(place.stem)
        output = manifest.outputs.get(path.relative_to(run.path).as_posix()) if manifest else None
        if manifest is not None and output is not None and output.sha256 == digest:
            return f"{manifest.step} {manifest.key[:12]}"
    return ""


# ---------------------------------------------------------------- what is shown


def plan(comparison: Comparison, voter: str) -> Iterator[Showing]:
    """Yield everything a voter could be shown, in their order."""
    own, shared = (
        random.Random(f"{comparison.seed}/{who}").sample(comparison.items, len(comparison.items))
        for who in (f"voter/{voter}", "shared")
    )
    given: set[str] = set()
    queues = {True: iter(shared), False: iter(own)}
    block: list[Item] = []
    for number in range(len(comparison.items)):
        item = next(i for i in queues[number % _SHARED_EVERY == 0] if i.id not in given)
        given.add(item.id)
        block.append(item)
        yield _showing(comparison, voter, item, is_repeat=False)
        if len(block) == _REPEAT_AFTER:
            again = random.Random(f"{comparison.seed}/{voter}/again/{number}").choice(block[:_REPEAT_AMONG])
            block.clear()
            yield _showing(comparison, voter, again, is_repeat=True)


def next_showing(
    comparison: Comparison, voter: str, voted: Collection[tuple[str, bool]], skipped: Collection[str]
) -> Showing | None:
    """Return what the voter sees next: the first of their order that is not among `voted`; None when all is done.

    `voted` holds (item, is repeat); what was skipped does not come back as a repeat.
    """
    for showing in plan(comparison, voter):
        if (showing.item.id, showing.is_repeat) in voted:
            continue
        if showing.is_repeat and showing.item.id in skipped:
            continue
        return showing
    return None


def _showing(comparison: Comparison, voter: str, item: Item, *, is_repeat: bool) -> Showing:
    is_changed = random.Random(f"{comparison.seed}/{voter}/{item.id}").random() < 0.5
    left, right = (item.second, item.first) if is_changed != is_repeat else (item.first, item.second)
    return Showing(content_id("shw", comparison.seed, voter, item.id, is_repeat), item, left, right, is_repeat)
