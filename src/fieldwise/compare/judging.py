"""What a judge is shown of the predictions of a run: questions, answers, the known answer, and the passages that tell.

An answer is judged over the passages it was read from and those that hold the known answer. One that was given without
passages is judged over those that other systems found for the question, so that every system meets the same sources.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.compare.comparison import Comparison, Predictions, open_predictions, systems_of
from fieldwise.files import read_jsonl
from fieldwise.judge.pairwise import Contest
from fieldwise.judge.rubric import Case
from fieldwise.records import NOT_STATED, Chunk
from fieldwise.retrieve.index import passage_text
from fieldwise.run import RunFolder
from fieldwise.tables import read_records

_MOST_HOLDING = 2
CHUNKS = "2_chunks/chunks.parquet"


class Known(NamedTuple):
    """What is known of a question: its answer (NOT_STATED where declining is right) and its document, if told."""

    reference: str | None
    document: str | None


class Sources:
    """Known answers and passages of the questions of a run."""

    def __init__(self, run: RunFolder, systems: Sequence[Predictions]) -> None:
        self.known: dict[str, Known] = {}
        for system in systems:
            for row in read_jsonl(system.path):
                self.known.setdefault(str(row["id"]), _known(row))
        self._read: dict[str, dict[str, Chunk]] = {}
        for system in (*systems, *_others(run, systems)):
            for identifier, entry in system.entries.items():
                found = self._read.setdefault(identifier, {})
                found.update({p.chunk.id: p.chunk for p in entry.answer.passages if p.chunk.id not in found})
        wanted = {k.document for k in self.known.values() if k.document is not None}
        self._chunks = _chunks(run, wanted)

    def cluster(self, identifier: str) -> str:
        """The document of a question, or the question itself."""
        return self.known[identifier].document or identifier

    def shown(self, identifier: str, *own: Sequence[Chunk]) -> tuple[str, ...]:
        """Return the passages a judge sees: those that were read, then those that hold the known answer."""
        read = {c.id: c for chunks in own for c in chunks} or self._read.get(identifier, {})
        known = self.known[identifier]
        holding = [
            c
            for c in self._chunks.get(known.document or "", ())
            if known.reference is not None and _plain(known.reference) in _plain(c.text)
        ]
        return tuple(passage_text(c) for c in {**read, **{c.id: c for c in holding[:_MOST_HOLDING]}}.values())


def _known(row: dict[str, JsonValue]) -> Known:
    document = row.get("document")
    if "expected" not in row:
        reference = None
    else:
        reference = NOT_STATED if row["expected"] is None else str(row["expected"])
    return Known(reference, str(document) if document else None)


def _others(run: RunFolder, systems: Sequence[Predictions]) -> list[Predictions]:
    named = {s.path for s in systems}
    return [p for p in open_predictions(run, systems_of(run)) if p.path not in named]


def _chunks(run: RunFolder, uris: set[str]) -> dict[str, list[Chunk]]:
    path = run.path / CHUNKS
    found: dict[str, list[Chunk]] = {}
    for chunk in read_records(path, Chunk) if uris and path.exists() else ():
        if chunk.uri in uris:
            found.setdefault(chunk.uri, []).append(chunk)
    return found


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


# ---------------------------------------------------------------- what is judged


class Answered(NamedTuple):
    """One answer of one system, as a case, with its document and the model that gave it."""

    system: str
    case: Case
    cluster: str
    model: str


class Faced(NamedTuple):
    """Two answers to one question, as a contest; `words` and `models` of the first and the second."""

    contest: Contest
    cluster: str
    item: str
    words: tuple[int, int]
    models: tuple[str, str]


def drawn(ids: Sequence[str], limit: int | None, seed: int) -> list[str]:
    """Return at most so many ids, drawn at random, in their own order."""
    if limit is None or limit >= len(ids):
        return list(ids)
    chosen = set(random.Random(f"{seed}/judge").sample(sorted(ids), limit))
    return [i for i in ids if i in chosen]


def cases(run: RunFolder, systems: Sequence[Predictions], limit: int | None, seed: int) -> list[Answered]:
    """Return every answer of the systems as a case; with a limit the same questions of each."""
    sources = Sources(run, systems)
    ids = list(dict.fromkeys(i for s in systems for i in s.entries))
    made = []
    for identifier in drawn(ids, limit, seed):
        for system in systems:
            if (entry := system.entries.get(identifier)) is None:
                continue
            shown = sources.shown(identifier, [p.chunk for p in entry.answer.passages])
            case = Case(
                f"{system.system}/{identifier}",
                entry.question,
                entry.answer.text,
                shown,
                sources.known[identifier].reference,
            )
            made.append(Answered(system.system, case, sources.cluster(identifier), entry.answer.model))
    return made


def contests(run: RunFolder, comparison: Comparison, limit: int | None, seed: int) -> list[Faced]:
    """Return every question two systems answered differently as a contest."""
    ((first, second),) = comparison.pairs
    one, other = comparison.systems[first].entries, comparison.systems[second].entries
    sources = Sources(run, [comparison.systems[first], comparison.systems[second]])
    items = {i.question_id: i.id for i in comparison.items}
    made = []
    for identifier in drawn(list(items), limit, seed):
        pair = one[identifier].answer, other[identifier].answer
        shown = sources.shown(identifier, *([p.chunk for p in a.passages] for a in pair))
        contest = Contest(
            identifier,
            one[identifier].question,
            pair[0].text,
            pair[1].text,
            shown,
            sources.known[identifier].reference,
        )
        words = (len(pair[0].answer.split()), len(pair[1].answer.split()))
        made.append(
            Faced(contest, sources.cluster(identifier), items[identifier], words, (pair[0].model, pair[1].model))
        )
    return made
