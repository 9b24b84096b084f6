"""What people voted for, as preference pairs: the lines of `fieldwise votes --export`, checked one by one.

A pair is trained on only if every document its passages came from is one that training may read, and if its question is
not asked of a held-out example as well. Everything else is kept aside by file and line, with the reason.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue, ValidationError

from fieldwise.errors import DatasetError
from fieldwise.generate.split import Split
from fieldwise.hashing import canonical_json, sha256_file
from fieldwise.progress import say
from fieldwise.prompts import asked_of
from fieldwise.records import PreferencePair, Rejection
from fieldwise.rows.near import NearGroups

WHERE = "generate.votes"
_SHOWN = 3


class Voted(NamedTuple):
    """The pairs that may be trained on, what was kept aside, and what the card says of both."""

    pairs: list[PreferencePair]
    rejected: list[Rejection]
    facts: dict[str, JsonValue]


def fingerprint(path: Path) -> str:
    """Return the hash of the file. Raises DatasetError when it is not there."""
    return sha256_file(_require_file(path))


class HeldOut(NamedTuple):
    """What training must not see: the sides of all documents, and the questions and passages of those held out."""

    sides: Mapping[str, Split]
    questions: Sequence[str]
    passages: Collection[str]


def read_votes(path: Path, held_out: HeldOut) -> Voted:
    """Read exported pairs and keep those that training may see.

    Raises DatasetError when no line is such a pair: the file is something else.
    """
    rejected: list[Rejection] = []
    read: list[PreferencePair] = []
    lines = _require_file(path).read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path.name}:{number}"
        found = _pair(line, place)
        if isinstance(found, PreferencePair):
            read.append(found)
        else:
            rejected.append(_aside(place, *found))
    total = len(read) + len(rejected)
    if total and not read:
        shown = "; ".join(f"{r.item}: {r.detail}" for r in rejected[:_SHOWN])
        raise DatasetError(
            "no line is a pair that people voted for",
            where=path,
            found=shown,
            fix=f"{WHERE} takes what fieldwise votes --run DIR --export FILE writes; pairs of your own belong in generate.data.",
        )
    pairs, refused = _fit_to_train_on(read, held_out)
    rejected += refused
    reasons = dict(sorted(Counter(r.reason for r in rejected).items()))
    if rejected:
        told = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        say(f"  {path.name}: {len(rejected)} of {total} votes are left out ({told}); see 3_examples/rejected.jsonl")
    return Voted(pairs, rejected, {"file": path.name, "lines": total, "used": len(pairs), "left_out": dict(reasons)})


def _require_file(path: Path) -> Path:
    if path.is_file():
        return path
    raise DatasetError(
        "the file of votes is not there",
        where=WHERE,
        found=str(path),
        fix="Write it with: fieldwise votes --run DIR --export FILE",
    )


def _aside(place: str, reason: str, detail: str) -> Rejection:
    return Rejection(stage="generate", item=place, reason=reason, detail=detail)


# ---------------------------------------------------------------- one line


def _pair(line: str, place: str) -> PreferencePair | tuple[str, str]:
    """The pair of a line with its place among its documents, or why there is none."""
    try:
        pair = PreferencePair.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        return "broken_line", f"not valid JSON: {error.msg}"
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        return "no_pair", f"{where}: {first['msg']}"
    if pair.judge != "human":
        return "no_vote", f"the judge is {pair.judge[:40]!r}; what people voted for says human"
    if not pair.chosen.strip() or not pair.rejected.strip():
        return "empty", "a side says nothing"
    if pair.chosen.split() == pair.rejected.split():
        return "same_sides", "chosen and rejected say the same"
    if pair.id != _made_anew(pair).id:
        return "changed", "the id does not fit the words: the line was changed after the export"
    if asked_of(pair.prompt) is None:
        return "unknown_prompt", "the prompt is none that this version asks with: vote on answers of this version"
    return _made_anew(pair, place)


def _made_anew(pair: PreferencePair, place: str | None = None) -> PreferencePair:
    """The same pair on the training side; with a place, one that can be traced to its line."""
    return PreferencePair.make(
        prompt=pair.prompt,
        chosen=pair.chosen,
        rejected=pair.rejected,
        judge=pair.judge,
        reason=pair.reason,
        chunk_ids=pair.chunk_ids,
        document_ids=pair.document_ids if place is None else (*pair.document_ids, place),
    )


# ---------------------------------------------------------------- which may be trained on


def _fit_to_train_on(read: Sequence[PreferencePair], held_out: HeldOut) -> tuple[list[PreferencePair], list[Rejection]]:
    near = NearGroups()
    for number, question in enumerate(sorted(set(held_out.questions))):
        near.add(str(number), question)
    disputed = _disputed(read)
    pairs: dict[str, PreferencePair] = {}
    rejected: list[Rejection] = []
    for pair in read:
        place = pair.document_ids[-1]
        if reason := _leak(pair, held_out, near):
            rejected.append(_aside(place, *reason))
        elif pair.id in disputed:
            rejected.append(_aside(place, "disputed", "another line prefers the other answer"))
        elif pair.id in pairs:
            rejected.append(_aside(place, "duplicate", "the same pair stands before it"))
        else:
            pairs[pair.id] = pair
    return list(pairs.values()), rejected


def _leak(pair: PreferencePair, held_out: HeldOut, near: NearGroups) -> tuple[str, str] | None:
    asked = asked_of(pair.prompt)
    assert asked is not None
    question, passages = asked
    documents = pair.document_ids[:-1]
    if passages and not documents:
        return "unknown_document", "it does not say which documents its passages come from"
    for document in documents:
        side = held_out.sides.get(document)
        if side is None:
            return "unknown_document", f"{document} is no document of this run: nothing says that it is not held out"
        if side != "train":
            return "held_out_document", f"{document} is on the {side} side"
    if any(passage in held_out.passages for passage in passages):  # whatever the line says of its documents
        return "held_out_document", "a passage is one of a held-out document"
    if near.like(question):
        return "held_out_question", "a held-out example asks nearly the same"
    return None


def _disputed(read: Sequence[PreferencePair]) -> Collection[str]:
    """Pairs whose two answers were preferred either way."""
    chosen: dict[tuple[str, frozenset[str]], set[str]] = defaultdict(set)
    ids: dict[tuple[str, frozenset[str]], set[str]] = defaultdict(set)
    for pair in read:
        key = (
            canonical_json([m.model_dump(mode="json") for m in pair.prompt]),
            frozenset((pair.chosen, pair.rejected)),
        )
        chosen[key].add(pair.chosen)
        ids[key].add(pair.id)
    return {i for key, found in ids.items() if len(chosen[key]) > 1 for i in found}
